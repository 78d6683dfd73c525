//! How many bindings a busy thread changes for its connections, so that those who make thousands
//! do not take it from those who publish.
//!
//! A binding costs as much as dozens of deliveries. While a thread has too much to do and part of
//! that is deliveries, a connection that goes on making bindings is read again only when they are
//! paid for: [`BINDINGS_PER_MS`] of all its connections together. A few of each wait for nothing,
//! nor does anybody on a thread that has time.

use leveret_core::time::Time;

/// Bindings of all a thread's connections that are paid for in a millisecond.
const BINDINGS_PER_MS: u64 = 4;

/// Bindings after which a connection waits.
pub(super) const BINDINGS_FREE: u8 = 8;

/// How long a connection waits at most.
const REST_MS_MAX: u64 = 1_000;

/// Deliveries in a millisecond that make it worth while: a tenth of a thread's time or more.
const DELIVERIES_PER_MS: u64 = 50;

/// What deliveries are counted over, in milliseconds.
const LOOK_MS: u64 = 64;

/// One thread's account.
#[derive(Default)]
pub(super) struct Ration {
    /// Everything up to then is paid for, in bindings of [`BINDINGS_PER_MS`].
    spent: u64,
    /// When counting began.
    since: Time,
    deliveries: u64,
    strained: bool,
}

impl Ration {
    /// Deliveries were offered in a turn; whether the thread has too much to do is asked now and
    /// then.
    pub(super) fn count_deliveries(
        &mut self,
        now: Time,
        deliveries: usize,
        is_busy: impl FnOnce() -> bool,
    ) {
        self.deliveries += deliveries as u64;
        let passed_ms = now.since_ms(self.since);
        if passed_ms >= LOOK_MS {
            self.strained = self.deliveries >= passed_ms * DELIVERIES_PER_MS && is_busy();
            (self.since, self.deliveries) = (now, 0);
        }
    }

    /// Takes bindings out; says until when those who made them should wait, if at all.
    pub(super) fn take(&mut self, now: Time, bindings: usize) -> Option<Time> {
        if !self.strained {
            return None;
        }
        let paid = now.0 * BINDINGS_PER_MS;
        let bindings = bindings as u64;
        let most = paid + REST_MS_MAX * BINDINGS_PER_MS;
        self.spent = (self.spent.max(paid) + bindings).min(most);
        let until = Time(self.spent / BINDINGS_PER_MS);
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_wait_only_beside_deliveries() {
        let mut ration = Ration::default();
        let now = Time(1_000);
        assert_eq!(ration.take(now, 1_000), None, "nobody publishes");
        ration.count_deliveries(now, 0, || true);
        let busy = Time(1_000 + LOOK_MS);
        let enough = (LOOK_MS * DELIVERIES_PER_MS) as usize;
        ration.count_deliveries(busy, enough, || true);
        assert_eq!(ration.take(busy, 40), Some(busy.after_ms(10)));
        assert_eq!(
            ration.take(busy, 40),
            Some(busy.after_ms(20)),
            "all share it"
        );
        let later = busy.after_ms(30);
        assert_eq!(ration.take(later, 3), None, "time pays for them");
        let most = Some(later.after_ms(REST_MS_MAX));
        assert_eq!(ration.take(later, 1_000_000), most, "nobody waits longer");
        let calm = later.after_ms(LOOK_MS);
        ration.count_deliveries(calm, enough, || false);
        assert_eq!(ration.take(calm, 1_000), None, "there is time for all");
    }
}
