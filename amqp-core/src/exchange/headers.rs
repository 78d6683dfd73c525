//! The headers exchange: binding arguments against the message's headers, all of them or any
//! (`x-match`).

use hashbrown::HashTable;

use super::Bound;
use super::set::{shrink, spread};
use crate::field::{Table, Value};
use crate::message::MessageRef;
use crate::properties::BasicProperties;

/// By identity.
#[derive(Default)]
pub(super) struct Bindings(HashTable<Rule>);

/// A binding with its arguments, ready to be held against headers.
struct Rule {
    bound: Bound,
    rule: Match,
    arguments: Table,
}

fn hash(rule: &Rule) -> u64 {
    spread(rule.bound.identity())
}

/// `x-match` of RabbitMQ: whether all or any must fit, and whether names that begin with `x-` take
/// part.
#[derive(Clone, Copy)]
struct Match {
    any: bool,
    with_x: bool,
}

impl Match {
    fn of(arguments: &Table) -> Self {
        let word = match arguments.lookup("x-match") {
            Some(Value::LongString(word)) => &word[..],
            _ => b"all",
        };
        Self {
            any: word.starts_with(b"any"),
            with_x: word.ends_with(b"-with-x"),
        }
    }

    fn holds(self, arguments: &Table, headers: &[(&[u8], Value)]) -> bool {
        let wanted = arguments
            .iter()
            .filter(|(name, _)| *name != b"x-match" && (self.with_x || !name.starts_with(b"x-")));
        let mut wanted = wanted.map(|(name, value)| {
            let held = headers.iter().find(|(other, _)| *other == name);
            // Void asks only that the header is there (AMQP 0-9-1 §3.1.3.4).
            held.is_some_and(|(_, held)| matches!(value, Value::Void) || held.equivalent(value))
        });
        if self.any {
            wanted.any(|fits| fits)
        } else {
            wanted.all(|fits| fits)
        }
    }
}

impl Bindings {
    pub(super) fn insert(&mut self, bound: &Bound) {
        // They were encoded here, or came off the wire.
        let arguments = Table::decode(bound.arguments()).unwrap_or_default();
        let rule = Rule {
            bound: bound.clone(),
            rule: Match::of(&arguments),
            arguments,
        };
        self.0.insert_unique(hash(&rule), rule, hash);
    }

    pub(super) fn remove(&mut self, bound: &Bound) -> bool {
        let same = |held: &Rule| held.bound.same(bound);
        let Ok(entry) = self.0.find_entry(spread(bound.identity()), same) else {
            return false;
        };
        entry.remove();
        shrink(&mut self.0, hash);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        self.0.iter().for_each(|rule| visit(&rule.bound));
    }

    pub(super) fn each_match(&self, message: &MessageRef<'_>, found: &mut dyn FnMut(&Bound)) {
        if self.0.is_empty() {
            return;
        }
        let mut raw = Vec::new();
        message
            .head
            .origin
            .append_basic_properties(message, &mut raw);
        let parsed = BasicProperties::parse(&raw);
        let table = parsed.ok().and_then(|properties| properties.headers);
        let headers: Vec<(&[u8], Value)> = table
            .map(|table| {
                table
                    .entries()
                    .map(|(name, value)| (name, value.to_value()))
                    .collect()
            })
            .unwrap_or_default();
        for held in &self.0 {
            if held.rule.holds(&held.arguments, &headers) {
                found(&held.bound);
            }
        }
    }
}
