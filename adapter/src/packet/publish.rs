//! PUBLISH. Owns its bytes in both directions; must never allocate while decoding, nor resolve a
//! Topic Alias. OASIS MQTT 5.0 chapter 3.3.
//!
//! ```text
//! first byte  0011 | DUP | QoS (2) | RETAIN
//! body        topic name (2 + n) | packet identifier (2, QoS 1 and 2) | 5.0: properties | payload
//! ```

use std::num::NonZeroU16;

use super::{ProtocolVersion, QoS};
use crate::codec::{self, FLAG_DUP, PacketType, Reader, TooLong};
use crate::property::{self, Properties, Property, PropertySet};
use crate::topic::TopicName;
use crate::violation::Violation;

/// A PUBLISH packet, borrowed from the bytes it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before.
    pub dup: bool,
    /// QoS of the message.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// A legal Topic Name; empty only when `topic_alias` is there.
    pub topic: &'a str,
    /// There for QoS 1 and 2, and only then.
    pub packet_id: Option<NonZeroU16>,
    /// Topic Alias, not yet resolved.
    pub topic_alias: Option<NonZeroU16>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Payload Format Indicator is 1: the payload promises to be UTF-8.
    pub payload_is_utf8: bool,
    /// The encoded block without its length, every check done. It holds what was extracted, too.
    pub raw_properties: &'a [u8],
    /// Where in them the Topic Alias stands.
    alias_at: (usize, usize),
    /// The Application Message's payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Decodes the body of a client's PUBLISH; `flags` are those of its fixed header.
    ///
    /// # Errors
    /// [`Violation::PublishQoSInvalid`], [`Violation::DupOnQoS0`],
    /// [`Violation::PacketIdentifierZero`], [`Violation::Truncated`], and those of topic names
    /// and properties.
    #[inline]
    pub fn decode(version: ProtocolVersion, flags: u8, body: &'a [u8]) -> Result<Self, Violation> {
        Self::decode_set(version, flags, body, PropertySet::ClientPublish)
    }

    /// Decodes the body of a server's PUBLISH.
    ///
    /// # Errors
    /// As [`Publish::decode`].
    pub fn decode_server(
        version: ProtocolVersion,
        flags: u8,
        body: &'a [u8],
    ) -> Result<Self, Violation> {
        Self::decode_set(version, flags, body, PropertySet::ServerPublish)
    }

    fn decode_set(
        version: ProtocolVersion,
        flags: u8,
        body: &'a [u8],
        set: PropertySet,
    ) -> Result<Self, Violation> {
        // [MQTT-3.3.1-4]
        let qos = QoS::from_bits((flags >> 1) & 0b11).ok_or(Violation::PublishQoSInvalid)?;
        let dup = flags & FLAG_DUP != 0;
        // [MQTT-3.3.1-2]; MQTT 3.1 gives DUP no meaning on QoS 0.
        if dup && qos == QoS::AtMostOnce && version != ProtocolVersion::V3 {
            return Err(Violation::DupOnQoS0);
        }
        let mut reader = Reader::new(body);
        // [MQTT-3.3.2-1]
        let topic = TopicName::check(reader.binary(TOPIC)?, TOPIC)?;
        // [MQTT-2.2.1-2]
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_identifier(PacketType::Publish)?),
        };
        let mut publish = Self {
            dup,
            qos,
            retain: flags & FLAG_RETAIN != 0,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: None,
            payload_is_utf8: false,
            raw_properties: &[],
            alias_at: (0, 0),
            payload: &[],
        };
        if version.is_v5() {
            publish.read_properties(&mut reader, set)?;
        }
        // [MQTT-4.7.3-1]; MQTT 5.0 §3.3.2.1 lets an alias stand for the name.
        if topic.is_empty() && publish.topic_alias.is_none() {
            return Err(Violation::TopicNameEmpty { field: TOPIC });
        }
        publish.payload = reader.rest();
        Ok(publish)
    }

    fn read_properties(
        &mut self,
        reader: &mut Reader<'a>,
        set: PropertySet,
    ) -> Result<(), Violation> {
        let properties = Properties::decode_placed(reader, set, |property, at| match property {
            Property::TopicAlias(alias) => {
                self.topic_alias = Some(alias);
                self.alias_at = (at.start, at.end);
            }
            Property::MessageExpiryInterval(s) => self.message_expiry_interval = Some(s),
            Property::PayloadFormatIndicator(utf8) => self.payload_is_utf8 = utf8,
            _ => {}
        })?;
        self.raw_properties = properties.raw();
        Ok(())
    }

    /// Checks the payload against its Payload Format Indicator, which a server may do
    /// (§3.3.2.3.2). One pass over the payload; [`Publish::decode`] does not.
    ///
    /// # Errors
    /// [`Violation::PayloadNotUtf8`].
    pub fn check_payload_format(&self) -> Result<(), Violation> {
        if self.payload_is_utf8 && std::str::from_utf8(self.payload).is_err() {
            return Err(Violation::PayloadNotUtf8);
        }
        Ok(())
    }

    /// The properties without the alias, which is the connection's, in two parts.
    pub(crate) fn properties_to_forward(&self) -> (&'a [u8], &'a [u8]) {
        let (from, to) = self.alias_at;
        (&self.raw_properties[..from], &self.raw_properties[to..])
    }

    /// The properties, in the order they were sent.
    #[must_use]
    pub const fn properties(&self) -> Properties<'a> {
        Properties::from_checked(self.raw_properties)
    }
}

/// What [`encode`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingPublish<'a> {
    /// Sent before; must be false for QoS 0.
    pub dup: bool,
    /// QoS it is sent with.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic Name; may be empty where an alias stands in `properties`.
    pub topic: &'a str,
    /// There for QoS 1 and 2, and only then.
    pub packet_id: Option<NonZeroU16>,
    /// Encoded properties without their length; left out before 5.0.
    pub properties: &'a [u8],
    /// The Application Message's payload.
    pub payload: &'a [u8],
}

/// Appends a PUBLISH: one reservation, no other allocation.
///
/// # Errors
/// [`TooLong`] when topic or packet is more than MQTT can carry; nothing is written then.
#[inline]
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    publish: &OutgoingPublish<'_>,
) -> Result<(), TooLong> {
    let with_id = publish.qos != QoS::AtMostOnce;
    debug_assert_eq!(
        with_id,
        publish.packet_id.is_some(),
        "[MQTT-2.2.1-2], [MQTT-2.2.1-4]"
    );
    debug_assert!(with_id || !publish.dup, "[MQTT-3.3.1-2]");
    codec::check_string(publish.topic.as_bytes())?;
    let remaining_length = encoded_len(version, publish);
    codec::put_header(out, first_byte(publish), remaining_length)?;
    codec::put_checked(out, publish.topic.as_bytes());
    if let Some(packet_id) = publish.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if version.is_v5() {
        property::put_block(out, publish.properties);
    }
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Remaining Length of what [`encode`] would write, in bytes. The whole packet is this, one byte,
/// and [`codec::variable_byte_integer_len`] of this: compare that with a client's Maximum Packet
/// Size ([MQTT-3.1.2-24]) before encoding.
#[must_use]
pub const fn encoded_len(version: ProtocolVersion, publish: &OutgoingPublish<'_>) -> usize {
    let id = if publish.packet_id.is_some() { 2 } else { 0 };
    let properties = if version.is_v5() {
        property::block_len(publish.properties)
    } else {
        0
    };
    2 + publish.topic.len() + id + properties + publish.payload.len()
}

const fn first_byte(publish: &OutgoingPublish<'_>) -> u8 {
    let dup = if publish.dup { FLAG_DUP } else { 0 };
    let retain = if publish.retain { FLAG_RETAIN } else { 0 };
    PacketType::Publish.first_byte() | dup | ((publish.qos as u8) << 1) | retain
}

const TOPIC: &str = "topic name";
const FLAG_RETAIN: u8 = 0b0001;
