//! The half of a connection that other threads touch: the out-buffer, and what is needed to put
//! deliveries into it.
//!
//! Owns delivery tags, prefetch windows and unacknowledged deliveries, all behind one lock that is
//! the innermost: nothing here calls the core while holding it. Never blocks, never writes to a
//! socket. AMQP 0-9-1, class basic: deliver, qos.

pub(crate) mod overdue;
pub(crate) mod window;
pub(crate) mod write;

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use leveret_core::doorbell::Doorbell;
use leveret_core::field::Table;
use leveret_core::peer::{Accepted, ChannelView, CloseReason, Peer, PeerView};
use leveret_core::queue::Queue;
use leveret_core::sink::{Delivery, Outcome, Sink};
use leveret_core::time::Time;
use leveret_core::watermark::Wake;
use parking_lot::Mutex;

use self::overdue::Patience;
use self::window::{Counts, Held, Listed, Slot, Window, is_own};
use crate::limits::{BUFFER_KEPT_BYTES_MAX, DELIVERY_BYTES_MAX, REPLY_DELIVERY_BYTES_MAX};

/// The shared half of a connection.
pub(crate) struct Outlet {
    doorbell: Doorbell,
    accepted: Accepted,
    accepted_at: Time,
    state: Mutex<State>,
}

/// What the lock protects.
#[derive(Default)]
pub(crate) struct State {
    out: Vec<u8>,
    frame_max: u32,
    windows: HashMap<u16, Window, RandomState>,
    consumers: HashMap<u64, Consumer, RandomState>,
    /// A delivery was refused because the out-buffer is full.
    starved_for_room: bool,
    /// Not before this has a delivery waited too long.
    due: Time,
    seen: Seen,
    facts: Box<Facts>,
    /// Buffers for what cannot be copied from a message.
    key: Vec<u8>,
    properties: Vec<u8>,
}

/// What others want the owner to look at.
#[derive(Default)]
pub(crate) struct Seen {
    /// The broker wants the connection to end.
    pub(crate) close: Option<CloseReason>,
    /// Consumers whose queue is gone.
    pub(crate) cancelled: Vec<u64>,
    /// Queues say something else about timeouts.
    pub(crate) timeouts: bool,
    /// The user's permissions have changed.
    pub(crate) permissions: bool,
    /// The out-buffer has room again for consumers that were refused.
    pub(crate) room: bool,
    /// Not before this has a delivery waited too long.
    pub(crate) overdue_at: Time,
}

/// What a connection says of itself in listings.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) user: Box<str>,
    pub(crate) vhost: Box<str>,
    pub(crate) state: Stage,
    pub(crate) channel_max: u16,
    pub(crate) heartbeat_s: u16,
    pub(crate) mechanism: &'static str,
    pub(crate) client_properties: Table,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Where a connection is in its life, for listings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Stage {
    #[default]
    Starting,
    Running,
    Blocked,
    Closing,
}

/// A consumer as deliveries need it.
pub(crate) struct Consumer {
    pub(crate) tag: Arc<str>,
    pub(crate) channel: u16,
    pub(crate) no_ack: bool,
    /// `basic.qos` without global at its start; 0 is any number.
    pub(crate) prefetch: u16,
    /// Its queue, once it is known.
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) unacked: u32,
    pub(crate) starved: bool,
    /// It gets replies, which nobody keeps while there is no room.
    pub(crate) replies: bool,
    /// How long its deliveries may wait, in milliseconds; 0 is for ever.
    pub(crate) timeout_ms: u32,
}

impl Consumer {
    #[inline]
    fn has_credit(&self, window: &Window) -> bool {
        let own = self.prefetch == 0 || self.unacked < u32::from(self.prefetch);
        self.no_ack || (own && window.has_credit())
    }

    /// Whether there is room for another delivery behind so many bytes.
    #[inline]
    fn has_room(&self, pending_bytes: usize) -> bool {
        pending_bytes < DELIVERY_BYTES_MAX
            || (self.replies && pending_bytes < REPLY_DELIVERY_BYTES_MAX)
    }
}

impl State {
    /// A consumer is to be pulled for when it has credit and there is room.
    fn starve(&mut self, key: u64) {
        if let Some(consumer) = self.consumers.get_mut(&key)
            && let Some(window) = self.windows.get_mut(&consumer.channel)
            && !std::mem::replace(&mut consumer.starved, true)
        {
            window.starved.push(key);
        }
    }

    /// Forgets those that are gone, when they are most.
    fn tidy_starved(&mut self, channel: u16) {
        let consumers = &self.consumers;
        if let Some(window) = self.windows.get_mut(&channel)
            && window.starved.len() > 2 * consumers.len() + STARVED_KEPT
        {
            window.starved.retain(|key| consumers.contains_key(key));
        }
    }
}

impl Outlet {
    /// The outlet of a stream that was accepted at `now`.
    pub(crate) fn new(accepted: Accepted, now: Time) -> Arc<Self> {
        Arc::new(Self {
            doorbell: Doorbell::default(),
            accepted,
            accepted_at: now,
            state: Mutex::new(State {
                due: Time(u64::MAX),
                ..State::default()
            }),
        })
    }

    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    pub(crate) fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Lets `write` append to the out-buffer; says how many bytes it appended.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let out = &mut self.state.lock().out;
        let before = out.len();
        write(out);
        out.len() - before
    }

    /// The same for confirms of a channel, after which so many are left.
    pub(crate) fn append_confirm(
        &self,
        channel: u16,
        unconfirmed: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let mut state = self.state.lock();
        if let Some(window) = state.windows.get_mut(&channel)
            && let Some(listed) = &mut window.listed
        {
            listed.counts.unconfirmed = unconfirmed;
        }
        let before = state.out.len();
        write(&mut state.out);
        state.out.len() - before
    }

    /// Moves all pending bytes to the end of `out`; says how many, and not before when a delivery
    /// has waited too long.
    pub(crate) fn poll_output(&self, out: &mut Vec<u8>) -> (usize, Time) {
        let mut state = self.state.lock();
        let (moved, due) = (state.out.len(), state.due);
        if moved == 0 {
            return (0, due);
        }
        if out.is_empty() {
            std::mem::swap(out, &mut state.out);
        } else {
            out.append(&mut state.out);
        }
        if state.out.capacity() > BUFFER_KEPT_BYTES_MAX {
            state.out = Vec::new();
        }
        state.facts.sent_bytes += moved as u64;
        if std::mem::take(&mut state.starved_for_room) {
            state.seen.room = true;
            drop(state);
            // The owner pulls for them when what it has now is written.
            self.doorbell.press_and_ring();
        }
        (moved, due)
    }

    /// Tells listings what channels keep to themselves. Returns what others asked for since the
    /// last look; `held`: but for cancelled consumers.
    pub(crate) fn look(&self, held: bool, told: impl Iterator<Item = (u16, Counts)>) -> Seen {
        let mut state = self.state.lock();
        for (channel, counts) in told {
            let window = state.windows.get_mut(&channel);
            if let Some(listed) = window.and_then(|window| window.listed.as_mut()) {
                listed.counts = counts;
            }
        }
        let mut seen = std::mem::take(&mut state.seen);
        if held {
            state.seen.cancelled = std::mem::take(&mut seen.cancelled);
            state.seen.permissions = std::mem::take(&mut seen.permissions);
        }
        seen.overdue_at = state.due;
        seen
    }

    /// Consumers that are noted for a pull, on all channels.
    #[cfg(test)]
    pub(crate) fn starved(&self) -> usize {
        let state = self.state.lock();
        state
            .windows
            .values()
            .map(|window| window.starved.len())
            .sum()
    }

    /// Some consumers are still to be pulled for: others come first.
    pub(crate) fn look_again(&self) {
        self.state.lock().seen.room = true;
        self.doorbell.press_and_ring();
    }

    /// Changes what listings tell.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.state.lock().facts);
    }

    pub(crate) fn set_frame_max(&self, frame_max: u32) {
        self.state.lock().frame_max = frame_max;
    }

    pub(crate) fn add_channel(&self, channel: u16) {
        self.state.lock().windows.insert(channel, Window::default());
    }

    /// Forgets a channel with its consumers, which were cancelled before; its unacknowledged
    /// deliveries come out.
    pub(crate) fn remove_channel(&self, channel: u16, into: &mut Vec<Held>) {
        let mut state = self.state.lock();
        if let Some(mut window) = state.windows.remove(&channel) {
            window.take_all(into);
        }
        state
            .consumers
            .retain(|_, consumer| consumer.channel != channel);
    }

    pub(crate) fn add_consumer(&self, key: u64, consumer: Consumer) {
        self.state.lock().consumers.insert(key, consumer);
    }

    /// The consumer gets replies.
    pub(crate) fn expect_replies(&self, key: u64) {
        if let Some(consumer) = self.state.lock().consumers.get_mut(&key) {
            consumer.replies = true;
        }
    }

    /// Says from which queue a consumer is to be pulled for, and how long the queue lets deliveries
    /// wait, if it says so: what the client has asked for is for good.
    pub(crate) fn set_queue(&self, key: u64, queue: &Arc<Queue>, timeout_ms: Option<u32>) {
        let mut state = self.state.lock();
        let State {
            windows, consumers, ..
        } = &mut *state;
        let Some(consumer) = consumers.get_mut(&key) else {
            return;
        };
        consumer.queue = Some(Arc::clone(queue));
        let own = is_own(number_of(key));
        if let Some(timeout_ms) = timeout_ms.filter(|_| !own) {
            consumer.timeout_ms = timeout_ms;
        }
        if own || timeout_ms.is_some() {
            // Unlike others of its channel.
            let window = windows.get_mut(&consumer.channel);
            window.into_iter().for_each(Window::watch_all);
        }
    }

    /// Forgets a consumer; its unacknowledged deliveries stay.
    pub(crate) fn remove_consumer(&self, key: u64) -> Option<Consumer> {
        let mut state = self.state.lock();
        let consumer = state.consumers.remove(&key)?;
        if consumer.starved {
            state.tidy_starved(consumer.channel);
        }
        Some(consumer)
    }

    /// Whether a channel has such a limit.
    pub(crate) fn has_limit(&self, channel: u16) -> bool {
        let state = self.state.lock();
        let window = state.windows.get(&channel);
        window.is_some_and(Window::has_limit)
    }

    /// Changes what listings tell of a channel.
    pub(crate) fn tell_of(&self, channel: u16, change: impl FnOnce(&mut Listed)) {
        if let Some(window) = self.state.lock().windows.get_mut(&channel) {
            change(window.listed.get_or_insert_default());
        }
    }

    /// `basic.qos` with global: how many deliveries to a channel may wait; 0 is any number.
    pub(crate) fn set_limit(&self, channel: u16, limit: u32) {
        if let Some(window) = self.state.lock().windows.get_mut(&channel) {
            window.set_limit(limit);
        }
    }

    /// Takes out deliveries, see [`Window::take`].
    pub(crate) fn take(
        &self,
        channel: u16,
        tag: u64,
        multiple: bool,
        into: &mut Vec<Held>,
    ) -> bool {
        let mut state = self.state.lock();
        let State {
            windows, consumers, ..
        } = &mut *state;
        let Some(window) = windows.get_mut(&channel) else {
            return false;
        };
        let before = into.len();
        let taken = window.take(tag, multiple, into);
        return_credit(consumers, channel, into[before..].iter());
        taken
    }

    /// Takes out deliveries that still count for `basic.qos`, see [`Window::park`].
    pub(crate) fn park(
        &self,
        channel: u16,
        tag: u64,
        multiple: bool,
        into: &mut Vec<Slot>,
    ) -> bool {
        let mut state = self.state.lock();
        let window = state.windows.get_mut(&channel);
        window.is_some_and(|window| window.park(tag, multiple, into))
    }

    /// Parked deliveries are settled: they count no more.
    pub(crate) fn forget(&self, channel: u16, parked: &[Slot]) {
        let mut state = self.state.lock();
        let State {
            windows, consumers, ..
        } = &mut *state;
        if let Some(window) = windows.get_mut(&channel) {
            window.forget(parked);
            return_credit(consumers, channel, parked.iter().filter_map(Slot::held));
        }
    }

    /// Parked deliveries wait again.
    pub(crate) fn put_back(&self, channel: u16, parked: Vec<Slot>) {
        let mut state = self.state.lock();
        if let Some(window) = state.windows.get_mut(&channel) {
            let due = window.put_back(parked);
            state.due = state.due.min(due);
        }
    }

    /// From now on deliveries on a channel may have different timeouts.
    pub(crate) fn watch_all(&self, channel: u16) {
        if let Some(window) = self.state.lock().windows.get_mut(&channel) {
            window.watch_all();
        }
    }

    /// Queues say something else about how long deliveries may wait: those that wait now may as
    /// well, and those that come.
    pub(crate) fn retime(&self, patience: &mut Patience) -> Time {
        let mut state = self.state.lock();
        // No queue is asked while the lock is held.
        let mut queues = HashMap::<u64, Arc<Queue>, RandomState>::default();
        let of_consumers = state
            .consumers
            .values()
            .filter_map(|held| held.queue.as_ref());
        let slots = state.windows.values().flat_map(Window::slots);
        let waiting = slots.filter_map(|slot| slot.held().map(|held| &held.queue));
        for queue in of_consumers.chain(waiting) {
            queues
                .entry(queue.id())
                .or_insert_with(|| Arc::clone(queue));
        }
        drop(state);
        queues.values().for_each(|queue| patience.ask(queue));
        state = self.state.lock();
        let State {
            windows,
            consumers,
            due,
            ..
        } = &mut *state;
        for (key, consumer) in consumers {
            let Some(queue) = &consumer.queue else {
                continue;
            };
            let timeout_ms = patience.known(queue);
            if !is_own(number_of(*key)) && consumer.timeout_ms != timeout_ms {
                consumer.timeout_ms = timeout_ms;
                windows
                    .get_mut(&consumer.channel)
                    .into_iter()
                    .for_each(Window::watch_all);
            }
        }
        let mut first = Time(u64::MAX);
        for window in windows.values_mut() {
            window.retime(|held| patience.known(&held.queue));
            first = first.min(window.due_first().map_or(first, |overdue| overdue.due));
        }
        *due = first;
        first
    }

    /// The channels with a delivery that has waited too long, and how long it might have.
    pub(crate) fn overdue(&self, now: Time) -> Vec<(u16, u32)> {
        let mut state = self.state.lock();
        let mut late = Vec::new();
        let mut first = Time(u64::MAX);
        for (channel, window) in &mut state.windows {
            match window.due_first() {
                Some(overdue) if overdue.due <= now => late.push((*channel, overdue.timeout_ms)),
                Some(overdue) => first = first.min(overdue.due),
                None => {}
            }
        }
        state.due = first;
        late
    }

    /// The consumers of a channel (`None`: of all) that were refused deliveries and have credit
    /// again: the owner pulls for each of them.
    pub(crate) fn take_starved(&self, channel: Option<u16>, into: &mut Vec<(Arc<Queue>, u64)>) {
        let mut state = self.state.lock();
        let State {
            out,
            windows,
            consumers,
            starved_for_room,
            ..
        } = &mut *state;
        let full = out.len() >= DELIVERY_BYTES_MAX;
        let mut look = |window: &mut Window| {
            if full {
                *starved_for_room |= !window.starved.is_empty();
                return;
            }
            let mut starved = std::mem::take(&mut window.starved);
            starved.retain(|key| {
                let Some(consumer) = consumers.get_mut(key) else {
                    return false;
                };
                if !consumer.has_credit(window) {
                    return true;
                }
                consumer.starved = false;
                into.extend(consumer.queue.clone().map(|queue| (queue, *key)));
                false
            });
            window.starved = starved;
        };
        match channel {
            Some(channel) => windows.get_mut(&channel).into_iter().for_each(&mut look),
            None => windows.values_mut().for_each(&mut look),
        }
    }
}

/// The consumers of these deliveries may have others instead.
#[inline]
fn return_credit<'a>(
    consumers: &mut HashMap<u64, Consumer, RandomState>,
    channel: u16,
    settled: impl Iterator<Item = &'a Held>,
) {
    for held in settled {
        if let Some(consumer) = consumers.get_mut(&consumer_key(channel, held.consumer)) {
            consumer.unacked = consumer.unacked.saturating_sub(1);
        }
    }
}

/// A consumer's key: unique on the connection, with its channel in the upper half.
pub(crate) fn consumer_key(channel: u16, number: u32) -> u64 {
    u64::from(channel) << 32 | u64::from(number)
}

/// The lower half of a consumer's key.
pub(crate) fn number_of(key: u64) -> u32 {
    key as u32
}

/// Consumers that are gone and not worth a pass over all of them.
const STARVED_KEPT: usize = 32;

impl Wake for Outlet {
    /// Wakes the owner if there is something that it has not looked at.
    fn wake(&self) {
        self.doorbell.ring();
    }
}

impl Sink for Outlet {
    fn deliver(&self, delivery: &mut Delivery<'_>) -> Outcome {
        let Some(settled) = self.state.lock().deliver(delivery) else {
            return Outcome::Full;
        };
        Outcome::Taken {
            settled,
            wake: self.doorbell.press(),
        }
    }

    fn again(&self, consumer: u64) {
        {
            let mut state = self.state.lock();
            state.starve(consumer);
            state.seen.room = true;
        }
        self.doorbell.press_and_ring();
    }

    fn cancelled(&self, consumer: u64) {
        {
            let mut state = self.state.lock();
            // One that was cancelled by its client in the meantime is not told.
            if !state.consumers.contains_key(&consumer) {
                return;
            }
            state.seen.cancelled.push(consumer);
        }
        self.doorbell.press_and_ring();
    }
}

impl Peer for Outlet {
    fn view(&self) -> PeerView {
        let state = self.state.lock();
        let facts = &state.facts;
        PeerView {
            protocol: "AMQP 0-9-1",
            peer: self.accepted.peer,
            local: self.accepted.local,
            user: facts.user.to_string(),
            vhost: facts.vhost.to_string(),
            state: match facts.state {
                Stage::Starting => "starting",
                Stage::Running => "running",
                Stage::Blocked => "blocked",
                Stage::Closing => "closing",
            },
            channels: state.windows.len() as u64,
            frame_max: state.frame_max,
            channel_max: facts.channel_max.into(),
            timeout_s: facts.heartbeat_s.into(),
            connected_at: self.accepted_at.0,
            received_bytes: facts.received_bytes,
            sent_bytes: facts.sent_bytes,
            pending_bytes: state.out.len() as u64,
            auth_mechanism: facts.mechanism.to_owned(),
            client_id: None,
            clean_session: None,
            unacked: state
                .windows
                .values()
                .map(|held| u64::from(held.unacked()))
                .sum(),
            client_properties: facts.client_properties.clone(),
        }
    }

    fn channels(&self) -> Vec<ChannelView> {
        let state = self.state.lock();
        let view = |(number, window): (&u16, &Window)| {
            let of_channel = state
                .consumers
                .values()
                .filter(|held| held.channel == *number);
            let listed = window.listed.as_deref().copied().unwrap_or_default();
            let counts = listed.counts;
            ChannelView {
                number: *number,
                consumers: of_channel.count() as u64,
                unacked: window.unacked().into(),
                prefetch: Some(listed.prefetch.into()),
                global_prefetch: Some(window.limit()),
                confirm: Some(listed.confirm),
                unconfirmed: Some(counts.unconfirmed.into()),
                transactional: Some(listed.transactional),
                uncommitted: Some(counts.uncommitted.into()),
                acks_uncommitted: Some(counts.acks_uncommitted.into()),
            }
        };
        let mut channels: Vec<_> = state.windows.iter().map(view).collect();
        channels.sort_by_key(|channel| channel.number);
        channels
    }

    fn timeouts_changed(&self) {
        self.state.lock().seen.timeouts = true;
        self.doorbell.press_and_ring();
    }

    fn permissions_changed(&self, users: &HashSet<Box<str>>) {
        {
            let mut state = self.state.lock();
            if !users.contains(&state.facts.user) {
                return;
            }
            state.seen.permissions = true;
        }
        self.doorbell.press_and_ring();
    }

    fn close(&self, why: &CloseReason) {
        self.state
            .lock()
            .seen
            .close
            .get_or_insert_with(|| why.clone());
        self.doorbell.press_and_ring();
    }
}

/// The outlet's bell for those who have no read batch to wait for: watermarks.
pub(crate) struct Bell(pub(crate) Arc<Outlet>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.doorbell.press_and_ring();
    }
}
