//! The session: which queues a client has, what it brings back when it returns, and what it leaves
//! when it goes.
//!
//! A session *uses* queues, one for each QoS ([`queue_name`]) and one for each shared subscription;
//! their bindings are its subscriptions, with the client's own filter as binding key, so that the
//! core alone brings a session back.

mod subscription;

use std::any::Any;
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};

use leveret_core::claims::{Leftover, Previous};
use leveret_core::key::Form;
use leveret_core::link::{BindQueue, DeclareQueue, Link};
use leveret_core::message::Message;
use leveret_core::queue::{Consumer, Queue, QueueProperties, Settle};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::schedule::Scheduled;
use leveret_core::seam::Core;
use leveret_core::shelf::{Orphan, Place};
use leveret_core::sink::Sink;
use leveret_core::turn::Turn;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::flow::{Flow, Received, Slot, Subscription};
use crate::outlet::{Identity, Outlet, Parting};
use crate::packet::QoS;
use crate::will::Will;

pub(crate) use subscription::{arguments, member_arguments, restore};

/// The consumer that serves QoS 0 subscriptions.
pub(crate) const SLOT_QOS0: usize = 0;
/// The consumer that serves QoS 1 subscriptions.
pub(crate) const SLOT_QOS1: usize = 1;

/// The tag of every consumer here, as listings show it.
static TAG: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("mqtt"));

/// The name of a client's queue for subscriptions of this QoS.
pub(crate) fn queue_name(client_id: &str, qos: QoS) -> String {
    let suffix = if qos == QoS::AtMostOnce {
        "qos0"
    } else {
        "qos1"
    };
    ["mqtt-subscription-", client_id, suffix].concat()
}

/// The name of a group's queue.
pub(crate) fn shared_queue_name(group: &str, filter: &str) -> String {
    ["mqtt-shared-", group, "/", filter].concat()
}

/// What an absent client's session leaves beside its queues.
pub(crate) struct Left<C: Core> {
    /// The session ended with its connection: only the will and the memberships are left.
    ended: bool,
    /// How many queues of its own the session had, or should have had: 2 at most.
    queues: u8,
    flights: Option<Box<Flights<C>>>,
    groups: Option<Box<Groups<C>>>,
    testament: Mutex<Testament>,
}

/// Packet ids that a session brings back.
struct Flights<C> {
    core: Arc<C>,
    received: HashMap<u16, Received>,
    resumed: HashMap<(u64, u64), NonZeroU16>,
}

/// The shared subscriptions of an absent session, and who is their member.
struct Groups<C> {
    member: Membership<C>,
    subscriptions: Vec<Subscription>,
}

/// What becomes of the will.
#[derive(Default)]
struct Testament {
    will: Option<Box<Will>>,
    scheduled: Option<Arc<Scheduled>>,
}

impl<C: Core> Left<C> {
    /// Whether the queues alone bring the session back: nothing else needs to be kept for it.
    pub(crate) fn is_in_queues(&self) -> bool {
        let Testament { will, scheduled } = &*self.testament.lock();
        let alone = self.flights.is_none() && self.groups.is_none();
        !self.ended && self.queues > 0 && alone && will.is_none() && scheduled.is_none()
    }

    /// The will, for the connection that has just ended to publish or schedule.
    pub(crate) fn take_will(&self) -> Option<Box<Will>> {
        self.testament.lock().will.take()
    }

    /// The will is scheduled: the next connection may cancel it.
    pub(crate) fn set_scheduled(&self, will: Box<Will>, scheduled: Arc<Scheduled>) {
        *self.testament.lock() = Testament {
            will: Some(will),
            scheduled: Some(scheduled),
        };
    }
}

/// What CONNECT asked for.
pub(crate) struct Wish {
    pub(crate) clean_start: bool,
    /// `None`: the session never expires; 0: it ends with the connection.
    pub(crate) expiry_ms: Option<u64>,
}

/// Starts or resumes the session after the client id was claimed. Says whether there was one.
pub(crate) fn start<C: Core>(
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    wish: &Wish,
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
    if let Some(scheduled) = core.recall_scheduled() {
        // Of the time before a restart: see `settle_will`.
        if wish.clean_start {
            scheduled.publish(turn);
        } else {
            scheduled.cancel();
        }
    }
    let recalled = core.recall_received();
    if wish.clean_start {
        release_all(core, &recalled);
        discard(left, outlet, identity)?;
        return Ok(false);
    }
    let left = left.filter(|left| !left.ended);
    // Without the queues it had, a session is not what the client believes ([MQTT-3.2.2-3]).
    let mut present = left.is_some_and(|left| left.queues == 0);
    let own = [QoS::AtMostOnce, QoS::AtLeastOnce].map(|qos| queue_name(&identity.client_id, qos));
    let mut recalled = recalled;
    if recalled.has_queues && own.iter().all(|name| core.find_queue(name).is_none()) {
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
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = queue_name(&identity.client_id, qos);
        let Some(queue) = core.find_queue(&name) else {
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

/// What a restart found of a session that is over.
fn release_all<C: Core>(core: &Arc<C>, orphan: &Orphan) {
    let places: Vec<Place> = orphan.ids.iter().map(|(_, place)| *place).collect();
    core.release_received(&places);
}

/// The client wants nothing of the session that it had ([MQTT-3.1.2-4]).
fn discard<C: Core>(
    left: Option<&Left<C>>,
    outlet: &Outlet<C>,
    identity: &Identity<C>,
) -> Result<(), Refusal> {
    left.iter().for_each(|left| left.release());
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = queue_name(&identity.client_id, qos);
        if identity.core.find_queue(&name).is_some() {
            identity.core.delete(&name)?;
        }
    }
    leave_groups(
        &Membership::of(identity, outlet.exchange()),
        left.map(Left::shared).unwrap_or_default(),
    );
    Ok(())
}

/// Takes the session's place in its groups again.
fn take_over<C: Core>(
    left: &Left<C>,
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    for held in left.shared() {
        let Some(group) = held.share() else { continue };
        let name = shared_queue_name(group, held.filter());
        if identity.core.find_queue(&name).is_some() {
            let group = Target::group(&name, held.options.qos, None);
            let slot = attach(outlet, identity, group, None, || Ok(()), turn)?;
            let held = Subscription {
                slot,
                ..held.clone()
            };
            add(outlet, held);
        }
    }
    Ok(())
}

/// What becomes of the will of the connection before ([MQTT-3.1.3-9], [MQTT-3.1.4-3]).
fn settle_will<C: Core>(
    left: &Left<C>,
    wish: &Wish,
    evicted: bool,
    outlet: &Outlet<C>,
    identity: &Identity<C>,
    turn: &mut Turn,
) {
    let scheduled = left.testament.lock().scheduled.take();
    let pending = match &scheduled {
        Some(scheduled) => scheduled.cancel(),
        None => evicted,
    };
    let Some(will) = left.take_will().filter(|_| pending) else {
        return;
    };
    // Returning to the session calls a delayed will off; ending the session sends it at once.
    if wish.clean_start || will.delay_ms == 0 {
        will.publish(&*identity.core, turn, outlet.exchange());
    }
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
    let name = queue_name(&identity.client_id, QoS::AtMostOnce);
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

/// Starts the consumer of a slot; it gets nothing before it is pulled.
fn consume<C: Core>(
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
        let properties = properties(identity.clean, shared, qos, expiry_ms);
        let journaled = properties.journaled;
        let wish = DeclareQueue {
            name,
            passive: false,
            exclusive: false,
            properties,
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

/// The session's part in the vhost ends: consumers stop, what is in flight goes back to its queues,
/// and what belongs to the connection alone goes. Runs on the connection's own thread, or on that
/// of its successor.
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
            will: parting.will,
            scheduled: None,
        }),
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
    if !(flow.received.is_empty() && resumed.is_empty()) {
        left.flights = Some(Box::new(Flights {
            core: Arc::clone(&identity.core),
            received: flow.received,
            resumed,
        }));
    }
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

/// Gives what is in flight back to its queues; returns the packet ids that it had.
fn give_back<C: Core>(
    identity: &Identity<C>,
    turn: &mut Turn,
    flow: &mut Flow,
    own: &[u64],
) -> HashMap<(u64, u64), NonZeroU16> {
    let mut resumed = std::mem::take(&mut flow.resumed);
    let mut back: Vec<(Arc<Queue>, Vec<(u64, Message)>)> = Vec::new();
    for held in flow.inflight.drain(..) {
        let Some(unacked) = held.unacked else {
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
    let left = leave(identity, exchange, identity.clean, turn, parting);
    if !identity.clean {
        return Some(Box::new(left));
    }
    left.release();
    left.leave_groups();
    if let Some(will) = left.take_will() {
        // The session ended with its connection, and so did the will's delay.
        will.publish(&*identity.core, turn, exchange);
    }
    None
}

/// Who is a member of groups, without the connection.
#[derive(Clone)]
pub(crate) struct Membership<C> {
    core: Arc<C>,
    client_id: Arc<str>,
    exchange: Box<str>,
}

impl<C: Core> Membership<C> {
    pub(crate) fn of(identity: &Identity<C>, exchange: &str) -> Self {
        Self {
            core: Arc::clone(&identity.core),
            client_id: identity.client_id.clone(),
            exchange: exchange.into(),
        }
    }
}

/// A session that ends for good gives up its membership in groups; the last member takes the queue
/// along.
pub(crate) fn leave_groups<C: Core>(member: &Membership<C>, shared: &[Subscription]) {
    for held in shared {
        leave_group(member, held);
    }
}

/// Gives up one membership.
pub(crate) fn leave_group<C: Core>(member: &Membership<C>, held: &Subscription) {
    let Some(group) = held.share() else { return };
    let name = shared_queue_name(group, held.filter());
    let wish = BindQueue {
        queue: &name,
        exchange: &member.exchange,
        key: held.filter().as_bytes(),
        form: Form::Slashed,
        arguments: member_arguments(&member.client_id),
    };
    let Some(queue) = member.core.find_queue(&name) else {
        return;
    };
    member.core.unbind_own(&wish);
    member.core.drop_unbound(&queue);
}

impl<C: Core> Left<C> {
    /// The shared subscriptions of the session.
    pub(crate) fn shared(&self) -> &[Subscription] {
        let groups = self.groups.as_ref();
        groups.map_or(&[], |groups| &groups.subscriptions)
    }

    /// Gives a flow what the session has beside its queues: packet ids, and shared subscriptions
    /// that nobody consumes for yet.
    fn give(&self, flow: &mut Flow) {
        if let Some(flights) = &self.flights {
            flow.received.extend(&flights.received);
            flow.resumed.clone_from(&flights.resumed);
        }
        for held in self.shared() {
            flow.subscribe(Subscription {
                slot: u32::MAX,
                ..held.clone()
            });
        }
    }

    /// The session ends for good: its packet ids may be used again.
    pub(crate) fn release(&self) {
        if let Some(flights) = &self.flights {
            let received = flights.received.values();
            let places: Vec<Place> = received.filter_map(|received| received.place).collect();
            flights.core.release_received(&places);
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
    fn forgotten(&self, _turn: &mut Turn) {
        self.release();
        self.leave_groups();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
