//! What can be wrong with a configuration, as one line each.
//!
//! A message names the place, the key and what would be right. It never holds the value of a
//! secret setting.

use std::fmt;

use crate::source::Origin;

/// One thing that is wrong with a configuration. Each keeps the broker from starting.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read, or is not a configuration file.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file as it was given.
        path: String,
        /// What the system answered.
        why: String,
    },
    /// A line is not in the format of its file.
    #[error("{origin}: {why}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What was expected.
        why: String,
    },
    /// No setting has this name.
    #[error("{}unknown key '{key}'{}", At(origin.as_ref()), DidYouMean(hint.as_deref()))]
    UnknownKey {
        /// Where; `None` if somebody asked about the key.
        origin: Option<Origin>,
        /// The key as written.
        key: String,
        /// The key that was probably meant.
        hint: Option<String>,
    },
    /// A setting of RabbitMQ that this version does not have.
    #[error("{}key '{key}' is known to RabbitMQ, not served by this version", At(origin.as_ref()))]
    NotServed {
        /// Where; `None` if somebody asked about the key.
        origin: Option<Origin>,
        /// The key as written.
        key: String,
    },
    /// A value of the wrong type or out of bounds.
    #[error("{origin}: '{key}' cannot be '{value}'; allowed: {allowed}")]
    BadValue {
        /// Where.
        origin: Origin,
        /// The key as written.
        key: String,
        /// The value as written, `<hidden>` if it is secret.
        value: String,
        /// Type and bounds.
        allowed: String,
    },
    /// Two names of one setting have different values.
    #[error("{origin}: '{key}' disagrees with '{other_key}' ({other_origin}): one setting")]
    Conflict {
        /// Where the later one is.
        origin: Origin,
        /// The later name.
        key: String,
        /// Where the earlier one is.
        other_origin: Origin,
        /// The earlier name.
        other_key: String,
    },
    /// Two settings exclude each other.
    #[error("{origin}: {why}")]
    Contradiction {
        /// Where one of them is.
        origin: Origin,
        /// Which they are, and why they exclude each other.
        why: String,
    },
}

struct At<'a>(Option<&'a Origin>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |origin| write!(f, "{origin}: "))
    }
}

struct DidYouMean<'a>(Option<&'a str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |hint| write!(f, "; did you mean '{hint}'?"))
    }
}
