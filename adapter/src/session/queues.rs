//! The queues that subscriptions are: declared, bound and consumed.

use std::sync::Arc;

use leveret_core::link::{DeclareQueue, Link};
use leveret_core::queue::{Consumer, QueueProperties};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::Core;
use leveret_core::sink::Sink;
use leveret_core::turn::Turn;

use super::{ID_PLACE, SLOT_QOS0, SLOT_QOS1, TAG};
use crate::flow::Slot;
use crate::outlet::{Identity, Outlet};
use crate::packet::QoS;

/// The queue of a subscription.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) qos: QoS,
    /// It is a group's, not the session's own.
    pub(crate) shared: bool,
    /// The slot that consumes it, if one does.
    slot: Option<u32>,
}

impl<'a> Target<'a> {
    /// The session's own queue for this QoS.
    pub(crate) fn own(name: &'a str, qos: QoS) -> Self {
        let slot = match qos {
            QoS::AtMostOnce => SLOT_QOS0,
            QoS::AtLeastOnce | QoS::ExactlyOnce => SLOT_QOS1,
        };
        Self {
            name,
            qos,
            shared: false,
            slot: Some(slot as u32),
        }
    }

    /// A group's queue; `slot` is that of the session's subscription to it.
    pub(crate) fn group(name: &'a str, qos: QoS, slot: Option<u32>) -> Self {
        Self {
            name,
            qos,
            shared: true,
            slot,
        }
    }

    /// Its slot, and whether that consumes it already.
    fn find(&self, slots: &[Slot]) -> (usize, bool) {
        let consumes = |key: usize| {
            let queue = slots.get(key).and_then(|slot| slot.queue.as_ref());
            queue.is_some_and(|queue| queue.name() == self.name)
        };
        match self.slot.map(|slot| slot as usize) {
            Some(key) if consumes(key) => (key, true),
            Some(key) if !self.shared => (key, false),
            _ => {
                let mut others = slots.iter().skip(SLOT_QOS1 + 1);
                let free = others.position(|slot| slot.queue.is_none());
                let key = free.unwrap_or(slots.len().saturating_sub(SLOT_QOS1 + 1));
                (SLOT_QOS1 + 1 + key, false)
            }
        }
    }
}

/// Makes sure that the queue of a subscription is there and consumed. `expiry_ms` as in [`Wish`],
/// `None` for a shared queue that is there already; `bind` ties it to its filter. Returns the slot.
pub(crate) fn attach<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    target: Target<'_>,
    expiry_ms: Option<Option<u64>>,
    bind: impl FnOnce() -> Result<(), Refusal>,
    turn: &mut Turn,
) -> Result<u32, Refusal> {
    let Target {
        name, qos, shared, ..
    } = target;
    let (key, consumed) = {
        let out = outlet.lock();
        let flow = out.flow.as_ref();
        target.find(flow.map(|flow| &flow.slots[..]).unwrap_or_default())
    };
    if consumed {
        return bind().map(|()| key as u32);
    }
    let mut made = None;
    if let Some(expiry_ms) = expiry_ms {
        let properties = properties(identity.clean(), shared, qos, expiry_ms);
        let journaled = properties.journaled;
        let wish = DeclareQueue {
            name,
            passive: false,
            exclusive: false,
            properties,
            session: (!shared).then_some(ID_PLACE),
        };
        let declared = identity.core.declare(turn, &wish)?;
        if shared && journaled {
            // The group outlives its connections from the first persistent member on.
            identity.core.set_journaled(&declared.queue);
        }
        made = declared.created.then_some(declared.queue);
    }
    // Nothing is consumed, and nothing new stays, unless the binding is allowed.
    if let Err(refusal) = bind() {
        if let Some(queue) = made {
            identity.core.drop_unbound(&queue);
        }
        return Err(refusal);
    }
    consume(outlet, identity, name, key, qos, turn)?;
    Ok(key as u32)
}

/// FEATURES M6: the properties of a session's queue.
fn properties(clean: bool, shared: bool, qos: QoS, expiry_ms: Option<u64>) -> QueueProperties {
    let direct = !shared && qos == QoS::AtMostOnce;
    QueueProperties {
        durable: !(direct && clean),
        auto_delete: clean && !shared,
        exclusive: None,
        direct,
        journaled: !clean,
        arguments: if clean || shared {
            leveret_core::field::Table::new()
        } else {
            Link::expires_argument(expiry_ms)
        },
    }
}

/// Starts the consumer of a slot; it gets nothing before it is pulled.
pub(super) fn consume<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    name: &str,
    key: usize,
    qos: QoS,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    let sink: Arc<dyn Sink> = Arc::clone(outlet) as Arc<dyn Sink>;
    let mut consumer = Consumer::new(key as u64, outlet.connection, Arc::clone(&TAG), sink);
    consumer.no_ack = key == SLOT_QOS0;
    let window = {
        let mut out = outlet.lock();
        let flow = out.own_flow().ok_or_else(taken_over)?;
        while flow.slots.len() <= key {
            flow.slots.push(Slot {
                queue: None,
                qos: QoS::AtMostOnce,
                starved: false,
                fresh: false,
                shared: false,
                lost: false,
            });
        }
        flow.slots[key].qos = qos;
        flow.slots[key].shared = key > SLOT_QOS1;
        flow.terms.window
    };
    consumer.prefetch = u32::from(window);
    let queue = identity.core.consume(turn, name, consumer)?;
    let mut out = outlet.lock();
    if let Some(slot) = out.own_flow().and_then(|flow| flow.slots.get_mut(key)) {
        slot.queue = Some(queue);
        slot.fresh = true;
        return Ok(());
    }
    drop(out);
    // The successor has come in between, and does not know of this consumer.
    identity.core.cancel(turn, &queue, key as u64);
    Err(taken_over())
}

fn taken_over() -> Refusal {
    Refusal::new(
        ReplyCode::ResourceLocked,
        "a newer connection has the client id",
    )
}
