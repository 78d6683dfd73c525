//! What an operator may set about listeners: plain values with their defaults.
//!
//! Never reads a file or the environment: whoever assembles the broker fills these in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Options of the network side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// The listeners to open at start: AMQP ones first, each protocol sorted by name.
    pub listeners: Vec<ListenerOptions>,
}

impl Default for Options {
    fn default() -> Self {
        let listener = |protocol, port| ListenerOptions {
            name: "default".into(),
            protocol,
            addresses: all_interfaces(port),
            vhost: None,
            backlog: 4_096,
            nodelay: true,
        };
        Self {
            listeners: vec![
                listener(Protocol::Amqp, 5672),
                listener(Protocol::Mqtt, 1883),
            ],
        }
    }
}

/// One listener: a name, and the sockets that answer under it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerOptions {
    /// Unique among the listeners of its protocol.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where to listen; at least one. An IPv6 address stands for IPv6 only. Port 0 lets the
    /// system choose.
    pub addresses: Vec<SocketAddr>,
    /// Virtual host of every connection of this listener; `None` leaves the choice to the client.
    pub vhost: Option<String>,
    /// Length of the queue of connections that wait for accept, 1 to 65,535.
    pub backlog: u32,
    /// Whether small segments are sent at once (`TCP_NODELAY`).
    pub nodelay: bool,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// AMQP 0-9-1.
    Amqp,
    /// MQTT 3.1, 3.1.1 and 5.0.
    Mqtt,
}

impl Protocol {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amqp => "AMQP",
            Self::Mqtt => "MQTT",
        }
    }

    /// The setting of the listener of this name.
    #[must_use]
    pub fn key(self, name: &str) -> String {
        match self {
            Self::Amqp => format!("listeners.tcp.{name}"),
            Self::Mqtt => format!("mqtt.listeners.tcp.{name}"),
        }
    }
}

/// The addresses of a listener that is given by its port alone: all of IPv6 and all of IPv4.
#[must_use]
pub fn all_interfaces(port: u16) -> Vec<SocketAddr> {
    vec![
        (Ipv6Addr::UNSPECIFIED, port).into(),
        (Ipv4Addr::UNSPECIFIED, port).into(),
    ]
}
