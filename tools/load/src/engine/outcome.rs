//! What a run came to.
//!
//! Owns the figures that every run of messages has, and their names.

use super::Engine;
use super::course::Course;
use crate::clock::now;
use crate::report::{self, Report};
use crate::usage::{self, Snap};

/// Counts and times of a run; counts begin with measuring.
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Warm-up included.
    pub(crate) sent_in_all: u64,
    pub(crate) received: u64,
    pub(crate) lost: i64,
    pub(crate) window_s: f64,
    pub(crate) sent_in_window: u64,
    pub(crate) received_in_window: u64,
    pub(crate) total_s: f64,
    pub(crate) a: Snap,
    pub(crate) b: Snap,
    pub(crate) rss_peak_kb: u64,
    pub(crate) stalls: u64,
    pub(crate) written_off: u64,
    pub(crate) timed_out: bool,
}

impl Outcome {
    /// Messages a second that came within the measured time.
    pub(crate) fn received_per_s(&self) -> f64 {
        self.received_in_window as f64 / self.window_s
    }

    /// CPU seconds of the broker, drain included.
    pub(crate) fn broker_cpu_s(&self) -> f64 {
        report::cpu_between(&self.a, &self.b)
    }

    /// Messages received for each CPU second of the broker, if its CPU was looked at.
    pub(crate) fn received_per_cpu_s(&self) -> Option<f64> {
        let cpu = self.broker_cpu_s();
        (cpu > 0.0 && self.received > 0).then(|| self.received as f64 / cpu)
    }
}

impl Engine {
    pub(super) fn outcome(&self, mut course: Course) -> Outcome {
        let ledger = &self.ledger;
        let t = now();
        let b = usage::snap(course.pid);
        if course.stop == 0 {
            course.stop = t;
            course.sent_at_stop = ledger.sent();
            course.received_at_stop = ledger.received;
        }
        // By count or from a stored backlog: until the last message came. By time: what came
        // within the time.
        let by_count = ledger.limits.messages > 0 || self.preset;
        let (end, sent, received) = if by_count {
            let end = if ledger.sinks.is_empty() {
                t
            } else {
                course.last_progress
            };
            (end, ledger.sent(), ledger.received)
        } else {
            (course.stop, course.sent_at_stop, course.received_at_stop)
        };
        let groups = ledger.groups.iter();
        let expected: u64 = groups.map(|g| g.sent * g.sinks.len() as u64).sum();
        let good: u64 = ledger.sinks.iter().map(|s| s.good).sum();
        let seconds = |end: u64| end.max(course.mark + 1).abs_diff(course.mark) as f64 / 1e9;
        Outcome {
            sent: ledger.sent() - course.sent_at_mark,
            sent_in_all: ledger.sent(),
            received: ledger.received - course.received_at_mark,
            lost: expected as i64 - good as i64,
            window_s: seconds(end),
            sent_in_window: sent - course.sent_at_mark,
            received_in_window: received - course.received_at_mark,
            total_s: seconds(t),
            a: course.a,
            b,
            rss_peak_kb: course.rss_peak_kb.max(b.broker.rss_kb),
            stalls: course.stalls,
            written_off: ledger.groups.iter().map(|g| g.written_off).sum(),
            timed_out: course.timed_out,
        }
    }

    /// The figures of a run of messages.
    pub(crate) fn report(&self, r: &mut Report, o: &Outcome, pid: u32) {
        let ledger = &self.ledger;
        r.blame(ledger.error.clone());
        if o.timed_out {
            r.blame(Some("timed out before everything was acknowledged".into()));
        }
        r.put("window_s", o.window_s);
        r.put("total_s", o.total_s);
        r.put("sent", o.sent);
        r.put("received", o.received);
        r.put("sent_per_s", o.sent_in_window as f64 / o.window_s);
        r.put("received_per_s", o.received_per_s());
        r.put("lost", o.lost);
        r.put("duplicates", ledger.duplicates);
        r.put("order_violations", ledger.late);
        r.put("dup_flagged", ledger.dup_flagged);
        r.put("foreign", ledger.foreign);
        r.put("acked", ledger.acked);
        r.put("nacked", ledger.nacked);
        let owed = ledger.publishers.iter().map(|p| p.owed);
        r.put("unsent", owed.sum::<u64>());
        r.put("stalls", o.stalls);
        r.put("written_off", o.written_off);
        r.histogram("lat", &ledger.latency);
        if !ledger.ack_latency.is_empty() {
            r.histogram("ack_lat", &ledger.ack_latency);
        }
        r.cpu(pid, &o.a, &o.b, o.received, o.sent);
        if pid != 0 {
            r.put("broker_rss_peak_kb", o.rss_peak_kb);
        }
    }
}
