//! Properties of MQTT 5.0 on the command line: `-D COMMAND PROPERTY VALUE`, as mosquitto's clients
//! have it.
//!
//! Owns names and values; which packet may carry which property is the codec's to say.

use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use leveret_management::protocol::{Code, Failure};
use leveret_mqtt::codec::{Reader, put_variable_byte_integer};
use leveret_mqtt::property::{Properties, Property, PropertySet};

/// The property blocks of everything that a client sends, each without its length.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::cli) struct Blocks {
    pub(super) connect: Vec<u8>,
    pub(super) will: Vec<u8>,
    pub(super) publish: Vec<u8>,
    /// The same block as it stands in the packet.
    publish_with_length: Vec<u8>,
    pub(super) subscribe: Vec<u8>,
    pub(super) unsubscribe: Vec<u8>,
    pub(super) disconnect: Vec<u8>,
}

impl Blocks {
    /// Adds one property: the words behind one `-D`.
    ///
    /// # Errors
    /// 64: a packet, a property or a value that is none, or a property that the packet has not.
    pub(in crate::cli) fn add(&mut self, words: &[&str]) -> Result<(), Failure> {
        let wrong =
            |why: String| Failure::new(Code::Usage, format!("-D {}: {why}", words.join(" ")));
        let [command, name, values @ ..] = words else {
            return Err(wrong(
                "a packet, a property and its value follow".to_owned(),
            ));
        };
        let (set, block) = match *command {
            "connect" => (PropertySet::Connect, &mut self.connect),
            "will" => (PropertySet::Will, &mut self.will),
            "publish" => (PropertySet::ClientPublish, &mut self.publish),
            "subscribe" => (PropertySet::Subscribe, &mut self.subscribe),
            "unsubscribe" => (PropertySet::Unsubscribe, &mut self.unsubscribe),
            "disconnect" => (PropertySet::ClientDisconnect, &mut self.disconnect),
            "auth" => return Err(wrong("this client sends no AUTH".to_owned())),
            _ => return Err(wrong(format!("no packet '{command}'"))),
        };
        let property = property(name, values).map_err(&wrong)?;
        property
            .encode(block)
            .map_err(|why| wrong(why.to_string()))?;
        check(block, set).map_err(wrong)?;
        self.publish_with_length = with_length(&self.publish);
        Ok(())
    }

    /// The properties of PUBLISH.
    pub(super) fn published(&self) -> Vec<Property<'_>> {
        let mut found = Vec::new();
        // The decoder wants a length before the block, and lends what is in the block.
        if self.publish.is_empty() {
            return found;
        }
        let mut reader = Reader::new(&self.publish_with_length);
        let read = Properties::decode(&mut reader, PropertySet::ClientPublish, |property| {
            found.push(property);
        });
        debug_assert!(read.is_ok(), "each was checked when it was added");
        found
    }

    /// Sets the Session Expiry Interval of CONNECT.
    pub(super) fn expire_session_after(&mut self, seconds: u32) {
        // A number is never too long.
        let _ = Property::SessionExpiryInterval(seconds).encode(&mut self.connect);
    }
}

/// A block with its length before it.
pub(super) fn with_length(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 4);
    put_variable_byte_integer(&mut out, block.len() as u32);
    out.extend_from_slice(block);
    out
}

fn check(block: &[u8], set: PropertySet) -> Result<(), String> {
    let bytes = with_length(block);
    let read = Properties::decode(&mut Reader::new(&bytes), set, |_| ());
    match read {
        Ok(_) => Ok(()),
        // Data may come before its method on the command line.
        Err(leveret_mqtt::violation::Violation::AuthenticationDataWithoutMethod) => Ok(()),
        Err(why) => Err(why.to_string()),
    }
}

fn property<'a>(name: &str, values: &[&'a str]) -> Result<Property<'a>, String> {
    let (text, more) = match values {
        [text] => (*text, None),
        [text, more] => (*text, Some(*more)),
        _ => return Err("one value follows, or the name and the value of user-property".into()),
    };
    if name == "user-property" {
        let value = more.ok_or("a name and a value follow user-property")?;
        return Ok(Property::UserProperty(text, value));
    }
    if more.is_some() {
        return Err("one value follows".to_owned());
    }
    Ok(match name {
        "payload-format-indicator" => Property::PayloadFormatIndicator(flag(text)?),
        "message-expiry-interval" => Property::MessageExpiryInterval(number(text)?),
        "content-type" => Property::ContentType(text),
        "response-topic" => Property::ResponseTopic(text),
        "correlation-data" => Property::CorrelationData(text.as_bytes()),
        "subscription-identifier" => Property::SubscriptionIdentifier(number::<NonZeroU32>(text)?),
        "session-expiry-interval" => Property::SessionExpiryInterval(number(text)?),
        "authentication-method" => Property::AuthenticationMethod(text),
        "authentication-data" => Property::AuthenticationData(text.as_bytes()),
        "request-problem-information" => Property::RequestProblemInformation(flag(text)?),
        "request-response-information" => Property::RequestResponseInformation(flag(text)?),
        "will-delay-interval" => Property::WillDelayInterval(number(text)?),
        "receive-maximum" => Property::ReceiveMaximum(number::<NonZeroU16>(text)?),
        "topic-alias-maximum" => Property::TopicAliasMaximum(number(text)?),
        "topic-alias" => Property::TopicAlias(number::<NonZeroU16>(text)?),
        "maximum-packet-size" => Property::MaximumPacketSize(number::<NonZeroU32>(text)?),
        "reason-string" => Property::ReasonString(text),
        _ => return Err(format!("no property '{name}'")),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' cannot be"))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("'{text}' is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_properties() {
        let mut blocks = Blocks::default();
        let good = [
            "connect receive-maximum 10",
            "connect authentication-data x",
            "connect authentication-method m",
            "publish content-type text/plain",
            "publish user-property a b",
            "publish user-property a c",
            "will will-delay-interval 4294967295",
            "subscribe subscription-identifier 268435455",
        ];
        for words in good {
            let words: Vec<_> = words.split(' ').collect();
            blocks.add(&words).unwrap_or_else(|why| panic!("{why}"));
        }
        assert_eq!(blocks.connect[..3], [0x21, 0, 10]);
        assert_eq!(blocks.publish[..3], [3, 0, 10]);
        let bad = [
            "publish",
            "publish content-type",
            "publish content-type a b",
            "publish user-property a",
            "publish content-type again",
            "publish receive-maximum 1",
            "publish payload-format-indicator 2",
            "publish message-expiry-interval 4294967296",
            "connect receive-maximum 0",
            "connect nothing 1",
            "nothing content-type a",
            "auth authentication-method m",
        ];
        for words in bad {
            let words: Vec<_> = words.split(' ').collect();
            assert_eq!(
                blocks.clone().add(&words).expect_err("is wrong").exit,
                64,
                "{words:?}"
            );
        }
    }
}
