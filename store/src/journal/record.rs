//! The journal's records, byte by byte: docs/format.md says the same in words.
//!
//! ```text
//! record  = length u32 | crc32c u32 (of the segment's nonce, length and body) | body
//! body    = 1 | queue u64 | seq u64 | message          a queue has taken a message
//!         | 2 | queue u64 | seq u64 | offset u32       another queue has taken the message there
//!         | 3 | queue u64 | seq u64 …                  messages are settled
//!         | 4 | queue u64                              a queue is gone, with all its messages
//!         | 5 | batch u64 | synced u64 | segment u64   what follows is written and synced at once
//! message = origin u8 | flags u8 | received u64 | expires u64 | exchange u8 | key u16
//!         | properties u32 | exchange, key, properties, payload: bytes
//! ```
//! Numbers are little-endian; lengths count bytes. A length of zero ends a segment. The nonce is
//! drawn for each segment and never shown: nobody who publishes can make bytes that look like a
//! record.

use leveret_core::key::Form;
use leveret_core::message::{Head, MessageRef, Origin};
use leveret_core::time::Time;

/// Length and checksum.
pub(super) const HEADER_BYTES: usize = 8;

/// Bytes of a body, at most: the longest message of either protocol and its head.
pub(super) const BODY_BYTES_MAX: usize = (512 + 32) * 1_024 * 1_024;

const PUBLISH: u8 = 1;
const AGAIN: u8 = 2;
const SETTLE: u8 = 3;
const FORGET: u8 = 4;
const BATCH: u8 = 5;

const SLASHED: u8 = 1;
const RETAIN: u8 = 2;
const TRANSIENT: u8 = 4;

/// A record as it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Record<'a> {
    Publish {
        queue: u64,
        seq: u64,
        message: Encoded<'a>,
    },
    Again {
        queue: u64,
        seq: u64,
        /// Where the record with the message begins in the same segment.
        offset: u32,
    },
    Settle {
        queue: u64,
        seqs: Seqs<'a>,
    },
    Forget {
        queue: u64,
    },
    Batch(Mark),
}

/// What a batch begins with, in each segment that it is in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Mark {
    pub(super) number: u64,
    /// The last batch that was surely on disk when this one was written.
    pub(super) synced: u64,
    /// Where this batch begins.
    pub(super) segment: u64,
}

/// What the checksums of a segment begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seal(u32);

impl Seal {
    pub(super) fn new(nonce: u64) -> Self {
        Self(crc32c::crc32c(&nonce.to_le_bytes()))
    }

    fn checksum(self, length: &[u8], body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, length), body)
    }
}

/// A message as it lies in a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Encoded<'a>(pub(super) &'a [u8]);

/// Numbers of messages as they lie in a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seqs<'a>(&'a [u8]);

impl Seqs<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let numbers = self.0.chunks_exact(8);
        numbers.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }
}

/// What is behind a record's beginning.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Read<'a> {
    /// A record, and where the next one begins.
    Record(Record<'a>, usize),
    /// Nothing was written here.
    End,
    /// Something was, but not by this journal, or not all of it.
    Bad(&'static str),
}

/// Where the record that begins at `at` ends, by its length alone.
pub(super) fn end(segment: &[u8], at: usize) -> Option<usize> {
    let length = segment.get(at..)?.first_chunk::<4>()?;
    let body_bytes = u32::from_le_bytes(*length) as usize;
    let end = at + HEADER_BYTES + body_bytes;
    (body_bytes > 0 && end <= segment.len()).then_some(end)
}

/// Reads the record that begins at `at`.
pub(super) fn read(segment: &[u8], at: usize, seal: Seal) -> Read<'_> {
    let Some(header) = segment.get(at..at + HEADER_BYTES) else {
        let rest = segment.get(at..).unwrap_or_default();
        return if rest.iter().all(|byte| *byte == 0) {
            Read::End
        } else {
            Read::Bad("a record that reaches beyond the file")
        };
    };
    let (length, sum) = header.split_at(4);
    let body_bytes = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    let sum = u32::from_le_bytes(sum.try_into().unwrap_or_default());
    if body_bytes == 0 {
        return if sum == 0 {
            Read::End
        } else {
            Read::Bad("a checksum without a record")
        };
    }
    if body_bytes > BODY_BYTES_MAX {
        return Read::Bad("a length that no record has");
    }
    let from = at + HEADER_BYTES;
    let Some(body) = segment.get(from..from + body_bytes) else {
        return Read::Bad("a record that reaches beyond the file");
    };
    if seal.checksum(length, body) != sum {
        return Read::Bad("a checksum that does not fit");
    }
    match parse(body) {
        Some(record) => Read::Record(record, from + body_bytes),
        None => Read::Bad("a record that this version does not write"),
    }
}

/// The message of the record that begins at `at`, or that this one refers to.
pub(super) fn message_at(segment: &[u8], at: usize, seal: Seal) -> Option<Encoded<'_>> {
    match read(segment, at, seal) {
        Read::Record(Record::Publish { message, .. }, _) => Some(message),
        Read::Record(Record::Again { offset, .. }, _) => {
            match read(segment, offset as usize, seal) {
                Read::Record(Record::Publish { message, .. }, _) => Some(message),
                _ => None,
            }
        }
        _ => None,
    }
}

fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = body.split_first()?;
    let (first, rest) = number(rest)?;
    Some(match *kind {
        PUBLISH => {
            let (seq, rest) = number(rest)?;
            let message = Encoded(rest);
            message.parts()?;
            Record::Publish {
                queue: first,
                seq,
                message,
            }
        }
        AGAIN => {
            let (seq, rest) = number(rest)?;
            let offset = u32::from_le_bytes(rest.try_into().ok()?);
            Record::Again {
                queue: first,
                seq,
                offset,
            }
        }
        SETTLE if rest.len() % 8 == 0 => Record::Settle {
            queue: first,
            seqs: Seqs(rest),
        },
        FORGET if rest.is_empty() => Record::Forget { queue: first },
        BATCH => {
            let (synced, rest) = number(rest)?;
            let segment = u64::from_le_bytes(rest.try_into().ok()?);
            Record::Batch(Mark {
                number: first,
                synced,
                segment,
            })
        }
        _ => return None,
    })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// The parts of a message as they lie in a record.
#[derive(Debug, Eq, PartialEq)]
struct Parts<'a> {
    origin: u8,
    flags: u8,
    received: u64,
    expires: u64,
    exchange: &'a str,
    key: &'a [u8],
    properties: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn parts(self) -> Option<Parts<'a>> {
        let ([origin, flags], rest) = self.0.split_first_chunk::<2>()?;
        let (received, rest) = number(rest)?;
        let (expires, rest) = number(rest)?;
        let ([exchange_bytes], rest) = rest.split_first_chunk::<1>()?;
        let (key_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (properties_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (exchange, rest) = rest.split_at_checked(usize::from(*exchange_bytes))?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_bytes).into())?;
        let properties_bytes = u32::from_le_bytes(*properties_bytes) as usize;
        let (properties, payload) = rest.split_at_checked(properties_bytes)?;
        Some(Parts {
            origin: *origin,
            flags: *flags,
            received,
            expires,
            exchange: std::str::from_utf8(exchange).ok()?,
            key,
            properties,
            payload,
        })
    }

    /// Which origin wrote its properties.
    pub(super) fn origin(self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// The message, if one of the origins wrote its properties.
    pub(super) fn message(self, origins: &[&'static dyn Origin]) -> Option<MessageRef<'a>> {
        let parts = self.parts()?;
        let origin = origins.iter().find(|origin| origin.tag() == parts.origin)?;
        let head = Head {
            origin: *origin,
            form: if parts.flags & SLASHED == 0 {
                Form::Dotted
            } else {
                Form::Slashed
            },
            persistent: parts.flags & TRANSIENT == 0,
            retain: parts.flags & RETAIN != 0,
            // Clients are numbered anew by each process.
            publisher: 0,
            received: Time(parts.received),
            expires: (parts.expires > 0).then_some(Time(parts.expires)),
        };
        Some(MessageRef {
            head,
            exchange: parts.exchange,
            key: parts.key,
            properties: parts.properties,
            payload: parts.payload,
        })
    }
}

/// Appends a record that is not sealed yet; `write` appends its body.
fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let body_bytes = (out.len() - at - HEADER_BYTES) as u32;
    out[at..at + 4].copy_from_slice(&body_bytes.to_le_bytes());
}

/// Writes the checksum of the one record that these bytes are.
pub(super) fn seal(record: &mut [u8], seal: Seal) {
    let (header, body) = record.split_at_mut(HEADER_BYTES);
    let sum = seal.checksum(&header[..4], body);
    header[4..].copy_from_slice(&sum.to_le_bytes());
}

pub(super) fn publish(out: &mut Vec<u8>, queue: u64, seq: u64, message: &MessageRef<'_>) {
    let head = &message.head;
    let slashed = if head.form == Form::Slashed {
        SLASHED
    } else {
        0
    };
    let retain = if head.retain { RETAIN } else { 0 };
    let transient = if head.persistent { 0 } else { TRANSIENT };
    append(out, |out| {
        out.push(PUBLISH);
        out.extend_from_slice(&queue.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&[head.origin.tag(), slashed | retain | transient]);
        out.extend_from_slice(&head.received.0.to_le_bytes());
        out.extend_from_slice(&head.expires.map_or(0, |at| at.0.max(1)).to_le_bytes());
        // The core keeps names to 255 bytes, keys to 65,535, properties to a frame.
        out.push(message.exchange.len() as u8);
        out.extend_from_slice(&(message.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&(message.properties.len() as u32).to_le_bytes());
        out.extend_from_slice(message.exchange.as_bytes());
        out.extend_from_slice(message.key);
        out.extend_from_slice(message.properties);
        out.extend_from_slice(message.payload);
    });
}

/// The same message as an earlier record has it, for another place.
pub(super) fn publish_encoded(out: &mut Vec<u8>, queue: u64, seq: u64, message: Encoded<'_>) {
    append(out, |out| {
        out.push(PUBLISH);
        out.extend_from_slice(&queue.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(message.0);
    });
}

pub(super) fn again(out: &mut Vec<u8>, queue: u64, seq: u64, offset: u32) {
    append(out, |out| {
        out.push(AGAIN);
        out.extend_from_slice(&queue.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    });
}

pub(super) fn settle(out: &mut Vec<u8>, queue: u64, seqs: &[u64]) {
    append(out, |out| {
        out.push(SETTLE);
        out.extend_from_slice(&queue.to_le_bytes());
        for seq in seqs {
            out.extend_from_slice(&seq.to_le_bytes());
        }
    });
}

pub(super) fn forget(out: &mut Vec<u8>, queue: u64) {
    append(out, |out| {
        out.push(FORGET);
        out.extend_from_slice(&queue.to_le_bytes());
    });
}

pub(super) fn batch(out: &mut Vec<u8>, mark: Mark) {
    append(out, |out| {
        out.push(BATCH);
        out.extend_from_slice(&mark.number.to_le_bytes());
        out.extend_from_slice(&mark.synced.to_le_bytes());
        out.extend_from_slice(&mark.segment.to_le_bytes());
    });
}

/// A record that names a batch.
pub(super) const BATCH_BYTES: usize = HEADER_BYTES + 25;

/// What a record that names a batch begins with: the length of its body.
pub(super) const BATCH_LENGTH: [u8; 4] = (BATCH_BYTES as u32 - HEADER_BYTES as u32).to_le_bytes();
