//! The direct exchange: the binding key is the routing key.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Binding;
use crate::key::{self, Form};

#[derive(Default)]
pub(super) struct Bindings {
    keys: HashMap<Box<[u8]>, SmallVec<[Arc<Binding>; 1]>, RandomState>,
}

fn dotted(binding: &Binding) -> Box<[u8]> {
    match binding.form {
        Form::Dotted => binding.key.clone(),
        Form::Slashed => {
            let mut out = Vec::with_capacity(binding.key.len());
            key::append_dotted(&binding.key, &mut out);
            out.into()
        }
    }
}

impl Bindings {
    pub(super) fn insert(&mut self, binding: &Arc<Binding>) {
        self.keys
            .entry(dotted(binding))
            .or_default()
            .push(Arc::clone(binding));
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>) {
        let key = dotted(binding);
        let Some(held) = self.keys.get_mut(&key) else {
            return;
        };
        held.retain(|other| !Arc::ptr_eq(other, binding));
        if held.is_empty() {
            self.keys.remove(&key);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Arc<Binding>> {
        self.keys.values().flatten().cloned().collect()
    }

    pub(super) fn each_match(&self, dotted: &[u8], found: &mut dyn FnMut(&Arc<Binding>)) {
        if let Some(bindings) = self.keys.get(dotted) {
            bindings.iter().for_each(found);
        }
    }
}
