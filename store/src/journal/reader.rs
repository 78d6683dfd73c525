//! Reading messages back that a queue does not hold in memory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;

use foldhash::fast::RandomState;
use leveret_core::message::{Message, Origin};

use super::record::{self, HEADER_BYTES, Read, Record, Seal};
use super::recover::Segment;
use super::tail::Place;
use super::{Shared, segment};

/// Bytes that are read at once although some of them are not wanted.
const SPAN_BYTES_MAX: u64 = 1_024 * 1_024;

/// Whether all of these messages are wanted, and the operating system has them.
pub(super) fn has(shared: &Shared, queue: u64, seqs: Range<u64>) -> bool {
    let segments = shared.segments.lock();
    let wanted = seqs.end - seqs.start;
    let places = shared.state.lock().ledger.places(queue, seqs);
    places.len() as u64 == wanted
        && places.iter().all(|(_, place)| {
            let end = u64::from(place.offset) + u64::from(place.bytes);
            let segment = segments.get(&place.segment);
            segment.is_some_and(|segment| end <= segment.used)
        })
}

/// See [`leveret_core::journal::Journal::fetch`].
pub(super) fn fetch(
    shared: &Shared,
    origins: &[&'static dyn Origin],
    queue: u64,
    seqs: impl IntoIterator<Item = u64>,
) -> Vec<(u64, Message)> {
    let (places, segments) = find(shared, queue, seqs, u64::MAX);
    read_all(shared, origins, &places, &segments)
}

/// See [`leveret_core::journal::Journal::fetch_some`].
pub(super) fn fetch_some(
    shared: &Shared,
    origins: &[&'static dyn Origin],
    queue: u64,
    seqs: Range<u64>,
    bytes_max: u64,
) -> (Vec<(u64, Message)>, u64) {
    let end = seqs.end;
    let (places, segments) = find(shared, queue, seqs, bytes_max);
    // Where it was cut, the rest is looked for the next time.
    let bytes: u64 = places.iter().map(|(_, place)| u64::from(place.bytes)).sum();
    let was_cut = bytes >= bytes_max;
    let end = match places.last() {
        Some((last, _)) if was_cut => last + 1,
        _ => end,
    };
    (read_all(shared, origins, &places, &segments), end)
}

fn read_all(
    shared: &Shared,
    origins: &[&'static dyn Origin],
    places: &[(u64, Place)],
    segments: &BTreeMap<u64, Segment>,
) -> Vec<(u64, Message)> {
    let mut found = Vec::with_capacity(places.len());
    let mut scratch = Vec::new();
    for group in places.chunk_by(|(_, one), (_, next)| one.segment == next.segment) {
        let number = group[0].1.segment;
        let span = segments
            .get(&number)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .and_then(|segment| Span::read(segment, group));
        let mut span = match span {
            Ok(span) => span,
            Err(why) => {
                let path = shared.disk.path(&segment::name(number));
                let messages = group.len();
                tracing::error!(path = %path.display(), %why, messages, "messages cannot be read");
                continue;
            }
        };
        for (seq, place) in group {
            match span.message(place.offset, origins, &mut scratch) {
                Ok(message) => found.push((*seq, message)),
                Err(why) => {
                    let path = shared.disk.path(&segment::name(number));
                    let offset = place.offset;
                    tracing::error!(path = %path.display(), offset, %why, "a message is lost");
                }
            }
        }
    }
    found
}

/// Where messages lie, the first ones up to so many bytes, and the files that they lie in: open, so
/// that they can be read even when they are removed meanwhile.
fn find(
    shared: &Shared,
    queue: u64,
    seqs: impl IntoIterator<Item = u64>,
    bytes_max: u64,
) -> (Vec<(u64, Place)>, BTreeMap<u64, Segment>) {
    let segments = shared.segments.lock();
    let mut places = shared.state.lock().ledger.places(queue, seqs);
    let mut bytes = 0;
    let some = places.iter().take_while(|(_, place)| {
        let is_in = bytes < bytes_max;
        bytes += u64::from(place.bytes);
        is_in
    });
    let some = some.count();
    places.truncate(some);
    let numbers = places.iter().map(|(_, place)| place.segment);
    let open = numbers
        .filter_map(|number| Some((number, segments.get(&number)?.clone())))
        .collect();
    (places, open)
}

/// A part of a segment, in memory.
struct Span {
    segment: Segment,
    from: u64,
    bytes: Vec<u8>,
    /// Messages that several records refer to.
    shared: HashMap<u32, Message, RandomState>,
}

impl Span {
    fn read(segment: Segment, places: &[(u64, Place)]) -> io::Result<Self> {
        let from = places.iter().map(|(_, place)| place.offset).min();
        let from = u64::from(from.unwrap_or_default());
        let ends = places
            .iter()
            .map(|(_, place)| u64::from(place.offset) + u64::from(place.bytes));
        let end = ends.max().unwrap_or(from);
        let wanted: u64 = places.iter().map(|(_, place)| u64::from(place.bytes)).sum();
        // Where others' messages lie between, each is read on its own.
        let dense = end - from <= SPAN_BYTES_MAX.max(2 * wanted);
        let mut bytes = vec![0; if dense { (end - from) as usize } else { 0 }];
        segment.file.read_exact_at(&mut bytes, from)?;
        Ok(Self {
            segment,
            from,
            bytes,
            shared: HashMap::default(),
        })
    }

    /// The message of the record that begins there, or that it refers to.
    fn message(
        &mut self,
        offset: u32,
        origins: &[&'static dyn Origin],
        scratch: &mut Vec<u8>,
    ) -> io::Result<Message> {
        let record = self.record(offset)?;
        let body = match read(&record, self.segment.seal)? {
            Record::Publish { message, .. } => {
                let view = message.message(origins).ok_or_else(unreadable)?;
                return Ok(view.to_message(scratch));
            }
            Record::Again { offset, .. } => offset,
            _ => return Err(unreadable()),
        };
        if let Some(message) = self.shared.get(&body) {
            return Ok(message.clone());
        }
        let record = self.record(body)?;
        let Record::Publish { message, .. } = read(&record, self.segment.seal)? else {
            return Err(unreadable());
        };
        let view = message.message(origins).ok_or_else(unreadable)?;
        let message = view.to_message(scratch);
        self.shared.insert(body, message.clone());
        Ok(message)
    }

    /// The bytes of the record that begins there.
    fn record(&self, offset: u32) -> io::Result<std::borrow::Cow<'_, [u8]>> {
        let offset = u64::from(offset);
        let here = offset
            .checked_sub(self.from)
            .and_then(|at| self.bytes.get(at as usize..))
            .filter(|rest| record::end(rest, 0).is_some());
        if let Some(rest) = here {
            return Ok(rest.into());
        }
        let mut header = [0; HEADER_BYTES];
        self.segment.file.read_exact_at(&mut header, offset)?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > record::BODY_BYTES_MAX {
            return Err(unreadable());
        }
        let mut record = vec![0; HEADER_BYTES + length];
        self.segment.file.read_exact_at(&mut record, offset)?;
        Ok(record.into())
    }
}

fn read(record: &[u8], seal: Seal) -> io::Result<Record<'_>> {
    match record::read(record, 0, seal) {
        Read::Record(record, _) => Ok(record),
        Read::End => Err(unreadable()),
        Read::Bad(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
    }
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no message is there")
}
