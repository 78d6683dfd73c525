//! Who published: the block that stands before the properties of a message of a known client.
//!
//! ```text
//! length: 2 bytes | headers of AMQP, encoded, length bytes | properties of MQTT 5.0
//! ```
//!
//! Owns the block: made once for each connection, from what the broker itself knows. A publish
//! without properties borrows it as it is.

use std::net::SocketAddr;

use leveret_core::field::{RawTable, ValueRef, encode_entry};
use leveret_core::identity::{ANNOTATION, CLIENT_ID, PEER, Reserved, USERNAME, VHOST};
use leveret_core::message::{MessageRef, Origin};

use crate::convert::{MQTT, SIGNED};
use crate::limits::IDENTITY_TEXT_BYTES_MAX;

/// Tells messages with a block from those without, on disk.
pub(crate) const SIGNED_TAG: u8 = 3;

/// What the broker knows about a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user: &'a str,
    pub(crate) vhost: &'a str,
    pub(crate) peer: SocketAddr,
}

/// The block with its length; empty if none is wanted. A client identifier or user name that is
/// too long to be carried with each message is left out.
pub(crate) fn block(facts: &Facts<'_>, wanted: Reserved) -> Box<[u8]> {
    if wanted == Reserved::default() {
        return Box::default();
    }
    let mut out = vec![0; 2];
    let mut put = |name: &str, text: &str| {
        if text.len() <= IDENTITY_TEXT_BYTES_MAX {
            // Our own names are short, and the value was measured.
            let value = ValueRef::LongString(text.as_bytes());
            let _ = encode_entry(&mut out, name.as_bytes(), value);
        }
    };
    if wanted.headers {
        // The first of them: see `Block::is_full`.
        put(VHOST, facts.vhost);
        put(USERNAME, facts.user);
        put(CLIENT_ID, facts.client_id);
        put(PEER, &facts.peer.to_string());
    }
    if wanted.annotation {
        put(ANNOTATION, facts.client_id);
    }
    let bytes = (out.len() - 2) as u16;
    out[..2].copy_from_slice(&bytes.to_be_bytes());
    out.into()
}

/// What a message is published with: the block, if there is one, and behind it the two parts of its
/// properties.
/// `joined` is only a buffer for both.
pub(crate) fn sign<'a>(
    block: &'a [u8],
    (first, rest): (&'a [u8], &'a [u8]),
    joined: &'a mut Vec<u8>,
) -> (&'static dyn Origin, &'a [u8]) {
    match (block, first, rest) {
        ([], all, []) | ([], [], all) => (&MQTT, all),
        (_, [], []) => (&SIGNED, block),
        _ => {
            joined.clear();
            for part in [block, first, rest] {
                joined.extend_from_slice(part);
            }
            match block {
                [] => (&MQTT, joined),
                _ => (&SIGNED, joined),
            }
        }
    }
}

/// The headers of a block, as they were encoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Block<'a>(&'a [u8]);

impl<'a> Block<'a> {
    /// Its entries.
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it says who published, and not only RabbitMQ's annotation.
    fn is_full(self) -> bool {
        let [length, name @ ..] = self.0 else {
            return false;
        };
        usize::from(*length) == VHOST.len() && name.starts_with(VHOST.as_bytes())
    }

    /// Whose names nobody else may use beside it.
    pub(crate) fn reserved(self) -> Reserved {
        Reserved {
            headers: self.is_full(),
            annotation: self.text(ANNOTATION).is_some(),
        }
    }

    /// The user.
    pub(crate) fn user(self) -> Option<&'a [u8]> {
        self.text(USERNAME)
    }

    fn text(self, name: &str) -> Option<&'a [u8]> {
        match RawTable::parse(self.0).ok()?.lookup(name) {
            Some(ValueRef::LongString(text)) => Some(text),
            _ => None,
        }
    }
}

/// The parts of what an MQTT client published: the block, and its properties.
pub(crate) fn split<'a>(message: &MessageRef<'a>) -> (Block<'a>, &'a [u8]) {
    let raw = message.properties;
    if message.head.origin.tag() != SIGNED_TAG {
        return (Block::default(), raw);
    }
    let parts = raw
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
    // It was made by `sign`, or is what a checked record of the journal has kept of that.
    let (block, properties) = parts.unwrap_or_default();
    (Block(block), properties)
}
