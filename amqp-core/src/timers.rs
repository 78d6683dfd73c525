//! What the core does later: queues that expire and publications that were scheduled.
//!
//! The core reads no clock. Whoever drives it asks [`Timers::next`] and calls the broker at that
//! time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::alarms::Alarms;
use crate::claims::Leftover;
use crate::exchange::Exchange;
use crate::queue::Queue;
use crate::schedule;
use crate::time::Time;
use crate::vhost::VHost;
use crate::watermark::Wake;

/// What is due.
pub(crate) enum Due {
    /// A queue is to be looked at: a message may have expired, or the queue itself.
    Queue(Weak<VHost>, Weak<Queue>),
    /// A publication was scheduled for now.
    Publish(Arc<schedule::Scheduled>),
    /// A message has waited long enough at an exchange that delays.
    Delayed(Weak<VHost>, Weak<Exchange>, u64),
    /// What waited at exchanges that are gone is to be let go of.
    DropDelayed(Weak<VHost>),
    /// A client that left packet identifiers before the restart has not come back.
    Recall(Weak<VHost>, Box<str>),
    /// What an absent client left is no longer worth keeping.
    Forget(Weak<VHost>, Box<str>, Weak<dyn Leftover>),
    /// Dead letters of a vhost wait to be published.
    Letters(Weak<VHost>),
    /// Permissions have changed.
    Authority,
    /// Retained messages of a vhost may have expired.
    Retained(Weak<VHost>),
}

impl Due {
    /// Whether anybody still waits for it.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Publish(scheduled) => scheduled.waits(),
            Self::Delayed(_, exchange, _) => {
                let exchange = exchange.upgrade();
                exchange.is_some_and(|exchange| !exchange.is_deleted())
            }
            _ => true,
        }
    }
}

/// A queue to look at: every persistent session has one, and all else is rare.
struct Expiry {
    at: Time,
    vhost: Weak<VHost>,
    queue: Weak<Queue>,
}

impl Expiry {
    /// The queue waits for just this one.
    fn is_wanted(&self) -> bool {
        let queue = self.queue.upgrade();
        queue.is_some_and(|queue| queue.looked_at() == Some(self.at))
    }
}

impl PartialEq for Expiry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Expiry {}

impl PartialOrd for Expiry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Expiry {
    /// The earliest is the greatest, and comes out of a heap first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

const _: () = assert!(size_of::<Expiry>() == 24);

struct Timer {
    at: Time,
    number: u64,
    due: Due,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Default)]
struct State {
    expiries: BinaryHeap<Expiry>,
    /// Entries that have become idle since the list was last looked through: of queues that were
    /// deleted, or that are looked at earlier.
    lost: usize,
    heap: BinaryHeap<Reverse<Timer>>,
    /// Publications that nobody waits for any more since that list was last looked through.
    called_off: usize,
    number: u64,
    driver: Option<Arc<dyn Wake>>,
}

impl State {
    fn next(&self) -> Option<Time> {
        let expiry = self.expiries.peek().map(|head| head.at);
        let timer = self.heap.peek().map(|Reverse(head)| head.at);
        expiry.into_iter().chain(timer).min()
    }

    fn add(&mut self, at: Time, due: Due) {
        if let Due::Queue(vhost, queue) = due {
            self.expiries.push(Expiry { at, vhost, queue });
            return;
        }
        self.number += 1;
        let number = self.number;
        self.heap.push(Reverse(Timer { at, number, due }));
    }

    /// Idle entries go: each keeps its queue's allocation till then. Of a queue's others one stays:
    /// so the list is never much longer than twice the number of queues. Amortised by what led
    /// here.
    fn sweep(&mut self) {
        if self.lost < SWEPT_FROM || self.lost < self.expiries.len() / 2 {
            return;
        }
        self.lost = 0;
        let mut all = std::mem::take(&mut self.expiries).into_vec();
        all.retain(Expiry::is_wanted);
        all.sort_unstable_by_key(|expiry| expiry.queue.as_ptr());
        all.dedup_by_key(|expiry| expiry.queue.as_ptr());
        if all.len() < all.capacity() / 4 {
            all.shrink_to(all.len() * 2);
        }
        self.expiries = all.into();
    }

    /// Publications that were called off go. Amortised by what led here.
    fn sweep_heap(&mut self) {
        if self.called_off < SWEPT_FROM || self.called_off < self.heap.len() / 2 {
            return;
        }
        self.called_off = 0;
        self.heap.retain(|Reverse(timer)| timer.due.is_wanted());
        if self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    fn take(&mut self, now: Time) -> Option<Due> {
        let next = self.next().filter(|at| *at <= now)?;
        if self.heap.peek().is_none_or(|Reverse(head)| head.at > next) {
            let Expiry { vhost, queue, .. } = self.expiries.pop()?;
            return Some(Due::Queue(vhost, queue));
        }
        let Reverse(Timer { due, .. }) = self.heap.pop()?;
        Some(due)
    }
}

/// So many deleted queues, or publications called off, are worth a look through the list.
const SWEPT_FROM: usize = 1_024;

/// The list of what is due when.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
    /// While one is set, dead letters multiply slowly.
    pub(crate) alarms: Arc<Alarms>,
    scheduled: Arc<Scheduled>,
}

/// How many publications wait on the node, or in one vhost.
#[derive(Debug, Default)]
pub(crate) struct Scheduled(AtomicUsize);

impl Scheduled {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Whoever counts one after this has also counted what was added elsewhere before.
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self, gone: usize) {
        // What the broker's end has dropped may end a second time.
        let left = |count: usize| Some(count.saturating_sub(gone));
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, left);
    }
}

/// Room for publications that are to wait: it is taken when they are routed, and given back when
/// they are counted themselves, or never will be.
#[derive(Debug)]
pub(crate) struct Room {
    /// Of the node and of the vhost.
    taken_of: [Arc<Scheduled>; 2],
    count: usize,
}

impl Room {
    pub(crate) fn new(taken_of: [Arc<Scheduled>; 2], count: usize) -> Self {
        Self { taken_of, count }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Self { taken_of, count } = self;
        taken_of.iter().for_each(|taken_of| taken_of.remove(*count));
    }
}

impl Timers {
    pub(crate) fn new(alarms: Arc<Alarms>) -> Self {
        Self {
            alarms,
            ..Self::default()
        }
    }

    /// Adds something; wakes the driver if it has become the first.
    pub(crate) fn add(&self, at: Time, due: Due) {
        let driver = {
            let mut state = self.state.lock();
            let first = state.next().is_none_or(|head| at < head);
            state.add(at, due);
            first.then(|| state.driver.clone()).flatten()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// A timer points to a queue for nothing: the queue was deleted, or has an earlier one.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock();
        state.lost += 1;
        state.sweep();
    }

    /// Takes the next thing that is due at `now`.
    pub(crate) fn take(&self, now: Time) -> Option<Due> {
        self.state.lock().take(now)
    }

    /// Publications that wait.
    pub(crate) fn scheduled(&self) -> &Arc<Scheduled> {
        &self.scheduled
    }

    /// Timers are idle: their publications were called off.
    pub(crate) fn call_off(&self, publications: usize) {
        let mut state = self.state.lock();
        state.called_off += publications;
        state.sweep_heap();
    }

    /// Forgets everything; publications are let go of, since others hold them too.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.state.lock();
            (state.expiries, state.lost) = (BinaryHeap::new(), 0);
            state.called_off = 0;
            std::mem::take(&mut state.heap)
        };
        for Reverse(timer) in dropped {
            if let Due::Publish(scheduled) = timer.due {
                scheduled.leave();
            }
        }
    }

    /// How often queues are to be looked at.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.state.lock().expiries.len()
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.state.lock().next()
    }

    /// Who is told when the first deadline has moved forward.
    pub(crate) fn drive(&self, driver: Arc<dyn Wake>) {
        self.state.lock().driver = Some(driver);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::queue::QueueProperties;

    fn queue(id: u64) -> Arc<Queue> {
        let properties = QueueProperties::default();
        Arc::new(Queue::new(id, "q", &properties, None, None, Time(0)))
    }

    #[test]
    fn expiries_and_the_rest_come_in_one_order() {
        let timers = Timers::default();
        let held = queue(1);
        let expiry = || Due::Queue(Weak::new(), Arc::downgrade(&held));
        let nobody: Weak<dyn Leftover> = Weak::<Nothing>::new();
        let forget = || Due::Forget(Weak::new(), "id".into(), nobody.clone());
        for (at, due) in [(5, expiry()), (3, forget()), (1, expiry()), (4, forget())] {
            timers.add(Time(at), due);
        }
        let mut seen = Vec::new();
        while let Some(at) = timers.next() {
            assert!(timers.take(Time(at.0 - 1)).is_none());
            let due = timers.take(at);
            seen.push((at.0, matches!(due, Some(Due::Queue(..)))));
        }
        assert_eq!(seen, [(1, true), (3, false), (4, false), (5, true)]);
    }

    #[test]
    fn deleted_queues_leave_the_list() {
        let timers = Timers::default();
        let count = 4 * SWEPT_FROM;
        let mut queues: Vec<_> = (0..count as u64).map(queue).collect();
        for queue in &queues {
            queue.armed.store(9, Ordering::Relaxed);
            timers.add(Time(9), Due::Queue(Weak::new(), Arc::downgrade(queue)));
        }
        while queues.pop().is_some() {
            timers.lose();
        }
        let state = timers.state.lock();
        assert!(state.expiries.len() < SWEPT_FROM && state.expiries.capacity() < 2 * SWEPT_FROM);
    }

    struct Nothing;

    impl Leftover for Nothing {
        fn user(&self) -> &str {
            ""
        }

        fn forgotten(&self, _turn: &mut crate::turn::Turn) {}

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
}
