//! The consumers of a queue: who they are, whose turn it is, and who has no credit.

use std::sync::Arc;

use super::{Queue, State};
use crate::limits;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::sink::Sink;
use crate::time::Time;

/// One consumer. `key` is the sink's own name for it.
#[derive(Clone)]
pub struct Consumer {
    /// Unique among the consumers of its sink.
    pub key: u64,
    /// The connection's number.
    pub connection: u64,
    /// The consumer tag, as listings show it.
    pub tag: Arc<str>,
    /// Deliveries are settled when they are taken.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged deliveries it may have, 0 for any number; for listings, the sink enforces it.
    pub prefetch: u32,
    /// Who takes the deliveries.
    pub sink: Arc<dyn Sink>,
    pub(super) blocked: bool,
}

impl Consumer {
    /// A consumer with credit.
    #[must_use]
    pub fn new(key: u64, connection: u64, tag: Arc<str>, sink: Arc<dyn Sink>) -> Self {
        Self {
            key,
            connection,
            tag,
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            sink,
            blocked: false,
        }
    }
}

/// What is told of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerView {
    /// Its queue.
    pub queue: String,
    /// Its connection's number.
    pub connection: u64,
    /// Its tag.
    pub tag: String,
    /// Whether deliveries are acknowledged.
    pub ack_required: bool,
    /// Its window, 0 for none.
    pub prefetch: u32,
    /// Nobody else may consume.
    pub exclusive: bool,
}

impl State {
    /// The next consumer that has credit, in turn.
    pub(super) fn next_ready_consumer(&mut self) -> Option<usize> {
        let count = self.consumers.len();
        let start = self.next_consumer as usize;
        let found = (0..count)
            .map(|step| (start + step) % count)
            .find(|index| !self.consumers[*index].blocked)?;
        self.next_consumer = ((found + 1) % count) as u32;
        Some(found)
    }
}

impl Queue {
    /// Adds a consumer; it gets nothing until [`Self::pull`].
    pub(crate) fn add_consumer(
        &self,
        consumer: Consumer,
        vhost: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(Refusal::not_found(
                crate::refusal::Resource::Queue,
                self.name(),
                vhost,
            ));
        }
        let taken = state.consumers.iter().any(|held| held.exclusive);
        if taken || (consumer.exclusive && !state.consumers.is_empty()) {
            return Err(Refusal::new(
                ReplyCode::AccessRefused,
                format!(
                    "queue '{}' in vhost '{vhost}' in exclusive use",
                    self.name()
                ),
            ));
        }
        if state.consumers.len() >= limits::CONSUMERS_PER_QUEUE_MAX {
            return Err(Refusal::precondition(format!(
                "cannot consume from queue '{}' in vhost '{vhost}': it has {} consumers already",
                self.name(),
                limits::CONSUMERS_PER_QUEUE_MAX
            )));
        }
        state.had_consumer = true;
        state.unused_since = now;
        state.consumers.push(Consumer {
            blocked: true,
            ..consumer
        });
        Ok(())
    }

    /// Removes a connection's consumer. Says whether the queue should now go as well (auto-delete).
    pub(crate) fn remove_consumer(&self, connection: u64, key: u64, now: Time) -> bool {
        let mut state = self.state.lock();
        let before = state.consumers.len();
        state
            .consumers
            .retain(|held| held.connection != connection || held.key != key);
        if state.consumers.len() == before {
            return false;
        }
        state.next_consumer = 0;
        state.unused_since = now;
        self.auto_delete && state.consumers.is_empty() && state.had_consumer
    }

    /// The consumers, for listings.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        let state = self.state.lock();
        let view = |held: &Consumer| ConsumerView {
            queue: self.name().to_owned(),
            connection: held.connection,
            tag: held.tag.to_string(),
            ack_required: !held.no_ack,
            prefetch: held.prefetch,
            exclusive: held.exclusive,
        };
        state.consumers.iter().map(view).collect()
    }
}
