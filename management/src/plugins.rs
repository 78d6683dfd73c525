//! Which plugins there are, which are enabled, and how that changes.
//!
//! Plugins are compiled in and switched while the broker runs. The `enabled_plugins` file has
//! those that somebody enabled; what they depend on is implied. Without a file, `rabbitmq_mqtt` is
//! enabled: that is what the broker is for. Never opens or closes a listener itself: it asks its
//! [`PluginHost`].

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use leveret_store::enabled_plugins::{self, EnabledPluginsError};
use serde::{Deserialize, Serialize};

/// One plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plugin {
    /// RabbitMQ's name.
    pub name: &'static str,
    /// A name that is quicker to type; commands take either.
    pub short: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// One line.
    pub description: &'static str,
    /// Names of the plugins that it needs.
    pub dependencies: &'static [&'static str],
    /// There is nothing to switch: what it does is always there.
    pub always: bool,
}

/// A plugin of RabbitMQ whose exchanges are always there: whoever enables it has what it wants.
const fn exchange(name: &'static str, short: &'static str, description: &'static str) -> Plugin {
    Plugin {
        name,
        short,
        version: env!("CARGO_PKG_VERSION"),
        description,
        dependencies: &[],
        always: true,
    }
}

/// The plugins of this version, by name.
pub const KNOWN: &[Plugin] = &[
    exchange(
        "rabbitmq_consistent_hash_exchange",
        "consistent_hash_exchange",
        "Exchange type x-consistent-hash, always there",
    ),
    exchange(
        "rabbitmq_delayed_message_exchange",
        "delayed_message_exchange",
        "Exchange type x-delayed-message, always there",
    ),
    exchange(
        "rabbitmq_event_exchange",
        "event_exchange",
        "Exchange amq.rabbitmq.event, always there",
    ),
    Plugin {
        name: "rabbitmq_mqtt",
        short: "mqtt",
        version: env!("CARGO_PKG_VERSION"),
        description: "MQTT 3.1, 3.1.1 and 5.0 adapter",
        dependencies: &[],
        always: false,
    },
    exchange(
        "rabbitmq_random_exchange",
        "random_exchange",
        "Exchange type x-random, always there",
    ),
    exchange(
        "rabbitmq_recent_history_exchange",
        "recent_history_exchange",
        "Exchange type x-recent-history, always there",
    ),
];

/// What is enabled as long as there is no file.
pub const DEFAULT: &[&str] = &["rabbitmq_mqtt"];

/// Plugins of RabbitMQ that this version does not have, by name.
const ONLY_RABBITMQ: &[&str] = &[
    "rabbitmq_amqp1_0",
    "rabbitmq_auth_backend_cache",
    "rabbitmq_auth_backend_http",
    "rabbitmq_auth_backend_internal_loopback",
    "rabbitmq_auth_backend_ldap",
    "rabbitmq_auth_backend_oauth2",
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_federation",
    "rabbitmq_federation_management",
    "rabbitmq_jms_topic_exchange",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_peer_discovery_aws",
    "rabbitmq_peer_discovery_common",
    "rabbitmq_peer_discovery_consul",
    "rabbitmq_peer_discovery_etcd",
    "rabbitmq_peer_discovery_k8s",
    "rabbitmq_prometheus",
    "rabbitmq_sharding",
    "rabbitmq_shovel",
    "rabbitmq_shovel_management",
    "rabbitmq_stomp",
    "rabbitmq_stream",
    "rabbitmq_stream_management",
    "rabbitmq_top",
    "rabbitmq_tracing",
    "rabbitmq_trust_store",
    "rabbitmq_web_dispatch",
    "rabbitmq_web_mqtt",
    "rabbitmq_web_mqtt_examples",
    "rabbitmq_web_stomp",
    "rabbitmq_web_stomp_examples",
];

/// Why a plugin was not switched.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Nobody knows these names. RabbitMQ's term, since scripts match on it.
    #[error("{{:plugins_not_found, [{}]}}", AtomList(.0))]
    NotFound(Vec<String>),
    /// Names that are RabbitMQ's.
    #[error(
        "plugin {name} is known to RabbitMQ, not part of this version; plugins of this version: {}",
        names(KNOWN).join(", ")
    )]
    NotServed {
        /// The plugin.
        name: String,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] EnabledPluginsError),
    /// The plugin could not be started or stopped; the file is as it was asked to be.
    #[error("plugin {name}: {why}")]
    NotSwitched {
        /// The plugin.
        name: &'static str,
        /// What the host says.
        why: String,
    },
}

struct AtomList<'a>(&'a [String]);

impl std::fmt::Display for AtomList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}:{name}")?;
        }
        Ok(())
    }
}

/// How the set of enabled plugins changes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Adds to it.
    Enable,
    /// Takes from it, with whatever depends on what is taken.
    Disable,
    /// Replaces it.
    Set,
}

/// A switch that takes its time. The error is one line for the operator.
pub type Switching<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Starts and stops plugins in a running broker. Implementors: the server, and tests.
pub trait PluginHost: Send + Sync {
    /// Starts a plugin (opens its listeners); starting a running one does nothing.
    fn enable(&self, name: &'static str) -> Switching<'_>;

    /// Stops a plugin (closes its listeners and connections, keeps sessions); stopping a stopped
    /// one does nothing.
    fn disable(&self, name: &'static str) -> Switching<'_>;

    /// Whether a plugin runs.
    fn is_running(&self, name: &str) -> bool;
}

/// The plugins of a running broker.
pub struct Plugins {
    host: Arc<dyn PluginHost>,
    file: PathBuf,
}

/// What a change came to. The lists are sorted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Changed {
    /// The enabled plugins, dependencies too.
    pub configured: Vec<String>,
    /// Those that were not enabled before.
    pub enabled: Vec<String>,
    /// Those that are not enabled any more.
    pub disabled: Vec<String>,
    /// Those that were started now.
    pub started: Vec<String>,
    /// Those that were stopped now.
    pub stopped: Vec<String>,
}

/// A plugin as it is listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PluginRow {
    /// RabbitMQ's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// One line.
    pub description: String,
    /// Names of the plugins that it needs.
    pub dependencies: Vec<String>,
    /// Whether and how it is enabled.
    pub enabled: Enabled,
    /// Whether it runs.
    pub running: bool,
}

/// Whether a plugin is enabled.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enabled {
    /// Somebody said so.
    Enabled,
    /// Another plugin needs it.
    Implicit,
    /// No.
    NotEnabled,
}

impl Plugins {
    /// The plugins that `host` switches and `file` lists.
    #[must_use]
    pub fn new(host: Arc<dyn PluginHost>, file: PathBuf) -> Self {
        Self { host, file }
    }

    /// The `enabled_plugins` file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every plugin with its state, by name.
    ///
    /// # Errors
    /// [`PluginError::File`].
    pub fn list(&self) -> Result<Vec<PluginRow>, PluginError> {
        Ok(rows(&explicit(&self.file)?, |name| {
            find(name).is_some_and(|plugin| plugin.always) || self.host.is_running(name)
        }))
    }

    /// Changes the file, then the running plugins. The caller makes changes wait for each other.
    ///
    /// # Errors
    /// Every variant; after [`PluginError::NotSwitched`] the file has the change nevertheless.
    pub async fn change(&self, change: Change, names: &[String]) -> Result<Changed, PluginError> {
        let mut changed = change_file(&self.file, change, names)?;
        let always = |names: &[String]| -> Vec<String> {
            let names = names.iter();
            let held = names.filter(|name| find(name).is_some_and(|plugin| plugin.always));
            held.cloned().collect()
        };
        // As far as anybody can tell.
        changed.started = always(&changed.enabled);
        changed.stopped = always(&changed.disabled);
        for plugin in KNOWN.iter().filter(|plugin| !plugin.always) {
            let wanted = changed.configured.iter().any(|name| name == plugin.name);
            if wanted == self.host.is_running(plugin.name) {
                continue;
            }
            let (switched, list) = if wanted {
                (self.host.enable(plugin.name).await, &mut changed.started)
            } else {
                (self.host.disable(plugin.name).await, &mut changed.stopped)
            };
            let name = plugin.name;
            switched.map_err(|why| PluginError::NotSwitched { name, why })?;
            list.push(name.to_owned());
        }
        changed.started.sort();
        changed.stopped.sort();
        Ok(changed)
    }
}

/// The plugins that a file enables by name; [`DEFAULT`] if there is none.
///
/// # Errors
/// The file is there and cannot be read.
pub fn explicit(file: &Path) -> Result<Vec<String>, EnabledPluginsError> {
    if file.exists() {
        return enabled_plugins::read(file);
    }
    Ok(DEFAULT.iter().map(ToString::to_string).collect())
}

/// The plugins of this version that are to run: those enabled by name and what they depend on.
/// Names that this version does not have are passed over.
#[must_use]
pub fn effective(explicit: &[String]) -> Vec<&'static Plugin> {
    let mut wanted: BTreeSet<&'static str> = BTreeSet::new();
    let mut pending: Vec<&Plugin> = explicit.iter().filter_map(|name| find(name)).collect();
    while let Some(plugin) = pending.pop() {
        if wanted.insert(plugin.name) {
            pending.extend(plugin.dependencies.iter().filter_map(|name| find(name)));
        }
    }
    KNOWN
        .iter()
        .filter(|plugin| wanted.contains(plugin.name))
        .collect()
}

/// Changes the file and says what that means; nothing is written if nothing changes.
///
/// # Errors
/// [`PluginError::NotFound`], [`PluginError::NotServed`] (neither when disabling, which needs no
/// such plugin) and [`PluginError::File`].
pub fn change_file(file: &Path, change: Change, names: &[String]) -> Result<Changed, PluginError> {
    let before = explicit(file)?;
    let after = changed_names(&before, change, names)?;
    if after != before || !file.exists() {
        enabled_plugins::write(file, &after)?;
    }
    let (before, after) = (effective(&before), effective(&after));
    let missing = |from: &[&'static Plugin], of: &[&'static Plugin]| {
        of.iter()
            .filter(|plugin| !from.contains(plugin))
            .map(|p| p.name.to_owned())
            .collect()
    };
    Ok(Changed {
        configured: after.iter().map(|plugin| plugin.name.to_owned()).collect(),
        enabled: missing(&before, &after),
        disabled: missing(&after, &before),
        ..Changed::default()
    })
}

/// The explicit set after a change, sorted as RabbitMQ writes it.
fn changed_names(
    before: &[String],
    change: Change,
    names: &[String],
) -> Result<Vec<String>, PluginError> {
    let full = |name: &String| find(name).map_or(name.clone(), |plugin| plugin.name.to_owned());
    let names: Vec<String> = names.iter().map(full).collect();
    if change != Change::Disable {
        check(&names)?;
    }
    let mut after = match change {
        Change::Set => names,
        Change::Enable => {
            // What is there implicitly is not added by name.
            let held = effective(before);
            let new = names
                .into_iter()
                .filter(|name| !held.iter().any(|p| p.name == name));
            before.iter().cloned().chain(new).collect()
        }
        Change::Disable => {
            let needs_gone = |name: &String| {
                let needed = effective(std::slice::from_ref(name));
                names.contains(name) || needed.iter().any(|p| names.iter().any(|n| n == p.name))
            };
            before
                .iter()
                .filter(|name| !needs_gone(name))
                .cloned()
                .collect()
        }
    };
    after.sort();
    after.dedup();
    Ok(after)
}

fn check(names: &[String]) -> Result<(), PluginError> {
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| find(name).is_none())
        .cloned()
        .collect();
    match unknown
        .iter()
        .find(|name| ONLY_RABBITMQ.contains(&name.as_str()))
    {
        Some(name) => Err(PluginError::NotServed { name: name.clone() }),
        None if unknown.is_empty() => Ok(()),
        None => Err(PluginError::NotFound(unknown)),
    }
}

/// Every plugin as it is listed.
#[must_use]
pub fn rows(explicit: &[String], is_running: impl Fn(&str) -> bool) -> Vec<PluginRow> {
    let effective = effective(explicit);
    let row = |plugin: &'static Plugin| PluginRow {
        name: plugin.name.to_owned(),
        version: plugin.version.to_owned(),
        description: plugin.description.to_owned(),
        dependencies: plugin
            .dependencies
            .iter()
            .map(ToString::to_string)
            .collect(),
        enabled: if explicit.iter().any(|name| find(name) == Some(plugin)) {
            Enabled::Enabled
        } else if effective.contains(&plugin) {
            Enabled::Implicit
        } else {
            Enabled::NotEnabled
        },
        running: is_running(plugin.name),
    };
    KNOWN.iter().map(row).collect()
}

/// The plugin with this name, long or short.
#[must_use]
pub fn find(name: &str) -> Option<&'static Plugin> {
    KNOWN
        .iter()
        .find(|plugin| plugin.name == name || plugin.short == name)
}

fn names(plugins: &[Plugin]) -> Vec<&'static str> {
    plugins.iter().map(|plugin| plugin.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn o1_names_change() {
        use Change::{Disable, Enable, Set};
        let table: &[(&[&str], Change, &[&str], Result<&[&str], &str>)] = &[
            (&[], Enable, &["rabbitmq_mqtt"], Ok(&["rabbitmq_mqtt"])),
            (&[], Enable, &["mqtt"], Ok(&["rabbitmq_mqtt"])),
            (
                &["rabbitmq_mqtt"],
                Enable,
                &["rabbitmq_mqtt"],
                Ok(&["rabbitmq_mqtt"]),
            ),
            (&["rabbitmq_mqtt"], Disable, &["mqtt"], Ok(&[])),
            (
                &["rabbitmq_mqtt"],
                Disable,
                &["nosuch"],
                Ok(&["rabbitmq_mqtt"]),
            ),
            (&["rabbitmq_mqtt"], Set, &[], Ok(&[])),
            (
                &["their_plugin"],
                Enable,
                &["mqtt"],
                Ok(&["rabbitmq_mqtt", "their_plugin"]),
            ),
            (
                &["rabbitmq_mqtt"],
                Enable,
                &["rabbitmq_consistent_hash_exchange"],
                Ok(&["rabbitmq_consistent_hash_exchange", "rabbitmq_mqtt"]),
            ),
            (
                &[],
                Enable,
                &["a", "b"],
                Err("{:plugins_not_found, [:a, :b]}"),
            ),
            (
                &[],
                Set,
                &["rabbitmq_shovel"],
                Err("known to RabbitMQ, not part of this version"),
            ),
        ];
        for (before, change, names, expected) in table {
            let after = changed_names(&strings(before), *change, &strings(names));
            match (after, expected) {
                (Ok(after), Ok(expected)) => assert_eq!(after, *expected),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (after, expected) => panic!("{after:?}, expected {expected:?}"),
            }
        }
    }

    /// FEATURES O1: what can be enabled is enabled then, whether or not there was anything to do.
    #[test]
    fn o1_what_is_always_there_can_be_enabled() {
        for plugin in KNOWN.iter().filter(|plugin| plugin.always) {
            let directory = tempfile::tempdir().expect("directory");
            let file = directory.path().join("enabled_plugins");
            let enabled = |file: &Path| {
                let rows = rows(&explicit(file).expect("reads"), |_| false);
                let row = rows.into_iter().find(|row| row.name == plugin.name);
                row.expect("listed").enabled
            };
            assert_eq!(enabled(&file), Enabled::NotEnabled);
            let names = strings(&[plugin.name]);
            let changed = change_file(&file, Change::Enable, &names).expect("enables");
            assert_eq!(changed.enabled, names);
            assert_eq!(enabled(&file), Enabled::Enabled);
            let changed = change_file(&file, Change::Disable, &names).expect("disables");
            assert_eq!(changed.disabled, names);
            assert_eq!(enabled(&file), Enabled::NotEnabled);
        }
    }

    #[test]
    fn o1_mqtt_is_enabled_as_long_as_there_is_no_file() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("enabled_plugins");
        assert_eq!(explicit(&file).expect("no file"), DEFAULT);
        let changed = change_file(&file, Change::Disable, &strings(&["mqtt"])).expect("disables");
        assert_eq!(changed.disabled, ["rabbitmq_mqtt"]);
        assert_eq!(explicit(&file).expect("reads"), Vec::<String>::new());
        let changed = change_file(&file, Change::Enable, &strings(&["mqtt"])).expect("enables");
        assert_eq!(
            (changed.configured, changed.disabled),
            (changed.enabled, vec![])
        );
        assert_eq!(
            std::fs::read_to_string(&file).expect("reads"),
            "[rabbitmq_mqtt].\n"
        );
    }
}
