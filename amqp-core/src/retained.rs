//! The last retained message of each topic of a vhost, in a trie of levels, in memory, and each on
//! a shelf for a restart.

mod cursor;
mod trie;
mod walk;

use parking_lot::RwLock;

use crate::journal::Appended;
use crate::limits::RETAINED_SWEPT_AT_ONCE;
use crate::message::{Message, MessageRef};
use crate::options::Options;
use crate::shelf::{Place, Shelf};
use crate::time::Time;

use trie::{Node, Trie, find};

pub use cursor::{Cursor, Piece, Shown};

/// The retained messages of one vhost.
#[derive(Default)]
pub(crate) struct Retained {
    root: RwLock<Trie>,
}

/// What one vhost may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
    pub(crate) added_per_s: u32,
}

impl Limits {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            messages: options.retained_messages_max,
            bytes: options.retained_bytes_max,
            added_per_s: options.retained_rate_max,
        }
    }
}

/// Why a message is not retained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// There are as many topics as there may be.
    Messages,
    /// Or bytes.
    Bytes,
    /// As many topics as a second may bring were added in this one.
    Rate,
    /// The topic has too many levels.
    Levels,
}

/// What a retained message that was set or cleared leaves to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    /// It is durable when the journal says so.
    pub(crate) appended: Appended,
    /// When to look at what has expired.
    pub(crate) look_at: Option<Time>,
}

impl Retained {
    /// Sets the topic's message, or clears it if the payload is empty ([MQTT-3.3.1-6],
    /// [MQTT-3.3.1-7]).
    // [MQTT-3.3.1-5], [MQTT-3.3.1-8], 3.1.1 [MQTT-3.1.2-7]
    pub(crate) fn keep(
        &self,
        (topic, message): (&str, &MessageRef<'_>),
        limits: &Limits,
        shelf: &Shelf,
        scratch: &mut Vec<u8>,
        now: Time,
    ) -> Result<Kept, Full> {
        let mut trie = self.root.write();
        let mut kept = Kept {
            appended: Appended::default(),
            look_at: None,
        };
        if message.payload.is_empty() {
            if let Some(place) = trie.clear(topic) {
                kept.appended.number = shelf.take(&[place]);
            }
            return Ok(kept);
        }
        if trie.check(topic, message, limits, now).is_err() {
            // What has expired counts for nothing.
            let expired = trie.clear_expired(now, RETAINED_SWEPT_AT_ONCE);
            shelf.drop_all(&expired);
            trie.check(topic, message, limits, now)?;
        }
        trie.count_added(topic, now);
        let (place, appended) = shelf.put(message, None);
        if let Some(former) = trie.set(topic, message.to_message(scratch), place) {
            shelf.drop(former);
        }
        kept.appended = appended;
        kept.look_at = trie.arm(now);
        Ok(kept)
    }

    /// Brings back what a restart found: of each topic the last, unless it has expired. Gives when
    /// to look at what expires.
    pub(crate) fn restore(
        &self,
        shelf: &Shelf,
        messages: Vec<(Place, Message)>,
        now: Time,
    ) -> Option<Time> {
        let mut trie = self.root.write();
        for (place, message) in messages {
            let Ok(topic) = std::str::from_utf8(message.view().key) else {
                shelf.drop(place);
                continue;
            };
            let former = trie.set(topic, message.clone(), place);
            former.into_iter().for_each(|former| shelf.drop(former));
            if message.view().expired(now) {
                // The one that it has replaced is not back for that.
                trie.clear(topic)
                    .into_iter()
                    .for_each(|place| shelf.drop(place));
            }
        }
        trie.arm(now)
    }

    /// Removes some of what has expired: how many, and when to look again.
    pub(crate) fn sweep(&self, shelf: &Shelf, now: Time) -> (usize, Option<Time>) {
        let mut trie = self.root.write();
        let expired = trie.clear_expired(now, RETAINED_SWEPT_AT_ONCE);
        trie.looked(now);
        let next = trie.arm(now);
        drop(trie);
        shelf.drop_all(&expired);
        (expired.len(), next)
    }

    pub(crate) fn count(&self) -> usize {
        self.root.read().messages
    }

    /// Bytes of all parts of the messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.root.read().bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::Broker;
    use crate::definitions::Volatile;
    use crate::journal::MemoryJournal;
    use crate::key::Form;
    use crate::message::{AmqpOrigin, Head};
    use crate::options::Options;

    fn message(payload: &[u8], expires: Option<Time>) -> Message {
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Slashed,
                persistent: true,
                exactly_once: false,
                retain: true,
                publisher: 0,
                received: Time(1),
                expires,
            },
            exchange: "amq.topic",
            key: b"a/b",
            properties: &[],
            payload,
        };
        message.to_message(&mut Vec::new())
    }

    /// FEATURES M10: a crash between two records left the message that was replaced on disk.
    #[test]
    fn m10_what_was_replaced_is_not_back_when_the_last_has_expired() {
        let broker = Broker::open(
            Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        );
        let broker = broker.expect("an empty broker opens");
        let vhost = broker.vhost("/").expect("the default vhost is made");
        let found = |now: Time| {
            let retained = Retained::default();
            let former = (Place::default(), message(b"former", None));
            let last = (Place::default(), message(b"last", Some(Time(100))));
            retained.restore(&vhost.shelves.retained, vec![former, last], now);
            (retained.count(), retained.bytes() > 0)
        };
        assert_eq!(found(Time(99)), (1, true));
        assert_eq!(found(Time(100)), (0, false));
    }
}
