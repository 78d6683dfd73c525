//! The end of the journal: what was appended and is not written yet.
//!
//! Decides where a record lies before anything is written, so that later records can refer to it.
//! Must never know what a record means.

use super::record::{self, BATCH_BYTES, Mark, Seal};
use super::segment;

/// Bytes for one place in one file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) segment: u64,
    pub(super) nonce: u64,
    pub(super) offset: u64,
    /// Begins with room for the batch's mark.
    pub(super) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    /// Bytes of one file with its header, unless one record alone needs more.
    segment_bytes: u64,
    segment: u64,
    nonce: u64,
    seal: Seal,
    /// Where the next record begins.
    offset: u64,
    chunks: Vec<Chunk>,
    /// Bytes appended since the journal was opened: numbers of records are counted in it.
    appended: u64,
    batch: u64,
}

/// Where a record lies, and how long it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

/// All that was appended since the last was taken.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Chunk>,
    /// The number of its last record.
    pub(super) number: u64,
    /// The batch's own number.
    pub(super) batch: u64,
}

impl Batch {
    /// Writes the mark at the beginning of each chunk.
    pub(super) fn mark(&mut self, synced: u64) {
        let segment = self.chunks.first().map_or(0, |chunk| chunk.segment);
        let mark = Mark {
            number: self.batch,
            synced,
            segment,
        };
        let mut bytes = Vec::with_capacity(BATCH_BYTES);
        for chunk in &mut self.chunks {
            bytes.clear();
            record::batch(&mut bytes, mark);
            record::seal(&mut bytes, Seal::new(chunk.nonce));
            chunk.bytes[..BATCH_BYTES].copy_from_slice(&bytes);
        }
    }
}

impl Tail {
    /// An end in a segment that is not there yet.
    pub(super) fn new(segment: u64, batch: u64, segment_bytes: u64) -> Self {
        let nonce = rand::random();
        Self {
            segment_bytes,
            segment,
            nonce,
            seal: Seal::new(nonce),
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
            let whole = (BATCH_BYTES + record.len()) as u64;
            if self.offset + whole > self.segment_bytes && self.offset > segment::HEADER_BYTES {
                self.roll();
            }
            return self.begin_chunk(record);
        };
        let at = chunk.bytes.len();
        encode(&mut chunk.bytes);
        let added = (chunk.bytes.len() - at) as u64;
        if self.offset + added > self.segment_bytes {
            let record = chunk.bytes.split_off(at);
            self.roll();
            return self.begin_chunk(record);
        }
        record::seal(&mut chunk.bytes[at..], self.seal);
        self.placed(added)
    }

    /// The place of a record that was appended just now.
    fn placed(&mut self, bytes: u64) -> Place {
        let place = Place {
            segment: self.segment,
            offset: self.offset as u32,
            bytes: bytes as u32,
        };
        self.offset += bytes;
        self.appended += bytes;
        place
    }

    fn roll(&mut self) {
        self.segment += 1;
        self.nonce = rand::random();
        self.seal = Seal::new(self.nonce);
        self.offset = segment::HEADER_BYTES;
    }

    /// A chunk that begins with room for its batch's mark, with a record behind it: one that is
    /// longer than a segment has a file as long as it needs.
    fn begin_chunk(&mut self, mut record: Vec<u8>) -> Place {
        record::seal(&mut record, self.seal);
        let mut bytes = Vec::with_capacity(CHUNK_BYTES_FIRST.max(record.len() + 256));
        bytes.resize(BATCH_BYTES, 0);
        bytes.extend_from_slice(&record);
        self.chunks.push(Chunk {
            segment: self.segment,
            nonce: self.nonce,
            offset: self.offset,
            bytes,
        });
        self.offset += BATCH_BYTES as u64;
        self.appended += BATCH_BYTES as u64;
        self.placed(record.len() as u64)
    }

    /// An empty batch: it says that what was written before it is on disk.
    pub(super) fn end(&mut self) {
        if self.chunks.is_empty() && self.offset > segment::HEADER_BYTES {
            let room = self.segment_bytes.saturating_sub(self.offset);
            if room < BATCH_BYTES as u64 {
                return;
            }
            self.batch += 1;
            self.chunks.push(Chunk {
                segment: self.segment,
                nonce: self.nonce,
                offset: self.offset,
                bytes: vec![0; BATCH_BYTES],
            });
            self.offset += BATCH_BYTES as u64;
            self.appended += BATCH_BYTES as u64;
        }
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
            batch: self.batch,
        }
    }
}

const CHUNK_BYTES_FIRST: usize = 16 * 1_024;
