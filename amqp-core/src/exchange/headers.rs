//! The headers exchange: binding arguments against the message's headers, all of them or any
//! (`x-match`).
//!
//! An index by header name and value finds the bindings that may fit: one that asks for any of
//! its headers stands under each, one that asks for all under the one that fewest others share.
//! What a message costs depends on its own headers and on how many bindings share their values.

mod condition;

use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};
use smallvec::SmallVec;

#[cfg(test)]
pub(super) use self::condition::COMPARED;
use self::condition::{Headers, Wanted};
use super::Bound;
use super::set::{shrink, spread};
use crate::field::Table;
use crate::message::MessageRef;
use crate::properties::BasicProperties;

#[cfg(test)]
thread_local! {
    /// How many bindings were held against messages on this thread.
    pub(super) static EXAMINED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A binding with what it asks, ready to be held against headers.
struct Rule {
    bound: Bound,
    wanted: Wanted,
    /// Under which of its conditions it stands; `None` is all of them, or none if it has none.
    place: Option<u32>,
}

/// The bindings of one headers exchange.
#[derive(Default)]
pub(super) struct Bindings {
    rules: Vec<Option<Rule>>,
    free: Vec<u32>,
    /// Identities of bindings, and where their rules are.
    identities: HashTable<(u32, u32)>,
    index: HashTable<Shelf>,
    /// Those that ask for nothing: every message fits.
    open: Slots,
    hasher: RandomState,
}

/// The rules that stand under one hash of a name and a value.
struct Shelf {
    hash: u64,
    slots: Slots,
}

/// Numbers of rules: a few in a list, many in a set, so that taking one out costs the same.
enum Slots {
    Few(SmallVec<[u32; 4]>),
    Many(Box<HashSet<u32, RandomState>>),
}

/// As many stand in a list.
const FEW: usize = 32;

impl Default for Slots {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Slots {
    fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(set) => set.len(),
        }
    }

    fn insert(&mut self, slot: u32) {
        match self {
            Self::Few(list) if list.len() < FEW => list.push(slot),
            Self::Few(list) => {
                let all = list.iter().copied().chain([slot]);
                *self = Self::Many(Box::new(all.collect()));
            }
            Self::Many(set) => {
                set.insert(slot);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Few(list) => list.retain(|held| *held != slot),
            Self::Many(set) => {
                set.remove(&slot);
            }
        }
    }

    fn for_each(&self, visit: impl FnMut(u32)) {
        match self {
            Self::Few(list) => list.iter().copied().for_each(visit),
            Self::Many(set) => set.iter().copied().for_each(visit),
        }
    }
}

fn hash(entry: &(u32, u32)) -> u64 {
    spread(entry.0)
}

impl Bindings {
    pub(super) fn insert(&mut self, bound: &Bound) {
        // They were encoded here, or came off the wire.
        let arguments = Table::decode(bound.arguments()).unwrap_or_default();
        let wanted = Wanted::of(&arguments);
        let place = if wanted.any {
            None
        } else {
            let shared = |place: &u32| {
                let condition = &wanted.conditions[*place as usize];
                self.shelf(condition.hash(&self.hasher))
                    .map_or(0, Slots::len)
            };
            (0..wanted.conditions.len() as u32).min_by_key(shared)
        };
        let rule = Rule {
            bound: bound.clone(),
            wanted,
            place,
        };
        let hashes = rule.hashes(&self.hasher);
        let open = rule.is_open();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rules.push(None);
            (self.rules.len() - 1) as u32
        });
        self.rules[slot as usize] = Some(rule);
        let entry = (bound.identity(), slot);
        self.identities.insert_unique(hash(&entry), entry, hash);
        if open {
            self.open.insert(slot);
        }
        for hash in hashes {
            let shelf = self
                .index
                .entry(hash, |shelf| shelf.hash == hash, |shelf| shelf.hash)
                .or_insert_with(|| Shelf {
                    hash,
                    slots: Slots::default(),
                });
            shelf.into_mut().slots.insert(slot);
        }
    }

    fn shelf(&self, hash: u64) -> Option<&Slots> {
        let shelf = self.index.find(hash, |shelf| shelf.hash == hash)?;
        Some(&shelf.slots)
    }

    pub(super) fn remove(&mut self, bound: &Bound) -> bool {
        let rules = &self.rules;
        let rule = |slot: u32| rules[slot as usize].as_ref();
        let same = |entry: &(u32, u32)| rule(entry.1).is_some_and(|held| held.bound.same(bound));
        let Ok(entry) = self.identities.find_entry(spread(bound.identity()), same) else {
            return false;
        };
        let ((_, slot), _) = entry.remove();
        shrink(&mut self.identities, hash);
        let Some(rule) = self.rules[slot as usize].take() else {
            return false;
        };
        self.free.push(slot);
        self.open.remove(slot);
        for hash in rule.hashes(&self.hasher) {
            let Ok(mut entry) = self.index.find_entry(hash, |shelf| shelf.hash == hash) else {
                continue;
            };
            entry.get_mut().slots.remove(slot);
            if entry.get().slots.len() == 0 {
                entry.remove();
                shrink(&mut self.index, |shelf| shelf.hash);
            }
        }
        if self.identities.is_empty() {
            // What many bindings took is given back with the last of them.
            *self = Self::default();
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.identities.len()
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        self.rules
            .iter()
            .flatten()
            .for_each(|rule| visit(&rule.bound));
    }

    /// Calls `found` once for every binding that fits.
    pub(super) fn each_match(&self, message: &MessageRef<'_>, found: &mut dyn FnMut(&Bound)) {
        if self.identities.is_empty() {
            return;
        }
        self.open.for_each(|slot| {
            if let Some(rule) = &self.rules[slot as usize] {
                found(&rule.bound);
            }
        });
        if self.index.is_empty() {
            return;
        }
        let mut raw = Vec::new();
        let origin = message.head.origin;
        origin.append_basic_properties(message, &mut raw);
        let parsed = BasicProperties::parse(&raw);
        let Some(table) = parsed.ok().and_then(|properties| properties.headers) else {
            return;
        };
        let headers = Headers::of(table);
        // Only what stands under many conditions is met more than once.
        let mut seen: HashSet<u32, RandomState> = HashSet::default();
        for hash in headers.hashes(&self.hasher) {
            let Some(slots) = self.shelf(hash) else {
                continue;
            };
            slots.for_each(|slot| {
                #[cfg(test)]
                EXAMINED.with(|count| count.set(count.get() + 1));
                let Some(rule) = &self.rules[slot as usize] else {
                    return;
                };
                let is_new = !rule.stands_often() || seen.insert(slot);
                if is_new && rule.wanted.holds(&headers) {
                    found(&rule.bound);
                }
            });
        }
    }
}

impl Rule {
    /// It asks for all of nothing.
    fn is_open(&self) -> bool {
        !self.wanted.any && self.wanted.conditions.is_empty()
    }

    /// It stands under more than one condition.
    fn stands_often(&self) -> bool {
        self.place.is_none() && self.wanted.conditions.len() > 1
    }

    /// Where it stands in the index.
    fn hashes(&self, hasher: &RandomState) -> SmallVec<[u64; 4]> {
        let conditions = match self.place {
            Some(place) => &self.wanted.conditions[place as usize..=place as usize],
            None => &self.wanted.conditions,
        };
        conditions.iter().map(|one| one.hash(hasher)).collect()
    }
}
