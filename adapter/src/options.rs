//! What an operator may set about MQTT connections and sessions: plain values with their defaults.
//!
//! Never reads a file or the environment: whoever assembles the broker fills these in.

use std::collections::BTreeMap;

use leveret_core::identity::IdentityHeaders;
use leveret_core::options::AnonymousLogin;

use crate::packet::ProtocolVersion;

/// Options of the MQTT adapter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Whether a CONNECT without user name and password may use [`Self::anonymous_login`].
    pub allow_anonymous: bool,
    /// Who an anonymous client is; `None` refuses anonymous clients.
    pub anonymous_login: Option<AnonymousLogin>,
    /// Virtual host of connections for which nothing else chooses one, 1 to 255 bytes.
    pub vhost: String,
    /// Topic exchange that MQTT topics are routed through, 1 to 255 bytes.
    pub exchange: String,
    /// Longest Session Expiry Interval that is granted, in milliseconds, at most 4,294,967,294,000;
    /// `None` lets sessions last for ever.
    pub session_expiry_max_ms: Option<u64>,
    /// Unacknowledged QoS 1 messages that one connection may hold, 1 to 65,535.
    pub prefetch: u16,
    /// In place of [`Self::prefetch`], with QoS 0 behind a full window; 0 is as many as there are
    /// packet identifiers.
    pub inflight_max: Option<u16>,
    /// Greatest Receive Maximum of a 5.0 client that is made use of, 1 to 65,535.
    pub client_receive_max: u16,
    /// Whether messages of QoS 0 are delivered with the QoS that was subscribed to.
    pub upgrade_qos: bool,
    /// Until a delivery to a 3.1 client that was not acknowledged is sent again, in seconds; 0 is
    /// never.
    pub retry_interval_s: u16,
    /// Whether the same is done for clients of 3.1.1.
    pub retry_v4: bool,
    /// Which topic filters a client may subscribe to.
    pub topic_filters: TopicFilters,
    /// Whether a refused PUBLISH or SUBSCRIBE closes the connection; else it is answered.
    pub disconnect_on_unauthorized: bool,
    /// Time from accept to a complete CONNECT, in milliseconds, at least 1.
    pub login_timeout_ms: u64,
    /// Largest Remaining Length before login, in bytes, at most 268,435,455.
    pub packet_unauthenticated_bytes_max: u32,
    /// Largest Remaining Length after login, in bytes, at most 268,435,455.
    pub packet_authenticated_bytes_max: u32,
    /// Topic Alias Maximum that a client is told; 0 switches aliases off.
    pub topic_alias_max: u16,
    /// MQTT connections of this node; `None` is as many as there are file descriptors.
    pub connections_max: Option<u64>,
    /// Bytes that may wait in one connection's out-buffer before QoS 0 deliveries are dropped.
    pub output_bytes_max: u64,
    /// Which protocol levels may connect.
    pub protocol_versions: ProtocolVersions,
    /// What listeners have of their own, by name.
    pub listeners: BTreeMap<String, OfListener>,
    /// Where messages to AMQP say who published them.
    pub identity: IdentityHeaders,
    /// Longest Keep Alive that a 5.0 client may have, in seconds; 0 is no cap.
    pub keep_alive_max_s: u16,
    /// QoS 1 and 2 publishes that a 5.0 client may leave unfinished, 1 to 65,535.
    pub receive_maximum: u16,
    /// What a 5.0 client that asks is told as Response Information, `{client_id}` replaced by its
    /// client id; empty is nothing.
    pub response_information: String,
    /// For how long a connection may last from its login on, in seconds; 0 is no limit.
    pub connection_lifetime_s: u64,
    /// Longest client id, in bytes, at least 1.
    pub client_id_bytes_max: u16,
    /// Most levels of a topic or filter, 1 to 256; `$share/group` counts for two.
    pub topic_depth_max: u16,
    /// Subscriptions of one session, 0 for as many as there may be:
    /// [`crate::limits::SUBSCRIPTIONS_MAX`].
    pub subscriptions_max: u32,
    /// PUBLISH packets of one client that are read in a second; 0 is no limit.
    pub message_rate_max: u32,
    /// Longest Will Delay Interval, in milliseconds; `None` is what the client asks for.
    pub will_delay_max_ms: Option<u64>,
    /// Whether the will of a connection that another one takes over is not published.
    pub suppress_will_on_takeover: bool,
    /// Whether a client id belongs to the user whose session it names.
    pub client_ids_bound: bool,
    /// Whether a 5.0 client may log in by SCRAM-SHA-256.
    pub scram_sha_256: bool,
    /// Whether connections with one client id stay beside each other.
    pub multiple_sessions: bool,
    /// What such connections get of the session's messages.
    pub deliver_mode: DeliverMode,
    /// The broker's figures under `$SYS`.
    pub systree: SysTree,
    /// Whether what happens to clients is told under `$SYS`.
    pub presence_events: bool,
}

/// How the broker's figures are published under `$SYS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SysTree {
    /// Whether they are.
    pub enabled: bool,
    /// How often, in milliseconds; 0 is never.
    pub interval_ms: u64,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether they are retained.
    pub retain: bool,
    /// The virtual host that they are published in; empty is each, with its own figures.
    pub mountpoint: String,
}

impl Default for SysTree {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 20_000,
            qos: 0,
            retain: false,
            mountpoint: String::new(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_anonymous: true,
            anonymous_login: Some(AnonymousLogin::default()),
            vhost: "/".into(),
            exchange: "amq.topic".into(),
            session_expiry_max_ms: Some(86_400_000),
            prefetch: 10,
            inflight_max: None,
            client_receive_max: u16::MAX,
            upgrade_qos: false,
            retry_interval_s: 20,
            retry_v4: false,
            topic_filters: TopicFilters::Flexible,
            disconnect_on_unauthorized: true,
            login_timeout_ms: 10_000,
            packet_unauthenticated_bytes_max: 65_536,
            packet_authenticated_bytes_max: 16_777_216,
            topic_alias_max: 16,
            connections_max: None,
            output_bytes_max: 4_194_304,
            protocol_versions: ProtocolVersions::default(),
            listeners: BTreeMap::new(),
            identity: IdentityHeaders::default(),
            keep_alive_max_s: 0,
            receive_maximum: u16::MAX,
            response_information: String::new(),
            connection_lifetime_s: 0,
            client_id_bytes_max: u16::MAX,
            topic_depth_max: 256,
            subscriptions_max: 0,
            message_rate_max: 0,
            will_delay_max_ms: None,
            suppress_will_on_takeover: false,
            client_ids_bound: true,
            scram_sha_256: true,
            systree: SysTree::default(),
            presence_events: true,
            multiple_sessions: false,
            deliver_mode: DeliverMode::Fanout,
        }
    }
}

impl Options {
    /// Deliveries that a client may leave unacknowledged which takes so many at a time.
    pub(crate) fn window(&self, version: ProtocolVersion, receive_maximum: u16) -> u16 {
        let own = match self.inflight_max {
            None => self.prefetch,
            Some(0) => u16::MAX,
            Some(max) => max,
        };
        match version {
            ProtocolVersion::V5 => own.min(receive_maximum).min(self.client_receive_max),
            ProtocolVersion::V3 | ProtocolVersion::V4 => own,
        }
    }

    /// Until a delivery that was not acknowledged is sent again, in milliseconds; 0 is never
    /// ([MQTT-4.4.0-1]: only on a new connection; 3.1 does it whenever it likes).
    #[inline]
    pub(crate) fn retry_ms(&self, version: ProtocolVersion) -> u64 {
        let retries = match version {
            ProtocolVersion::V5 => false,
            ProtocolVersion::V4 => self.retry_v4,
            ProtocolVersion::V3 => true,
        };
        u64::from(retries) * u64::from(self.retry_interval_s) * 1_000
    }
}

/// What several connections with one client id get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliverMode {
    /// Each gets each message.
    Fanout,
    /// Each message goes to one of them.
    Balance,
}

/// What a listener has of its own; `None` is what the node has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OfListener {
    /// Instead of [`Options::protocol_versions`].
    pub protocol_versions: Option<ProtocolVersions>,
    /// Instead of [`Options::topic_filters`].
    pub topic_filters: Option<TopicFilters>,
}

impl Options {
    /// Whether several connections may share the queues of one session: none of them ends it.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.multiple_sessions && self.deliver_mode == DeliverMode::Balance
    }

    /// Which protocol levels may connect to this listener.
    #[must_use]
    pub fn versions_on(&self, listener: &str) -> ProtocolVersions {
        let own = self.listeners.get(listener);
        own.and_then(|own| own.protocol_versions)
            .unwrap_or(self.protocol_versions)
    }

    /// Which topic filters clients of this listener may subscribe to.
    #[must_use]
    pub fn filters_on(&self, listener: &str) -> TopicFilters {
        let own = self.listeners.get(listener);
        own.and_then(|own| own.topic_filters)
            .unwrap_or(self.topic_filters)
    }
}

/// Which topic filters a client may subscribe to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopicFilters {
    /// `#` may be any whole level, as AMQP topic exchanges have it.
    Flexible,
    /// `#` may be the last level only, `[MQTT-4.7.1-1]`.
    Strict,
}

/// The protocol levels of CONNECT that are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProtocolVersions {
    /// MQTT 3.1, protocol level 3.
    pub v3: bool,
    /// MQTT 3.1.1, protocol level 4.
    pub v4: bool,
    /// MQTT 5.0, protocol level 5.
    pub v5: bool,
}

impl ProtocolVersions {
    /// Whether a CONNECT with this protocol level is served.
    #[must_use]
    pub fn allows(self, level: u8) -> bool {
        match level {
            3 => self.v3,
            4 => self.v4,
            5 => self.v5,
            _ => false,
        }
    }
}

impl Default for ProtocolVersions {
    fn default() -> Self {
        Self {
            v3: true,
            v4: true,
            v5: true,
        }
    }
}
