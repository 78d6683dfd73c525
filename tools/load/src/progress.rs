//! What is told while a scenario runs: one line's worth a second.
//!
//! Owns the arithmetic of rates since the last line. Never prints.

use crate::engine::Tick;

/// Where a run of messages stands; told once a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Seconds since the first message.
    pub elapsed_s: f64,
    /// Whether figures count already; before, the broker warms up.
    pub measuring: bool,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages received so far.
    pub received: u64,
    /// Messages sent a second, since the last time this was told.
    pub sent_per_s: f64,
    /// Messages received a second, since the last time this was told.
    pub received_per_s: f64,
}

/// Turns ticks into progress.
#[derive(Default)]
pub(crate) struct Pace {
    begin: u64,
    last: Option<Tick>,
}

impl Pace {
    /// The progress to tell now, if a second has passed.
    pub(crate) fn tell(&mut self, tick: &Tick) -> Option<Progress> {
        let Some(last) = self.last else {
            self.begin = tick.t;
            self.last = Some(*tick);
            return None;
        };
        let passed_s = tick.t.saturating_sub(last.t) as f64 / 1e9;
        // A tick comes a little late, so the tenth may lie just before the second is full.
        if passed_s < 0.95 {
            return None;
        }
        self.last = Some(*tick);
        Some(Progress {
            elapsed_s: tick.t.saturating_sub(self.begin) as f64 / 1e9,
            measuring: tick.mark != 0,
            sent: tick.sent,
            received: tick.received,
            sent_per_s: (tick.sent - last.sent) as f64 / passed_s,
            received_per_s: (tick.received - last.received) as f64 / passed_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_once_a_second() {
        let mut pace = Pace::default();
        let tick = |tenths: u64, sent, received| Tick {
            t: 1 + tenths * 100_000_000,
            mark: tenths / 5,
            sent,
            received,
        };
        assert_eq!(pace.tell(&tick(0, 0, 0)), None);
        assert_eq!(pace.tell(&tick(5, 900, 800)), None);
        let told = pace.tell(&tick(20, 4_000, 2_000));
        let expected = Progress {
            elapsed_s: 2.0,
            measuring: true,
            sent: 4_000,
            received: 2_000,
            sent_per_s: 2_000.0,
            received_per_s: 1_000.0,
        };
        assert_eq!(told, Some(expected));
        assert_eq!(pace.tell(&tick(25, 4_100, 2_100)), None);
    }
}
