//! The journal's records, byte by byte: docs/format.md says the same in words.
//!
//! ```text
//! record  = length u32 | crc32c u32 (of the segment's nonce, length and body) | body
//! body    = 1 | queue v | seq v | message              a queue has taken a message
//!         | 2 | queue v | seq v | offset u32           another queue has taken the message there
//!         | 3 | queue v | (gap v | count v) …          messages are settled
//!         | 4 | queue v                                a queue is gone, with all its messages
//!         | 5 | batch u64 | synced u64 | segment u64   what follows is written and synced at once
//! message = origin u8 | flags u8 | received u48 | expires u48, if a flag says so | exchange u8
//!         | key u16 | properties u32 | exchange, key, properties, payload: bytes
//! ```
//! Numbers are little-endian; `v` has one to ten bytes of seven bits each, the lowest first, with
//! the highest bit set in all but the last. Lengths count bytes. A length of zero ends a segment.
//! The nonce is drawn for each segment and never shown: nobody who publishes can make bytes that
//! look like a record.

use std::ops::Range;

use leveret_core::dead_letter::Death;
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
const EXPIRES: u8 = 8;
/// Three bits: why the queue has given it up, counted from 1; 0 if it has not.
const GIVEN_UP_SHIFT: u32 = 4;
const GIVEN_UP: u8 = 7 << GIVEN_UP_SHIFT;
const EXACTLY_ONCE: u8 = 128;
const _: () = assert!(Death::ALL.len() <= 7);

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

impl<'a> Seqs<'a> {
    /// `None` if they are not what [`settle`] writes.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (mut rest, mut end) = (bytes, 0_u64);
        while !rest.is_empty() {
            let (gap, count);
            (gap, rest) = varied(rest)?;
            (count, rest) = varied(rest)?;
            end = end.checked_add(gap)?.checked_add(count)?;
        }
        Some(Self(bytes))
    }

    /// Stretches of numbers, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let (mut rest, mut end) = (self.0, 0);
        std::iter::from_fn(move || {
            let (gap, count);
            (gap, rest) = varied(rest)?;
            (count, rest) = varied(rest)?;
            let first = end + gap;
            end = first + count;
            Some(first..end)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges().flatten()
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

/// The same for one whose checksum was read already.
pub(super) fn message_read(segment: &[u8], at: usize) -> Option<Encoded<'_>> {
    let body = segment.get(at + HEADER_BYTES..end(segment, at)?)?;
    match parse(body)? {
        Record::Publish { message, .. } => Some(message),
        _ => None,
    }
}

fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = body.split_first()?;
    if *kind == BATCH {
        let (number, rest) = fixed(rest)?;
        let (synced, rest) = fixed(rest)?;
        let segment = u64::from_le_bytes(rest.try_into().ok()?);
        return Some(Record::Batch(Mark {
            number,
            synced,
            segment,
        }));
    }
    let (first, rest) = varied(rest)?;
    Some(match *kind {
        PUBLISH => {
            let (seq, rest) = varied(rest)?;
            let message = Encoded(rest);
            message.parts()?;
            Record::Publish {
                queue: first,
                seq,
                message,
            }
        }
        AGAIN => {
            let (seq, rest) = varied(rest)?;
            let offset = u32::from_le_bytes(rest.try_into().ok()?);
            Record::Again {
                queue: first,
                seq,
                offset,
            }
        }
        SETTLE => Record::Settle {
            queue: first,
            seqs: Seqs::parse(rest)?,
        },
        FORGET if rest.is_empty() => Record::Forget { queue: first },
        _ => return None,
    })
}

fn fixed(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (time, rest) = bytes.split_first_chunk::<6>()?;
    let mut number = [0; 8];
    number[..6].copy_from_slice(time);
    Some((u64::from_le_bytes(number), rest))
}

fn append_time(out: &mut Vec<u8>, time: Time) {
    // The year 10,889 is the last.
    let number = time.0.min((1 << 48) - 1).to_le_bytes();
    out.extend_from_slice(&number[..6]);
}

/// A number of one to ten bytes.
fn varied(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

fn append_varied(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The parts of a message as they lie in a record.
#[derive(Debug, Eq, PartialEq)]
struct Parts<'a> {
    origin: u8,
    flags: u8,
    received: u64,
    expires: Option<u64>,
    exchange: &'a str,
    key: &'a [u8],
    properties: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn parts(self) -> Option<Parts<'a>> {
        let ([origin, flags], rest) = self.0.split_first_chunk::<2>()?;
        let (received, rest) = time(rest)?;
        let (expires, rest) = if flags & EXPIRES == 0 {
            (None, rest)
        } else {
            let (expires, rest) = time(rest)?;
            (Some(expires), rest)
        };
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

    /// Whether it has a time to live.
    pub(super) fn expires(self) -> bool {
        self.0.get(1).is_some_and(|flags| flags & EXPIRES != 0)
    }

    /// Why its queue has given it up, if that is so.
    pub(super) fn given_up(self) -> Option<Death> {
        let flags = self.0.get(1).copied().unwrap_or_default();
        let number = usize::from((flags & GIVEN_UP) >> GIVEN_UP_SHIFT);
        Death::ALL.get(number.checked_sub(1)?).copied()
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
            exactly_once: parts.flags & EXACTLY_ONCE != 0,
            retain: parts.flags & RETAIN != 0,
            // Clients are numbered anew by each process.
            publisher: 0,
            received: Time(parts.received),
            expires: parts.expires.map(Time),
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
    write(out, queue, seq, message, 0);
}

/// The queue has the message still, and has given it up.
pub(super) fn give_up(
    out: &mut Vec<u8>,
    queue: u64,
    seq: u64,
    message: &MessageRef<'_>,
    why: Death,
) {
    let place = Death::ALL.iter().position(|known| *known == why);
    let number = place.map_or(0, |place| place as u8 + 1);
    write(out, queue, seq, message, number << GIVEN_UP_SHIFT);
}

fn write(out: &mut Vec<u8>, queue: u64, seq: u64, message: &MessageRef<'_>, given_up: u8) {
    let head = &message.head;
    let slashed = if head.form == Form::Slashed {
        SLASHED
    } else {
        0
    };
    let retain = if head.retain { RETAIN } else { 0 };
    let expires = if head.expires.is_some() { EXPIRES } else { 0 };
    let transient = if head.persistent { 0 } else { TRANSIENT };
    let exactly_once = if head.exactly_once { EXACTLY_ONCE } else { 0 };
    append(out, |out| {
        out.push(PUBLISH);
        append_varied(out, queue);
        append_varied(out, seq);
        let flags = exactly_once | slashed | retain | transient | expires | given_up;
        out.extend_from_slice(&[head.origin.tag(), flags]);
        append_time(out, head.received);
        head.expires.into_iter().for_each(|at| append_time(out, at));
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
        append_varied(out, queue);
        append_varied(out, seq);
        out.extend_from_slice(message.0);
    });
}

pub(super) fn again(out: &mut Vec<u8>, queue: u64, seq: u64, offset: u32) {
    append(out, |out| {
        out.push(AGAIN);
        append_varied(out, queue);
        append_varied(out, seq);
        out.extend_from_slice(&offset.to_le_bytes());
    });
}

/// The numbers are in rising order.
pub(super) fn settle(out: &mut Vec<u8>, queue: u64, seqs: &[u64]) {
    append(out, |out| {
        out.push(SETTLE);
        append_varied(out, queue);
        let mut end = 0;
        for run in seqs.chunk_by(|one, next| one + 1 == *next) {
            append_varied(out, run[0] - end);
            append_varied(out, run.len() as u64);
            end = run[0] + run.len() as u64;
        }
    });
}

pub(super) fn forget(out: &mut Vec<u8>, queue: u64) {
    append(out, |out| {
        out.push(FORGET);
        append_varied(out, queue);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            append_varied(&mut bytes, number);
            bytes.push(7);
            assert_eq!(varied(&bytes), Some((number, &[7][..])));
            assert_eq!(varied(&bytes[..bytes.len() - 2]), None);
        }
        assert_eq!(varied(&[0xff; 10]), None, "more than 64 bits");
        assert_eq!(
            varied(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            None
        );
    }

    #[test]
    fn settled_numbers_are_stretches() {
        let mut bytes = Vec::new();
        settle(&mut bytes, 9, &[3, 4, 5, 9, 1 << 40]);
        seal(&mut bytes, Seal::new(77));
        let Read::Record(Record::Settle { queue, seqs }, end) = read(&bytes, 0, Seal::new(77))
        else {
            panic!("{bytes:?}");
        };
        assert_eq!((queue, end), (9, bytes.len()));
        let ranges: Vec<_> = seqs.ranges().collect();
        assert_eq!(ranges, [3..6, 9..10, 1 << 40..(1 << 40) + 1]);
        // Another segment's nonce makes it no record at all.
        assert!(matches!(read(&bytes, 0, Seal::new(78)), Read::Bad(_)));
    }
}
