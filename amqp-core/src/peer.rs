//! Connections as the broker knows them: to list them, and to end them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::sink::Sink;

/// A stream that a listener accepted, before its first byte.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The client's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// What accepted it.
    pub origin: Arc<Origin>,
}

/// What all streams of a listener have in common.
#[derive(Debug, Default)]
pub struct Origin {
    /// The listener's name in the configuration.
    pub listener: Box<str>,
    /// The vhost that the listener is bound to, if it is.
    pub vhost: Option<Box<str>>,
}

impl Origin {
    /// A listener with this name, bound to a vhost or to none.
    #[must_use]
    pub fn new(listener: &str, vhost: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            listener: listener.into(),
            vhost: vhost.map(Into::into),
        })
    }
}

/// What the broker asks a connection to do or to tell.
pub trait Peer: Sink {
    /// What listings tell of the connection.
    fn view(&self) -> PeerView;

    /// What listings tell of its AMQP channels; of MQTT connections there are none.
    fn channels(&self) -> Vec<ChannelView> {
        Vec::new()
    }

    /// Queues say something else than before about how long a delivery may wait for its
    /// acknowledgement. Never blocks.
    fn timeouts_changed(&self) {}

    /// The permissions of these users have changed: if the connection is one of theirs, it asks
    /// again for what it has. Never blocks.
    fn permissions_changed(&self, _users: &HashSet<Box<str>>) {}

    /// Ends the connection: the client is told, then it is closed. Never blocks.
    fn close(&self, why: &CloseReason);
}

/// Why the broker ends a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The broker is shutting down.
    Shutdown,
    /// An administrator asked for it, with these words.
    Administrator(Box<str>),
    /// The virtual host is deleted.
    VHostDeleted(Box<str>),
    /// The listener's plugin was disabled.
    PluginDisabled,
    /// What it waits to be told is not on disk, and never will be.
    DiskFailed,
}

/// What is told of a channel; `None` for what its connection does not tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelView {
    /// Its number on its connection.
    pub number: u16,
    /// Consumers that it has started.
    pub consumers: u64,
    /// Deliveries not acknowledged.
    pub unacked: u64,
    /// `basic.qos` for each consumer, 0 for none.
    pub prefetch: Option<u32>,
    /// `basic.qos` for the whole channel, 0 for none.
    pub global_prefetch: Option<u32>,
    /// It confirms what is published.
    pub confirm: Option<bool>,
    /// Published and not confirmed yet.
    pub unconfirmed: Option<u64>,
    /// It is in tx mode.
    pub transactional: Option<bool>,
    /// Published in the transaction that is open.
    pub uncommitted: Option<u64>,
    /// Acknowledged in the transaction that is open.
    pub acks_uncommitted: Option<u64>,
}

/// What is told of a connection.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// `AMQP 0-9-1`, `MQTT 3-1`, `MQTT 3-1-1`, `MQTT 5-0`.
    pub protocol: &'static str,
    /// The client's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// The user, empty before login.
    pub user: String,
    /// The vhost, empty before login.
    pub vhost: String,
    /// `starting`, `running`, `blocked` or `closing`.
    pub state: &'static str,
    /// Open AMQP channels.
    pub channels: u64,
    /// The negotiated frame size, 0 for MQTT.
    pub frame_max: u32,
    /// The negotiated number of channels, 0 for MQTT.
    pub channel_max: u32,
    /// Heartbeat or keep alive in seconds.
    pub timeout_s: u32,
    /// When it was accepted, milliseconds since the epoch.
    pub connected_at: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes that wait to be sent.
    pub pending_bytes: u64,
    /// `PLAIN` and the like; `none` for MQTT.
    pub auth_mechanism: String,
    /// MQTT only.
    pub client_id: Option<String>,
    /// MQTT only: whether the session ends with the connection.
    pub clean_session: Option<bool>,
    /// Deliveries not acknowledged.
    pub unacked: u64,
    /// AMQP only: what the client said of itself.
    pub client_properties: crate::field::Table,
}
