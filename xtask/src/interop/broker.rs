//! The broker that clients are driven at: processes on free ports with a directory of their own.
//!
//! Owns those processes and that directory. Never touches a broker that it did not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::rabbitmq::{self, Node};
use crate::service::{Launch, Service, free_ports};
use crate::{leveret, mosquitto};

/// How long Leveret's listeners may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long Leveret's orderly end may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Which broker to start.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// This build: the path of its binary.
    Leveret(PathBuf),
    /// Debian's mosquitto, which says what is right about MQTT 5.0 and speaks no AMQP.
    Mosquitto,
    /// Debian's RabbitMQ, which says what is right.
    RabbitMq,
}

impl Peer {
    /// Its name in tables, directories and scripts' environments.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Leveret(_) => "leveret",
            Self::Mosquitto => "mosquitto",
            Self::RabbitMq => "rabbitmq",
        }
    }

    /// Installs it if it is not there.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn install(&self) -> Result<()> {
        match self {
            Self::Leveret(_) => Ok(()),
            Self::Mosquitto => mosquitto::install(),
            Self::RabbitMq => rabbitmq::install(),
        }
    }
}

/// A running broker; ended when dropped.
pub(crate) struct Broker {
    peer: Peer,
    /// The broker, then what it needs; ended in this order.
    services: Vec<Service>,
    directory: PathBuf,
    mqtt_port: u16,
    amqp_port: u16,
}

/// How many were started, so that each has a directory of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

impl Broker {
    /// Starts a broker and waits until both listeners accept.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; its log is in the text.
    pub(crate) fn start(root: &Path, peer: &Peer) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", peer.name(), std::process::id());
        let directory = leveret::target(root).join("interop").join(name);
        fs::create_dir_all(directory.join("data"))?;
        let [mqtt_port, amqp_port] = free_ports()?;
        let services = match peer {
            Peer::Leveret(binary) => vec![start_leveret(&directory, binary, mqtt_port, amqp_port)?],
            Peer::Mosquitto => vec![mosquitto::start(&directory, mqtt_port, "")?],
            Peer::RabbitMq => start_rabbitmq(&directory, mqtt_port, amqp_port)?,
        };
        match peer {
            Peer::Mosquitto => println!("{} listens on {mqtt_port} (MQTT)", peer.name()),
            Peer::Leveret(_) | Peer::RabbitMq => println!(
                "{} listens on {mqtt_port} (MQTT) and {amqp_port} (AMQP)",
                peer.name()
            ),
        }
        Ok(Self {
            peer: peer.clone(),
            services,
            directory,
            mqtt_port,
            amqp_port,
        })
    }

    /// The environment that tells a script where the broker is.
    pub(crate) fn describe(&self, command: &mut Command) {
        command
            .env("INTEROP_PEER", self.peer.name())
            .env("INTEROP_MQTT_PORT", self.mqtt_port.to_string())
            .env("INTEROP_AMQP_PORT", self.amqp_port.to_string())
            .env("INTEROP_DATA_DIR", self.directory.join("data"));
        if let Peer::Leveret(binary) = &self.peer {
            command.env("INTEROP_BINARY", binary);
        }
    }

    /// Where it speaks MQTT.
    pub(crate) fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    /// Where it speaks AMQP 0-9-1, if it does.
    pub(crate) fn amqp_port(&self) -> u16 {
        self.amqp_port
    }

    /// Where its data, its log and the scripts' output are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        self.services.iter_mut().all(Service::runs)
    }

    /// The end of the broker's log.
    pub(crate) fn last_words(&self) -> String {
        self.services
            .first()
            .map_or_else(String::new, Service::last_words)
    }

    /// Ends the broker the way a service manager does and keeps its directory.
    ///
    /// # Errors
    /// When Leveret had ended before, or does not end in time.
    pub(crate) fn stop(self) -> Result<()> {
        match self.peer {
            Peer::Leveret(_) | Peer::Mosquitto => {
                self.services.into_iter().try_for_each(Service::stop)
            }
            // Neither it nor its port mapper takes SIGTERM as a reason to end with 0.
            Peer::RabbitMq => {
                self.services.into_iter().for_each(drop);
                Ok(())
            }
        }
    }

    /// Ends the broker and removes its directory.
    ///
    /// # Errors
    /// As [`Broker::stop`], and when the directory cannot be removed.
    pub(crate) fn stop_and_remove(self) -> Result<()> {
        let directory = self.directory.clone();
        self.stop()?;
        fs::remove_dir_all(&directory).context("removing the broker's directory")
    }
}

fn start_rabbitmq(directory: &Path, mqtt: u16, amqp: u16) -> Result<Vec<Service>> {
    let running = rabbitmq::start(&Node {
        of: "interop",
        directory,
        ports: &[mqtt, amqp],
        configuration: &format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n\
             log.console.level = warning\n"
        ),
        plugins: &["rabbitmq_mqtt"],
    })?;
    Ok(running.services)
}

fn start_leveret(directory: &Path, binary: &Path, mqtt: u16, amqp: u16) -> Result<Service> {
    let launch = Launch {
        name: "broker",
        directory,
        ports: &[mqtt, amqp],
        start_limit: START_LIMIT,
        stop_limit: STOP_LIMIT,
        own_group: true,
    };
    let mut command = leveret::command(binary, &directory.join("data"), mqtt, amqp);
    Service::start(&mut command, &launch)
}
