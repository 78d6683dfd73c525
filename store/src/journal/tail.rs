//! The end of the journal: what was appended and is not written yet.
//!
//! Decides where a record lies before anything is written, so that later records can refer to it.
//! Must never know what a record means.

use super::record;
use super::segment;

/// Bytes for one place in one file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    /// Bytes of one file with its header, unless one record alone needs more.
    segment_bytes: u64,
    segment: u64,
    /// Where the next record begins.
    offset: u64,
    chunks: Vec<Chunk>,
    /// Bytes appended since the journal was opened: numbers of records are counted in it.
    appended: u64,
    batch: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// All that was appended since the last was taken.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Chunk>,
    /// The number of its last record.
    pub(super) number: u64,
}

impl Tail {
    /// An end in a segment that is not there yet.
    pub(super) fn new(segment: u64, batch: u64, segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            segment,
            offset: segment::HEADER_BYTES,
            chunks: Vec::new(),
            appended: 0,
            batch,
        }
    }

    /// Appends the record that `encode` writes; where it lies does not depend on what follows.
    pub(super) fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Place {
        let Some(chunk) = self.chunks.last_mut() else {
            let mut record = Vec::new();
            encode(&mut record);
            self.batch += 1;
            let whole = BATCH_BYTES + record.len() as u64;
            if self.offset + whole > self.segment_bytes && self.offset > segment::HEADER_BYTES {
                self.roll();
            }
            return self.begin_chunk(&record);
        };
        let at = chunk.bytes.len();
        encode(&mut chunk.bytes);
        let added = (chunk.bytes.len() - at) as u64;
        if self.offset + added > self.segment_bytes {
            let record = chunk.bytes.split_off(at);
            self.roll();
            return self.begin_chunk(&record);
        }
        let place = Place {
            segment: self.segment,
            offset: self.offset,
        };
        self.offset += added;
        self.appended += added;
        place
    }

    fn roll(&mut self) {
        self.segment += 1;
        self.offset = segment::HEADER_BYTES;
    }

    /// A chunk that begins with its batch's number, with a record behind it: one that is longer
    /// than a segment has a file as long as it needs.
    fn begin_chunk(&mut self, record: &[u8]) -> Place {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES_FIRST.max(record.len() + 256));
        record::batch(&mut bytes, self.batch);
        let place = Place {
            segment: self.segment,
            offset: self.offset + bytes.len() as u64,
        };
        bytes.extend_from_slice(record);
        let chunk = Chunk {
            segment: self.segment,
            offset: self.offset,
            bytes,
        };
        self.offset += chunk.bytes.len() as u64;
        self.appended += chunk.bytes.len() as u64;
        self.chunks.push(chunk);
        place
    }

    /// The number of the last record.
    pub(super) fn number(&self) -> u64 {
        self.appended
    }

    /// The segment that is written to.
    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// The first segment that something is still to be written to.
    pub(super) fn oldest(&self) -> u64 {
        self.chunks
            .first()
            .map_or(self.segment, |chunk| chunk.segment)
    }

    /// Whether a short record surely lies in the segment that is written to.
    pub(super) fn has_room(&self) -> bool {
        !self.chunks.is_empty() && self.offset + 256 < self.segment_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn take(&mut self) -> Batch {
        Batch {
            chunks: std::mem::take(&mut self.chunks),
            number: self.appended,
        }
    }
}

const CHUNK_BYTES_FIRST: usize = 16 * 1_024;

/// A record that names a batch.
const BATCH_BYTES: u64 = record::HEADER_BYTES as u64 + 9;
