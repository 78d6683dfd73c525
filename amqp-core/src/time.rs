//! Time as the core sees it: a parameter. `net` reads the clock, tests and simulations make it up.

/// Milliseconds since the Unix epoch that never run backwards while the process lives.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub u64);

impl Time {
    /// This much later; stays at the end of time instead of overflowing.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`, 0 if that is the wrong way round.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the Unix epoch, as AMQP's timestamp property has it.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}
