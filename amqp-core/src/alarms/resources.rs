//! Limits, and what there was when somebody last looked: what sets and clears alarms.
//!
//! Whoever watches the system calls [`Alarms::check_memory`] and [`Alarms::check_disk`] with what
//! it has read. A limit that is changed is held against the last reading at once.

use super::{Alarms, Resource};
use crate::options::{Options, ResourceLimit};
use crate::quantity;

/// Limits and readings, all in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resources {
    /// What memory may be used.
    pub memory_limit: ResourceLimit,
    /// What disk must be free.
    pub disk_limit: ResourceLimit,
    /// Memory that the process may have at all; unknown until it was read.
    pub memory_total: Option<u64>,
    /// Memory that it has.
    pub memory_used: Option<u64>,
    /// Disk that is free.
    pub disk_free: Option<u64>,
}

impl Default for Resources {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

impl Resources {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            memory_limit: options.memory_limit,
            disk_limit: options.disk_limit,
            memory_total: None,
            memory_used: None,
            disk_free: None,
        }
    }

    /// Memory above which the alarm is set: never more than there is. `None` while that is unknown.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        let total = self.memory_total?;
        Some(self.memory_limit.of(total).min(total))
    }

    /// Free disk below which the alarm is set. `None` if it depends on memory and that is unknown.
    #[must_use]
    pub fn disk_limit_bytes(&self) -> Option<u64> {
        match self.disk_limit {
            ResourceLimit::Absolute(bytes) => Some(bytes),
            relative @ ResourceLimit::Relative(_) => Some(relative.of(self.memory_total?)),
        }
    }

    /// Whether there is too little of a resource; `None` if that is unknown.
    fn is_short_of(&self, resource: Resource) -> Option<bool> {
        Some(match resource {
            Resource::Memory => self.memory_used? > self.memory_limit_bytes()?,
            Resource::Disk => self.disk_free? < self.disk_limit_bytes()?,
            // Nothing is measured: the journal says so.
            Resource::Journal => return None,
        })
    }
}

impl ResourceLimit {
    /// The limit in bytes where there are so many.
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Absolute(bytes) => bytes,
            Self::Relative(millionths) => quantity::part(millionths, total),
        }
    }

    /// The last word of the setting that says so.
    const fn word(self) -> &'static str {
        match self {
            Self::Absolute(_) => "absolute",
            Self::Relative(_) => "relative",
        }
    }
}

impl Alarms {
    /// Limits and the last readings.
    #[must_use]
    pub fn resources(&self) -> Resources {
        *self.resources.lock()
    }

    /// The process has `used` bytes of memory and may have `total`.
    pub fn check_memory(&self, used: u64, total: u64) {
        self.change(|held| {
            held.memory_used = Some(used);
            held.memory_total = Some(total);
        });
    }

    /// So many bytes are free where the data is.
    pub fn check_disk(&self, free: u64) {
        self.change(|held| held.disk_free = Some(free));
    }

    /// From now on so much memory may be used.
    pub fn set_memory_limit(&self, limit: ResourceLimit) {
        self.change(|held| held.memory_limit = limit);
        tracing::info!(?limit, "memory limit changed");
    }

    /// From now on so much disk must be free.
    pub fn set_disk_limit(&self, limit: ResourceLimit) {
        self.change(|held| held.disk_limit = limit);
        tracing::info!(?limit, "limit of free disk changed");
    }

    /// The journal is stuck for this reason, or is not.
    pub fn check_journal(&self, stuck: Option<&str>) {
        if self.set(Resource::Journal, stuck.is_some()) {
            match stuck {
                Some(why) => tracing::warn!(why, "the journal is stuck: publishers are blocked"),
                None => tracing::info!("the journal goes on: publishers are not blocked by it"),
            }
        }
    }

    /// More than half of the memory is used that may be: what need not be there should go.
    #[must_use]
    pub fn is_memory_scarce(&self) -> bool {
        let held = self.resources();
        let limit = held.memory_limit_bytes();
        held.memory_used
            .zip(limit)
            .is_some_and(|(used, limit)| used > limit / 2)
    }

    /// Changes what is known, and sets and clears what follows from it: one at a time, so that no
    /// old reading has the last word.
    fn change(&self, change: impl FnOnce(&mut Resources)) {
        let mut held = self.resources.lock();
        change(&mut held);
        for resource in Resource::ALL {
            if let Some(is_short) = held.is_short_of(resource)
                && self.set(resource, is_short)
            {
                tell(&held, resource, is_short);
            }
        }
    }
}

fn tell(held: &Resources, resource: Resource, is_short: bool) {
    match (resource, is_short) {
        (Resource::Memory, _) => {
            let (used, limit) = (held.memory_used, held.memory_limit_bytes());
            let (used_bytes, limit_bytes) = (used.unwrap_or(0), limit.unwrap_or(0));
            let setting = format!("vm_memory_high_watermark.{}", held.memory_limit.word());
            if is_short {
                tracing::warn!(
                    used_bytes,
                    limit_bytes,
                    setting,
                    "memory alarm set: {BLOCKED}"
                );
            } else {
                tracing::info!(used_bytes, limit_bytes, setting, "memory alarm cleared");
            }
        }
        // It is told where it is found out.
        (Resource::Journal, _) => {}
        (Resource::Disk, _) => {
            let (free, limit) = (held.disk_free, held.disk_limit_bytes());
            let (free_bytes, limit_bytes) = (free.unwrap_or(0), limit.unwrap_or(0));
            let setting = format!("disk_free_limit.{}", held.disk_limit.word());
            if is_short {
                tracing::warn!(
                    free_bytes,
                    limit_bytes,
                    setting,
                    "disk alarm set: {BLOCKED}"
                );
            } else {
                tracing::info!(free_bytes, limit_bytes, setting, "disk alarm cleared");
            }
        }
    }
}

const BLOCKED: &str = "publishers are blocked until it clears";

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceLimit::{Absolute, Relative};

    const GIB: u64 = 1 << 30;

    /// FEATURES D4: readings set and clear the memory alarm at its limit.
    #[test]
    fn d4_memory_is_checked_against_its_limit() {
        // (limit, total, used, alarm)
        let table = [
            (Relative(600_000), 10 * GIB, 6 * GIB, false),
            (Relative(600_000), 10 * GIB, 6 * GIB + 1, true),
            (Relative(0), 10 * GIB, 1, true),
            (Relative(quantity::WHOLE), GIB, GIB, false),
            (Absolute(5 * GIB), 10 * GIB, 5 * GIB, false),
            (Absolute(5 * GIB), 10 * GIB, 5 * GIB + 1, true),
            // More than there is.
            (Absolute(50 * GIB), 10 * GIB, 10 * GIB + 1, true),
        ];
        for (limit, total, used, expected) in table {
            let alarms = Alarms::default();
            alarms.set_memory_limit(limit);
            assert!(!alarms.is_set(), "nothing was read yet");
            alarms.check_memory(used, total);
            let found = alarms.is_short_of(Resource::Memory);
            assert_eq!(found, expected, "{limit:?} {total} {used}");
            assert!(!alarms.is_short_of(Resource::Disk));
            alarms.check_memory(0, total);
            assert!(!alarms.is_set());
        }
    }

    /// FEATURES D3: readings set and clear the disk alarm at its limit.
    #[test]
    fn d3_free_disk_is_checked_against_its_limit() {
        // (limit, free, alarm) with 4 GiB of memory
        let table = [
            (Absolute(50_000_000), 50_000_000, false),
            (Absolute(50_000_000), 49_999_999, true),
            (Absolute(0), 0, false),
            (Relative(1_500_000), 6 * GIB, false),
            (Relative(1_500_000), 6 * GIB - 1, true),
        ];
        for (limit, free, expected) in table {
            let alarms = Alarms::default();
            alarms.set_disk_limit(limit);
            alarms.check_memory(1, 4 * GIB);
            alarms.check_disk(free);
            assert_eq!(
                alarms.is_short_of(Resource::Disk),
                expected,
                "{limit:?} {free}"
            );
            alarms.check_disk(100 * GIB);
            assert!(!alarms.is_set());
        }
    }

    /// FEATURES D4: who changes a limit need not wait for the next look.
    #[test]
    fn d4_a_new_limit_holds_at_once() {
        let alarms = Alarms::new(&Options::default());
        alarms.check_memory(2 * GIB, 10 * GIB);
        alarms.check_disk(GIB);
        assert!(!alarms.is_set());
        alarms.set_memory_limit(Relative(100_000));
        alarms.set_disk_limit(Absolute(2 * GIB));
        assert_eq!(alarms.reason(), Some("low on memory & disk"));
        alarms.set_memory_limit(Absolute(3 * GIB));
        assert_eq!(alarms.reason(), Some("low on disk"));
        alarms.set_disk_limit(Relative(50_000));
        assert_eq!(alarms.reason(), None);
        let held = alarms.resources();
        assert_eq!(held.memory_limit_bytes(), Some(3 * GIB));
        assert_eq!(held.disk_limit_bytes(), Some(GIB / 2));
    }

    #[test]
    fn what_is_unknown_alarms_nobody() {
        let alarms = Alarms::default();
        alarms.set_disk_limit(Relative(quantity::WHOLE));
        alarms.check_disk(0);
        assert!(!alarms.is_set(), "nobody knows how much memory there is");
        assert_eq!(alarms.resources().disk_limit_bytes(), None);
        alarms.check_memory(0, 1);
        assert!(alarms.is_short_of(Resource::Disk));
    }
}
