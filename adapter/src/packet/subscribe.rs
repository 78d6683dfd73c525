//! SUBSCRIBE. Owns its bytes; must never judge a Topic Filter, which [`crate::topic`] does in the
//! listener's mode. OASIS MQTT 5.0 chapter 3.8.
//!
//! ```text
//! packet identifier (2) | 5.0: properties | one or more of: topic filter (2 + n) | options (1)
//! options  5.0: 00 | retain handling (2) | RAP | NL | QoS (2); before: 000000 | QoS (2)
//! ```

use std::num::{NonZeroU16, NonZeroU32};

use super::{ProtocolVersion, QoS};
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, Property, PropertySet};
use crate::topic;
use crate::violation::Violation;

/// When retained messages are sent for a subscription (MQTT 5.0 §3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    Send = 0,
    /// When the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Subscription Options. Before 5.0 all but the QoS are what 3.1.1 does: echo own messages, clear
/// RETAIN on forwarding, send retained messages at every SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// Do not send a client its own messages.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options of a subscription that asks for no more than a QoS.
    #[must_use]
    pub const fn new(qos: QoS) -> Self {
        let retain_handling = RetainHandling::Send;
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling,
        }
    }

    /// Decodes the options byte.
    ///
    /// # Errors
    /// [`Violation::SubscriptionOptionsReserved`], [`Violation::SubscribeQoSInvalid`],
    /// [`Violation::RetainHandlingInvalid`].
    pub const fn decode(version: ProtocolVersion, options: u8) -> Result<Self, Violation> {
        let reserved = if version.is_v5() {
            0b1100_0000
        } else {
            0b1111_1100
        };
        // [MQTT-3.8.3-5], 3.1.1 [MQTT-3-8.3-4]
        if options & reserved != 0 {
            return Err(Violation::SubscriptionOptionsReserved { options });
        }
        let Some(qos) = QoS::from_bits(options & 0b11) else {
            return Err(Violation::SubscribeQoSInvalid);
        };
        let retain_handling = match options >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Violation::RetainHandlingInvalid),
        };
        let (no_local, retain_as_published) = (options & 0b100 != 0, options & 0b1000 != 0);
        Ok(Self {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
    }

    /// The options byte of 5.0; its low two bits are that of 3.x.
    #[must_use]
    pub const fn encode(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// One filter of a SUBSCRIBE with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// UTF-8 without U+0000; not parsed yet ([`topic::ParsedFilter::parse`]).
    pub filter: &'a str,
    /// Its options.
    pub options: SubscriptionOptions,
}

/// A SUBSCRIBE packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet Identifier the SUBACK repeats.
    pub packet_id: NonZeroU16,
    /// Subscription Identifier, 1 to 268,435,455.
    pub subscription_identifier: Option<NonZeroU32>,
    /// The whole block.
    pub properties: Properties<'a>,
    /// How many filters there are, at least 1.
    pub filter_count: usize,
    version: ProtocolVersion,
    filters: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// Decodes a SUBSCRIBE.
    ///
    /// # Errors
    /// [`Violation::PacketIdentifierZero`], [`Violation::NoTopicFilter`],
    /// [`Violation::NoLocalOnShared`], [`Violation::Truncated`], and those of strings, options
    /// and properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::Subscribe;
        let packet_id = reader.packet_identifier(packet)?;
        let (mut properties, mut subscription_identifier) = (Properties::default(), None);
        if version.is_v5() {
            properties = Properties::decode(&mut reader, PropertySet::Subscribe, |property| {
                if let Property::SubscriptionIdentifier(id) = property {
                    subscription_identifier = Some(id);
                }
            })?;
        }
        let filters = reader.rest();
        let mut filter_count = 0;
        while !reader.is_empty() {
            let subscription = read_subscription(&mut reader, version)?;
            // [MQTT-3.8.3-4]
            if subscription.options.no_local && topic::is_shared(subscription.filter) {
                return Err(Violation::NoLocalOnShared);
            }
            filter_count += 1;
        }
        // [MQTT-3.8.3-2], 3.1.1 [MQTT-3.8.3-3]
        if filter_count == 0 {
            return Err(Violation::NoTopicFilter { packet });
        }
        Ok(Self {
            packet_id,
            subscription_identifier,
            properties,
            filter_count,
            version,
            filters,
        })
    }

    /// The filters with their options, in the order they were sent.
    pub fn filters(&self) -> impl Iterator<Item = Subscription<'a>> + Clone + use<'a> {
        let version = self.version;
        let mut reader = Reader::new(self.filters);
        // Every filter was read once already; an error here cannot be.
        std::iter::from_fn(move || read_subscription(&mut reader, version).ok())
    }
}

fn read_subscription<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
) -> Result<Subscription<'a>, Violation> {
    // [MQTT-3.8.3-1]
    let filter = reader.string("topic filter")?;
    let options = SubscriptionOptions::decode(version, reader.u8("subscription options")?)?;
    Ok(Subscription { filter, options })
}

/// Appends a SUBSCRIBE: what test clients and tools send.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: NonZeroU16,
    properties: &[u8],
    subscriptions: &[Subscription<'_>],
) -> Result<(), TooLong> {
    let mut len = 2 + if version.is_v5() {
        property::block_len(properties)
    } else {
        0
    };
    for subscription in subscriptions {
        codec::check_string(subscription.filter.as_bytes())?;
        len += 3 + subscription.filter.len();
    }
    codec::put_header(out, PacketType::Subscribe.first_byte(), len)?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if version.is_v5() {
        property::put_block(out, properties);
    }
    for subscription in subscriptions {
        codec::put_checked(out, subscription.filter.as_bytes());
        let options = subscription.options;
        out.push(if version.is_v5() {
            options.encode()
        } else {
            options.qos as u8
        });
    }
    Ok(())
}
