//! The settings of Leveret: one table of them, the files they come from, the documents made of it.
//!
//! This crate knows the options of every other crate, and none of them knows this one. It turns
//! files, environment variables and `--set` arguments into plain option structs, or into a
//! complete list of what is wrong with them. It never opens a socket, never writes a file, and
//! never shows a password.
//!
//! | module | owns |
//! |---|---|
//! | [`schema`] | the table: one row a setting |
//! | `known` | keys that RabbitMQ has and this version does not serve |
//! | `kind` | types of values, their bounds, how a value is read from text |
//! | `conf`, `toml_file`, `source` | files, environment and arguments as assignments |
//! | `resolve` | layers: a default, under files, under the environment, under `--set` |
//! | `assemble` | the option structs of the crates |
//! | `explain`, `document` | what is said about a setting: on demand, as a page, as samples |

mod assemble;
mod conf;
mod document;
mod error;
mod explain;
mod kind;
mod known;
mod resolve;
pub mod schema;
mod source;
mod toml_file;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use document::{reference_markdown, sample_conf, sample_toml};
pub use error::ConfigError;
pub use explain::{Explanation, explain, explain_effective};
pub use kind::{Kind, TimeUnit};
pub use resolve::{Effective, Row};
pub use source::{Origin, Sources};

/// Everything the binary needs to know to start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// Directory of what survives a restart; `None` keeps nothing.
    pub data_dir: Option<PathBuf>,
    /// File that lists the enabled plugins; `None` if neither it nor a data directory is given.
    pub enabled_plugins_file: Option<PathBuf>,
    /// The least severe messages that the console shows.
    pub log_level: LogLevel,
    /// Options of the core.
    pub core: leveret_core::options::Options,
    /// Options of the MQTT adapter.
    pub mqtt: leveret_mqtt::options::Options,
    /// Options of AMQP 0-9-1 connections.
    pub amqp: leveret_amqp::options::Options,
    /// Options of the network side.
    pub net: leveret_net::options::Options,
}

/// Severity from which on the console shows messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator may want to know.
    #[default]
    Info,
    /// What an operator should look at.
    Warning,
    /// What an operator must look at.
    Error,
    /// Nothing.
    None,
}

/// Reads all sources and resolves every setting.
///
/// `--set` wins over the environment, the environment over files, a later file over an earlier
/// one, and anything over a default.
///
/// # Errors
/// All that is wrong, in the order of the sources: files that cannot be read or parsed, unknown
/// keys, values out of bounds, and settings that contradict each other.
pub fn load(sources: &Sources) -> Result<(Config, Effective), Vec<ConfigError>> {
    let mut errors = Vec::new();
    let layers = sources.layers(&mut errors);
    let mut values = resolve::resolve(layers, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let config = assemble::assemble(&mut values, &mut errors);
    if errors.is_empty() {
        Ok((config, values.into_effective()))
    } else {
        Err(errors)
    }
}
