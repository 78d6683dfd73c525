//! TOML files: nested tables and dotted keys are the same dotted key.
//!
//! `[mqtt]` with `vhost = "/"` under it, and `mqtt.vhost = "/"`, both assign `mqtt.vhost`. Knows
//! nothing of which keys exist, and never shows a value: it may be a password.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;
use crate::source::{Assignment, Origin, Shape};

/// Tables within tables; the longest key of the schema has four words.
const DEPTH_MAX: usize = 16;

/// Appends the settings of `text` to `into`, in the order of their lines, or what is wrong with
/// its syntax to `errors`.
pub(crate) fn parse(
    path: &str,
    text: &str,
    into: &mut Vec<Assignment>,
    errors: &mut Vec<ConfigError>,
) {
    let lines = Lines::of(path, text);
    let (table, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        errors.extend(faults.iter().map(|fault| ConfigError::Syntax {
            origin: lines.origin(fault.span().map_or(0, |span| span.start)),
            why: fault.message().replace('\n', ", "),
        }));
        return;
    }
    let mut found = Vec::new();
    flatten("", table.get_ref(), DEPTH_MAX, &lines, &mut found, errors);
    found.sort_by_key(|(at, _)| *at);
    into.extend(found.into_iter().map(|(_, assignment)| assignment));
}

fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    depth_left: usize,
    lines: &Lines<'_>,
    into: &mut Vec<(usize, Assignment)>,
    errors: &mut Vec<ConfigError>,
) {
    for (word, value) in table {
        let at = word.span().start;
        let key = if prefix.is_empty() {
            word.get_ref().to_string()
        } else {
            format!("{prefix}.{}", word.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(_) if depth_left == 0 => errors.push(ConfigError::Syntax {
                origin: lines.origin(at),
                why: format!("more than {DEPTH_MAX} tables within each other"),
            }),
            DeValue::Table(inner) => flatten(&key, inner, depth_left - 1, lines, into, errors),
            other => {
                let (text, shape) = scalar(other);
                into.push((
                    at,
                    Assignment {
                        key,
                        text,
                        shape,
                        origin: lines.origin(at),
                    },
                ));
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> (String, Shape) {
    match value {
        DeValue::String(text) => (text.to_string(), Shape::String),
        DeValue::Boolean(value) => (value.to_string(), Shape::Boolean),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            let text = decimal.map_or_else(|_| number.as_str().into(), |value| value.to_string());
            (text, Shape::Integer)
        }
        DeValue::Float(number) => (number.as_str().into(), Shape::Float),
        DeValue::Datetime(time) => (time.to_string(), Shape::Other),
        DeValue::Table(_) => ("{...}".into(), Shape::Other),
        DeValue::Array(members) => list(members.iter()),
    }
}

fn list<'a, 'i: 'a>(members: impl Iterator<Item = &'a Spanned<DeValue<'i>>>) -> (String, Shape) {
    let mut texts = Vec::new();
    for member in members {
        match member.get_ref() {
            DeValue::Array(_) | DeValue::Table(_) => return ("[...]".into(), Shape::Other),
            plain => texts.push(scalar(plain).0),
        }
    }
    (texts.join(", "), Shape::List)
}

/// Turns byte offsets into lines.
struct Lines<'a> {
    path: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(path: &'a str, text: &str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path,
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    fn origin(&self, at: usize) -> Origin {
        let line = self.starts.partition_point(|&start| start <= at);
        Origin::File {
            path: self.path.into(),
            line,
        }
    }
}
