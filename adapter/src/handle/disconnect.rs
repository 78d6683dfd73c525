//! DISCONNECT from the client. MQTT 5.0 §3.14.

use leveret_core::seam::Core;

use super::{Context, Next};
use crate::connection::granted_expiry;
use crate::packet::disconnect::Disconnect;
use crate::reason_code::ReasonCode;
use crate::violation::Violation;

/// The client goes. It may change how long its session stays, and ask for its will.
pub(crate) fn handle<C: Core>(
    context: &mut Context<'_, C>,
    disconnect: &Disconnect<'_>,
) -> Result<Next, Violation> {
    if let Some(asked_s) = disconnect.session_expiry_interval {
        // §3.14.2.2.2: a session that was to end with its connection cannot be kept now.
        if context.active.expiry_ms == Some(0) && asked_s != 0 {
            return Err(Violation::SessionExpiryIntervalRaised);
        }
        let expiry_ms = granted_expiry(asked_s, context.options.session_expiry_max_ms);
        if expiry_ms != context.active.expiry_ms {
            context.active.expiry_ms = expiry_ms;
            if expiry_ms != Some(0) {
                set_expiry(context, expiry_ms);
            }
        }
    }
    // [MQTT-3.14.4-3]
    let with_will = disconnect.reason != ReasonCode::Success;
    if !with_will {
        // Nobody who takes the session over now may find it either.
        context.outlet.lock().will = None;
    }
    Ok(Next::Disconnected { with_will })
}

fn set_expiry<C: Core>(context: &Context<'_, C>, expiry_ms: Option<u64>) {
    let queues: Vec<_> = {
        let out = context.outlet.lock();
        let slots = out
            .flow
            .as_ref()
            .map(|flow| &flow.slots[..])
            .unwrap_or_default();
        slots
            .iter()
            .filter(|slot| !slot.shared)
            .filter_map(|slot| slot.queue.clone())
            .collect()
    };
    for queue in queues {
        if let Err(refusal) = context.identity.core.set_expires(&queue, expiry_ms) {
            tracing::warn!(%refusal, queue = queue.name(), "session expiry not changed");
        }
    }
}
