//! Users, their tags and permissions: one table for the node, asked by every path of both
//! protocols.
//!
//! Passwords are opaque here: a stored hash goes to whoever verifies it. Each change moves the
//! authority epoch, and whoever remembers an answer asks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::limits;
use crate::permission::{Grants, TopicGrants};
use crate::quota::{Limits, OpenOfUsers};

/// A user.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// The stored hash; empty for a user who cannot log in with a password.
    pub password_hash: Box<str>,
    /// The stored verifier of SCRAM-SHA-256; empty for a user who cannot log in by it.
    pub scram: Box<str>,
    /// `administrator`, `monitoring`, `policymaker`, `management` or anything else.
    pub tags: Vec<Box<str>>,
    /// `max-connections` and `max-channels`.
    pub limits: Limits,
}

/// What is stored of a password.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct StoredPassword {
    /// [`User::password_hash`].
    pub hash: Box<str>,
    /// [`User::scram`].
    pub scram: Box<str>,
}

/// A hash that was made elsewhere: no verifier can be made of it.
impl From<String> for StoredPassword {
    fn from(hash: String) -> Self {
        Self {
            hash: hash.into(),
            scram: Box::default(),
        }
    }
}

impl std::fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredPassword").finish_non_exhaustive()
    }
}

/// All users and what they may do.
#[derive(Default)]
pub(crate) struct Users {
    epoch: AtomicU64,
    tables: RwLock<Tables>,
    pub(crate) open: OpenOfUsers,
}

#[derive(Default)]
struct Tables {
    users: BTreeMap<Box<str>, Arc<User>>,
    /// By user, then vhost.
    grants: HashMap<Box<str>, BTreeMap<Box<str>, Arc<Grants>>>,
}

impl Users {
    /// Moves with every change.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<User>> {
        self.tables.read().users.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<User>)> {
        let tables = self.tables.read();
        tables
            .users
            .iter()
            .map(|(name, user)| (name.clone(), Arc::clone(user)))
            .collect()
    }

    /// Creates or replaces a user; `false` if there is no room for another.
    pub(crate) fn put(&self, name: &str, user: User) -> bool {
        let mut tables = self.tables.write();
        if tables.users.len() >= limits::USERS_MAX && !tables.users.contains_key(name) {
            return false;
        }
        tables.users.insert(name.into(), Arc::new(user));
        drop(tables);
        self.changed();
        true
    }

    /// Removes a user with all permissions; returns the vhosts that it had any in, with topic
    /// exchanges.
    pub(crate) fn remove(&self, name: &str) -> Option<Vec<(Box<str>, Vec<Box<str>>)>> {
        let mut tables = self.tables.write();
        tables.users.remove(name)?;
        let grants = tables.grants.remove(name).unwrap_or_default();
        drop(tables);
        self.changed();
        let topics = |grants: &Grants| grants.topics.keys().cloned().collect();
        Some(
            grants
                .iter()
                .map(|(vhost, grants)| (vhost.clone(), topics(grants)))
                .collect(),
        )
    }

    pub(crate) fn grants(&self, user: &str, vhost: &str) -> Option<Arc<Grants>> {
        self.tables.read().grants.get(user)?.get(vhost).cloned()
    }

    /// The users that have grants in `vhost`, or all grants if that is `None`.
    pub(crate) fn all_grants(&self) -> Vec<(Box<str>, Box<str>, Arc<Grants>)> {
        let tables = self.tables.read();
        let mut all = Vec::new();
        for (user, vhosts) in &tables.grants {
            for (vhost, grants) in vhosts {
                all.push((user.clone(), vhost.clone(), Arc::clone(grants)));
            }
        }
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    /// Sets the three patterns, keeping what was said about topics.
    pub(crate) fn set_grants(&self, user: &str, vhost: &str, mut grants: Grants) {
        let mut tables = self.tables.write();
        let vhosts = tables.grants.entry(user.into()).or_default();
        if let Some(held) = vhosts.get(vhost) {
            grants.topics = held.topics.clone();
        }
        vhosts.insert(vhost.into(), Arc::new(grants));
        drop(tables);
        self.changed();
    }

    pub(crate) fn clear_grants(&self, user: &str, vhost: &str) -> Option<Arc<Grants>> {
        let mut tables = self.tables.write();
        let held = tables.grants.get_mut(user)?.remove(vhost);
        drop(tables);
        self.changed();
        held
    }

    /// Removes everything that was granted in a vhost.
    pub(crate) fn clear_vhost(&self, vhost: &str) -> Vec<(Box<str>, Arc<Grants>)> {
        let mut tables = self.tables.write();
        let mut cleared = Vec::new();
        for (user, vhosts) in &mut tables.grants {
            if let Some(grants) = vhosts.remove(vhost) {
                cleared.push((user.clone(), grants));
            }
        }
        drop(tables);
        self.changed();
        cleared
    }

    /// Sets or clears the patterns on one exchange's topics; `false` without permissions in that
    /// vhost.
    pub(crate) fn set_topics(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        topics: Option<TopicGrants>,
    ) -> bool {
        let mut tables = self.tables.write();
        let Some(held) = tables
            .grants
            .get_mut(user)
            .and_then(|held| held.get_mut(vhost))
        else {
            return false;
        };
        let mut grants = Grants::clone(held);
        match topics {
            Some(topics) => grants.topics.insert(exchange.into(), topics),
            None => grants.topics.remove(exchange),
        };
        *held = Arc::new(grants);
        drop(tables);
        self.changed();
        true
    }
}
