//! The two servers: Leveret, and Debian's RabbitMQ as a node of its own.
//!
//! Owns their processes and directories, and what both are told before the first script. Never
//! touches a server that it did not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::service::{Launch, Service, free_ports};
use crate::{debian, leveret, process};

/// RabbitMQ's own scripts: those on the path change to the system's user and directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const PORT_MAPPER: &str = "epmd";
const PLUGINS: &str = "[rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange,\
                       rabbitmq_recent_history_exchange].\n";

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const PORT_MAPPER_LIMIT: Duration = Duration::from_secs(10);

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
    Rabbit(Vec<(String, String)>),
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
        if !Path::new(SERVER).is_file() || !process::exists(PORT_MAPPER) {
            debian::install(&["rabbitmq-server"])?;
        }
        let directory = fresh(root, "rabbitmq")?;
        let [port, mapper, distribution] = free_ports()?;
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\n\
             log.console.level = error\nlog.file = false\n"
        );
        fs::write(directory.join("rabbitmq.conf"), configuration)?;
        fs::write(directory.join("enabled_plugins"), PLUGINS)?;
        let launch = Launch {
            name: PORT_MAPPER,
            directory: &directory,
            ports: &[mapper],
            start_limit: PORT_MAPPER_LIMIT,
            stop_limit: PORT_MAPPER_LIMIT,
            own_group: true,
        };
        let mut command = Command::new(PORT_MAPPER);
        command
            .args(["-port", &mapper.to_string()])
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        let mapper_service = Service::start(&mut command, &launch)?;
        let environment = environment(&directory, mapper, distribution);
        let launch = Launch {
            name: "rabbitmq",
            ports: &[port],
            start_limit: START_LIMIT,
            stop_limit: STOP_LIMIT,
            ..launch
        };
        let mut command = Command::new(SERVER);
        apply(&mut command, &environment);
        command.current_dir(&directory);
        let service = Service::start(&mut command, &launch)?;
        Ok(Self {
            name: "rabbitmq",
            port,
            control: Control::Rabbit(environment),
            services: vec![service, mapper_service],
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
            Control::Rabbit(environment) => {
                let mut command = Command::new(CTL);
                apply(&mut command, environment);
                command
            }
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

fn environment(directory: &Path, mapper: u16, distribution: u16) -> Vec<(String, String)> {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let variables = [
        ("HOME", directory.to_string_lossy().into_owned()),
        (
            "RABBITMQ_NODENAME",
            format!("differ-{distribution}@localhost"),
        ),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq")),
        ("RABBITMQ_MNESIA_BASE", path("mnesia")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
    ];
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Sets an environment in which nothing steers the system's node.
fn apply(command: &mut Command, environment: &[(String, String)]) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    for (name, value) in environment {
        command.env(name, value);
    }
}
