//! The broker under test: one process on free ports with a data directory of its own.
//!
//! Owns that process and that directory. Never touches a broker that it did not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::leveret;
use crate::service::{Launch, Service, free_ports};

/// How long the listeners may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long an orderly end may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running broker; ended when dropped.
pub(crate) struct Broker {
    service: Service,
    binary: PathBuf,
    directory: PathBuf,
    mqtt_port: u16,
    amqp_port: u16,
}

impl Broker {
    /// Starts the binary and waits until both listeners accept.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; its log is in the text.
    pub(crate) fn start(root: &Path, binary: &Path) -> Result<Self> {
        let name = format!("broker-{}", std::process::id());
        let directory = leveret::target(root).join("interop").join(name);
        fs::create_dir_all(directory.join("data"))?;
        let [mqtt_port, amqp_port] = free_ports()?;
        let launch = Launch {
            name: "broker",
            directory: &directory,
            ports: &[mqtt_port, amqp_port],
            start_limit: START_LIMIT,
            stop_limit: STOP_LIMIT,
            own_group: false,
        };
        let mut command = leveret::command(binary, &directory.join("data"), mqtt_port, amqp_port);
        let service = Service::start(&mut command, &launch)?;
        println!("leveret listens on {mqtt_port} (MQTT) and {amqp_port} (AMQP)");
        Ok(Self {
            service,
            binary: binary.to_path_buf(),
            directory,
            mqtt_port,
            amqp_port,
        })
    }

    /// The environment that tells a script where the broker is.
    pub(crate) fn describe(&self, command: &mut Command) {
        command
            .env("INTEROP_MQTT_PORT", self.mqtt_port.to_string())
            .env("INTEROP_AMQP_PORT", self.amqp_port.to_string())
            .env("INTEROP_BINARY", &self.binary)
            .env("INTEROP_DATA_DIR", self.directory.join("data"));
    }

    /// Where its data, its log and the scripts' output are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The end of the broker's log.
    pub(crate) fn last_words(&self) -> String {
        self.service.last_words()
    }

    /// Ends the broker the way a service manager does and keeps its directory.
    ///
    /// # Errors
    /// When it had ended before, or does not end in time.
    pub(crate) fn stop(self) -> Result<()> {
        self.service.stop()
    }

    /// Ends the broker and removes its directory.
    ///
    /// # Errors
    /// As [`Broker::stop`], and when the directory cannot be removed.
    pub(crate) fn stop_and_remove(self) -> Result<()> {
        let Self {
            service, directory, ..
        } = self;
        service.stop()?;
        fs::remove_dir_all(&directory).context("removing the broker's directory")
    }
}
