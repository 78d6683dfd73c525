//! One broker for one test: started in this process, stopped, started again on the same data.
//!
//! Owns the data directory and the deadline of every wait. Never speaks MQTT or AMQP.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leveret::server::{self, Server, StartError};
use leveret_config::Config;
use leveret_core::broker::Broker;
use leveret_core::queue::Queue;
use leveret_management::protocol::{Failure, Request, SOCKET_FILE};
use leveret_net::options::{ListenerOptions, Options, Protocol};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// No wait of any test takes this long, however slow the machine; one that does has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running broker and its data directory.
pub(crate) struct TestBroker {
    server: Server,
    directory: TempDir,
    configure: fn(&mut Config),
}

/// A listener on a port that the system chooses.
pub(crate) fn listener(protocol: Protocol, name: &str) -> ListenerOptions {
    ListenerOptions {
        name: name.to_owned(),
        protocol,
        addresses: vec![([127, 0, 0, 1], 0).into()],
        vhost: None,
        backlog: 1_024,
        nodelay: true,
    }
}

/// The options of a test's broker: the defaults, on ports and in a directory of its own.
pub(crate) fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: Some(data_dir.to_path_buf()),
        net: Options {
            listeners: vec![
                listener(Protocol::Amqp, "default"),
                listener(Protocol::Mqtt, "default"),
            ],
        },
        ..Config::default()
    }
}

impl TestBroker {
    /// A broker with default options.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// A broker with other options.
    pub(crate) async fn start_with(configure: fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a data directory");
        Self::start_in(directory, configure)
            .await
            .expect("the broker starts")
    }

    async fn start_in(directory: TempDir, configure: fn(&mut Config)) -> Result<Self, StartError> {
        let mut wish = config(directory.path());
        configure(&mut wish);
        Ok(Self {
            server: server::start(wish).await?,
            directory,
            configure,
        })
    }

    /// Stops, and starts again on the same data directory, on other ports.
    pub(crate) async fn restart(self) -> Self {
        within(self.server.shutdown()).await;
        Self::start_in(self.directory, self.configure)
            .await
            .expect("the broker starts again")
    }

    /// Stops.
    pub(crate) async fn stop(self) {
        within(self.server.shutdown()).await;
    }

    /// The core.
    pub(crate) fn core(&self) -> &Arc<Broker> {
        self.server.broker()
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        self.server.data_dir()
    }

    /// The first AMQP port.
    pub(crate) fn amqp(&self) -> SocketAddr {
        self.port(Protocol::Amqp, 0)
    }

    /// The first MQTT port.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.port(Protocol::Mqtt, 0)
    }

    /// A port by its place among those of the protocol.
    pub(crate) fn port(&self, protocol: Protocol, place: usize) -> SocketAddr {
        let listeners = self.server.listeners();
        let mut of_protocol = listeners.iter().filter(|view| view.protocol == protocol);
        of_protocol.nth(place).expect("it is open").address
    }

    /// A queue of the vhost `/`.
    pub(crate) fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queue_in("/", name)
    }

    /// A queue.
    pub(crate) fn queue_in(&self, vhost: &str, name: &str) -> Option<Arc<Queue>> {
        self.core().vhost(vhost)?.queue(name)
    }

    /// Asks over the control socket, as `leveret ctl` does, and expects success.
    pub(crate) async fn ctl(&self, command: &str, arguments: Value) -> Value {
        self.try_ctl(command, arguments)
            .await
            .unwrap_or_else(|failure| panic!("{command}: {failure}"))
    }

    /// Asks over the control socket.
    pub(crate) async fn try_ctl(&self, command: &str, arguments: Value) -> Result<Value, Failure> {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object");
        };
        let command = command.to_owned();
        let mut line = serde_json::to_vec(&Request { command, arguments }).expect("is JSON");
        line.push(b'\n');
        let socket = self.data_dir().join(SOCKET_FILE);
        let answer = within(async {
            let mut stream = UnixStream::connect(socket).await.expect("it listens");
            stream.write_all(&line).await.expect("it reads");
            let mut answer = String::new();
            let mut reader = BufReader::new(stream);
            reader.read_line(&mut answer).await.expect("it answers");
            answer
        })
        .await;
        let mut reply: Value = serde_json::from_str(&answer).expect("an answer");
        match reply.get_mut("error").map(Value::take) {
            Some(failure) => Err(serde_json::from_value(failure).expect("a failure")),
            None => Ok(reply["ok"].take()),
        }
    }

    /// Adds a user who may do everything in some vhosts.
    pub(crate) async fn add_user(&self, name: &str, password: &str, vhosts: &[&str]) {
        let user = serde_json::json!({ "username": name, "password": password });
        self.ctl("add_user", user).await;
        for vhost in vhosts {
            self.permit(name, vhost, [".*", ".*", ".*"]).await;
        }
    }

    /// Sets what a user may configure, write and read.
    pub(crate) async fn permit(&self, user: &str, vhost: &str, patterns: [&str; 3]) {
        let [configure, write, read] = patterns;
        let wish = serde_json::json!({
            "username": user, "vhost": vhost,
            "configure": configure, "write": write, "read": read,
        });
        self.ctl("set_permissions", wish).await;
    }
}

/// Waits for something that happens, and fails if it does not.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it happens before the deadline")
}

/// Waits until something is so that nobody tells.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let waited = async {
        while !is_so() {
            ticks.tick().await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, waited).await.is_ok(),
        "never so: {what}"
    );
}
