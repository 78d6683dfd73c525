//! Direct reply-to: the pseudo queues that replies to a channel's requests go to, by name.
//!
//! Owns their names, which nobody can guess: who knows one can send to that channel. They are no
//! queues of the vhost: nobody declares, binds or lists them, and the default exchange alone finds
//! them. RabbitMQ's `amq.rabbitmq.reply-to`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::limits::REPLY_QUEUES_MAX;
use crate::queue::Queue;

/// The name that requesters consume from, and put into `reply-to`.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What reply-to begins with in requests of MQTT clients: the routing key of the topic to answer to
/// follows. No client can declare a queue with such a name.
pub const MQTT_REPLY_PREFIX: &str = "amq.mqtt.reply-to.";

/// What names of pseudo queues begin with.
pub const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// The pseudo queues of a vhost.
#[derive(Default)]
pub(crate) struct Replies {
    /// The standard library's SipHash with keys of the operating system's: who sees names learns
    /// nothing about others. Used for nothing else.
    secret: RandomState,
    made: AtomicU64,
    queues: RwLock<HashMap<Box<str>, Arc<Queue>, foldhash::fast::RandomState>>,
}

impl Replies {
    /// A name that nobody has and nobody can guess: 126 bits of it are secret.
    pub(crate) fn new_name(&self) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut name = String::from(REPLY_PREFIX);
        for part in 0..3_u8 {
            let bits = self.secret.hash_one((number, part));
            name.extend(
                (0..7).map(|place| char::from(LETTERS[(bits >> (place * 6) & 63) as usize])),
            );
        }
        name
    }

    /// Whether there are as many as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.queues.read().len() >= REPLY_QUEUES_MAX
    }

    /// The pseudo queue with this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Queue>> {
        if !name.starts_with(REPLY_PREFIX) {
            return None;
        }
        self.queues.read().get(name).cloned()
    }

    pub(crate) fn add(&self, queue: &Arc<Queue>) {
        self.queues
            .write()
            .insert(queue.name().into(), Arc::clone(queue));
    }

    pub(crate) fn remove(&self, name: &str) {
        let mut queues = self.queues.write();
        queues.remove(name);
        if queues.len() * 4 < queues.capacity() {
            queues.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a5_names_of_reply_queues_follow_from_nothing_that_is_known() {
        let (one, other) = (Replies::default(), Replies::default());
        let names: Vec<_> = (0..100).map(|_| one.new_name()).collect();
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
        assert!(
            names
                .iter()
                .all(|name| name.len() == REPLY_PREFIX.len() + 21)
        );
        // The same place in the order, another name.
        assert_ne!(other.new_name(), names[0]);
    }
}
