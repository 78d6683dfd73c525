//! The commands: which there are, and which flags each has.
//!
//! Owns the table. A command of two words stands under its first on the command line.

use clap::{ArgMatches, Command};

use crate::args::{self, Args, Tables};
use crate::failure::Failure;
use crate::flags::*;
use crate::report::Report;
use crate::scenario::{self, Job};
use crate::sockets::Reach;
use crate::{Progress, farm, null};

type Scenario = fn(&mut Job<'_>) -> Result<Report, Failure>;

/// One command.
struct Entry {
    /// Empty for a command of one word.
    group: &'static str,
    name: &'static str,
    about: &'static str,
    flags: Tables,
    run: Scenario,
}

impl Entry {
    fn words(&self) -> String {
        format!("{} {}", self.group, self.name).trim_start().into()
    }
}

/// A command with its flags, ready to run.
#[derive(Clone, Debug)]
pub struct Parsed {
    words: String,
    args: Args,
    run: Scenario,
}

impl Parsed {
    /// A command by its words and its flags, `--flag value` each.
    ///
    /// # Errors
    /// [`Failure::Argument`]: no such command, or flags that it does not have.
    pub fn new(
        words: &str,
        flags: impl IntoIterator<Item = (String, String)>,
        reach: Reach,
    ) -> Result<Self, Failure> {
        let mut line: Vec<String> = vec!["load".into()];
        line.extend(words.split_whitespace().map(String::from));
        line.extend(flags.into_iter().map(|(flag, v)| format!("--{flag}={v}")));
        let matches = command()
            .try_get_matches_from(line)
            .map_err(|why| Failure::argument(why.to_string()))?;
        Self::of(&matches, reach).ok_or_else(|| Failure::argument(format!("no command {words}")))
    }

    /// What the command line asks for; `None` for the null broker.
    #[must_use]
    pub fn of(matches: &ArgMatches, reach: Reach) -> Option<Self> {
        let (first, inner) = matches.subcommand()?;
        let (group, (name, inner)) = match inner.subcommand() {
            Some(second) => (first, second),
            None => ("", (first, inner)),
        };
        let entry = COMMANDS
            .iter()
            .find(|entry| entry.group == group && entry.name == name)?;
        Some(Self {
            words: entry.words(),
            args: Args::read(entry.flags, inner, reach),
            run: entry.run,
        })
    }

    /// Runs to the end; `progress` is called once a second.
    ///
    /// # Errors
    /// As [`Failure`] says. What goes wrong while measuring is no failure: it is the report's
    /// `error`.
    pub fn run(&self, progress: &mut dyn FnMut(&Progress)) -> Result<Report, Failure> {
        (self.run)(&mut Job {
            args: &self.args,
            progress,
        })
    }

    /// The report of a run that failed: still one line, so that who reads it has one for each run.
    #[must_use]
    pub fn failed(&self, why: &Failure) -> Report {
        let mut report = Report::default();
        report.put("cmd", self.words.as_str());
        if !self.args.text("label").is_empty() {
            report.put("label", self.args.text("label"));
        }
        report.put("error", why.to_string());
        report
    }
}

/// The command line of the `load` program.
#[must_use]
pub fn command() -> Command {
    let mut root = Command::new("load")
        .about("Measures an MQTT or AMQP 0-9-1 broker on this machine")
        .after_help("One JSON line goes to stdout, a summary to stderr.")
        .subcommand_required(true)
        .arg_required_else_help(true);
    for (group, about) in [("mqtt", "MQTT 3.1.1 or 5"), ("amqp", "AMQP 0-9-1")] {
        let mut sub = Command::new(group)
            .about(about)
            .subcommand_required(true)
            .arg_required_else_help(true);
        for entry in COMMANDS.iter().filter(|entry| entry.group == group) {
            sub = sub.subcommand(args::command(entry.name, entry.about, entry.flags));
        }
        root = root.subcommand(sub);
    }
    for entry in COMMANDS.iter().filter(|entry| entry.group.is_empty()) {
        root = root.subcommand(args::command(entry.name, entry.about, entry.flags));
    }
    let about = "A broker that only forwards, to find the generator's own ceiling";
    root.subcommand(args::command("null-broker", about, NULL_BROKER_TABLES))
}

/// Serves as the null broker if that is what the command line asks for.
///
/// # Errors
/// Flags, or ports that cannot be bound.
pub fn null_broker(matches: &ArgMatches) -> Option<Result<(), Failure>> {
    let inner = matches.subcommand_matches("null-broker")?;
    let args = Args::read(NULL_BROKER_TABLES, inner, Reach::Loopback);
    Some(null::serve(&args))
}

const NULL_BROKER_TABLES: Tables = &[NULL_BROKER];

const COMMANDS: &[Entry] = &[
    Entry {
        group: "mqtt",
        name: "pub-sub",
        about: "Fan-in, fan-out, pairs and shared subscriptions",
        flags: &[MQTT_PUB_SUB, SHAPE, MQTT, LOAD, COMMON],
        run: scenario::mqtt_pub_sub,
    },
    Entry {
        group: "mqtt",
        name: "latency",
        about: "One-way latency at a fixed low rate, from the time each message was due",
        flags: &[LATENCY, MQTT_PUB_SUB, SHAPE, MQTT, LOAD, COMMON],
        run: scenario::mqtt_latency,
    },
    Entry {
        group: "mqtt",
        name: "connect",
        about: "Opens many connections at a rate and holds them idle",
        flags: &[HOLD, HOLD_MQTT, MQTT, COMMON],
        run: farm::hold_mqtt,
    },
    Entry {
        group: "mqtt",
        name: "churn",
        about: "Connects, subscribes, disconnects in loops",
        flags: &[CHURN, MQTT, COMMON],
        run: farm::churn,
    },
    Entry {
        group: "mqtt",
        name: "sessions",
        about: "Makes many persistent sessions, then removes them",
        flags: &[SESSIONS, MQTT, COMMON],
        run: farm::sessions,
    },
    Entry {
        group: "mqtt",
        name: "takeover",
        about: "Connects again and again with client ids that are in use",
        flags: &[TAKEOVER, RETURNING, MQTT, COMMON],
        run: farm::takeover,
    },
    Entry {
        group: "mqtt",
        name: "reconnect",
        about: "Persistent sessions lose their connections and come back, in turn",
        flags: &[RECONNECT, RETURNING, MQTT, COMMON],
        run: farm::reconnect,
    },
    Entry {
        group: "mqtt",
        name: "retained",
        about: "Sets retained messages, then reads them with a wildcard",
        flags: &[RETAINED, MQTT, COMMON],
        run: scenario::retained,
    },
    Entry {
        group: "mqtt",
        name: "offline",
        about: "Queues for an absent QoS 1 subscriber, then drains",
        flags: &[OFFLINE, MQTT, COMMON],
        run: scenario::offline,
    },
    Entry {
        group: "mqtt",
        name: "storm",
        about: "Pairs flat out while other connections subscribe to many filters",
        flags: &[STORM, PAIRS, MQTT, LOAD, COMMON],
        run: scenario::storm,
    },
    Entry {
        group: "mqtt",
        name: "table",
        about: "Pairs flat out against an empty routing table, then against a full one",
        flags: &[TABLE, PAIRS, MQTT, LOAD, COMMON],
        run: scenario::table,
    },
    Entry {
        group: "mqtt",
        name: "stuck",
        about: "Pairs flat out without, then with a subscriber that reads nothing",
        flags: &[STUCK, PAIRS, MQTT, LOAD, COMMON],
        run: scenario::stuck,
    },
    Entry {
        group: "amqp",
        name: "pub-sub",
        about: "Publishers, queues and consumers",
        flags: &[AMQP_PUB_SUB, SHAPE, AMQP, LOAD, COMMON],
        run: scenario::amqp_pub_sub,
    },
    Entry {
        group: "amqp",
        name: "connect",
        about: "Opens many connections with a channel at a rate and holds them idle",
        flags: &[HOLD, AMQP, COMMON],
        run: farm::hold_amqp,
    },
    Entry {
        group: "amqp",
        name: "queues",
        about: "Declares many queues, looks at what they weigh, and deletes them",
        flags: &[QUEUES, AMQP, COMMON],
        run: scenario::queues,
    },
    Entry {
        group: "amqp",
        name: "queue-churn",
        about: "Declares, binds and deletes transient queues in loops",
        flags: &[QUEUE_CHURN, AMQP, COMMON],
        run: scenario::queue_churn,
    },
    Entry {
        group: "",
        name: "bridge",
        about: "MQTT to AMQP or back through a topic exchange",
        flags: &[BRIDGE, MQTT, AMQP, LOAD, COMMON],
        run: scenario::bridge,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        command().debug_assert();
        for entry in COMMANDS {
            let parsed = Parsed::new(&entry.words(), [], Reach::Loopback);
            assert_eq!(parsed.expect("defaults are right").words, entry.words());
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let label = |v: &str| [("label".to_owned(), v.to_owned())];
        assert!(Parsed::new("mqtt fly", [], Reach::Loopback).is_err());
        assert!(Parsed::new("mqtt pub-sub", label("--x"), Reach::Loopback).is_ok());
        let no_flag = [("qoss".to_owned(), "1".to_owned())];
        assert!(Parsed::new("mqtt pub-sub", no_flag, Reach::Loopback).is_err());
    }

    #[test]
    fn a_failed_run_still_has_a_line() {
        let flags = [("label".to_owned(), "x".to_owned())];
        let parsed = Parsed::new("bridge", flags, Reach::Loopback).expect("is right");
        let report = parsed.failed(&Failure::argument("no"));
        let line = "{\"cmd\":\"bridge\",\"label\":\"x\",\"error\":\"no\"}";
        assert_eq!(report.json(), line);
    }
}
