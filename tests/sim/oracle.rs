//! The oracle: an exact model of what every queue holds, and of what every client was promised.
//!
//! Told in order what the machines have taken and what they have sent; never asks the broker what
//! it should have done. A *copy* is one message in one queue; its place is the number of the
//! transmission that brought it. Within a life of the broker the model is exact; what a crash may
//! or may not have left, [`recovery`] settles with what the next start finds.

mod protocol;
mod recovery;
mod sessions;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use leveret_core::queue::Queue;

use crate::message::{Id, matches};

pub(crate) use protocol::{Kind, Reply, Welcome, own_queue};
pub(crate) use recovery::Found;

/// What the broker did and must not.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    pub(crate) message: Option<Id>,
    pub(crate) queue: Option<u64>,
}

pub(crate) type Check = Result<(), Violation>;

pub(crate) fn violation<T>(
    what: impl Into<String>,
    message: Option<Id>,
    queue: Option<u64>,
) -> Result<T, Violation> {
    Err(Violation {
        what: what.into(),
        message,
        queue,
    })
}

/// What happened to messages, for the statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) settled: u64,
    pub(crate) recovered: u64,
    pub(crate) expired: u64,
    pub(crate) dropped: u64,
}

/// Where a message is published to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The topic exchange, under this dotted key.
    Topic(String),
    /// A queue by its name.
    Queue(String),
}

/// What is published.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) message: Id,
    pub(crate) target: Target,
    pub(crate) persistent: bool,
    /// Milliseconds that it is worth something.
    pub(crate) ttl_ms: Option<u64>,
}

/// Arguments of a queue that the model needs.
pub(crate) type Limits = (Option<u64>, Option<usize>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Where {
    Ready,
    /// Delivered, and its consumer has not settled it.
    Out,
}

/// One message in one queue.
#[derive(Clone, Debug)]
struct Copy {
    message: Id,
    /// The broker's number of it: publications to a queue are counted from its start on.
    seq: u64,
    place: Where,
    /// It was delivered before, or a restart found it.
    redelivered: bool,
    persistent: bool,
    /// Its publisher was told that the broker has it.
    owed: bool,
    expires: Option<u64>,
    /// The step in which it became ready.
    since: u64,
}

/// A copy that is not wanted any more.
#[derive(Clone, Debug)]
struct Gone {
    message: Id,
    seq: u64,
    persistent: bool,
    expires: Option<u64>,
    /// The journal's epoch in which that was so.
    epoch: u64,
    why: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    present: bool,
    /// The client was told so.
    sure: bool,
}

#[derive(Clone, Debug)]
struct Held {
    name: String,
    durable: bool,
    direct: bool,
    ttl_ms: Option<u64>,
    length_max: Option<usize>,
    /// A client was told that it is there, or, once it is deleted, that it is not.
    sure: bool,
    bindings: BTreeMap<String, Binding>,
    next_seq: u64,
    copies: BTreeMap<u64, Copy>,
    gone: BTreeMap<u64, Gone>,
    /// Something was put into it in this step.
    touched: bool,
    /// The last copy that was delivered in this step.
    delivered_up_to: Option<u64>,
    /// How many were delivered in this step.
    delivered: usize,
    /// Messages of which a copy has left in this step, from here or from the session's other queue.
    perhaps: Vec<Id>,
}

impl Held {
    fn of(queue: &Queue, (ttl_ms, length_max): Limits) -> Self {
        Self {
            name: queue.name().to_owned(),
            durable: queue.journaled(),
            direct: queue.is_direct(),
            ttl_ms,
            length_max,
            sure: false,
            bindings: BTreeMap::new(),
            next_seq: 0,
            copies: BTreeMap::new(),
            gone: BTreeMap::new(),
            touched: false,
            delivered_up_to: None,
            delivered: 0,
            perhaps: Vec::new(),
        }
    }

    fn gone(&mut self, place: u64, epoch: u64, why: &'static str) {
        if let Some(copy) = self.copies.remove(&place) {
            let gone = Gone {
                message: copy.message,
                seq: copy.seq,
                persistent: copy.persistent,
                expires: copy.expires,
                epoch,
                why,
            };
            self.gone.insert(place, gone);
        }
    }
}

impl Held {
    /// How many copies wait: those that have not expired, and all.
    fn waiting(&self, now: u64) -> (usize, usize) {
        let copies = self.copies.values();
        let ready = copies.filter(|copy| copy.place == Where::Ready);
        let expired = ready.clone().filter(|copy| copy.has_expired(now)).count();
        let most = ready.count();
        (most - expired, most)
    }

    /// Finds which of the messages that left from one of two queues were from here.
    fn attribute(&mut self, told: usize, epoch: u64, now: u64) {
        for message in std::mem::take(&mut self.perhaps) {
            let mut same = self.copies.iter().filter(|(_, copy)| {
                copy.message == message && copy.place == Where::Ready && !copy.persistent
            });
            let place = same.next().map(|(place, _)| *place);
            if let Some(place) = place.filter(|_| self.waiting(now).0 > told) {
                self.delivered_up_to = self.delivered_up_to.max(Some(place));
                self.gone(place, epoch, "delivered without acknowledgement");
            }
        }
    }

    /// A message that waited before this step, and still does, while one behind it was delivered.
    fn overtaken(&mut self, step: u64, now: u64) -> Option<Id> {
        let last = self.delivered_up_to.take()?;
        let mut earlier = self.copies.range(..last);
        let overtaken = earlier.find(|(_, copy)| {
            copy.place == Where::Ready && copy.since < step && !copy.has_expired(now)
        });
        overtaken.map(|(_, copy)| copy.message)
    }

    /// Drops what is above the queue's limit, the first first, if something was put into it; says
    /// how many.
    fn limit(&mut self, told: usize, epoch: u64) -> u64 {
        let touched = std::mem::take(&mut self.touched);
        let delivered = std::mem::take(&mut self.delivered);
        let Some(max) = self.length_max.filter(|_| touched) else {
            return 0;
        };
        let copies = self.copies.iter();
        let ready = copies.filter(|(_, copy)| copy.place == Where::Ready);
        let places: Vec<u64> = ready.map(|(place, _)| *place).collect();
        let count = places.len();
        // What came back may have been dropped before others were delivered, or after.
        let most = (count + delivered).saturating_sub(max).min(count);
        let least = count.saturating_sub(max);
        let over = count.saturating_sub(told).clamp(least, most);
        for place in &places[..over] {
            self.gone(*place, epoch, "dropped by the queue's limit");
        }
        over as u64
    }
}

impl Copy {
    fn has_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// See the module.
pub(crate) struct Oracle {
    limits: fn(&str) -> Limits,
    queues: BTreeMap<u64, Held>,
    /// Deleted, and perhaps found again after a crash.
    deleted: BTreeMap<u64, Held>,
    conns: BTreeMap<usize, protocol::Conn>,
    /// Sessions that outlive their connections, by client.
    leases: BTreeMap<String, sessions::Lease>,
    /// QoS 2 publishes that were taken and not released, by client and packet id.
    received: BTreeMap<String, BTreeMap<u16, protocol::Received>>,
    /// The same of sessions that are over, until a CONNACK says so.
    forgotten: BTreeMap<String, BTreeMap<u16, protocol::Received>>,
    /// Names of queues that may vanish in this step.
    may_vanish: Vec<String>,
    transmissions: u64,
    /// The last of them before this life of the broker.
    before_start: u64,
    pub(crate) step: u64,
    /// What is settled now is surely on disk when this is below [`Self::synced`].
    pub(crate) epoch: u64,
    synced: u64,
    /// Epochs that a failed sync left in doubt for ever.
    doubts: Vec<RangeInclusive<u64>>,
    pub(crate) counts: Counts,
}

impl Oracle {
    pub(crate) fn new(limits: fn(&str) -> Limits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
            deleted: BTreeMap::new(),
            conns: BTreeMap::new(),
            leases: BTreeMap::new(),
            received: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            may_vanish: Vec::new(),
            transmissions: 0,
            before_start: 0,
            step: 0,
            epoch: 1,
            synced: 0,
            doubts: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The journal begins to write: what comes from now on is not in it.
    pub(crate) fn sync_begins(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// All that came before this epoch is on disk.
    pub(crate) fn sync_done(&mut self, epoch: u64) {
        self.synced = self.synced.max(epoch);
    }

    /// A sync has failed: what was not synced before may be on disk or not, now and later.
    pub(crate) fn sync_failed(&mut self) {
        self.doubts.push(self.synced..=self.epoch);
    }

    fn is_doubtful(&self, epoch: u64) -> bool {
        epoch >= self.synced || self.doubts.iter().any(|doubt| doubt.contains(&epoch))
    }

    /// The queue with this name.
    pub(crate) fn queue(&self, name: &str) -> Option<u64> {
        let mut all = self.queues.iter();
        all.find(|(_, held)| held.name == name).map(|(id, _)| *id)
    }

    /// Names of the queues that keep a list.
    pub(crate) fn lists(&self) -> Vec<String> {
        let lists = self.queues.values().filter(|held| !held.direct);
        lists.map(|held| held.name.clone()).collect()
    }

    /// A queue's name, for the trace.
    pub(crate) fn name(&self, queue: u64) -> &str {
        let held = self.queues.get(&queue).or(self.deleted.get(&queue));
        held.map_or("?", |held| &held.name)
    }

    /// Queues were made or deleted.
    pub(crate) fn look(&mut self, there: &[Arc<Queue>]) -> Check {
        for queue in there {
            let limits = (self.limits)(queue.name());
            let new = || Held::of(queue, limits);
            self.queues.entry(queue.id()).or_insert_with(new);
        }
        let vanished: Vec<u64> = self.queues.keys().copied().collect();
        for id in vanished {
            if there.iter().any(|queue| queue.id() == id) {
                continue;
            }
            if let Some(mut held) = self.queues.remove(&id) {
                if !self.may_vanish.contains(&held.name) {
                    return violation("a queue has vanished", None, Some(id));
                }
                held.sure = false;
                self.deleted.insert(id, held);
            }
        }
        Ok(())
    }

    /// Time has passed, and the broker has done what is due.
    pub(crate) fn time_passed(&mut self, there: &[Arc<Queue>], now: u64) -> Check {
        self.let_expire(now);
        self.look(there)?;
        self.has_expired(now)
    }

    /// Queues with these names may vanish in this step.
    pub(crate) fn let_vanish(&mut self, name: &str) {
        self.may_vanish.push(name.to_owned());
    }

    /// A binding was made or taken away.
    pub(crate) fn bound(&mut self, queue: u64, pattern: &str, present: bool) {
        if let Some(held) = self.queues.get_mut(&queue) {
            let known = held.bindings.get(pattern);
            if known.is_none_or(|binding| binding.present != present) {
                let sure = false;
                let binding = Binding { present, sure };
                held.bindings.insert(pattern.to_owned(), binding);
            }
        }
    }

    /// A message was taken: it goes to every queue that a binding leads to. Returns its number.
    pub(crate) fn publish(&mut self, publication: &Publication, now: u64) -> u64 {
        self.transmissions += 1;
        self.counts.published += 1;
        let place = self.transmissions;
        for held in self.queues.values_mut() {
            let takes = match &publication.target {
                Target::Queue(name) => held.name == *name,
                Target::Topic(key) => {
                    let mut bindings = held.bindings.iter();
                    bindings.any(|(pattern, binding)| binding.present && matches(pattern, key))
                }
            };
            if !takes {
                continue;
            }
            let ttl_ms = publication.ttl_ms.into_iter().chain(held.ttl_ms).min();
            let copy = Copy {
                message: publication.message,
                seq: held.next_seq,
                place: Where::Ready,
                redelivered: false,
                persistent: publication.persistent,
                owed: false,
                expires: ttl_ms.map(|ms| now + ms),
                since: self.step,
            };
            held.next_seq += 1;
            held.touched = true;
            held.copies.insert(place, copy);
        }
        place
    }

    /// The publisher was told that the broker has the message: that of this transmission, or what
    /// a restart found of a `message` that is known by its packet id.
    fn acknowledged(&mut self, place: u64, message: Option<Id>) {
        self.counts.acknowledged += 1;
        let known = place <= self.before_start;
        let all = self.queues.values_mut().chain(self.deleted.values_mut());
        for held in all {
            if let Some(copy) = held.copies.get_mut(&place) {
                copy.owed = true;
            }
            let copies = held.copies.values_mut().filter(|_| known);
            for copy in copies.filter(|copy| Some(copy.message) == message) {
                copy.owed = true;
            }
        }
    }

    /// A message has left for a consumer. `flag` is what it was told of earlier deliveries, if
    /// that can be told; `settled`: nothing more will be heard of it. Returns the copy's place.
    fn delivered(
        &mut self,
        queue: u64,
        message: Id,
        flag: Option<bool>,
        settled: bool,
        now: u64,
    ) -> Result<u64, Violation> {
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(flag == Some(true));
        let epoch = self.epoch;
        let Some(held) = self.queues.get_mut(&queue) else {
            let what = "a message of a queue that is gone is delivered";
            return violation(what, Some(message), Some(queue));
        };
        let fits = |copy: &Copy| {
            let ready = copy.message == message && copy.place == Where::Ready;
            ready && flag.is_none_or(|flag| flag == copy.redelivered)
        };
        // One that was published twice may be there twice: the first that has not expired.
        let found = held.copies.iter_mut().filter(|(_, copy)| fits(copy));
        let found = found.min_by_key(|(place, copy)| (copy.has_expired(now), **place));
        let Some((&place, copy)) = found else {
            return violation(why_not(held, message), Some(message), Some(queue));
        };
        if copy.has_expired(now) {
            return violation(
                "an expired message is delivered",
                Some(message),
                Some(queue),
            );
        }
        copy.place = Where::Out;
        held.delivered_up_to = held.delivered_up_to.max(Some(place));
        held.delivered += 1;
        if settled {
            self.counts.settled += 1;
            held.gone(place, epoch, "delivered without acknowledgement");
        }
        Ok(place)
    }

    /// A consumer is done with a copy.
    fn settled(&mut self, queue: u64, place: u64, why: &'static str) {
        let epoch = self.epoch;
        let live = self.queues.get_mut(&queue);
        if let Some(held) = live.or(self.deleted.get_mut(&queue)) {
            self.counts.settled += 1;
            held.gone(place, epoch, why);
        }
    }

    /// A copy goes back to its place in the queue.
    fn requeued(&mut self, queue: u64, place: u64) {
        let step = self.step;
        let held = self.queues.get_mut(&queue);
        if let Some(held) = held
            && let Some(copy) = held.copies.get_mut(&place)
        {
            copy.place = Where::Ready;
            copy.redelivered = true;
            copy.since = step;
            held.touched = true;
        }
    }

    /// A queue was purged.
    pub(crate) fn purged(&mut self, queue: u64) {
        let epoch = self.epoch;
        if let Some(held) = self.queues.get_mut(&queue) {
            let copies = held.copies.iter();
            let ready = copies.filter(|(_, copy)| copy.place == Where::Ready);
            let places: Vec<u64> = ready.map(|(place, _)| *place).collect();
            for place in places {
                held.gone(place, epoch, "purged");
            }
        }
    }

    /// Nobody has anything to do any more: nobody was overtaken, nothing was dropped, no limit
    /// was passed. `waiting` is what the broker says of its queues.
    pub(crate) fn end_of_step(&mut self, waiting: &[(u64, usize)], now: u64) -> Check {
        self.may_vanish.clear();
        let (step, epoch) = (self.step, self.epoch);
        for (id, held) in &mut self.queues {
            if held.direct {
                // What was not taken at once is dropped.
                let places: Vec<u64> = held.copies.keys().copied().collect();
                for place in places {
                    held.gone(place, epoch, "dropped by a queue without a list");
                }
                continue;
            }
            let told = waiting.iter().find(|(told, _)| told == id);
            let told = told.map_or(0, |(_, count)| *count);
            held.attribute(told, epoch, now);
            if let Some(message) = held.overtaken(step, now) {
                let what = "a message is overtaken by one behind it";
                return violation(what, Some(message), Some(*id));
            }
            self.counts.dropped += held.limit(told, epoch);
            let (least, most) = held.waiting(now);
            if !(least..=most).contains(&told) {
                let what = format!("the queue says {told} messages wait, it should be {most}");
                return violation(what, None, Some(*id));
            }
        }
        Ok(())
    }

    /// All has been delivered that could be: what is still there has expired.
    pub(crate) fn is_drained(&mut self, now: u64) -> Check {
        for (id, held) in &self.queues {
            for copy in held.copies.values() {
                if copy.has_expired(now) {
                    self.counts.expired += 1;
                } else if copy.place == Where::Ready {
                    let what = "a message is never delivered";
                    return violation(what, Some(copy.message), Some(*id));
                }
            }
        }
        Ok(())
    }
}

/// Why a delivery is wrong.
fn why_not(held: &Held, message: Id) -> String {
    let mut same = held.copies.values().filter(|copy| copy.message == message);
    if let Some(copy) = same.clone().find(|copy| copy.place == Where::Ready) {
        return match copy.redelivered {
            true => "a message that was delivered before is not flagged as redelivered".to_owned(),
            false => "a message is flagged as redelivered, and never was delivered".to_owned(),
        };
    }
    if same.next().is_some() {
        return "a message is delivered while another consumer has it".to_owned();
    }
    let mut gone = held.gone.values().filter(|gone| gone.message == message);
    match gone.next() {
        Some(gone) => format!("a message is delivered again: it was {}", gone.why),
        None => "a message is delivered that was never routed here".to_owned(),
    }
}
