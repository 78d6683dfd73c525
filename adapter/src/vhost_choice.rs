//! Which virtual host a connection gets, and by which rule: the log and `explain` name it.
//!
//! Order: `vhost:username`; the port map (`mqtt_port_to_vhost_mapping`); the listener's vhost;
//! `mqtt.vhost`. A listener with a vhost of its own refuses a user name that asks for another.

use std::fmt;

/// The rule that chose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The listener has a vhost of its own.
    Listener,
    /// The part of the user name before its last colon.
    Username,
    /// `mqtt_port_to_vhost_mapping` has the local port.
    PortMap,
    /// `mqtt.vhost`.
    Default,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "the listener's vhost",
            Self::Username => "the user name's prefix",
            Self::PortMap => "mqtt_port_to_vhost_mapping",
            Self::Default => "mqtt.vhost",
        })
    }
}

/// What was chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice<'a> {
    /// The vhost.
    pub vhost: String,
    /// The user name that remains.
    pub user: &'a str,
    /// Who chose.
    pub rule: Rule,
}

/// The listener has one vhost and the user name asks for another.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this listener serves vhost '{pinned}' only, the user name asks for '{asked}'")]
pub struct Pinned {
    /// The listener's.
    pub pinned: String,
    /// The user name's.
    pub asked: String,
}

/// Chooses the vhost of a connection.
///
/// # Errors
/// The listener is pinned to another vhost than the user name asks for.
pub fn choose<'a>(
    user_name: &'a str,
    listener: Option<&str>,
    of_port: impl FnOnce() -> Option<String>,
    default: &str,
) -> Result<Choice<'a>, Pinned> {
    if let Some((vhost, user)) = user_name.rsplit_once(':') {
        return match listener {
            Some(pinned) if pinned != vhost => Err(Pinned {
                pinned: pinned.to_owned(),
                asked: vhost.to_owned(),
            }),
            _ => Ok(Choice {
                vhost: vhost.to_owned(),
                user,
                rule: Rule::Username,
            }),
        };
    }
    let (vhost, rule) = match (of_port(), listener) {
        (Some(vhost), _) => (vhost, Rule::PortMap),
        (None, Some(vhost)) => (vhost.to_owned(), Rule::Listener),
        (None, None) => (default.to_owned(), Rule::Default),
    };
    Ok(Choice {
        vhost,
        user: user_name,
        rule,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES V1: the order of the rules.
    #[test]
    fn v1_rules_choose_in_order() {
        let port = || Some("ported".to_owned());
        let none = || None;
        let row = |user, listener, mapped: bool| {
            let chosen = if mapped {
                choose(user, listener, port, "/")
            } else {
                choose(user, listener, none, "/")
            };
            chosen
                .map(|c| (c.vhost, c.user.to_owned(), c.rule))
                .map_err(|e| e.to_string())
        };
        let ok = |vhost: &str, user: &str, rule| Ok((vhost.to_owned(), user.to_owned(), rule));
        assert_eq!(row("u", None, false), ok("/", "u", Rule::Default));
        assert_eq!(row("u", None, true), ok("ported", "u", Rule::PortMap));
        assert_eq!(row("v:u", None, true), ok("v", "u", Rule::Username));
        assert_eq!(row("a:b:u", None, true), ok("a:b", "u", Rule::Username));
        assert_eq!(row("u", Some("l"), true), ok("ported", "u", Rule::PortMap));
        assert_eq!(row("u", Some("l"), false), ok("l", "u", Rule::Listener));
        assert_eq!(row("l:u", Some("l"), true), ok("l", "u", Rule::Username));
        assert!(row("v:u", Some("l"), true).is_err());
    }
}
