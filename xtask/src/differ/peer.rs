//! The two servers: Leveret, and Debian's RabbitMQ as a node of its own.
//!
//! Owns their processes and directories, and what both are told before the first script. Never
//! touches a server that it did not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::leveret;
use crate::rabbitmq::{self, Environment, Node};
use crate::service::{Launch, Service, free_ports};

const PLUGINS: &[&str] = &[
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
];

/// How long Leveret may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A running server; ended when dropped.
pub(super) struct Peer {
    name: &'static str,
    port: u16,
    control: Control,
    /// In the order in which they end.
    services: Vec<Service>,
    directory: PathBuf,
}

/// How a server's command line tool is called.
enum Control {
    Leveret { binary: PathBuf, data: PathBuf },
    Rabbit(Environment),
}

impl Peer {
    pub(super) fn leveret(root: &Path, binary: &Path) -> Result<Self> {
        let directory = fresh(root, "leveret")?;
        let [mqtt, port] = free_ports()?;
        let data = directory.join("data");
        fs::create_dir_all(&data)?;
        let mut command = leveret::command(binary, &data, mqtt, port);
        leveret::set(&mut command, "log.console.level=error");
        let launch = Launch {
            name: "leveret",
            directory: &directory,
            ports: &[port],
            start_limit: START_LIMIT,
            stop_limit: STOP_LIMIT,
            own_group: false,
        };
        let service = Service::start(&mut command, &launch)?;
        Ok(Self {
            name: "leveret",
            port,
            control: Control::Leveret {
                binary: binary.to_path_buf(),
                data,
            },
            services: vec![service],
            directory,
        })
    }

    pub(super) fn rabbitmq(root: &Path) -> Result<Self> {
        rabbitmq::install()?;
        let directory = fresh(root, "rabbitmq")?;
        let [port] = free_ports()?;
        let running = rabbitmq::start(&Node {
            of: "differ",
            directory: &directory,
            ports: &[port],
            configuration: &format!(
                "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console.level = error\n"
            ),
            plugins: PLUGINS,
        })?;
        Ok(Self {
            name: "rabbitmq",
            port,
            control: Control::Rabbit(running.environment),
            services: running.services,
            directory,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// For how long nothing must have come from it, where a single process would need `quiet`:
    /// RabbitMQ's messages go through several processes, and theirs are busy with other scripts.
    pub(super) fn quiet(&self, quiet: Duration) -> Duration {
        match self.control {
            Control::Leveret { .. } => quiet,
            Control::Rabbit(_) => quiet * 4,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a line of the command line tool, by RabbitMQ's names; how it ended.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn ctl(&self, line: &str) -> Result<String> {
        let mut command = match &self.control {
            Control::Leveret { binary, data } => {
                let mut command = Command::new(binary);
                command.arg("ctl").arg("--data-dir").arg(data);
                command
            }
            Control::Rabbit(environment) => environment.ctl(),
        };
        let mut source = super::text::Source::new(line);
        while !source.is_empty() {
            command.arg(String::from_utf8(source.word("")?)?);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("ctl {line}"))?;
        Ok(match output.status.code() {
            Some(0) => "ctl ok".to_owned(),
            code => format!("ctl failed with {}", code.unwrap_or(-1)),
        })
    }

    /// Makes users, vhosts and policies, one line each; lines that fail are told.
    ///
    /// # Errors
    /// The tool cannot be started.
    pub(super) fn set_up(&self, lines: &str) -> Result<()> {
        for line in lines.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let outcome = self.ctl(line)?;
            if outcome != "ctl ok" {
                println!("{}: {line}: {outcome}", self.name);
            }
        }
        Ok(())
    }

    /// Ends the server and removes its directory.
    ///
    /// # Errors
    /// It had ended before, or does not end in an orderly way.
    pub(super) fn stop(mut self) -> Result<()> {
        for (at, service) in self.services.drain(..).enumerate() {
            if at == 0 {
                service.stop()?;
            }
            // The port mapper ends when dropped; it knows no orderly end.
        }
        fs::remove_dir_all(&self.directory).context("removing a server's directory")
    }
}

/// An empty directory for one server of this run.
fn fresh(root: &Path, name: &str) -> Result<PathBuf> {
    let name = format!("{name}-{}", std::process::id());
    let directory = leveret::target(root).join("differ").join(name);
    if directory.exists() {
        bail!("{} is there", directory.display());
    }
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
