//! Heartbeats: when to send one, and when the peer must be taken for dead.
//!
//! Owns two points in time; reads no clock. AMQP 0-9-1 §4.2.7.

use leveret_core::time::Time;

/// The heart of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heartbeat {
    /// The negotiated delay in milliseconds; 0 is none.
    interval_ms: u64,
    sent: Time,
    received: Time,
}

impl Heartbeat {
    /// Begins with the delay of `connection.tune-ok` in seconds; 0 switches heartbeats off.
    pub(crate) fn start(&mut self, interval_s: u16, now: Time) {
        *self = Self {
            interval_ms: u64::from(interval_s) * 1000,
            sent: now,
            received: now,
        };
    }

    /// Something was sent.
    pub(crate) fn sent(&mut self, now: Time) {
        self.sent = now;
    }

    /// Something was received.
    pub(crate) fn received(&mut self, now: Time) {
        self.received = now;
    }

    /// Nothing was sent for half the delay: it is time for a heartbeat.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.interval_ms > 0 && self.send_at() <= now
    }

    /// Nothing was received for two delays.
    // AMQP 0-9-1 §4.2.7: a peer that detects no traffic for two heartbeat intervals or longer
    // should close the connection.
    pub(crate) fn is_dead(&self, now: Time) -> bool {
        self.interval_ms > 0 && self.dead_at() <= now
    }

    /// The seconds of silence that [`Self::is_dead`] allows.
    pub(crate) fn silence_s(&self) -> u64 {
        2 * self.interval_ms / 1000
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Time> {
        (self.interval_ms > 0).then(|| self.send_at().min(self.dead_at()))
    }

    fn send_at(&self) -> Time {
        self.sent.after_ms(self.interval_ms / 2)
    }

    fn dead_at(&self) -> Time {
        self.received.after_ms(2 * self.interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_after_half_and_dies_after_two_intervals() {
        let mut heart = Heartbeat::default();
        heart.start(10, Time(1_000));
        // (now, due, dead)
        for (now, due, dead) in [
            (5_999, false, false),
            (6_000, true, false),
            (20_999, true, false),
            (21_000, true, true),
        ] {
            assert_eq!(
                (heart.is_due(Time(now)), heart.is_dead(Time(now))),
                (due, dead),
                "{now}"
            );
        }
        assert_eq!(heart.next(), Some(Time(6_000)));
        heart.sent(Time(20_000));
        assert_eq!(heart.next(), Some(Time(21_000)));
        heart.received(Time(20_500));
        assert_eq!(heart.next(), Some(Time(25_000)));
        heart.start(0, Time(1_000));
        assert_eq!(heart.next(), None);
        assert!(!heart.is_due(Time(1 << 40)) && !heart.is_dead(Time(1 << 40)));
    }
}
