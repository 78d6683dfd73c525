//! Direct reply-to: a channel asks for its pseudo queue, and gives it up.

use std::sync::Arc;

use super::Link;
use crate::exchange::epochs::Part;
use crate::queue::{Consumer, Queue, QueueProperties};
use crate::refusal::{Refusal, Resource};
use crate::replies::REPLY_TO;
use crate::turn::Turn;

impl Link {
    /// Makes a pseudo queue with a name that nobody can guess, and its only consumer, which must
    /// be one without acknowledgements; it gets nothing before [`Queue::pull`]. No permission is
    /// asked, as RabbitMQ asks none: who replies needs that of the default exchange.
    ///
    /// # Errors
    /// 406: there are too many.
    pub fn reply_consume(&self, turn: &Turn, consumer: Consumer) -> Result<Arc<Queue>, Refusal> {
        if self.vhost.is_deleted() {
            return Err(self.vhost_gone());
        }
        let replies = &self.vhost.replies;
        if replies.is_full() {
            return Err(Refusal::precondition(format!(
                "vhost '{}' has as many reply consumers as it may have",
                self.vhost.name()
            )));
        }
        let properties = QueueProperties {
            exclusive: Some(self.connection),
            direct: true,
            ..QueueProperties::default()
        };
        let (id, name) = (self.broker.next_queue(), replies.new_name());
        let queue = Arc::new(Queue::new(id, &name, &properties, None, None, turn.now));
        queue.add_consumer(consumer, self.vhost.name(), turn.now)?;
        replies.add(&queue);
        self.vhost.topology().changed(&[Part::Key(name.as_bytes())]);
        Ok(queue)
    }

    /// Ends a pseudo queue: what is sent to its name from now on is unroutable.
    pub fn reply_end(&self, queue: &Arc<Queue>) {
        if queue.retire(|_| true).is_none() {
            return;
        }
        self.vhost.replies.remove(queue.name());
        let part = Part::Key(queue.name().as_bytes());
        self.vhost.topology().changed(&[part]);
    }

    /// Whether replies can be sent to this name; [`REPLY_TO`] itself always stands for a queue.
    ///
    /// # Errors
    /// 404.
    pub fn reply_declare(&self, name: &str) -> Result<(), Refusal> {
        if name == REPLY_TO || self.vhost.replies.find(name).is_some() {
            return Ok(());
        }
        Err(Refusal::not_found(Resource::Queue, name, self.vhost.name()))
    }
}
