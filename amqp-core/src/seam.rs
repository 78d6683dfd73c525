//! The seam under the MQTT adapter.
//!
//! The adapter does not know whether the core is in this process. It speaks to a [`Core`]; no call
//! blocks, each answers now or names a record that a later wake-up finds durable. Static dispatch:
//! the core in this process costs nothing for it. Implementors: [`Link`]; a gateway to another
//! broker.

use std::net::IpAddr;
use std::sync::Arc;

use crate::alarms::Alarms;
use crate::broker::Broker;
use crate::claims::{Leftover, Owner, Previous, Wanted};
use crate::events::Events;
use crate::exchange::{Binding, Memo};
use crate::key::Form;
use crate::link::{BindQueue, BindingMade, DeclareQueue, Declared, Link, Published, Reader};
use crate::message::{Message, MessageRef};
use crate::peer::Peer;
use crate::queue::{Consumer, IdPlace, Queue, Settle};
use crate::refusal::Refusal;
use crate::retained::{Cursor, Piece, Shown};
use crate::schedule::Scheduled;
use crate::shelf::{Orphan, Place, Received};
use crate::sink::Loss;
use crate::time::Time;
use crate::turn::Turn;
use crate::watermark::Wake;

/// What the adapter needs of a core, for one logged-in connection in one vhost.
pub trait Core: Send + Sync + Sized + 'static {
    /// The user's name.
    fn user(&self) -> &str;

    /// The user is still there.
    fn has_user(&self) -> bool;

    /// The vhost's name.
    fn vhost(&self) -> &str;

    /// Claims a client id; the connection that owns it is evicted.
    ///
    /// # Errors
    /// Too many identifiers, or it is another user's.
    fn own(&self, turn: &mut Turn, wanted: &Wanted<'_>) -> Result<Previous, Refusal>;

    /// Gives a client id up, leaving something for its next owner for so many milliseconds (`None`:
    /// for ever).
    fn disown(
        &self,
        turn: &Turn,
        id: &str,
        owner: &Arc<dyn Owner>,
        rest: Option<Box<dyn Leftover>>,
        keep_ms: Option<u64>,
    ) -> Option<Box<dyn Leftover>>;

    /// The exchange is there: what CONNECT is refused without.
    fn has_exchange(&self, name: &str) -> bool;

    /// The queue with this name, if it is there and usable.
    fn find_queue(&self, name: &str) -> Option<Arc<Queue>>;

    /// Declares a queue.
    ///
    /// # Errors
    /// No permission, or another declaration.
    fn declare(&self, turn: &mut Turn, wish: &DeclareQueue<'_>) -> Result<Declared, Refusal>;

    /// Sets when an unused queue goes.
    ///
    /// # Errors
    /// The value is not possible.
    fn set_expires(&self, queue: &Arc<Queue>, expires_ms: Option<u64>) -> Result<(), Refusal>;

    /// From now on the queue outlives its connections.
    fn set_journaled(&self, queue: &Arc<Queue>);

    /// From now on the queue is a part of a session of this user.
    fn set_session(&self, queue: &Arc<Queue>, place: IdPlace);

    /// Deletes a queue by name; one that is not there is no error.
    ///
    /// # Errors
    /// No permission.
    fn delete(&self, name: &str) -> Result<(), Refusal>;

    /// Deletes exactly this queue, which the connection made.
    fn drop_queue(&self, queue: &Arc<Queue>);

    /// Deletes exactly this queue if nothing is bound to it any more.
    fn drop_unbound(&self, queue: &Arc<Queue>);

    /// Binds a queue.
    ///
    /// # Errors
    /// No permission, or a key that cannot be matched.
    fn bind(&self, wish: &BindQueue<'_>) -> Result<BindingMade, Refusal>;

    /// Removes a binding; says how many the queue has left.
    ///
    /// # Errors
    /// No permission.
    fn unbind(&self, wish: &BindQueue<'_>) -> Result<usize, Refusal>;

    /// Removes a binding that the session itself made, whatever its user may do by now.
    fn unbind_own(&self, wish: &BindQueue<'_>);

    /// The queue's bindings, to bring a session's subscriptions back.
    fn bindings(&self, queue: &Arc<Queue>) -> Vec<Binding>;

    /// Whether the user may publish under a key, as of now.
    ///
    /// # Errors
    /// No permission, or no such exchange.
    fn may_publish(&self, exchange: &str, key: &[u8], form: Form) -> Result<(), Refusal>;

    /// Whether the user may subscribe to a key of an exchange, as of now.
    ///
    /// # Errors
    /// No permission.
    fn may_bind_from(&self, exchange: &str, key: &[u8], form: Form) -> Result<(), Refusal>;

    /// Whether the user may consume from a queue, as of now.
    ///
    /// # Errors
    /// No permission.
    fn may_consume(&self, queue: &str) -> Result<(), Refusal>;

    /// What the user may read of an exchange, as of now.
    fn reader(&self, exchange: &str) -> Reader;

    /// Publishes a message.
    ///
    /// # Errors
    /// No permission, or no such exchange.
    fn publish(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
    ) -> Result<Published, Refusal>;

    /// A message of the connection is dropped before any queue has it, and nobody tells it so.
    fn count_loss(&self, loss: Loss, qos: u8, key: &[u8]);

    /// Starts a consumer; deliveries begin at [`Queue::pull`].
    ///
    /// # Errors
    /// No permission, or an exclusive consumer.
    fn consume(&self, turn: &Turn, queue: &str, consumer: Consumer) -> Result<Arc<Queue>, Refusal>;

    /// Stops a consumer.
    fn cancel(&self, turn: &mut Turn, queue: &Arc<Queue>, key: u64);

    /// Settles deliveries of one queue.
    fn settle(
        &self,
        turn: &mut Turn,
        queue: &Arc<Queue>,
        unacked: impl Iterator<Item = (u64, Message)>,
        how: Settle,
    );

    /// Where a filter finds what is retained by now; `None` if that is surely nothing.
    fn retained(&self, filter: &str) -> Option<Cursor>;

    /// Shows retained messages that the user may read by now: see [`Link::show_retained`].
    fn show_retained(
        &self,
        turn: &mut Turn,
        exchange: &str,
        cursor: &mut Cursor,
        steps: &mut usize,
        show: impl FnMut(&Message) -> Shown,
    ) -> Piece;

    /// Publishes a message later, unless it is cancelled. `None` if too many are scheduled already.
    fn schedule(
        self: &Arc<Self>,
        turn: &mut Turn,
        at: Time,
        message: &MessageRef<'_>,
    ) -> Option<Arc<Scheduled>>;

    /// The record of definitions that the next answer must wait for, if it is not durable yet.
    fn uncommitted(&self) -> Option<u64>;

    /// Wakes `who` once when that record is durable; `false` if it is.
    fn wait_committed(&self, number: u64, who: &Arc<dyn Wake>) -> bool;

    /// Remembers that a QoS 2 publish was routed, over restarts: see [`Link::receive`].
    fn receive(&self, turn: &Turn, received: Received) -> (Place, u64);

    /// Identifiers are released; gives the number to wait for, also for all released before.
    fn release_received(&self, places: &[Place]) -> u64;

    /// The identifiers that a restart found of this client; once.
    fn recall_received(&self) -> Orphan;

    /// The publication that this client had scheduled before a restart; once.
    fn recall_scheduled(&self) -> Option<Arc<Scheduled>>;

    /// What is not committed never will be: the disk has failed.
    fn commits_failed(&self) -> bool;

    /// How far published messages are durable.
    fn journal_durable(&self) -> u64;

    /// What is not durable never will be: the disk has failed.
    fn journal_failed(&self) -> bool;

    /// Wakes `who` once when messages up to this number are durable; `false` if they are.
    fn wait_journal(&self, number: u64, who: &Arc<dyn Wake>) -> bool;

    /// What keeps publishers from being read.
    fn alarms(&self) -> &Alarms;
    /// What happens to clients.
    fn events(&self) -> &Events;

    /// The connection is over.
    fn close(&self, turn: &mut Turn);
}

impl Core for Link {
    fn user(&self) -> &str {
        Self::user(self)
    }

    fn has_user(&self) -> bool {
        self.broker().user(Self::user(self)).is_some()
    }

    fn vhost(&self) -> &str {
        Self::vhost(self).name()
    }

    fn own(&self, turn: &mut Turn, wanted: &Wanted<'_>) -> Result<Previous, Refusal> {
        self.claim(turn, wanted)
    }

    fn disown(
        &self,
        turn: &Turn,
        id: &str,
        owner: &Arc<dyn Owner>,
        rest: Option<Box<dyn Leftover>>,
        keep_ms: Option<u64>,
    ) -> Option<Box<dyn Leftover>> {
        self.release(turn, id, owner, rest, keep_ms)
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.vhost().exchange(name).is_some()
    }

    fn find_queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.usable_queue(name).ok()
    }

    fn declare(&self, turn: &mut Turn, wish: &DeclareQueue<'_>) -> Result<Declared, Refusal> {
        self.queue_declare(turn, wish)
    }

    fn set_expires(&self, queue: &Arc<Queue>, expires_ms: Option<u64>) -> Result<(), Refusal> {
        self.queue_set_expires(queue, expires_ms)
    }

    fn set_journaled(&self, queue: &Arc<Queue>) {
        self.queue_set_journaled(queue);
    }

    fn set_session(&self, queue: &Arc<Queue>, place: IdPlace) {
        self.queue_set_session(queue, place);
    }

    fn delete(&self, name: &str) -> Result<(), Refusal> {
        self.queue_delete(name, false, false).map(|_| ())
    }

    fn drop_queue(&self, queue: &Arc<Queue>) {
        self.queue_drop(queue);
    }

    fn drop_unbound(&self, queue: &Arc<Queue>) {
        self.queue_drop_unbound(queue);
    }

    fn bind(&self, wish: &BindQueue<'_>) -> Result<BindingMade, Refusal> {
        self.queue_bind(wish)
    }

    fn unbind(&self, wish: &BindQueue<'_>) -> Result<usize, Refusal> {
        self.queue_unbind(wish)
    }

    fn unbind_own(&self, wish: &BindQueue<'_>) {
        self.queue_unbind_own(wish);
    }

    fn bindings(&self, queue: &Arc<Queue>) -> Vec<Binding> {
        queue.bindings().collect()
    }

    fn may_publish(&self, exchange: &str, key: &[u8], form: Form) -> Result<(), Refusal> {
        Self::may_publish(self, exchange, key, form)
    }

    fn may_bind_from(&self, exchange: &str, key: &[u8], form: Form) -> Result<(), Refusal> {
        Self::may_bind_from(self, exchange, key, form)
    }

    fn may_consume(&self, queue: &str) -> Result<(), Refusal> {
        Self::may_consume(self, queue)
    }

    fn reader(&self, exchange: &str) -> Reader {
        Self::reader(self, exchange)
    }

    fn publish(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
    ) -> Result<Published, Refusal> {
        Self::publish(self, turn, memo, message)
    }

    fn count_loss(&self, loss: Loss, qos: u8, key: &[u8]) {
        Self::count_loss(self, loss, qos, key);
    }

    fn consume(&self, turn: &Turn, queue: &str, consumer: Consumer) -> Result<Arc<Queue>, Refusal> {
        Self::consume(self, turn, queue, consumer)
    }

    fn cancel(&self, turn: &mut Turn, queue: &Arc<Queue>, key: u64) {
        Self::cancel(self, turn, queue, key);
    }

    fn settle(
        &self,
        turn: &mut Turn,
        queue: &Arc<Queue>,
        unacked: impl Iterator<Item = (u64, Message)>,
        how: Settle,
    ) {
        Self::settle(self, turn, queue, unacked, how);
    }

    fn retained(&self, filter: &str) -> Option<Cursor> {
        Self::retained(self, filter)
    }

    fn show_retained(
        &self,
        turn: &mut Turn,
        exchange: &str,
        cursor: &mut Cursor,
        steps: &mut usize,
        show: impl FnMut(&Message) -> Shown,
    ) -> Piece {
        Self::show_retained(self, turn, exchange, cursor, steps, show)
    }

    fn schedule(
        self: &Arc<Self>,
        turn: &mut Turn,
        at: Time,
        message: &MessageRef<'_>,
    ) -> Option<Arc<Scheduled>> {
        Self::schedule(self, turn, at, message)
    }

    fn receive(&self, turn: &Turn, received: Received) -> (Place, u64) {
        Self::receive(self, turn, received)
    }

    fn release_received(&self, places: &[Place]) -> u64 {
        Self::release_received(self, places)
    }

    fn recall_received(&self) -> Orphan {
        Self::recall_received(self)
    }

    fn recall_scheduled(&self) -> Option<Arc<Scheduled>> {
        Self::recall_scheduled(self)
    }

    fn uncommitted(&self) -> Option<u64> {
        Self::uncommitted(self)
    }

    fn wait_committed(&self, number: u64, who: &Arc<dyn Wake>) -> bool {
        self.broker().definitions().watermark().wait(number, who)
    }

    fn commits_failed(&self) -> bool {
        self.broker().definitions().watermark().has_failed()
    }

    fn journal_durable(&self) -> u64 {
        self.journal_mark().durable()
    }

    fn journal_failed(&self) -> bool {
        self.journal_mark().has_failed()
    }

    fn wait_journal(&self, number: u64, who: &Arc<dyn Wake>) -> bool {
        self.journal_mark().wait(number, who)
    }

    fn alarms(&self) -> &Alarms {
        self.broker().alarms()
    }

    fn events(&self) -> &Events {
        self.broker().events()
    }

    fn close(&self, turn: &mut Turn) {
        Self::close(self, turn);
    }
}

/// Where connections enter a core.
pub trait Host: Send + Sync + 'static {
    /// What a connection gets.
    type Core: Core;

    /// A number for a connection, unique in this process.
    fn new_connection(&self) -> u64;

    /// Text that no client of this process has been given before.
    fn unique_name(&self) -> String;

    /// Opens a vhost for a user who has proved who it is.
    ///
    /// # Errors
    /// 530 for a vhost that is not there or not open to this user; 403 by the loopback rule.
    fn open(
        self: &Arc<Self>,
        connection: u64,
        user: &str,
        vhost: &str,
        client_id: &Arc<str>,
        peer: IpAddr,
    ) -> Result<Arc<Self::Core>, Refusal>;

    /// The vhost with this name is there.
    fn has_vhost(&self, name: &str) -> bool;

    /// The vhost that the port map names for a local port.
    fn vhost_of_port(&self, port: u16) -> Option<String>;

    /// Puts a connection on the list.
    fn register(&self, connection: u64, peer: Arc<dyn Peer>);

    /// Takes a connection off the list.
    fn deregister(&self, connection: u64);

    /// What happens to clients.
    fn events(&self) -> &Events;
}

impl Host for Broker {
    type Core = Link;

    fn new_connection(&self) -> u64 {
        Self::new_connection(self)
    }

    fn unique_name(&self) -> String {
        Self::unique_name(self)
    }

    fn open(
        self: &Arc<Self>,
        connection: u64,
        user: &str,
        vhost: &str,
        client_id: &Arc<str>,
        peer: IpAddr,
    ) -> Result<Arc<Link>, Refusal> {
        self.open_vhost(connection, user, vhost, Some(client_id), peer)
    }

    fn has_vhost(&self, name: &str) -> bool {
        self.vhost(name).is_some()
    }

    fn vhost_of_port(&self, port: u16) -> Option<String> {
        Self::vhost_of_port(self, port)
    }

    fn register(&self, connection: u64, peer: Arc<dyn Peer>) {
        Self::register(self, connection, peer);
    }

    fn deregister(&self, connection: u64) {
        Self::deregister(self, connection);
    }

    fn events(&self) -> &Events {
        Self::events(self)
    }
}
