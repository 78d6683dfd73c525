//! What an operator may set about AMQP 0-9-1 connections: plain values with their defaults.
//!
//! Never reads a file or the environment: whoever assembles the broker fills these in. The
//! negotiated values are those of `connection.tune`, AMQP 0-9-1 §1.4.2.6.

use leveret_core::identity::IdentityHeaders;
use leveret_core::options::AnonymousLogin;

/// Options of AMQP 0-9-1 connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Largest frame that `connection.tune` offers, in bytes, 8,192 to 16,777,216; 0 is no
    /// limit.
    pub frame_max: u32,
    /// Largest frame before `connection.tune-ok`, in bytes, from 4,096.
    pub initial_frame_max: u32,
    /// Highest channel number that `connection.tune` offers; 0 is no limit.
    pub channel_max: u16,
    /// Heartbeat that `connection.tune` offers, in seconds; 0 switches heartbeats off.
    pub heartbeat_s: u16,
    /// Time from accept to `connection.open`, in milliseconds, at least 1.
    pub handshake_timeout_ms: u64,
    /// How long a delivery may wait for its acknowledgement, in milliseconds; 0 is for ever.
    pub consumer_timeout_ms: u32,
    /// Mechanisms that `connection.start` offers, in this order; at least one.
    pub mechanisms: Vec<Mechanism>,
    /// Who a client of the ANONYMOUS mechanism is; `None` refuses it.
    pub anonymous_login: Option<AnonymousLogin>,
    /// Where headers that say who published are the broker's alone.
    pub identity: IdentityHeaders,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frame_max: 131_072,
            initial_frame_max: 8_192,
            channel_max: 2_047,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            consumer_timeout_ms: 1_800_000,
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous],
            anonymous_login: Some(AnonymousLogin::default()),
            identity: IdentityHeaders::default(),
        }
    }
}

/// A SASL mechanism of `connection.start`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mechanism {
    /// `PLAIN`, RFC 4616.
    Plain,
    /// `AMQPLAIN`: a field table with `LOGIN` and `PASSWORD`.
    AmqPlain,
    /// `ANONYMOUS`, RFC 4505.
    Anonymous,
}

impl Mechanism {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// The mechanism with this name on the wire, letter by letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::AmqPlain, Self::Anonymous]
            .into_iter()
            .find(|m| m.name() == name)
    }
}
