//! All listeners of a broker, opened and closed while it runs.
//!
//! Owns which sockets are open. Closing a listener accepts no more; connections that it accepted
//! live on until somebody ends them through the broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_core::peer::Origin;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::listener::{self, Counts, Door, ListenError, Listening};
use crate::options::{ListenerOptions, Protocol};
use crate::serve::Protocols;

/// The listeners of one broker.
#[derive(Debug)]
pub struct Listeners {
    /// Where connections are accepted.
    home: Handle,
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
    pub name: Box<str>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where it listens, with the port that it got where it asked for any.
    pub address: SocketAddr,
    /// The vhost that it is bound to.
    pub vhost: Option<Box<str>>,
    /// Connections that it accepted and that are there now.
    pub connections: u64,
}

impl Listeners {
    /// Knows these listeners; none is open yet.
    #[must_use]
    pub fn new(options: Vec<ListenerOptions>, protocols: Arc<Protocols>, home: Handle) -> Self {
        Self {
            home,
            options,
            protocols,
            amqp_connections: Arc::default(),
            mqtt_connections: Arc::default(),
            open: Mutex::default(),
        }
    }

    /// Opens all listeners of a protocol, unless they are open.
    ///
    /// # Errors
    /// One cannot be opened: none is.
    pub fn open(&self, protocol: Protocol) -> Result<(), ListenError> {
        let _home = self.home.enter();
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
            let address = socket.address();
            tracing::info!(
                listener = &*door.origin.listener,
                "started {} TCP listener on {address}",
                protocol.name()
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
            origin: Origin::new(&options.name, options.vhost.as_deref()),
            protocol: options.protocol,
            counts: Arc::new(Counts {
                here: AtomicU64::new(0),
                all: Arc::clone(all),
            }),
            connections_max,
        }
    }

    fn start(&self, door: Door, address: SocketAddr, socket: Listening) -> Open {
        let protocols = Arc::clone(&self.protocols);
        let protocol = door.protocol;
        let accepting = listener::accept(socket, door.clone(), move |stream, accepted, place| {
            protocols.serve(protocol, stream, accepted, place);
        });
        Open {
            door,
            address,
            accepting: self.home.spawn(accepting),
        }
    }

    /// Closes all listeners of a protocol; when this returns, nobody listens on their ports.
    pub async fn close(&self, protocol: Protocol) {
        let closed: Vec<Open> = {
            let mut open = self.open.lock();
            open.extract_if(.., |listener| listener.door.protocol == protocol)
                .collect()
        };
        // All of them first: a busy thread takes its time to let go of each.
        for listener in &closed {
            listener.accepting.abort();
        }
        for listener in closed {
            // Cancelled, as it was asked to be; the socket went with the task.
            let _ = listener.accepting.await;
            tracing::info!(
                listener = &*listener.door.origin.listener,
                "stopped {} TCP listener on {}",
                protocol.name(),
                listener.address
            );
        }
    }

    /// Has all listeners of all protocols close, without waiting until they have.
    pub fn stop(&self) {
        for listener in self.open.lock().iter() {
            listener.accepting.abort();
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
            name: self.door.origin.listener.clone(),
            protocol: self.door.protocol,
            address: self.address,
            vhost: self.door.origin.vhost.clone(),
            connections: self.door.counts.here.load(Ordering::Acquire),
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

#[cfg(test)]
mod tests {
    use leveret_auth::login::Internal;
    use leveret_core::broker::Broker;
    use leveret_core::definitions::Volatile;
    use leveret_core::journal::MemoryJournal;
    use leveret_core::time::Time;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::clock::Clock;
    use crate::driver::Surroundings;
    use crate::login::Authenticator;

    fn listeners() -> Listeners {
        let broker = Broker::open(
            leveret_core::options::Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(0),
            String::new,
        )
        .expect("nothing to load");
        let internal = Arc::new(Internal::new(&mut StdRng::seed_from_u64(1)));
        let protocols = Protocols {
            mqtt: leveret_mqtt::Node::new(Arc::clone(&broker), Default::default()),
            amqp: leveret_amqp::Node::new(Arc::clone(&broker), Default::default()),
            surroundings: Arc::new(Surroundings {
                clock: Clock::start(),
                authenticator: Arc::new(Authenticator::new(broker, internal)),
            }),
        };
        let options = |protocol, name: &str| ListenerOptions {
            name: name.into(),
            protocol,
            addresses: vec![([127, 0, 0, 1], 0).into()],
            vhost: None,
            backlog: 16,
            nodelay: true,
        };
        let all = vec![
            options(Protocol::Amqp, "a"),
            options(Protocol::Mqtt, "m1"),
            options(Protocol::Mqtt, "m2"),
        ];
        Listeners::new(all, Arc::new(protocols), Handle::current())
    }

    #[tokio::test]
    async fn one_protocol_opens_and_closes_beside_the_other() {
        let listeners = listeners();
        listeners.open(Protocol::Amqp).expect("free ports");
        listeners.open(Protocol::Mqtt).expect("free ports");
        listeners.open(Protocol::Mqtt).expect("open already");
        let open = listeners.list();
        let names: Vec<_> = open.iter().map(|view| &*view.name).collect();
        assert_eq!(names, ["a", "m1", "m2"]);
        assert!(open.iter().all(|view| view.address.port() > 0));

        listeners.close(Protocol::Mqtt).await;
        assert!(listeners.is_open(Protocol::Amqp) && !listeners.is_open(Protocol::Mqtt));
        assert!(TcpStream::connect(open[0].address).await.is_ok());
        assert!(TcpStream::connect(open[1].address).await.is_err());
    }

    #[tokio::test]
    async fn connections_are_served_and_counted() {
        let listeners = listeners();
        listeners.open(Protocol::Mqtt).expect("free ports");
        let address = listeners.list()[0].address;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        // CONNECT of MQTT 3.1.1 with a protocol name that is none; the answer is the end.
        // [MQTT-3.1.2-1]
        client
            .write_all(b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x3c\x00\x00")
            .await
            .expect("room");
        let mut answer = Vec::new();
        client
            .read_to_end(&mut answer)
            .await
            .expect("an end, not a reset");
        assert_eq!(
            listeners.connections(),
            1,
            "it waits for the client to close"
        );
        drop(client);
        while listeners.connections() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
