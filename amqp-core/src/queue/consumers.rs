//! The consumers of a queue: who they are, whose turn it is, and who has no credit.
//!
//! Those with credit are a ring, linked through their entries: whose turn it is, who blocks, who
//! has credit again and who leaves are found without a look at the others, however many wait.
//! Each priority has a ring of its own; a lower one's turn comes while nobody above has credit. Of
//! a queue with a single active consumer, all others have no credit.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{KeptArguments, Queue, QueueKind, State, StreamReader};
use crate::limits;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::sink::Sink;
use crate::time::Time;

/// One consumer. `key` is the sink's own name for it.
#[derive(Clone)]
pub struct Consumer {
    /// Unique among the consumers of its sink.
    pub key: u64,
    /// The connection's number.
    pub connection: u64,
    /// The consumer tag, as listings show it.
    pub tag: Arc<str>,
    /// Deliveries are settled when they are taken.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged deliveries it may have, 0 for any number; for listings, the sink enforces it.
    pub prefetch: u32,
    /// `x-priority`: who has a higher one comes first.
    pub priority: i32,
    /// Its channel has a window for all its consumers together.
    pub limited: bool,
    /// What it asks of a stream; of other queues it must not.
    pub stream: Option<Box<StreamReader>>,
    /// The arguments of `basic.consume`, for listings, if they are kept.
    pub arguments: Option<Arc<KeptArguments>>,
    /// Who takes the deliveries.
    pub sink: Arc<dyn Sink>,
    /// The place in the order of arrival.
    joined: u32,
    blocked: bool,
    /// The places of its neighbours in the ring, while it is not blocked.
    next: u32,
    previous: u32,
}

impl Consumer {
    /// A consumer that gets nothing yet.
    #[must_use]
    pub fn new(key: u64, connection: u64, tag: Arc<str>, sink: Arc<dyn Sink>) -> Self {
        Self {
            key,
            connection,
            tag,
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            priority: 0,
            limited: false,
            stream: None,
            arguments: None,
            sink,
            joined: 0,
            blocked: true,
            next: 0,
            previous: 0,
        }
    }
}

/// What is told of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerView {
    /// Its queue.
    pub queue: String,
    /// Its connection's number.
    pub connection: u64,
    /// Its tag.
    pub tag: String,
    /// Whether deliveries are acknowledged.
    pub ack_required: bool,
    /// Its window, 0 for none.
    pub prefetch: u32,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Gets deliveries: not one that stands by for a single active one.
    pub active: bool,
    /// `x-priority`.
    pub priority: i32,
    /// The arguments of `basic.consume`, if they are kept.
    pub arguments: Option<Arc<KeptArguments>>,
}

/// The consumers of one queue: nothing but a pointer while there are none.
#[derive(Default)]
pub(super) struct Consumers(Option<Box<Ring>>);

/// One consumer or more, of one priority. The first stands in it: nearly all queues have no other.
#[derive(Default)]
struct Ring {
    list: SmallVec<[Consumer; 1]>,
    /// Places by connection and key, once there are many.
    index: Option<Box<Index>>,
    /// What few queues have.
    more: Option<Box<More>>,
    /// The place of the one whose turn it is, while any has credit.
    turn: u32,
    /// How many have credit.
    open: u32,
}

/// Priorities, and the choice of a single active consumer. The queue's first ring has it all, the
/// others their priority.
#[derive(Default)]
struct More {
    priority: i32,
    /// The rings below, highest priority first; none of them is empty.
    lower: Vec<Ring>,
    /// The one that alone gets deliveries, by connection and key.
    single: Option<(u64, u64)>,
    /// The one with a higher priority that takes its place as soon as nothing is out: until then
    /// nobody gets anything.
    rival: Option<(u64, u64)>,
    /// How many have joined.
    joined: u32,
}

/// Where a consumer stands: which ring, and where in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    ring: u32,
    place: u32,
}

#[derive(Default)]
struct Index {
    hasher: RandomState,
    places: HashTable<u32>,
}

/// From so many consumers on they are found by hash.
const INDEXED_FROM: usize = 16;

fn hash(hasher: &RandomState, consumer: &Consumer) -> u64 {
    hasher.hash_one((consumer.connection, consumer.key))
}

impl Index {
    fn add(&mut self, list: &[Consumer], place: u32) {
        let hasher = &self.hasher;
        let of = |place: &u32| hash(hasher, &list[*place as usize]);
        self.places.insert_unique(of(&place), place, of);
    }

    fn remove(&mut self, list: &[Consumer], place: u32) {
        let hash = hash(&self.hasher, &list[place as usize]);
        if let Ok(entry) = self.places.find_entry(hash, |held| *held == place) {
            entry.remove();
        }
    }
}

impl Consumers {
    fn rings(&self) -> impl Iterator<Item = &Ring> {
        let first = self.0.as_deref();
        let lower = first.and_then(|first| first.more.as_deref());
        let lower = lower.map_or(&[][..], |more| &more.lower);
        first.into_iter().chain(lower)
    }

    fn ring_mut(&mut self, ring: usize) -> Option<&mut Ring> {
        let first = self.0.as_deref_mut()?;
        match ring {
            0 => Some(first),
            _ => first.more.as_deref_mut()?.lower.get_mut(ring - 1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rings().map(|ring| ring.list.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn all(&self) -> impl Iterator<Item = &Consumer> {
        self.rings().flat_map(|ring| &ring.list)
    }

    /// Whether anybody has credit.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        match self.0.as_deref() {
            None => false,
            Some(Ring { open, more, .. }) => {
                let below = |more: &More| more.lower.iter().any(|ring| ring.open > 0);
                *open > 0 || more.as_deref().is_some_and(below)
            }
        }
    }

    /// How many have credit.
    pub(super) fn open(&self) -> usize {
        self.rings().map(|ring| ring.open as usize).sum()
    }

    #[inline]
    pub(super) fn at(&self, place: Place) -> Option<&Consumer> {
        if place.ring == 0 {
            return self.0.as_deref()?.list.get(place.place as usize);
        }
        let ring = self.rings().nth(place.ring as usize)?;
        ring.list.get(place.place as usize)
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Consumer> {
        let ring = self.ring_mut(place.ring as usize)?;
        ring.list.get_mut(place.place as usize)
    }

    /// A connection's consumer of a queue without priorities.
    pub(super) fn find_mut(&mut self, connection: u64, key: u64) -> Option<&mut Consumer> {
        let ring = self.ring_mut(0)?;
        let place = ring.find(connection, key)?;
        ring.list.get_mut(place)
    }

    /// The same, to get nothing for the time being.
    pub(super) fn hold(&mut self, connection: u64, key: u64) {
        if let Some(ring) = self.ring_mut(0)
            && let Some(place) = ring.find(connection, key)
        {
            ring.block(place);
        }
    }

    /// All of them, as the queue ends.
    pub(super) fn into_list(self) -> Vec<Consumer> {
        let Some(mut ring) = self.0 else {
            return Vec::new();
        };
        let lower = ring.more.take().map_or(Vec::new(), |more| more.lower);
        let mut list = ring.list.into_vec();
        lower.into_iter().for_each(|ring| list.extend(ring.list));
        list
    }

    /// Connection and tag of the consumer that has asked for the queue alone.
    pub(super) fn exclusive_tag(&self) -> Option<(u64, String)> {
        let held = self.all().next().filter(|held| held.exclusive)?;
        Some((held.connection, held.tag.to_string()))
    }

    /// Nobody else may consume. Who is exclusive is alone.
    fn is_exclusive(&self) -> bool {
        self.all().next().is_some_and(|held| held.exclusive)
    }

    /// How many priorities there are.
    fn priorities(&self) -> usize {
        self.rings().count()
    }

    fn has_priority(&self, priority: i32) -> bool {
        self.rings().any(|ring| ring.priority() == priority)
    }

    /// Connection and tag of the one that alone gets deliveries.
    pub(super) fn single_tag(&self) -> Option<(u64, String)> {
        let single = self.single()?;
        let is = |held: &&Consumer| (held.connection, held.key) == single;
        let held = self.all().find(is)?;
        Some((held.connection, held.tag.to_string()))
    }

    /// The one that alone gets deliveries.
    fn single(&self) -> Option<(u64, u64)> {
        self.0.as_ref()?.more.as_ref()?.single
    }

    /// Adds one without credit; the first of a queue with a single active consumer is that.
    fn add(&mut self, mut consumer: Consumer, single: bool) {
        let priority = consumer.priority;
        let Some(first) = &mut self.0 else {
            let mut ring = Box::new(Ring::of(priority));
            if single {
                let more = ring.more.get_or_insert_default();
                more.single = Some((consumer.connection, consumer.key));
                more.joined = 1;
            }
            ring.add(consumer);
            self.0 = Some(ring);
            return;
        };
        if let Some(more) = &mut first.more {
            consumer.joined = more.joined;
            more.joined = more.joined.wrapping_add(1);
        }
        if first.priority() == priority {
            return first.add(consumer);
        }
        if first.priority() < priority {
            // It comes first: what belongs to all goes with the place.
            let mut below = std::mem::replace(&mut **first, Ring::of(priority));
            let mut former = below.more.take().unwrap_or_default();
            let own = std::mem::replace(&mut former.priority, priority);
            below.more = (own != 0).then(|| Box::new(More::of(own)));
            former.lower.insert(0, below);
            first.more = Some(former);
            return first.add(consumer);
        }
        let lower = &mut first.more.get_or_insert_default().lower;
        let place = lower.partition_point(|ring| ring.priority() > priority);
        if lower
            .get(place)
            .is_none_or(|ring| ring.priority() != priority)
        {
            lower.insert(place, Ring::of(priority));
        }
        lower[place].add(consumer);
    }

    /// Removes a connection's consumer; says whether it was there, and who is active in its place.
    fn remove(&mut self, connection: u64, key: u64) -> (bool, Option<(u64, u64)>) {
        let rings = self.priorities();
        let removed = (0..rings).find(|ring| {
            self.ring_mut(*ring)
                .is_some_and(|ring| ring.remove(connection, key))
        });
        let Some(ring) = removed else {
            return (false, None);
        };
        self.drop_empty(ring);
        let single = self.single();
        if single != Some((connection, key)) {
            return (true, self.drop_rival((connection, key)).and(single));
        }
        let next = self.highest().map(|(_, next)| next);
        if let Some(more) = self.more_mut() {
            (more.single, more.rival) = (next, None);
        }
        (true, next)
    }

    fn more_mut(&mut self) -> Option<&mut More> {
        self.0.as_mut()?.more.as_deref_mut()
    }

    /// The highest priority, and who came first of those that have it.
    fn highest(&self) -> Option<(i32, (u64, u64))> {
        let ring = self.rings().find(|ring| !ring.list.is_empty())?;
        let first = ring.list.iter().min_by_key(|held| held.joined)?;
        Some((ring.priority(), (first.connection, first.key)))
    }

    /// A consumer is gone. If it waited for the single active one's place, another one does, or the
    /// active one goes on: says whether it does.
    fn drop_rival(&mut self, gone: (u64, u64)) -> Option<()> {
        self.more_mut()?.rival.take_if(|rival| *rival == gone)?;
        let own = self.priority_of(self.single()?);
        let next = self.highest().filter(|(priority, _)| Some(*priority) > own);
        self.more_mut()?.rival = next.map(|(_, next)| next);
        next.is_none().then_some(())
    }

    /// A ring without consumers goes.
    fn drop_empty(&mut self, ring: usize) {
        let Some(first) = &mut self.0 else { return };
        if ring > 0 {
            if let Some(more) = &mut first.more
                && more
                    .lower
                    .get(ring - 1)
                    .is_some_and(|ring| ring.list.is_empty())
            {
                more.lower.remove(ring - 1);
            }
            return;
        }
        if !first.list.is_empty() {
            return;
        }
        let former = first.more.take().unwrap_or_default();
        let More {
            mut lower,
            single,
            rival,
            joined,
            ..
        } = *former;
        if lower.is_empty() {
            self.0 = None;
            return;
        }
        **first = lower.remove(0);
        let more = first.more.get_or_insert_default();
        (more.lower, more.joined) = (lower, joined);
        (more.single, more.rival) = (single, rival);
    }

    /// It has no credit: it leaves the ring.
    pub(super) fn block(&mut self, place: Place) {
        if let Some(ring) = self.ring_mut(place.ring as usize) {
            ring.block(place.place as usize);
        }
    }

    /// It has credit: its turn comes after all others. `false`: nothing is for it.
    pub(super) fn unblock(&mut self, connection: u64, key: u64) -> bool {
        if let Some(single) = self.single()
            && (single != (connection, key) || self.has_rival())
        {
            return false;
        }
        (0..self.priorities()).any(|ring| {
            self.ring_mut(ring)
                .is_some_and(|ring| ring.unblock(connection, key))
        })
    }

    /// Whether somebody waits for the single active consumer's place.
    #[inline]
    pub(super) fn has_rival(&self) -> bool {
        let more = self.0.as_ref().and_then(|first| first.more.as_ref());
        more.is_some_and(|more| more.rival.is_some())
    }

    /// The priority of a consumer.
    fn priority_of(&self, (connection, key): (u64, u64)) -> Option<i32> {
        let ring = self
            .rings()
            .find(|ring| ring.find(connection, key).is_some());
        ring.map(Ring::priority)
    }

    /// A consumer asks for messages. If the single active one has a lower priority, it gets no more
    /// from now on; says whether that is so.
    fn challenge(&mut self, challenger: (u64, u64)) -> bool {
        let Some(single) = self.single().filter(|single| *single != challenger) else {
            return false;
        };
        let first = self.0.as_ref().and_then(|first| first.more.as_ref());
        let rival = first.and_then(|more| more.rival);
        let highest = self.priority_of(rival.unwrap_or(single));
        if self.priority_of(challenger) <= highest {
            return false;
        }
        if let Some(more) = self.more_mut() {
            more.rival = Some(challenger);
        }
        for ring in 0..self.priorities() {
            if let Some(ring) = self.ring_mut(ring)
                && let Some(place) = ring.find(single.0, single.1)
            {
                ring.block(place);
            }
        }
        true
    }

    /// Nothing is out: who waits for the single active consumer's place has it, and credit.
    pub(super) fn take_over(&mut self) {
        if let Some(more) = self.more_mut()
            && let Some(rival) = more.rival.take()
        {
            more.single = Some(rival);
            self.unblock(rival.0, rival.1);
        }
    }

    /// The place of the consumer whose turn it is, among those that have credit.
    pub(super) fn next_open(&mut self) -> Option<Place> {
        let first = self.0.as_deref_mut()?;
        if first.open > 0 || first.more.is_none() {
            let place = first.next_open()? as u32;
            return Some(Place { ring: 0, place });
        }
        let lower = &mut first.more.as_deref_mut()?.lower;
        let found = lower.iter_mut().enumerate().find(|(_, ring)| ring.open > 0);
        let (below, ring) = found?;
        let place = ring.next_open()? as u32;
        Some(Place {
            ring: below as u32 + 1,
            place,
        })
    }
}

impl More {
    fn of(priority: i32) -> Self {
        Self {
            priority,
            ..Self::default()
        }
    }
}

impl Ring {
    fn of(priority: i32) -> Self {
        Self {
            more: (priority != 0).then(|| Box::new(More::of(priority))),
            ..Self::default()
        }
    }

    fn priority(&self) -> i32 {
        self.more.as_ref().map_or(0, |more| more.priority)
    }

    /// Adds one without credit.
    fn add(&mut self, consumer: Consumer) {
        let place = self.list.len() as u32;
        self.list.push(Consumer {
            blocked: true,
            ..consumer
        });
        if let Some(index) = &mut self.index {
            index.add(&self.list, place);
        } else if self.list.len() > INDEXED_FROM {
            let mut index = Box::<Index>::default();
            (0..=place).for_each(|place| index.add(&self.list, place));
            self.index = Some(index);
        }
    }

    fn find(&self, connection: u64, key: u64) -> Option<usize> {
        let is = |held: &Consumer| held.connection == connection && held.key == key;
        let Some(index) = &self.index else {
            return self.list.iter().position(is);
        };
        let hash = index.hasher.hash_one((connection, key));
        let found = index
            .places
            .find(hash, |place| is(&self.list[*place as usize]));
        found.map(|place| *place as usize)
    }

    /// Removes a connection's consumer; says whether it was there.
    fn remove(&mut self, connection: u64, key: u64) -> bool {
        let Some(place) = self.find(connection, key) else {
            return false;
        };
        self.block(place);
        let last = self.list.len() - 1;
        if let Some(index) = &mut self.index {
            index.remove(&self.list, place as u32);
            if place != last {
                index.remove(&self.list, last as u32);
            }
        }
        // The last one takes its place, in the ring as well.
        if place != last && !self.list[last].blocked {
            let Consumer { next, previous, .. } = self.list[last];
            self.list[previous as usize].next = place as u32;
            self.list[next as usize].previous = place as u32;
            if self.turn == last as u32 {
                self.turn = place as u32;
            }
        }
        self.list.swap_remove(place);
        if let Some(index) = &mut self.index
            && place != last
        {
            index.add(&self.list, place as u32);
        }
        true
    }

    /// It has no credit: it leaves the ring.
    fn block(&mut self, place: usize) {
        if std::mem::replace(&mut self.list[place].blocked, true) {
            return;
        }
        self.open -= 1;
        let Consumer { next, previous, .. } = self.list[place];
        self.list[previous as usize].next = next;
        self.list[next as usize].previous = previous;
        if self.turn == place as u32 {
            self.turn = next;
        }
    }

    /// It has credit: its turn comes after all others.
    fn unblock(&mut self, connection: u64, key: u64) -> bool {
        let Some(place) = self.find(connection, key) else {
            return false;
        };
        if !std::mem::replace(&mut self.list[place].blocked, false) {
            return true;
        }
        if self.open == 0 {
            self.turn = place as u32;
            self.list[place].previous = place as u32;
        }
        self.open += 1;
        let next = self.turn as usize;
        let previous = self.list[next].previous as usize;
        self.list[place].next = next as u32;
        self.list[place].previous = previous as u32;
        self.list[next].previous = place as u32;
        self.list[previous].next = place as u32;
        true
    }

    /// The place of the consumer whose turn it is, among those that have credit.
    fn next_open(&mut self) -> Option<usize> {
        (self.open > 0).then(|| {
            let place = self.turn as usize;
            self.turn = self.list[place].next;
            place
        })
    }
}

impl Queue {
    /// Adds a consumer; it gets nothing until [`Self::pull`].
    pub(crate) fn add_consumer(
        &self,
        mut consumer: Consumer,
        vhost: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        if self.is_stream() {
            self.check_reader(&consumer, vhost)?;
            self.begin_reader(consumer.stream.get_or_insert_default());
        } else if let Some(asked) = &consumer.stream {
            return Err(asked.foreign(self.name(), vhost, self.kind()));
        }
        let mut state = self.state.lock();
        if state.deleted {
            return Err(Refusal::not_found(
                crate::refusal::Resource::Queue,
                self.name(),
                vhost,
            ));
        }
        if consumer.limited && state.terms().kind == QueueKind::Quorum {
            return Err(Refusal::not_implemented(format!(
                "queue '{}' in vhost '{vhost}' does not support global qos",
                self.name()
            )));
        }
        let single = state.terms().single_active_consumer;
        let alone = state.consumers.is_empty() && !single;
        let may_be_refused = !self.is_stream();
        if may_be_refused && (state.consumers.is_exclusive() || (consumer.exclusive && !alone)) {
            return Err(Refusal::new(
                ReplyCode::AccessRefused,
                format!(
                    "queue '{}' in vhost '{vhost}' in exclusive use",
                    self.name()
                ),
            ));
        }
        if state.consumers.len() >= limits::CONSUMERS_PER_QUEUE_MAX {
            return Err(Refusal::precondition(format!(
                "cannot consume from queue '{}' in vhost '{vhost}': it has {} consumers already",
                self.name(),
                limits::CONSUMERS_PER_QUEUE_MAX
            )));
        }
        if state.consumers.priorities() >= limits::CONSUMER_PRIORITIES_MAX
            && !state.consumers.has_priority(consumer.priority)
        {
            return Err(Refusal::precondition(format!(
                "cannot consume from queue '{}' in vhost '{vhost}': its consumers have {} \
                 priorities already",
                self.name(),
                limits::CONSUMER_PRIORITIES_MAX
            )));
        }
        state.had_consumer = true;
        state.unused_since = now;
        state.consumers.add(consumer, single);
        Ok(())
    }

    /// A consumer of a queue with a single active one asks for messages, and is not that one.
    /// RabbitMQ: in quorum queues one with a higher priority takes over, once everything that is
    /// out is settled. Says whether it has.
    #[cold]
    pub(super) fn contest(state: &mut State, connection: u64, key: u64) -> bool {
        let quorum = state.terms().kind == QueueKind::Quorum;
        if !quorum || !state.consumers.challenge((connection, key)) || state.unacked > 0 {
            return false;
        }
        state.consumers.take_over();
        true
    }

    /// Removes a connection's consumer.
    pub(crate) fn remove_consumer(&self, connection: u64, key: u64, now: Time) -> Removed {
        let mut state = self.state.lock();
        let (removed, promoted) = state.consumers.remove(connection, key);
        if removed {
            state.unused_since = now;
        }
        let last = removed && state.consumers.is_empty() && state.had_consumer;
        Removed {
            ends_queue: self.auto_delete && last,
            promoted,
        }
    }

    /// The consumers, for listings.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        let state = self.state.lock();
        let single = state.consumers.single();
        let view = |held: &Consumer| ConsumerView {
            queue: self.name().to_owned(),
            connection: held.connection,
            tag: held.tag.to_string(),
            ack_required: !held.no_ack,
            prefetch: held.prefetch,
            exclusive: held.exclusive,
            active: single.is_none_or(|single| single == (held.connection, held.key)),
            priority: held.priority,
            arguments: held.arguments.clone(),
        };
        state.consumers.all().map(view).collect()
    }
}

/// What follows from a consumer's end.
pub(crate) struct Removed {
    /// The queue should go as well (auto-delete).
    pub(crate) ends_queue: bool,
    /// Who is the single active consumer now, by connection and key: it has credit.
    pub(crate) promoted: Option<(u64, u64)>,
}

#[cfg(test)]
mod tests;
