//! Exchanges: how a message finds its queues.
//!
//! Each kind has its own file with its own matching. An exchange's bindings stand behind a
//! read-write lock that publishers seldom touch: what a key resolved to is remembered by publisher
//! and worker ([`RouteCache`], [`Memo`]) until something changes that it depends on ([`epochs`]).
//!
//! Whatever the number of bindings, making one, finding one and removing one costs a look-up or
//! two: under its key in its source, by its identity at its destination.

mod binding;
mod cache;
mod delayed;
mod direct;
pub(crate) mod epochs;
mod exact;
mod hash;
mod headers;
mod history;
pub(crate) mod kind;
mod picks;
mod route;
mod set;
#[cfg(test)]
mod tests;
mod topic;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

use self::epochs::Topology;
use self::kind::{HashOn, Rules};
use crate::events;
use crate::field::Table;
use crate::key::{self, Form, Translated};
use crate::limits::HASHED_BINDINGS_MAX;
use crate::message::MessageRef;

pub use binding::{Binding, BindingView, Destination};
pub(crate) use binding::{Bound, End, Terms};
pub use cache::Memo;
pub(crate) use cache::{Found, Known, Route, RouteCache};
pub(crate) use delayed::{Delayed, Waiting};
pub(crate) use history::Noted;
pub use kind::ExchangeKind;
pub(crate) use route::{NoWay, Search, Stop, borrowed, each_once};
pub(crate) use set::{Attached, BindingSet, shrink};

/// What a declaration says about an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeProperties {
    /// How it matches.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding, once it had one.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// The arguments as declared.
    pub arguments: Table,
}

/// One count for all brokers of the process: a worker remembers routes by it, and may serve one
/// broker after another.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An exchange with its bindings.
pub struct Exchange {
    /// No other exchange of the process has it, or had it.
    pub(crate) id: u64,
    name: Arc<str>,
    properties: ExchangeProperties,
    /// What its arguments come to.
    rules: Rules,
    /// Where a policy sends what matches nothing, unless an argument does.
    policy_alternate: RwLock<Option<Arc<str>>>,
    /// What its bindings' identities are hashed with.
    hasher: RandomState,
    router: RwLock<Router>,
    /// Bindings from other exchanges that lead here.
    incoming: Mutex<BindingSet>,
    deleted: AtomicBool,
    /// The number of its record: whoever says that the exchange is there waits for it.
    pub(crate) record: AtomicU64,
}

enum Router {
    Direct(direct::Bindings),
    Fanout(BindingSet),
    Topic(topic::Bindings),
    Headers(headers::Bindings),
    Hash(hash::Bindings),
    Picks(picks::Bindings),
    History(history::Bindings),
}

impl Router {
    fn of(rules: &Rules) -> Self {
        match rules.matching {
            // What delays has no bindings of a kind of its own: its rules name another.
            ExchangeKind::Direct | ExchangeKind::Delayed => {
                Self::Direct(direct::Bindings::default())
            }
            ExchangeKind::Fanout => Self::Fanout(BindingSet::Empty),
            ExchangeKind::Topic => Self::Topic(topic::Bindings::default()),
            ExchangeKind::Headers => Self::Headers(headers::Bindings::default()),
            ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash => {
                Self::Hash(hash::Bindings::default())
            }
            ExchangeKind::Random | ExchangeKind::LocalRandom => {
                Self::Picks(picks::Bindings::default())
            }
            ExchangeKind::RecentHistory => Self::History(history::Bindings::new(rules.history)),
        }
    }

    fn insert(&mut self, dotted: &[u8], bound: &Bound) {
        match self {
            Self::Direct(bindings) => bindings.insert(dotted, bound),
            Self::Fanout(bindings) => bindings.insert((), bound.clone()),
            Self::Topic(bindings) => bindings.insert(dotted, bound),
            Self::Headers(bindings) => bindings.insert(bound),
            Self::Hash(bindings) => bindings.insert(bound),
            Self::Picks(bindings) => bindings.insert(bound),
            Self::History(bindings) => bindings.set.insert((), bound.clone()),
        }
    }

    /// Says whether it was there.
    fn remove(&mut self, dotted: &[u8], bound: &Bound) -> bool {
        match self {
            Self::Direct(bindings) => bindings.remove(dotted, bound),
            Self::Fanout(bindings) => bindings.remove(bound),
            Self::Topic(bindings) => bindings.remove(dotted, bound),
            Self::Headers(bindings) => bindings.remove(bound),
            Self::Hash(bindings) => bindings.remove(bound),
            Self::Picks(bindings) => bindings.remove(bound),
            Self::History(bindings) => bindings.set.remove(bound),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Direct(bindings) => bindings.len(),
            Self::Fanout(bindings) => bindings.len(),
            Self::Topic(bindings) => bindings.len(),
            Self::Headers(bindings) => bindings.len(),
            Self::Hash(bindings) => bindings.len(),
            Self::Picks(bindings) => bindings.len(),
            Self::History(bindings) => bindings.set.len(),
        }
    }

    /// All of them, in no order.
    fn all(&self) -> Vec<Bound> {
        let mut all = Vec::with_capacity(self.len());
        let add = |bound: &Bound| all.push(bound.clone());
        match self {
            Self::Direct(bindings) => bindings.for_each(add),
            Self::Fanout(bindings) => bindings.for_each(add),
            Self::Topic(bindings) => bindings.for_each(add),
            Self::Headers(bindings) => bindings.for_each(add),
            Self::Hash(bindings) => bindings.for_each(add),
            Self::Picks(bindings) => bindings.for_each(add),
            Self::History(bindings) => bindings.set.for_each(add),
        }
        all
    }

    /// Whether another binding would be more than a message may be held against.
    fn is_full(&self) -> bool {
        matches!(self, Self::Hash(bindings) if bindings.len() >= HASHED_BINDINGS_MAX)
    }
}

impl Exchange {
    /// Its arguments were checked by [`Rules::parse`]; what that refuses is as if it were not
    /// there.
    pub(crate) fn new(name: &str, properties: ExchangeProperties) -> Self {
        let (kind, arguments) = (properties.kind, &properties.arguments);
        let rules = Rules::parse(kind, arguments).unwrap_or_else(|_| Rules::of(kind));
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            hasher: RandomState::default(),
            router: RwLock::new(Router::of(&rules)),
            properties,
            rules,
            policy_alternate: RwLock::default(),
            incoming: Mutex::default(),
            deleted: AtomicBool::new(false),
            record: AtomicU64::new(0),
        }
    }

    /// The exchange's name; the default exchange's is empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declaration.
    #[must_use]
    pub fn properties(&self) -> &ExchangeProperties {
        &self.properties
    }

    /// The one without a name, to which every queue is bound under its own.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.is_empty()
    }

    /// How it matches; what delays matches as the kind behind it.
    pub(crate) fn matching(&self) -> ExchangeKind {
        self.rules.matching
    }

    /// Where messages go that match nothing: as its declaration says, or else a policy.
    fn alternate(&self) -> Option<Arc<str>> {
        match &self.rules.alternate {
            Some(name) => Some(Arc::from(&**name)),
            None => self.policy_alternate.read().clone(),
        }
    }

    /// A policy says where messages go that match nothing.
    pub(crate) fn set_alternate(&self, topology: &Topology, alternate: Option<&str>) {
        let alternate = alternate.map(Into::into);
        if std::mem::replace(&mut *self.policy_alternate.write(), alternate.clone()) != alternate {
            topology.renew();
        }
    }

    /// Whether a route through it depends on nothing but keys and bindings, and leaves nothing
    /// behind.
    fn is_cacheable(&self) -> bool {
        let matching = match self.rules.matching {
            ExchangeKind::Direct
            | ExchangeKind::Fanout
            | ExchangeKind::Topic
            | ExchangeKind::ModulusHash => true,
            ExchangeKind::ConsistentHash => self.rules.hash_on == HashOn::Key,
            ExchangeKind::Headers
            | ExchangeKind::Random
            | ExchangeKind::LocalRandom
            | ExchangeKind::RecentHistory
            | ExchangeKind::Delayed => false,
        };
        matching && self.properties.kind != ExchangeKind::Delayed
    }

    /// Makes a binding to `end`, unless an equal one is there. When it returns, every route that
    /// is used from now on has it. `history`: what its end is to get of what was published before.
    pub(crate) fn attach(
        self: &Arc<Self>,
        topology: &Topology,
        end: End<'_>,
        terms: &Terms<'_>,
        history: &mut Vec<Noted>,
    ) -> Attached {
        let address = end.address();
        let identity = self.identity(end, terms);
        let same = |held: &Bound| held.is(self, address, terms);
        let make = || Bound::new(self, end, terms, identity);
        let mut room = Translated::new();
        let dotted = key::dotted(terms.key, terms.form, &mut room);
        // Held over all of it: who finds an equal binding at the destination must not say that it
        // is there before messages find it too.
        let mut router = self.router.write();
        if self.is_deleted() {
            return Attached::Gone;
        }
        if router.is_full() {
            return Attached::SourceFull;
        }
        let attached = match end {
            End::Queue(queue) => queue.add_binding(identity, same, make),
            End::Exchange(to) => to.add_incoming(identity, same, make),
        };
        if let Attached::Made(bound) = &attached {
            router.insert(dotted, bound);
            if let Router::History(bindings) = &*router {
                *history = bindings.recall();
            }
            topology.rebound(self.rules.matching, self.id, dotted);
            if events::is_listener(&self.name, dotted) {
                topology.add_listener();
            }
        }
        attached
    }

    /// Removes a binding from here and from its destination; says whether any is left here, `None`
    /// if it was removed before.
    pub(crate) fn detach(&self, topology: &Topology, bound: &Bound) -> Option<bool> {
        let mut room = Translated::new();
        let dotted = key::dotted(bound.key(), bound.form(), &mut room);
        let mut router = self.router.write();
        if !router.remove(dotted, bound) {
            return None;
        }
        bound.leave_destination();
        topology.rebound(self.rules.matching, self.id, dotted);
        if events::is_listener(&self.name, dotted) {
            topology.remove_listener();
        }
        Some(router.len() > 0)
    }

    /// The hash of a binding from here.
    pub(crate) fn identity(&self, end: End<'_>, terms: &Terms<'_>) -> u32 {
        let parts = (end.address(), terms.form, terms.key, terms.arguments);
        self.hasher.hash_one(parts) as u32
    }

    /// Nothing is bound to it or from it any more.
    pub(crate) fn retire(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Takes the bindings that lead here; none comes any more once it is retired.
    pub(crate) fn take_incoming(&self) -> Vec<Bound> {
        std::mem::take(&mut *self.incoming.lock()).into_all()
    }

    /// Takes its own bindings; none comes any more once it is retired.
    pub(crate) fn take_bindings(&self, topology: &Topology) -> Vec<Bound> {
        let empty = Router::of(&self.rules);
        let taken = std::mem::replace(&mut *self.router.write(), empty).all();
        for bound in &taken {
            let mut room = Translated::new();
            let dotted = key::dotted(bound.key(), bound.form(), &mut room);
            if events::is_listener(&self.name, dotted) {
                topology.remove_listener();
            }
        }
        taken
    }

    /// How many bindings it has.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.router.read().len()
    }

    fn add_incoming(
        &self,
        identity: u32,
        same: impl Fn(&Bound) -> bool,
        make: impl FnOnce() -> Bound,
    ) -> Attached {
        let mut incoming = self.incoming.lock();
        if self.is_deleted() {
            return Attached::Gone;
        }
        incoming.admit(identity, same, make)
    }

    pub(crate) fn remove_incoming(&self, bound: &Bound) {
        self.incoming.lock().remove(bound);
    }

    /// The binding with these terms that leads here from `source`.
    pub(crate) fn find_incoming(
        self: &Arc<Self>,
        source: &Self,
        terms: &Terms<'_>,
    ) -> Option<Bound> {
        let end = End::Exchange(self);
        let identity = source.identity(end, terms);
        let same = |held: &Bound| held.is(source, end.address(), terms);
        self.incoming.lock().find(identity, same).cloned()
    }

    pub(crate) fn bound(&self) -> Vec<Bound> {
        self.router.read().all()
    }

    /// Copies of all its bindings, in no order, made as they are asked for.
    pub fn bindings(&self) -> impl ExactSizeIterator<Item = Binding> + use<> {
        self.bound().into_iter().map(|bound| bound.copy())
    }

    /// Whether anything is bound.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.router.read().len() > 0
    }

    /// Calls `found` for every binding that the message matches.
    fn each_match(
        &self,
        message: &MessageRef<'_>,
        search: &Search<'_>,
        steps: &mut u32,
        found: &mut dyn FnMut(&Bound),
    ) {
        match &*self.router.read() {
            Router::Direct(bindings) => search
                .keys()
                .for_each(|key| bindings.each_match(key, found)),
            Router::Fanout(bindings) => bindings.for_each(found),
            Router::Topic(bindings) => {
                let keys = (message.key, search.dotted);
                bindings.each_match(message.head.form, keys, steps, found);
                for key in search.more {
                    bindings.each_match(Form::Dotted, (key, key), steps, found);
                }
            }
            Router::Headers(bindings) => bindings.each_match(message, found),
            Router::Picks(bindings) => bindings.each_match(found),
            Router::Hash(bindings) if self.rules.matching == ExchangeKind::ModulusHash => {
                bindings.by_modulus(search, found);
            }
            Router::Hash(bindings) => {
                bindings.by_weight(&self.rules.hash_on, message, search, found);
            }
            Router::History(bindings) => {
                if !search.kept_back {
                    bindings.note(message, search.more);
                }
                bindings.set.for_each(found);
            }
        }
    }

    /// Takes note of a message that was kept back, for bindings to come.
    pub(crate) fn note(&self, message: &MessageRef<'_>, more: &[&[u8]]) {
        if let Router::History(bindings) = &*self.router.read() {
            bindings.note(message, more);
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
