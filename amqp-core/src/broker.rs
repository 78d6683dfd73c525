//! The broker: vhosts, users, parameters and connections of one node, and what it does by itself.
//!
//! Owns what is shared by all vhosts. Synchronous; reads no clock, opens no file, knows no
//! protocol.

mod admin;
mod load;
mod policies;
mod quotas;
mod restore;
mod secret;
mod vhosts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

use crate::alarms::Alarms;
use crate::authority::Authority;
use crate::definitions::{Change, Definitions, Fault};
use crate::events::Events;
use crate::exchange::epochs::Epochs;
use crate::exchange::{Bound, Exchange};
use crate::field::Value;
use crate::journal::{Door, Journal};
use crate::link::Link;
use crate::options::Options;
use crate::peer::{CloseReason, Peer};
use crate::queue::{Conditions, Queue};
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::seldom::Seldom;
use crate::taps::Taps;
use crate::time::Time;
use crate::timers::{Due, Timers};
use crate::turn::Turn;
use crate::user::{StoredPassword, User, Users};
use crate::vhost::{Metadata, VHost};
use crate::watermark::Wake;

pub use admin::{PermissionView, TopicPermissionView, UserView};

/// Due things that one call of [`Broker::handle_timeout`] does; its driver calls again at once.
const DUE_PER_TURN_MAX: usize = 1_024;

/// One node's broker.
pub struct Broker {
    options: Options,
    definitions: Arc<dyn Definitions>,
    pub(crate) journal: Arc<dyn Journal>,
    next_id: AtomicU64,
    /// Queues have numbers of their own, which survive a restart.
    next_queue: AtomicU64,
    names: RandomState,
    vhosts: RwLock<BTreeMap<Box<str>, Arc<VHost>>>,
    /// Held while a vhost comes or goes and the records that say so are submitted, so that both
    /// happen in one order.
    changing_vhosts: Mutex<()>,
    /// What remembered routes of all vhosts depend on.
    epochs: Arc<Epochs>,
    pub(crate) users: Users,
    pub(crate) authority: Authority,
    parameters: RwLock<BTreeMap<Box<str>, Arc<Value>>>,
    peers: DashMap<u64, Arc<dyn Peer>>,
    pub(crate) timers: Arc<Timers>,
    /// What queues ask for and do not get.
    pub(crate) unserved_told: Seldom,
    alarms: Arc<Alarms>,
    login_secret: OnceLock<[u8; 32]>,
    events: Events,
    taps: Arc<Taps>,
}

impl Broker {
    /// A broker over what is defined already; makes the default vhost and user if nothing is.
    ///
    /// # Errors
    /// The definitions cannot be read, or contain what this version does not understand.
    pub fn open<P: Into<StoredPassword>>(
        options: Options,
        definitions: Arc<dyn Definitions>,
        journal: Arc<dyn Journal>,
        now: Time,
        default_password: impl FnOnce() -> P,
    ) -> Result<Arc<Self>, Fault> {
        let alarms = Arc::new(Alarms::new(&options));
        let events = Events::default();
        let broker = Arc::new(Self {
            timers: Arc::new(Timers::new(Arc::clone(&alarms))),
            alarms,
            options,
            definitions,
            next_queue: AtomicU64::new(journal.last_queue() + 1),
            journal,
            next_id: AtomicU64::new(1),
            names: RandomState::default(),
            vhosts: RwLock::default(),
            changing_vhosts: Mutex::default(),
            epochs: Arc::new(Epochs::new(Arc::clone(events.listeners()))),
            events,
            taps: Arc::default(),
            users: Users::default(),
            authority: Authority::default(),
            parameters: RwLock::default(),
            peers: DashMap::new(),
            unserved_told: Seldom::default(),
            login_secret: OnceLock::new(),
        });
        load::load(&broker, now)?;
        if broker.vhosts.read().is_empty() && broker.users.all().is_empty() {
            broker.make_defaults(default_password().into());
        }
        Ok(broker)
    }

    /// The default vhost, the default user and its permissions, in one record: all or nothing.
    fn make_defaults(&self, password: StoredPassword) {
        let options = &self.options;
        let user = User {
            password_hash: password.hash,
            scram: password.scram,
            tags: options
                .default_user_tags
                .iter()
                .map(|tag| tag.as_str().into())
                .collect(),
            ..User::default()
        };
        let grants = &options.default_permissions;
        let patterns = [&*grants.configure, &*grants.write, &*grants.read];
        let (name, vhost) = (&*options.default_user, &*options.default_vhost);
        let described = Metadata {
            description: "Default virtual host".into(),
            ..Metadata::default()
        };
        let changes = self.take_vhost(vhost, described).and_then(|made| {
            let user = self.take_user(name, user)?;
            Ok(vec![
                made,
                user,
                self.take_permissions(name, vhost, patterns)?,
            ])
        });
        match changes {
            Ok(changes) => {
                let record = self.submit(changes);
                let made = self.vhost(vhost);
                made.iter()
                    .for_each(|vhost| vhost.shelves.set_record(record));
            }
            // The options were validated when they were read.
            Err(refusal) => {
                tracing::error!(%refusal, "the default vhost and user could not be made");
            }
        }
    }

    /// What the operator set.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The definitions, to wait for their watermark.
    #[must_use]
    pub fn definitions(&self) -> &Arc<dyn Definitions> {
        &self.definitions
    }

    /// The journal of messages, to wait for its watermark.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The journal as the queues of a vhost have it.
    pub(crate) fn door(&self, name: &str, vhost: &Weak<VHost>) -> Arc<Door> {
        Arc::new(Door {
            journal: Arc::clone(&self.journal),
            durability: self.options.durability_of(name),
            timers: Arc::clone(&self.timers),
            vhost: Weak::clone(vhost),
            letters: Default::default(),
            caps: self.options.session_caps,
            ledger: Default::default(),
        })
    }

    /// What runs out, and who waits for it.
    #[inline]
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What happens to clients.
    #[inline]
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Who watches publications.
    #[inline]
    #[must_use]
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_queue(&self) -> u64 {
        self.next_queues(1)
    }

    /// The first of so many numbers that nobody else has.
    pub(crate) fn next_queues(&self, count: u64) -> u64 {
        self.next_queue.fetch_add(count, Ordering::Relaxed)
    }

    /// A number for a connection, unique in this process.
    pub fn new_connection(&self) -> u64 {
        self.next_id()
    }

    /// Text that nobody else has: 22 letters and digits. Not a secret.
    #[must_use]
    pub fn unique_name(&self) -> String {
        use std::hash::BuildHasher;
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let id = self.next_id();
        let halves = [
            self.names.hash_one((id, 0_u8)),
            self.names.hash_one((id, 1_u8)),
        ];
        let letter =
            |half: u64, place: u32| char::from(LETTERS[(half >> (place * 6) & 63) as usize]);
        halves
            .iter()
            .flat_map(|half| (0..11).map(move |place| letter(*half, place % 10)))
            .collect()
    }

    pub(crate) fn submit(&self, changes: Vec<Change>) -> u64 {
        self.definitions.submit(changes)
    }

    /// The vhost with this name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<VHost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// Every vhost, in name order.
    #[must_use]
    pub fn vhosts(&self) -> Vec<Arc<VHost>> {
        self.vhosts.read().values().cloned().collect()
    }

    /// The user with this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.find(name)
    }

    /// Opens a vhost for a user who has proved who it is. The one place where a client enters one.
    ///
    /// # Errors
    /// 530 for a vhost that is not there or not open to this user, and for a limit on connections;
    /// 403 for a user who may only come from loopback.
    pub fn open_vhost(
        self: &Arc<Self>,
        connection: u64,
        user: &str,
        vhost: &str,
        client_id: Option<&Arc<str>>,
        peer: IpAddr,
    ) -> Result<Arc<Link>, Refusal> {
        self.check_loopback(user, peer)?;
        let host = self
            .vhost(vhost)
            .ok_or_else(|| Refusal::not_allowed(format!("vhost {vhost} not found")))?;
        self.admit(&host, user)?;
        if self.users.grants(user, vhost).is_none() {
            self.dismiss(&host, user, 0);
            return Err(Refusal::not_allowed(format!(
                "access to vhost '{vhost}' refused for user '{user}'"
            )));
        }
        let link = Link::new(Arc::clone(self), host, connection, user, client_id);
        link.set_counted();
        Ok(link)
    }

    /// Whether a user may be in a vhost, without opening it.
    ///
    /// # Errors
    /// As [`Self::open_vhost`], but for limits.
    pub fn check_access(&self, user: &str, vhost: &str, peer: IpAddr) -> Result<(), Refusal> {
        self.check_loopback(user, peer)?;
        if self.users.grants(user, vhost).is_none() {
            return Err(Refusal::not_allowed(format!(
                "access to vhost '{vhost}' refused for user '{user}'"
            )));
        }
        Ok(())
    }

    /// Whether a user may come from this address.
    ///
    /// # Errors
    /// 403 with the rule's name and what lifts it.
    pub fn check_loopback(&self, user: &str, peer: IpAddr) -> Result<(), Refusal> {
        let restricted = self.options.loopback_users.iter().any(|name| name == user);
        if restricted && !peer.to_canonical().is_loopback() {
            return Err(Refusal::new(
                ReplyCode::AccessRefused,
                format!(
                    "user '{user}' can only connect via localhost (loopback_users); add another \
                     user, or set loopback_users.{user} = false"
                ),
            ));
        }
        Ok(())
    }

    /// A link with every right, for those who own the node.
    #[must_use]
    pub fn owner_link(self: &Arc<Self>, vhost: &Arc<VHost>) -> Arc<Link> {
        Link::for_owner(Arc::clone(self), Arc::clone(vhost))
    }

    /// Puts a connection on the list.
    pub fn register(&self, connection: u64, peer: Arc<dyn Peer>) {
        self.peers.insert(connection, peer);
    }

    /// Takes a connection off the list.
    pub fn deregister(&self, connection: u64) {
        self.peers.remove(&connection);
    }

    /// A connection by its number.
    #[must_use]
    pub fn peer(&self, connection: u64) -> Option<Arc<dyn Peer>> {
        self.peers.get(&connection).map(|held| Arc::clone(&held))
    }

    /// Connections on the list.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn unsorted_peers(&self) -> Vec<Arc<dyn Peer>> {
        let peers = self.peers.iter();
        peers.map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Every connection, oldest first.
    #[must_use]
    pub fn peers(&self) -> Vec<(u64, Arc<dyn Peer>)> {
        let mut all: Vec<_> = self
            .peers
            .iter()
            .map(|entry| (*entry.key(), Arc::clone(&entry)))
            .collect();
        all.sort_by_key(|(connection, _)| *connection);
        all
    }

    /// Ends the connections for which `which` holds; says how many.
    pub fn close_peers(&self, why: &CloseReason, which: impl Fn(&Arc<dyn Peer>) -> bool) -> usize {
        let chosen: Vec<_> = self
            .peers()
            .into_iter()
            .filter(|(_, peer)| which(peer))
            .collect();
        for (_, peer) in &chosen {
            peer.close(why);
        }
        chosen.len()
    }

    /// The value of a global runtime parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Arc<Value>> {
        self.parameters.read().get(name).cloned()
    }

    /// The vhost that `mqtt_port_to_vhost_mapping` names for a local port.
    #[must_use]
    pub fn vhost_of_port(&self, port: u16) -> Option<String> {
        match &*self.parameter("mqtt_port_to_vhost_mapping")? {
            Value::Table(map) => Some(map.lookup(&port.to_string())?.as_str()?.to_owned()),
            _ => None,
        }
    }

    /// Memory is short: queues leave what the journal has there, but for the first few of each.
    /// Says how many messages it has passed; called again, it goes on.
    pub fn page_out(&self) -> usize {
        let vhosts = self.vhosts();
        let queues = vhosts.iter().flat_map(|vhost| vhost.unsorted_queues());
        queues.map(|queue| queue.page_out()).sum()
    }

    /// Who is told when something is due earlier than before.
    pub fn drive(&self, driver: Arc<dyn Wake>) {
        self.timers.drive(driver);
    }

    /// The broker stops: what is scheduled and what absent clients left is dropped, and with it
    /// what it holds.
    pub fn stop(&self) {
        self.timers.clear();
        for vhost in self.vhosts() {
            vhost.claims.clear();
            vhost.clear_delayed();
            vhost.door().letters.clear();
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Does what is due at the turn's time, in a turn of its own; what is left when that is spent
    /// stays due.
    pub fn handle_timeout(self: &Arc<Self>, turn: &mut Turn) {
        turn.begin(turn.now);
        for _ in 0..DUE_PER_TURN_MAX {
            if turn.is_spent() {
                return;
            }
            let Some(due) = self.timers.take(turn.now) else {
                return;
            };
            match due {
                Due::Queue(vhost, queue) => {
                    if let (Some(vhost), Some(queue)) = (vhost.upgrade(), queue.upgrade()) {
                        self.look_at(turn, &vhost, &queue);
                    }
                }
                Due::Publish(scheduled) => scheduled.publish(turn),
                Due::Delayed(vhost, exchange, number) => {
                    if let (Some(vhost), Some(exchange)) = (vhost.upgrade(), exchange.upgrade()) {
                        vhost.let_go(turn, &exchange, number);
                    }
                }
                Due::DropDelayed(vhost) => {
                    if let Some(vhost) = vhost.upgrade() {
                        vhost.drop_some_delayed(turn.now);
                    }
                }
                Due::Letters(vhost) => {
                    if let Some(vhost) = vhost.upgrade() {
                        vhost.post_held(turn);
                    }
                }
                Due::Authority => self.reauthorise(turn),
                Due::Retained(vhost) => {
                    if let Some(vhost) = vhost.upgrade() {
                        self.sweep_retained(turn, &vhost);
                    }
                }
                Due::Recall(vhost, client_id) => {
                    if let Some(vhost) = vhost.upgrade() {
                        vhost.shelves.forget_client(&client_id);
                    }
                }
                Due::Forget(vhost, id, rest) => {
                    if let (Some(vhost), Some(rest)) = (vhost.upgrade(), rest.upgrade())
                        && vhost.claims.forget(&id, &rest)
                    {
                        rest.forgotten(turn);
                    }
                }
            }
            turn.check_time();
        }
    }

    /// Removes some of the retained messages that have expired.
    fn sweep_retained(&self, turn: &Turn, vhost: &Arc<VHost>) {
        let shelf = &vhost.shelves.retained;
        let (_, next) = vhost.retained.sweep(shelf, turn.now);
        self.look_at_retained(vhost, next);
    }

    /// Sets the timer for retained messages that expire.
    pub(crate) fn look_at_retained(&self, vhost: &Arc<VHost>, at: Option<Time>) {
        if let Some(at) = at {
            self.timers.add(at, Due::Retained(Arc::downgrade(vhost)));
        }
    }

    /// Drops a queue's messages that have expired, or deletes a queue that has been unused for its
    /// `x-expires`; or looks again later.
    fn look_at(&self, turn: &mut Turn, vhost: &Arc<VHost>, queue: &Arc<Queue>) {
        let now = turn.now;
        let unused = |held: &Conditions| {
            held.consumers == 0
                && held
                    .expires_ms
                    .is_some_and(|ms| held.unused_since.after_ms(ms) <= now)
        };
        queue.ring(turn);
        turn.post();
        if self.delete_queue_when(vhost, queue, unused).is_some() {
            tracing::debug!(queue = queue.name(), vhost = vhost.name(), "queue expired");
        } else {
            self.arm_expiry(vhost, queue);
        }
    }

    /// Sets the timer of a queue that nobody uses now.
    pub(crate) fn arm_expiry(&self, vhost: &Arc<VHost>, queue: &Arc<Queue>) {
        Self::note_idle(vhost, queue);
        queue.arm_expiry();
    }

    /// Has a restart know since when a queue is unused.
    pub(crate) fn note_idle(vhost: &VHost, queue: &Queue) {
        if queue.idle().is_some() {
            vhost.shelves.note_unused(queue);
        }
    }

    /// Deletes a queue if a condition holds: consumers are told, bindings go, definitions forget.
    /// Returns how many messages it had, and the number of the record that says so.
    pub(crate) fn delete_queue_when(
        &self,
        vhost: &Arc<VHost>,
        queue: &Arc<Queue>,
        when: impl FnOnce(&Conditions) -> bool,
    ) -> Option<(u32, u64)> {
        let recording = vhost.recording.lock();
        let retired = queue.retire(when)?;
        vhost.remove_queue(queue);
        if retired.armed {
            self.timers.lose();
        }
        let bindings = retired.bindings.into_all();
        let mut number = 0;
        if queue.journaled() {
            let mut changes = vec![load::forget_queue(vhost, queue)];
            changes.extend(load::forget_bindings(vhost, &bindings));
            number = self.submit(changes);
            vhost.gone_record.fetch_max(number, Ordering::AcqRel);
            self.journal.forget(queue.id());
            vhost.shelves.note_gone(queue.id());
        }
        drop(recording);
        // They lead nowhere: nobody needs to wait until all of them are out of their tables.
        let empty = vhost.detach_all(&bindings);
        for consumer in &retired.consumers {
            consumer.sink.cancelled(consumer.key);
        }
        for exchange in empty {
            number = number.max(self.delete_exchange(vhost, &exchange));
        }
        Some((retired.ready, number))
    }

    /// Deletes an exchange with its bindings, and what goes with its last one. Returns the number
    /// of the record that says so, 0 for none.
    pub(crate) fn delete_exchange(&self, vhost: &Arc<VHost>, exchange: &Arc<Exchange>) -> u64 {
        let mut number = 0;
        let mut todo = vec![Arc::clone(exchange)];
        while let Some(exchange) = todo.pop() {
            let recording = vhost.recording.lock();
            let Some((own, incoming)) = vhost.retire_exchange(&exchange) else {
                continue;
            };
            if exchange.properties().durable {
                let mut changes = vec![load::forget_exchange(vhost, exchange.name())];
                changes.extend(load::forget_bindings(vhost, &own));
                changes.extend(load::forget_bindings(vhost, &incoming));
                number = number.max(self.submit(changes));
            }
            drop(recording);
            vhost.drop_delayed(&exchange);
            own.iter().for_each(Bound::leave_destination);
            todo.extend(vhost.detach_all(&incoming));
        }
        number
    }

    pub(crate) fn record_queue(&self, vhost: &VHost, queue: &Queue) -> u64 {
        let number = self.submit(vec![load::record_queue(vhost, queue)]);
        queue.set_record(number);
        number
    }

    pub(crate) fn record_exchange(&self, vhost: &VHost, exchange: &Exchange) -> u64 {
        let number = self.submit(vec![load::record_exchange(vhost, exchange)]);
        exchange.record.fetch_max(number, Ordering::AcqRel);
        number
    }

    pub(crate) fn record_binding(&self, vhost: &VHost, bound: &Bound) -> Option<u64> {
        // One that is being taken out is forgotten already.
        let stands = bound.source().is_some_and(|source| !source.is_deleted());
        let recorded = stands && load::is_recorded(bound);
        recorded.then(|| self.submit(vec![load::record_binding(vhost, bound)]))
    }

    pub(crate) fn forget_binding(&self, vhost: &VHost, bound: &Bound) -> Option<u64> {
        let recorded = load::is_recorded(bound);
        recorded.then(|| self.submit(vec![load::forget_binding(vhost, bound)]))
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}
