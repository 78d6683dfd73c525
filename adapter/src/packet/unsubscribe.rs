//! UNSUBSCRIBE. Owns its bytes; must never judge a Topic Filter. OASIS MQTT 5.0 chapter 3.10.
//!
//! ```text
//! packet identifier (2) | 5.0: properties | one or more of: topic filter (2 + n)
//! ```

use std::num::NonZeroU16;

use super::ProtocolVersion;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, PropertySet};
use crate::violation::Violation;

/// An UNSUBSCRIBE packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet Identifier the UNSUBACK repeats.
    pub packet_id: NonZeroU16,
    /// User Properties.
    pub properties: Properties<'a>,
    /// How many filters there are, at least 1.
    pub filter_count: usize,
    filters: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// Decodes an UNSUBSCRIBE.
    ///
    /// # Errors
    /// [`Violation::PacketIdentifierZero`], [`Violation::NoTopicFilter`],
    /// [`Violation::Truncated`] and those of strings and properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::Unsubscribe;
        let packet_id = reader.packet_identifier(packet)?;
        let mut properties = Properties::default();
        if version.is_v5() {
            properties = Properties::decode(&mut reader, PropertySet::Unsubscribe, |_| ())?;
        }
        let filters = reader.rest();
        let mut filter_count = 0;
        while !reader.is_empty() {
            // [MQTT-3.10.3-1]
            reader.string("topic filter")?;
            filter_count += 1;
        }
        // [MQTT-3.10.3-2]
        if filter_count == 0 {
            return Err(Violation::NoTopicFilter { packet });
        }
        Ok(Self {
            packet_id,
            properties,
            filter_count,
            filters,
        })
    }

    /// The filters in the order they were sent; not parsed yet.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let mut reader = Reader::new(self.filters);
        // Every filter was read once already; an error here cannot be.
        std::iter::from_fn(move || reader.string("topic filter").ok())
    }
}

/// Appends an UNSUBSCRIBE: what test clients and tools send.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: NonZeroU16,
    properties: &[u8],
    filters: &[&str],
) -> Result<(), TooLong> {
    let mut len = 2 + if version.is_v5() {
        property::block_len(properties)
    } else {
        0
    };
    for filter in filters {
        codec::check_string(filter.as_bytes())?;
        len += 2 + filter.len();
    }
    codec::put_header(out, PacketType::Unsubscribe.first_byte(), len)?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if version.is_v5() {
        property::put_block(out, properties);
    }
    for filter in filters {
        codec::put_checked(out, filter.as_bytes());
    }
    Ok(())
}
