//! A whole broker: assembled from its options, started and stopped in order.
//!
//! Owns the order. Start: data directory, definitions, core, listeners, control socket; whatever
//! fails undoes what was done before it. Stop: listeners first, then connections, who are told why,
//! then the disk.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use leveret_auth::login::Internal;
use leveret_auth::password::{HashError, store};
use leveret_config::Config;
use leveret_core::broker::Broker;
use leveret_core::definitions::{Definitions, Fault};
use leveret_core::journal::Journal;
use leveret_core::message::{AmqpOrigin, Origin};
use leveret_core::peer::CloseReason;
use leveret_core::user::StoredPassword;
use leveret_core::watermark::{Wake, Watermark};
use leveret_management::context::{ChangeLock, Context, ListenerRow};
use leveret_management::control::{ControlError, ControlSocket};
use leveret_management::plugins::{Plugins, effective};
use leveret_net::clock::Clock;
use leveret_net::driver::Surroundings;
use leveret_net::listener::ListenError;
use leveret_net::listeners::{ListenerView, Listeners};
use leveret_net::login::Authenticator;
use leveret_net::options::Protocol;
use leveret_net::serve::Protocols;
use leveret_net::timers;
use leveret_store::data_dir::{DataDir, DataDirError};
use leveret_store::definitions::DefinitionsFile;
use leveret_store::disk::Files;
use leveret_store::enabled_plugins::{self, EnabledPluginsError};
use leveret_store::journal::{self, JOURNAL_DIRECTORY, JournalFile};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::announce::Announcer;
use crate::monitor;
use crate::paths;
use crate::plugins::{MQTT, Switches};
use crate::presence;
use crate::systree;

/// Time that clients have to take their leave when the broker stops, in milliseconds.
pub const LEAVE_MS: u64 = 7_000;

/// Time for streams to close behind them, in milliseconds: longer than a peer has to close its
/// side.
pub const CLOSE_MS: u64 = 1_200;

/// Time that the disk has for what was changed last, in milliseconds.
pub const FLUSH_MS: u64 = 500;

/// Why a broker does not start: each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The definitions cannot be read.
    #[error(transparent)]
    Definitions(#[from] Fault),
    /// The list of enabled plugins cannot be read or made.
    #[error(transparent)]
    EnabledPlugins(#[from] EnabledPluginsError),
    /// The default user's password cannot be hashed.
    #[error("default_pass cannot be hashed: {0}")]
    DefaultPassword(#[from] HashError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl StartError {
    /// The exit code of `sysexits.h` that RabbitMQ's tools would use.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Definitions(_) => 74,
            Self::EnabledPlugins(_) | Self::DefaultPassword(_) => 78,
            Self::DataDir(_) | Self::Listen(_) | Self::Control(_) => 69,
        })
    }
}

/// A running broker. Dropped without [`Self::shutdown`], it ends without telling anybody.
#[derive(Debug)]
pub struct Server {
    broker: Arc<Broker>,
    listeners: Arc<Listeners>,
    definitions: Arc<DefinitionsFile>,
    journal: Arc<JournalFile>,
    data_dir: DataDir,
    timers: JoinHandle<()>,
    monitor: JoinHandle<()>,
    control: JoinHandle<()>,
    announcers: [JoinHandle<()>; 2],
}

/// Starts a broker whose options come from no file. Must run inside a tokio runtime.
///
/// # Errors
/// Every variant of [`StartError`]; nothing is left running.
pub async fn start(config: Config) -> Result<Server, StartError> {
    start_from(config, Clock::start(), Vec::new(), Handle::current()).await
}

/// Starts a broker by a clock that runs already; `files` are those that its options come from, and
/// connections are accepted at `home`.
///
/// # Errors
/// Every variant of [`StartError`]; nothing is left running.
pub async fn start_from(
    config: Config,
    clock: Clock,
    files: Vec<PathBuf>,
    home: Handle,
) -> Result<Server, StartError> {
    let path = paths::data_dir(config.data_dir.as_deref());
    let data_dir = DataDir::open(&path)?;
    let plugins_file = config
        .enabled_plugins_file
        .clone()
        .unwrap_or_else(|| path.join("enabled_plugins"));
    let enabled = read_plugins(&plugins_file)?;
    let definitions = Arc::new(DefinitionsFile::open(&data_dir)?);
    let journal = open_journal(&config, &data_dir, &definitions)?;
    let broker = open_broker(&config, &definitions, &journal, clock)?;
    // Nobody publishes before somebody has looked.
    monitor::look(&broker, data_dir.path());
    let logins = Arc::new(Internal::new(&mut rand::rng()));
    let surroundings = Arc::new(Surroundings {
        clock,
        authenticator: Arc::new(Authenticator::new(Arc::clone(&broker), Arc::clone(&logins))),
    });
    let announcers = announcers(&broker, &config.mqtt, clock);
    let protocols = Protocols {
        mqtt: leveret_mqtt::Node::new(Arc::clone(&broker), config.mqtt),
        amqp: leveret_amqp::Node::new(Arc::clone(&broker), config.amqp),
        surroundings,
    };
    let listeners = Arc::new(Listeners::new(
        config.net.listeners,
        Arc::new(protocols),
        home,
    ));
    let switches = Arc::new(Switches::new(Arc::clone(&broker), Arc::clone(&listeners)));
    let control = ControlSocket::bind(&path)?;
    open_listeners(&listeners, &switches, &enabled).await?;
    let context = Context {
        broker: Arc::clone(&broker),
        logins,
        plugins: Plugins::new(switches, plugins_file),
        node_name: node_name(),
        version: env!("CARGO_PKG_VERSION"),
        data_dir: path.clone(),
        config_files: files,
        started_at: clock.now(),
        clock: Arc::new(move || clock.now()),
        listeners: rows_of(&listeners),
        changes: ChangeLock::default(),
    };
    Ok(Server {
        timers: tokio::spawn(timers::drive(Arc::clone(&broker), clock)),
        monitor: tokio::spawn(monitor::watch(Arc::clone(&broker), path)),
        control: tokio::spawn(control.serve(Arc::new(context))),
        announcers: announcers.map(tokio::spawn),
        broker,
        listeners,
        definitions,
        journal,
        data_dir,
    })
}

/// What tells of clients and of figures; they begin when everything else runs.
fn announcers(
    broker: &Arc<Broker>,
    options: &leveret_mqtt::options::Options,
    clock: Clock,
) -> [Pin<Box<dyn Future<Output = ()> + Send>>; 2] {
    let node = node_name();
    let announcer = || Announcer::new(Arc::clone(broker), clock, &node, &options.exchange);
    [
        Box::pin(presence::announce(announcer(), options.presence_events)),
        Box::pin(systree::publish(
            announcer(),
            options.systree.clone(),
            clock.now(),
        )),
    ]
}

/// The enabled plugins; at the first start the file is made, with the MQTT adapter in it.
fn read_plugins(file: &Path) -> Result<Vec<String>, EnabledPluginsError> {
    if !file.exists() {
        enabled_plugins::write(file, &[MQTT])?;
    }
    enabled_plugins::read(file)
}

/// The journal of the data directory, with what both protocols have written to it.
fn open_journal(
    config: &Config,
    data_dir: &DataDir,
    definitions: &Arc<DefinitionsFile>,
) -> Result<Arc<JournalFile>, StartError> {
    let path = data_dir.path().join(JOURNAL_DIRECTORY);
    let files = Files::open(&path).map_err(|why| Fault {
        what: format!("{} cannot be opened", path.display()),
        why: why.to_string(),
    })?;
    let [mqtt, signed] = leveret_mqtt::origins();
    let origins: [&'static dyn Origin; 3] = [mqtt, signed, &AmqpOrigin];
    let options = journal::Options {
        interval: config.core.durability_interval,
        ..journal::Options::default()
    };
    let after = Arc::clone(definitions.watermark());
    let journal = JournalFile::open(Arc::new(files), &options, &origins, after)?;
    Ok(Arc::new(journal))
}

fn open_broker(
    config: &Config,
    definitions: &Arc<DefinitionsFile>,
    journal: &Arc<JournalFile>,
    clock: Clock,
) -> Result<Arc<Broker>, StartError> {
    let mut hashed = Ok(());
    let default_password = || {
        let password = config.core.default_pass.reveal().as_bytes();
        store(password, &mut rand::rng()).unwrap_or_else(|why| {
            hashed = Err(why);
            StoredPassword::default()
        })
    };
    let broker = Broker::open(
        config.core.clone(),
        Arc::clone(definitions) as Arc<dyn Definitions>,
        Arc::clone(journal) as Arc<dyn Journal>,
        clock.now(),
        default_password,
    )?;
    hashed?;
    Ok(broker)
}

/// All or none: what is open is closed again if one cannot be opened.
async fn open_listeners(
    listeners: &Listeners,
    switches: &Switches,
    enabled: &[String],
) -> Result<(), ListenError> {
    listeners.open(Protocol::Amqp)?;
    if effective(enabled).iter().any(|plugin| plugin.name == MQTT)
        && let Err(why) = switches.start_mqtt()
    {
        listeners.close(Protocol::Amqp).await;
        return Err(why);
    }
    Ok(())
}

/// Listeners as `status` shows them, with RabbitMQ's names.
fn rows_of(listeners: &Arc<Listeners>) -> leveret_management::context::Listeners {
    let listeners = Arc::clone(listeners);
    Arc::new(move || {
        let row = |view: ListenerView| {
            let (protocol, purpose) = match view.protocol {
                Protocol::Amqp => ("amqp", "AMQP 0-9-1"),
                Protocol::Mqtt => ("mqtt", "MQTT"),
            };
            let ip = view.address.ip();
            ListenerRow {
                protocol: protocol.to_owned(),
                purpose: purpose.to_owned(),
                interface: if ip.is_ipv6() {
                    format!("[{ip}]")
                } else {
                    ip.to_string()
                },
                port: view.address.port(),
            }
        };
        listeners.list().into_iter().map(row).collect()
    })
}

/// `leveret@` and the first part of the machine's name.
fn node_name() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let short = host
        .split('.')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or("localhost");
    format!("leveret@{short}")
}

impl Server {
    /// The broker itself.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Every open listener, with the ports that they got.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerView> {
        self.listeners.list()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Stops in order: nobody is accepted any more, everybody is told and has
    /// [`LEAVE_MS`] to leave, what was changed is on disk. Takes no more than 10 s.
    pub async fn shutdown(self) {
        self.listeners.stop();
        let told = self.broker.close_peers(&CloseReason::Shutdown, |_| true);
        tracing::info!(connections = told, "stopping");
        for protocol in [Protocol::Amqp, Protocol::Mqtt] {
            self.listeners.close(protocol).await;
        }
        // Whoever was accepted while the listeners closed.
        self.broker.close_peers(&CloseReason::Shutdown, |_| true);
        wait_while(LEAVE_MS, || self.broker.peer_count() > 0).await;
        // What is left of them is streams that close.
        wait_while(CLOSE_MS, || self.listeners.connections() > 0).await;
        self.control.abort();
        // Cancelled, as it was asked to be; the socket's file went with the task.
        let _ = self.control.await;
        self.timers.abort();
        let _ = self.timers.await;
        self.monitor.abort();
        let _ = self.monitor.await;
        for announcer in self.announcers {
            announcer.abort();
            let _ = announcer.await;
        }
        self.broker.stop();
        let all = self.definitions.submit(Vec::new());
        flush(self.definitions.watermark(), all, || {
            self.definitions.fault()
        })
        .await;
        let all = self.journal.flush();
        flush(self.journal.watermark(), all, || self.journal.fault()).await;
        // Whoever starts again on the same directory finds nothing open.
        let Self {
            broker,
            listeners,
            definitions,
            journal,
            data_dir,
            ..
        } = self;
        drop((broker, listeners, journal));
        wait_while(CLOSE_MS, || Arc::strong_count(&definitions) > 1).await;
        drop(definitions);
        drop(data_dir);
        tracing::info!("stopped");
    }
}

/// Waits until something is no longer so, or for so long.
async fn wait_while(limit_ms: u64, mut is_so: impl FnMut() -> bool) {
    for _ in 0..limit_ms.div_ceil(LOOK_MS) {
        if !is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// Waits for the disk to have everything that was changed.
async fn flush(watermark: &Watermark, all: u64, fault: impl Fn() -> Option<String>) {
    let bell = Arc::new(Bell(Notify::new()));
    let waker: Arc<dyn Wake> = bell.clone();
    if !watermark.wait(all, &waker) {
        return;
    }
    let limit = Duration::from_millis(FLUSH_MS);
    let _ = tokio::time::timeout(limit, bell.0.notified()).await;
    if watermark.durable() < all {
        let why = fault().unwrap_or_else(|| "the disk is too slow".to_owned());
        tracing::error!(error = why, "the last changes may not be on disk");
    }
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// How often somebody looks whether the last connection has gone.
const LOOK_MS: u64 = 10;

const _: () = assert!(CLOSE_MS > leveret_net::driver::DRAIN_MS);
const _: () = assert!(LEAVE_MS + CLOSE_MS + FLUSH_MS < 10_000);

#[cfg(test)]
mod tests {
    use leveret_net::options::ListenerOptions;

    use super::*;

    fn config(data_dir: &Path) -> Config {
        let listener = |protocol| ListenerOptions {
            name: "default".into(),
            protocol,
            addresses: vec![([127, 0, 0, 1], 0).into()],
            vhost: None,
            backlog: 16,
            nodelay: true,
        };
        Config {
            data_dir: Some(data_dir.to_path_buf()),
            net: leveret_net::options::Options {
                listeners: vec![listener(Protocol::Amqp), listener(Protocol::Mqtt)],
            },
            ..Config::default()
        }
    }

    fn protocols(server: &Server) -> Vec<Protocol> {
        server
            .listeners()
            .iter()
            .map(|view| view.protocol)
            .collect()
    }

    #[tokio::test]
    async fn starts_stops_and_starts_again_with_what_was_defined() {
        let directory = tempfile::tempdir().expect("directory");
        let server = start(config(directory.path())).await.expect("starts");
        assert_eq!(protocols(&server), [Protocol::Amqp, Protocol::Mqtt]);
        server.broker().add_vhost("factory").expect("a new vhost");
        let error = start(config(directory.path())).await.expect_err("in use");
        assert!(
            matches!(error, StartError::DataDir(DataDirError::InUse { .. })),
            "{error}"
        );
        server.shutdown().await;

        let plugins = directory.path().join("enabled_plugins");
        assert_eq!(enabled_plugins::read(&plugins).expect("made"), [MQTT]);
        enabled_plugins::write::<&str>(&plugins, &[]).expect("writes");
        let server = start(config(directory.path())).await.expect("starts again");
        assert!(server.broker().vhost("factory").is_some());
        // O1: a plugin that is not enabled has no listeners.
        assert_eq!(protocols(&server), [Protocol::Amqp]);
        server.shutdown().await;
    }

    /// A 5.0 client whose session and will outlive the connection by an hour.
    const CONNECT: &[u8] = b"\x10\x1e\0\x04MQTT\x05\x06\0\x3c\x05\x11\0\0\x0e\x10\0\x01c\
        \x05\x18\0\0\x0e\x10\0\x01t\0\0";

    #[tokio::test]
    async fn nothing_that_waits_keeps_the_broker_alive() {
        let directory = tempfile::tempdir().expect("directory");
        let server = start(config(directory.path())).await.expect("starts");
        let broker = Arc::downgrade(server.broker());
        let mqtt = server.listeners()[1].address;
        let silent = tokio::net::TcpStream::connect(mqtt).await.expect("open");
        let client = tokio::net::TcpStream::connect(mqtt).await.expect("open");
        client.writable().await.expect("open");
        assert_eq!(client.try_write(CONNECT).ok(), Some(CONNECT.len()));
        client.readable().await.expect("open");
        let mut connack = [0; 64];
        assert!(client.try_read(&mut connack).is_ok_and(|count| count > 4));
        // [MQTT-3.2.2-8]: success.
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        drop(client);

        let stopping = tokio::spawn(server.shutdown());
        // It never said CONNECT, and is told to go like the rest.
        silent.readable().await.expect("open");
        assert_eq!(silent.try_read(&mut connack).ok(), Some(0));
        drop(silent);
        stopping.await.expect("stops");
        assert_eq!(broker.strong_count(), 0);
    }

    #[tokio::test]
    async fn a_port_in_use_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("directory");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut wish = config(directory.path());
        wish.net.listeners[1].addresses = vec![taken.local_addr().expect("bound")];
        let error = start(wish).await.expect_err("in use");
        assert!(
            error.to_string().contains("set mqtt.listeners.tcp.default"),
            "{error}"
        );
        let server = start(config(directory.path()))
            .await
            .expect("nothing is locked");
        server.shutdown().await;
    }
}
