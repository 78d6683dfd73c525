//! Who may do what: RabbitMQ's three patterns for each user and vhost, and patterns on topics.
//!
//! Patterns are searched, not anchored; an empty pattern matches only the empty name. The engine is
//! linear in time and has no look-around, which RabbitMQ's has: a pattern that needs it is refused
//! when it is set.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use crate::limits::PATTERN_BYTES_MAX;

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Permission {
    /// Create, delete, alter.
    Configure,
    /// Publish, bind to.
    Write,
    /// Consume, bind from, purge.
    Read,
}

impl Permission {
    /// The word in RabbitMQ's texts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A pattern as it was set, ready to match.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    /// `.*`, which nearly everybody has.
    All,
    /// The empty pattern: the empty name only.
    Empty,
    Regex(Box<Regex>),
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid regular expression '{pattern}': {why}")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, needs look-around, or compiles to more than
    /// [`PATTERN_BYTES_MAX`] bytes.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let engine = match text {
            "" | "^$" => Engine::Empty,
            ".*" | "^.*" | "^.*$" => Engine::All,
            _ => {
                let built = RegexBuilder::new(text)
                    .size_limit(PATTERN_BYTES_MAX)
                    .dfa_size_limit(PATTERN_BYTES_MAX)
                    .build()
                    .map_err(|why| BadPattern {
                        pattern: text.to_owned(),
                        why: why.to_string(),
                    })?;
                Engine::Regex(Box::new(built))
            }
        };
        Ok(Self {
            text: text.into(),
            engine,
        })
    }

    /// The pattern as it was set.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.engine, Engine::All)
    }

    /// Whether it is found in `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.engine {
            Engine::All => true,
            Engine::Empty => name.is_empty(),
            Engine::Regex(regex) => regex.is_match(name),
        }
    }
}

/// A user's permissions in one vhost.
#[derive(Clone, Debug)]
pub struct Grants {
    /// May create, delete and alter what matches.
    pub configure: Pattern,
    /// May write to what matches.
    pub write: Pattern,
    /// May read from what matches.
    pub read: Pattern,
    /// Patterns on topics, by exchange. An exchange without any is open.
    pub topics: HashMap<Box<str>, TopicGrants>,
}

impl Grants {
    /// The pattern that answers `permission`.
    #[must_use]
    pub fn pattern(&self, permission: Permission) -> &Pattern {
        match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        }
    }
}

/// Patterns on the topics of one exchange, as they were set: variables and all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicGrants {
    /// May publish under what matches.
    pub write: Box<str>,
    /// May bind under what matches.
    pub read: Box<str>,
}

/// What the variables of topic patterns stand for.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `{username}`
    pub username: &'a str,
    /// `{vhost}`
    pub vhost: &'a str,
    /// `{client_id}`, empty where there is none.
    pub client_id: &'a str,
}

impl Variables<'_> {
    /// Puts the values in, each escaped so that it matches only itself: a client chooses its own
    /// id.
    #[must_use]
    pub fn expand(&self, pattern: &str) -> String {
        if !pattern.contains('{') {
            return pattern.to_owned();
        }
        let mut out = String::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let values = [
                ("{username}", self.username),
                ("{vhost}", self.vhost),
                ("{client_id}", self.client_id),
            ];
            match values.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => {
                    out.push_str(&regex::escape(value));
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES U3: patterns are searched, the empty one matches nothing that has a name.
    #[test]
    fn u3_patterns_are_searched() {
        for (pattern, name, expected) in [
            ("", "a", false),
            ("", "", true),
            (".*", "anything", true),
            ("^mqtt-", "mqtt-subscription-x", true),
            ("^mqtt-", "amq.topic", false),
            ("topic", "amq.topic", true),
        ] {
            let matches = Pattern::new(pattern).is_ok_and(|p| p.matches(name));
            assert_eq!(matches, expected, "{pattern} on {name}");
        }
        for refused in ["(", "^(?=a)", "^(?!a)", "(?<=a)b"] {
            assert!(Pattern::new(refused).is_err(), "{refused}");
        }
    }

    /// FEATURES U3, class A4: a client id is a value, never a pattern.
    #[test]
    fn u3_variables_match_only_themselves() {
        for hostile in [".*", "a|b", "(", "a-z", "[a-z]", "\\", "{username}"] {
            let variables = Variables {
                username: "u",
                vhost: "/",
                client_id: hostile,
            };
            let expanded = variables.expand("^{client_id}\\.up$");
            let pattern = Pattern::new(&expanded).expect("an escaped value is a pattern");
            assert!(pattern.matches(&format!("{hostile}.up")), "{hostile}");
            assert!(!pattern.matches("other.up"), "{hostile}");
        }
    }
}
