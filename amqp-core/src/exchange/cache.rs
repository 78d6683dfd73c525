//! What a key resolved to, remembered while nothing changes that it depends on ([`Stamp`]): by each
//! publisher for its last key, by each worker for many keys.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Exchange;
use super::epochs::{Stamp, Topology};
use super::route::{Note, Stop};
use crate::key::Form;
use crate::limits::{ROUTE_KEY_CACHED_BYTES_MAX, ROUTE_TARGETS_CACHED_MAX, ROUTES_CACHED_MAX};
use crate::queue::Queue;
use crate::timers::Room;

/// Where a message goes.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Each once.
    pub(crate) queues: Arc<[Arc<Queue>]>,
    /// Where it is to wait.
    pub(crate) stops: Vec<Stop>,
    /// What is to take note of it when it is published.
    pub(crate) notes: Vec<Note>,
    /// For as long as it may still come to wait: nobody else takes that room meanwhile.
    pub(crate) _room: Option<Arc<Room>>,
}

impl Found {
    /// It goes to these queues at once.
    pub(crate) fn at_once(queues: Arc<[Arc<Queue>]>) -> Self {
        Self {
            queues,
            stops: Vec::new(),
            notes: Vec::new(),
            _room: None,
        }
    }
}

/// The way of a message.
pub(crate) struct Route {
    pub(crate) found: Found,
    /// What it was made from; `None` if it depends on more than that and cannot be remembered.
    pub(crate) stamp: Option<Stamp>,
}

impl Route {
    pub(crate) fn new(queues: Arc<[Arc<Queue>]>, stamp: Option<Stamp>) -> Self {
        let found = Found::at_once(queues);
        Self { found, stamp }
    }
}

struct Entry {
    exchange: u64,
    form: Form,
    key: Box<[u8]>,
    stamp: Stamp,
    queues: Arc<[Arc<Queue>]>,
}

/// A worker's routes: bounded, emptied when full.
#[derive(Default)]
pub(crate) struct RouteCache {
    hasher: RandomState,
    entries: HashTable<Entry>,
    /// Pointers to queues in all entries.
    targets: usize,
}

impl RouteCache {
    fn hash(&self, exchange: u64, form: Form, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (exchange, form).hash(&mut hasher);
        hasher.write(key);
        hasher.finish()
    }

    /// What the key led to, if it still does.
    pub(crate) fn find(
        &mut self,
        exchange: u64,
        form: Form,
        key: &[u8],
        topology: &Topology,
    ) -> Option<Route> {
        let hash = self.hash(exchange, form, key);
        let same = |e: &Entry| e.exchange == exchange && e.form == form && *e.key == *key;
        let entry = self.entries.find_mut(hash, same)?;
        let holds = entry.stamp.holds(topology, || true);
        holds.then(|| Route::new(Arc::clone(&entry.queues), Some(entry.stamp)))
    }

    pub(crate) fn remember(
        &mut self,
        exchange: u64,
        form: Form,
        key: &[u8],
        stamp: Stamp,
        queues: &Arc<[Arc<Queue>]>,
    ) {
        if key.len() > ROUTE_KEY_CACHED_BYTES_MAX {
            return;
        }
        let hash = self.hash(exchange, form, key);
        let same = |e: &Entry| e.exchange == exchange && e.form == form && *e.key == *key;
        if let Some(entry) = self.entries.find_mut(hash, same) {
            self.targets = self.targets - entry.queues.len() + queues.len();
            entry.stamp = stamp;
            entry.queues = Arc::clone(queues);
            return;
        }
        if self.entries.len() >= ROUTES_CACHED_MAX || self.targets > ROUTE_TARGETS_CACHED_MAX {
            self.entries.clear();
            self.targets = 0;
        }
        self.targets += queues.len();
        let entry = Entry {
            exchange,
            form,
            key: key.into(),
            stamp,
            queues: Arc::clone(queues),
        };
        let hasher = &self.hasher;
        self.entries.insert_unique(hash, entry, |e| {
            let mut state = hasher.build_hasher();
            (e.exchange, e.form).hash(&mut state);
            state.write(&e.key);
            state.finish()
        });
    }
}

/// A publisher's last key and where it led, with the permission to publish there. Two comparisons
/// and two loads instead of a look-up, for as long as neither topology nor permissions change.
#[derive(Default)]
pub struct Memo(Option<Box<Known>>);

pub(crate) struct Known {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) form: Form,
    pub(crate) key: Vec<u8>,
    pub(crate) stamp: Stamp,
    pub(crate) authority: u64,
    pub(crate) queues: Arc<[Arc<Queue>]>,
}

impl Memo {
    pub(crate) fn find(
        &mut self,
        exchange: &str,
        form: Form,
        key: &[u8],
        topology: &Topology,
        authority: u64,
    ) -> Option<&Arc<[Arc<Queue>]>> {
        let known = self.0.as_deref_mut()?;
        // One that was deleted may have a namesake.
        let exchange_stands = || !known.exchange.is_deleted();
        let same = known.authority == authority
            && known.form == form
            && known.key == key
            && known.exchange.name() == exchange
            && known.stamp.holds(topology, exchange_stands);
        same.then_some(&known.queues)
    }

    pub(crate) fn remember(&mut self, known: Known) {
        if known.key.len() <= ROUTE_KEY_CACHED_BYTES_MAX {
            self.0 = Some(Box::new(known));
        }
    }

    /// Forgets, and gives the memory back.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}
