//! Take-over storms: how often connections with one identifier have replaced each other lately.
//!
//! Owns a table of fixed size that the first eviction makes: whoever comes with any number of
//! identifiers makes it no larger. Two identifiers that meet in one place share it: the one that
//! came first keeps it until it has been quiet.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::limits::TAKEOVERS_WATCHED_MAX;
use crate::time::Time;

/// More evictions than these of one identifier within [`STORM_MS`] are a storm.
const CALM_MAX: usize = 5;

/// In how much time.
const STORM_MS: u64 = 10_000;

/// How long a storm is not told of again.
const TOLD_MS: u64 = 60_000;

/// What is known of the identifiers that were taken over last.
#[derive(Default)]
pub(super) struct Storms {
    hasher: RandomState,
    /// Empty before the first eviction.
    watched: Vec<Watched>,
}

/// One identifier.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// The identifier's, so that no long one is kept.
    hash: u64,
    /// When it was taken over: the last times, `count` modulo their number being the oldest.
    times: [Time; CALM_MAX + 1],
    count: u64,
    told: Option<Time>,
}

impl Watched {
    fn last(&self) -> Time {
        let last = self.count.saturating_sub(1) as usize % self.times.len();
        self.times[last]
    }

    /// Whether another identifier may have its place.
    fn is_quiet(&self, now: Time) -> bool {
        let ms = self.told.map_or(STORM_MS, |_| TOLD_MS);
        self.count == 0 || now.since_ms(self.last()) >= ms
    }
}

impl Storms {
    /// A connection with this identifier was replaced. Says how many have been since it was first
    /// watched, if that is a storm to be told of.
    pub(super) fn evicted(&mut self, id: &str, now: Time) -> Option<u64> {
        let hash = self.hasher.hash_one(id);
        self.watched
            .resize(TAKEOVERS_WATCHED_MAX, Watched::default());
        let place = &mut self.watched[hash as usize % TAKEOVERS_WATCHED_MAX];
        if place.hash != hash || place.count == 0 {
            if !place.is_quiet(now) {
                return None;
            }
            *place = Watched {
                hash,
                ..Watched::default()
            };
        }
        let next = place.count as usize % place.times.len();
        place.times[next] = now;
        place.count += 1;
        let oldest = place.times[place.count as usize % place.times.len()];
        let storms = place.count > CALM_MAX as u64 && now.since_ms(oldest) < STORM_MS;
        let told = place.told.is_some_and(|at| now.since_ms(at) < TOLD_MS);
        if !storms || told {
            return None;
        }
        place.told = Some(now);
        Some(place.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(storms: &mut Storms, id: &str, at_ms: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let times = at_ms.into_iter().map(|ms| Time(1_000_000 + ms));
        times.filter_map(|now| storms.evicted(id, now)).collect()
    }

    #[test]
    fn m9_more_than_five_takeovers_in_ten_seconds_are_a_storm() {
        let mut storms = Storms::default();
        assert!(told(&mut storms, "a", (0..5).map(|n| n * 10)).is_empty());
        assert_eq!(told(&mut storms, "a", [9_999]), [6]);
        let mut storms = Storms::default();
        assert!(told(&mut storms, "a", (0..600).map(|n| n * 2_000)).is_empty());
        let mut storms = Storms::default();
        assert!(told(&mut storms, "a", [0, 1, 2, 3, 4, 10_000, 10_001]).is_empty());
        assert_eq!(
            told(&mut storms, "a", [10_002, 10_003, 10_004, 10_005]),
            [11]
        );
    }

    #[test]
    fn m9_a_storm_is_told_of_once_a_minute() {
        let mut storms = Storms::default();
        let hundred_a_second = (0..18_000).map(|n| n * 10);
        assert_eq!(told(&mut storms, "a", hundred_a_second).len(), 3);
    }

    /// FEATURES R3: a million identifiers take no more memory than one.
    #[test]
    fn r3_storms_of_any_number_of_identifiers_take_one_table() {
        let mut storms = Storms::default();
        for n in 0..1_000_000_u64 {
            storms.evicted(&n.to_string(), Time(1_000_000 + n));
        }
        assert_eq!(storms.watched.capacity(), TAKEOVERS_WATCHED_MAX);
        // A storm of one is seen in between, wherever others were before it.
        let later = 1_000_000 + 2 * TOLD_MS;
        assert_eq!(told(&mut storms, "a", (0..6).map(|n| later + n)), [6]);
    }
}
