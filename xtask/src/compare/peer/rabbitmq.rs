//! RabbitMQ's settings for a comparison: those that allow what the others allow.

use std::path::Path;

use anyhow::Result;

use super::Instance;
use crate::rabbitmq::{self, Node};
use crate::service::free_ports;

/// Starts a node with everything of its own in `directory`.
pub(super) fn start(directory: &Path) -> Result<Instance> {
    let [mqtt, amqp] = free_ports()?;
    let running = rabbitmq::start(&Node {
        of: "compare",
        directory,
        ports: &[mqtt, amqp],
        configuration: &configuration(mqtt, amqp),
        plugins: &["rabbitmq_mqtt"],
    })?;
    Ok(Instance::new(running.services, mqtt, Some(amqp)))
}

fn configuration(mqtt: u16, amqp: u16) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n\
         mqtt.tcp_listen_options.backlog = 4096\n\
         mqtt.prefetch = 100\n\
         mqtt.allow_anonymous = true\n\
         mqtt.default_user = guest\n\
         mqtt.default_pass = guest\n\
         log.console.level = error\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_allows_what_the_others_allow() {
        let text = configuration(1, 2);
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
