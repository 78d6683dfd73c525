//! What is read from the generator's reports, and how it is to be understood.
//!
//! Owns the names of the JSON fields. Computes nothing.

/// What a figure is about; on a noisy machine some kinds are not to be quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// So many a second.
    Rate,
    /// Microseconds.
    Latency,
    /// So many a second of the broker's CPU.
    PerCpu,
    /// Bytes or KiB.
    Memory,
    /// A share or a ratio within one run.
    Share,
}

impl Class {
    /// Whether other programs on the machine move it so much that it is not worth quoting.
    pub(crate) fn is_spoilt_by_noise(self) -> bool {
        matches!(self, Self::Rate | Self::Latency)
    }
}

/// How the rounds become one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    Median,
    /// The least; for a tail that one hiccup of the machine decides.
    Least,
}

/// One figure of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Its name in tables, without an arrow.
    pub(crate) label: &'static str,
    /// Its field in the generator's report.
    pub(crate) key: &'static str,
    pub(crate) class: Class,
    /// Whether less is better.
    pub(crate) less: bool,
    pub(crate) pick: Pick,
    /// Whether the group's plot shows it.
    pub(crate) plotted: bool,
}

impl Metric {
    const fn more(class: Class, label: &'static str, key: &'static str) -> Self {
        Self {
            label,
            key,
            class,
            less: false,
            pick: Pick::Median,
            plotted: false,
        }
    }

    const fn less(class: Class, label: &'static str, key: &'static str) -> Self {
        Self {
            less: true,
            ..Self::more(class, label, key)
        }
    }

    const fn plotted(self) -> Self {
        Self {
            plotted: true,
            ..self
        }
    }

    /// Its name with an arrow when less is better.
    pub(crate) fn title(&self) -> String {
        let arrow = if self.less { " ↓" } else { "" };
        format!("{}{arrow}", self.label)
    }
}

const PER_CPU: &str = "recv_per_broker_cpu_s";

/// Of a scenario in which messages flow.
pub(crate) const MESSAGES: &[Metric] = &[
    Metric::more(Class::Rate, "received/s", "received_per_s"),
    Metric::more(Class::PerCpu, "received per broker CPU s", PER_CPU).plotted(),
];

/// Of idle connections.
pub(crate) const IDLE: &[Metric] = &[
    Metric::less(Class::Memory, "RSS bytes/conn", "rss_per_conn_bytes").plotted(),
    Metric::more(Class::Rate, "connects/s", "connects_per_s"),
    Metric::more(
        Class::PerCpu,
        "connects per broker CPU s",
        "connects_per_broker_cpu_s",
    ),
    Metric::less(Class::Share, "idle CPU %", "idle_cpu_pct"),
];

/// Of connections that come and go.
pub(crate) const CHURN: &[Metric] = &[
    Metric::more(Class::Rate, "cycles/s", "cycles_per_s"),
    Metric::more(Class::PerCpu, "cycles per broker CPU s", PER_CPU).plotted(),
    Metric::less(Class::Latency, "p99 µs", "cycle_lat_p99_us"),
];

/// Of sessions that come back.
pub(crate) const RETURNING: &[Metric] = &[
    Metric::more(Class::PerCpu, "returns per broker CPU s", PER_CPU).plotted(),
    Metric::less(Class::Latency, "p99 µs", "conn_lat_p99_us"),
    Metric::less(Class::Memory, "RSS KiB afterwards", "broker_rss_after_kb"),
];

/// Of retained messages.
pub(crate) const RETAINED: &[Metric] = &[
    Metric::more(Class::Rate, "set/s", "set_per_s"),
    Metric::more(Class::Rate, "delivered/s", "deliver_per_s"),
    Metric::more(Class::PerCpu, "delivered per broker CPU s", PER_CPU).plotted(),
];

/// Of so many retained messages that what they weigh counts.
pub(crate) const RETAINED_MANY: &[Metric] = &[
    Metric::more(Class::PerCpu, "delivered per broker CPU s", PER_CPU),
    Metric::less(Class::Memory, "RSS bytes/message", "rss_per_retained_bytes"),
    Metric::less(Class::Memory, "RSS KiB, set", "broker_rss_set_kb"),
    Metric::less(Class::Memory, "RSS KiB, at most", "broker_rss_hwm_kb"),
];

/// Of messages for a session that is away.
pub(crate) const OFFLINE: &[Metric] = &[
    Metric::more(Class::Rate, "queued/s", "offline_publish_per_s"),
    Metric::more(Class::Rate, "drained/s", "drain_per_s"),
    Metric::more(Class::PerCpu, "messages per broker CPU s", PER_CPU).plotted(),
];

/// Of messages one at a time.
pub(crate) const LATENCY: &[Metric] = &[
    Metric::less(Class::Latency, "p50 µs", "lat_p50_us").plotted(),
    Metric::less(Class::Latency, "p99 µs", "lat_p99_us").plotted(),
    Metric {
        pick: Pick::Least,
        ..Metric::less(Class::Latency, "p99 µs, best round", "lat_p99_us")
    },
    Metric::more(Class::PerCpu, "messages per broker CPU s", PER_CPU),
];

/// Of persistent sessions.
pub(crate) const SESSIONS: &[Metric] = &[
    Metric::less(Class::Memory, "RSS bytes/session", "rss_per_session_bytes").plotted(),
    Metric::more(Class::Rate, "sessions/s", "sessions_per_s"),
    Metric::more(
        Class::PerCpu,
        "sessions per broker CPU s",
        "sessions_per_broker_cpu_s",
    ),
];

/// Of queues that are declared and stay.
pub(crate) const QUEUES: &[Metric] = &[
    Metric::less(Class::Memory, "RSS bytes/queue", "rss_per_queue_bytes").plotted(),
    Metric::more(
        Class::PerCpu,
        "declared per broker CPU s",
        "declared_per_broker_cpu_s",
    ),
];

/// Of queues that come and go.
pub(crate) const QUEUE_CHURN: &[Metric] = &[
    Metric::more(Class::Rate, "cycles/s", "cycles_per_s"),
    Metric::more(Class::PerCpu, "cycles per broker CPU s", PER_CPU).plotted(),
];

/// Of subscriptions made while messages flow.
pub(crate) const STORM: &[Metric] = &[
    Metric::more(Class::Rate, "received/s before", "before_received_per_s"),
    Metric::more(Class::Rate, "received/s during", "during_received_per_s"),
    Metric::more(Class::Share, "during/before", "during_over_before").plotted(),
    Metric::more(
        Class::Share,
        "worst 100 ms/before",
        "during_min_over_before",
    ),
    Metric::more(Class::Share, "after/before", "after_over_before"),
    Metric::more(Class::Rate, "subscribes/s", "subscribes_per_s"),
];

/// Of messages beside a large table of bindings.
pub(crate) const TABLE: &[Metric] = &[
    Metric::less(Class::Share, "cost of the table", "cost_ratio").plotted(),
    Metric::more(
        Class::PerCpu,
        "received per broker CPU s, empty",
        "empty_recv_per_broker_cpu_s",
    ),
    Metric::more(
        Class::PerCpu,
        "received per broker CPU s, full",
        "full_recv_per_broker_cpu_s",
    ),
    Metric::more(Class::Rate, "bindings/s", "binds_per_s"),
    Metric::less(Class::Memory, "RSS bytes/binding", "rss_per_binding_bytes"),
];

/// Of messages beside a subscriber that does not read.
pub(crate) const STUCK: &[Metric] = &[
    Metric::more(Class::Rate, "others' received/s", "during_received_per_s"),
    Metric::more(Class::Share, "during/before", "during_over_before").plotted(),
    Metric::more(
        Class::PerCpu,
        "others' received per broker CPU s",
        "during_recv_per_broker_cpu_s",
    ),
    Metric::less(Class::Memory, "peak RSS KiB", "broker_rss_peak_kb"),
    // A drop of QoS 0 is allowed; one of QoS 1 within a session is not.
    Metric::less(Class::Share, "its QoS 0 lost", "stuck_q0_lost"),
    Metric::less(Class::Share, "its QoS 1 lost", "stuck_q1_lost"),
];
