//! Headers that say who published a message: the broker alone sets them, so they can be believed.
//!
//! Owns their names and where they are set. Who publishes under one of these names is not refused:
//! the header is left out.

use std::collections::BTreeMap;

/// The client identifier of an MQTT publisher.
pub const CLIENT_ID: &str = "x-mqtt-client-id";
/// The user that an MQTT publisher has logged in as.
pub const USERNAME: &str = "x-mqtt-username";
/// The virtual host that it is in.
pub const VHOST: &str = "x-mqtt-vhost";
/// Its address and port.
pub const PEER: &str = "x-mqtt-peer";
/// The QoS that it published with.
pub const QOS: &str = "x-mqtt-qos";
/// Whether it asked that the message be retained.
pub const RETAIN: &str = "x-mqtt-retain";
/// The topic that it named.
pub const TOPIC: &str = "x-mqtt-topic";
/// When the broker received it, in milliseconds since 1970.
pub const RECEIVED: &str = "x-mqtt-received";
/// The client identifier once more, under RabbitMQ's name.
pub const ANNOTATION: &str = "x-opt-mqtt-client-id";

const NAMES: [&str; 8] = [
    CLIENT_ID, USERNAME, VHOST, PEER, QOS, RETAIN, TOPIC, RECEIVED,
];

/// Where the headers are set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityHeaders {
    /// In all virtual hosts but those of [`Self::vhosts`].
    pub on: bool,
    /// The same for virtual hosts of their own, by name.
    pub vhosts: BTreeMap<String, bool>,
    /// Whether [`ANNOTATION`] is set, in all of them.
    pub annotation: bool,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            on: true,
            vhosts: BTreeMap::new(),
            annotation: false,
        }
    }
}

impl IdentityHeaders {
    /// No headers anywhere.
    #[must_use]
    pub fn off() -> Self {
        Self {
            on: false,
            ..Self::default()
        }
    }

    /// Which names nobody but the broker may use in this virtual host.
    #[must_use]
    pub fn reserved_in(&self, vhost: &str) -> Reserved {
        Reserved {
            headers: self.vhosts.get(vhost).copied().unwrap_or(self.on),
            annotation: self.annotation,
        }
    }
}

/// Names of headers that the broker alone sets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reserved {
    /// `x-mqtt-client-id` and its seven kin, in letters of any case.
    pub headers: bool,
    /// [`ANNOTATION`].
    pub annotation: bool,
}

impl Reserved {
    /// Whether this is such a name, however its letters are written.
    #[inline]
    #[must_use]
    pub fn has(self, name: &[u8]) -> bool {
        matches!(name, [b'x' | b'X', b'-', b'm' | b'M' | b'o' | b'O', ..]) && self.has_full(name)
    }

    #[inline(never)]
    fn has_full(self, name: &[u8]) -> bool {
        let is = |reserved: &str| name.eq_ignore_ascii_case(reserved.as_bytes());
        (self.headers && NAMES.into_iter().any(is)) || (self.annotation && is(ANNOTATION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_names_are_reserved_where_the_headers_are_set() {
        let mut identity = IdentityHeaders {
            vhosts: BTreeMap::from([("blue".to_owned(), false)]),
            ..IdentityHeaders::default()
        };
        let here = identity.reserved_in("/");
        for name in NAMES {
            assert!(here.has(name.as_bytes()));
            assert!(here.has(name.to_ascii_uppercase().as_bytes()));
            assert!(!identity.reserved_in("blue").has(name.as_bytes()));
        }
        for other in [
            "",
            "x",
            "x-mqtt",
            "x-mqtt-",
            "x-mqtt-client-idx",
            "X-Order",
            ANNOTATION,
        ] {
            assert!(!here.has(other.as_bytes()), "{other}");
        }
        identity.annotation = true;
        for vhost in ["/", "blue"] {
            assert!(identity.reserved_in(vhost).has(b"X-Opt-MQTT-client-id"));
        }
    }
}
