//! The scripts under `xtask/interop` and how one is run and judged.
//!
//! Owns the list. A script prints `ok: <check>` for each check that holds, and ends with anything
//! but 0 if one does not; a script that checks nothing has failed.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Target;
use super::broker::Broker;
use super::toolbox::Toolbox;
use crate::process;

/// How long one script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);

/// What a script is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Php,
    Python,
    Ruby,
    /// Part of this program.
    Rust,
}

/// One script.
pub(crate) struct Script {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its file under `xtask/interop`; in Rust, beside this one.
    pub(crate) file: &'static str,
    pub(crate) language: Language,
    /// Whether the smoke runs it.
    pub(crate) smoke: bool,
    /// The broker that passes it as well, since it knows nothing of Leveret.
    also: Option<Target>,
}

/// What came of a script.
pub(crate) struct Outcome {
    pub(crate) passed: bool,
    pub(crate) checks: usize,
    pub(crate) output: String,
}

/// Every script, the smoke first.
pub(crate) const SCRIPTS: &[Script] = &[
    own("mosquitto", "mosquitto.py", Language::Python, true),
    own("tutorials", "tutorials.py", Language::Python, true),
    own("bridge", "bridge.py", Language::Python, true),
    own("node_amqplib", "node_amqplib.js", Language::Node, true),
    own("paho_v5", "paho_v5.py", Language::Python, true),
    own("sessions", "sessions.py", Language::Python, false),
    own("vhosts", "vhosts.py", Language::Python, false),
    own("plugins", "plugins.py", Language::Python, false),
    own("node_mqtt", "node_mqtt.js", Language::Node, false),
    own("terminal", "terminal.py", Language::Python, false),
    own(
        "asyncio_clients",
        "asyncio_clients.py",
        Language::Python,
        false,
    ),
    Script {
        also: Some(Target::Mosquitto),
        ..own("rumqttc", "rumqttc.rs", Language::Rust, false)
    },
    Script {
        also: Some(Target::Mosquitto),
        ..own("aiomqtt", "aiomqtt_features.py", Language::Python, false)
    },
    portable("pika", "pika_features.py", Language::Python),
    portable("aio_pika", "aio_pika_features.py", Language::Python),
    portable("kombu", "kombu_features.py", Language::Python),
    portable("celery", "celery_features.py", Language::Python),
    portable("amqplib", "node_amqplib_features.js", Language::Node),
    portable("rascal", "rascal_features.js", Language::Node),
    portable("bunny", "bunny_features.rb", Language::Ruby),
    portable("php_amqplib", "php_amqplib_features.php", Language::Php),
];

/// A script about what Leveret says and does, some of it by its own commands.
const fn own(name: &'static str, file: &'static str, language: Language, smoke: bool) -> Script {
    Script {
        name,
        file,
        language,
        smoke,
        also: None,
    }
}

/// A script that RabbitMQ passes too.
const fn portable(name: &'static str, file: &'static str, language: Language) -> Script {
    Script {
        name,
        file,
        language,
        smoke: false,
        also: Some(Target::Rabbitmq),
    }
}

impl Script {
    /// Whether such a broker should pass it.
    pub(crate) fn fits(&self, target: Target) -> bool {
        target == Target::Leveret || self.also == Some(target)
    }

    /// Runs the script to its end, or ends it when it overruns.
    ///
    /// # Errors
    /// When it cannot be started or its output cannot be kept; its own failure is an [`Outcome`].
    pub(crate) fn run(&self, toolbox: &Toolbox, broker: &Broker) -> Result<Outcome> {
        let path = broker.directory().join(format!("{}.log", self.name));
        let log = File::create(&path)?;
        let mut command = toolbox.interpreter(self)?;
        broker.describe(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.file))?;
        let status = process::wait(&mut child, SCRIPT_LIMIT)?;
        let mut output = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let checks = output
            .lines()
            .filter(|line| line.starts_with("ok: "))
            .count();
        match status {
            None => output.push_str(&format!("\nended after {SCRIPT_LIMIT:?}")),
            Some(_) if checks == 0 => output.push_str("\nno check ran"),
            Some(_) => {}
        }
        let passed = checks > 0 && status.is_some_and(|status| status.success());
        Ok(Outcome {
            passed,
            checks,
            output,
        })
    }
}
