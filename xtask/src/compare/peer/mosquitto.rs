//! Debian's mosquitto as a peer: no caps, no log.
//!
//! Owns what of its configuration makes the comparison fair.

use std::path::Path;

use anyhow::Result;

use super::Instance;
use crate::mosquitto;
use crate::service::free_ports;

/// Starts it with a fresh configuration in `directory`.
pub(super) fn start(directory: &Path, nodelay: bool) -> Result<Instance> {
    let [port] = free_ports()?;
    let service = mosquitto::start(directory, port, &settings(nodelay))?;
    Ok(Instance::new(vec![service], port, None))
}

fn settings(nodelay: bool) -> String {
    format!(
        "set_tcp_nodelay {nodelay}\n\
         max_queued_messages 0\n\
         max_inflight_messages 0\n\
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
            let text = settings(nodelay);
            let lines: Vec<_> = text.lines().collect();
            for expected in [
                line,
                "max_queued_messages 0",
                "max_inflight_messages 0",
                "log_type none",
            ] {
                assert!(lines.contains(&expected), "{expected}: {text}");
            }
        }
    }
}
