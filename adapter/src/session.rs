//! The session: which queues a client has, what it brings back when it returns, and what it leaves
//! when it goes.
//!
//! A session *uses* queues, one for each QoS ([`queue_name`]) and one for each shared subscription;
//! their bindings are its subscriptions, with the client's own filter as binding key, so that the
//! core alone brings a session back.

mod further;
mod groups;
mod left;
mod queues;
mod subscription;

use std::sync::{Arc, LazyLock};

use leveret_core::claims::Previous;
use leveret_core::key::Form;
use leveret_core::link::BindQueue;
use leveret_core::queue::{IdPlace, Queue};
use leveret_core::refusal::Refusal;
use leveret_core::seam::Core;
use leveret_core::shelf::{Orphan, Place};
use leveret_core::turn::Turn;

use crate::flow::{Received, Subscription};
use crate::outlet::{Identity, Outlet};
use crate::packet::QoS;

pub(crate) use further::{claim, join};
pub(crate) use groups::{Membership, leave_group, shared_queue_name};
pub(crate) use left::{Left, hand_over, leave};
pub(crate) use queues::{Target, attach};
pub(crate) use subscription::{arguments, member_arguments, restore};

use groups::{leave_groups, take_over};
use left::settle_will;
use queues::consume;

/// The consumer that serves QoS 0 subscriptions.
pub(crate) const SLOT_QOS0: usize = 0;
/// The consumer that serves QoS 1 subscriptions.
pub(crate) const SLOT_QOS1: usize = 1;

/// The tag of every consumer here, as listings show it.
static TAG: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("mqtt"));

/// The name of a client's queue for subscriptions of this QoS.
pub(crate) fn queue_name(client_id: &str, qos: QoS) -> String {
    let [qos0, qos1] = SUFFIXES;
    let suffix = if qos == QoS::AtMostOnce { qos0 } else { qos1 };
    [PREFIX, client_id, suffix].concat()
}

/// The names of both queues that a client may have.
pub(crate) fn queue_names(client_id: &str) -> [String; 2] {
    [QoS::AtMostOnce, QoS::AtLeastOnce].map(|qos| queue_name(client_id, qos))
}

const PREFIX: &str = "mqtt-subscription-";
const SUFFIXES: [&str; 2] = ["qos0", "qos1"];

/// Where in [`queue_name`] the client id stands.
const ID_PLACE: IdPlace = IdPlace {
    before: PREFIX.len() as u8,
    behind: SUFFIXES[0].len() as u8,
};

const _: () = assert!(SUFFIXES[0].len() == SUFFIXES[1].len());

/// What CONNECT asked for.
pub(crate) struct Wish<'a> {
    /// [`queue_names`] of the client.
    pub(crate) queues: &'a [String; 2],
    pub(crate) clean_start: bool,
    /// `None`: the session never expires; 0: it ends with the connection.
    pub(crate) expiry_ms: Option<u64>,
}

/// Starts or resumes the session after the client id was claimed. Says whether there was one.
// [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.3-2], [MQTT-3.1.4-4], [MQTT-3.2.2-2]
pub(crate) fn start<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    wish: &Wish<'_>,
    previous: &Previous,
    turn: &mut Turn,
) -> Result<bool, Refusal> {
    let core = &identity.core;
    let left = previous
        .rest
        .as_ref()
        .and_then(|rest| rest.as_any().downcast_ref::<Left<C>>());
    if let Some(left) = left {
        settle_will(left, wish, previous.evicted, outlet, identity, turn);
    }
    settle_scheduled(core, wish, turn);
    let mut recalled = core.recall_received();
    if wish.clean_start {
        release_all(core, &recalled);
        discard(left, wish.queues, outlet, identity)?;
        return Ok(false);
    }
    let left = left.filter(|left| !left.ended);
    // Without the queues it had, a session is not what the client believes ([MQTT-3.2.2-3]).
    let mut present = left.is_some_and(|left| left.queues == 0);
    if recalled.has_queues
        && wish
            .queues
            .iter()
            .all(|name| core.find_queue(name).is_none())
    {
        // Its queues have expired, and it with them.
        release_all(core, &recalled);
        recalled.ids.clear();
    }
    present |= !recalled.ids.is_empty();
    if let Some(flow) = outlet.lock().own_flow() {
        let received = |place| Received {
            journaled: 0,
            place: Some(place),
        };
        let ids = recalled.ids.into_iter();
        flow.received = ids.map(|(id, place)| (id, received(place))).collect();
        // Before anything that can fail: who fails leaves it to the next.
        if let Some(left) = left {
            left.give(flow);
        }
    }
    for (name, qos) in wish.queues.iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
        let Some(queue) = core.find_queue(name) else {
            continue;
        };
        present = true;
        // Whoever may not consume it may not shorten its life either.
        resume_queue(outlet, identity, &queue, qos, turn)?;
        if wish.expiry_ms != Some(0) {
            // One that ends with its connection is deleted then.
            core.set_expires(&queue, wish.expiry_ms)?;
        }
    }
    if let Some(left) = left {
        take_over(left, outlet, identity, turn)?;
    }
    Ok(present)
}

/// What becomes of a will of the time before a restart: see [`settle_will`].
fn settle_scheduled<C: Core>(core: &Arc<C>, wish: &Wish<'_>, turn: &mut Turn) {
    let Some(scheduled) = core.recall_scheduled() else {
        return;
    };
    if wish.clean_start {
        scheduled.publish(turn);
    } else {
        scheduled.cancel();
    }
}

/// What a restart found of a session that is over.
fn release_all<C: Core>(core: &Arc<C>, orphan: &Orphan) {
    let places: Vec<Place> = orphan.ids.iter().map(|(_, place)| *place).collect();
    core.release_received(&places);
}

/// The client wants nothing of the session that it had ([MQTT-3.1.2-4]).
fn discard<C: Core>(
    left: Option<&Left<C>>,
    queues: &[String],
    outlet: &Outlet<C>,
    identity: &Identity<C>,
) -> Result<(), Refusal> {
    left.iter().for_each(|left| left.release());
    for name in queues {
        if identity.core.find_queue(name).is_some() {
            identity.core.delete(name)?;
        }
    }
    leave_groups(
        &Membership::of(identity, outlet.exchange()),
        left.map(Left::shared).unwrap_or_default(),
    );
    Ok(())
}

/// Consumes a session's queue again and brings its bindings back as subscriptions.
fn resume_queue<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    queue: &Arc<Queue>,
    qos: QoS,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    let key = if qos == QoS::AtMostOnce {
        SLOT_QOS0
    } else {
        SLOT_QOS1
    };
    consume(outlet, identity, queue.name(), key, qos, turn)?;
    // Another user's until now, or one of before sessions had owners.
    identity.core.set_session(queue, ID_PLACE);
    let bindings = identity.core.bindings(queue);
    turn.count_rebound(bindings.len());
    for binding in bindings {
        let from = binding.source.upgrade();
        let ours = binding.form == Form::Slashed
            && from.is_some_and(|held| held.name() == outlet.exchange());
        if ours && let Some(held) = restore(&binding, qos, key as u32) {
            if qos != QoS::AtMostOnce {
                unbind_former(outlet, identity, &held);
            }
            add(outlet, held);
        }
    }
    Ok(())
}

/// A crash came between two records of a subscription whose QoS was changed: it has a binding of
/// each of the session's queues. The one of QoS 0 goes.
fn unbind_former<C: Core>(outlet: &Outlet<C>, identity: &Identity<C>, held: &Subscription) {
    let twice = {
        let out = outlet.lock();
        let flow = out.flow.as_ref();
        flow.is_some_and(|flow| flow.subscriptions.find(&held.text).is_some())
    };
    let name = queue_name(identity.session(), QoS::AtMostOnce);
    let Some(queue) = identity.core.find_queue(&name).filter(|_| twice) else {
        return;
    };
    for binding in identity.core.bindings(&queue) {
        let same = binding.form == Form::Slashed && *binding.key == *held.filter().as_bytes();
        if !same {
            continue;
        }
        let former = BindQueue {
            queue: &name,
            exchange: outlet.exchange(),
            key: held.filter().as_bytes(),
            form: Form::Slashed,
            arguments: binding.arguments,
        };
        if let Err(refusal) = identity.core.unbind(&former) {
            let client_id = &*identity.client_id;
            tracing::warn!(client_id, %refusal, "a former binding stays");
        }
    }
}

/// Remembers a subscription, in place of one with the same text.
pub(crate) fn add<C: Core>(outlet: &Outlet<C>, new: Subscription) {
    let mut out = outlet.lock();
    if let Some(flow) = out.own_flow() {
        flow.subscribe(new);
    }
}
