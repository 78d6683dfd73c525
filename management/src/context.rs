//! What the commands work on: the broker, its plugins, and facts about the process.
//!
//! Owns nothing but references. Whoever assembles the process fills it in; commands never reach
//! for a clock, an environment variable or a global themselves.

use std::path::PathBuf;
use std::sync::Arc;

use leveret_auth::login::Internal;
use leveret_core::broker::Broker;
use leveret_core::time::Time;
use tokio::sync::{Mutex, MutexGuard};

use crate::plugins::Plugins;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Tells which listeners are open now.
pub type Listeners = Arc<dyn Fn() -> Vec<ListenerRow> + Send + Sync>;

/// Everything that commands may ask.
pub struct Context {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The backend that verifies passwords.
    pub logins: Arc<Internal>,
    /// The plugins and who switches them.
    pub plugins: Plugins,
    /// The node's name, as `NAME@HOST`.
    pub node_name: String,
    /// The version of the program.
    pub version: &'static str,
    /// The directory that the control socket is in.
    pub data_dir: PathBuf,
    /// The files that the configuration came from, in their order.
    pub config_files: Vec<PathBuf>,
    /// When the broker was ready.
    pub started_at: Time,
    /// The same clock that drives the broker.
    pub clock: Clock,
    /// The open listeners.
    pub listeners: Listeners,
    /// Makes changes wait for each other.
    pub changes: ChangeLock,
}

/// One administrative change at a time: what a change looks at first stays as it is until it is
/// done.
#[derive(Debug, Default)]
pub struct ChangeLock(Mutex<()>);

impl ChangeLock {
    pub(crate) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.lock().await
    }
}

/// One open listener, as `status` shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerRow {
    /// RabbitMQ's name of the protocol: `amqp`, `mqtt`, `mqtt/ssl` and so on.
    pub protocol: String,
    /// What it is for, in words.
    pub purpose: String,
    /// The address that it is bound to.
    pub interface: String,
    /// The port.
    pub port: u16,
}

/// The node's name where nobody gave one: `leveret@` and the machine's name.
#[must_use]
pub fn default_node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let short = name.split('.').next().filter(|short| !short.is_empty());
    format!("leveret@{}", short.unwrap_or("localhost"))
}
