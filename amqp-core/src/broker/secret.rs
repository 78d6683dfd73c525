//! The node's secret: what is derived from it is the same after a restart, and no other node's.

use super::Broker;
use crate::definitions::{Change, Kind};
use crate::field::{Table, Value};
use crate::records;

/// The key of its record, without a length: see `format`.
const KEY: &[u8] = b"login_secret";

impl Broker {
    /// The secret, which `make` makes once in the life of a data directory.
    pub fn login_secret(&self, make: impl FnOnce() -> [u8; 32]) -> [u8; 32] {
        *self.login_secret.get_or_init(|| {
            let mut known = None;
            let read = self.definitions.load(Kind::Node, &mut |key, value| {
                if key == KEY {
                    known = secret(value);
                }
            });
            if let Err(fault) = &read {
                tracing::error!(%fault, "the node's secret cannot be read");
            }
            known.unwrap_or_else(|| {
                let made = make();
                if read.is_ok() {
                    self.submit(vec![record(&made)]);
                }
                made
            })
        })
    }
}

fn record(secret: &[u8; 32]) -> Change {
    let table = records::table([("secret", Value::LongString((*secret).into()))]);
    let mut value = Vec::new();
    // A short text of our own fits.
    let _ = table.encode(&mut value);
    Change::Put {
        kind: Kind::Node,
        key: KEY.into(),
        value: value.into(),
    }
}

fn secret(record: &[u8]) -> Option<[u8; 32]> {
    match Table::decode(record).ok()?.lookup("secret") {
        Some(Value::LongString(bytes)) => (**bytes).try_into().ok(),
        _ => None,
    }
}
