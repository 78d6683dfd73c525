//! The two protocols' properties into each other: lazily, only when the other protocol needs them.
//!
//! docs/bridge.md has the whole table. What does not fit the other protocol is left out: a
//! publisher's odd property must not hurt who receives the message.

mod from_amqp;
#[cfg(test)]
mod tests;
mod to_amqp;

use leveret_core::identity::Reserved;
use leveret_core::message::{MessageRef, Origin};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use crate::identity::{self, MQTT_TAG, SIGNED_TAG};
use crate::property::{Properties, Property};

/// MQTT publishers, of all versions: the properties are a property block of 5.0, without Topic
/// Alias.
#[derive(Debug)]
pub(crate) struct MqttOrigin {
    /// Who published stands before them: see [`identity`].
    signed: bool,
}

/// The one without.
pub(crate) static MQTT: MqttOrigin = MqttOrigin { signed: false };

/// The one with.
pub(crate) static SIGNED: MqttOrigin = MqttOrigin { signed: true };

/// Whether a message came from an MQTT client: its properties are a property block.
pub(crate) fn is_mqtt(message: &MessageRef<'_>) -> bool {
    message.head.form == leveret_core::key::Form::Slashed
}

impl Origin for MqttOrigin {
    fn tag(&self) -> u8 {
        if self.signed { SIGNED_TAG } else { MQTT_TAG }
    }

    fn append_basic_properties(&self, message: &MessageRef<'_>, out: &mut Vec<u8>) {
        to_amqp::append(message, out);
    }
}

/// Appends the property block of a message for a 5.0 subscriber. Headers of AMQP under `reserved`
/// names are for AMQP alone.
// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
// [MQTT-3.3.2-20]
pub(crate) fn append_properties(
    message: &MessageRef<'_>,
    reserved: Reserved,
    now: Time,
    out: &mut Vec<u8>,
) {
    if is_mqtt(message) {
        let properties = identity::properties_of(message);
        match message.head.expires {
            None => out.extend_from_slice(properties),
            Some(at) => {
                // [MQTT-3.3.2-6]
                let left = seconds_left(at, now);
                for property in Properties::from_checked(properties).iter() {
                    if !matches!(property, Property::MessageExpiryInterval(_)) {
                        // It was decoded from a packet, so it fits into one.
                        let _ = property.encode(out);
                    }
                }
                let _ = Property::MessageExpiryInterval(left).encode(out);
            }
        }
        return;
    }
    let mut raw = Vec::new();
    let properties = if message.properties.is_empty() {
        message
            .head
            .origin
            .append_basic_properties(message, &mut raw);
        BasicProperties::parse(&raw)
    } else {
        BasicProperties::parse(message.properties)
    };
    if let Ok(properties) = properties {
        from_amqp::append(&properties, message, reserved, now, out);
    }
}

/// What remains, in whole seconds, rounded up so that it never says 0 too early.
fn seconds_left(at: Time, now: Time) -> u32 {
    at.since_ms(now).div_ceil(1000).min(u64::from(u32::MAX)) as u32
}
