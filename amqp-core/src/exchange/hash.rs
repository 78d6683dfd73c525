//! Exchanges that give a message to one of their bindings by a hash: the same one for the same
//! key, across restarts too.
//!
//! The consistent-hash exchange draws a number for each pair of key and destination, and the
//! highest wins, in proportion to the weights (rendezvous hashing): a binding that comes takes its
//! share from all others alike, one that goes leaves its own to them, and nothing else moves.
//! Memory does not depend on weights. The modulus-hash exchange takes the hash modulo the number
//! of bindings, in the order of their destinations' names.

use super::kind::{self, HashOn};
use super::route::Search;
use super::{Bound, Destination};
use crate::field::{Value, ValueRef};
use crate::message::MessageRef;
use crate::properties::BasicProperties;

/// A binding that takes its share.
struct Share {
    bound: Bound,
    /// The hash of its destination.
    seed: u64,
    weight: f64,
    /// The kind and name of its destination, by which they are in order.
    name: Box<str>,
}

/// The bindings, in the order of their destinations.
#[derive(Default)]
pub(super) struct Bindings(Vec<Share>);

/// FNV-1a over the bytes, then splitmix64's finish: the same in every process and version.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(FNV_BASIS, fold))
}

/// One hash of all keys of a message.
fn hash_keys(search: &Search<'_>) -> u64 {
    let more = search.more.iter().copied();
    // No key in UTF-8 has this byte: where one ends and the next begins matters.
    let bytes = more.flat_map(|key| std::iter::once(&u8::MAX).chain(key));
    mix(search.dotted.iter().chain(bytes).fold(FNV_BASIS, fold))
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fold(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// A number above 0 and below 1, from a hash's upper 52 bits.
fn fraction(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

impl Share {
    fn new(bound: &Bound) -> Self {
        let kind = match bound.destination() {
            Destination::Queue(_) => "queue",
            Destination::Exchange(_) => "exchange",
        };
        let name = format!("{kind} {}", bound.destination_name());
        Self {
            bound: bound.clone(),
            seed: hash(name.as_bytes()),
            // Keys of other kinds are no weights, and are not asked for any.
            weight: kind::weight(bound.key()).unwrap_or(1.0),
            name: name.into(),
        }
    }

    fn place(&self) -> (&str, &[u8], &[u8]) {
        (&self.name, self.bound.key(), self.bound.arguments())
    }

    /// Below 0; the nearer the better its claim to the key.
    fn claim(&self, key: u64) -> f64 {
        fraction(mix(key ^ self.seed)).ln() / self.weight
    }
}

impl Bindings {
    pub(super) fn insert(&mut self, bound: &Bound) {
        let share = Share::new(bound);
        let place = self.0.partition_point(|held| held.place() < share.place());
        self.0.insert(place, share);
    }

    pub(super) fn remove(&mut self, bound: &Bound) -> bool {
        let place = self.0.iter().position(|held| held.bound.same(bound));
        place.is_some_and(|place| {
            self.0.remove(place);
            true
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        self.0.iter().for_each(|share| visit(&share.bound));
    }

    /// The one whose claim is best, by what the message is hashed on.
    pub(super) fn by_weight(
        &self,
        on: &HashOn,
        message: &MessageRef<'_>,
        search: &Search<'_>,
        found: &mut dyn FnMut(&Bound),
    ) {
        if self.0.is_empty() {
            return;
        }
        let key = on.hash(message, search);
        let claim = |share: &&Share| share.claim(key);
        let best = self.0.iter().max_by(|a, b| claim(a).total_cmp(&claim(b)));
        if let Some(best) = best {
            found(&best.bound);
        }
    }

    /// The one whose number is the hash modulo how many there are.
    pub(super) fn by_modulus(&self, search: &Search<'_>, found: &mut dyn FnMut(&Bound)) {
        if let Some(place) = hash_keys(search).checked_rem(self.0.len() as u64) {
            found(&self.0[place as usize].bound);
        }
    }
}

impl HashOn {
    /// A message without what is to be hashed has the hash of nothing: all such go one way.
    fn hash(&self, message: &MessageRef<'_>, search: &Search<'_>) -> u64 {
        if *self == Self::Key {
            return hash_keys(search);
        }
        let mut raw = Vec::new();
        let origin = message.head.origin;
        origin.append_basic_properties(message, &mut raw);
        let properties = BasicProperties::parse(&raw).unwrap_or_default();
        match self {
            Self::Key => hash_keys(search),
            Self::CorrelationId => hash(properties.correlation_id.unwrap_or_default()),
            Self::MessageId => hash(properties.message_id.unwrap_or_default()),
            Self::Timestamp => {
                let seconds = properties.timestamp.map(|seconds| seconds.to_string());
                hash(seconds.unwrap_or_default().as_bytes())
            }
            Self::Header(name) => {
                let mut entries = properties.headers.unwrap_or_default().entries();
                let value = entries.find(|(other, _)| *other == &name[..]);
                value.map_or_else(|| hash(b""), |(_, value)| hash_value(value))
            }
        }
    }
}

fn hash_value(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::LongString(text) | ValueRef::Bytes(text) => hash(text),
        other => match other.to_value() {
            // Integers of whatever type are one class.
            value if value.as_integer().is_some() => {
                hash(&value.as_integer().unwrap_or_default().to_le_bytes())
            }
            Value::Void => hash(b""),
            value => hash(format!("{value:?}").as_bytes()),
        },
    }
}
