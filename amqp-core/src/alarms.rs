//! Resources that run out, and the publishers who wait until there is more.
//!
//! While an alarm is set, whoever publishes is not read any further; consumers go on, so that what
//! is there can be drained. Protocols ask [`Alarms::is_set`] for each publish: one load. Owns no
//! file and no clock: `resources` is told what there is.

pub mod resources;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::options::Options;
use crate::watermark::Wake;
use resources::Resources;

/// What may run out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Memory of this process.
    Memory,
    /// Free space where the data is.
    Disk,
    /// The journal: it waits for the disk, or nothing is written any more.
    Journal,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Journal];

    /// The resource's name in logs and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Journal => "journal",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Memory => MEMORY,
            Self::Disk => DISK,
            Self::Journal => JOURNAL,
        }
    }
}

const MEMORY: u8 = 1;
const DISK: u8 = 2;
const JOURNAL: u8 = 4;

/// The alarms of a node.
#[derive(Default)]
pub struct Alarms {
    /// A bit for each resource that is short.
    short: AtomicU8,
    /// Who waits until no alarm is set, by connection: one that goes leaves nothing behind.
    waiters: Mutex<HashMap<u64, Arc<dyn Wake>, RandomState>>,
    resources: Mutex<Resources>,
}

impl Alarms {
    /// No alarms, and these limits.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            resources: Mutex::new(Resources::new(options)),
            ..Self::default()
        }
    }

    /// Whether any alarm is set. Asked for each publish.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.short.load(Ordering::Relaxed) != 0
    }

    /// Whether the alarm of this resource is set.
    #[must_use]
    pub fn is_short_of(&self, resource: Resource) -> bool {
        self.short.load(Ordering::Relaxed) & resource.bit() != 0
    }

    /// What `connection.blocked` says, in RabbitMQ's words, which know no journal; `None` while no
    /// alarm is set.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self.short.load(Ordering::Relaxed) {
            0 => None,
            MEMORY => Some("low on memory"),
            short if short & MEMORY == 0 => Some("low on disk"),
            _ => Some("low on memory & disk"),
        }
    }

    /// Sets or clears the alarm of one resource; says whether that is new. Everybody who waits is
    /// woken when the last alarm is cleared.
    pub fn set(&self, resource: Resource, is_short: bool) -> bool {
        let mut waiters = self.waiters.lock();
        let bit = resource.bit();
        let before = if is_short {
            self.short.fetch_or(bit, Ordering::Relaxed)
        } else {
            self.short.fetch_and(!bit, Ordering::Relaxed)
        };
        let due = match is_short || before != bit {
            true => HashMap::default(),
            false => std::mem::take(&mut *waiters),
        };
        drop(waiters);
        for who in due.values() {
            who.wake();
        }
        (before & bit != 0) != is_short
    }

    /// Wakes `who` once when no alarm is set any more. Returns `false`, and remembers nothing, if
    /// none is. A connection that asks again still waits once.
    pub fn wait(&self, connection: u64, who: &Arc<dyn Wake>) -> bool {
        let mut waiters = self.waiters.lock();
        if !self.is_set() {
            return false;
        }
        waiters.insert(connection, Arc::clone(who));
        true
    }

    /// The connection waits no more.
    pub fn leave(&self, connection: u64) {
        self.waiters.lock().remove(&connection);
    }

    /// Connections that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }
}

impl std::fmt::Debug for Alarms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarms")
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// FEATURES D4: whichever alarm clears first, publishers wait for the other one.
    #[test]
    fn d4_one_alarm_cleared_while_another_is_set_wakes_nobody() {
        let [memory, disk, _] = Resource::ALL;
        for (first, second) in [(memory, disk), (disk, memory)] {
            let alarms = Alarms::default();
            let woken = Arc::new(Woken::default());
            let who: Arc<dyn Wake> = woken.clone();
            assert!(!alarms.wait(7, &who), "nothing is set");
            assert!(alarms.set(memory, true) && alarms.set(disk, true));
            assert!(!alarms.set(disk, true), "it is set already");
            assert_eq!(alarms.reason(), Some("low on memory & disk"));
            assert!(alarms.wait(7, &who) && alarms.wait(7, &who));
            assert!(alarms.set(first, false));
            assert!(alarms.is_set() && alarms.is_short_of(second));
            let reason = format!("low on {}", second.name());
            assert_eq!(alarms.reason(), Some(&*reason));
            assert_eq!(woken.0.load(Ordering::Relaxed), 0);
            assert!(!alarms.set(first, false), "it is clear already");
            assert!(alarms.set(second, false));
            assert_eq!((alarms.is_set(), alarms.reason()), (false, None));
            assert_eq!(
                woken.0.load(Ordering::Relaxed),
                1,
                "once, however often it asked"
            );
            assert!(!alarms.set(second, false) && alarms.waiting() == 0);
            assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let alarms = Alarms::default();
        let woken = Arc::new(Woken::default());
        let who: Arc<dyn Wake> = woken.clone();
        alarms.set(Resource::Disk, true);
        for connection in 0..100 {
            assert!(alarms.wait(connection, &who));
        }
        for connection in 1..100 {
            alarms.leave(connection);
        }
        assert_eq!(alarms.waiting(), 1);
        alarms.leave(0);
        alarms.set(Resource::Disk, false);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        assert_eq!(Arc::strong_count(&woken), 2, "nothing holds it any more");
    }
}
