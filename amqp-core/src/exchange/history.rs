//! The recent-history exchange: every binding gets what is published, and a new one what was last
//! published before it came.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::route::MoreKeys;
use super::set::BindingSet;
use crate::field::Value;
use crate::limits::HISTORY_BYTES_MAX;
use crate::message::{Message, MessageRef};
use crate::properties::BasicProperties;

/// The bindings of one such exchange, and what new ones get.
pub(super) struct Bindings {
    pub(super) set: BindingSet,
    kept: Mutex<Kept>,
    messages_max: usize,
}

/// Oldest first.
#[derive(Default)]
struct Kept {
    messages: VecDeque<Noted>,
    bytes: usize,
}

/// A message that is kept, and the routing keys that it has besides its own.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) message: Message,
    pub(crate) more: MoreKeys,
}

impl Noted {
    fn bytes(&self) -> usize {
        let more: usize = self.more.iter().map(|key| key.len()).sum();
        bytes(&self.message.view()) + more
    }
}

fn bytes(message: &MessageRef<'_>) -> usize {
    message.exchange.len() + message.key.len() + message.properties.len() + message.payload.len()
}

impl Bindings {
    pub(super) fn new(messages_max: usize) -> Self {
        Self {
            set: BindingSet::Empty,
            kept: Mutex::default(),
            messages_max,
        }
    }

    /// Keeps a message, unless it says that it is not to be kept.
    pub(super) fn note(&self, message: &MessageRef<'_>, more: &[&[u8]]) {
        if is_private(message) || bytes(message) > HISTORY_BYTES_MAX {
            return;
        }
        let noted = Noted {
            message: message.to_message(&mut Vec::new()),
            more: more.iter().map(|key| Box::from(*key)).collect(),
        };
        let mut kept = self.kept.lock();
        kept.bytes += noted.bytes();
        kept.messages.push_back(noted);
        while kept.messages.len() > self.messages_max || kept.bytes > HISTORY_BYTES_MAX {
            let Some(gone) = kept.messages.pop_front() else {
                return;
            };
            kept.bytes -= gone.bytes();
        }
    }

    /// What a new binding gets, oldest first.
    pub(super) fn recall(&self) -> Vec<Noted> {
        self.kept.lock().messages.iter().cloned().collect()
    }
}

fn is_private(message: &MessageRef<'_>) -> bool {
    let mut raw = Vec::new();
    let origin = message.head.origin;
    origin.append_basic_properties(message, &mut raw);
    let headers = BasicProperties::parse(&raw)
        .ok()
        .and_then(|held| held.headers);
    let flag = headers.and_then(|held| held.lookup("x-recent-history-no-store"));
    flag.is_some_and(|flag| flag.to_value() == Value::Bool(true))
}
