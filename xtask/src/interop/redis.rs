//! A redis server for clients that keep results there, with nothing on disk.
//!
//! Owns that one process; it ends when dropped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::service::{Launch, Service, free_ports};

/// How long it may take to listen, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// A running server.
pub(super) struct Redis {
    _service: Service,
    port: u16,
}

impl Redis {
    /// Starts a server; its log goes to `directory`.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let [port] = free_ports()?;
        let launch = Launch {
            name: "redis",
            directory,
            ports: &[port],
            start_limit: LIMIT,
            stop_limit: LIMIT,
            own_group: true,
        };
        let mut command = Command::new("redis-server");
        command
            .current_dir(directory)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"]);
        Ok(Self {
            _service: Service::start(&mut command, &launch)?,
            port,
        })
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}
