//! One file of the journal: its name, its header, and reading it as a whole.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

/// The version that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Magic, version, number of the segment, checksum of these.
pub(super) const HEADER_BYTES: u64 = 24;

const MAGIC: [u8; 8] = *b"LEVERETJ";

/// The file's name: its number in hexadecimal, so that names sort as numbers do.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The number of the segment with this name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn header(number: u64) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..20]);
    bytes[20..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// What a file's beginning says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Header {
    Ours,
    /// Nothing was written yet.
    Empty,
    Newer(u32),
    Bad(&'static str),
}

pub(super) fn read_header(bytes: &[u8], expected: u64) -> Header {
    let Some(found) = bytes.first_chunk::<{ HEADER_BYTES as usize }>() else {
        // A crash came between its making and its growing.
        return Header::Empty;
    };
    if found.iter().all(|byte| *byte == 0) {
        return Header::Empty;
    }
    if found[..8] != MAGIC {
        return Header::Bad("it does not begin as a segment does");
    }
    let word = |at: usize| u32::from_le_bytes(found[at..at + 4].try_into().unwrap_or_default());
    if crc32c::crc32c(&found[..20]) != word(20) {
        return Header::Bad("its header's checksum does not fit");
    }
    if word(8) > FORMAT_VERSION {
        return Header::Newer(word(8));
    }
    if *found == header(expected) {
        Header::Ours
    } else {
        Header::Bad("it is another segment's")
    }
}

/// Makes the file with its header; the header is on disk with the first batch.
pub(super) fn make(disk: &dyn Disk, number: u64, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.make(&name(number), bytes)?;
    file.write_all_at(&header(number), 0)?;
    Ok(file)
}

/// The whole file.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
