//! Whose the numbers in a journal are: queues, and what vhosts remember beside them.
//!
//! For tools that read a store while no broker runs. Never makes an object of what it reads.

use std::collections::BTreeMap;

use crate::definitions::{Fault, Kind};
use crate::field::{Table, Value};
use crate::records;

/// Whose messages a list in the journal has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct List {
    /// The vhost.
    pub vhost: String,
    /// What it is a list of.
    pub of: Of,
}

/// What a list in the journal holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Of {
    /// The messages of the queue of this name.
    Queue(String),
    /// Retained messages.
    Retained,
    /// QoS 2 identifiers that are not released.
    Received,
    /// Publications that are due later.
    Scheduled,
    /// Since when queues are unused.
    Unused,
}

impl Of {
    /// One word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Retained => "retained",
            Self::Received => "received",
            Self::Scheduled => "scheduled",
            Self::Unused => "unused",
        }
    }
}

/// What definitions say about lists.
#[derive(Debug, Default)]
pub struct Lists {
    /// By number.
    pub by_number: BTreeMap<u64, List>,
    /// Records of all kinds that can be read.
    pub records: u64,
    /// Those that cannot: their kind and key.
    pub unreadable: Vec<(Kind, Vec<u8>)>,
}

/// Shows each record of a kind, by key and value.
pub type Load<'a> = &'a mut dyn FnMut(Kind, &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault>;

/// Reads all definitions.
///
/// # Errors
/// Those of `load`.
pub fn lists(load: Load<'_>) -> Result<Lists, Fault> {
    let mut found = Lists::default();
    for kind in Kind::ALL {
        load(kind, &mut |key, value| match found.read(kind, key, value) {
            Some(()) => found.records += 1,
            None => found.unreadable.push((kind, key.to_vec())),
        })?;
    }
    Ok(found)
}

impl Lists {
    fn read(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Option<()> {
        if kind == Kind::Node {
            return Some(());
        }
        let parts = records::parts(key)?;
        let table = Table::decode(value).ok()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let number = table.lookup("journal").and_then(Value::as_integer);
        let number = number.and_then(|number| u64::try_from(number).ok());
        match (kind, &parts[..], number) {
            (Kind::VHost, [name], number) => {
                let vhost = text(name)?;
                let lists = [Of::Retained, Of::Received, Of::Scheduled, Of::Unused];
                for (number, of) in number
                    .into_iter()
                    .flat_map(|first| (first..).zip(lists.clone()))
                {
                    let vhost = vhost.clone();
                    self.by_number.insert(number, List { vhost, of });
                }
            }
            (Kind::Queue, [vhost, name], Some(number)) => {
                let list = List {
                    vhost: text(vhost)?,
                    of: Of::Queue(text(name)?),
                };
                self.by_number.insert(number, list);
            }
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Change;

    #[test]
    fn d2_numbers_are_named() {
        let record = |kind, parts: &[&[u8]], number| {
            let value = records::table([("journal", Value::I64(number))]);
            match records::put(kind, parts, &value) {
                Change::Put { kind, key, value } => (kind, key, value),
                Change::Delete { .. } => unreachable!("it puts"),
            }
        };
        let all = [
            record(Kind::VHost, &[b"/"], 5),
            record(Kind::Queue, &[b"/", b"q"], 9),
            (Kind::Queue, b"bad".as_slice().into(), b"".as_slice().into()),
        ];
        let found = lists(&mut |kind, visit| {
            let of_kind = all.iter().filter(|(other, ..)| *other == kind);
            of_kind.for_each(|(_, key, value)| visit(key, value));
            Ok(())
        });
        let found = found.expect("nothing fails");
        let words: Vec<(u64, &str)> = found
            .by_number
            .iter()
            .map(|(number, list)| (*number, list.of.word()))
            .collect();
        let shelves = [
            (5, "retained"),
            (6, "received"),
            (7, "scheduled"),
            (8, "unused"),
        ];
        assert_eq!(words, [&shelves[..], &[(9, "queue")]].concat());
        assert_eq!(found.by_number[&9].of, Of::Queue("q".to_owned()));
        assert_eq!(found.unreadable, [(Kind::Queue, b"bad".to_vec())]);
        assert_eq!(found.records, 2);
    }
}
