//! Field tables and field values: arguments, headers, client and server properties.
//!
//! Owns the owned form ([`Table`], [`Value`]), the borrowed form over wire bytes ([`RawTable`],
//! [`ValueRef`]) and the conversion between them. Never follows nesting by unbounded recursion,
//! never takes memory before the length that asks for it was checked against the input.
//! AMQP 0-9-1 §4.2.5.5, with RabbitMQ's type letters where the two differ:
//!
//! ```text
//! table  = length(u32) *( name-length(u8) name value )
//! array  = length(u32) *value
//! value  = letter data
//!
//! t bool u8      b i8    B u8     s i16   u u16   I i32   i u32   l i64   L i64
//! f f32  d f64   D scale(u8) value(u32)   T timestamp u64, seconds
//! S x    length(u32) bytes                F table         A array         V nothing
//! ```
//!
//! | Deviation from the specification | Why | Test |
//! |---|---|---|
//! | `s` is an i16, `L` an i64; `u`, `i`, `B` are unsigned | RabbitMQ, its clients | `letters` |
//! | names of up to 255 octets, whatever they are | RabbitMQ | `name_lengths` |
//! | at most [`NESTING_MAX`] levels of nesting | bounded work | `nesting` |

mod encode;
mod raw;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::encode::encode_entry;
pub use self::raw::{Entries, RawArray, RawTable, ValueRef, Values, validate};

/// The value of a field, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `t`: true or false; any octet but 0 is true.
    Bool(bool),
    /// `b`: a signed octet.
    I8(i8),
    /// `B`: an unsigned octet.
    U8(u8),
    /// `s`: a signed 16-bit integer.
    I16(i16),
    /// `u`: an unsigned 16-bit integer.
    U16(u16),
    /// `I`: a signed 32-bit integer.
    I32(i32),
    /// `i`: an unsigned 32-bit integer.
    U32(u32),
    /// `l`, and `L` on input: a signed 64-bit integer.
    I64(i64),
    /// `f`: a 32-bit float.
    F32(f32),
    /// `d`: a 64-bit float.
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// How many digits stand behind the decimal point.
        scale: u8,
        /// All the digits.
        value: u32,
    },
    /// `S`: octets, mostly UTF-8 text.
    LongString(Box<[u8]>),
    /// `A`: values without names, of any types.
    Array(Vec<Self>),
    /// `T`: POSIX time in seconds.
    Timestamp(u64),
    /// `F`: a nested table.
    Table(Table),
    /// `x`: octets that are no text.
    Bytes(Box<[u8]>),
    /// `V`: no value.
    Void,
}

impl Value {
    /// The integer in any of the integer types, which compare by value as one class; timestamps
    /// and booleans are none of them.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(value) => Some(value.into()),
            Self::U8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// RabbitMQ's name for the type, as its texts have it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Bytes(_) => "binary",
            Self::Void => "void",
        }
    }

    /// Equal by value: integers of whatever type are one class, as RabbitMQ compares them.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        match (self.as_integer(), other.as_integer()) {
            (Some(one), Some(other)) => one == other,
            _ => self == other,
        }
    }

    /// The text of a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongString(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The boolean of a `t`.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::LongString(text.as_bytes().into())
    }
}

/// A field table, owned: names and values in the order of the wire.
///
/// A name may occur more than once if it did on the wire; [`Table::lookup`] answers with the
/// first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    entries: Vec<(Box<[u8]>, Value)>,
}

impl Table {
    /// An empty table. Takes no memory.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Reads the entries in `bytes`, a table without its length prefix.
    ///
    /// The memory taken is at most a constant factor (about 48) times `bytes.len()`.
    ///
    /// # Errors
    ///
    /// Whatever [`validate`] finds wrong, but that [`KEPT_NESTING_MAX`] levels are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        raw::validate_to::<KEPT_NESTING_MAX>(bytes)?;
        Ok(RawTable(bytes).to_table())
    }

    /// Appends the entries to `out`, without a length prefix. On an error `out` is as it was.
    ///
    /// # Errors
    ///
    /// [`FieldError::NestingTooDeep`] beyond [`KEPT_NESTING_MAX`] levels; [`FieldError::TooLong`]
    /// for a value whose length does not fit its prefix.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FieldError> {
        encode::table(self, out)
    }

    /// Sets `name` to `value` in the place of the first entry of that name, or as a last entry.
    ///
    /// # Errors
    ///
    /// [`FieldError::NameTooLong`] for a name above [`NAME_BYTES_MAX`]; nothing is changed then.
    pub fn insert(&mut self, name: &str, value: Value) -> Result<(), FieldError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(FieldError::NameTooLong { bytes: name.len() });
        }
        match self
            .entries
            .iter_mut()
            .find(|(other, _)| **other == *name.as_bytes())
        {
            Some((_, old)) => *old = value,
            None => self.entries.push((name.as_bytes().into(), value)),
        }
        Ok(())
    }

    /// The value of the first entry called `name`.
    pub fn lookup(&self, name: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(other, _)| **other == *name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Takes out every entry called `name` and says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries
            .retain(|(other, _)| **other != *name.as_bytes());
        self.entries.len() < before
    }

    /// Names and values in order. Names are nearly always UTF-8, which nothing enforces.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &Value)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// The same entries by name; those of one name in their order.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted
            .entries
            .sort_by(|(one, _), (other, _)| one.cmp(other));
        sorted
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Why bytes are no field table, or a table cannot be put into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldError {
    /// A name, a value or a length reaches beyond the end of what holds it.
    #[error("field table ends inside a field")]
    Truncated,
    /// A type letter that stands for no type.
    #[error("unknown field type {letter:#04x}")]
    UnknownType {
        /// The octet in the letter's place.
        letter: u8,
    },
    /// Tables and arrays in each other, more than [`NESTING_MAX`] levels.
    #[error("field table nested deeper than {NESTING_MAX} levels")]
    NestingTooDeep,
    /// A name above [`NAME_BYTES_MAX`], to be encoded.
    #[error("field name of {bytes} bytes is longer than {NAME_BYTES_MAX}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A string, array or table of 4 GiB or more, to be encoded.
    #[error("field value of {bytes} bytes does not fit a 32-bit length")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// How many levels of tables and arrays may lie in each other, the outermost table included.
/// Clients use two or three (`x-death` is an array of tables in the headers: three); recursion
/// over a checked value is bounded by it, in the checker itself by a stack of this size.
pub const NESTING_MAX: usize = 32;

/// The same in what the broker keeps: its records have what came off the wire one level deeper.
pub const KEPT_NESTING_MAX: usize = NESTING_MAX + 1;

/// The longest name of a field in bytes: its length is one octet.
pub const NAME_BYTES_MAX: usize = 255;
