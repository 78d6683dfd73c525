//! Who published: the block that stands before the properties of a message of a known client.
//!
//! ```text
//! length: 2 | wanted: 1 | vhost | user | client id | peer | properties of MQTT 5.0
//!           `----------- length bytes ------------------´
//! ```
//!
//! Each of the four is a length of 2 bytes and its text. Owns the block: made once for each
//! connection, from what the broker itself knows. A publish without properties borrows it as it
//! is. It is stored with every message, so it has no names: they come with the delivery to AMQP.

use std::net::SocketAddr;

use leveret_core::identity::Reserved;
use leveret_core::message::{MessageRef, Origin};

use crate::convert::{MQTT, SIGNED};
use crate::limits::IDENTITY_TEXT_BYTES_MAX;

/// Tells messages of MQTT clients, on disk: those without a block.
pub(crate) const MQTT_TAG: u8 = 1;
/// Those with one.
pub(crate) const SIGNED_TAG: u8 = 3;

/// What is wanted of the block, and so reserved: [`Reserved::headers`].
const HEADERS: u8 = 1 << 0;
/// [`Reserved::annotation`].
const ANNOTATION: u8 = 1 << 1;

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
    let headers = if wanted.headers { HEADERS } else { 0 };
    let annotation = if wanted.annotation { ANNOTATION } else { 0 };
    out.push(headers | annotation);
    let mut put = |text: &str| {
        let fits = text.len() <= IDENTITY_TEXT_BYTES_MAX;
        let text = if fits { text } else { "" };
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    put(facts.vhost);
    put(facts.user);
    put(facts.client_id);
    put(&facts.peer.to_string());
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

/// A block, taken apart; what was left out is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Block<'a> {
    /// Whose names nobody else may use beside it, and which headers it becomes.
    pub(crate) reserved: Reserved,
    pub(crate) vhost: &'a [u8],
    pub(crate) user: &'a [u8],
    pub(crate) client_id: &'a [u8],
    pub(crate) peer: &'a [u8],
}

impl<'a> Block<'a> {
    fn parse(raw: &'a [u8]) -> Option<Self> {
        let (wanted, mut rest) = raw.split_first()?;
        let mut take = || {
            let (length, more) = rest.split_first_chunk()?;
            let (text, more) = more.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = more;
            Some(text)
        };
        Some(Self {
            reserved: Reserved {
                headers: wanted & HEADERS != 0,
                annotation: wanted & ANNOTATION != 0,
            },
            vhost: take()?,
            user: take()?,
            client_id: take()?,
            peer: take()?,
        })
    }
}

/// The properties of what an MQTT client published.
pub(crate) fn properties_of<'a>(message: &MessageRef<'a>) -> &'a [u8] {
    parts(message).1
}

/// The parts of what an MQTT client published: the block, and its properties.
pub(crate) fn split<'a>(message: &MessageRef<'a>) -> (Block<'a>, &'a [u8]) {
    let (block, properties) = parts(message);
    (Block::parse(block).unwrap_or_default(), properties)
}

fn parts<'a>(message: &MessageRef<'a>) -> (&'a [u8], &'a [u8]) {
    let raw = message.properties;
    if message.head.origin.tag() != SIGNED_TAG {
        return (&[], raw);
    }
    let parts = raw
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
    // It was made by `sign`, or is what a checked record of the journal has kept of that.
    parts.unwrap_or_default()
}
