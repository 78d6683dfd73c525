//! Field tables and their values: octets and text.
//!
//! Owns the types that RabbitMQ knows, written without regard to the broker's own codec. Keeps the
//! type of every value, so that a change of width is a difference.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::octets::Reader;
use super::text;

/// A table in the order of the wire; keys may occur twice.
pub(super) type Table = Vec<(Vec<u8>, Value)>;

/// A value as it lies on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A type of fixed length: its letter and its octets.
    Plain(u8, Vec<u8>),
    /// `S` or `x`.
    Text(u8, Vec<u8>),
    Table(Table),
    Array(Vec<Self>),
}

/// The types of fixed length and their lengths.
const PLAIN: &[(u8, usize)] = &[
    (b'I', 4),
    (b'T', 8),
    (b'b', 1),
    (b'B', 1),
    (b's', 2),
    (b'u', 2),
    (b'i', 4),
    (b'l', 8),
    (b'L', 8),
    (b'd', 8),
    (b'f', 4),
    (b'D', 5),
    (b't', 1),
    (b'V', 0),
];

pub(super) fn encode_table(out: &mut Vec<u8>, table: &Table) -> Result<()> {
    let mut inner = Vec::new();
    for (key, value) in table {
        inner.push(u8::try_from(key.len()).context("a key has 255 octets at most")?);
        inner.extend(key);
        encode(&mut inner, value)?;
    }
    out.extend(u32::try_from(inner.len())?.to_be_bytes());
    out.extend(inner);
    Ok(())
}

fn encode(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    match value {
        Value::Plain(letter, octets) => {
            out.push(*letter);
            out.extend(octets);
        }
        Value::Text(letter, octets) => {
            out.push(*letter);
            out.extend(u32::try_from(octets.len())?.to_be_bytes());
            out.extend(octets);
        }
        Value::Table(table) => {
            out.push(b'F');
            encode_table(out, table)?;
        }
        Value::Array(values) => {
            out.push(b'A');
            let mut inner = Vec::new();
            for value in values {
                encode(&mut inner, value)?;
            }
            out.extend(u32::try_from(inner.len())?.to_be_bytes());
            out.extend(inner);
        }
    }
    Ok(())
}

pub(super) fn decode_table(reader: &mut Reader<'_>) -> Result<Table> {
    let mut inner = Reader::new(reader.long_string()?);
    let mut table = Table::new();
    while !inner.is_empty() {
        let key = inner.short_string()?.to_vec();
        table.push((key, decode(&mut inner)?));
    }
    Ok(table)
}

fn decode(reader: &mut Reader<'_>) -> Result<Value> {
    let letter = reader.octet()?;
    Ok(match letter {
        b'S' | b'x' => Value::Text(letter, reader.long_string()?.to_vec()),
        b'F' => Value::Table(decode_table(reader)?),
        b'A' => {
            let mut inner = Reader::new(reader.long_string()?);
            let mut values = Vec::new();
            while !inner.is_empty() {
                values.push(decode(&mut inner)?);
            }
            Value::Array(values)
        }
        _ => {
            let plain = PLAIN.iter().find(|(known, _)| *known == letter);
            let Some((_, length)) = plain else {
                bail!("field type {:?}", char::from(letter));
            };
            Value::Plain(letter, reader.take(*length)?.to_vec())
        }
    })
}

/// A table as a script writes it, sorted by key.
pub(super) fn show_table(table: &Table) -> String {
    let mut sorted: Vec<_> = table.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
    let fields: Vec<_> = sorted
        .iter()
        .map(|(key, value)| format!("{}: {}", text::show_key(key), show(value)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn show(value: &Value) -> String {
    match value {
        Value::Plain(letter, octets) => {
            let mut shown = char::from(*letter).to_string();
            if let Some(number) = show_plain(*letter, octets) {
                let _ = write!(shown, " {number}");
            }
            shown
        }
        Value::Text(letter, octets) => format!("{} {}", char::from(*letter), text::show(octets)),
        Value::Table(table) => format!("F {}", show_table(table)),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(show).collect();
            format!("A [{}]", values.join(", "))
        }
    }
}

fn show_plain(letter: u8, octets: &[u8]) -> Option<String> {
    let mut wide = [0; 8];
    wide[8 - octets.len()..].copy_from_slice(octets);
    let unsigned = u64::from_be_bytes(wide);
    let bits = 64 - 8 * octets.len();
    // Shifting to the top and back extends the sign.
    let signed = unsigned.checked_shl(u32::try_from(bits).ok()?).unwrap_or(0) as i64;
    let signed = signed.checked_shr(u32::try_from(bits).ok()?).unwrap_or(0);
    Some(match letter {
        b'V' => return None,
        b't' => (unsigned != 0).to_string(),
        b'T' if unsigned > NOT_A_SCRIPTS => "<time>".to_owned(),
        b'B' | b'u' | b'i' | b'T' => unsigned.to_string(),
        b'd' => f64::from_bits(unsigned).to_string(),
        b'f' => f32::from_bits(u32::try_from(unsigned).ok()?).to_string(),
        b'D' => format!("{}/{}", octets[0], unsigned & 0xFFFF_FFFF),
        _ => signed.to_string(),
    })
}

/// A table as `{key: value, …}`.
fn parse_table(source: &mut text::Source<'_>) -> Result<Table> {
    source.expect('{')?;
    parse_table_after_brace(source)
}

/// The rest of a table whose opening brace was taken.
pub(super) fn parse_table_after_brace(source: &mut text::Source<'_>) -> Result<Table> {
    let mut table = Table::new();
    while !source.skip('}') {
        let key = source.word(":,}")?;
        source.expect(':')?;
        table.push((key, parse(source)?));
        source.skip(',');
    }
    Ok(table)
}

/// A value as its letter and its number or text; without a letter it is an `S`.
pub(super) fn parse(source: &mut text::Source<'_>) -> Result<Value> {
    if source.is_quoted() {
        return Ok(Value::Text(b'S', source.word(",}]")?));
    }
    let word = source.word(",}]")?;
    let &[letter] = word.as_slice() else {
        return Ok(Value::Text(b'S', word));
    };
    Ok(match letter {
        b'S' | b'x' => Value::Text(letter, source.word(",}]")?),
        b'F' => Value::Table(parse_table(source)?),
        b'A' => {
            source.expect('[')?;
            let mut values = Vec::new();
            while !source.skip(']') {
                values.push(parse(source)?);
                source.skip(',');
            }
            Value::Array(values)
        }
        b'V' => Value::Plain(letter, Vec::new()),
        _ => match PLAIN.iter().find(|(known, _)| *known == letter) {
            Some((_, length)) => {
                let word = String::from_utf8(source.word(",}]")?)?;
                Value::Plain(letter, parse_plain(letter, *length, &word)?)
            }
            None => Value::Text(b'S', word),
        },
    })
}

fn parse_plain(letter: u8, length: usize, word: &str) -> Result<Vec<u8>> {
    let wide = match letter {
        b't' => u64::from(word == "true"),
        b'd' => word.parse::<f64>()?.to_bits(),
        b'f' => word.parse::<f32>()?.to_bits().into(),
        b'D' => {
            let (scale, number) = word.split_once('/').context("a decimal is SCALE/NUMBER")?;
            (u64::from(scale.parse::<u8>()?) << 32) | u64::from(number.parse::<u32>()?)
        }
        _ if word.starts_with('-') => word.parse::<i64>()? as u64,
        _ => word
            .parse::<u64>()
            .with_context(|| format!("number {word}"))?,
    };
    Ok(wide.to_be_bytes()[8 - length..].to_vec())
}

/// The same table with every text changed.
pub(super) fn map_texts(table: &Table, change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Table {
    let changed = table
        .iter()
        .map(|(key, value)| (key.clone(), map_text(value, change)));
    changed.collect()
}

fn map_text(value: &Value, change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Value {
    match value {
        Value::Plain(..) => value.clone(),
        Value::Text(letter, octets) => Value::Text(*letter, change(octets)),
        Value::Table(table) => Value::Table(map_texts(table, change)),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| map_text(value, change)).collect())
        }
    }
}

/// Later times come from a server's clock, and differ from run to run.
const NOT_A_SCRIPTS: u64 = 1_700_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_wire_and_the_page() {
        let page = "{a: I -5, b: S \"x y\", c: T 7, d: F {e: t true}, f: A [b -1, B 255], \
                    g: s -3, h: u 65535, i: i 4294967295, j: l -9, k: L -9, l: d 1.5, m: f 0.5, \
                    n: D 2/314, o: V, p: x \"\\x00\"}";
        let table = parse_table(&mut text::Source::new(page)).expect("it is one");
        let mut octets = Vec::new();
        encode_table(&mut octets, &table).expect("it fits");
        let decoded = decode_table(&mut Reader::new(&octets)).expect("it is whole");
        assert_eq!(show_table(&decoded), page);
    }
}
