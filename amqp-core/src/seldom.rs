//! What is logged seldom, however often a client causes it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::TOLD_AGAIN_MS;
use crate::time::Time;

/// When it may be told again.
#[derive(Default)]
pub(crate) struct Seldom(AtomicU64);

impl Seldom {
    /// Whether it is time; whoever hears so tells it.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        let next = now.after_ms(TOLD_AGAIN_MS).0;
        now.0 >= due
            && self
                .0
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES A4: a client that declares without end does not fill the log.
    #[test]
    fn a4_what_is_told_is_not_told_again_soon() {
        let told = Seldom::default();
        let times = [0, 1, TOLD_AGAIN_MS - 1, TOLD_AGAIN_MS, TOLD_AGAIN_MS + 1];
        let due: Vec<_> = times.map(Time).map(|now| told.is_due(now)).into();
        assert_eq!(due, [true, false, false, true, false]);
    }
}
