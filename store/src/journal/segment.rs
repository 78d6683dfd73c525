//! One file of the journal: its name, its header, and reading it as a whole.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

/// The version that this program writes, and the only one that it reads: there was no release with
/// an older one.
pub(super) const FORMAT_VERSION: u32 = 2;

/// Magic, version, number of the segment, nonce, checksum of these.
const COPY_BYTES: usize = 32;

/// The header is there twice: without the nonce nothing in the file can be read.
pub(super) const HEADER_BYTES: u64 = 2 * COPY_BYTES as u64;

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

/// What a segment's name ends with that was set aside.
pub(super) const DAMAGED: &str = ".damaged";

/// The number of a segment that was set aside under this name.
pub(super) fn number_aside(name: &str) -> Option<u64> {
    number(name.strip_suffix(DAMAGED)?)
}

fn header(number: u64, nonce: u64) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    let (copy, second) = bytes.split_at_mut(COPY_BYTES);
    copy[..8].copy_from_slice(&MAGIC);
    copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy[12..20].copy_from_slice(&number.to_le_bytes());
    copy[20..28].copy_from_slice(&nonce.to_le_bytes());
    let sum = crc32c::crc32c(&copy[..28]);
    copy[28..].copy_from_slice(&sum.to_le_bytes());
    second.copy_from_slice(copy);
    bytes
}

/// What a file's beginning says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Header {
    /// The nonce, and whether both copies of it could be read.
    Ours {
        nonce: u64,
        whole: bool,
    },
    /// Nothing was written yet.
    Empty,
    /// Another version's.
    Other(u32),
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
    let (first, second) = found.split_at(COPY_BYTES);
    match (read_copy(first, expected), read_copy(second, expected)) {
        (Header::Ours { nonce, .. }, other) => Header::Ours {
            nonce,
            whole: matches!(other, Header::Ours { .. }),
        },
        (_, Header::Ours { nonce, .. }) => Header::Ours {
            nonce,
            whole: false,
        },
        (first, _) => first,
    }
}

fn read_copy(found: &[u8], expected: u64) -> Header {
    let word = |at: usize| u32::from_le_bytes(found[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_le_bytes(found[at..at + 8].try_into().unwrap_or_default());
    if found[..8] != MAGIC {
        return Header::Bad("it does not begin as a segment does");
    }
    // Version 1 had a shorter header, with its checksum elsewhere.
    if word(8) == 1 && crc32c::crc32c(&found[..20]) == word(20) {
        return Header::Other(1);
    }
    if crc32c::crc32c(&found[..28]) != word(28) {
        return Header::Bad("its header's checksum does not fit");
    }
    if word(8) != FORMAT_VERSION {
        return Header::Other(word(8));
    }
    if long(12) != expected {
        return Header::Bad("it is another segment's");
    }
    Header::Ours {
        nonce: long(20),
        whole: true,
    }
}

/// Makes the file with its header, which is on disk when this returns. Where there is no
/// room to set so many bytes aside, fewer are: at least `least`.
pub(super) fn make(
    disk: &dyn Disk,
    number: u64,
    nonce: u64,
    bytes: u64,
    least: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    let (name, head) = (name(number), header(number, nonce));
    match disk.make(&name, bytes, &head) {
        Err(why) if why.kind() == io::ErrorKind::StorageFull && least < bytes => {
            disk.make(&name, least, &head)
        }
        made => made,
    }
}

/// The whole file.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_into(file, &mut bytes)?;
    Ok(bytes)
}

/// The whole file, into a buffer that is used again.
pub(super) fn read_into(file: &dyn DiskFile, bytes: &mut Vec<u8>) -> io::Result<()> {
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
    bytes.resize(size, 0);
    file.read_exact_at(bytes, 0)
}
