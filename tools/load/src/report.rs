//! What a run found: named figures in order, as one flat JSON line or as a summary.
//!
//! Owns the names of the figures that several scenarios share. Never measures.

use hdrhistogram::Histogram;

use crate::usage::Snap;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A figure with a unit that its name ends in; three decimals in JSON, `null` if it is none.
    Float(f64),
    /// A count.
    Integer(i64),
    /// Yes or no.
    Truth(bool),
}

/// How many latencies lay in a range: a row of a histogram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// The upper end of the range, nanoseconds; it begins where the row before ends.
    pub below_ns: u64,
    /// How many.
    pub count: u64,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    fields: Vec<(String, Value)>,
    latency: Vec<Bucket>,
}

impl Report {
    /// All figures, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, v)| (name.as_str(), v))
    }

    /// A figure by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|f| f.0 == name).map(|f| &f.1)
    }

    /// A count by its name; 0 if there is none.
    #[must_use]
    pub fn count(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Value::Integer(n)) => *n,
            _ => 0,
        }
    }

    /// A figure by its name; `None` if it was not measured.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Value::Float(v)) => Some(*v),
            Some(Value::Integer(n)) => Some(*n as f64),
            _ => None,
        }
    }

    /// What ended the run before its time, or makes its figures doubtful.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self.get("error") {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The histogram of latencies, each row twice as wide as the one before; empty if nothing was
    /// sampled.
    #[must_use]
    pub fn latency(&self) -> &[Bucket] {
        &self.latency
    }

    /// One flat object, without a line end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::from("{");
        for (i, (name, value)) in self.fields.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&format!("\"{name}\":"));
            match value {
                Value::Text(text) => put_text(&mut out, text),
                Value::Float(v) if v.is_finite() => {
                    out.push_str(&format!("{}", (v * 1_000.0).round() / 1_000.0));
                }
                Value::Float(_) => out.push_str("null"),
                Value::Integer(n) => out.push_str(&n.to_string()),
                Value::Truth(b) => out.push_str(&b.to_string()),
            }
        }
        out.push('}');
        out
    }

    /// The figures to look at first, a line each.
    #[must_use]
    pub fn summary(&self) -> String {
        let word = |name| self.get(name).map(Value::to_string).unwrap_or_default();
        let mut out = format!("{} {}\n", word("cmd"), word("what"));
        for name in SUMMARY {
            if let Some(value) = self.get(name) {
                out.push_str(&format!("  {name:<28} {value}\n"));
            }
        }
        out
    }

    /// Sets a figure; a later value takes the place of an earlier one.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.fields.iter_mut().find(|f| f.0 == name) {
            Some(field) => field.1 = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Says what went wrong, unless something was said before.
    pub(crate) fn blame(&mut self, error: Option<String>) {
        if let (Some(error), None) = (error, self.error()) {
            self.put("error", error);
        }
    }

    /// Latency figures in microseconds; only the count where nothing was sampled.
    pub(crate) fn histogram(&mut self, name: &str, h: &Histogram<u64>) {
        self.put(&format!("{name}_n"), h.len());
        if h.is_empty() {
            return;
        }
        for (label, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            let us = h.value_at_quantile(q) as f64 / 1e3;
            self.put(&format!("{name}_{label}_us"), us);
        }
        self.put(&format!("{name}_max_us"), h.max() as f64 / 1e3);
        if name == "lat" {
            let rows = h.iter_log(HISTOGRAM_FIRST_NS, 2.0);
            self.latency = rows
                .map(|row| Bucket {
                    below_ns: row.value_iterated_to(),
                    count: row.count_since_last_iteration(),
                })
                .collect();
        }
    }

    /// What was burnt between two instants: broker, this generator, everyone else.
    pub(crate) fn cpu(&mut self, pid: u32, a: &Snap, b: &Snap, received: u64, sent: u64) {
        let wall = (b.t - a.t) as f64 / 1e9;
        let own = b.own_cpu_s - a.own_cpu_s;
        let busy = b.machine.0 - a.machine.0;
        let stolen = b.machine.1 - a.machine.1;
        self.put("cpu_window_s", wall);
        self.put("gen_cpu_s", own);
        if sent + received > 0 {
            self.put("gen_us_per_msg", own * 1e6 / sent.max(received) as f64);
        }
        if pid != 0 && b.broker.processes == 0 {
            self.put("error", "the broker's process is gone");
        } else if pid != 0 {
            let cpu = cpu_between(a, b);
            self.put("broker_cpu_s", cpu);
            self.put("broker_cores", cpu / wall.max(1e-9));
            for (name, n) in [
                ("recv_per_broker_cpu_s", received),
                ("sent_per_broker_cpu_s", sent),
            ] {
                if cpu > 0.0 && n > 0 {
                    self.put(name, n as f64 / cpu);
                }
            }
            let switches = b.broker.context_switches;
            let switches = switches.saturating_sub(a.broker.context_switches);
            self.put("broker_ctx_switches", switches);
            self.put("broker_rss_start_kb", a.broker.rss_kb);
            self.put("broker_rss_now_kb", b.broker.rss_kb);
            self.put("broker_rss_hwm_kb", b.broker.hwm_kb);
            self.put("broker_procs", b.broker.processes);
            self.put("broker_threads", b.broker.threads);
            let others = (busy - cpu - own) / wall.max(1e-9);
            self.put("other_cores", others.max(0.0));
        }
        self.put("steal_cores", stolen / wall.max(1e-9));
    }
}

/// A histogram of nanoseconds from 100 ns to ten minutes, to three digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    let (least, most) = (100, 600_000_000_000);
    Histogram::new_with_bounds(least, most, 3)
        .expect("2 × least is below most, and 3 digits are few")
}

/// CPU seconds of the broker between two instants.
pub(crate) fn cpu_between(a: &Snap, b: &Snap) -> f64 {
    (b.broker.cpu_s - a.broker.cpu_s).max(0.0)
}

/// Bytes of the broker's RSS that came between two instants, for each of n things.
pub(crate) fn rss_per(a: &Snap, b: &Snap, n: u64) -> f64 {
    (b.broker.rss_kb as f64 - a.broker.rss_kb as f64) * 1_024.0 / n.max(1) as f64
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Float(v) if v.abs() >= 1_000.0 => f.write_str(&grouped(*v as i64)),
            Self::Float(v) => write!(f, "{v:.3}"),
            Self::Integer(n) => f.write_str(&grouped(*n)),
            Self::Truth(b) => write!(f, "{b}"),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Integer(n as i64)
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Integer(n as i64)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Integer(n.into())
    }
}

impl From<u8> for Value {
    fn from(n: u8) -> Self {
        Self::Integer(n.into())
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Integer(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Truth(b)
    }
}

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// With a comma before each three digits.
fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if n < 0 {
        out.insert(0, '-');
    }
    out
}

/// The first row of a latency histogram ends at 8 µs; loopback is not quicker.
const HISTOGRAM_FIRST_NS: u64 = 8_000;

const SUMMARY: &[&str] = &[
    "error",
    "granted_window",
    "sent",
    "received",
    "sent_per_s",
    "received_per_s",
    "lost",
    "duplicates",
    "order_violations",
    "stalls",
    "dup_flagged",
    "lat_p50_us",
    "lat_p90_us",
    "lat_p99_us",
    "lat_p999_us",
    "lat_max_us",
    "ack_lat_p50_us",
    "ack_lat_p99_us",
    "connected",
    "failed",
    "connects_per_s",
    "cycles",
    "cycles_per_s",
    "conn_lat_p50_us",
    "conn_lat_p99_us",
    "conn_lat_max_us",
    "cycle_lat_p50_us",
    "cycle_lat_p99_us",
    "rss_per_conn_bytes",
    "idle_cpu_pct",
    "sessions",
    "sessions_per_s",
    "rss_per_session_bytes",
    "removed_per_s",
    "subscribed",
    "subscribe_s",
    "subscribes_per_s",
    "bound",
    "binds_per_s",
    "rss_per_binding_bytes",
    "before_received_per_s",
    "during_received_per_s",
    "during_min_received_per_s",
    "after_received_per_s",
    "during_over_before",
    "empty_received_per_s",
    "full_received_per_s",
    "rate_ratio",
    "cost_ratio",
    "stuck_q0_lost",
    "stuck_q1_lost",
    "stuck_q2_lost",
    "set_per_s",
    "deliver_per_s",
    "offline_publish_per_s",
    "drain_per_s",
    "session_present",
    "broker_cpu_s",
    "broker_cores",
    "recv_per_broker_cpu_s",
    "sent_per_broker_cpu_s",
    "broker_rss_start_kb",
    "broker_rss_before_kb",
    "broker_rss_now_kb",
    "broker_rss_peak_kb",
    "gen_cpu_s",
    "gen_us_per_msg",
    "other_cores",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_flat_and_escaped() {
        let mut report = Report::default();
        report.put("a", "x\"y\n");
        report.put("b", 1.23456);
        report.put("c", f64::NAN);
        report.put("b", 2_u64);
        assert_eq!(
            report.json(),
            "{\"a\":\"x\\\"y\\u000a\",\"b\":2,\"c\":null}"
        );
    }

    #[test]
    fn figures_read_as_people_write_them() {
        let table: [(Value, &str); 5] = [
            (1_234_567_i64.into(), "1,234,567"),
            (Value::Integer(-1_000), "-1,000"),
            (Value::Float(1_234.9), "1,234"),
            (Value::Float(0.5), "0.500"),
            (true.into(), "true"),
        ];
        for (value, text) in table {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn the_first_blame_stands() {
        let mut report = Report::default();
        report.blame(None);
        assert_eq!(report.error(), None);
        report.blame(Some("one".into()));
        report.blame(Some("two".into()));
        assert_eq!(report.error(), Some("one"));
    }
}
