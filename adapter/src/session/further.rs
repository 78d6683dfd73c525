//! Several connections of one client, where the operator allows them (FEATURES M19).
//!
//! The first connection has the session. Each further one claims the client id with `~` and a
//! number behind it, and gets what the operator wants: *fanout*, a copy of the session's
//! subscriptions on queues of its own, which go with it; or *balance*, a part of what comes to the
//! session's queues. Nobody is evicted, and what ends with a further connection is its alone.

use std::sync::Arc;

use leveret_core::claims::{Manner, Owner, Previous, Wanted};
use leveret_core::exchange::Binding;
use leveret_core::key::Form;
use leveret_core::link::BindQueue;
use leveret_core::queue::Queue;
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use super::queues::{Target, attach};
use super::{SLOT_QOS0, SLOT_QOS1, add, queue_name, queue_names, restore, resume_queue};
use crate::limits::CONNECTIONS_PER_CLIENT_MAX;
use crate::options::DeliverMode;
use crate::outlet::{Further, Identity, Outlet};
use crate::packet::QoS;

/// Claims the client id, or an identifier beside it where that is in use and may be shared.
/// `None`: the connection is a further one.
pub(crate) fn claim<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    queues: &[String],
    turn: &mut Turn,
) -> Result<Option<Previous>, Refusal> {
    let options = &outlet.options;
    let owner = Arc::clone(outlet) as Arc<dyn Owner>;
    let mut wanted = Wanted {
        id: &identity.client_id,
        owner: &owner,
        queues,
        bound: options.client_ids_bound,
        manner: if options.multiple_sessions {
            Manner::Yield
        } else {
            Manner::Evict
        },
    };
    match identity.core.own(turn, &wanted) {
        Err(refusal) if is_taken(&refusal) => {}
        claimed => return claimed.map(Some),
    }
    wanted.manner = Manner::Fresh;
    for number in 2..=CONNECTIONS_PER_CLIENT_MAX {
        let id = format!("{}~{number}", identity.client_id);
        let beside = Wanted {
            id: &id,
            queues: &queue_names(&id),
            ..wanted
        };
        match identity.core.own(turn, &beside) {
            Err(refusal) if is_taken(&refusal) => {}
            Err(refusal) => return Err(refusal),
            Ok(_) => {
                // Set once: nobody else starts this session.
                let _ = identity.further.set(Box::new(Further {
                    claim: id.into(),
                    mode: options.deliver_mode,
                }));
                return Ok(None);
            }
        }
    }
    Err(Refusal::new(
        ReplyCode::ResourceError,
        "too many connections with one client id",
    ))
}

/// Somebody has it who is not to be disturbed.
fn is_taken(refusal: &Refusal) -> bool {
    refusal.code == ReplyCode::ResourceLocked
}

/// Takes part in the session of the client as a further connection; says whether it has any
/// subscriptions.
pub(crate) fn join<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    mode: DeliverMode,
    turn: &mut Turn,
) -> Result<bool, Refusal> {
    let mut joined = false;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = queue_name(&identity.client_id, qos);
        let Some(queue) = identity.core.find_queue(&name) else {
            continue;
        };
        joined = true;
        match mode {
            DeliverMode::Balance => resume_queue(outlet, identity, &queue, qos, turn)?,
            DeliverMode::Fanout => copy(outlet, identity, &queue, qos, turn)?,
        }
    }
    Ok(joined)
}

/// Binds a queue of the connection's own as a queue of the session is bound.
fn copy<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    queue: &Arc<Queue>,
    qos: QoS,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    let slot = if qos == QoS::AtMostOnce {
        SLOT_QOS0
    } else {
        SLOT_QOS1
    };
    let own = queue_name(identity.session(), qos);
    let bindings = identity.core.bindings(queue);
    turn.count_rebound(bindings.len());
    for binding in bindings {
        let from = binding.source.upgrade();
        let ours = binding.form == Form::Slashed
            && from.is_some_and(|held| held.name() == outlet.exchange());
        let Some(held) = restore(&binding, qos, slot as u32).filter(|_| ours) else {
            continue;
        };
        let Binding { key, arguments, .. } = binding;
        let wish = BindQueue {
            queue: &own,
            exchange: outlet.exchange(),
            key: &key,
            form: Form::Slashed,
            arguments,
        };
        let bind = || identity.core.bind(&wish).map(|_| ());
        let target = Target::own(&own, qos);
        attach(outlet, identity, target, Some(Some(0)), bind, turn)?;
        add(outlet, held);
    }
    Ok(())
}
