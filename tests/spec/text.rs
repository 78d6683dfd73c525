//! The words of the step language: escapes, repetitions, numbers, and MQTT properties by short
//! names. Owns the two tables of names; must never know a packet. OASIS MQTT 5.0 §2.2.2.
//!
//! `%20` is a byte by its hexadecimal number, `<<ab*3>>` is `ababab`.

use std::num::{NonZeroU16, NonZeroU32};

use leveret_mqtt::property::Property;

/// Writes out the repetitions of a step.
pub(crate) fn expand(step: &str) -> String {
    let mut out = String::new();
    let mut rest = step;
    while let Some((before, after)) = rest.split_once("<<") {
        let (inside, behind) = after.split_once(">>").expect("`<<` has its `>>`");
        let (text, times) = inside.rsplit_once('*').expect("`<<text*times>>`");
        out.push_str(before);
        out.push_str(&text.repeat(number(times)));
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The bytes that a word stands for.
pub(crate) fn bytes(word: &str) -> Vec<u8> {
    let mut parts = word.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits after %"));
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

/// The text that a word stands for.
pub(crate) fn string(word: &str) -> String {
    String::from_utf8(bytes(word)).expect("the word is UTF-8")
}

/// The word for some bytes: what is neither printable ASCII nor a letter is escaped.
pub(crate) fn word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .map(|letter| match letter {
                ' ' | '%' | '\0'..='\u{1f}' | '\u{7f}' => format!("%{:02x}", letter as u32),
                _ => letter.to_string(),
            })
            .collect(),
        Err(_) => bytes.iter().map(|byte| format!("%{byte:02x}")).collect(),
    }
}

/// Hexadecimal digits with white space between them, as bytes.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// A decimal number, or a hexadecimal one behind `0x`.
pub(crate) fn number<N: TryFrom<u64>>(word: &str) -> N {
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    let value = value.unwrap_or_else(|_| panic!("{word:?} is no number"));
    N::try_from(value).unwrap_or_else(|_| panic!("{word} is too large"))
}

/// A reason or return code: failures of 5.0 in hexadecimal, as the specification names them.
pub(crate) fn code(code: u8) -> String {
    if code < 0x10 {
        code.to_string()
    } else {
        format!("{code:#04x}")
    }
}

/// Appends the property that a word names; `false` if it names none.
pub(crate) fn encode_property(word: &str, out: &mut Vec<u8>) -> bool {
    let Some((name, value)) = word.split_once('=') else {
        return false;
    };
    let binary = bytes(value);
    let text = || std::str::from_utf8(&binary).expect("UTF-8");
    let yes = || value == "1";
    let nonzero_u16 = || NonZeroU16::new(number(value)).expect("not 0");
    let nonzero_u32 = || NonZeroU32::new(number(value)).expect("not 0");
    let key;
    let property = match name {
        "pfi" => Property::PayloadFormatIndicator(yes()),
        "mei" => Property::MessageExpiryInterval(number(value)),
        "ct" => Property::ContentType(text()),
        "rt" => Property::ResponseTopic(text()),
        "cd" => Property::CorrelationData(&binary),
        "sid" => Property::SubscriptionIdentifier(nonzero_u32()),
        "sei" => Property::SessionExpiryInterval(number(value)),
        "am" => Property::AuthenticationMethod(text()),
        "ad" => Property::AuthenticationData(&binary),
        "rpi" => Property::RequestProblemInformation(yes()),
        "wdi" => Property::WillDelayInterval(number(value)),
        "rri" => Property::RequestResponseInformation(yes()),
        "rs" => Property::ReasonString(text()),
        "rm" => Property::ReceiveMaximum(nonzero_u16()),
        "tam" => Property::TopicAliasMaximum(number(value)),
        "ta" => Property::TopicAlias(nonzero_u16()),
        "mps" => Property::MaximumPacketSize(nonzero_u32()),
        _ => match name.strip_prefix("u:") {
            Some(name) => {
                key = string(name);
                Property::UserProperty(&key, text())
            }
            None => return false,
        },
    };
    property.encode(out).expect("the property fits");
    true
}

/// The word for a property.
pub(crate) fn show_property(property: &Property<'_>) -> String {
    let yes = |value: bool| u8::from(value).to_string();
    let (name, value) = match property {
        Property::PayloadFormatIndicator(v) => ("pfi", yes(*v)),
        Property::MessageExpiryInterval(v) => ("mei", v.to_string()),
        Property::ContentType(v) => ("ct", word(v.as_bytes())),
        Property::ResponseTopic(v) => ("rt", word(v.as_bytes())),
        Property::CorrelationData(v) => ("cd", word(v)),
        Property::SubscriptionIdentifier(v) => ("sid", v.to_string()),
        Property::SessionExpiryInterval(v) => ("sei", v.to_string()),
        Property::AssignedClientIdentifier(v) => ("acid", format!("({})", v.len())),
        Property::ServerKeepAlive(v) => ("ska", v.to_string()),
        Property::AuthenticationMethod(v) => ("am", word(v.as_bytes())),
        Property::AuthenticationData(v) => ("ad", word(v)),
        Property::ReasonString(v) => ("rs", word(v.as_bytes())),
        Property::ResponseInformation(v) => ("ri", word(v.as_bytes())),
        Property::ReceiveMaximum(v) => ("rm", v.to_string()),
        Property::TopicAliasMaximum(v) => ("tam", v.to_string()),
        Property::TopicAlias(v) => ("ta", v.to_string()),
        Property::MaximumPacketSize(v) => ("mps", v.to_string()),
        Property::UserProperty(k, v) => {
            return format!("u:{}={}", word(k.as_bytes()), word(v.as_bytes()));
        }
        other => return format!("{other:?}").replace(' ', ""),
    };
    format!("{name}={value}")
}
