//! What a peer can do wrong. Owns one variant per normative statement enforced, its Reason Code
//! and its sentence; must never name a refusal of the broker's own (permissions, quotas of
//! users) nor a fault of the surroundings. OASIS MQTT 5.0 §4.13, MQTT 3.1.1 §4.8.
//!
//! A violation always ends the connection, with two exceptions the caller decides: a Topic Filter
//! that does not parse may be answered in its SUBACK or UNSUBACK, and an unknown protocol in a
//! CONNACK. MQTT 3.x has no way to say more than close.

use crate::codec::PacketType;
use crate::packet::ProtocolVersion;
use crate::property::PropertyId;
use crate::reason_code::ReasonCode;

/// A rule of MQTT that the peer broke. Statement ids are those of MQTT 5.0 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the fields are named in each variant's sentence"
)]
pub enum Violation {
    /// MQTT 5.0 §2.1.2: packet type 0 is reserved; 15 is, before 5.0.
    #[error("fixed header: packet type {packet_type} is reserved")]
    ReservedPacketType { packet_type: u8 },
    /// [MQTT-2.1.3-1], 3.1.1 [MQTT-2.2.2-2].
    #[error("fixed header: {packet} with flags {flags:#06b}, which are reserved")]
    ReservedFlags { packet: PacketType, flags: u8 },
    /// MQTT 5.0 §1.5.5: a Variable Byte Integer has at most four bytes.
    #[error("{field}: a variable byte integer of more than four bytes")]
    VariableByteIntegerTooLong { field: &'static str },
    /// [MQTT-1.5.5-1].
    #[error("{field}: a variable byte integer that is longer than its value needs")]
    VariableByteIntegerNotMinimal { field: &'static str },
    /// MQTT 5.0 §3.1.2.11.4, §3.2.2.3.6: larger than the Maximum Packet Size announced.
    #[error("packet of {bytes} bytes, at most {bytes_max} are allowed")]
    PacketTooLarge { bytes: u32, bytes_max: u32 },
    /// MQTT 5.0 §2.1.4: the Remaining Length ends inside a field.
    #[error("{field}: the packet ends inside it")]
    Truncated { field: &'static str },
    /// MQTT 5.0 §2.1.4: the Remaining Length counts bytes no field owns.
    #[error("{packet}: {bytes} bytes after the last field")]
    TrailingBytes { packet: PacketType, bytes: usize },
    /// [MQTT-1.5.4-1], 3.1.1 [MQTT-1.5.3-1].
    #[error("{field}: not well-formed UTF-8")]
    StringNotUtf8 { field: &'static str },
    /// [MQTT-1.5.4-2], [MQTT-4.7.3-2], 3.1.1 [MQTT-1.5.3-2].
    #[error("{field}: contains U+0000")]
    StringHasNul { field: &'static str },
    /// [MQTT-2.2.1-3], 3.1.1 [MQTT-2.3.1-1].
    #[error("{packet}: packet identifier 0")]
    PacketIdentifierZero { packet: PacketType },
    /// MQTT 5.0 §2.2.2.2: no such property.
    #[error("properties: identifier {id:#04x} does not exist")]
    PropertyUnknown { id: u32 },
    /// MQTT 5.0 §2.2.2.2, table 2-4.
    #[error("properties: {property} does not belong in {packet}")]
    PropertyNotAllowed {
        property: PropertyId,
        packet: PacketType,
    },
    /// MQTT 5.0 §2.2.2.2 and the section of each property.
    #[error("properties: {property} appears more than once")]
    PropertyDuplicate { property: PropertyId },
    /// MQTT 5.0, section of each property: outside the values it may have.
    #[error("properties: {property} has the value {value}, which it may not have")]
    PropertyValue { property: PropertyId, value: u32 },
    /// Limit of this broker: [`crate::limits::USER_PROPERTIES_MAX`].
    #[error("properties: more than {max} user properties")]
    UserPropertiesTooMany { max: u32 },
    /// MQTT 5.0 §3.1.2.11.10, §3.15.2.2.3.
    #[error("properties: authentication data without an authentication method")]
    AuthenticationDataWithoutMethod,
    /// [MQTT-3.3.2-14].
    #[error("properties: the response topic contains a wildcard or is empty")]
    ResponseTopicInvalid,
    /// [MQTT-3.1.0-1].
    #[error("first packet is {packet}, must be CONNECT")]
    FirstPacketNotConnect { packet: PacketType },
    /// [MQTT-3.1.0-2].
    #[error("second CONNECT on one connection")]
    SecondConnect,
    /// MQTT 5.0 §2.1.2, table 2-1: direction of flow.
    #[error("{packet} flows the other way only")]
    WrongDirection { packet: PacketType },
    /// [MQTT-3.1.2-1], [MQTT-3.1.2-2]. `name_known` is false when the Protocol Name is neither
    /// `MQTT` nor `MQIsdp`.
    #[error("CONNECT: unsupported protocol (level {level}, known name: {name_known})")]
    UnsupportedProtocol { name_known: bool, level: u8 },
    /// [MQTT-3.1.2-3].
    #[error("CONNECT: the reserved connect flag is set")]
    ConnectReservedFlag,
    /// [MQTT-3.1.2-11], 3.1.1 [MQTT-3.1.2-13].
    #[error("CONNECT: will QoS {qos} without the will flag")]
    WillQoSWithoutWill { qos: u8 },
    /// [MQTT-3.1.2-12], 3.1.1 [MQTT-3.1.2-14].
    #[error("CONNECT: will QoS 3")]
    WillQoSInvalid,
    /// [MQTT-3.1.2-13], 3.1.1 [MQTT-3.1.2-15].
    #[error("CONNECT: will retain without the will flag")]
    WillRetainWithoutWill,
    /// 3.1.1 [MQTT-3.1.2-22]; MQTT 5.0 allows it.
    #[error("CONNECT: a password without a user name")]
    PasswordWithoutUserName,
    /// [MQTT-3.3.1-4].
    #[error("PUBLISH: QoS 3")]
    PublishQoSInvalid,
    /// MQTT 5.0 §3.2.2.3.4: above the Maximum QoS announced ([MQTT-3.2.2-11]).
    #[error("PUBLISH: QoS {qos}, the maximum is 0")]
    PublishQoSNotSupported { qos: u8 },
    /// [MQTT-3.3.1-2].
    #[error("PUBLISH: DUP on QoS 0")]
    DupOnQoS0,
    /// [MQTT-4.7.3-1], MQTT 5.0 §3.3.2.1: zero length without a Topic Alias.
    #[error("{field}: an empty topic name")]
    TopicNameEmpty { field: &'static str },
    /// [MQTT-3.3.2-2], [MQTT-4.7.0-1].
    #[error("{field}: a topic name contains a wildcard")]
    TopicNameHasWildcard { field: &'static str },
    /// Limit of this broker: [`crate::limits::TOPIC_LEVELS_MAX`].
    #[error("{field}: {levels} topic levels, at most {max} are allowed")]
    TopicLevelsTooMany {
        field: &'static str,
        levels: usize,
        max: usize,
    },
    /// [MQTT-3.3.2-8].
    #[error("PUBLISH: topic alias 0")]
    TopicAliasZero,
    /// [MQTT-3.3.2-9].
    #[error("PUBLISH: topic alias {alias}, the maximum is {max}")]
    TopicAliasAboveMaximum { alias: u16, max: u16 },
    /// MQTT 5.0 §3.3.2.3.4: an alias that names no topic yet.
    #[error("PUBLISH: topic alias {alias} names no topic")]
    TopicAliasUnknown { alias: u16 },
    /// [MQTT-3.3.4-7], [MQTT-3.3.4-8].
    #[error("PUBLISH: {max} publishes of QoS 1 and 2 are unfinished already, the Receive Maximum")]
    ReceiveMaximumExceeded { max: u16 },
    /// [MQTT-3.3.4-6].
    #[error("PUBLISH: a subscription identifier from a client")]
    SubscriptionIdentifierFromClient,
    /// MQTT 5.0 §3.3.2.3.2: Payload Format Indicator 1 promises UTF-8.
    #[error("PUBLISH: the payload is not the UTF-8 its format indicator promises")]
    PayloadNotUtf8,
    /// [MQTT-3.8.3-2], [MQTT-3.10.3-2], 3.1.1 [MQTT-3.8.3-3].
    #[error("{packet}: no topic filter")]
    NoTopicFilter { packet: PacketType },
    /// [MQTT-3.8.3-5], 3.1.1 [MQTT-3-8.3-4].
    #[error("SUBSCRIBE: reserved bits set in the options {options:#010b}")]
    SubscriptionOptionsReserved { options: u8 },
    /// MQTT 5.0 §3.8.3.1, 3.1.1 [MQTT-3-8.3-4].
    #[error("SUBSCRIBE: QoS 3")]
    SubscribeQoSInvalid,
    /// MQTT 5.0 §3.8.3.1.
    #[error("SUBSCRIBE: retain handling 3")]
    RetainHandlingInvalid,
    /// [MQTT-3.8.3-4].
    #[error("SUBSCRIBE: no local on a shared subscription")]
    NoLocalOnShared,
    /// [MQTT-4.7.3-1].
    #[error("topic filter: empty")]
    TopicFilterEmpty,
    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    #[error("topic filter: a wildcard that is only part of a level")]
    WildcardNotWholeLevel,
    /// [MQTT-4.7.1-1]; only where filters are strict.
    #[error("topic filter: '#' before the last level")]
    MultiLevelWildcardNotLast,
    /// Limit of this broker: [`crate::limits::MULTI_LEVEL_WILDCARDS_MAX`].
    #[error("topic filter: {count} '#' wildcards, at most {max} are allowed")]
    MultiLevelWildcardsTooMany { count: usize, max: usize },
    /// Limit of this broker: [`crate::limits::FILTER_LEVELS_MAX`].
    #[error("topic filter: {levels} levels, at most {max} are allowed")]
    FilterLevelsTooMany { levels: usize, max: usize },
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    #[error("topic filter: the share name is empty or contains a wildcard")]
    ShareNameInvalid,
    /// [MQTT-4.8.2-2].
    #[error("topic filter: no filter after the share name")]
    SharedFilterMissing,
    /// MQTT 5.0 §2.4: no such Reason Code.
    #[error("{packet}: reason code {code:#04x} does not exist")]
    ReasonCodeUnknown { packet: PacketType, code: u8 },
    /// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.14.2-1],
    /// [MQTT-3.15.2-1].
    #[error("{packet}: reason code {code:#04x} does not belong there")]
    ReasonCodeNotAllowed { packet: PacketType, code: u8 },
    /// [MQTT-3.2.2-1], 3.1.1 §3.2.2.1.
    #[error("CONNACK: reserved acknowledge flags {flags:#04x}")]
    ConnAckReservedFlags { flags: u8 },
    /// MQTT 5.0 §3.14.2.2.2.
    #[error("DISCONNECT: a session expiry interval where CONNECT had zero")]
    SessionExpiryIntervalRaised,
    /// MQTT 5.0 §3.15.2.2.2.
    #[error("AUTH: no authentication method")]
    AuthenticationMethodMissing,
}

impl Violation {
    /// The Reason Code a MQTT 5.0 peer is told, in CONNACK, DISCONNECT or SUBACK.
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReservedPacketType { .. }
            | Self::ReservedFlags { .. }
            | Self::VariableByteIntegerTooLong { .. }
            | Self::VariableByteIntegerNotMinimal { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::StringNotUtf8 { .. }
            | Self::StringHasNul { .. }
            | Self::PropertyUnknown { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::ConnectReservedFlag
            | Self::WillQoSWithoutWill { .. }
            | Self::WillQoSInvalid
            | Self::WillRetainWithoutWill
            | Self::PublishQoSInvalid
            | Self::DupOnQoS0
            | Self::SubscriptionOptionsReserved { .. }
            | Self::ConnAckReservedFlags { .. }
            | Self::ReasonCodeUnknown { .. } => ReasonCode::MalformedPacket,
            Self::UnsupportedProtocol { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::PublishQoSNotSupported { .. } => ReasonCode::QoSNotSupported,
            Self::PasswordWithoutUserName => ReasonCode::BadUserNameOrPassword,
            Self::TopicFilterEmpty
            | Self::WildcardNotWholeLevel
            | Self::MultiLevelWildcardNotLast
            | Self::MultiLevelWildcardsTooMany { .. }
            | Self::FilterLevelsTooMany { .. }
            | Self::ShareNameInvalid
            | Self::SharedFilterMissing => ReasonCode::TopicFilterInvalid,
            Self::TopicNameHasWildcard { .. } | Self::TopicLevelsTooMany { .. } => {
                ReasonCode::TopicNameInvalid
            }
            Self::TopicAliasZero | Self::TopicAliasAboveMaximum { .. } => {
                ReasonCode::TopicAliasInvalid
            }
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ReceiveMaximumExceeded { .. } => ReasonCode::ReceiveMaximumExceeded,
            Self::UserPropertiesTooMany { .. } => ReasonCode::QuotaExceeded,
            Self::PayloadNotUtf8 => ReasonCode::PayloadFormatInvalid,
            _ => ReasonCode::ProtocolError,
        }
    }

    /// In which version to answer an [`Violation::UnsupportedProtocol`] with a CONNACK before
    /// closing: the newest shape the peer may read. `None` where closing is all there is to do.
    #[must_use]
    pub const fn connack_version(&self) -> Option<ProtocolVersion> {
        match self {
            Self::UnsupportedProtocol {
                name_known: true,
                level,
            } if *level > 5 => Some(ProtocolVersion::V5),
            Self::UnsupportedProtocol {
                name_known: true, ..
            } => Some(ProtocolVersion::V4),
            _ => None,
        }
    }
}
