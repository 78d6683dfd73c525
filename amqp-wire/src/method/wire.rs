//! The types of method arguments on the wire, and the packing of bits.
//!
//! Owns reading and writing of single arguments; never knows which method they belong to.
//! AMQP 0-9-1 §4.2.5: integers in network order, strings behind their length, bits that follow
//! each other packed into octets from the lowest bit up.

use std::fmt;

use leveret_core::field::RawTable;

use super::Malformation;

/// A long string: up to 4 GiB of octets, text or not.
///
/// Passwords and secrets travel as such; it never prints its contents.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct LongString<'a>(pub &'a [u8]);

impl fmt::Debug for LongString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongString({} bytes)", self.0.len())
    }
}

/// The first 255 bytes of UTF-8 text, less what is left of a character cut in two.
#[inline]
pub(crate) fn short_string(text: &[u8]) -> &[u8] {
    if text.len() <= SHORT_STRING_BYTES_MAX {
        return text;
    }
    let mut end = SHORT_STRING_BYTES_MAX;
    // Octets 10xxxxxx continue a character.
    while end > 0 && text[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

/// Where reading is in the arguments of a method.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The octet that bits are being taken from, its next bit lowest.
    bits: u8,
    /// How many of its bits are left.
    bits_left: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(arguments: &'a [u8]) -> Self {
        Self {
            rest: arguments,
            bits: 0,
            bits_left: 0,
        }
    }

    /// Says whether all was read.
    pub(super) fn finish(self) -> Result<(), Malformation> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformation::TrailingBytes)
        }
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformation> {
        self.bits_left = 0;
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformation::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformation> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformation::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn long_slice(&mut self) -> Result<&'a [u8], Malformation> {
        let length = u32::read(self)?;
        self.slice(usize::try_from(length).map_err(|_| Malformation::Truncated)?)
    }
}

/// Writes the arguments of a method to the end of the output.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// How many bits of the last octet are in use; 0 when that octet is no octet of bits.
    bits: u8,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, bits: 0 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bits = 0;
        self.out.extend_from_slice(bytes);
    }

    fn put_long(&mut self, bytes: &[u8]) {
        // Ours are short, and a peer's came in a frame, whose size is a u32.
        let length = u32::try_from(bytes.len()).expect("an argument below 4 GiB");
        self.put(&length.to_be_bytes());
        self.put(bytes);
    }
}

/// The type of an argument.
pub(super) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformation>;
    fn write(self, writer: &mut Writer<'_>);
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Field<'_> for $type {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformation> {
                reader.take().map(Self::from_be_bytes)
            }

            fn write(self, writer: &mut Writer<'_>) {
                writer.put(&self.to_be_bytes());
            }
        }
    )*};
}

integers!(u8 u16 u32 u64);

// AMQP 0-9-1 §4.2.5.2
impl Field<'_> for bool {
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformation> {
        if reader.bits_left == 0 {
            [reader.bits] = reader.take()?;
            reader.bits_left = 8;
        }
        let bit = reader.bits & 1 != 0;
        reader.bits >>= 1;
        reader.bits_left -= 1;
        Ok(bit)
    }

    fn write(self, writer: &mut Writer<'_>) {
        if writer.bits == 0 {
            writer.out.push(0);
        }
        if let Some(octet) = writer.out.last_mut() {
            *octet |= u8::from(self) << writer.bits;
        }
        writer.bits = (writer.bits + 1) % 8;
    }
}

// AMQP 0-9-1 §4.2.5.3
impl<'a> Field<'a> for &'a str {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformation> {
        let [length] = reader.take()?;
        let bytes = reader.slice(length.into())?;
        std::str::from_utf8(bytes).map_err(|_| Malformation::NotUtf8)
    }

    fn write(self, writer: &mut Writer<'_>) {
        let bytes = short_string(self.as_bytes());
        writer.put(&[bytes.len() as u8]);
        writer.put(bytes);
    }
}

impl<'a> Field<'a> for LongString<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformation> {
        reader.long_slice().map(Self)
    }

    fn write(self, writer: &mut Writer<'_>) {
        writer.put_long(self.0);
    }
}

// AMQP 0-9-1 §4.2.5.5
impl<'a> Field<'a> for RawTable<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformation> {
        Ok(Self::parse(reader.long_slice()?)?)
    }

    fn write(self, writer: &mut Writer<'_>) {
        writer.put_long(self.as_bytes());
    }
}

/// The longest short string in bytes: its length is one octet.
const SHORT_STRING_BYTES_MAX: usize = 255;
