//! The direct exchange: the binding key is the routing key.

use super::Bound;
use super::exact::Exact;

#[derive(Default)]
pub(super) struct Bindings {
    keys: Exact,
    count: usize,
}

impl Bindings {
    /// `dotted` is the binding's key in dotted form.
    pub(super) fn insert(&mut self, dotted: &[u8], bound: &Bound) {
        self.keys.insert(dotted, bound);
        self.count += 1;
    }

    pub(super) fn remove(&mut self, dotted: &[u8], bound: &Bound) -> bool {
        let removed = self.keys.remove(dotted, bound);
        self.count -= usize::from(removed);
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn for_each(&self, visit: impl FnMut(&Bound)) {
        self.keys.for_each(visit);
    }

    pub(super) fn each_match(&self, dotted: &[u8], found: &mut dyn FnMut(&Bound)) {
        if let Some(bindings) = self.keys.find(dotted) {
            bindings.for_each(found);
        }
    }
}
