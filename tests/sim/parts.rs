//! What there is in a seed beside queues and plain sessions. A seed has some of it, by choices of
//! its own: one that has nothing of it takes the course that it took before there was any.

use crate::random::Random;

/// Each with clients and events of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Sessions expire, and more time passes.
    pub(crate) expiry: bool,
}

impl Parts {
    pub(crate) const NONE: Self = Self { expiry: false };
    pub(crate) const EXPIRY: Self = Self { expiry: true };

    /// What is in a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, 5);
        Self {
            expiry: random.percent(50),
        }
    }

    /// Whether time leaps now and then.
    pub(crate) fn has_leaps(self) -> bool {
        self.expiry
    }
}
