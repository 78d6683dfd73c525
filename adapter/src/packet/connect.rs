//! CONNECT. Owns its bytes; must never authenticate. OASIS MQTT 5.0 chapter 3.1.
//!
//! ```text
//! protocol name (2 + n) | level (1) | connect flags (1) | keep alive (2) | 5.0: properties
//! client identifier (2 + n) | will: 5.0: properties, topic (2 + n), payload (2 + n)
//! user name (2 + n) | password (2 + n)
//! flags  user name | password | will retain | will QoS (2) | will | clean start | reserved (0)
//! ```

use std::num::{NonZeroU16, NonZeroU32};

use super::{ProtocolVersion, QoS};
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, Property, PropertySet};
use crate::topic::TopicName;
use crate::violation::Violation;

/// A CONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Version the rest of the connection speaks.
    pub version: ProtocolVersion,
    /// Clean Start, which 3.x calls Clean Session.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// Client Identifier; may be empty.
    pub client_id: &'a str,
    /// The Will, if there is one.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub user_name: Option<&'a str>,
    /// Password; in 3.x only with a user name.
    pub password: Option<&'a [u8]>,
    /// What the properties say; the defaults before 5.0.
    pub properties: ConnectProperties<'a>,
}

/// The Will of a CONNECT (MQTT 5.0 §3.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// A legal Topic Name.
    pub topic: &'a str,
    /// Payload of at most 65,535 bytes.
    pub payload: &'a [u8],
    /// QoS it is published with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_interval_s: u32,
    /// The whole block, Will Delay Interval included.
    pub properties: Properties<'a>,
}

/// Properties of a CONNECT (MQTT 5.0 §3.1.2.11), with the defaults of those it does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval in seconds, default 0; `u32::MAX` never expires.
    pub session_expiry_interval_s: u32,
    /// Receive Maximum in packets, default 65,535.
    pub receive_maximum: NonZeroU16,
    /// Maximum Packet Size in bytes; `None` is without limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Topic Alias Maximum, default 0.
    pub topic_alias_maximum: u16,
    /// Request Response Information, default false.
    pub request_response_information: bool,
    /// Request Problem Information, default true.
    pub request_problem_information: bool,
    /// Authentication Method.
    pub authentication_method: Option<&'a str>,
    /// Authentication Data, only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// The whole block, for its User Properties.
    pub all: Properties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        Self {
            session_expiry_interval_s: 0,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            all: Properties::default(),
        }
    }
}

/// The version a CONNECT body asks for, whatever is wrong with the rest of it: the shape of the
/// CONNACK that reports it.
///
/// # Errors
/// [`Violation::UnsupportedProtocol`], [`Violation::Truncated`] and those of strings.
pub fn protocol_version(body: &[u8]) -> Result<ProtocolVersion, Violation> {
    read_version(&mut Reader::new(body))
}

fn read_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, Violation> {
    let name = reader.string("protocol name")?;
    let level = reader.u8("protocol level")?;
    match (name, level) {
        ("MQIsdp", 3) => Ok(ProtocolVersion::V3),
        ("MQTT", 4) => Ok(ProtocolVersion::V4),
        ("MQTT", 5) => Ok(ProtocolVersion::V5),
        // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
        _ => {
            let name_known = matches!(name, "MQTT" | "MQIsdp");
            Err(Violation::UnsupportedProtocol { name_known, level })
        }
    }
}

impl<'a> Connect<'a> {
    /// Decodes the body of a CONNECT; its bytes tell the version.
    ///
    /// # Errors
    /// [`Violation::UnsupportedProtocol`], the variants on connect flags and the Will,
    /// [`Violation::PasswordWithoutUserName`], [`Violation::Truncated`],
    /// [`Violation::TrailingBytes`], and those of strings, topic names and properties.
    pub fn decode(body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let version = read_version(&mut reader)?;
        let flags = reader.u8("connect flags")?;
        check_flags(version, flags)?;
        let keep_alive_s = reader.u16("keep alive")?;
        let properties = match version {
            ProtocolVersion::V5 => ConnectProperties::decode(&mut reader)?,
            _ => ConnectProperties::default(),
        };
        // [MQTT-3.1.3-1], [MQTT-3.1.3-3]: the order of the payload's fields. [MQTT-3.1.3-4]
        let client_id = reader.string("client identifier")?;
        // [MQTT-3.1.2-9]
        let will = match flags & FLAG_WILL {
            0 => None,
            _ => Some(Will::decode(&mut reader, version, flags)?),
        };
        // [MQTT-3.1.2-16], [MQTT-3.1.2-17], [MQTT-3.1.3-12]
        let user_name = match flags & FLAG_USER_NAME {
            0 => None,
            _ => Some(reader.string("user name")?),
        };
        // [MQTT-3.1.2-18], [MQTT-3.1.2-19]
        let password = match flags & FLAG_PASSWORD {
            0 => None,
            _ => Some(reader.binary("password")?),
        };
        // [MQTT-3.1.4-1]
        reader.finish(PacketType::Connect)?;
        let clean_start = flags & FLAG_CLEAN_START != 0;
        Ok(Self {
            version,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    /// Appends the CONNECT: what test clients and tools send. Property blocks are written from
    /// [`ConnectProperties::all`] and [`Will::properties`]; the extracted values are not read.
    ///
    /// # Errors
    /// [`TooLong`], and nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut body = Vec::new();
        let name: &[u8] = if self.version == ProtocolVersion::V3 {
            b"MQIsdp"
        } else {
            b"MQTT"
        };
        codec::put_checked(&mut body, name);
        body.extend_from_slice(&[self.version as u8, self.flags()]);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        if self.version.is_v5() {
            property::put_block(&mut body, self.properties.all.raw());
        }
        put(&mut body, self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                property::put_block(&mut body, will.properties.raw());
            }
            put(&mut body, will.topic.as_bytes())?;
            put(&mut body, will.payload)?;
        }
        if let Some(user_name) = self.user_name {
            put(&mut body, user_name.as_bytes())?;
        }
        if let Some(password) = self.password {
            put(&mut body, password)?;
        }
        codec::put_header(out, PacketType::Connect.first_byte(), body.len())?;
        out.extend_from_slice(&body);
        Ok(())
    }

    fn flags(&self) -> u8 {
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        let will = self.will.map_or(0, |will| {
            FLAG_WILL | (will.qos as u8) << 3 | bit(will.retain, FLAG_WILL_RETAIN)
        });
        will | bit(self.clean_start, FLAG_CLEAN_START)
            | bit(self.user_name.is_some(), FLAG_USER_NAME)
            | bit(self.password.is_some(), FLAG_PASSWORD)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    codec::check_string(bytes)?;
    codec::put_checked(out, bytes);
    Ok(())
}

fn check_flags(version: ProtocolVersion, flags: u8) -> Result<(), Violation> {
    // [MQTT-3.1.2-3]
    if flags & FLAG_RESERVED != 0 {
        return Err(Violation::ConnectReservedFlag);
    }
    let qos = (flags >> 3) & 0b11;
    // [MQTT-3.1.2-12]
    if qos == 3 {
        return Err(Violation::WillQoSInvalid);
    }
    if flags & FLAG_WILL == 0 {
        // [MQTT-3.1.2-11]
        if qos != 0 {
            return Err(Violation::WillQoSWithoutWill { qos });
        }
        // [MQTT-3.1.2-13]
        if flags & FLAG_WILL_RETAIN != 0 {
            return Err(Violation::WillRetainWithoutWill);
        }
    }
    // 3.1.1 [MQTT-3.1.2-22]; MQTT 5.0 §3.1.2.9 allows it.
    let password_alone = flags & (FLAG_USER_NAME | FLAG_PASSWORD) == FLAG_PASSWORD;
    if password_alone && !version.is_v5() {
        return Err(Violation::PasswordWithoutUserName);
    }
    Ok(())
}

impl<'a> ConnectProperties<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let mut found = Self::default();
        let all = Properties::decode(reader, PropertySet::Connect, |property| match property {
            Property::SessionExpiryInterval(s) => found.session_expiry_interval_s = s,
            Property::ReceiveMaximum(max) => found.receive_maximum = max,
            Property::MaximumPacketSize(max) => found.maximum_packet_size = Some(max),
            Property::TopicAliasMaximum(max) => found.topic_alias_maximum = max,
            Property::RequestResponseInformation(yes) => found.request_response_information = yes,
            Property::RequestProblemInformation(yes) => found.request_problem_information = yes,
            Property::AuthenticationMethod(method) => found.authentication_method = Some(method),
            Property::AuthenticationData(data) => found.authentication_data = Some(data),
            _ => {}
        })?;
        Ok(Self { all, ..found })
    }
}

impl<'a> Will<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        flags: u8,
    ) -> Result<Self, Violation> {
        let qos = QoS::from_bits((flags >> 3) & 0b11).ok_or(Violation::WillQoSInvalid)?;
        let (mut properties, mut delay_interval_s) = (Properties::default(), 0);
        if version.is_v5() {
            properties = Properties::decode(reader, PropertySet::Will, |property| {
                if let Property::WillDelayInterval(seconds) = property {
                    delay_interval_s = seconds;
                }
            })?;
        }
        // [MQTT-3.1.3-11]
        let topic = TopicName::parse(reader.binary("will topic")?, "will topic")?.as_str();
        let payload = reader.binary("will payload")?;
        let retain = flags & FLAG_WILL_RETAIN != 0;
        Ok(Self {
            topic,
            payload,
            qos,
            retain,
            delay_interval_s,
            properties,
        })
    }
}

const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_CLEAN_START: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAG_WILL_RETAIN: u8 = 0b0010_0000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER_NAME: u8 = 0b1000_0000;
