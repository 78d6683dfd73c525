//! What the figures must reach, and whether they do.
//!
//! Owns the table of targets and the verdict. Measures nothing.

use super::metric::Class;
use super::number::{number, ratio};
use super::summary::Summary;
use Yardstick::{Itself, Mosquitto, RabbitMq};

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yardstick {
    Mosquitto,
    RabbitMq,
    /// The bound is the figure's own.
    Itself,
}

impl Yardstick {
    /// The name of that broker, if it is one.
    fn broker(self) -> Option<&'static str> {
        match self {
            Self::Mosquitto => Some("mosquitto"),
            Self::RabbitMq => Some("rabbitmq"),
            Self::Itself => None,
        }
    }
}

/// On which side of the bound the figure must be; the bound itself is good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One target: a figure of a scenario as a multiple of the yardstick's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    scenario: &'static str,
    key: &'static str,
    yardstick: Yardstick,
    bound: Bound,
}

/// What came of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// The yardstick was not measured.
    NotJudged,
}

impl Verdict {
    /// The word in tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NotJudged => "not judged",
        }
    }
}

/// A target with its verdict, ready for a table.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) scenario: &'static str,
    pub(crate) figure: String,
    /// The yardstick's name.
    pub(crate) beside: &'static str,
    /// The bound, as "at least 14×".
    pub(crate) wanted: String,
    pub(crate) measured: String,
    pub(crate) verdict: Verdict,
    /// What the reader should know of this row; often empty.
    pub(crate) note: String,
}

/// Every target of the scenarios that were measured.
pub(crate) fn judge(summary: &Summary) -> Vec<Judged> {
    let measured = |target: &&Target| {
        let mut scenarios = summary.scenarios.iter();
        scenarios.any(|scenario| scenario.name == target.scenario)
    };
    let targets = TARGETS.iter().filter(measured);
    targets.map(|target| judged(target, summary)).collect()
}

/// The bound of a plotted bar: of the ratio to `broker`, or with `None` of the figure itself.
pub(crate) fn bound(scenario: &str, key: &str, broker: Option<&str>) -> Option<f64> {
    let found = TARGETS.iter().find(|target| {
        let same = target.scenario == scenario && target.key == key;
        same && target.yardstick.broker() == broker
    });
    found.map(|target| match target.bound {
        Bound::AtLeast(bound) | Bound::AtMost(bound) => bound,
    })
}

fn judged(target: &Target, summary: &Summary) -> Judged {
    let own = summary.value(target.scenario, target.key, summary.subject());
    let yardstick = target
        .yardstick
        .broker()
        .map(|broker| summary.value(target.scenario, target.key, broker));
    let (measured, verdict) = match (own, yardstick) {
        (None, _) => ("no figure".to_owned(), Verdict::Missed),
        (Some(own), None) => (number(own), target.bound.verdict(own, 1.0)),
        (Some(own), Some(None)) => (number(own), Verdict::NotJudged),
        (Some(own), Some(Some(peer))) => {
            let shown = if peer == 0.0 {
                format!("{} beside 0", number(own))
            } else {
                ratio(own / peer)
            };
            (shown, target.bound.verdict(own, peer))
        }
    };
    let metric = summary.metric(target.scenario, target.key);
    Judged {
        scenario: target.scenario,
        figure: metric.map_or_else(|| target.key.to_owned(), |metric| metric.label.to_owned()),
        beside: target.yardstick.broker().unwrap_or("itself"),
        wanted: target.bound.words(target.yardstick != Itself),
        measured,
        verdict,
        note: note(target, summary),
    }
}

/// A rate below mosquitto's, and anything that went wrong in our own runs.
fn note(target: &Target, summary: &Summary) -> String {
    let mut notes = Vec::new();
    let mut scenarios = summary.scenarios.iter();
    let flat_out = scenarios.find(|one| one.name == target.scenario && !one.is_paced());
    let rate = flat_out.and_then(|scenario| {
        let mut metrics = scenario.metrics.iter();
        metrics.find(|metric| metric.class == Class::Rate)
    });
    if let Some(rate) = rate {
        let own = summary.value(target.scenario, rate.key, summary.subject());
        let peer = summary.value(target.scenario, rate.key, "mosquitto");
        if let (Some(own), Some(peer)) = (own, peer)
            && own < peer
        {
            let share = ratio(own / peer);
            notes.push(format!("{} below mosquitto's: {share}", rate.label));
        }
    }
    let wrong = summary.wrong(target.scenario, summary.subject());
    if !wrong.is_empty() {
        notes.push(wrong);
    }
    notes.join("; ")
}

impl Bound {
    fn verdict(self, own: f64, yardstick: f64) -> Verdict {
        // Multiplied, not divided: a yardstick of 0 is a bound of 0.
        let met = match self {
            Self::AtLeast(bound) => own >= yardstick * bound,
            Self::AtMost(bound) => own <= yardstick * bound,
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }

    fn words(self, of_another: bool) -> String {
        let (words, bound) = match self {
            Self::AtLeast(bound) => ("at least", bound),
            Self::AtMost(bound) => ("at most", bound),
        };
        if of_another {
            format!("{words} {bound}×")
        } else {
            format!("{words} {}", number(bound))
        }
    }
}

const fn at_least(
    bound: f64,
    yardstick: Yardstick,
    scenario: &'static str,
    key: &'static str,
) -> Target {
    Target {
        scenario,
        key,
        yardstick,
        bound: Bound::AtLeast(bound),
    }
}

const fn at_most(
    bound: f64,
    yardstick: Yardstick,
    scenario: &'static str,
    key: &'static str,
) -> Target {
    Target {
        bound: Bound::AtMost(bound),
        ..at_least(bound, yardstick, scenario, key)
    }
}

const PER_CPU: &str = "recv_per_broker_cpu_s";
const PER_CONN: &str = "rss_per_conn_bytes";
/// Bytes of resident memory per idle MQTT connection.
const CONNECTION_BYTES_MAX: f64 = 1_536.0;
/// Bytes per idle AMQP connection with its channel.
const AMQP_CONNECTION_BYTES_MAX: f64 = 6.0 * 1_024.0;
/// Bytes per offline session with three subscriptions.
const SESSION_BYTES_MAX: f64 = 1_024.0;

const TARGETS: &[Target] = &[
    at_least(14.0, Mosquitto, "pairs_q0", PER_CPU),
    at_least(18.0, Mosquitto, "pairs_q1", PER_CPU),
    at_least(20.0, Mosquitto, "pairs_q2", PER_CPU),
    at_least(5.0, Mosquitto, "pairs_q0_4k", PER_CPU),
    at_least(12.0, Mosquitto, "fanin_q0", PER_CPU),
    at_least(15.0, Mosquitto, "fanout_q0", PER_CPU),
    at_least(15.0, Mosquitto, "fanout_q0_1k", PER_CPU),
    at_least(18.0, Mosquitto, "shared_q1", PER_CPU),
    at_least(1.2, Mosquitto, "churn", PER_CPU),
    at_least(10.0, Mosquitto, "retained_200k", PER_CPU),
    at_least(1.4, Mosquitto, "lat_q0_5k", PER_CPU),
    at_most(1.25, Mosquitto, "lat_q0_5k", "lat_p50_us"),
    at_most(1.25, Mosquitto, "lat_q0_5k", "lat_p99_us"),
    at_least(1.4, Mosquitto, "lat_q1_5k", PER_CPU),
    at_most(1.25, Mosquitto, "lat_q1_5k", "lat_p50_us"),
    at_most(1.25, Mosquitto, "lat_q1_5k", "lat_p99_us"),
    at_most(CONNECTION_BYTES_MAX, Itself, "idle_10k", PER_CONN),
    at_most(1.0, Mosquitto, "idle_10k", "idle_cpu_pct"),
    at_least(21.0, RabbitMq, "amqp_auto", PER_CPU),
    at_least(18.0, RabbitMq, "amqp_manual", PER_CPU),
    at_least(18.0, RabbitMq, "amqp_confirms", PER_CPU),
    at_least(20.0, RabbitMq, "bridge_m2a", PER_CPU),
    at_least(20.0, RabbitMq, "bridge_a2m", PER_CPU),
    at_most(AMQP_CONNECTION_BYTES_MAX, Itself, "amqp_idle", PER_CONN),
    at_most(
        SESSION_BYTES_MAX,
        Itself,
        "sessions",
        "rss_per_session_bytes",
    ),
    at_most(1.3, Itself, "table", "cost_ratio"),
    at_least(0.5, Itself, "storm", "during_over_before"),
    at_least(0.9, Itself, "stuck", "during_over_before"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scenario::SCENARIOS;
    use crate::compare::summary::tests::summary;

    #[test]
    fn targets_name_figures_that_exist() {
        for target in TARGETS {
            let mut scenarios = SCENARIOS.iter();
            let scenario = scenarios.find(|scenario| scenario.name == target.scenario);
            let scenario = scenario.unwrap_or_else(|| panic!("no {}", target.scenario));
            let known = scenario.metrics.iter().any(|one| one.key == target.key);
            assert!(known, "{} has no {}", target.scenario, target.key);
        }
    }

    #[test]
    fn bounds_judge() {
        let cases = [
            (Bound::AtLeast(14.0), 14.0, 1.0, Verdict::Met),
            (Bound::AtLeast(14.0), 13.9, 1.0, Verdict::Missed),
            (Bound::AtMost(1.25), 125.0, 100.0, Verdict::Met),
            (Bound::AtMost(1.25), 126.0, 100.0, Verdict::Missed),
            (Bound::AtMost(1.0), 0.0, 0.0, Verdict::Met),
            (Bound::AtMost(1.0), 0.1, 0.0, Verdict::Missed),
        ];
        for (bound, own, yardstick, verdict) in cases {
            assert_eq!(bound.verdict(own, yardstick), verdict, "{bound:?} {own}");
        }
    }

    /// (our report, mosquitto's report, verdict, measured, note)
    #[test]
    fn rows_say_how_it_stands() {
        let good = "{\"received\":9,\"received_per_s\":5,\"recv_per_broker_cpu_s\":28}";
        let peer = "{\"received\":9,\"received_per_s\":4,\"recv_per_broker_cpu_s\":2}";
        let slow = "{\"received\":9,\"received_per_s\":3,\"recv_per_broker_cpu_s\":28,\
                    \"lost\":2}";
        let cases = [
            (good, Some(peer), Verdict::Met, "14.0×", ""),
            (
                peer,
                Some(good),
                Verdict::Missed,
                "0.071×",
                "received/s below mosquitto's: 0.80×",
            ),
            (
                slow,
                Some(peer),
                Verdict::Met,
                "14.0×",
                "received/s below mosquitto's: 0.75×; 2 lost",
            ),
            (good, None, Verdict::NotJudged, "28.0", ""),
            ("", Some(peer), Verdict::Missed, "no figure", "no result"),
        ];
        for (own, peer, verdict, measured, note) in cases {
            let mut runs = vec![("pairs_q0", "leveret", own)];
            runs.extend(peer.map(|peer| ("pairs_q0", "mosquitto", peer)));
            let rows = judge(&summary(&["leveret", "mosquitto"], &runs));
            let [row] = rows.as_slice() else {
                panic!("pairs_q0 has one target");
            };
            assert_eq!(row.verdict, verdict, "{own}");
            assert_eq!(row.measured, measured, "{own}");
            assert_eq!(row.note, note, "{own}");
            assert_eq!(
                (row.beside, row.wanted.as_str()),
                ("mosquitto", "at least 14×")
            );
        }
    }

    #[test]
    fn a_figure_may_be_its_own_yardstick() {
        let runs = [("table", "leveret", "{\"cost_ratio\":1.4}")];
        let rows = judge(&summary(&["leveret"], &runs));
        let row = rows.first().expect("table has a target");
        assert_eq!((row.verdict, row.beside), (Verdict::Missed, "itself"));
        assert_eq!(
            (row.wanted.as_str(), row.measured.as_str()),
            ("at most 1.30", "1.40")
        );
    }
}
