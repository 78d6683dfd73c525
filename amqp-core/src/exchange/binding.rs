//! A binding: from an exchange, under a key, to a queue or another exchange.
//!
//! [`Bound`] is a binding as it stands: one allocation that holds the key and the encoded arguments
//! behind a head of 32 bytes, shared by the exchange's table and the destination's list.
//! [`Binding`] is a copy of it for whoever lists or restores. Neither keeps its ends alive.

use std::sync::{Arc, Weak};

use triomphe::ThinArc;

use super::{Exchange, topic};
use crate::field::Table;
use crate::key::Form;
use crate::queue::Queue;

/// Where a binding leads. Weak: the destination holds its bindings, not they it.
#[derive(Clone)]
pub enum Destination {
    /// A queue.
    Queue(Weak<Queue>),
    /// Another exchange.
    Exchange(Weak<Exchange>),
}

impl Destination {
    /// Where the object lies, which tells it from all others while a binding points to it.
    fn address(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.as_ptr().addr(),
            Self::Exchange(exchange) => exchange.as_ptr().addr(),
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Queue(queue) => queue.upgrade().map(|held| held.name().to_owned()),
            Self::Exchange(exchange) => exchange.upgrade().map(|held| held.name().to_owned()),
        }
    }
}

/// The destination of a binding that is to be made or found.
#[derive(Clone, Copy)]
pub(crate) enum End<'a> {
    Queue(&'a Arc<Queue>),
    Exchange(&'a Arc<Exchange>),
}

impl End<'_> {
    pub(crate) fn address(self) -> usize {
        match self {
            Self::Queue(queue) => Arc::as_ptr(queue).addr(),
            Self::Exchange(exchange) => Arc::as_ptr(exchange).addr(),
        }
    }

    fn downgrade(self) -> Destination {
        match self {
            Self::Queue(queue) => Destination::Queue(Arc::downgrade(queue)),
            Self::Exchange(exchange) => Destination::Exchange(Arc::downgrade(exchange)),
        }
    }
}

/// What tells a binding from others between the same two ends.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The binding key; at most 65,535 bytes.
    pub(crate) key: &'a [u8],
    /// How the key is written.
    pub(crate) form: Form,
    /// The arguments as the wire has them, without their length.
    pub(crate) arguments: &'a [u8],
}

struct Head {
    source: Weak<Exchange>,
    destination: Destination,
    identity: u32,
    /// At most [`crate::limits::KEY_BYTES_MAX`].
    key_bytes: u16,
    form: Form,
    found_by: u8,
}

const _: () = assert!(size_of::<Head>() == 32);

/// A binding as it stands. Cloning it counts a reference.
#[derive(Clone)]
pub(crate) struct Bound(ThinArc<Head, u8>);

impl Bound {
    /// A binding with the identity that its source gives it.
    pub(crate) fn new(
        source: &Arc<Exchange>,
        end: End<'_>,
        terms: &Terms<'_>,
        identity: u32,
    ) -> Self {
        let head = Head {
            source: Arc::downgrade(source),
            destination: end.downgrade(),
            identity,
            key_bytes: terms.key.len() as u16,
            form: terms.form,
            found_by: topic::found_by(terms.key, terms.form),
        };
        let bytes: smallvec::SmallVec<[u8; 128]> =
            terms.key.iter().chain(terms.arguments).copied().collect();
        Self(ThinArc::from_header_and_slice(head, &bytes))
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    pub(crate) fn source(&self) -> Option<Arc<Exchange>> {
        self.head().source.upgrade()
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.head().destination
    }

    /// A hash of everything that tells it from others of its source.
    pub(crate) fn identity(&self) -> u32 {
        self.head().identity
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0.slice[..self.head().key_bytes as usize]
    }

    pub(crate) fn form(&self) -> Form {
        self.head().form
    }

    /// The arguments as the wire has them, without their length.
    pub(crate) fn arguments(&self) -> &[u8] {
        &self.0.slice[self.head().key_bytes as usize..]
    }

    /// From which look-ups of a topic exchange it is found, see [`topic`].
    pub(super) fn found_by(&self) -> u8 {
        self.head().found_by
    }

    /// Whether it is this very binding, not only an equal one.
    pub(crate) fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.head(), other.head())
    }

    pub(crate) fn is(&self, source: &Exchange, end: usize, terms: &Terms<'_>) -> bool {
        std::ptr::eq(self.head().source.as_ptr(), source)
            && self.destination().address() == end
            && self.form() == terms.form
            && self.key() == terms.key
            && self.arguments() == terms.arguments
    }

    pub(crate) fn destination_name(&self) -> String {
        self.destination().name().unwrap_or_default()
    }

    /// Takes it out of its destination's list.
    pub(crate) fn leave_destination(&self) {
        match self.destination() {
            Destination::Queue(queue) => {
                if let Some(queue) = queue.upgrade() {
                    queue.remove_binding(self);
                }
            }
            Destination::Exchange(to) => {
                if let Some(to) = to.upgrade() {
                    to.remove_incoming(self);
                }
            }
        }
    }

    /// A copy to be looked at.
    pub(crate) fn copy(&self) -> Binding {
        Binding {
            source: self.head().source.clone(),
            destination: self.destination().clone(),
            key: self.key().into(),
            form: self.form(),
            // They were encoded here, or came off the wire.
            arguments: Table::decode(self.arguments()).unwrap_or_default(),
        }
    }
}

/// A copy of a binding. Its identity is source, destination, key, form and arguments.
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
        self.destination.name().unwrap_or_default()
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
}
