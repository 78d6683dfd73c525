//! Field tables as they lie on the wire: checked once, then read in place.
//!
//! Owns the borrowed views and the check that makes them. Never allocates, except to make the
//! owned form when asked; never recurses while checking. AMQP 0-9-1 §4.2.5.5.

use super::{FieldError, NESTING_MAX, Table, Value};

/// The bytes of a field table without its length prefix, known to be legal throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawTable<'a>(pub(super) &'a [u8]);

impl<'a> RawTable<'a> {
    /// Checks `bytes`, a table without its length prefix.
    ///
    /// # Errors
    ///
    /// Whatever [`validate`] finds wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FieldError> {
        validate(bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, without the length prefix.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no entry.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The names and values in order.
    pub fn entries(self) -> Entries<'a> {
        Entries::new(self)
    }

    /// The value of the first entry called `name`.
    pub fn lookup(self, name: &str) -> Option<ValueRef<'a>> {
        self.entries()
            .find(|(other, _)| *other == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The owned form.
    pub fn to_table(self) -> Table {
        let own = |(name, value): (&[u8], ValueRef<'_>)| (name.into(), value.to_value());
        Table {
            entries: self.entries().map(own).collect(),
        }
    }
}

/// The bytes of a field array without its length prefix, known to be legal throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawArray<'a>(&'a [u8]);

impl<'a> RawArray<'a> {
    /// The bytes, without the length prefix.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no value.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The values in order.
    pub fn values(self) -> Values<'a> {
        Values { rest: self.0 }
    }
}

/// The value of a field, borrowed from wire bytes; [`Value`] says what each variant is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// `t`.
    Bool(bool),
    /// `b`.
    I8(i8),
    /// `B`.
    U8(u8),
    /// `s`.
    I16(i16),
    /// `u`.
    U16(u16),
    /// `I`.
    I32(i32),
    /// `i`.
    U32(u32),
    /// `l` or `L`.
    I64(i64),
    /// `f`.
    F32(f32),
    /// `d`.
    F64(f64),
    /// `D`.
    Decimal {
        /// How many digits stand behind the decimal point.
        scale: u8,
        /// All the digits.
        value: u32,
    },
    /// `S`.
    LongString(&'a [u8]),
    /// `A`.
    Array(RawArray<'a>),
    /// `T`, in seconds.
    Timestamp(u64),
    /// `F`.
    Table(RawTable<'a>),
    /// `x`.
    Bytes(&'a [u8]),
    /// `V`.
    Void,
}

impl ValueRef<'_> {
    /// The owned form. Recursion is bounded by [`super::KEPT_NESTING_MAX`]: what is borrowed was
    /// checked.
    pub fn to_value(self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::I8(value) => Value::I8(value),
            Self::U8(value) => Value::U8(value),
            Self::I16(value) => Value::I16(value),
            Self::U16(value) => Value::U16(value),
            Self::I32(value) => Value::I32(value),
            Self::U32(value) => Value::U32(value),
            Self::I64(value) => Value::I64(value),
            Self::F32(value) => Value::F32(value),
            Self::F64(value) => Value::F64(value),
            Self::Decimal { scale, value } => Value::Decimal { scale, value },
            Self::LongString(bytes) => Value::LongString(bytes.into()),
            Self::Array(array) => Value::Array(array.values().map(Self::to_value).collect()),
            Self::Timestamp(seconds) => Value::Timestamp(seconds),
            Self::Table(table) => Value::Table(table.to_table()),
            Self::Bytes(bytes) => Value::Bytes(bytes.into()),
            Self::Void => Value::Void,
        }
    }
}

/// The names and values of a [`RawTable`], in order.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The names and values of `table`.
    pub fn new(table: RawTable<'a>) -> Self {
        Self { rest: table.0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // Nothing fails but at the end: a `RawTable` is made by `validate` alone.
        let name = take_name(&mut self.rest).ok()?;
        let value = take_value(&mut self.rest).ok()?;
        Some((name, value))
    }
}

/// The values of a [`RawArray`], in order.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // Nothing fails but at the end: a `RawArray` is made by `validate` alone.
        take_value(&mut self.rest).ok()
    }
}

/// Checks a whole table without its length prefix, in one pass and in constant memory.
///
/// # Errors
///
/// [`FieldError::Truncated`] where anything reaches beyond what holds it,
/// [`FieldError::UnknownType`] for an unknown letter, [`FieldError::NestingTooDeep`] as soon as
/// more than [`NESTING_MAX`] levels are open.
pub fn validate(bytes: &[u8]) -> Result<(), FieldError> {
    validate_to::<NESTING_MAX>(bytes)
}

/// The same with another number of levels.
pub(super) fn validate_to<const LEVELS: usize>(bytes: &[u8]) -> Result<(), FieldError> {
    let mut open = [Level {
        rest: &[],
        named: true,
    }; LEVELS];
    open[0].rest = bytes;
    let mut depth = 0;
    loop {
        let level = &mut open[depth];
        if level.rest.is_empty() {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            continue;
        }
        if level.named {
            take_name(&mut level.rest)?;
        }
        let nested = match take_value(&mut level.rest)? {
            ValueRef::Table(table) => Level {
                rest: table.0,
                named: true,
            },
            ValueRef::Array(array) => Level {
                rest: array.0,
                named: false,
            },
            _ => continue,
        };
        depth += 1;
        *open.get_mut(depth).ok_or(FieldError::NestingTooDeep)? = nested;
    }
}

/// A table (`named`) or array that is open, and what of it is still to be checked.
#[derive(Clone, Copy)]
struct Level<'a> {
    rest: &'a [u8],
    named: bool,
}

fn take_name<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FieldError> {
    let [length] = take(rest)?;
    take_slice(rest, length.into())
}

/// Takes one value off the front. A table or array that comes out is cut to its length but not
/// yet checked inside: only `validate` and iterators over checked bytes may call this.
fn take_value<'a>(rest: &mut &'a [u8]) -> Result<ValueRef<'a>, FieldError> {
    let [letter] = take(rest)?;
    Ok(match letter {
        b't' => ValueRef::Bool(take::<1>(rest)? != [0]),
        b'b' => ValueRef::I8(i8::from_be_bytes(take(rest)?)),
        b'B' => ValueRef::U8(u8::from_be_bytes(take(rest)?)),
        b's' => ValueRef::I16(i16::from_be_bytes(take(rest)?)),
        b'u' => ValueRef::U16(u16::from_be_bytes(take(rest)?)),
        b'I' => ValueRef::I32(i32::from_be_bytes(take(rest)?)),
        b'i' => ValueRef::U32(u32::from_be_bytes(take(rest)?)),
        b'l' | b'L' => ValueRef::I64(i64::from_be_bytes(take(rest)?)),
        b'f' => ValueRef::F32(f32::from_be_bytes(take(rest)?)),
        b'd' => ValueRef::F64(f64::from_be_bytes(take(rest)?)),
        b'D' => {
            let [scale] = take(rest)?;
            ValueRef::Decimal {
                scale,
                value: u32::from_be_bytes(take(rest)?),
            }
        }
        b'S' => ValueRef::LongString(take_long(rest)?),
        b'A' => ValueRef::Array(RawArray(take_long(rest)?)),
        b'T' => ValueRef::Timestamp(u64::from_be_bytes(take(rest)?)),
        b'F' => ValueRef::Table(RawTable(take_long(rest)?)),
        b'x' => ValueRef::Bytes(take_long(rest)?),
        b'V' => ValueRef::Void,
        letter => return Err(FieldError::UnknownType { letter }),
    })
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FieldError> {
    let length = u32::from_be_bytes(take(rest)?);
    take_slice(
        rest,
        usize::try_from(length).map_err(|_| FieldError::Truncated)?,
    )
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], FieldError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(FieldError::Truncated)?;
    *rest = after;
    Ok(taken)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FieldError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(FieldError::Truncated)?;
    *rest = after;
    Ok(*taken)
}
