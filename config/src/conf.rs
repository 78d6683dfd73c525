//! RabbitMQ's `rabbitmq.conf`: one `key = value` a line, in the format of sysctl.
//!
//! ```text
//! line    = *WSP [ setting ] [ comment ]
//! setting = key *WSP "=" *WSP value *WSP
//! key     = word *("." word)              ; "\." is a dot inside a word
//! value   = "'" *(any but "'") "'" / *(any but "#")
//! comment = "#" *any
//! ```
//!
//! A `#` ends an unquoted value wherever it stands, as it does for RabbitMQ. Knows nothing of
//! which keys exist, and never shows a value: it may be a password.

use crate::error::ConfigError;
use crate::source::{Assignment, Origin, Shape};

/// Appends the settings of `text` to `into`, and what is wrong with its lines to `errors`.
pub(crate) fn parse(
    path: &str,
    text: &str,
    into: &mut Vec<Assignment>,
    errors: &mut Vec<ConfigError>,
) {
    for (index, line) in text.lines().enumerate() {
        let origin = Origin::File {
            path: path.into(),
            line: index + 1,
        };
        match setting(line.trim()) {
            Ok(Some((key, text))) => {
                let text = text.into();
                into.push(Assignment {
                    key,
                    text,
                    shape: Shape::Bare,
                    origin,
                });
            }
            Ok(None) => {}
            Err(why) => errors.push(ConfigError::Syntax {
                origin,
                why: why.into(),
            }),
        }
    }
}

fn setting(line: &str) -> Result<Option<(String, &str)>, &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let Some((key, rest)) = line.split_once('=') else {
        return Err("expected 'key = value'");
    };
    Ok(Some((
        parse_key(key.trim_end())?,
        parse_value(rest.trim_start())?,
    )))
}

fn parse_key(key: &str) -> Result<String, &'static str> {
    if key.contains(|c: char| c.is_whitespace() || c == '#' || c == '\'') {
        return Err("expected 'key = value'; a key has no spaces, quotes or '#'");
    }
    let key = key.replace("\\.", ".");
    if key.split('.').any(str::is_empty) {
        return Err("a key is words with single dots between them");
    }
    Ok(key)
}

fn parse_value(rest: &str) -> Result<&str, &'static str> {
    let Some(quoted) = rest.strip_prefix('\'') else {
        let value = rest.split('#').next().unwrap_or_default().trim_end();
        return if value.is_empty() {
            Err("no value; an empty text is ''")
        } else {
            Ok(value)
        };
    };
    let Some((value, after)) = quoted.split_once('\'') else {
        return Err("a quoted value ends with ' on the same line");
    };
    match after.trim_start() {
        "" => Ok(value),
        comment if comment.starts_with('#') => Ok(value),
        _ => Err("nothing but a comment may follow a quoted value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let rows = [
            ("", None),
            ("   # mqtt.vhost = /", None),
            ("mqtt.vhost = /", Some(("mqtt.vhost", "/"))),
            ("mqtt.vhost=/", Some(("mqtt.vhost", "/"))),
            ("\tmqtt.vhost =  a b  ", Some(("mqtt.vhost", "a b"))),
            ("mqtt.vhost = / # the default", Some(("mqtt.vhost", "/"))),
            ("default_pass = a=b#c", Some(("default_pass", "a=b"))),
            ("default_pass = 'a#b '", Some(("default_pass", "a#b "))),
            ("default_pass = 'a' # b", Some(("default_pass", "a"))),
            ("default_pass = ''", Some(("default_pass", ""))),
            (
                r"loopback_users.a\.b = true",
                Some(("loopback_users.a.b", "true")),
            ),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|(key, value)| (key.to_owned(), value));
            assert_eq!(setting(line.trim()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn lines_that_are_no_settings() {
        let rows = [
            "mqtt.vhost",
            "mqtt.vhost =",
            "mqtt.vhost = # the default",
            "= /",
            "mqtt..vhost = /",
            "mqtt vhost = /",
            "default_pass = 'a",
            "default_pass = 'a' b",
            "[mqtt]",
        ];
        for line in rows {
            assert!(setting(line).is_err(), "{line}");
        }
    }
}
