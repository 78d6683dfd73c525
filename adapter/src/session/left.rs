//! What an absent client's session leaves beside its queues: packet identifiers, memberships, the
//! will.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::claims::Leftover;
use leveret_core::message::Message;
use leveret_core::queue::{Queue, Settle, Unacked};
use leveret_core::schedule::Scheduled;
use leveret_core::seam::Core;
use leveret_core::shelf::Place;
use leveret_core::turn::Turn;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::groups::{Membership, is_shared_queue, leave_group, leave_groups};
use super::{SLOT_QOS1, Wish};
use crate::flow::{Exact, Flow, InFlight, Received, Source, Subscription};
use crate::outlet::{Identity, Outlet, Parting};
use crate::replay::Replays;
use crate::will::Will;

/// What an absent client's session leaves beside its queues.
pub(crate) struct Left<C: Core> {
    /// The session ended with its connection: only the will and the memberships are left.
    pub(super) ended: bool,
    /// How many queues of its own the session had, or should have had: 2 at most.
    pub(super) queues: u8,
    flights: Option<Box<Flights<C>>>,
    groups: Option<Box<Groups<C>>>,
    testament: Mutex<Testament<C>>,
    user: Box<str>,
}

/// Packet ids that a session brings back, and what no queue can give it again.
struct Flights<C> {
    core: Arc<C>,
    received: HashMap<u16, Received>,
    resumed: HashMap<(u64, u64), NonZeroU16>,
    /// Retained messages that are to be sent.
    replays: Option<Box<Replays>>,
    exact: Option<Box<Exact>>,
    again: VecDeque<InFlight>,
}

/// The shared subscriptions of an absent session, and who is their member.
struct Groups<C> {
    member: Membership<C>,
    subscriptions: Vec<Subscription>,
}

/// What becomes of the will.
struct Testament<C> {
    will: Option<Box<Will>>,
    /// Whose it is, where there is one: it is published with that one's rights.
    core: Option<Arc<C>>,
    scheduled: Option<Arc<Scheduled>>,
}

impl<C: Core> Flights<C> {
    fn is_empty(&self) -> bool {
        let ids = self.received.is_empty() && self.resumed.is_empty() && self.exact.is_none();
        ids && self.again.is_empty() && self.replays.is_none()
    }

    /// The session ends for good: its packet ids may be used again. What was on its way from a
    /// group's queue goes to nobody else ([MQTT-4.8.2-5]).
    fn release(&self, turn: &mut Turn) {
        let received = self.received.values();
        let received = received.filter_map(|received| received.place);
        let sent = self.exact.iter().flat_map(|exact| exact.places());
        let places: Vec<Place> = received.chain(sent).collect();
        self.core.release_received(&places);
        for held in &self.again {
            if let Source::Queue(Unacked {
                queue,
                seq,
                message,
            }) = &held.source
                && is_shared_queue(queue.name())
            {
                let entry = std::iter::once((*seq, message.clone()));
                self.core.settle(turn, queue, entry, Settle::Reject);
            }
        }
    }
}

impl<C: Core> Left<C> {
    /// Whether the queues alone bring the session back: nothing else needs to be kept for it.
    pub(crate) fn is_in_queues(&self) -> bool {
        let Testament {
            will, scheduled, ..
        } = &*self.testament.lock();
        let alone = self.flights.is_none() && self.groups.is_none();
        !self.ended && self.queues > 0 && alone && will.is_none() && scheduled.is_none()
    }

    /// The will, for the connection that has just ended to publish or schedule.
    pub(crate) fn take_will(&self) -> Option<Box<Will>> {
        self.testament.lock().will.take()
    }

    /// The will is scheduled: the next connection may cancel it.
    pub(crate) fn set_scheduled(&self, will: Box<Will>, scheduled: Arc<Scheduled>) {
        let mut testament = self.testament.lock();
        testament.will = Some(will);
        testament.scheduled = Some(scheduled);
    }
}

/// What becomes of the will of the connection before ([MQTT-3.1.3-9], [MQTT-3.1.4-3]).
pub(super) fn settle_will<C: Core>(
    left: &Left<C>,
    wish: &Wish<'_>,
    evicted: bool,
    outlet: &Outlet<C>,
    identity: &Identity<C>,
    turn: &mut Turn,
) {
    let (scheduled, core) = {
        let mut testament = left.testament.lock();
        (testament.scheduled.take(), testament.core.take())
    };
    let pending = match &scheduled {
        Some(scheduled) => scheduled.cancel(),
        None => evicted,
    };
    let Some(will) = left.take_will().filter(|_| pending) else {
        return;
    };
    // Returning to the session calls a delayed will off; ending the session sends it at once.
    if wish.clean_start || will.delay_ms == 0 {
        let core = core.as_ref().unwrap_or(&identity.core);
        will.publish(&**core, turn, outlet.exchange());
    }
}

/// The session's part in the vhost ends: consumers stop, what is in flight goes back to its queues,
/// and what belongs to the connection alone goes. Runs on the connection's own thread, or on that
/// of its successor.
// [MQTT-4.1.0-1], [MQTT-4.1.0-2]
pub(crate) fn leave<C: Core>(
    identity: &Identity<C>,
    exchange: &str,
    ends: bool,
    turn: &mut Turn,
    parting: Parting,
) -> Left<C> {
    let mut left = Left {
        ended: ends,
        queues: 0,
        flights: None,
        groups: None,
        testament: Mutex::new(Testament {
            core: parting.will.is_some().then(|| Arc::clone(&identity.core)),
            will: parting.will,
            scheduled: None,
        }),
        // Nobody is asked whose a session is that has ended.
        user: match ends {
            true => Box::default(),
            false => identity.core.user().into(),
        },
    };
    let Some(flow) = parting.flow else {
        return left;
    };
    let mut flow = *flow;
    let own = stop(identity, ends, turn, &mut flow);
    // One that was deleted under the session counts: without it the session is not what it was.
    let lost = flow.slots.iter().filter(|slot| slot.lost).count();
    left.queues = (own.len() + lost) as u8;
    let resumed = give_back(identity, turn, &mut flow, &own);
    let flights = Flights {
        core: Arc::clone(&identity.core),
        resumed,
        exact: flow.leave_exact(),
        again: std::mem::take(&mut flow.again),
        replays: (flow.replays.take().and_then(Replays::leave)).filter(|_| !ends),
        received: flow.received,
    };
    left.flights = (!flights.is_empty()).then(|| Box::new(flights));
    let shared = flow.subscriptions.into_shared();
    if !shared.is_empty() {
        left.groups = Some(Box::new(Groups {
            member: Membership::of(identity, exchange),
            subscriptions: shared,
        }));
    }
    left
}

/// Cancels the consumers, and drops the session's queues if it ends; returns the numbers of those.
fn stop<C: Core>(
    identity: &Identity<C>,
    ends: bool,
    turn: &mut Turn,
    flow: &mut Flow,
) -> SmallVec<[u64; 2]> {
    let core = &identity.core;
    let mut own = SmallVec::new();
    for (key, slot) in flow.slots.iter_mut().enumerate() {
        if let Some(queue) = slot.queue.take() {
            core.cancel(turn, &queue, key as u64);
            if key <= SLOT_QOS1 {
                own.push(queue.id());
                if ends {
                    core.drop_queue(&queue);
                }
            }
        }
    }
    own
}

/// Gives what is in flight back to its queues, but for what stays with the session; returns the
/// packet ids that it had.
fn give_back<C: Core>(
    identity: &Identity<C>,
    turn: &mut Turn,
    flow: &mut Flow,
    own: &[u64],
) -> HashMap<(u64, u64), NonZeroU16> {
    let mut resumed = std::mem::take(&mut flow.resumed);
    let mut back: Vec<(Arc<Queue>, Vec<(u64, Message)>)> = Vec::new();
    let mut again = VecDeque::new();
    for held in std::mem::take(&mut flow.inflight) {
        // What a further connection has of the session's own queues is the others' now.
        let others = |unacked: &Unacked| {
            identity.further.get().is_some() && own.contains(&unacked.queue.id())
        };
        let is_others = matches!(&held.source, Source::Queue(unacked) if others(unacked));
        if !is_others && flow.stays(&held) {
            again.push_back(held);
            continue;
        }
        let Source::Queue(unacked) = held.source else {
            continue;
        };
        if own.contains(&unacked.queue.id()) {
            // What a group's queue takes back may go to another member.
            resumed.insert((unacked.queue.id(), unacked.seq), held.packet_id);
        }
        let entry = (unacked.seq, unacked.message);
        match back
            .iter_mut()
            .find(|(queue, _)| Arc::ptr_eq(queue, &unacked.queue))
        {
            Some((_, entries)) => entries.push(entry),
            None => back.push((unacked.queue, vec![entry])),
        }
    }
    // Those that wait to be sent again were in flight before all that came since.
    again.append(&mut flow.again);
    flow.again = again;
    for (queue, entries) in back {
        identity
            .core
            .settle(turn, &queue, entries.into_iter(), Settle::Requeue);
    }
    resumed
}

/// The session ends, or goes to the client's next connection, which gets what is left of it.
pub(crate) fn hand_over<C: Core>(
    identity: &Identity<C>,
    exchange: &str,
    turn: &mut Turn,
    parting: Parting,
) -> Option<Box<dyn Leftover>> {
    let left = leave(identity, exchange, identity.clean(), turn, parting);
    if !identity.clean() {
        return Some(Box::new(left));
    }
    left.release(turn);
    left.leave_groups();
    if let Some(will) = left.take_will() {
        // The session ended with its connection, and so did the will's delay.
        will.publish(&*identity.core, turn, exchange);
    }
    None
}

impl<C: Core> Left<C> {
    /// The shared subscriptions of the session.
    pub(crate) fn shared(&self) -> &[Subscription] {
        let groups = self.groups.as_ref();
        groups.map_or(&[], |groups| &groups.subscriptions)
    }

    /// Gives a flow what the session has beside its queues: packet ids, and shared subscriptions
    /// that nobody consumes for yet.
    pub(super) fn give(&self, flow: &mut Flow) {
        if let Some(flights) = &self.flights {
            flow.received.extend(&flights.received);
            flow.resumed.clone_from(&flights.resumed);
            flow.replays.clone_from(&flights.replays);
            flow.exact.clone_from(&flights.exact);
            flow.again.clone_from(&flights.again);
        }
        for held in self.shared() {
            flow.subscribe(Subscription {
                slot: u32::MAX,
                ..held.clone()
            });
        }
    }

    /// The session ends for good: its packet ids may be used again.
    pub(crate) fn release(&self, turn: &mut Turn) {
        if let Some(flights) = &self.flights {
            flights.release(turn);
        }
    }

    /// The session ends for good, and with it its memberships.
    pub(crate) fn leave_groups(&self) {
        if let Some(groups) = &self.groups {
            leave_groups(&groups.member, &groups.subscriptions);
        }
    }
}

impl<C: Core> Leftover for Left<C> {
    fn forgotten(&self, turn: &mut Turn) {
        self.release(turn);
        self.leave_groups();
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn reauthorise(&self) {
        let Some(groups) = &self.groups else { return };
        for held in &groups.subscriptions {
            if !groups.member.may_read(held) {
                let (user, filter) = (&*self.user, &*held.text);
                tracing::info!(user, filter, "group left");
                leave_group(&groups.member, held);
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
