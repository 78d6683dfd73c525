//! What follows when users or permissions change: whoever has something by what was allowed before
//! is asked about again, a bounded piece at a time.
//!
//! Connections ask for themselves, in turns of their own. For absent clients it is done here: the
//! bindings of their sessions' queues go that may not be read any more, and the sessions of users
//! who are deleted go as a whole. What waits in queues is asked about when it is delivered, wills
//! when they are published.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::claims::Leftover;
use crate::exchange::Binding;
use crate::key::Form;
use crate::limits::AUTHORITY_STEPS_PER_TURN;
use crate::link::{BindQueue, Link};
use crate::peer::Peer;
use crate::queue::Queue;
use crate::time::Time;
use crate::timers::Due;
use crate::turn::Turn;
use crate::vhost::VHost;

/// Users whose permissions have changed, and how far it is with asking.
#[derive(Default)]
pub(crate) struct Authority(Mutex<State>);

#[derive(Default)]
struct State {
    changed: HashSet<Box<str>>,
    /// A timer is set.
    due: bool,
    sweep: Option<Sweep>,
}

/// One way through everything.
struct Sweep {
    users: HashSet<Box<str>>,
    peers: std::vec::IntoIter<Arc<dyn Peer>>,
    vhosts: std::vec::IntoIter<Arc<VHost>>,
    part: Option<Part>,
}

/// One vhost of it.
struct Part {
    vhost: Arc<VHost>,
    left: std::vec::IntoIter<(Box<str>, Arc<dyn Leftover>)>,
    queues: std::vec::IntoIter<Arc<Queue>>,
    session: Option<Session>,
    /// Of the user who was asked about last, if it is good for all client identifiers.
    link: Option<Arc<Link>>,
}

/// One queue of a session, and which of its bindings are still to be asked about.
struct Session {
    queue: Arc<Queue>,
    link: Arc<Link>,
    client_id: Arc<str>,
    bindings: Box<dyn Iterator<Item = Binding> + Send>,
}

impl Broker {
    /// A user may do less or more than before.
    pub(crate) fn authority_changed(&self, user: &str) {
        let mut state = self.authority.0.lock();
        state.changed.insert(user.into());
        if !std::mem::replace(&mut state.due, true) {
            // At once.
            self.timers.add(Time(0), Due::Authority);
        }
    }

    /// Asks about some; sets the timer again if that was not all.
    pub(crate) fn reauthorise(self: &Arc<Self>, turn: &mut Turn) {
        let mut state = self.authority.0.lock();
        let users = match state.sweep {
            Some(_) => HashSet::new(),
            None => std::mem::take(&mut state.changed),
        };
        let sweep = state.sweep.take();
        drop(state);
        let mut sweep = sweep.unwrap_or_else(|| Sweep {
            users,
            peers: self.unsorted_peers().into_iter(),
            vhosts: self.vhosts().into_iter(),
            part: None,
        });
        let mut steps = 0..AUTHORITY_STEPS_PER_TURN;
        let over = !steps.all(|_| sweep.step(self, turn));
        let mut state = self.authority.0.lock();
        state.sweep = (!over).then_some(sweep);
        state.due = state.sweep.is_some() || !state.changed.is_empty();
        if state.due {
            self.timers.add(turn.now, Due::Authority);
        }
    }
}

impl Sweep {
    /// Asks about one more; `false` if there is none.
    fn step(&mut self, broker: &Arc<Broker>, turn: &mut Turn) -> bool {
        if let Some(peer) = self.peers.next() {
            peer.permissions_changed(&self.users);
            return true;
        }
        let Some(part) = &mut self.part else {
            let Some(vhost) = self.vhosts.next() else {
                return false;
            };
            self.part = Some(Part {
                left: vhost.claims.left().into_iter(),
                queues: vhost.unsorted_queues().into_iter(),
                vhost,
                session: None,
                link: None,
            });
            return true;
        };
        if !part.step(broker, &self.users, turn) {
            self.part = None;
        }
        true
    }
}

impl Part {
    fn step(&mut self, broker: &Arc<Broker>, users: &HashSet<Box<str>>, turn: &mut Turn) -> bool {
        if let Some((id, rest)) = self.left.next() {
            let user = rest.user();
            if !users.contains(user) {
                return true;
            }
            if broker.user(user).is_some() {
                rest.reauthorise();
            } else if self.vhost.claims.forget(&id, &rest) {
                rest.forgotten(turn);
            }
            return true;
        }
        if let Some(session) = &mut self.session {
            match session.bindings.next() {
                Some(binding) => session.ask(&self.vhost, broker, binding),
                None => self.session = None,
            }
            return true;
        }
        let Some(queue) = self.queues.next() else {
            return false;
        };
        self.look_at(broker, users, queue);
        true
    }

    /// Begins with a queue, if it is one of a session of these users.
    fn look_at(&mut self, broker: &Arc<Broker>, users: &HashSet<Box<str>>, queue: Arc<Queue>) {
        let Some(terms) = queue.session() else {
            return;
        };
        if !users.contains(&terms.user) {
            return;
        }
        let (user, vhost) = (&*terms.user, self.vhost.name());
        let client_id = terms.client_id(queue.name());
        if broker.user(user).is_none() {
            let name = queue.name();
            tracing::info!(
                user,
                vhost,
                client_id,
                queue = name,
                "session of a deleted user ended"
            );
            broker.delete_queue_when(&self.vhost, &queue, |_| true);
            self.vhost.shelves.forget_client(client_id);
            return;
        }
        let client_id: Arc<str> = client_id.into();
        let link = match self.link.take().filter(|link| link.user() == user) {
            Some(link) => link,
            None => {
                let (broker, vhost) = (Arc::clone(broker), Arc::clone(&self.vhost));
                Link::new(broker, vhost, 0, user, Some(&client_id))
            }
        };
        let alike = broker.users.grants(user, vhost).is_none_or(|grants| {
            let mut topics = grants.topics.values();
            topics.all(|topics| !topics.read.contains("client_id"))
        });
        self.link = alike.then(|| Arc::clone(&link));
        self.session = Some(Session {
            bindings: Box::new(queue.bindings()),
            queue,
            link,
            client_id,
        });
    }
}

impl Session {
    /// Removes a subscription's binding whose owner may not read what it brings.
    fn ask(&self, vhost: &VHost, broker: &Broker, binding: Binding) {
        let exchange = &*broker.options().mqtt_exchange;
        let source = binding.source.upgrade();
        let ours = source.is_some_and(|source| source.name() == exchange);
        if !ours || binding.form != Form::Slashed {
            return;
        }
        let key = &*binding.key;
        let Err(refusal) = self.link.may_bind_from(exchange, key, binding.form) else {
            return;
        };
        let filter = String::from_utf8_lossy(key);
        tracing::info!(
            user = self.link.user(), vhost = vhost.name(), client_id = &*self.client_id,
            %filter, why = %refusal.text, "subscription ended"
        );
        self.link.queue_unbind_own(&BindQueue {
            queue: self.queue.name(),
            exchange,
            key,
            form: binding.form,
            arguments: binding.arguments,
        });
    }
}
