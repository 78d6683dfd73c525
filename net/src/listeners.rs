//! All listeners of a broker, opened and closed while it runs.
//!
//! Owns which sockets are open. Closing a listener accepts no more; connections that it accepted
//! live on until somebody ends them through the broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::listener::{self, Door, ListenError};
use crate::options::{ListenerOptions, Protocol};
use crate::serve::Protocols;

/// The listeners of one broker.
#[derive(Debug)]
pub struct Listeners {
    options: Vec<ListenerOptions>,
    protocols: Arc<Protocols>,
    amqp_connections: Arc<AtomicU64>,
    mqtt_connections: Arc<AtomicU64>,
    open: Mutex<Vec<Open>>,
}

/// One open socket.
#[derive(Debug)]
struct Open {
    door: Door,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// What is told of one open socket of a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerView {
    /// The listener's name in the configuration.
    pub name: Arc<str>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where it listens, with the port that it got where it asked for any.
    pub address: SocketAddr,
    /// The vhost that it is bound to.
    pub vhost: Option<Arc<str>>,
    /// Connections that it accepted and that are there now.
    pub connections: u64,
}

impl Listeners {
    /// Knows these listeners; none is open yet.
    #[must_use]
    pub fn new(options: Vec<ListenerOptions>, protocols: Arc<Protocols>) -> Self {
        Self {
            options,
            protocols,
            amqp_connections: Arc::default(),
            mqtt_connections: Arc::default(),
            open: Mutex::default(),
        }
    }

    /// Opens all listeners of a protocol, unless they are open. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// One cannot be opened: none is.
    pub fn open(&self, protocol: Protocol) -> Result<(), ListenError> {
        let mut open = self.open.lock();
        if open
            .iter()
            .any(|listener| listener.door.protocol == protocol)
        {
            return Ok(());
        }
        let wanted = self
            .options
            .iter()
            .filter(|options| options.protocol == protocol);
        let mut bound = Vec::new();
        for options in wanted {
            let door = self.door(options);
            for socket in listener::bind(options)? {
                bound.push((door.clone(), socket));
            }
        }
        for (door, socket) in bound {
            // A socket that is bound has an address; one that has none answers nobody.
            let Ok(address) = socket.local_addr() else {
                continue;
            };
            tracing::info!(
                listener = &*door.name,
                protocol = protocol.name(),
                %address,
                "listening"
            );
            open.push(self.start(door, address, socket));
        }
        Ok(())
    }

    fn door(&self, options: &ListenerOptions) -> Door {
        let (all, connections_max) = match options.protocol {
            Protocol::Amqp => (&self.amqp_connections, None),
            Protocol::Mqtt => (
                &self.mqtt_connections,
                self.protocols.mqtt.options.connections_max,
            ),
        };
        Door {
            name: options.name.as_str().into(),
            protocol: options.protocol,
            vhost: options.vhost.as_deref().map(Into::into),
            nodelay: options.nodelay,
            here: Arc::default(),
            all: Arc::clone(all),
            connections_max,
        }
    }

    fn start(&self, door: Door, address: SocketAddr, socket: TcpListener) -> Open {
        let protocols = Arc::clone(&self.protocols);
        let protocol = door.protocol;
        let accepting = listener::accept(socket, door.clone(), move |stream, accepted, place| {
            protocols.serve(protocol, stream, accepted, place);
        });
        Open {
            door,
            address,
            accepting: tokio::spawn(accepting),
        }
    }

    /// Closes all listeners of a protocol; when this returns, nobody listens on their ports.
    pub async fn close(&self, protocol: Protocol) {
        let closed: Vec<Open> = {
            let mut open = self.open.lock();
            open.extract_if(.., |listener| listener.door.protocol == protocol)
                .collect()
        };
        for listener in closed {
            listener.accepting.abort();
            // Cancelled, as it was asked to be; the socket went with the task.
            let _ = listener.accepting.await;
            tracing::info!(
                listener = &*listener.door.name,
                protocol = protocol.name(),
                address = %listener.address,
                "no longer listening"
            );
        }
    }

    /// Whether a listener of this protocol is open.
    #[must_use]
    pub fn is_open(&self, protocol: Protocol) -> bool {
        self.open
            .lock()
            .iter()
            .any(|listener| listener.door.protocol == protocol)
    }

    /// Every open socket, in the order of the configuration.
    #[must_use]
    pub fn list(&self) -> Vec<ListenerView> {
        let mut all: Vec<_> = self.open.lock().iter().map(Open::view).collect();
        all.sort_by_key(|view| view.protocol);
        all
    }

    /// Connections that are there now, also of listeners that are closed.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.amqp_connections.load(Ordering::Acquire)
            + self.mqtt_connections.load(Ordering::Acquire)
    }
}

impl Open {
    fn view(&self) -> ListenerView {
        ListenerView {
            name: Arc::clone(&self.door.name),
            protocol: self.door.protocol,
            address: self.address,
            vhost: self.door.vhost.clone(),
            connections: self.door.here.load(Ordering::Acquire),
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for listener in self.open.get_mut() {
            listener.accepting.abort();
        }
    }
}
