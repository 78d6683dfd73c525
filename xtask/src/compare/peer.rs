//! The brokers that are compared, and their running instances.
//!
//! Owns what it starts: processes on free loopback ports with directories of their own, and ends
//! them by process id. Never touches the system's services or a broker that was given.

mod mosquitto;
mod rabbitmq;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::given::Given;
use super::procfs;
use crate::service::{Launch, Service, free_ports};
use crate::{debian, interrupt, leveret};

/// How long Leveret or mosquitto may take to listen, and to end.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What kind of broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Leveret,
    Mosquitto,
    RabbitMq,
    /// Somebody else's, already running.
    Given,
}

/// A broker to compare.
pub(crate) struct Peer {
    /// Its name in tables.
    pub(crate) name: String,
    source: Source,
}

enum Source {
    Leveret(PathBuf),
    Mosquitto { nodelay: bool },
    RabbitMq,
    Given(Given),
}

/// A running broker; what was started for it ends when it is dropped, and its directory goes.
pub(crate) struct Instance {
    pub(crate) mqtt: Option<SocketAddr>,
    pub(crate) amqp: Option<SocketAddr>,
    /// The root of its process tree.
    pub(crate) pid: u32,
    /// The broker, then what it needs; ended in this order.
    services: Vec<Service>,
    directory: Option<PathBuf>,
}

impl Peer {
    /// A build of Leveret.
    pub(crate) fn leveret(name: &str, binary: PathBuf) -> Self {
        Self::new(name, Source::Leveret(binary))
    }

    /// Debian's mosquitto, with Nagle's algorithm or, as a fair peer, without.
    pub(crate) fn mosquitto(name: &str, nodelay: bool) -> Self {
        Self::new(name, Source::Mosquitto { nodelay })
    }

    /// Debian's RabbitMQ.
    pub(crate) fn rabbitmq(name: &str) -> Self {
        Self::new(name, Source::RabbitMq)
    }

    /// A broker that runs already.
    pub(crate) fn given(given: Given) -> Self {
        Self::new(&given.name.clone(), Source::Given(given))
    }

    fn new(name: &str, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            source,
        }
    }

    /// What kind of broker it is.
    pub(crate) fn kind(&self) -> Kind {
        match self.source {
            Source::Leveret(_) => Kind::Leveret,
            Source::Mosquitto { .. } => Kind::Mosquitto,
            Source::RabbitMq => Kind::RabbitMq,
            Source::Given(_) => Kind::Given,
        }
    }

    /// Whether it speaks AMQP 0-9-1 and MQTT, in this order.
    pub(crate) fn speaks(&self) -> (bool, bool) {
        match &self.source {
            Source::Leveret(_) | Source::RabbitMq => (true, true),
            Source::Mosquitto { .. } => (false, true),
            Source::Given(given) => (given.amqp.is_some(), given.mqtt.is_some()),
        }
    }

    /// The Debian package that brings a program of it which is not there.
    pub(crate) fn missing_package(&self) -> Option<&'static str> {
        match self.source {
            Source::Mosquitto { .. } => {
                (!crate::mosquitto::is_installed()).then_some(crate::mosquitto::PACKAGE)
            }
            Source::RabbitMq => {
                (!crate::rabbitmq::is_installed()).then_some(crate::rabbitmq::PACKAGE)
            }
            Source::Leveret(_) | Source::Given(_) => None,
        }
    }

    /// What it is, for the head of a report.
    pub(crate) fn describe(&self) -> String {
        let version = |package| debian::version(package).unwrap_or_else(|| "unknown".to_owned());
        match &self.source {
            Source::Leveret(_) => format!("{} (`mqtt.prefetch = 100`)", self.name),
            Source::Mosquitto { nodelay } => format!(
                "{} {} (`set_tcp_nodelay {nodelay}`, no caps)",
                self.name,
                version(crate::mosquitto::PACKAGE)
            ),
            Source::RabbitMq => format!(
                "{} {} (`mqtt.prefetch = 100`)",
                self.name,
                version(crate::rabbitmq::PACKAGE)
            ),
            Source::Given(_) => format!("{} (as it was found)", self.name),
        }
    }

    /// Starts an instance with a fresh data directory in `home`, or takes the one that was given.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time.
    pub(crate) fn start(&self, home: &Path) -> Result<Instance> {
        match &self.source {
            Source::Leveret(binary) => self.fresh(home, |place| start_leveret(place, binary)),
            Source::Mosquitto { nodelay } => {
                self.fresh(home, |place| mosquitto::start(place, *nodelay))
            }
            Source::RabbitMq => self.fresh(home, rabbitmq::start),
            Source::Given(given) => Ok(Instance {
                mqtt: given.mqtt,
                amqp: given.amqp,
                pid: given.pid,
                services: Vec::new(),
                directory: None,
            }),
        }
    }

    /// Starts it in a new directory; twice at most, since somebody may have taken a port first.
    fn fresh(&self, home: &Path, start: impl Fn(&Path) -> Result<Instance>) -> Result<Instance> {
        let directory = fresh_directory(home, &self.name)?;
        let mut instance = start(&directory)
            .or_else(|error| {
                interrupt::check()?;
                eprintln!("{}: starting it again after: {error:#}", self.name);
                fs::remove_dir_all(&directory)?;
                fs::create_dir_all(&directory)?;
                start(&directory)
            })
            .with_context(|| format!("starting {}", self.name))?;
        instance.directory = Some(directory);
        Ok(instance)
    }
}

impl Instance {
    /// A broker on two loopback ports, the second for AMQP 0-9-1, with what it needs.
    fn new(services: Vec<Service>, mqtt: u16, amqp: Option<u16>) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            mqtt: Some(local(mqtt)),
            amqp: amqp.map(local),
            pid: services.first().map_or(0, Service::id),
            services,
            directory: None,
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        if self.services.is_empty() {
            return procfs::exists(self.pid);
        }
        self.services.iter_mut().all(Service::runs)
    }

    /// The end of its log, if it is ours.
    pub(crate) fn last_words(&self) -> String {
        self.services
            .first()
            .map_or_else(String::new, Service::last_words)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.services.drain(..).for_each(drop);
        if let Some(directory) = &self.directory
            && let Err(error) = fs::remove_dir_all(directory)
        {
            eprintln!("compare: removing {}: {error}", directory.display());
        }
    }
}

fn start_leveret(directory: &Path, binary: &Path) -> Result<Instance> {
    let [mqtt, amqp] = free_ports()?;
    let data = directory.join("data");
    let mut command = leveret::command(binary, &data, mqtt, amqp);
    leveret::set(&mut command, "mqtt.prefetch=100");
    command.args(["--log-level", "error"]);
    let launch = Launch {
        name: "leveret",
        directory,
        ports: &[mqtt, amqp],
        start_limit: START_LIMIT,
        stop_limit: STOP_LIMIT,
        own_group: true,
    };
    let service = Service::start(&mut command, &launch)?;
    Ok(Instance::new(vec![service], mqtt, Some(amqp)))
}

/// A new directory `NAME-N` in `home`.
fn fresh_directory(home: &Path, name: &str) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let directory = home.join(format!("{name}-{number}"));
        if !directory.exists() {
            fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
            return Ok(directory);
        }
        number += 1;
    }
}
