//! Exchanges that give a message to one of their bindings by chance.
//!
//! The fast hash has beginnings with which small numbers hash to few sides: hence the better one.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::Bound;
use super::set::{shrink, spread};

/// All bindings in a list to pick from, and where each stands in it.
#[derive(Default)]
pub(super) struct Bindings {
    list: Vec<Bound>,
    places: HashTable<(u32, u32)>,
    dice: Dice,
}

/// Numbers that nobody foresees, without a lock: each is a hash of how many there were before.
#[derive(Default)]
struct Dice {
    hasher: RandomState,
    thrown: AtomicU64,
}

impl Dice {
    fn throw(&self, sides: usize) -> usize {
        let number = self.thrown.fetch_add(1, Ordering::Relaxed);
        (self.hasher.hash_one(number) % sides as u64) as usize
    }
}

fn hash(entry: &(u32, u32)) -> u64 {
    spread(entry.0)
}

impl Bindings {
    pub(super) fn insert(&mut self, bound: &Bound) {
        // 2^32 bindings take more memory than there is.
        let place = self.list.len() as u32;
        self.list.push(bound.clone());
        let entry = (bound.identity(), place);
        self.places.insert_unique(hash(&entry), entry, hash);
    }

    pub(super) fn remove(&mut self, bound: &Bound) -> bool {
        let list = &self.list;
        let same = |entry: &(u32, u32)| list[entry.1 as usize].same(bound);
        let Ok(entry) = self.places.find_entry(spread(bound.identity()), same) else {
            return false;
        };
        let ((_, place), _) = entry.remove();
        self.list.swap_remove(place as usize);
        if let Some(moved) = self.list.get(place as usize) {
            let former = self.list.len() as u32;
            let is = |entry: &(u32, u32)| entry.1 == former;
            if let Some(entry) = self.places.find_mut(spread(moved.identity()), is) {
                entry.1 = place;
            }
        }
        shrink(&mut self.places, hash);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn for_each(&self, visit: impl FnMut(&Bound)) {
        self.list.iter().for_each(visit);
    }

    pub(super) fn each_match(&self, found: &mut dyn FnMut(&Bound)) {
        if !self.list.is_empty() {
            found(&self.list[self.dice.throw(self.list.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    /// FEATURES A3: whatever the dice begin with, all sides come up.
    #[test]
    fn a3_dice_are_fair_however_they_begin() {
        for _ in 0..20_000 {
            let dice = Dice::default();
            let seen = (0..64).fold(0_u16, |seen, _| seen | 1 << dice.throw(16));
            assert!(seen.count_ones() > 8, "{seen:016b}");
        }
    }
}
