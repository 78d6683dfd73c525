//! Publishing, consuming, settling: the operations that messages pass through.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Link;
use crate::broker::Broker;
use crate::claims::{Denied, Leftover, Owner, Previous, Wanted};
use crate::exchange::{Exchange, ExchangeKind, Found, Known, Memo, Route, Search, Stop};
use crate::journal::Appended;
use crate::key::{self, Form};
use crate::ledger::Whose;
use crate::limits;
use crate::message::{Message, MessageRef};
use crate::permission::Permission;
use crate::queue::{Consumer, Publication, Queue, Settle, Taken};
use crate::refusal::{Refusal, Resource};
use crate::reply_code::ReplyCode;
use crate::schedule::Scheduled;
use crate::shelf::{Later, Orphan, Place, Received, Sent};
use crate::sink::Loss;
use crate::taps::Publisher;
use crate::time::Time;
use crate::timers::Due;
use crate::turn::Turn;

/// What became of a publication.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// Queues that it was routed to.
    pub routed: u32,
    /// The journal's number that an acknowledgement waits for; 0 for none.
    pub journaled: u64,
    /// A full queue has refused it (`x-overflow`): it is not to be acknowledged.
    pub rejected: bool,
}

/// A message fetched by basic.get.
#[derive(Debug)]
pub struct Got {
    /// Its queue.
    pub queue: Arc<Queue>,
    /// The message.
    pub taken: Taken,
}

impl Link {
    /// Publishes a message: permission, route, queues. Answers when every queue has it.
    ///
    /// # Errors
    /// 403 without permission or for an internal exchange, 404 for an exchange that is not there.
    pub fn publish(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
    ) -> Result<Published, Refusal> {
        let form = message.head.form;
        let mut kept = Appended::default();
        if message.head.retain && form == Form::Slashed {
            // Kept before it is routed: who subscribes in between gets it either way.
            kept = self.retain(turn, message)?;
        }
        let authority = self.broker.users.epoch();
        let topology = self.vhost.topology();
        let found;
        let known = memo.find(message.exchange, form, message.key, topology, authority);
        let (queues, stops): (&[Arc<Queue>], &[Stop]) = match known {
            Some(queues) => (queues, &[]),
            None => {
                found = self.route(turn, memo, message, (authority, false))?;
                (&found.queues, &found.stops)
            }
        };
        Ok(self.offer(turn, message, (queues, stops), kept))
    }

    /// Publishes what the broker itself says, for those alone who asked for it in the form of its
    /// key: an AMQP queue that is bound with `#` gets nothing of `$SYS`. Internal exchanges take
    /// it.
    ///
    /// # Errors
    /// 404 for an exchange that is not there; too many retained messages.
    pub fn announce(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
    ) -> Result<Published, Refusal> {
        let exchange = self.vhost.find_exchange(message.exchange)?;
        let mut kept = Appended::default();
        if message.head.retain {
            kept = self.retain(turn, message)?;
        }
        let mut dotted = Vec::new();
        message.append_routing_key(&mut dotted);
        let search = Search {
            own_form: true,
            ..Search::by(&dotted)
        };
        let found = self.resolve(&exchange, message, &search)?.found;
        Ok(self.offer(turn, message, (&found.queues, &found.stops), kept))
    }

    /// Where a message goes: from the publisher's memo, or the slow way. `kept_back`: it is
    /// published later, if at all.
    pub(super) fn find_route(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
        kept_back: bool,
    ) -> Result<Found, Refusal> {
        let form = message.head.form;
        let authority = self.broker.users.epoch();
        let topology = self.vhost.topology();
        match memo.find(message.exchange, form, message.key, topology, authority) {
            Some(queues) => Ok(Found::at_once(Arc::clone(queues))),
            None => self.route(turn, memo, message, (authority, kept_back)),
        }
    }

    /// Gives a message to queues, and to the exchanges at which it is to wait.
    #[inline(always)]
    pub(super) fn offer(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        (queues, stops): (&[Arc<Queue>], &[Stop]),
        kept: Appended,
    ) -> Published {
        if self.broker.taps().any() {
            self.show(message, queues.len() + stops.len());
        }
        let mut publication = Publication {
            body: kept.body,
            journaled: kept.number,
            ..Publication::new(message)
        };
        turn.count_offered(queues.len());
        for queue in queues {
            queue.offer(turn, &mut publication);
        }
        for stop in stops {
            let number = self.vhost.hold_back(stop, message);
            publication.journaled = publication.journaled.max(number);
        }
        turn.post();
        Published {
            routed: (queues.len() + stops.len()) as u32,
            journaled: publication.journaled,
            rejected: publication.rejected,
        }
    }

    /// Shows a publication to those who watch.
    #[cold]
    fn show(&self, message: &MessageRef<'_>, routed: usize) {
        let publisher = Publisher {
            vhost: self.vhost.name(),
            user: self.user(),
            client_id: self.client_id.as_ref(),
            connection: self.connection,
        };
        self.broker.taps().show(&publisher, message, routed);
    }

    /// The slow way to a route: exchange, permissions, the worker's cache, the bindings.
    fn route(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
        (authority, kept_back): (u64, bool),
    ) -> Result<Found, Refusal> {
        self.check(Permission::Write, Resource::Exchange, message.exchange)?;
        let exchange = self.vhost.find_exchange(message.exchange)?;
        let mut dotted = std::mem::take(&mut turn.dotted);
        dotted.clear();
        message.append_routing_key(&mut dotted);
        let checked = self.check_publish(&exchange, &dotted);
        let form = message.head.form;
        let topology = self.vhost.topology();
        let cached = turn.routes.find(exchange.id, form, message.key, topology);
        let known = cached.is_some();
        // Only who may publish is remembered by exchanges on the way.
        let route = match cached {
            Some(route) => checked.map(|()| route),
            None => checked.and_then(|()| {
                let search = Search {
                    kept_back,
                    ..Search::by(&dotted)
                };
                self.resolve(&exchange, message, &search)
            }),
        };
        turn.dotted = dotted;
        if !known {
            turn.check_time();
        }
        let route = route?;
        if exchange.is_deleted() {
            // Since it was found. Asked after the stamp was taken: a memo that is made now meets
            // a later deletion as a later version.
            return Err(self.no_exchange(message.exchange));
        }
        if let Some(stamp) = route.stamp {
            let queues = &route.found.queues;
            if !known {
                turn.routes
                    .remember(exchange.id, form, message.key, stamp, queues);
            }
            memo.remember(Known {
                exchange,
                form,
                key: message.key.to_vec(),
                stamp,
                authority,
                queues: Arc::clone(queues),
            });
        }
        Ok(route.found)
    }

    /// Whether the user may publish to an exchange under a key, as of now.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn may_publish(&self, exchange: &str, topic: &[u8], form: Form) -> Result<(), Refusal> {
        self.check(Permission::Write, Resource::Exchange, exchange)?;
        let exchange = self.vhost.find_exchange(exchange)?;
        self.check_publish(&exchange, key::dotted_text(topic, form).as_bytes())
    }

    pub(super) fn no_exchange(&self, name: &str) -> Refusal {
        Refusal::not_found(Resource::Exchange, name, self.vhost.name())
    }

    pub(super) fn check_publish(&self, exchange: &Exchange, dotted: &[u8]) -> Result<(), Refusal> {
        let words = 1 + dotted.iter().filter(|byte| **byte == b'.').count();
        if words > limits::KEY_WORDS_MAX {
            return Err(Refusal::precondition(format!(
                "routing key has {words} words, at most {} are allowed",
                limits::KEY_WORDS_MAX
            )));
        }
        if exchange.properties().internal {
            return Err(Refusal::new(
                ReplyCode::AccessRefused,
                format!(
                    "cannot publish to internal exchange '{}' in vhost '{}'",
                    exchange.name(),
                    self.vhost.name()
                ),
            ));
        }
        if exchange.properties().kind == ExchangeKind::Topic {
            let key = String::from_utf8_lossy(dotted);
            self.check_topic(Permission::Write, exchange.name(), &key)?;
        }
        Ok(())
    }

    pub(super) fn resolve(
        &self,
        exchange: &Arc<Exchange>,
        message: &MessageRef<'_>,
        search: &Search<'_>,
    ) -> Result<Route, Refusal> {
        self.vhost
            .resolve(exchange, message, search)
            .map_err(|why| Refusal::new(ReplyCode::ResourceError, why.to_string()))
    }

    /// Publishes a message at `at` unless it is cancelled before. `None`: the vhost has as many as
    /// [`crate::limits::SCHEDULED_MAX`] leaves it.
    pub fn schedule(
        self: &Arc<Self>,
        turn: &mut Turn,
        at: Time,
        message: &MessageRef<'_>,
    ) -> Option<Arc<Scheduled>> {
        if !self.vhost.try_hold_scheduled(1) {
            return None;
        }
        let later = Later {
            at,
            user: &self.user,
            client_id: self.client_id.as_deref().unwrap_or_default(),
            more: Vec::new(),
            payload: message.payload,
        };
        let payload = &later.encode()[..];
        let place = self.vhost.shelves.schedule(&MessageRef {
            payload,
            ..*message
        });
        let message = message.to_message(&mut turn.scratch);
        let scheduled = Arc::new(Scheduled::new(Arc::clone(self), message, place));
        self.broker
            .timers
            .add(at, Due::Publish(Arc::clone(&scheduled)));
        Some(scheduled)
    }

    /// Publishes a message whose time has come.
    pub(crate) fn publish_scheduled(&self, turn: &mut Turn, message: &Message) {
        let view = message.view();
        let mut head = view.head;
        // Its life starts now: expiry counts from publication (MQTT 5.0 §3.1.3.2.4).
        head.expires = head
            .expires
            .map(|at| turn.now.after_ms(at.since_ms(head.received)));
        head.received = turn.now;
        let due = MessageRef { head, ..view };
        match self.publish(turn, &mut Memo::default(), &due) {
            Ok(published) if published.rejected => {
                self.count_loss(Loss::Rejected, head.qos(), due.key)
            }
            Ok(_) => {}
            Err(refusal) => {
                tracing::warn!(%refusal, user = self.user(), "scheduled message not published");
                self.count_loss(Loss::Will, head.qos(), due.key);
            }
        }
    }

    /// A message of this connection is dropped before any queue has it, and nobody tells it so.
    pub fn count_loss(&self, loss: Loss, qos: u8, key: &[u8]) {
        let whose = match &self.client_id {
            Some(id) => Whose::Client(id),
            None => Whose::User(&self.user),
        };
        self.vhost.count_loss(loss, qos, whose, key);
    }

    /// Starts a consumer; deliveries begin at [`Queue::pull`], after the client was told.
    ///
    /// # Errors
    /// 403 without permission or for an exclusive consumer, 404, 405.
    pub fn consume(
        &self,
        turn: &Turn,
        queue: &str,
        consumer: Consumer,
    ) -> Result<Arc<Queue>, Refusal> {
        self.check(Permission::Read, Resource::Queue, queue)?;
        let queue = self.usable_queue(queue)?;
        queue.add_consumer(consumer, self.vhost.name(), turn.now)?;
        if queue.journaled() {
            let shelves = &self.vhost.shelves;
            shelves.note_used(queue.id(), turn.now, queue.expires_ms());
        }
        // A session that is resumed promises what its former connection was not told yet.
        self.recorded(queue.record());
        Ok(queue)
    }

    /// Stops a consumer; its unsettled messages are not touched. An auto-delete queue goes with its
    /// last one.
    pub fn cancel(&self, turn: &mut Turn, queue: &Arc<Queue>, key: u64) {
        if let Some((connection, key)) = self.leave(turn, queue, key) {
            queue.pull(turn, connection, key);
        }
    }

    /// The same, but whoever is the single active consumer now gets nothing until it is pulled
    /// for: by connection and key. What the one who leaves had goes back first.
    #[must_use]
    pub fn leave(&self, turn: &Turn, queue: &Arc<Queue>, key: u64) -> Option<(u64, u64)> {
        let removed = queue.remove_consumer(self.connection, key, turn.now);
        if removed.ends_queue {
            self.broker
                .delete_queue_when(&self.vhost, queue, |held| held.consumers == 0);
        } else {
            self.broker.arm_expiry(&self.vhost, queue);
        }
        removed.promoted
    }

    /// Fetches one message, if there is any.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn get(&self, turn: &mut Turn, queue: &str, no_ack: bool) -> Result<Option<Got>, Refusal> {
        self.check(Permission::Read, Resource::Queue, queue)?;
        let queue = self.usable_queue(queue)?;
        if queue.is_stream() {
            return Err(Refusal::not_implemented(format!(
                "basic.get not supported by stream queues queue '{}' in vhost '{}'",
                queue.name(),
                self.vhost.name()
            )));
        }
        if queue.has_single_active_quorum() {
            return Err(Refusal::new(
                ReplyCode::ResourceLocked,
                format!(
                    "cannot obtain access to locked queue '{}' in vhost '{}'. basic.get \
                     operations are not supported by quorum queues with single active consumer",
                    queue.name(),
                    self.vhost.name()
                ),
            ));
        }
        let taken = queue.take_first(turn, no_ack);
        turn.post();
        Broker::note_idle(&self.vhost, &queue);
        Ok(taken.map(|taken| Got { queue, taken }))
    }

    /// Settles deliveries of one queue.
    pub fn settle(
        &self,
        turn: &mut Turn,
        queue: &Arc<Queue>,
        unacked: impl Iterator<Item = (u64, Message)>,
        how: Settle,
    ) {
        queue.settle(turn, unacked, how);
        if how != Settle::Ack {
            turn.check_time();
            turn.post();
        }
    }

    /// A QoS 2 publish with this identifier was routed: it is not to be routed again before it is
    /// released, whatever happens. Gives where that lies, and the number to wait for.
    #[must_use]
    pub fn receive(&self, turn: &Turn, received: Received) -> (Place, u64) {
        let client_id = self.client_id.as_deref().unwrap_or_default();
        let who = (client_id, &*self.user);
        self.vhost.shelves.receive(who, received, turn.now)
    }

    /// A QoS 2 message of a queue is to be sent to the client, or a retained one: a restart knows
    /// of it from the number on that is given, and of the message.
    #[must_use]
    pub fn note_sent(&self, turn: &Turn, queue: Option<&Queue>, sent: Sent) -> (Place, u64) {
        // Whoever has handed it over may be about to keep it.
        queue.into_iter().for_each(Queue::let_finish);
        let client_id = self.client_id.as_deref().unwrap_or_default();
        let who = (client_id, &*self.user);
        self.vhost.shelves.note_sent(who, sent, turn.now)
    }

    /// Identifiers are released; gives the number to wait for: no restart brings them back then,
    /// nor any that was released before.
    pub fn release_received(&self, places: &[Place]) -> u64 {
        self.vhost.shelves.release(places)
    }

    /// The identifiers that a restart found of this client and nobody has asked for.
    #[must_use]
    pub fn recall_received(&self) -> Orphan {
        let client_id = self.client_id.as_deref().unwrap_or_default();
        self.vhost.shelves.recall(client_id)
    }

    /// The publication that this client had scheduled before a restart.
    #[must_use]
    pub fn recall_scheduled(&self) -> Option<Arc<Scheduled>> {
        let client_id = self.client_id.as_deref().unwrap_or_default();
        self.vhost.shelves.testaments.lock().remove(client_id)
    }

    /// Claims an identifier in this vhost, evicting the connection that owns it.
    ///
    /// # Errors
    /// 506: the vhost has [`limits::CLAIMS_MAX`] already. 530: it is bound to another user.
    pub fn claim(&self, turn: &mut Turn, wanted: &Wanted<'_>) -> Result<Previous, Refusal> {
        let restored = || self.restored_owner(wanted);
        let denied = match self.vhost.claims.claim(turn, wanted, restored) {
            Ok(previous) => {
                // Whoever is told that a session is over is told for good.
                self.recorded(self.vhost.gone_record.load(Ordering::Acquire));
                return Ok(previous);
            }
            Err(denied) => denied,
        };
        if let Denied::Bound { owner, peer } = &denied {
            let (claimant, from) = (wanted.owner.user(), wanted.owner.peer());
            let (client_id, vhost) = (wanted.id, self.vhost.name());
            tracing::warn!(
                client_id, vhost, user = claimant, peer = %from, owner, owner_peer = ?peer,
                "client id refused: its session belongs to another user",
            );
        }
        Err(denied.refusal())
    }

    /// Whose an identifier is that nobody has claimed since the broker was started, or whose
    /// session has all it needs in its queues.
    fn restored_owner(&self, wanted: &Wanted<'_>) -> Option<Box<str>> {
        let queues = self.vhost.session_owner(wanted.queues);
        queues.or_else(|| self.vhost.shelves.owner(wanted.id))
    }

    /// Gives an identifier up; what is left for the next owner is kept for `keep_ms` (`None`: for
    /// ever). If there is a next owner already, what is left comes back.
    pub fn release(
        &self,
        turn: &Turn,
        id: &str,
        owner: &Arc<dyn Owner>,
        rest: Option<Box<dyn Leftover>>,
        keep_ms: Option<u64>,
    ) -> Option<Box<dyn Leftover>> {
        match self.vhost.claims.release(id, owner, rest) {
            Err(rest) => rest,
            Ok(left) => {
                if let (Some(rest), Some(keep_ms)) = (left, keep_ms) {
                    let at = turn.now.after_ms(keep_ms.min(limits::TTL_MS_MAX));
                    let (vhost, rest) = (Arc::downgrade(&self.vhost), Arc::downgrade(&rest));
                    self.broker
                        .timers
                        .add(at, Due::Forget(vhost, id.into(), rest));
                }
                None
            }
        }
    }
}
