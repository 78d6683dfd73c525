//! Debian's mosquitto on a port of its own.
//!
//! Owns its configuration: no caps, no log, no persistence. Never reads the system's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Instance, START_LIMIT, STOP_LIMIT, program};
use crate::service::{Launch, Service, free_ports};

/// Debian's name of it, which is the program's as well.
pub(super) const PACKAGE: &str = "mosquitto";

pub(super) fn missing_package() -> Option<&'static str> {
    program(PACKAGE).is_none().then_some(PACKAGE)
}

/// Starts it with a fresh configuration in `directory`.
pub(super) fn start(directory: &Path, nodelay: bool) -> Result<Instance> {
    let [port] = free_ports()?;
    let file = directory.join("mosquitto.conf");
    fs::write(&file, configuration(port, nodelay))?;
    let program = program(PACKAGE).context("mosquitto is not installed")?;
    let launch = Launch {
        name: PACKAGE,
        directory,
        ports: &[port],
        start_limit: START_LIMIT,
        stop_limit: STOP_LIMIT,
        own_group: true,
    };
    let service = Service::start(Command::new(program).arg("-c").arg(&file), &launch)?;
    Ok(Instance::new(vec![service], port, None))
}

fn configuration(port: u16, nodelay: bool) -> String {
    // Started by root it would change to a user that cannot read its directory.
    let user = if rustix::process::geteuid().is_root() {
        "user root\n"
    } else {
        ""
    };
    format!(
        "{user}listener {port} 127.0.0.1\n\
         allow_anonymous true\n\
         set_tcp_nodelay {nodelay}\n\
         max_queued_messages 0\n\
         max_inflight_messages 0\n\
         persistence false\n\
         log_type none\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_caps() {
        for (nodelay, line) in [
            (true, "set_tcp_nodelay true"),
            (false, "set_tcp_nodelay false"),
        ] {
            let text = configuration(1883, nodelay);
            let lines: Vec<_> = text.lines().collect();
            for expected in [
                line,
                "listener 1883 127.0.0.1",
                "max_queued_messages 0",
                "max_inflight_messages 0",
                "persistence false",
                "log_type none",
            ] {
                assert!(lines.contains(&expected), "{expected}: {text}");
            }
        }
    }
}
