//! What is measured: the scenarios, each with the generator's command line.
//!
//! Owns that list. Starts nothing.

use anyhow::{Result, bail};

use super::metric::{self, Metric};
use super::peer::Kind;

/// Scenarios that share a table and a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Mqtt,
    Latency,
    Amqp,
    Memory,
    Scale,
}

/// Every group, in the order of the document.
pub(crate) const GROUPS: &[Group] = &[
    Group::Mqtt,
    Group::Latency,
    Group::Amqp,
    Group::Memory,
    Group::Scale,
];

impl Group {
    /// Its name in markers and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Latency => "latency",
            Self::Amqp => "amqp",
            Self::Memory => "memory",
            Self::Scale => "scale",
        }
    }

    /// What its plot shows.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT: work per second of broker CPU, Leveret ÷ peer (more is better)",
            Self::Latency => "Latency at 5,000 messages/s, Leveret ÷ peer (less is better)",
            Self::Amqp => {
                "AMQP 0-9-1 and bridge: messages per second of broker CPU, \
                 Leveret ÷ peer (more is better)"
            }
            Self::Memory => "Memory per connection or session, Leveret ÷ peer (less is better)",
            Self::Scale => "What remains under strain, each broker ÷ itself without it",
        }
    }

    /// Whether its plot shows every broker's own figure instead of ratios between brokers.
    pub(crate) fn is_of_itself(self) -> bool {
        self == Self::Scale
    }
}

/// The addresses that a scenario takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Mqtt,
    Amqp,
    Both,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) needs: Needs,
    /// Whether each run gets a broker started for it alone: an allocator that has grown once has
    /// room to give, and its memory says nothing.
    pub(crate) fresh: bool,
    /// Whether it runs in the first round only, since a run takes minutes.
    pub(crate) once: bool,
    /// After so many seconds the generator is ended.
    pub(crate) limit_s: u64,
    /// The generator's arguments without addresses; `{seconds}` stands for the measured time.
    pub(crate) words: &'static str,
    pub(crate) metrics: &'static [Metric],
    /// What is left out for whom, and why.
    pub(crate) omitted: &'static [(Kind, &'static str)],
    /// What the reader of a table must know; empty: nothing.
    pub(crate) remark: &'static str,
}

/// How long the generator may take where the scenario does not say otherwise, in seconds.
const LIMIT_S: u64 = 90;

const SYNCED: &str =
    "Leveret has these messages synced to disk before it acknowledges, the others do not";
const TABLES_OF_QUEUES: &[(Kind, &str)] = &[(
    Kind::RabbitMq,
    "so many queues and bindings in Mnesia take it many minutes",
)];

const NO_WILDCARDS: &[(Kind, &str)] = &[(
    Kind::RabbitMq,
    "its retained messages are not found by wildcards",
)];

impl Scenario {
    const fn mqtt(group: Group, name: &'static str, words: &'static str) -> Self {
        Self {
            name,
            group,
            needs: Needs::Mqtt,
            fresh: false,
            once: false,
            limit_s: LIMIT_S,
            words,
            metrics: metric::MESSAGES,
            omitted: &[],
            remark: "",
        }
    }

    const fn amqp(name: &'static str, words: &'static str) -> Self {
        Self {
            needs: Needs::Amqp,
            ..Self::mqtt(Group::Amqp, name, words)
        }
    }

    const fn both(self) -> Self {
        Self {
            needs: Needs::Both,
            ..self
        }
    }

    const fn reads(self, metrics: &'static [Metric]) -> Self {
        Self { metrics, ..self }
    }

    const fn in_group(self, group: Group) -> Self {
        Self { group, ..self }
    }

    const fn fresh(self) -> Self {
        Self {
            fresh: true,
            ..self
        }
    }

    const fn once(self) -> Self {
        Self { once: true, ..self }
    }

    const fn within(self, limit_s: u64) -> Self {
        Self { limit_s, ..self }
    }

    const fn without(self, omitted: &'static [(Kind, &'static str)]) -> Self {
        Self { omitted, ..self }
    }

    const fn remarked(self, remark: &'static str) -> Self {
        Self { remark, ..self }
    }

    /// Why it is not run on such a broker, if it is not.
    pub(crate) fn omits(&self, kind: Kind) -> Option<&'static str> {
        let found = self.omitted.iter().find(|(omitted, _)| *omitted == kind);
        found.map(|(_, reason)| *reason)
    }

    /// Whether the generator sets the pace, so that a rate says nothing of the broker.
    pub(crate) fn is_paced(&self) -> bool {
        self.words.contains("--rate")
    }

    /// The generator's arguments without addresses.
    pub(crate) fn arguments(&self, seconds: u32) -> Vec<String> {
        let seconds = seconds.to_string();
        let words = self.words.split_whitespace();
        words
            .map(|word| word.replace("{seconds}", &seconds))
            .collect()
    }
}

/// The scenarios of these names in the table's order; all of them when none is named.
///
/// # Errors
/// When a name is unknown.
pub(crate) fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>> {
    for name in only {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario called {name}; there are {}", names.join(", "));
        }
    }
    let wanted =
        |scenario: &&Scenario| only.is_empty() || only.iter().any(|name| name == scenario.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

/// Every scenario. Memory comes first, so that a broker given by `--peer` is as young as it can be.
/// QoS 1 and 2 subscribers get 100 in flight, which each broker's set-up allows.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::mqtt(
        Group::Memory,
        "idle_10k",
        "mqtt connect --conns 10k --rate 2000 --settle 1 --hold 4 --max-seconds 30",
    )
    .reads(metric::IDLE)
    .fresh(),
    Scenario::amqp(
        "amqp_idle",
        "amqp connect --conns 5k --rate 1000 --settle 1 --hold 4 --max-seconds 30",
    )
    .in_group(Group::Memory)
    .reads(metric::IDLE)
    .fresh(),
    Scenario::mqtt(
        Group::Memory,
        "sessions",
        "mqtt sessions --count 100k --filters 3 --max-seconds 120",
    )
    .reads(metric::SESSIONS)
    .without(TABLES_OF_QUEUES)
    .fresh()
    .once()
    .within(300),
    Scenario::mqtt(
        Group::Mqtt,
        "fanin_q0",
        "mqtt pub-sub --pattern fan-in --pubs 20 --subs 1 --qos 0 --size 64 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "fanout_q0",
        "mqtt pub-sub --pattern fan-out --pubs 1 --subs 50 --qos 0 --size 64 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "fanout_q0_1k",
        "mqtt pub-sub --pattern fan-out --pubs 1 --subs 1000 --qos 0 --size 64 \
         --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "pairs_q0",
        "mqtt pub-sub --pattern pairs --pubs 10 --qos 0 --size 64 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "mqtt5_plain",
        "mqtt pub-sub --mqtt-version 5 --pattern pairs --pubs 10 --qos 0 --size 64 \
         --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "mqtt5_props",
        "mqtt pub-sub --mqtt-version 5 --user-properties 5 --aliases --pattern pairs --pubs 10 \
         --qos 0 --size 64 --seconds {seconds}",
    )
    .remarked("five User Properties each, and topic aliases both ways"),
    Scenario::mqtt(
        Group::Mqtt,
        "pairs_q0_4k",
        "mqtt pub-sub --pattern pairs --pubs 10 --qos 0 --size 4096 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "pairs_q1",
        "mqtt pub-sub --pattern pairs --pubs 10 --qos 1 --window 100 --sub-inflight 100 \
         --size 64 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "pairs_q2",
        "mqtt pub-sub --pattern pairs --pubs 10 --qos 2 --window 100 --sub-inflight 100 \
         --size 64 --seconds {seconds}",
    )
    .remarked("delivered as QoS 1 by Leveret and RabbitMQ"),
    Scenario::mqtt(
        Group::Mqtt,
        "pairs_q1_kept",
        "mqtt pub-sub --pattern pairs --pubs 10 --qos 1 --window 100 --sub-inflight 100 \
         --size 64 --persistent --seconds {seconds}",
    )
    .remarked(SYNCED),
    Scenario::mqtt(
        Group::Mqtt,
        "shared_q1",
        "mqtt pub-sub --pattern shared --pubs 4 --subs 4 --qos 1 --window 250 \
         --sub-inflight 100 --size 64 --seconds {seconds}",
    ),
    Scenario::mqtt(
        Group::Mqtt,
        "churn",
        "mqtt churn --concurrency 64 --seconds {seconds}",
    )
    .reads(metric::CHURN),
    Scenario::mqtt(
        Group::Mqtt,
        "takeover",
        "mqtt takeover --rate 100 --seconds 5",
    )
    .reads(metric::RETURNING)
    .fresh(),
    Scenario::mqtt(
        Group::Mqtt,
        "reconnect_15k",
        "mqtt reconnect --sessions 15k --rate 5000 --seconds 5",
    )
    .reads(metric::RETURNING)
    .fresh(),
    Scenario::mqtt(
        Group::Mqtt,
        "retained_10k",
        "mqtt retained --count 10k --qos 1 --repeat 30 --max-seconds 8",
    )
    .reads(metric::RETAINED),
    Scenario::mqtt(
        Group::Mqtt,
        "retained_200k",
        "mqtt retained --count 200k --qos 1 --repeat 20 --max-seconds 60",
    )
    .reads(metric::RETAINED)
    .without(NO_WILDCARDS)
    .fresh()
    .within(300),
    Scenario::mqtt(
        Group::Mqtt,
        "retained_1m",
        "mqtt retained --count 999999 --qos 1 --repeat 1 --max-seconds 120",
    )
    .reads(metric::RETAINED_MANY)
    .without(NO_WILDCARDS)
    .fresh()
    .once()
    .within(400),
    Scenario::mqtt(
        Group::Mqtt,
        "offline_50k",
        "mqtt offline --count 50k --max-seconds 8",
    )
    .reads(metric::OFFLINE)
    .remarked(SYNCED),
    Scenario::mqtt(
        Group::Latency,
        "lat_q0_5k",
        "mqtt latency --pubs 10 --qos 0 --rate 5000 --size 64 --seconds {seconds}",
    )
    .reads(metric::LATENCY),
    Scenario::mqtt(
        Group::Latency,
        "lat_q1_5k",
        "mqtt latency --pubs 10 --qos 1 --rate 5000 --size 64 --seconds {seconds}",
    )
    .reads(metric::LATENCY),
    Scenario::amqp(
        "amqp_auto",
        "amqp pub-sub --pubs 4 --subs 4 --queues 4 --auto-ack --size 64 --seconds {seconds}",
    ),
    Scenario::amqp(
        "amqp_manual",
        "amqp pub-sub --pubs 4 --subs 4 --queues 4 --prefetch 200 --ack-every 50 --size 64 \
         --seconds {seconds}",
    ),
    Scenario::amqp(
        "amqp_confirms",
        "amqp pub-sub --pubs 4 --subs 4 --queues 4 --confirms --window 250 --prefetch 200 \
         --ack-every 50 --size 64 --seconds {seconds}",
    ),
    Scenario::amqp(
        "amqp_safe",
        "amqp pub-sub --pubs 4 --subs 4 --queues 4 --persistent --durable --confirms \
         --window 250 --prefetch 200 --ack-every 50 --size 64 --seconds {seconds}",
    )
    .remarked(SYNCED),
    Scenario::amqp(
        "amqp_plain",
        "amqp pub-sub --pubs 1 --subs 1 --queues 1 --prefetch 200 --ack-every 50 --size 64 \
         --seconds {seconds}",
    ),
    Scenario::amqp(
        "amqp_priority",
        "amqp pub-sub --pubs 1 --subs 1 --queues 1 --prefetch 200 --ack-every 50 --size 64 \
         --max-priority 10 --seconds {seconds}",
    )
    .remarked("as amqp_plain, through a queue with priorities"),
    Scenario::amqp(
        "amqp_headers",
        "amqp pub-sub --exchange headers --bindings 10k --pubs 1 --subs 1 --queues 1 --auto-ack \
         --size 64 --seconds {seconds}",
    ),
    Scenario::amqp(
        "amqp_queue_churn",
        "amqp queue-churn --conns 4 --window 16 --seconds {seconds}",
    )
    .reads(metric::QUEUE_CHURN),
    Scenario::amqp("amqp_queues", "amqp queues --count 100k --max-seconds 120")
        .in_group(Group::Memory)
        .reads(metric::QUEUES)
        .without(TABLES_OF_QUEUES)
        .fresh()
        .once()
        .within(300),
    Scenario::amqp(
        "bridge_m2a",
        "bridge --direction mqtt-amqp --pubs 4 --qos 1 --window 250 --prefetch 200 \
         --ack-every 50 --size 64 --seconds {seconds}",
    )
    .both(),
    Scenario::amqp(
        "bridge_a2m",
        "bridge --direction amqp-mqtt --pubs 1 --subs 1 --qos 0 --size 64 --seconds {seconds}",
    )
    .both(),
    Scenario::mqtt(
        Group::Scale,
        "storm",
        "mqtt storm --subscribes 100k --pubs 10 --qos 0 --size 64 --max-seconds 60",
    )
    .reads(metric::STORM)
    .without(TABLES_OF_QUEUES)
    .within(150),
    Scenario::mqtt(
        Group::Scale,
        "table",
        "mqtt table --bindings 1M --wildcards 10k --pubs 10 --qos 0 --size 64 \
         --seconds {seconds} --max-seconds 300",
    )
    .reads(metric::TABLE)
    .without(TABLES_OF_QUEUES)
    .fresh()
    .once()
    .within(700),
    Scenario::mqtt(
        Group::Scale,
        "stuck",
        "mqtt stuck --pubs 100 --qos 1 --stuck-qos 0,1 --size 64 --seconds {seconds}",
    )
    .reads(metric::STUCK)
    .fresh()
    .within(150),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_in_the_order_of_the_table() {
        let names = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            let chosen = chosen(&only).map_err(|error| error.to_string());
            chosen.map(|list| {
                list.iter()
                    .map(|scenario| scenario.name)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(names(&["churn", "fanin_q0"]), Ok(vec!["fanin_q0", "churn"]));
        assert_eq!(names(&[]).map(|list| list.len()), Ok(SCENARIOS.len()));
        let error = names(&["churn", "nope"]).expect_err("it is unknown");
        assert!(error.starts_with("no scenario called nope; there are idle_10k, "));
    }

    #[test]
    fn seconds_are_filled_in() {
        for scenario in SCENARIOS {
            let arguments = scenario.arguments(7);
            assert!(arguments.iter().all(|word| !word.contains(['{', '}'])));
            let timed = scenario.words.contains("{seconds}");
            let told = arguments.windows(2).any(|pair| pair == ["--seconds", "7"]);
            assert_eq!(timed, told, "{}", scenario.name);
        }
    }

    #[test]
    fn names_are_distinct_and_every_group_is_plotted() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            let later = &SCENARIOS[index + 1..];
            assert!(later.iter().all(|other| other.name != scenario.name));
        }
        for group in GROUPS {
            let mut members = SCENARIOS.iter().filter(|scenario| scenario.group == *group);
            let plotted = |scenario: &Scenario| scenario.metrics.iter().any(|m| m.plotted);
            assert!(members.any(plotted), "{}", group.name());
        }
    }
}
