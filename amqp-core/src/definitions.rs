//! The door to what must survive a restart: users, vhosts, permissions, parameters, durable
//! exchanges, queues and bindings. The core knows only this trait; `leveret-store` keeps it on
//! disk, tests keep it in memory.
//!
//! A change is *submitted* at once and is *durable* when the watermark passes its number. Whoever
//! told a client that the change is made waits for that: the core itself never blocks on a disk.

use std::sync::Arc;

use crate::watermark::Watermark;

/// What a record describes; each kind has its own key space.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Kind {
    /// Facts about the node itself (format version, whether defaults were made).
    Node,
    /// Virtual hosts.
    VHost,
    /// Users with password hash and tags.
    User,
    /// Permissions of a user in a vhost.
    Permission,
    /// Topic permissions of a user in a vhost on an exchange.
    TopicPermission,
    /// Global runtime parameters.
    GlobalParameter,
    /// Durable exchanges.
    Exchange,
    /// Durable queues.
    Queue,
    /// Bindings between durable exchanges and durable queues or exchanges.
    Binding,
    /// Policies of a vhost.
    Policy,
    /// Operator policies of a vhost.
    OperatorPolicy,
}

impl Kind {
    /// All kinds, in the order in which they are loaded: what is referred to comes first.
    pub const ALL: [Self; 11] = [
        Self::Node,
        Self::VHost,
        Self::User,
        Self::Permission,
        Self::TopicPermission,
        Self::GlobalParameter,
        Self::Policy,
        Self::OperatorPolicy,
        Self::Exchange,
        Self::Queue,
        Self::Binding,
    ];
}

/// One change of one record. Keys and values are opaque to the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Creates or replaces the record.
    Put {
        /// The key space.
        kind: Kind,
        /// At most 256 KiB: a binding's key has the names and arguments that tell it from others.
        key: Box<[u8]>,
        /// At most 1 MiB.
        value: Box<[u8]>,
    },
    /// Removes the record if it is there.
    Delete {
        /// The key space.
        kind: Kind,
        /// The key of an earlier `Put`.
        key: Box<[u8]>,
    },
}

/// Why the definitions cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Fault {
    /// What was being done, with the file's path where there is one.
    pub what: String,
    /// What the system answered.
    pub why: String,
}

/// Keeps definitions. Implementors: redb on disk, and [`Volatile`].
pub trait Definitions: Send + Sync {
    /// Calls `visit(key, value)` for every record of `kind`, in key order.
    ///
    /// # Errors
    /// The file cannot be read.
    fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault>;

    /// Hands over changes that become durable together, after all earlier ones. Returns their
    /// number: they are on disk when [`Self::watermark`] has reached it. Never blocks on the disk.
    fn submit(&self, changes: Vec<Change>) -> u64;

    /// How far the submitted changes are durable. It stops moving when the disk fails.
    fn watermark(&self) -> &Arc<Watermark>;
}

/// Definitions that live as long as the process: for tests and for brokers that need no restart.
#[derive(Debug, Default)]
pub struct Volatile {
    watermark: Arc<Watermark>,
    submitted: std::sync::atomic::AtomicU64,
}

impl Definitions for Volatile {
    fn load(&self, _kind: Kind, _visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        Ok(())
    }

    fn submit(&self, _changes: Vec<Change>) -> u64 {
        let number = self
            .submitted
            .fetch_add(1, std::sync::atomic::Ordering::AcqRel)
            + 1;
        self.watermark.raise(number);
        number
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }
}
