//! Where values come from: files, the environment, `--set`. Each becomes a list of assignments.
//!
//! Knows the order of the sources and how each spells a key; does not know which keys exist.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::ConfigError;
use crate::{conf, toml_file};

/// A configuration file may be this long. The table of settings fits ten times over.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// Every environment variable that sets something begins with this.
const ENV_PREFIX: &str = "LEVERET_";

/// What to load, weakest first: files in their order, then the environment, then `sets`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files that end in `.toml`, or in `.conf` for RabbitMQ's format; at most 1 MiB each.
    pub files: Vec<PathBuf>,
    /// The environment. Variables that do not begin with `LEVERET_` are passed over, and so are
    /// those that Kubernetes makes up for a service that is called `leveret`.
    pub env: Vec<(String, String)>,
    /// Arguments of `--set`, each `KEY=VALUE`.
    pub sets: Vec<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of a file.
    File {
        /// The file as it was given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// An argument of `--set`.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Env { name } => write!(f, "env {name}"),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// What the format of the source says about a value, beyond its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// Nothing: any type may be meant.
    Bare,
    Boolean,
    Integer,
    Float,
    String,
    /// Members with commas between them.
    List,
    /// Something that no setting is: a date, a table in a list.
    Other,
}

/// One key with the text of its value. Holds secrets: not to be shown.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) shape: Shape,
    pub(crate) origin: Origin,
}

impl Sources {
    /// The three layers of assignments, weakest first. What cannot be read goes to `errors`.
    pub(crate) fn layers(&self, errors: &mut Vec<ConfigError>) -> [Vec<Assignment>; 3] {
        let mut files = Vec::new();
        for path in &self.files {
            read(path, &mut files, errors);
        }
        let env = self
            .env
            .iter()
            .filter_map(|(name, value)| from_env(name, value))
            .collect();
        let sets = self
            .sets
            .iter()
            .filter_map(|set| from_set(set, errors))
            .collect();
        [files, env, sets]
    }
}

/// The variable that sets `key`.
pub(crate) fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn read(path: &Path, into: &mut Vec<Assignment>, errors: &mut Vec<ConfigError>) {
    let name = path.display().to_string();
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml_file::parse,
        Some("conf") => conf::parse,
        _ => {
            let why = "neither a .toml nor a .conf file".into();
            errors.push(ConfigError::Unreadable { path: name, why });
            return;
        }
    };
    match read_text(path) {
        Ok(text) => parse(
            &name,
            text.strip_prefix('\u{feff}').unwrap_or(&text),
            into,
            errors,
        ),
        Err(why) => errors.push(ConfigError::Unreadable { path: name, why }),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        format!("line {line} is not UTF-8")
    })
}

fn from_env(name: &str, value: &str) -> Option<Assignment> {
    let rest = name.strip_prefix(ENV_PREFIX)?;
    if is_service_link(rest) {
        return None;
    }
    Some(Assignment {
        key: rest.replace("__", ".").to_lowercase(),
        text: value.into(),
        shape: Shape::Bare,
        origin: Origin::Env { name: name.into() },
    })
}

/// Kubernetes tells every container about every service: one called `leveret` or `leveret-x`
/// gives `LEVERET_SERVICE_HOST`, `LEVERET_X_PORT_1883_TCP_ADDR` and the like.
fn is_service_link(rest: &str) -> bool {
    let one_of = |name: &str| {
        name == "PORT"
            || name == "SERVICE_HOST"
            || name.starts_with("SERVICE_PORT")
            || name.strip_prefix("PORT_").is_some_and(|port| {
                port.split('_')
                    .next()
                    .is_some_and(|number| number.parse::<u16>().is_ok())
            })
    };
    !rest.contains("__")
        && (one_of(rest)
            || rest
                .match_indices('_')
                .any(|(at, _)| one_of(&rest[at + 1..])))
}

fn from_set(set: &str, errors: &mut Vec<ConfigError>) -> Option<Assignment> {
    let Some((key, value)) = set.split_once('=') else {
        // What follows a mistyped `=` may be a password.
        let is_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let key: String = set.chars().take_while(is_key).collect();
        let why = format!("expected KEY=VALUE, found no '=' after '{key}'");
        errors.push(ConfigError::Syntax {
            origin: Origin::Set,
            why,
        });
        return None;
    };
    Some(Assignment {
        key: key.trim().into(),
        text: value.trim().into(),
        shape: Shape::Bare,
        origin: Origin::Set,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_told_from_settings() {
        let rows = [
            ("SERVICE_HOST", true),
            ("SERVICE_PORT", true),
            ("SERVICE_PORT_MQTT", true),
            ("PORT", true),
            ("PORT_1883_TCP_ADDR", true),
            ("HEADLESS_SERVICE_HOST", true),
            ("X_PORT_5672_TCP", true),
            ("MQTT__VHOST", false),
            ("FRAME_MAX", false),
            ("PORT_MQTT", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_service_link(name), expected, "{name}");
        }
    }

    #[test]
    fn env_name_reads_back() {
        let assignment = from_env(&env_name("mqtt.listeners.tcp.default"), "1884");
        assert!(assignment.is_some_and(|found| found.key == "mqtt.listeners.tcp.default"));
    }
}
