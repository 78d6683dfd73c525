//! Debian's RabbitMQ as the peer that says what is right: a node with everything of its own.
//!
//! Owns that node's environment. Never reads or writes the system's node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::service::{Launch, Service, free_ports};
use crate::{debian, process};

/// RabbitMQ's own script: the one on the path changes to the system's user and directories.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Erlang's port mapper, which a node needs; one for each node, so that it ends with the node.
const PORT_MAPPER: &str = "epmd";

/// How long a node may take to listen on a busy machine, and to end in an orderly way.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const PORT_MAPPER_LIMIT: Duration = Duration::from_secs(10);

/// Installs RabbitMQ if it is not there.
///
/// # Errors
/// When that fails.
pub(super) fn install() -> Result<()> {
    if Path::new(SCRIPT).is_file() && process::exists(PORT_MAPPER) {
        return Ok(());
    }
    debian::install(&["rabbitmq-server"])
}

/// Starts a node in `directory`: itself and its port mapper, to be ended in this order.
///
/// # Errors
/// When one of them does not listen in time; its log is in the text.
pub(super) fn start(directory: &Path, mqtt: u16, amqp: u16) -> Result<Vec<Service>> {
    let [mapper_port, distribution] = free_ports()?;
    fs::write(
        directory.join("rabbitmq.conf"),
        format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n\
             log.console = true\n\
             log.console.level = warning\n\
             log.file = false\n"
        ),
    )?;
    fs::write(directory.join("enabled_plugins"), "[rabbitmq_mqtt].\n")?;
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
    let launch = Launch {
        name: "rabbitmq",
        ports: &[mqtt, amqp],
        start_limit: START_LIMIT,
        stop_limit: STOP_LIMIT,
        ..launch
    };
    let mut command = node(directory, mapper_port, distribution);
    Ok(vec![Service::start(&mut command, &launch)?, mapper])
}

fn node(directory: &Path, mapper: u16, distribution: u16) -> Command {
    let mut command = Command::new(SCRIPT);
    for (name, _) in std::env::vars_os() {
        // What steers the system's node must not steer this one.
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
        // Crash dumps fall there.
        .current_dir(directory)
        // Erlang's cookie lies there.
        .env("HOME", directory)
        .env(
            "RABBITMQ_NODENAME",
            format!("interop-{distribution}@localhost"),
        )
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq"))
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            directory.join("enabled_plugins"),
        )
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_has_everything_of_its_own() {
        let command = node(Path::new("here"), 3, 4);
        let value = |wanted: &str| {
            let mut values = command.get_envs();
            let found = values.find(|(name, _)| name.to_str() == Some(wanted));
            found.and_then(|(_, value)| value?.to_str())
        };
        for (name, expected) in [
            ("HOME", "here"),
            ("RABBITMQ_NODENAME", "interop-4@localhost"),
            ("RABBITMQ_MNESIA_BASE", "here/mnesia"),
            ("RABBITMQ_DIST_PORT", "4"),
            ("ERL_EPMD_PORT", "3"),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
    }
}
