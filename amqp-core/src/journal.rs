//! The door to the journal of messages. A persistent message in a journaled queue is acknowledged
//! to its publisher when the journal's watermark has passed the number of its record, and never
//! before.

use std::sync::Arc;

use crate::message::MessageRef;
use crate::watermark::Watermark;

/// What the journal remembers.
#[derive(Debug)]
pub enum Record<'a> {
    /// A queue has taken a message.
    Publish {
        /// The queue's number.
        queue: u64,
        /// The message's number in it.
        seq: u64,
        /// The message.
        message: &'a MessageRef<'a>,
    },
}

/// Keeps records in order. Implementors: [`MemoryJournal`], and the store's journal on disk.
pub trait Journal: Send + Sync {
    /// Takes a record and returns its number; it is durable when [`Self::watermark`] has reached
    /// that. Called with a queue's lock held; never blocks on the disk.
    fn append(&self, record: Record<'_>) -> u64;

    /// How far records are durable.
    fn watermark(&self) -> &Arc<Watermark>;
}

/// A journal for a broker whose messages live as long as its process: everything is as durable as
/// it will ever be, so that every number is 0 and acknowledgements leave in the same turn.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    watermark: Arc<Watermark>,
}

impl Journal for MemoryJournal {
    fn append(&self, _record: Record<'_>) -> u64 {
        0
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }
}
