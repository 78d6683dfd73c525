//! Debian's RabbitMQ as a node of its own: own name, ports, directories, cookie and port mapper.
//!
//! Owns that node's environment. Never reads or writes the system's node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::service::{Launch, Service, free_ports};
use crate::{debian, process};

/// Debian's name of it.
pub(crate) const PACKAGE: &str = "rabbitmq-server";
/// RabbitMQ's own scripts: those on the path change to the system's user and directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
/// Erlang's port mapper, which a node needs; one for each node, so that it ends with the node.
const PORT_MAPPER: &str = "epmd";

/// How long a node may take to listen on a busy machine, and to end in an orderly way.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const PORT_MAPPER_LIMIT: Duration = Duration::from_secs(10);

/// A node to start.
pub(crate) struct Node<'a> {
    /// Who starts it: the first part of its name.
    pub(crate) of: &'a str,
    /// Where everything of it lies; must exist.
    pub(crate) directory: &'a Path,
    /// The loopback ports that accept once it is ready.
    pub(crate) ports: &'a [u16],
    /// Its `rabbitmq.conf`; where the log goes is added.
    pub(crate) configuration: &'a str,
    /// The plugins that it has.
    pub(crate) plugins: &'a [&'a str],
}

/// A node that runs.
pub(crate) struct Running {
    /// Itself and its port mapper, to be ended in this order.
    pub(crate) services: Vec<Service>,
    pub(crate) environment: Environment,
}

/// What a node and its tools are told by variables.
pub(crate) struct Environment(Vec<(&'static str, String)>);

/// Whether it is installed.
pub(crate) fn is_installed() -> bool {
    Path::new(SERVER).is_file() && process::exists(PORT_MAPPER)
}

/// Installs RabbitMQ if it is not there.
///
/// # Errors
/// When that fails.
pub(crate) fn install() -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    debian::install(&[PACKAGE])
}

/// Starts a node and waits until it accepts.
///
/// # Errors
/// When it or its port mapper does not listen in time; its log is in the text.
pub(crate) fn start(node: &Node<'_>) -> Result<Running> {
    let directory = node.directory;
    let [mapper_port, distribution] = free_ports()?;
    let configuration = format!(
        "{}log.console = true\nlog.file = false\n",
        node.configuration
    );
    fs::write(directory.join("rabbitmq.conf"), configuration)?;
    let plugins = format!("[{}].\n", node.plugins.join(","));
    fs::write(directory.join("enabled_plugins"), plugins)?;
    let mut command = Command::new(PORT_MAPPER);
    command
        .args(["-port", &mapper_port.to_string()])
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    let launch = Launch {
        name: PORT_MAPPER,
        directory,
        ports: &[mapper_port],
        start_limit: PORT_MAPPER_LIMIT,
        stop_limit: PORT_MAPPER_LIMIT,
        own_group: true,
    };
    let mapper = Service::start(&mut command, &launch)?;
    let environment = Environment::of(node, mapper_port, distribution);
    let launch = Launch {
        name: "rabbitmq",
        ports: node.ports,
        start_limit: START_LIMIT,
        stop_limit: STOP_LIMIT,
        ..launch
    };
    let mut command = environment.command(SERVER);
    // Crash dumps fall there.
    command.current_dir(directory);
    Ok(Running {
        services: vec![Service::start(&mut command, &launch)?, mapper],
        environment,
    })
}

impl Environment {
    fn of(node: &Node<'_>, mapper: u16, distribution: u16) -> Self {
        let path = |name: &str| node.directory.join(name).to_string_lossy().into_owned();
        Self(vec![
            // Erlang's cookie lies there.
            ("HOME", node.directory.to_string_lossy().into_owned()),
            (
                "RABBITMQ_NODENAME",
                format!("{}-{distribution}@localhost", node.of),
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
        ])
    }

    /// The node's `rabbitmqctl`.
    pub(crate) fn ctl(&self) -> Command {
        self.command(CTL)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(script);
        for (name, _) in std::env::vars_os() {
            // What steers the system's node must not steer this one.
            let name = name.to_string_lossy().into_owned();
            let steers = name.starts_with("RABBITMQ_") || name.starts_with("ERL_");
            if steers || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.0 {
            command.env(name, value);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_has_everything_of_its_own() {
        let node = Node {
            of: "some",
            directory: Path::new("here"),
            ports: &[1, 2],
            configuration: "",
            plugins: &[],
        };
        let environment = Environment::of(&node, 3, 4);
        for command in [environment.command(SERVER), environment.ctl()] {
            let value = |wanted: &str| {
                let mut values = command.get_envs();
                let found = values.find(|(name, _)| name.to_str() == Some(wanted));
                found.and_then(|(_, value)| value?.to_str())
            };
            for (name, expected) in [
                ("HOME", "here"),
                ("RABBITMQ_NODENAME", "some-4@localhost"),
                ("RABBITMQ_MNESIA_BASE", "here/mnesia"),
                ("RABBITMQ_DIST_PORT", "4"),
                ("ERL_EPMD_PORT", "3"),
            ] {
                assert_eq!(value(name), Some(expected), "{name}");
            }
        }
    }
}
