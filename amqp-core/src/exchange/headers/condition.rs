//! What a headers binding asks, and what a message has, in one form that compares byte by byte.
//!
//! Values are equal as RabbitMQ 4 compares them: integers of whatever type by their number,
//! floating-point numbers of either size by their number and never with integers, text and bytes
//! alike, everything else with its type.

#[cfg(test)]
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::field::{RawTable, Table, Value, ValueRef};

/// A header's value in that form: a letter for the class, then the value.
type Form = SmallVec<[u8; 24]>;

/// One header that is asked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Condition {
    name: Box<[u8]>,
    /// `None`: it only has to be there (AMQP 0-9-1 §3.1.3.4).
    value: Option<Box<[u8]>>,
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
}

/// What a binding's arguments ask, each thing once.
pub(super) struct Wanted {
    pub(super) any: bool,
    pub(super) conditions: Box<[Condition]>,
}

impl Wanted {
    pub(super) fn of(arguments: &Table) -> Self {
        let Match { any, with_x } = Match::of(arguments);
        let asked = |name: &[u8]| name != b"x-match" && (with_x || !name.starts_with(b"x-"));
        let mut conditions: Vec<Condition> = arguments
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, value)| Condition {
                name: name.into(),
                value: (*value != Value::Void).then(|| owned(value).as_slice().into()),
            })
            .collect();
        conditions.sort_unstable();
        conditions.dedup();
        Self {
            any,
            conditions: conditions.into(),
        }
    }

    pub(super) fn holds(&self, headers: &Headers<'_>) -> bool {
        // Both are in the order of their names: each is sought behind the one before it.
        let mut left = &headers.0[..];
        let mut fits = self.conditions.iter().map(|wanted| {
            left = &left[left.partition_point(|(name, _)| *name < &wanted.name[..])..];
            wanted.is_met_by(left.first())
        });
        if self.any {
            fits.any(|fits| fits)
        } else {
            fits.all(|fits| fits)
        }
    }
}

impl Condition {
    /// Under what it stands in an index.
    pub(super) fn hash(&self, hasher: &RandomState) -> u64 {
        hash(hasher, &self.name, self.value.as_deref())
    }

    fn is_met_by(&self, header: Option<&(&[u8], Form)>) -> bool {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        header.is_some_and(|(name, held)| {
            *name == &self.name[..] && self.value.as_deref().is_none_or(|value| value == &held[..])
        })
    }
}

fn hash(hasher: &RandomState, name: &[u8], value: Option<&[u8]>) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_usize(name.len());
    state.write(name);
    match value {
        None => state.write_u8(0),
        Some(value) => {
            state.write_u8(1);
            state.write(value);
        }
    }
    state.finish()
}

#[cfg(test)]
thread_local! {
    /// Conditions that matching has held against a header.
    pub(in crate::exchange) static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// The headers of a message by name, each once: of a name that is there twice the last one counts.
pub(super) struct Headers<'a>(SmallVec<[(&'a [u8], Form); 8]>);

impl<'a> Headers<'a> {
    pub(super) fn of(table: RawTable<'a>) -> Self {
        let mut headers: SmallVec<[(&[u8], Form); 8]> = table
            .entries()
            .map(|(name, value)| (name, form(value)))
            .collect();
        headers.reverse();
        headers.sort_by_key(|(name, _)| *name);
        headers.dedup_by_key(|(name, _)| *name);
        Self(headers)
    }

    /// Under what conditions that they fulfil stand in an index: each header with its value, and
    /// each as one that is there.
    pub(super) fn hashes(&self, hasher: &RandomState) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(move |(name, value)| {
            [
                hash(hasher, name, Some(&value[..])),
                hash(hasher, name, None),
            ]
        })
    }
}

fn form(value: ValueRef<'_>) -> Form {
    match value {
        ValueRef::LongString(bytes) | ValueRef::Bytes(bytes) => text(bytes),
        other => owned(&other.to_value()),
    }
}

fn text(bytes: &[u8]) -> Form {
    let mut out = Form::from_slice(b"S");
    out.extend_from_slice(bytes);
    out
}

fn owned(value: &Value) -> Form {
    let number = |letter: u8, bytes: [u8; 8]| {
        let mut out = Form::from_slice(&[letter]);
        out.extend_from_slice(&bytes);
        out
    };
    if let Some(integer) = value.as_integer() {
        return number(b'l', integer.to_le_bytes());
    }
    match value {
        Value::LongString(bytes) | Value::Bytes(bytes) => text(bytes),
        Value::F32(value) => number(b'd', f64::from(*value).to_le_bytes()),
        Value::F64(value) => number(b'd', value.to_le_bytes()),
        other => {
            // Everything else as the wire has it, with its letter.
            let mut table = Table::new();
            let mut out = Vec::new();
            let _ = table.insert("", other.clone());
            let _ = table.encode(&mut out);
            Form::from_vec(out)
        }
    }
}
