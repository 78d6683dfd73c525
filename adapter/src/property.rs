//! Properties of MQTT 5.0. Owns their identifiers, types, legal values and which packet may carry
//! which; must never give one a meaning. OASIS MQTT 5.0 §2.2.2.
//!
//! ```text
//! property length: variable byte integer
//! then as many bytes of: identifier (variable byte integer) | value (type by identifier)
//! ```

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;

use crate::codec::{self, PacketType, Reader, TooLong};
use crate::limits::{REMAINING_LENGTH_MAX, USER_PROPERTIES_MAX};
use crate::violation::Violation;

/// Identifier of a property (MQTT 5.0 §2.2.2.2, table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the property"
)]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQoS = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
}

use PropertyId as Id;

/// Every identifier, in order of number.
const ALL: [Id; 27] = [
    Id::PayloadFormatIndicator,
    Id::MessageExpiryInterval,
    Id::ContentType,
    Id::ResponseTopic,
    Id::CorrelationData,
    Id::SubscriptionIdentifier,
    Id::SessionExpiryInterval,
    Id::AssignedClientIdentifier,
    Id::ServerKeepAlive,
    Id::AuthenticationMethod,
    Id::AuthenticationData,
    Id::RequestProblemInformation,
    Id::WillDelayInterval,
    Id::RequestResponseInformation,
    Id::ResponseInformation,
    Id::ServerReference,
    Id::ReasonString,
    Id::ReceiveMaximum,
    Id::TopicAliasMaximum,
    Id::TopicAlias,
    Id::MaximumQoS,
    Id::RetainAvailable,
    Id::UserProperty,
    Id::MaximumPacketSize,
    Id::WildcardSubscriptionAvailable,
    Id::SubscriptionIdentifierAvailable,
    Id::SharedSubscriptionAvailable,
];

impl PropertyId {
    fn from_u32(id: u32) -> Option<Self> {
        ALL.iter().copied().find(|known| *known as u32 == id)
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({:#04x})", *self as u8)
    }
}

/// Which packet, from which side, a property block stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the packet"
)]
pub enum PropertySet {
    Connect,
    /// Will Properties, in the payload of CONNECT.
    Will,
    ConnAck,
    ClientPublish,
    ServerPublish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    ClientDisconnect,
    ServerDisconnect,
    Auth,
}

const fn set(ids: &[Id]) -> u64 {
    let mut bits = Id::UserProperty.bit();
    let mut index = 0;
    while index < ids.len() {
        bits |= ids[index].bit();
        index += 1;
    }
    bits
}

const MESSAGE: u64 = set(&[
    Id::PayloadFormatIndicator,
    Id::MessageExpiryInterval,
    Id::ContentType,
    Id::ResponseTopic,
    Id::CorrelationData,
]);
const CONNECT: u64 = set(&[
    Id::SessionExpiryInterval,
    Id::AuthenticationMethod,
    Id::AuthenticationData,
    Id::RequestProblemInformation,
    Id::RequestResponseInformation,
    Id::ReceiveMaximum,
    Id::TopicAliasMaximum,
    Id::MaximumPacketSize,
]);
const CONNACK: u64 = set(&[
    Id::SessionExpiryInterval,
    Id::AssignedClientIdentifier,
    Id::ServerKeepAlive,
    Id::AuthenticationMethod,
    Id::AuthenticationData,
    Id::ResponseInformation,
    Id::ServerReference,
    Id::ReasonString,
    Id::ReceiveMaximum,
    Id::TopicAliasMaximum,
    Id::MaximumQoS,
    Id::RetainAvailable,
    Id::MaximumPacketSize,
    Id::WildcardSubscriptionAvailable,
    Id::SubscriptionIdentifierAvailable,
    Id::SharedSubscriptionAvailable,
]);

impl PropertySet {
    /// Bits of the identifiers the packet may carry: MQTT 5.0 table 2-4.
    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => CONNECT,
            Self::Will => MESSAGE | Id::WillDelayInterval.bit(),
            Self::ConnAck => CONNACK,
            Self::ClientPublish => MESSAGE | Id::TopicAlias.bit(),
            Self::ServerPublish => {
                MESSAGE | Id::TopicAlias.bit() | Id::SubscriptionIdentifier.bit()
            }
            Self::Subscribe => set(&[Id::SubscriptionIdentifier]),
            Self::Unsubscribe => set(&[]),
            Self::PubAck
            | Self::PubRec
            | Self::PubRel
            | Self::PubComp
            | Self::SubAck
            | Self::UnsubAck => set(&[Id::ReasonString]),
            Self::ClientDisconnect => set(&[
                Id::SessionExpiryInterval,
                Id::ServerReference,
                Id::ReasonString,
            ]),
            // [MQTT-3.14.2-2]
            Self::ServerDisconnect => set(&[Id::ServerReference, Id::ReasonString]),
            Self::Auth => set(&[
                Id::AuthenticationMethod,
                Id::AuthenticationData,
                Id::ReasonString,
            ]),
        }
    }

    /// The packet the block stands in.
    #[must_use]
    pub const fn packet(self) -> PacketType {
        match self {
            Self::Connect | Self::Will => PacketType::Connect,
            Self::ConnAck => PacketType::ConnAck,
            Self::ClientPublish | Self::ServerPublish => PacketType::Publish,
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
            Self::Subscribe => PacketType::Subscribe,
            Self::SubAck => PacketType::SubAck,
            Self::Unsubscribe => PacketType::Unsubscribe,
            Self::UnsubAck => PacketType::UnsubAck,
            Self::ClientDisconnect | Self::ServerDisconnect => PacketType::Disconnect,
            Self::Auth => PacketType::Auth,
        }
    }
}

/// One property with its value. Intervals are in seconds, sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the property"
)]
pub enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    /// 1 to 268,435,455.
    SubscriptionIdentifier(NonZeroU32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    /// `true` for QoS 1, `false` for QoS 0; QoS 2 is said by leaving the property out.
    MaximumQoS(bool),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Its identifier.
    #[must_use]
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => Id::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => Id::MessageExpiryInterval,
            Self::ContentType(_) => Id::ContentType,
            Self::ResponseTopic(_) => Id::ResponseTopic,
            Self::CorrelationData(_) => Id::CorrelationData,
            Self::SubscriptionIdentifier(_) => Id::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => Id::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => Id::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => Id::ServerKeepAlive,
            Self::AuthenticationMethod(_) => Id::AuthenticationMethod,
            Self::AuthenticationData(_) => Id::AuthenticationData,
            Self::RequestProblemInformation(_) => Id::RequestProblemInformation,
            Self::WillDelayInterval(_) => Id::WillDelayInterval,
            Self::RequestResponseInformation(_) => Id::RequestResponseInformation,
            Self::ResponseInformation(_) => Id::ResponseInformation,
            Self::ServerReference(_) => Id::ServerReference,
            Self::ReasonString(_) => Id::ReasonString,
            Self::ReceiveMaximum(_) => Id::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => Id::TopicAliasMaximum,
            Self::TopicAlias(_) => Id::TopicAlias,
            Self::MaximumQoS(_) => Id::MaximumQoS,
            Self::RetainAvailable(_) => Id::RetainAvailable,
            Self::UserProperty(..) => Id::UserProperty,
            Self::MaximumPacketSize(_) => Id::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => Id::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => Id::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => Id::SharedSubscriptionAvailable,
        }
    }

    /// Appends identifier and value. The caller puts the property length before the block.
    ///
    /// # Errors
    /// [`TooLong`] when a string or binary value is above 65,535 bytes or a Subscription
    /// Identifier above 268,435,455; nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let id = self.id() as u8;
        match *self {
            Self::PayloadFormatIndicator(yes)
            | Self::RequestProblemInformation(yes)
            | Self::RequestResponseInformation(yes)
            | Self::MaximumQoS(yes)
            | Self::RetainAvailable(yes)
            | Self::WildcardSubscriptionAvailable(yes)
            | Self::SubscriptionIdentifierAvailable(yes)
            | Self::SharedSubscriptionAvailable(yes) => {
                out.extend_from_slice(&[id, u8::from(yes)]);
                Ok(())
            }
            Self::ServerKeepAlive(value) | Self::TopicAliasMaximum(value) => {
                put_u16(out, id, value)
            }
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => put_u16(out, id, value.get()),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value) => put_u32(out, id, value),
            Self::MaximumPacketSize(value) => put_u32(out, id, value.get()),
            Self::SubscriptionIdentifier(value) => put_variable(out, id, value.get()),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => put_binary(out, id, text.as_bytes()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => {
                put_binary(out, id, bytes)
            }
            Self::UserProperty(name, value) => {
                codec::check_string(value.as_bytes())?;
                put_binary(out, id, name.as_bytes())?;
                codec::put_checked(out, value.as_bytes());
                Ok(())
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let id = reader.variable_byte_integer("property identifier")?;
        let id = Id::from_u32(id).ok_or(Violation::PropertyUnknown { id })?;
        Ok(match id {
            Id::PayloadFormatIndicator => Self::PayloadFormatIndicator(flag(reader, id)?),
            Id::MessageExpiryInterval => {
                Self::MessageExpiryInterval(reader.u32("message expiry interval")?)
            }
            // [MQTT-3.3.2-19]
            Id::ContentType => Self::ContentType(reader.string("content type")?),
            Id::ResponseTopic => Self::ResponseTopic(response_topic(reader)?),
            Id::CorrelationData => Self::CorrelationData(reader.binary("correlation data")?),
            Id::SubscriptionIdentifier => {
                let value = reader.variable_byte_integer("subscription identifier")?;
                Self::SubscriptionIdentifier(not_zero(value, id)?)
            }
            Id::SessionExpiryInterval => {
                Self::SessionExpiryInterval(reader.u32("session expiry interval")?)
            }
            Id::AssignedClientIdentifier => {
                Self::AssignedClientIdentifier(reader.string("assigned client identifier")?)
            }
            Id::ServerKeepAlive => Self::ServerKeepAlive(reader.u16("server keep alive")?),
            Id::AuthenticationMethod => {
                Self::AuthenticationMethod(reader.string("authentication method")?)
            }
            Id::AuthenticationData => {
                Self::AuthenticationData(reader.binary("authentication data")?)
            }
            Id::RequestProblemInformation => Self::RequestProblemInformation(flag(reader, id)?),
            Id::WillDelayInterval => Self::WillDelayInterval(reader.u32("will delay interval")?),
            Id::RequestResponseInformation => Self::RequestResponseInformation(flag(reader, id)?),
            Id::ResponseInformation => {
                Self::ResponseInformation(reader.string("response information")?)
            }
            Id::ServerReference => Self::ServerReference(reader.string("server reference")?),
            Id::ReasonString => Self::ReasonString(reader.string("reason string")?),
            Id::ReceiveMaximum => {
                let value = NonZeroU16::new(reader.u16("receive maximum")?);
                Self::ReceiveMaximum(value.ok_or(zero(id))?)
            }
            Id::TopicAliasMaximum => Self::TopicAliasMaximum(reader.u16("topic alias maximum")?),
            Id::TopicAlias => {
                // [MQTT-3.3.2-8]
                let alias = NonZeroU16::new(reader.u16("topic alias")?);
                Self::TopicAlias(alias.ok_or(Violation::TopicAliasZero)?)
            }
            Id::MaximumQoS => Self::MaximumQoS(flag(reader, id)?),
            Id::RetainAvailable => Self::RetainAvailable(flag(reader, id)?),
            Id::UserProperty => {
                // [MQTT-1.5.7-1]
                let name = reader.string("user property name")?;
                Self::UserProperty(name, reader.string("user property value")?)
            }
            Id::MaximumPacketSize => {
                Self::MaximumPacketSize(not_zero(reader.u32("maximum packet size")?, id)?)
            }
            Id::WildcardSubscriptionAvailable => {
                Self::WildcardSubscriptionAvailable(flag(reader, id)?)
            }
            Id::SubscriptionIdentifierAvailable => {
                Self::SubscriptionIdentifierAvailable(flag(reader, id)?)
            }
            Id::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(flag(reader, id)?),
        })
    }
}

fn flag(reader: &mut Reader<'_>, property: PropertyId) -> Result<bool, Violation> {
    match reader.u8("property value")? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Violation::PropertyValue {
            property,
            value: value.into(),
        }),
    }
}

const fn zero(property: PropertyId) -> Violation {
    Violation::PropertyValue { property, value: 0 }
}

fn not_zero(value: u32, property: PropertyId) -> Result<NonZeroU32, Violation> {
    NonZeroU32::new(value).ok_or(zero(property))
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Violation> {
    let topic = reader.string("response topic")?;
    // [MQTT-3.3.2-13]
    // [MQTT-3.3.2-14], [MQTT-4.7.3-1]
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Violation::ResponseTopicInvalid);
    }
    Ok(topic)
}

fn put_u16(out: &mut Vec<u8>, id: u8, value: u16) -> Result<(), TooLong> {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

fn put_u32(out: &mut Vec<u8>, id: u8, value: u32) -> Result<(), TooLong> {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

fn put_variable(out: &mut Vec<u8>, id: u8, value: u32) -> Result<(), TooLong> {
    if value > REMAINING_LENGTH_MAX {
        let bytes_max = REMAINING_LENGTH_MAX as usize;
        return Err(TooLong {
            bytes: value as usize,
            bytes_max,
        });
    }
    out.push(id);
    codec::put_variable_byte_integer(out, value);
    Ok(())
}

fn put_binary(out: &mut Vec<u8>, id: u8, bytes: &[u8]) -> Result<(), TooLong> {
    codec::check_string(bytes)?;
    out.push(id);
    codec::put_checked(out, bytes);
    Ok(())
}

/// A property block that passed every check of its packet; borrowed, without its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Reads the property length and the block behind it, checks all of it in one pass, and shows
    /// each property to `visit` on the way. Takes no memory.
    ///
    /// # Errors
    /// Any `Property*` variant of [`Violation`], and those of the single values.
    pub fn decode(
        reader: &mut Reader<'a>,
        set: PropertySet,
        mut visit: impl FnMut(Property<'a>),
    ) -> Result<Self, Violation> {
        Self::decode_placed(reader, set, |property, _| visit(property))
    }

    /// The same; `visit` is told where in the block each stands, too.
    pub(crate) fn decode_placed(
        reader: &mut Reader<'a>,
        set: PropertySet,
        mut visit: impl FnMut(Property<'a>, Range<usize>),
    ) -> Result<Self, Violation> {
        let len = reader.variable_byte_integer("property length")?;
        if len == 0 {
            return Ok(Self::default());
        }
        let raw = reader.bytes(len as usize, "properties")?;
        let mut block = Reader::of_strings(raw);
        let mut check = Check {
            set,
            seen: 0,
            user_properties: 0,
        };
        while !block.is_empty() {
            let from = raw.len() - block.rest().len();
            let property = Property::decode(&mut block)?;
            check.admit(&property)?;
            visit(property, from..raw.len() - block.rest().len());
        }
        check.finish()?;
        Ok(Self { raw })
    }

    /// A block that [`Properties::decode`] went through before.
    pub(crate) const fn from_checked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The encoded block, without the property length: what the encoders of this crate take.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the block carries nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in the order they were sent.
    #[must_use]
    pub const fn iter(&self) -> PropertyIter<'a> {
        PropertyIter {
            block: Reader::new(self.raw),
        }
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Properties`].
#[derive(Debug, Clone)]
pub struct PropertyIter<'a> {
    block: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.block.is_empty() {
            return None;
        }
        // The whole block was decoded once already; an error here cannot be.
        Property::decode(&mut self.block).ok()
    }
}

struct Check {
    set: PropertySet,
    /// One bit for every identifier met.
    seen: u64,
    user_properties: u32,
}

impl Check {
    fn admit(&mut self, property: &Property<'_>) -> Result<(), Violation> {
        let id = property.id();
        if self.set.allowed() & id.bit() == 0 {
            // [MQTT-3.3.4-6]
            if self.set == PropertySet::ClientPublish && id == Id::SubscriptionIdentifier {
                return Err(Violation::SubscriptionIdentifierFromClient);
            }
            let packet = self.set.packet();
            return Err(Violation::PropertyNotAllowed {
                property: id,
                packet,
            });
        }
        if id == Id::UserProperty {
            self.user_properties += 1;
            if self.user_properties > USER_PROPERTIES_MAX {
                return Err(Violation::UserPropertiesTooMany {
                    max: USER_PROPERTIES_MAX,
                });
            }
            return Ok(());
        }
        // MQTT 5.0 §3.3.2.3.8: one identifier for each subscription that matched.
        let repeats = id == Id::SubscriptionIdentifier && self.set == PropertySet::ServerPublish;
        if self.seen & id.bit() != 0 && !repeats {
            return Err(Violation::PropertyDuplicate { property: id });
        }
        self.seen |= id.bit();
        Ok(())
    }

    fn finish(&self) -> Result<(), Violation> {
        let (method, data) = (Id::AuthenticationMethod.bit(), Id::AuthenticationData.bit());
        // MQTT 5.0 §3.1.2.11.10
        if self.seen & data != 0 && self.seen & method == 0 {
            return Err(Violation::AuthenticationDataWithoutMethod);
        }
        Ok(())
    }
}

/// Bytes that property length and block take together, for a block without its length.
pub(crate) const fn block_len(properties: &[u8]) -> usize {
    codec::variable_byte_integer_len(properties.len()) + properties.len()
}

/// Appends property length and block. The packet that holds it passed [`codec::put_header`].
// [MQTT-2.2.2-1]
pub(crate) fn put_block(out: &mut Vec<u8>, properties: &[u8]) {
    codec::put_variable_byte_integer(out, properties.len() as u32);
    out.extend_from_slice(properties);
}

#[cfg(test)]
mod tests;
