//! The result of a run as people read it.
//!
//! Owns the layout; numbers are the report's.

use std::fmt::Write;

use leveret_load::{Bucket, Report, Value};

/// What the summary shows of a report.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    what: String,
    sent: i64,
    received: i64,
    sent_per_s: f64,
    received_per_s: f64,
    lost: i64,
    duplicates: i64,
    order_violations: i64,
    /// Negative acknowledgements of publishers' messages.
    nacked: i64,
    /// Names and microseconds.
    latency: Vec<(&'static str, f64)>,
    buckets: Vec<Bucket>,
}

impl Figures {
    pub(super) fn of(report: &Report) -> Self {
        let word = |name| match report.get(name) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        let figure = |name| report.figure(name).unwrap_or_default();
        let percentiles = [
            ("p50", "lat_p50_us"),
            ("p90", "lat_p90_us"),
            ("p99", "lat_p99_us"),
            ("p99.9", "lat_p999_us"),
            ("max", "lat_max_us"),
        ];
        let known = |(label, name)| report.figure(name).map(|us| (label, us));
        Self {
            what: format!("{} {}", word("cmd"), word("what")),
            sent: report.count("sent"),
            received: report.count("received"),
            sent_per_s: figure("sent_per_s"),
            received_per_s: figure("received_per_s"),
            lost: report.count("lost"),
            duplicates: report.count("duplicates"),
            order_violations: report.count("order_violations"),
            nacked: report.count("nacked"),
            latency: percentiles.into_iter().filter_map(known).collect(),
            buckets: report.latency().to_vec(),
        }
    }
}

/// The summary, line ends included.
pub(super) fn text(figures: &Figures) -> String {
    let mut out = format!("{}\n\n", figures.what);
    for (name, n, per_s) in [
        ("sent", figures.sent, figures.sent_per_s),
        ("received", figures.received, figures.received_per_s),
    ] {
        let (n, per_s) = (grouped(n as f64), grouped(per_s));
        line(&mut out, &format!("{name:<14}{n:>15}  {per_s:>13} per s"));
    }
    for (name, n) in [
        ("lost", figures.lost),
        ("duplicates", figures.duplicates),
        ("out of order", figures.order_violations),
    ] {
        line(&mut out, &format!("{name:<14}{:>15}", grouped(n as f64)));
    }
    if figures.nacked > 0 {
        let n = grouped(figures.nacked as f64);
        line(&mut out, &format!("{:<14}{n:>15}", "refused"));
    }
    if figures.latency.is_empty() {
        return out;
    }
    let shown = figures.latency.iter();
    let shown = shown.map(|(label, us)| format!("{label} {}", duration(*us)));
    let shown = shown.collect::<Vec<_>>().join("  ");
    out.push('\n');
    line(&mut out, &format!("latency   {shown}"));
    histogram(&mut out, &figures.buckets);
    out
}

/// A row for each range from the first that has a latency to the last.
fn histogram(out: &mut String, buckets: &[Bucket]) {
    let is_full = |bucket: &Bucket| bucket.count > 0;
    let first = buckets.iter().position(is_full).unwrap_or_default();
    let end = buckets.iter().rposition(is_full).map_or(0, |last| last + 1);
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1);
    for bucket in buckets.get(first..end).unwrap_or_default() {
        let below = duration(bucket.below_ns as f64 / 1e3);
        let count = grouped(bucket.count as f64);
        // Rounded up: a range with one latency has a bar.
        let width = (bucket.count * BAR_COLUMNS).div_ceil(most.max(1));
        let bar = "█".repeat(width as usize);
        line(out, &format!("  < {below:>8}{count:>13}  {bar}"));
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Microseconds in the unit that reads best.
fn duration(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.0} µs")
    } else if us < 1_000_000.0 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// A whole number with a comma before each three digits.
pub(super) fn grouped(n: f64) -> String {
    Value::Integer(n.round() as i64).to_string()
}

/// The longest bar.
const BAR_COLUMNS: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(below_ns: u64, count: u64) -> Bucket {
        Bucket { below_ns, count }
    }

    #[test]
    fn o8_the_summary_is_readable() {
        let figures = Figures {
            what: "mqtt pub-sub pairs 1 → 1".into(),
            sent: 1_000_000,
            received: 999_998,
            sent_per_s: 200_000.4,
            received_per_s: 199_999.6,
            lost: 2,
            latency: vec![("p50", 12.4), ("p99", 1_234.0), ("max", 2_500_000.0)],
            buckets: vec![
                bucket(8_000, 0),
                bucket(16_000, 400),
                bucket(32_000, 0),
                bucket(64_000, 1),
                bucket(128_000, 0),
            ],
            ..Figures::default()
        };
        let bar = "█".repeat(40);
        let expected = format!(
            "mqtt pub-sub pairs 1 → 1\n\n\
             sent                1,000,000        200,000 per s\n\
             received              999,998        200,000 per s\n\
             lost                        2\n\
             duplicates                  0\n\
             out of order                0\n\n\
             latency   p50 12 µs  p99 1.2 ms  max 2.50 s\n\
             \x20 <    16 µs          400  {bar}\n\
             \x20 <    32 µs            0\n\
             \x20 <    64 µs            1  █\n"
        );
        assert_eq!(text(&figures), expected);
    }

    #[test]
    fn o8_without_samples_there_is_no_latency() {
        let figures = Figures {
            nacked: 3,
            ..Figures::default()
        };
        let shown = text(&figures);
        assert!(!shown.contains("latency"), "{shown}");
        assert!(
            shown.ends_with("refused                     3\n"),
            "{shown}"
        );
    }
}
