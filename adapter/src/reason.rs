//! Reason Strings: one sentence for the client, the rule that was broken and how to mend it. Owns
//! when one may be said; must never decide a reason code. OASIS MQTT 5.0 §3.1.2.11.7 and the
//! Reason String of each packet.

use std::borrow::Cow;

use crate::codec::{self, PacketType};
use crate::flow::Terms;
use crate::limits::REASON_STRING_BYTES_MAX;
use crate::packet::ProtocolVersion;
use crate::property::{self, Property};
use crate::reason_code::ReasonCode;
use crate::violation::Violation;

/// Why a connection is closed, as a 5.0 client is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ending {
    pub(crate) code: ReasonCode,
    pub(crate) text: Cow<'static, str>,
}

impl Ending {
    pub(crate) fn new(code: ReasonCode, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    /// The broker could not keep what it was given.
    pub(crate) fn disk() -> Self {
        let code = ReasonCode::ImplementationSpecificError;
        Self::new(code, "the broker cannot write to its disk")
    }
}

impl From<&Violation> for Ending {
    fn from(violation: &Violation) -> Self {
        Self::new(violation.reason_code(), violation.to_string())
    }
}

/// What a client can do about it.
fn mend(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::MalformedPacket | ReasonCode::ProtocolError => "the client must be corrected",
        ReasonCode::UnsupportedProtocolVersion => "connect with MQTT 3.1, 3.1.1 or 5.0",
        ReasonCode::ClientIdentifierNotValid => "connect with another client id",
        ReasonCode::BadUserNameOrPassword => "check user name, password and virtual host",
        ReasonCode::NotAuthorized => "an administrator may give the permission",
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy => "try again later",
        ReasonCode::ServerShuttingDown => "connect again later",
        ReasonCode::BadAuthenticationMethod => "connect with another method or a password",
        ReasonCode::KeepAliveTimeout => "send PINGREQ within the keep alive",
        ReasonCode::SessionTakenOver => "each connection needs a client id of its own",
        ReasonCode::TopicFilterInvalid => "subscribe to another filter",
        ReasonCode::TopicNameInvalid => "publish to another topic",
        ReasonCode::PacketIdentifierNotFound => "its exchange is over",
        ReasonCode::ReceiveMaximumExceeded => "wait for acknowledgements before publishing more",
        ReasonCode::TopicAliasInvalid => "aliases go from 1 to the maximum that CONNACK tells",
        ReasonCode::PacketTooLarge => "use smaller packets",
        ReasonCode::QuotaExceeded => "use less, or ask an administrator for more",
        ReasonCode::AdministrativeAction => "ask the administrator",
        ReasonCode::PayloadFormatInvalid => "send UTF-8, or no payload format indicator",
        ReasonCode::MaximumConnectTime => "connect again",
        _ => "the broker's log says more",
    }
}

/// Adds a Reason String to the properties of an answer, if the client wants one and has room for
/// it: `fixed` bytes of its Remaining Length are no properties.
///
/// [MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.6.2-2], [MQTT-3.7.2-2],
/// [MQTT-3.9.2-1], [MQTT-3.11.2-1], [MQTT-3.14.2-3]
pub(crate) fn add(
    terms: &Terms,
    version: ProtocolVersion,
    packet: PacketType,
    fixed: usize,
    properties: &mut Vec<u8>,
    (code, text): (ReasonCode, &str),
) {
    // [MQTT-3.1.2-29]
    let always = matches!(packet, PacketType::ConnAck | PacketType::Disconnect);
    if text.is_empty() || !version.is_v5() || !(always || terms.problem_information) {
        return;
    }
    let sentence = sentence(code, text);
    let before = properties.len();
    let fits = Property::ReasonString(&sentence).encode(properties).is_ok()
        && has_room(terms, fixed + property::block_len(properties));
    if !fits {
        properties.truncate(before);
    }
}

/// Whether the client takes a packet with this Remaining Length ([MQTT-3.1.2-24]).
pub(crate) fn has_room(terms: &Terms, remaining: usize) -> bool {
    terms.packet_bytes_max.is_none_or(|max| {
        1 + codec::variable_byte_integer_len(remaining) + remaining <= max.get() as usize
    })
}

/// What is said: no longer than its limit, without what a string of MQTT should not have
/// ([MQTT-1.5.4-2]).
fn sentence(code: ReasonCode, text: &str) -> String {
    let mend = mend(code);
    let room = REASON_STRING_BYTES_MAX - mend.len() - 2;
    let mut out = String::new();
    for letter in text.chars() {
        let letter = if letter.is_control() { '?' } else { letter };
        if out.len() + letter.len_utf8() > room {
            break;
        }
        out.push(letter);
    }
    out.push_str("; ");
    out.push_str(mend);
    out
}

/// As much of a text as a Reason String can hold: one that waits must not keep a whole topic.
pub(crate) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_STRING_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES M13: names that clients choose cannot make an answer long, or break its string.
    #[test]
    fn m13_a_sentence_has_a_limit() {
        for code in (0..=u8::MAX).filter_map(ReasonCode::from_u8) {
            for text in ["a\0b\u{85}", &"é".repeat(40_000)] {
                let told = sentence(code, text);
                assert!(told.len() <= REASON_STRING_BYTES_MAX);
                assert!(told.ends_with(mend(code)));
                assert!(!told.contains(char::is_control));
            }
        }
    }
}
