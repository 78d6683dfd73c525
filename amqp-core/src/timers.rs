//! What the core does later: queues that expire and publications that were scheduled.
//!
//! The core reads no clock. Whoever drives it asks [`Timers::next`] and calls the broker at that
//! time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::claims::Rest;
use crate::queue::Queue;
use crate::schedule::Scheduled;
use crate::time::Time;
use crate::vhost::VHost;
use crate::watermark::Wake;

/// What is due.
pub(crate) enum Due {
    /// A queue may have been unused for long enough.
    QueueExpiry(Weak<VHost>, Weak<Queue>),
    /// A publication was scheduled for now.
    Publish(Arc<Scheduled>),
    /// What an absent client left is no longer worth keeping.
    Forget(Weak<VHost>, Box<str>, Weak<Rest>),
}

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
    scheduled: usize,
    heap: BinaryHeap<Reverse<Timer>>,
    number: u64,
    driver: Option<Arc<dyn Wake>>,
}

/// The list of what is due when.
#[derive(Default)]
pub(crate) struct Timers(Mutex<State>);

impl Timers {
    /// Adds something; wakes the driver if it has become the first.
    pub(crate) fn add(&self, at: Time, due: Due) {
        let driver = {
            let mut state = self.0.lock();
            let first = state.heap.peek().is_none_or(|Reverse(head)| at < head.at);
            state.number += 1;
            state.scheduled += usize::from(matches!(due, Due::Publish(_)));
            let number = state.number;
            state.heap.push(Reverse(Timer { at, number, due }));
            first.then(|| state.driver.clone()).flatten()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Takes the next thing that is due at `now`.
    pub(crate) fn take(&self, now: Time) -> Option<Due> {
        let mut state = self.0.lock();
        if state.heap.peek().is_none_or(|Reverse(head)| head.at > now) {
            return None;
        }
        let due = state.heap.pop().map(|Reverse(timer)| timer.due);
        state.scheduled -= usize::from(matches!(due, Some(Due::Publish(_))));
        due
    }

    /// Publications that are scheduled, cancelled ones included until their time.
    pub(crate) fn scheduled(&self) -> usize {
        self.0.lock().scheduled
    }

    /// Forgets everything; publications are cancelled, since others hold them too.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.0.lock();
            state.scheduled = 0;
            std::mem::take(&mut state.heap)
        };
        for Reverse(timer) in dropped {
            if let Due::Publish(scheduled) = timer.due {
                scheduled.cancel();
            }
        }
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.lock().heap.peek().map(|Reverse(head)| head.at)
    }

    /// Who is told when the first deadline has moved forward.
    pub(crate) fn drive(&self, driver: Arc<dyn Wake>) {
        self.0.lock().driver = Some(driver);
    }
}
