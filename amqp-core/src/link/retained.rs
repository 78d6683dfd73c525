//! Retained messages: who may set them, and who is sent which.
//!
//! Each is authorised when it is sent, with what its reader may read by then.

use std::sync::Arc;

use super::bindings::deliver;
use super::{BindQueue, Link};
use crate::exchange::Exchange;
use crate::journal::Appended;
use crate::key::{self, Form};
use crate::limits::{BINDING_WORDS_MAX, RETAINED_PAGE_MESSAGES, RETAINED_PAGE_STEPS};
use crate::message::{Message, MessageRef};
use crate::permission::{Pattern, Permission};
use crate::queue::Queue;
use crate::refusal::{Refusal, Resource};
use crate::reply_code::ReplyCode;
use crate::retained::{Cursor, Full, Limits, Piece, Shown};
use crate::sink::Loss;
use crate::turn::Turn;

/// What a user may read of an exchange, as of when it was asked for.
#[derive(Clone, Debug)]
pub struct Reader {
    /// `None`: nothing.
    topics: Option<Arc<Pattern>>,
    /// Everything.
    is_open: bool,
}

impl Reader {
    /// Whether there is anything that may not be read.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        !self.is_open
    }

    /// Whether messages under this key may be read; `dotted` is a buffer.
    #[must_use]
    pub fn allows(&self, topic: &[u8], form: Form, dotted: &mut Vec<u8>) -> bool {
        if self.is_open {
            return true;
        }
        let Some(pattern) = &self.topics else {
            return false;
        };
        let dotted = match form {
            Form::Dotted => topic,
            Form::Slashed => {
                dotted.clear();
                key::append_dotted(topic, dotted);
                dotted
            }
        };
        match std::str::from_utf8(dotted) {
            Ok(text) => pattern.matches(text),
            Err(_) => pattern.matches(&String::from_utf8_lossy(dotted)),
        }
    }
}

/// Retained messages on their way to a queue that was bound with `x-mqtt-retained`.
#[derive(Clone, Debug)]
pub struct RetainedReplay {
    queue: Arc<Queue>,
    exchange: Arc<Exchange>,
    cursor: Cursor,
}

impl Link {
    /// What the user may read of an exchange by now.
    #[must_use]
    pub fn reader(&self, exchange: &str) -> Reader {
        let read = Permission::Read;
        if self.owner {
            return Reader {
                topics: None,
                is_open: true,
            };
        }
        let denied = self.check(read, Resource::Exchange, exchange).is_err();
        // Most have none: nothing is compiled for them.
        let unlimited = {
            let known = self.known();
            let grants = known.grants.as_ref();
            grants.is_some_and(|grants| !grants.topics.contains_key(exchange))
        };
        let topics = if denied || unlimited {
            None
        } else {
            self.topic_pattern(read, exchange)
        };
        let all = topics.as_ref().is_some_and(|pattern| pattern.is_all());
        let is_open = !denied && (unlimited || all);
        Reader { topics, is_open }
    }

    /// Whether the user may bind something to an exchange under a key, as of now.
    ///
    /// # Errors
    /// 403.
    pub fn may_bind_from(&self, exchange: &str, key: &[u8], form: Form) -> Result<(), Refusal> {
        let read = Permission::Read;
        self.check(read, Resource::Exchange, exchange)?;
        self.check_topic(read, exchange, &key::dotted_text(key, form))
    }

    /// Whether the user may consume from a queue, as of now.
    ///
    /// # Errors
    /// 403.
    pub fn may_consume(&self, queue: &str) -> Result<(), Refusal> {
        self.check(Permission::Read, Resource::Queue, queue)
    }

    /// Where a slashed filter finds what is retained by now; `None` if that is surely nothing.
    #[must_use]
    pub fn retained(&self, filter: &str) -> Option<Cursor> {
        let shelf = &self.vhost.shelves.retained;
        self.vhost.retained.cursor(filter, Form::Slashed, shelf)
    }

    /// Shows retained messages that the user may read, until they are not wanted or `steps` is
    /// used up. `show` runs with the store locked: it only encodes.
    pub fn show_retained(
        &self,
        turn: &mut Turn,
        exchange: &str,
        cursor: &mut Cursor,
        steps: &mut usize,
        mut show: impl FnMut(&Message) -> Shown,
    ) -> Piece {
        let reader = self.reader(exchange);
        let mut dotted = std::mem::take(&mut turn.dotted);
        let retained = &self.vhost.retained;
        let piece = retained.piece(cursor, steps, turn.now, |message| {
            let view = message.view();
            let shown = if reader.allows(view.key, view.head.form, &mut dotted) {
                show(message)
            } else {
                Shown::Lost(Loss::Revoked)
            };
            if let Shown::Lost(loss) = shown {
                self.count_loss(loss, view.head.qos(), view.key);
            }
            shown != Shown::Unwanted
        });
        turn.dotted = dotted;
        turn.check_time();
        piece
    }

    /// What is retained by now for a binding that was made.
    pub(super) fn retained_for(
        &self,
        queue: &Arc<Queue>,
        source: &Arc<Exchange>,
        wish: &BindQueue<'_>,
    ) -> Option<RetainedReplay> {
        let key = key::dotted_text(wish.key, wish.form);
        let shelf = &self.vhost.shelves.retained;
        let cursor = self.vhost.retained.cursor(&key, Form::Dotted, shelf)?;
        Some(RetainedReplay {
            queue: Arc::clone(queue),
            exchange: Arc::clone(source),
            cursor,
        })
    }

    /// Gives a queue that was bound a piece of what is retained for it, of what the user may read;
    /// says whether that was not all.
    pub fn replay_retained(&self, turn: &mut Turn, replay: &mut RetainedReplay) -> bool {
        if replay.queue.is_deleted() {
            return false;
        }
        let name = replay.exchange.name();
        let reader = self.reader(name);
        let mut dotted = std::mem::take(&mut turn.dotted);
        let mut found = Vec::new();
        let (mut steps, now) = (RETAINED_PAGE_STEPS, turn.now);
        let retained = &self.vhost.retained;
        let piece = retained.piece(&mut replay.cursor, &mut steps, now, |message| {
            if found.len() >= RETAINED_PAGE_MESSAGES {
                return false;
            }
            let view = message.view();
            if view.exchange == name {
                if reader.allows(view.key, view.head.form, &mut dotted) {
                    found.push(message.clone());
                } else {
                    self.count_loss(Loss::Revoked, view.head.qos(), view.key);
                }
            }
            true
        });
        turn.dotted = dotted;
        for message in &found {
            deliver(turn, std::slice::from_ref(&replay.queue), message);
        }
        piece != Piece::Last
    }

    pub(super) fn retain(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
    ) -> Result<Appended, Refusal> {
        self.check(Permission::Write, Resource::Exchange, message.exchange)?;
        let exchange = self.vhost.find_exchange(message.exchange)?;
        let mut dotted = std::mem::take(&mut turn.dotted);
        dotted.clear();
        message.append_routing_key(&mut dotted);
        let checked = self.check_publish(&exchange, &dotted);
        turn.dotted = dotted;
        checked?;
        let Ok(topic) = std::str::from_utf8(message.key) else {
            return Ok(Appended::default());
        };
        let limits = Limits::of(self.broker.options());
        let shelf = &self.vhost.shelves.retained;
        let retained = &self.vhost.retained;
        let asked = (topic, message);
        match retained.keep(asked, &limits, shelf, &mut turn.scratch, turn.now) {
            Ok(kept) => {
                self.broker.look_at_retained(&self.vhost, kept.look_at);
                Ok(kept.appended)
            }
            Err(full) => Err(self.not_retained(full, &limits)),
        }
    }

    /// Nothing that is refused here was acknowledged.
    fn not_retained(&self, full: Full, limits: &Limits) -> Refusal {
        let (messages, bytes) = (limits.messages, limits.bytes);
        let name = self.vhost.name();
        let text = match full {
            Full::Messages => format!(
                "vhost '{name}' holds {messages} retained messages already \
                 (mqtt.retained_messages_max), or has as many topic levels as go with them"
            ),
            Full::Bytes => format!(
                "retained messages of vhost '{name}' would exceed {bytes} bytes \
                 (mqtt.retained_bytes_max)"
            ),
            Full::Rate => format!(
                "vhost '{name}' has got {} retained topics in this second already \
                 (mqtt.retained_rate_max)",
                limits.added_per_s
            ),
            Full::Levels => format!(
                "the topic has more than {BINDING_WORDS_MAX} levels, and cannot be retained"
            ),
        };
        Refusal::new(ReplyCode::ResourceError, text)
    }
}
