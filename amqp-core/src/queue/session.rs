//! Whose session a queue is a part of.
//!
//! Owns the user and the client identifier of the session that an MQTT client's queue belongs to,
//! as long as there is the queue: a restart finds them in its record. Listings do not show them,
//! because no argument of the queue says them. The core does not know what a session is: it is told
//! where in a queue's name the identifier stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Queue;
use crate::field::{Table, Value};
use crate::records::{self, text};
use crate::vhost::VHost;

/// Where in the names of its queues a session's client identifier stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdPlace {
    /// Bytes before it.
    pub before: u8,
    /// Bytes behind it.
    pub behind: u8,
}

/// Whose session it is: one value for all sessions of a user, shared by their queues.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionTerms {
    /// The user that owns the session.
    pub user: Box<str>,
    /// Where the client identifier is found.
    pub place: IdPlace,
}

impl SessionTerms {
    /// The client identifier, in the name of a queue of the session.
    #[must_use]
    pub fn client_id<'a>(&self, queue: &'a str) -> &'a str {
        let end = queue.len().saturating_sub(self.place.behind.into());
        queue
            .get(usize::from(self.place.before)..end)
            .unwrap_or_default()
    }

    /// The field of a queue's record.
    pub(crate) fn table(&self) -> Table {
        records::table([
            ("user", Value::from(&*self.user)),
            ("before", Value::I64(self.place.before.into())),
            ("behind", Value::I64(self.place.behind.into())),
        ])
    }

    /// What a record says; nothing if it is from before sessions had owners.
    pub(crate) fn read(record: &Table) -> Option<Self> {
        let Some(Value::Table(session)) = record.lookup("session") else {
            return None;
        };
        let bytes = |name| {
            let held = session.lookup(name).and_then(Value::as_integer)?;
            u8::try_from(held).ok()
        };
        Some(Self {
            user: text(session, "user"),
            place: IdPlace {
                before: bytes("before")?,
                behind: bytes("behind")?,
            },
        })
    }
}

/// A session that has queues, as listings tell of it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The user that owns it.
    pub user: Box<str>,
    /// Its queues, in name order.
    pub queues: Vec<Arc<Queue>>,
}

impl Queue {
    /// Whose session it is a part of, if it is of one.
    #[must_use]
    pub fn session(&self) -> Option<Arc<SessionTerms>> {
        let state = self.state.lock();
        state.given.as_ref()?.session.clone()
    }

    /// It belongs to this session from now on. `false`: it did before.
    pub(crate) fn set_session(&self, vhost: &VHost, session: &Arc<SessionTerms>) -> bool {
        let mut state = self.state.lock();
        if state.session() == Some(session) {
            return false;
        }
        let (table, applied) = (state.table(), state.applied());
        let asked = super::QueueArguments::parse_kept(&table).unwrap_or_default();
        state.given = vhost
            .alike
            .share(&table, asked, applied, self.direct, Some(session));
        true
    }
}

impl VHost {
    /// The user that owns the session with these queues, if one of them says so.
    pub(crate) fn session_owner(&self, queues: &[String]) -> Option<Box<str>> {
        let mut held = queues.iter().filter_map(|name| self.queue(name));
        held.find_map(|queue| Some(queue.session()?.user.clone()))
    }

    /// The sessions that have queues, by client identifier.
    #[must_use]
    pub fn sessions(&self) -> BTreeMap<Box<str>, SessionView> {
        let mut sessions: BTreeMap<Box<str>, SessionView> = BTreeMap::new();
        for queue in self.queues() {
            let Some(terms) = queue.session() else {
                continue;
            };
            let id = terms.client_id(queue.name()).into();
            let held = sessions.entry(id).or_insert_with(|| SessionView {
                user: terms.user.clone(),
                queues: Vec::new(),
            });
            held.queues.push(queue);
        }
        sessions
    }
}
