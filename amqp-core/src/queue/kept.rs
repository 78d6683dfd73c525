//! What consumers keep of the arguments of `basic.consume`, for listings alone.
//!
//! Owns their bytes as they came: a decoded field takes many times what it takes on the wire. And
//! how many bytes one connection's consumers keep together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::field::{RawTable, Table};
use crate::limits::{CONSUMER_ARGUMENTS_BYTES_MAX, CONSUMER_ARGUMENTS_PER_CONNECTION_BYTES_MAX};

/// How many bytes of arguments the consumers of one connection keep together.
#[derive(Debug, Default)]
pub struct ArgumentsBudget(Option<Arc<AtomicUsize>>);

impl ArgumentsBudget {
    /// Keeps a consumer's arguments, unless there are none, or they are too long, or all of the
    /// connection would be.
    #[must_use]
    pub fn keep(&mut self, arguments: RawTable<'_>) -> Option<Arc<KeptArguments>> {
        let bytes = arguments.as_bytes();
        if !(1..=CONSUMER_ARGUMENTS_BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        let with = |kept: usize| {
            let all = kept + bytes.len();
            (all <= CONSUMER_ARGUMENTS_PER_CONNECTION_BYTES_MAX).then_some(all)
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let budget = self.0.get_or_insert_default();
        budget.fetch_update(set, fetch, with).ok()?;
        Some(Arc::new(KeptArguments {
            bytes: bytes.into(),
            budget: Arc::clone(budget),
        }))
    }
}

/// The arguments of one consumer, counted as long as anybody has them.
#[derive(Debug)]
pub struct KeptArguments {
    bytes: Box<[u8]>,
    budget: Arc<AtomicUsize>,
}

impl KeptArguments {
    /// The owned form, which may take many times the memory.
    #[must_use]
    pub fn to_table(&self) -> Table {
        // They were legal when they came.
        let table = RawTable::parse(&self.bytes).unwrap_or_default();
        table.to_table()
    }
}

impl Drop for KeptArguments {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}
