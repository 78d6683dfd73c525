//! What an operator may set about the core: plain values with their defaults.
//!
//! Owns the type that hides passwords from logs. Never reads a file or the environment: whoever
//! assembles the broker fills these in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::Durability;
use crate::queue::SessionCaps;

/// Options of the core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Largest message body that is taken from anybody, in bytes, 1 to 536,870,912.
    pub max_message_size_bytes: u64,
    /// Retained messages of one virtual host.
    pub retained_messages_max: usize,
    /// What the queues of MQTT sessions hold.
    pub session_caps: SessionCaps,
    /// Bytes of them, with topics and properties.
    pub retained_bytes_max: u64,
    /// Topics that one second may add to them.
    pub retained_rate_max: u32,
    /// Topic exchange that answers of AMQP clients to MQTT clients go through.
    pub mqtt_exchange: Arc<str>,
    /// Virtual host of the exchange that events are published to.
    pub event_vhost: Arc<str>,
    /// Users who may connect over the loopback interface only.
    pub loopback_users: Vec<String>,
    /// User who is made when the broker starts without any, 1 to 255 bytes.
    pub default_user: String,
    /// Password of [`Self::default_user`].
    pub default_pass: Secret,
    /// Virtual host that is made together with the default user, 1 to 255 bytes.
    pub default_vhost: String,
    /// What the default user may do in the default virtual host.
    pub default_permissions: DefaultPermissions,
    /// Tags of the default user, sorted.
    pub default_user_tags: Vec<String>,
    /// What an acknowledgement of a persistent message means.
    pub durability: Durability,
    /// How long the disk may be behind with [`Durability::Interval`].
    pub durability_interval: Duration,
    /// The same as [`Self::durability`] for virtual hosts of their own, by name.
    pub vhost_durability: BTreeMap<String, Durability>,
    /// Memory of the process above which publishers are blocked.
    pub memory_limit: ResourceLimit,
    /// Free disk where the data is below which publishers are blocked.
    pub disk_limit: ResourceLimit,
}

impl Options {
    /// What an acknowledgement of a persistent message means in this virtual host.
    #[must_use]
    pub fn durability_of(&self, vhost: &str) -> Durability {
        let own = self.vhost_durability.get(vhost);
        own.copied().unwrap_or(self.durability)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message_size_bytes: 16_777_216,
            retained_messages_max: 1_000_000,
            session_caps: SessionCaps::default(),
            retained_bytes_max: u64::MAX,
            retained_rate_max: u32::MAX,
            mqtt_exchange: "amq.topic".into(),
            event_vhost: "/".into(),
            loopback_users: vec!["guest".into()],
            default_user: "guest".into(),
            default_pass: Secret::new("guest"),
            default_vhost: "/".into(),
            default_permissions: DefaultPermissions::default(),
            default_user_tags: vec!["administrator".into()],
            durability: Durability::Group,
            durability_interval: Duration::from_millis(200),
            vhost_durability: BTreeMap::new(),
            memory_limit: ResourceLimit::Relative(600_000),
            disk_limit: ResourceLimit::Absolute(50_000_000),
        }
    }
}

/// How much there may be used, or must be left, of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResourceLimit {
    /// So many bytes.
    Absolute(u64),
    /// So many millionths of the memory that there is.
    Relative(u64),
}

/// Regular expressions over names of resources; each is valid for the `regex` crate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DefaultPermissions {
    /// Names that may be declared and deleted.
    pub configure: String,
    /// Names that may be published to and bound to.
    pub write: String,
    /// Names that may be consumed from and bound from.
    pub read: String,
}

impl Default for DefaultPermissions {
    fn default() -> Self {
        Self {
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
        }
    }
}

/// Whose name and password a client gets that brings none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnonymousLogin {
    /// Name of the user, 1 to 255 bytes.
    pub user: String,
    /// Password of the user.
    pub pass: Secret,
}

impl Default for AnonymousLogin {
    fn default() -> Self {
        Self {
            user: "guest".into(),
            pass: Secret::new("guest"),
        }
    }
}

/// A text that never appears in a log: its debug form says only that it is hidden.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the check that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_form_shows_no_password() {
        let options = Options {
            default_pass: Secret::new("swordfish"),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("swordfish"));
        assert_eq!(options.default_pass.reveal(), "swordfish");
    }
}
