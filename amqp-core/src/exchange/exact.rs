//! Bindings by whole keys: one look-up finds all that stand under a key.
//!
//! The table keeps no copy of any key: it reads the one in the binding, through the translation
//! where the binding's key is slashed and the table's keys are words.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Bound;
use super::set::{BindingSet, shrink, spread};
use crate::key::{self, Form};

/// Bindings by key. Each set's note is the hash of its key.
#[derive(Default)]
pub(super) struct Exact {
    hasher: RandomState,
    keys: HashTable<BindingSet<u32>>,
    /// The keys are levels as they were given, not words.
    levels: bool,
}

fn hash(set: &BindingSet<u32>) -> u64 {
    spread(set.note().unwrap_or_default())
}

/// Whether the bindings of a set stand under `key`.
fn is_under(set: &BindingSet<u32>, key: &[u8], levels: bool) -> bool {
    set.first().is_some_and(|bound| {
        if bound.form() == Form::Slashed && !levels {
            key::translates_to(bound.key(), key)
        } else {
            bound.key() == key
        }
    })
}

impl Exact {
    /// A table of keys that are slashed levels, as the bindings have them.
    pub(super) fn of_levels() -> Self {
        Self {
            levels: true,
            ..Self::default()
        }
    }

    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish() as u32
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<&BindingSet<u32>> {
        if self.keys.is_empty() {
            return None;
        }
        let hash = spread(self.hash(key));
        self.keys.find(hash, |set| is_under(set, key, self.levels))
    }

    pub(super) fn insert(&mut self, key: &[u8], bound: &Bound) {
        let (short, levels) = (self.hash(key), self.levels);
        let under = |set: &BindingSet<u32>| is_under(set, key, levels);
        match self.keys.find_mut(spread(short), under) {
            Some(set) => set.insert(short, bound.clone()),
            None => {
                let set = BindingSet::One(short, bound.clone());
                self.keys.insert_unique(spread(short), set, hash);
            }
        }
    }

    /// Takes a binding out; says whether it was there.
    pub(super) fn remove(&mut self, key: &[u8], bound: &Bound) -> bool {
        let (short, levels) = (self.hash(key), self.levels);
        let under = |set: &BindingSet<u32>| is_under(set, key, levels);
        let Ok(mut entry) = self.keys.find_entry(spread(short), under) else {
            return false;
        };
        let removed = entry.get_mut().remove(bound);
        if entry.get().is_empty() {
            entry.remove();
            shrink(&mut self.keys, hash);
        }
        removed
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        self.keys.iter().for_each(|set| set.for_each(&mut visit));
    }
}
