//! Definitions in memory with redb's guarantee: what was submitted is committed batch by batch, in
//! order, and a crash leaves any number of whole batches beyond what was committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use leveret_core::definitions::{Change, Definitions, Fault, Kind};
use leveret_core::watermark::Watermark;
use parking_lot::Mutex;

type Records = BTreeMap<(Kind, Box<[u8]>), Box<[u8]>>;

/// See the module.
#[derive(Default)]
pub(crate) struct SimDefinitions {
    state: Mutex<State>,
    watermark: Arc<Watermark>,
}

#[derive(Clone, Default)]
struct State {
    records: Records,
    submitted: u64,
    waiting: VecDeque<Vec<Change>>,
}

impl State {
    fn commit(&mut self, batches: usize) {
        for changes in self.waiting.drain(..batches) {
            for change in changes {
                match change {
                    Change::Put { kind, key, value } => {
                        self.records.insert((kind, key), value);
                    }
                    Change::Delete { kind, key } => {
                        self.records.remove(&(kind, key));
                    }
                }
            }
        }
    }
}

impl SimDefinitions {
    /// Batches that are not committed.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Commits so many batches.
    pub(crate) fn commit(&self, batches: usize) {
        let mut state = self.state.lock();
        state.commit(batches);
        let durable = state.submitted - state.waiting.len() as u64;
        drop(state);
        self.watermark.raise(durable);
    }

    /// What the next process finds, if so many batches came through.
    pub(crate) fn after_crash(&self, batches: usize) -> Self {
        let mut state = self.state.lock().clone();
        state.commit(batches);
        state.waiting.clear();
        state.submitted = 0;
        Self {
            state: Mutex::new(state),
            watermark: Arc::default(),
        }
    }
}

impl Definitions for SimDefinitions {
    fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let records = self.state.lock().records.clone();
        for ((held, key), value) in &records {
            if *held == kind {
                visit(key, value);
            }
        }
        Ok(())
    }

    fn submit(&self, changes: Vec<Change>) -> u64 {
        let mut state = self.state.lock();
        state.submitted += 1;
        state.waiting.push_back(changes);
        state.submitted
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }
}
