//! Bindings that stand in one place: those of a queue, those under one key, those at one node of
//! the topic trie.
//!
//! Nearly always there is one, and it costs a pointer. A few cost a pointer each in one
//! allocation: an MQTT session has as many. Many are a hash table over their identities, so that
//! adding, finding and taking out one of a million costs what it costs among ten.

use hashbrown::HashTable;

use super::Bound;
use crate::limits::BINDINGS_PER_DESTINATION_MAX;

/// A set of bindings in 16 bytes, and a note of its keeper's that fits into them.
#[derive(Default)]
pub(crate) enum BindingSet<N = ()> {
    #[default]
    Empty,
    One(N, Bound),
    Few(N, Box<[Option<Bound>; FEW]>),
    Many(N, Box<HashTable<Bound>>),
}

/// As many stand in a list: 32 bytes.
const FEW: usize = 4;

const _: () = assert!(size_of::<BindingSet>() == 16 && size_of::<BindingSet<u32>>() == 16);

/// What became of a binding that was to be made.
pub(crate) enum Attached {
    /// It is new.
    Made(Bound),
    /// There is an equal one.
    Known,
    /// The destination has as many as it may.
    Full,
    /// The source has as many as it may.
    SourceFull,
    /// One of its ends has gone.
    Gone,
}

/// Tables that have room for eight times what they hold give it back, from this capacity on.
const SHRUNK_FROM: usize = 64;

/// A hash of 32 bits over the width that tables look at: places from below, tags from above.
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Gives back what a table does not need any more; amortised by the removals that led here.
pub(crate) fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() >= SHRUNK_FROM && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2, hash);
    }
}

fn hash(bound: &Bound) -> u64 {
    spread(bound.identity())
}

impl<N: Copy> BindingSet<N> {
    /// The keeper's note; `None` of an empty set.
    pub(super) fn note(&self) -> Option<N> {
        match self {
            Self::Empty => None,
            Self::One(note, _) | Self::Few(note, _) | Self::Many(note, _) => Some(*note),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(..) => 1,
            Self::Few(_, list) => list.iter().flatten().count(),
            Self::Many(_, table) => table.len(),
        }
    }

    /// Some binding of the set.
    pub(super) fn first(&self) -> Option<&Bound> {
        match self {
            Self::Empty => None,
            Self::One(_, bound) => Some(bound),
            Self::Few(_, list) => list.iter().flatten().next(),
            Self::Many(_, table) => table.iter().next(),
        }
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        match self {
            Self::Empty => {}
            Self::One(_, bound) => visit(bound),
            Self::Few(_, list) => list.iter().flatten().for_each(visit),
            Self::Many(_, table) => table.iter().for_each(visit),
        }
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Bound> {
        let mut all = Vec::with_capacity(self.len());
        self.for_each(|bound| all.push(bound.clone()));
        all
    }

    /// All of them, taken out, in no order.
    pub(crate) fn into_all(self) -> Vec<Bound> {
        match self {
            Self::Empty => Vec::new(),
            Self::One(_, bound) => vec![bound],
            Self::Few(_, list) => list.into_iter().flatten().collect(),
            Self::Many(_, table) => table.into_iter().collect(),
        }
    }

    /// The binding with this identity for which `same` holds.
    pub(crate) fn find(&self, identity: u32, same: impl Fn(&Bound) -> bool) -> Option<&Bound> {
        match self {
            Self::Empty => None,
            Self::One(_, bound) => same(bound).then_some(bound),
            Self::Few(_, list) => list.iter().flatten().find(|bound| same(bound)),
            Self::Many(_, table) => table.find(spread(identity), same),
        }
    }

    /// Adds a binding that is not there.
    pub(crate) fn insert(&mut self, note: N, bound: Bound) {
        match std::mem::take(self) {
            Self::Empty => *self = Self::One(note, bound),
            Self::One(note, former) => {
                let mut list = Box::new([const { None }; FEW]);
                list[0] = Some(former);
                list[1] = Some(bound);
                *self = Self::Few(note, list);
            }
            Self::Few(note, mut list) => {
                if let Some(place) = list.iter_mut().find(|place| place.is_none()) {
                    *place = Some(bound);
                    *self = Self::Few(note, list);
                    return;
                }
                let mut table = Box::new(HashTable::with_capacity(FEW + 1));
                for bound in list.into_iter().flatten().chain([bound]) {
                    table.insert_unique(hash(&bound), bound, hash);
                }
                *self = Self::Many(note, table);
            }
            Self::Many(note, mut table) => {
                table.insert_unique(hash(&bound), bound, hash);
                *self = Self::Many(note, table);
            }
        }
    }

    /// Takes this very binding out; says whether it was there.
    pub(crate) fn remove(&mut self, bound: &Bound) -> bool {
        let (note, last) = match self {
            Self::Empty => return false,
            Self::One(_, held) => {
                let there = held.same(bound);
                if there {
                    *self = Self::Empty;
                }
                return there;
            }
            Self::Few(note, list) => {
                let is =
                    |held: &&mut Option<Bound>| held.as_ref().is_some_and(|held| held.same(bound));
                let Some(place) = list.iter_mut().find(is) else {
                    return false;
                };
                *place = None;
                let mut left = list.iter().flatten();
                let last = left.next().cloned();
                if left.next().is_some() {
                    return true;
                }
                (*note, last)
            }
            Self::Many(note, table) => {
                let Ok(entry) = table.find_entry(hash(bound), |held| held.same(bound)) else {
                    return false;
                };
                entry.remove();
                shrink(table, hash);
                if table.len() > 1 {
                    return true;
                }
                (*note, table.iter().next().cloned())
            }
        };
        *self = last.map_or(Self::Empty, |last| Self::One(note, last));
        true
    }
}

impl BindingSet {
    /// Adds what `make` makes, unless an equal binding is there or there is no room.
    pub(crate) fn admit(
        &mut self,
        identity: u32,
        same: impl Fn(&Bound) -> bool,
        make: impl FnOnce() -> Bound,
    ) -> Attached {
        if self.find(identity, same).is_some() {
            return Attached::Known;
        }
        if self.len() >= BINDINGS_PER_DESTINATION_MAX {
            return Attached::Full;
        }
        let bound = make();
        self.insert((), bound.clone());
        Attached::Made(bound)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exchange::{End, Exchange, ExchangeKind, ExchangeProperties, Terms};
    use crate::field::Table;
    use crate::key::Form;
    use crate::queue::{Queue, QueueProperties};
    use crate::time::Time;

    /// From none to many and back, whatever the order: each size holds exactly what is in it.
    #[test]
    fn sets_hold_what_was_put_in() {
        let properties = ExchangeProperties {
            kind: ExchangeKind::Direct,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        let exchange = Arc::new(Exchange::new("e", properties));
        let declared = QueueProperties::default();
        let queue = Arc::new(Queue::new(2, "q", &declared, None, None, Time(0)));
        let bounds: Vec<_> = (0..2 * FEW as u32)
            .map(|n| {
                let key = n.to_be_bytes();
                let terms = Terms {
                    key: &key,
                    form: Form::Dotted,
                    arguments: &[],
                };
                Bound::new(&exchange, End::Queue(&queue), &terms, n)
            })
            .collect();
        for step in [1, 3, 5] {
            let mut set = BindingSet::<u32>::Empty;
            for (n, bound) in bounds.iter().enumerate() {
                set.insert(7, bound.clone());
                assert_eq!((set.len(), set.all().len()), (n + 1, n + 1));
                assert_eq!(set.note(), Some(7));
            }
            for n in 0..bounds.len() {
                let gone = &bounds[(n * step) % bounds.len()];
                let find = |set: &BindingSet<u32>| {
                    let found = set.find(gone.identity(), |held| held.same(gone));
                    found.is_some()
                };
                assert!(find(&set) && set.remove(gone));
                assert!(!find(&set) && !set.remove(gone));
                assert_eq!(set.len(), bounds.len() - n - 1);
                assert_eq!(set.first().is_none(), set.is_empty());
            }
            assert!(matches!(set, BindingSet::Empty));
        }
    }
}
