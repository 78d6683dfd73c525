//! The only place that reads clocks: everybody else is told the time.
//!
//! Owns the step from the system's clocks to [`Time`]. Must never run backwards: the wall clock is
//! read once, from then on the monotonic one counts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leveret_core::time::Time;
use tokio::time::Instant;

/// A clock that started at some moment of wall time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    started: Instant,
    /// Wall time at `started`, milliseconds since the Unix epoch.
    started_ms: u64,
}

impl Clock {
    /// Reads both clocks of the system.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that the ban names"
    )]
    pub fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::start_at(Time(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A clock for which it is `wall` now.
    #[must_use]
    pub fn start_at(wall: Time) -> Self {
        Self {
            started: Instant::now(),
            started_ms: wall.0,
        }
    }

    /// The time now, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Time {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Time(self.started_ms).after_ms(elapsed_ms)
    }

    /// When the clock started.
    #[must_use]
    pub fn started_at(&self) -> Time {
        Time(self.started_ms)
    }

    /// The moment of a timer that is to fire at `at`: never before [`Self::now`] has reached it.
    #[must_use]
    pub fn instant(&self, at: Time) -> Instant {
        let ahead_ms = at.since_ms(Time(self.started_ms)).min(TIMER_AHEAD_MS_MAX);
        self.started + Duration::from_millis(ahead_ms)
    }
}

/// A timer further ahead than this (a hundred years) fires early, which costs one look: the sum
/// with a moment must not overflow.
const TIMER_AHEAD_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_and_times_agree() {
        let began = Time(1_000);
        let clock = Clock::start_at(began);
        assert_eq!(clock.now(), began);
        tokio::time::sleep_until(clock.instant(began.after_ms(1_500))).await;
        assert_eq!(clock.now().since_ms(began), 1_500);
        // Neither end of time is an overflow.
        assert!(clock.instant(Time(0)) <= clock.instant(Time(u64::MAX)));
    }
}
