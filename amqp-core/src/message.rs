//! A message in neutral form: key, properties and body as the publisher's protocol brought them,
//! plus the few facts that routing and queues need. Immutable and shared; converted to the other
//! protocol only by who needs that.
//!
//! On the way it is a [`MessageRef`] that borrows the publisher's read buffer. It becomes a
//! [`Message`], one allocation behind a thin pointer, only when a queue or an unacknowledged
//! delivery must hold it.

use std::fmt;

use triomphe::ThinArc;

use crate::key::{self, Form};
use crate::properties::BasicProperties;
use crate::time::Time;

/// The protocol that brought a message: it alone can read the message's properties.
pub trait Origin: Send + Sync + 'static {
    /// Tells it from others, on disk: 1 is MQTT, 2 is AMQP 0-9-1.
    fn tag(&self) -> u8;

    /// Appends the message's properties as AMQP basic properties (flags and values, AMQP 0-9-1
    /// §4.2.6.1).
    fn append_basic_properties(&self, message: &MessageRef<'_>, out: &mut Vec<u8>);

    /// The priority among them. MQTT has none.
    fn priority(&self, _message: &MessageRef<'_>) -> Option<u8> {
        None
    }
}

/// AMQP publishers: the properties are basic properties already.
#[derive(Debug)]
pub struct AmqpOrigin;

impl Origin for AmqpOrigin {
    fn tag(&self) -> u8 {
        2
    }

    fn append_basic_properties(&self, message: &MessageRef<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(message.properties);
    }

    #[inline]
    fn priority(&self, message: &MessageRef<'_>) -> Option<u8> {
        // Nearly all have none: the flags say so.
        let flags = u16::from_be_bytes(*message.properties.first_chunk()?);
        if flags & PRIORITY_FLAG == 0 {
            return None;
        }
        BasicProperties::parse(message.properties).ok()?.priority
    }
}

/// The flag of the property `priority` (AMQP 0-9-1 §4.2.6.1).
const PRIORITY_FLAG: u16 = 1 << 11;

/// The facts about a message that routing and queues need.
#[derive(Clone, Copy)]
pub struct Head {
    /// Who can read the properties.
    pub origin: &'static dyn Origin,
    /// How the key is written.
    pub form: Form,
    /// Survives a restart in a durable queue (delivery mode 2, QoS 1 or 2).
    pub persistent: bool,
    /// Published with QoS 2 of MQTT. Such a message is persistent as well.
    pub exactly_once: bool,
    /// The publisher asked that it be retained.
    pub retain: bool,
    /// The publisher's identity: the same for all messages of one client, 0 for none.
    pub publisher: u64,
    /// When the broker received it.
    pub received: Time,
    /// When it is worth nothing any more; `None` is never.
    pub expires: Option<Time>,
}

impl Head {
    /// The QoS that it was published with; of AMQP's messages, transient ones have 0 and persistent
    /// ones 1.
    #[must_use]
    pub fn qos(&self) -> u8 {
        u8::from(self.persistent) + u8::from(self.exactly_once)
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("form", &self.form)
            .field("persistent", &self.persistent)
            .field("exactly_once", &self.exactly_once)
            .field("retain", &self.retain)
            .field("publisher", &self.publisher)
            .field("received", &self.received)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A message that borrows its parts.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// The facts.
    pub head: Head,
    /// The exchange that it was published to; at most 255 bytes.
    pub exchange: &'a str,
    /// Topic or routing key, see [`Head::form`]; at most 65,535 bytes.
    pub key: &'a [u8],
    /// Properties in the origin's encoding, already validated.
    pub properties: &'a [u8],
    /// The body, untouched.
    pub payload: &'a [u8],
}

impl MessageRef<'_> {
    /// Whether the message is worth nothing at `now`.
    #[must_use]
    pub fn expired(&self, now: Time) -> bool {
        self.head.expires.is_some_and(|at| at <= now)
    }

    /// Appends the key in dotted form: what an AMQP consumer is told.
    pub fn append_routing_key(&self, out: &mut Vec<u8>) {
        match self.head.form {
            Form::Dotted => out.extend_from_slice(self.key),
            Form::Slashed => key::append_dotted(self.key, out),
        }
    }

    /// Makes the message own its parts. `scratch` is only a buffer to build it in.
    #[must_use]
    pub fn to_message(&self, scratch: &mut Vec<u8>) -> Message {
        scratch.clear();
        scratch.extend_from_slice(self.exchange.as_bytes());
        scratch.extend_from_slice(self.key);
        scratch.extend_from_slice(self.properties);
        scratch.extend_from_slice(self.payload);
        let owned = OwnedHead {
            head: self.head,
            exchange_bytes: self.exchange.len() as u32,
            key_bytes: self.key.len() as u32,
            properties_bytes: self.properties.len() as u32,
        };
        Message(ThinArc::from_header_and_slice(owned, scratch))
    }
}

struct OwnedHead {
    head: Head,
    exchange_bytes: u32,
    key_bytes: u32,
    properties_bytes: u32,
}

/// A shared, immutable message: one thin pointer, one allocation.
#[derive(Clone)]
pub struct Message(ThinArc<OwnedHead, u8>);

impl Message {
    /// The facts about it.
    #[inline]
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.0.header.header.head
    }

    /// Bytes of all its parts.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.slice.len() as u64
    }

    /// Bytes of its body.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        let owned = &self.0.header.header;
        let before = owned.exchange_bytes + owned.key_bytes + owned.properties_bytes;
        self.0.slice.len() as u64 - u64::from(before)
    }

    /// Bytes of all its parts: exchange, routing key, properties and body.
    #[inline]
    #[must_use]
    pub fn part_bytes(&self) -> u64 {
        self.0.slice.len() as u64
    }

    /// The message's parts.
    #[must_use]
    pub fn view(&self) -> MessageRef<'_> {
        let owned = &self.0.header.header;
        let (exchange, rest) = self.0.slice.split_at(owned.exchange_bytes as usize);
        let (key, rest) = rest.split_at(owned.key_bytes as usize);
        let (properties, payload) = rest.split_at(owned.properties_bytes as usize);
        MessageRef {
            head: owned.head,
            // It was a `str` when the message was made.
            exchange: std::str::from_utf8(exchange).unwrap_or_default(),
            key,
            properties,
            payload,
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
