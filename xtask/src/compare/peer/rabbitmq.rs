//! Debian's RabbitMQ as a node of its own: own name, ports, directories, cookie and port mapper.
//!
//! Owns that node's environment. Never reads or writes the system's node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Instance;
use crate::process;
use crate::service::{Launch, Service, free_ports};

/// Debian's name of it.
pub(super) const PACKAGE: &str = "rabbitmq-server";
/// RabbitMQ's own script: the one on the path changes to the system's user and directories.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Erlang's port mapper, which a node needs; one for each node, so that it ends with the node.
const PORT_MAPPER: &str = "epmd";

/// How long a node may take to listen on a busy machine, and to end in an orderly way.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const PORT_MAPPER_LIMIT: Duration = Duration::from_secs(10);

/// The ports of one node.
struct Ports {
    mqtt: u16,
    amqp: u16,
    mapper: u16,
    distribution: u16,
}

pub(super) fn missing_package() -> Option<&'static str> {
    let found = Path::new(SCRIPT).is_file() && process::exists(PORT_MAPPER);
    (!found).then_some(PACKAGE)
}

/// Starts a node with everything of its own in `directory`.
pub(super) fn start(directory: &Path) -> Result<Instance> {
    let [mqtt, amqp, mapper, distribution] = free_ports()?;
    let ports = Ports {
        mqtt,
        amqp,
        mapper,
        distribution,
    };
    fs::write(directory.join("rabbitmq.conf"), configuration(&ports))?;
    fs::write(directory.join("enabled_plugins"), "[rabbitmq_mqtt].\n")?;
    let mut command = Command::new(PORT_MAPPER);
    command
        .args(["-port", &mapper.to_string()])
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    let launch = Launch {
        name: PORT_MAPPER,
        directory,
        ports: &[mapper],
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
    let node = Service::start(&mut node(directory, &ports), &launch)?;
    Ok(Instance::new(vec![node, mapper], mqtt, Some(amqp)))
}

fn configuration(ports: &Ports) -> String {
    let Ports { mqtt, amqp, .. } = ports;
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n\
         mqtt.tcp_listen_options.backlog = 4096\n\
         mqtt.prefetch = 100\n\
         mqtt.allow_anonymous = true\n\
         mqtt.default_user = guest\n\
         mqtt.default_pass = guest\n\
         log.console = true\n\
         log.console.level = error\n\
         log.file = false\n"
    )
}

fn node(directory: &Path, ports: &Ports) -> Command {
    let mut command = Command::new(SCRIPT);
    for (name, _) in std::env::vars_os() {
        // What steers the system's node must not steer this one.
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    let name = format!("compare-{}@localhost", ports.distribution);
    command
        // Crash dumps fall there.
        .current_dir(directory)
        // Erlang's cookie lies there.
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", name)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq"))
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            directory.join("enabled_plugins"),
        )
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("ERL_EPMD_PORT", ports.mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports {
        mqtt: 1,
        amqp: 2,
        mapper: 3,
        distribution: 4,
    };

    #[test]
    fn the_node_has_everything_of_its_own() {
        let directory = Path::new("here");
        let command = node(directory, &PORTS);
        let value = |wanted: &str| {
            let mut values = command.get_envs();
            let found = values.find(|(name, _)| name.to_str() == Some(wanted));
            found.and_then(|(_, value)| value?.to_str())
        };
        for (name, expected) in [
            ("HOME", "here"),
            ("RABBITMQ_NODENAME", "compare-4@localhost"),
            ("RABBITMQ_MNESIA_BASE", "here/mnesia"),
            ("RABBITMQ_DIST_PORT", "4"),
            ("ERL_EPMD_PORT", "3"),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn the_configuration_allows_what_the_others_allow() {
        let text = configuration(&PORTS);
        for expected in [
            "listeners.tcp.1 = 127.0.0.1:2",
            "mqtt.listeners.tcp.1 = 127.0.0.1:1",
            "mqtt.prefetch = 100",
            "mqtt.tcp_listen_options.backlog = 4096",
            "log.console.level = error",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}");
        }
    }
}
