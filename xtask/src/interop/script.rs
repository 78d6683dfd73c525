//! The scripts under `xtask/interop` and how one is run and judged.
//!
//! Owns the list. A script prints `ok: <check>` for each check and ends with anything but 0 at its
//! first failure; a script that checks nothing has failed.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::broker::Broker;
use super::toolbox::Toolbox;
use crate::process;

/// How long one script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);

/// What a script is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Python,
}

/// One script.
pub(crate) struct Script {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its file under `xtask/interop`.
    pub(crate) file: &'static str,
    pub(crate) language: Language,
    /// Whether the smoke runs it.
    pub(crate) smoke: bool,
    /// Whether it knows nothing of Leveret, so that RabbitMQ passes it as well.
    pub(crate) portable: bool,
}

/// What came of a script.
pub(crate) struct Outcome {
    pub(crate) passed: bool,
    pub(crate) checks: usize,
    pub(crate) output: String,
}

/// Every script, the smoke first.
pub(crate) const SCRIPTS: &[Script] = &[
    python("mosquitto", "mosquitto.py", true),
    python("tutorials", "tutorials.py", true),
    python("bridge", "bridge.py", true),
    node("node_amqplib", "node_amqplib.js", true),
    python("paho_v5", "paho_v5.py", true),
    python("sessions", "sessions.py", false),
    python("vhosts", "vhosts.py", false),
    python("plugins", "plugins.py", false),
    node("node_mqtt", "node_mqtt.js", false),
    python("asyncio_clients", "asyncio_clients.py", false),
];

const fn python(name: &'static str, file: &'static str, smoke: bool) -> Script {
    Script {
        name,
        file,
        language: Language::Python,
        smoke,
        portable: false,
    }
}

const fn node(name: &'static str, file: &'static str, smoke: bool) -> Script {
    Script {
        name,
        file,
        language: Language::Node,
        smoke,
        portable: false,
    }
}

impl Script {
    /// Runs the script to its end, or ends it when it overruns.
    ///
    /// # Errors
    /// When it cannot be started or its output cannot be kept; its own failure is an [`Outcome`].
    pub(crate) fn run(&self, toolbox: &Toolbox, broker: &Broker) -> Result<Outcome> {
        let path = broker.directory().join(format!("{}.log", self.name));
        let log = File::create(&path)?;
        let mut command = toolbox.interpreter(self);
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
