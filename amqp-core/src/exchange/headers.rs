//! The headers exchange: binding arguments against the message's headers, all of them or any
//! (`x-match`).

use std::sync::Arc;

use super::Binding;
use crate::field::{Table, Value};
use crate::message::MessageRef;
use crate::properties::BasicProperties;

#[derive(Default)]
pub(super) struct Bindings(Vec<(Match, Arc<Binding>)>);

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
    pub(super) fn insert(&mut self, binding: &Arc<Binding>) {
        self.0
            .push((Match::of(&binding.arguments), Arc::clone(binding)));
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>) {
        self.0.retain(|(_, held)| !Arc::ptr_eq(held, binding));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Arc<Binding>> {
        self.0
            .iter()
            .map(|(_, binding)| Arc::clone(binding))
            .collect()
    }

    pub(super) fn each_match(
        &self,
        message: &MessageRef<'_>,
        found: &mut dyn FnMut(&Arc<Binding>),
    ) {
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
        for (rule, binding) in &self.0 {
            if rule.holds(&binding.arguments, &headers) {
                found(binding);
            }
        }
    }
}
