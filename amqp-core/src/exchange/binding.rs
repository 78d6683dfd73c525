//! A binding: from an exchange, under a key, to a queue or another exchange.

use std::sync::Weak;

use super::Exchange;
use crate::field::Table;
use crate::key::Form;
use crate::queue::Queue;

/// Where a binding leads. Weak: the destination holds its bindings, not they it.
pub enum Destination {
    /// A queue.
    Queue(Weak<Queue>),
    /// Another exchange.
    Exchange(Weak<Exchange>),
}

/// One binding. Its identity is source, destination, key, form and arguments.
pub struct Binding {
    /// Where messages come from.
    pub source: Weak<Exchange>,
    /// Where they go.
    pub destination: Destination,
    /// The binding key as it was given, see [`Self::form`].
    pub key: Box<[u8]>,
    /// How the key is written.
    pub form: Form,
    /// The arguments; empty for nearly all.
    pub arguments: Table,
}

/// What is told of a binding.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingView {
    /// The exchange's name.
    pub source: String,
    /// The destination's name.
    pub destination: String,
    /// `queue` or `exchange`.
    pub destination_kind: &'static str,
    /// The key in dotted form.
    pub routing_key: String,
    /// The arguments.
    pub arguments: Table,
}

impl Binding {
    /// The destination's name, empty if it is gone.
    #[must_use]
    pub fn destination_name(&self) -> String {
        match &self.destination {
            Destination::Queue(queue) => queue.upgrade().map(|q| q.name().to_owned()),
            Destination::Exchange(exchange) => exchange.upgrade().map(|e| e.name().to_owned()),
        }
        .unwrap_or_default()
    }

    /// What listings tell of it.
    #[must_use]
    pub fn view(&self) -> BindingView {
        BindingView {
            source: self
                .source
                .upgrade()
                .map(|e| e.name().to_owned())
                .unwrap_or_default(),
            destination: self.destination_name(),
            destination_kind: match self.destination {
                Destination::Queue(_) => "queue",
                Destination::Exchange(_) => "exchange",
            },
            routing_key: crate::key::dotted_text(&self.key, self.form),
            arguments: self.arguments.clone(),
        }
    }

    pub(crate) fn is(&self, source: &Exchange, key: &[u8], form: Form, arguments: &Table) -> bool {
        std::ptr::eq(self.source.as_ptr(), source)
            && *self.key == *key
            && self.form == form
            && self.arguments == *arguments
    }
}
