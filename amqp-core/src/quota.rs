//! Limits that administrators set on vhosts and users, and what of them is used.
//!
//! Owns the numbers. [`crate::broker::Broker::open_vhost`] and [`crate::link::Link`] ask.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::field::{Table, Value};
use crate::policy::term;

/// Which limits there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limited {
    /// Vhosts: connections and queues.
    VHost,
    /// Users: connections and channels.
    User,
}

impl Limited {
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::VHost => ["max-connections", "max-queues"],
            Self::User => ["max-connections", "max-channels"],
        }
    }

    /// The word in RabbitMQ's complaints.
    fn noun(self) -> &'static str {
        match self {
            Self::VHost => "limits",
            Self::User => "user-limits",
        }
    }
}

/// Limits by name, as they were set. A negative one is none; 0 allows nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Limits(BTreeMap<&'static str, i64>);

impl Limits {
    /// Reads limits as RabbitMQ does.
    ///
    /// # Errors
    /// What is wrong with them, in RabbitMQ's words.
    pub fn read(of: Limited, table: &Table) -> Result<Self, String> {
        let mut limits = Self::default();
        let mut unknown = Vec::new();
        let mut wrong = Vec::new();
        for (given, value) in table.iter() {
            let known = of.names().into_iter().find(|name| name.as_bytes() == given);
            let given = String::from_utf8_lossy(given);
            match (known, value.as_integer()) {
                (None, _) => unknown.push(format!("{{<<\"{given}\">>,{}}}", term(value))),
                (Some(name), Some(number)) => {
                    limits.0.insert(name, number);
                }
                (Some(name), None) => wrong.push(format!(
                    "{name} should be a number, actually was {}",
                    term(value)
                )),
            }
        }
        if !unknown.is_empty() {
            let unknown = unknown.join(",");
            wrong.insert(
                0,
                format!("Unrecognised terms [{unknown}] in {}", of.noun()),
            );
        }
        if wrong.is_empty() {
            return Ok(limits);
        }
        Err(wrong.join("\n"))
    }

    /// All that were set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.0.iter().map(|(name, number)| (*name, *number))
    }

    /// Nothing was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and those of `other` that are not set here.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (name, number) in &other.0 {
            self.0.entry(name).or_insert(*number);
        }
        self
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    fn max(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(|max| u64::try_from(*max).ok())
    }

    /// Connections at once.
    #[must_use]
    pub fn max_connections(&self) -> Option<u64> {
        self.max("max-connections")
    }

    /// Queues of a vhost.
    #[must_use]
    pub fn max_queues(&self) -> Option<u64> {
        self.max("max-queues")
    }

    /// Channels of a user, over all its connections.
    #[must_use]
    pub fn max_channels(&self) -> Option<u64> {
        self.max("max-channels")
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        for (name, number) in &self.0 {
            // Our own names are far below the limit of 255 bytes.
            let _ = table.insert(name, Value::I64(*number));
        }
        table
    }
}

/// How many of something there are.
#[derive(Debug, Default)]
pub(crate) struct Used(AtomicU64);

impl Used {
    /// One more, unless that would be too many.
    pub(crate) fn take(&self, max: Option<u64>) -> bool {
        let more = |used: u64| (used < max.unwrap_or(u64::MAX)).then_some(used + 1);
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok()
    }

    pub(crate) fn give_back(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }
}

/// What the users of a node have open.
#[derive(Default)]
pub(crate) struct OpenOfUsers(Mutex<HashMap<Box<str>, Open, RandomState>>);

/// What one user has open.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    connections: u64,
    channels: u64,
}

impl OpenOfUsers {
    /// One more connection, unless that would be too many.
    pub(crate) fn take_connection(&self, user: &str, max: Option<u64>) -> bool {
        self.take(user, max, |open| &mut open.connections)
    }

    /// One more channel, unless that would be too many.
    pub(crate) fn take_channel(&self, user: &str, max: Option<u64>) -> bool {
        self.take(user, max, |open| &mut open.channels)
    }

    fn take(&self, user: &str, max: Option<u64>, which: fn(&mut Open) -> &mut u64) -> bool {
        let mut all = self.0.lock();
        let held = all.get(user).copied();
        let mut open = held.unwrap_or_default();
        let count = which(&mut open);
        if *count >= max.unwrap_or(u64::MAX) {
            return false;
        }
        *count += 1;
        match all.get_mut(user) {
            Some(place) => *place = open,
            None => {
                all.insert(user.into(), open);
            }
        }
        true
    }

    /// So many are closed.
    pub(crate) fn give_back(&self, user: &str, connections: u64, channels: u64) {
        let mut all = self.0.lock();
        let Some(open) = all.get_mut(user) else {
            return;
        };
        open.connections = open.connections.saturating_sub(connections);
        open.channels = open.channels.saturating_sub(channels);
        if open.connections == 0 && open.channels == 0 {
            all.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> Table {
        let mut table = Table::new();
        for (name, value) in entries {
            table.insert(name, value.clone()).expect("short");
        }
        table
    }

    #[test]
    fn o2_limits_are_read_as_rabbitmq_reads_them() {
        let number = |number| Value::I64(number);
        let read = |of, entries: &[(&str, Value)]| Limits::read(of, &table(entries));
        let limits = read(Limited::VHost, &[("max-queues", number(5))]).expect("is fine");
        assert_eq!(
            (limits.max_queues(), limits.max_connections()),
            (Some(5), None)
        );
        let none = read(Limited::User, &[("max-channels", number(-1))]).expect("is fine");
        assert_eq!(none.max_channels(), None, "negative is no limit");
        let nothing = read(Limited::User, &[("max-connections", number(0))]).expect("is fine");
        assert_eq!(nothing.max_connections(), Some(0), "0 allows nothing");
        assert_eq!(
            read(Limited::VHost, &[("max-channels", number(2))]),
            Err("Unrecognised terms [{<<\"max-channels\">>,2}] in limits".to_owned())
        );
        assert_eq!(
            read(Limited::User, &[("max-channels", Value::from("x"))]),
            Err("max-channels should be a number, actually was <<\"x\">>".to_owned())
        );
    }

    #[test]
    fn o2_nobody_has_more_than_the_limit() {
        let users = OpenOfUsers::default();
        assert!(users.take_connection("anna", Some(1)));
        assert!(!users.take_connection("anna", Some(1)));
        assert!(
            users.take_connection("bert", Some(1)),
            "each has an own one"
        );
        users.give_back("anna", 1, 0);
        assert!(users.take_connection("anna", Some(1)));
        let used = Used::default();
        assert!(!used.take(Some(0)) && used.take(None) && !used.take(Some(1)));
        used.give_back(1);
        assert!(used.take(Some(1)));
    }
}
