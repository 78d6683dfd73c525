//! The kinds of exchange, what their arguments may be and what they say.
//!
//! Texts are RabbitMQ's and its plugins', since clients match on them; values stand in them as
//! Erlang prints them.

use crate::field::{Table, Value};
use crate::limits::{HISTORY_MESSAGES_MAX, MULTI_WILDCARDS_MAX};
use crate::refusal::{Refusal, Resource};

/// The kinds of exchange that this version serves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExchangeKind {
    /// The binding key is the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Words with wildcards.
    Topic,
    /// The message's headers.
    Headers,
    /// One binding by a hash, in proportion to weights.
    ConsistentHash,
    /// One binding, by chance.
    Random,
    /// One binding, by chance; every queue is on this node.
    LocalRandom,
    /// One binding by a hash and their number.
    ModulusHash,
    /// Every binding, and new ones get what was last published.
    RecentHistory,
    /// As another kind, after a time that the message says.
    Delayed,
}

impl ExchangeKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::Random,
        Self::LocalRandom,
        Self::ModulusHash,
        Self::RecentHistory,
        Self::Delayed,
    ];

    /// The kind's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::ModulusHash => "x-modulus-hash",
            Self::RecentHistory => "x-recent-history",
            Self::Delayed => "x-delayed-message",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind with this name.
    ///
    /// # Errors
    /// 406 for one that nobody knows.
    pub(crate) fn find(name: &str) -> Result<Self, Refusal> {
        Self::named(name).ok_or_else(|| {
            let why = if name.is_empty() {
                "invalid"
            } else {
                "unknown"
            };
            Refusal::precondition(format!("{why} exchange type '{name}'"))
        })
    }
}

/// What a hash is taken of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum HashOn {
    #[default]
    Key,
    Header(Box<[u8]>),
    CorrelationId,
    MessageId,
    Timestamp,
}

/// What an exchange's arguments come to.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// How it matches; of a delaying exchange the kind behind it.
    pub(crate) matching: ExchangeKind,
    pub(crate) hash_on: HashOn,
    /// How many messages a new binding gets.
    pub(crate) history: usize,
    /// Where messages go that match nothing.
    pub(crate) alternate: Option<Box<str>>,
}

/// The argument that names where messages go that match nothing.
pub(crate) const ALTERNATE: &str = "alternate-exchange";

/// Messages that a recent-history exchange keeps if nobody says how many; the plugin's number.
const HISTORY_MESSAGES: usize = 20;

impl Rules {
    /// The rules of an exchange without arguments.
    pub(crate) fn of(kind: ExchangeKind) -> Self {
        Self {
            matching: kind,
            hash_on: HashOn::Key,
            history: HISTORY_MESSAGES,
            alternate: None,
        }
    }

    /// Reads a declaration's arguments.
    ///
    /// # Errors
    /// 406 with the text of RabbitMQ or the plugin.
    pub(crate) fn parse(kind: ExchangeKind, arguments: &Table) -> Result<Self, Refusal> {
        let mut rules = Self::of(kind);
        rules.alternate = arguments
            .lookup(ALTERNATE)
            .and_then(Value::as_str)
            .map(Into::into);
        if kind == ExchangeKind::Delayed {
            rules.matching = delayed_kind(arguments)?;
        }
        match rules.matching {
            ExchangeKind::ConsistentHash => rules.hash_on = hash_on(arguments)?,
            ExchangeKind::RecentHistory => rules.history = history(arguments)?,
            _ => {}
        }
        Ok(rules)
    }
}

/// The alternate exchange of a declaration.
///
/// # Errors
/// 406 for one that is not text.
pub(crate) fn alternate<'a>(
    arguments: &'a Table,
    name: &str,
    vhost: &str,
) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = arguments.lookup(ALTERNATE) else {
        return Ok(None);
    };
    match value {
        // No exchange has a name that is not text.
        Value::LongString(_) => Ok(Some(value.as_str().unwrap_or_default())),
        _ => Err(Refusal::precondition(format!(
            "invalid type '{}' for arg '{ALTERNATE}' in {} '{name}' in vhost '{vhost}'",
            value.type_name(),
            Resource::Exchange.noun(),
        ))),
    }
}

fn delayed_kind(arguments: &Table) -> Result<ExchangeKind, Refusal> {
    let invalid = |why: &str| Refusal::precondition(format!("Invalid argument, {why}"));
    let Some(name) = arguments.lookup("x-delayed-type").and_then(Value::as_str) else {
        return Err(invalid(
            "'x-delayed-type' must be an existing exchange type",
        ));
    };
    let kind = ExchangeKind::find(name)?;
    if kind == ExchangeKind::Delayed {
        return Err(invalid(
            "'x-delayed-message' can't be used for 'x-delayed-type'",
        ));
    }
    Ok(kind)
}

fn hash_on(arguments: &Table) -> Result<HashOn, Refusal> {
    let text = |name: &str| match arguments.lookup(name) {
        None => Ok(None),
        Some(Value::LongString(text)) => Ok(Some(&text[..])),
        Some(other) => Err(Refusal::precondition(format!(
            "Invalid argument {}, '{name}' must be a string",
            erlang(other)
        ))),
    };
    match (text("hash-header")?, text("hash-property")?) {
        (None, None) => Ok(HashOn::Key),
        (Some(header), None) => Ok(HashOn::Header(header.into())),
        (None, Some(b"correlation_id")) => Ok(HashOn::CorrelationId),
        (None, Some(b"message_id")) => Ok(HashOn::MessageId),
        (None, Some(b"timestamp")) => Ok(HashOn::Timestamp),
        (None, Some(other)) => Err(Refusal::precondition(format!(
            "Unsupported property: {}",
            String::from_utf8_lossy(other)
        ))),
        (Some(_), Some(_)) => Err(Refusal::precondition(
            "hash-header and hash-property are mutually exclusive",
        )),
    }
}

fn history(arguments: &Table) -> Result<usize, Refusal> {
    let Some(value) = arguments.lookup("x-recent-history-length") else {
        return Ok(HISTORY_MESSAGES);
    };
    let length = match *value {
        Value::I8(number) => i64::from(number),
        Value::I16(number) => i64::from(number),
        Value::I32(number) => i64::from(number),
        Value::I64(number) => number,
        // As the plugin has it: unsigned ones are none.
        _ => 0,
    };
    let length = usize::try_from(length).unwrap_or_default();
    if length == 0 {
        return Err(Refusal::precondition(format!(
            "Invalid argument {}, 'x-recent-history-length' must be a positive integer",
            erlang(value)
        )));
    }
    if length > HISTORY_MESSAGES_MAX {
        return Err(Refusal::precondition(format!(
            "Invalid argument {length}, 'x-recent-history-length' can be at most \
             {HISTORY_MESSAGES_MAX}"
        )));
    }
    Ok(length)
}

/// The weight that a binding key of a consistent-hash exchange stands for.
///
/// # Errors
/// 406 with the plugin's text.
pub(crate) fn weight(key: &[u8]) -> Result<f64, Refusal> {
    let (negative, digits) = match key.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, key),
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number);
    let Some(weight) = text.and_then(|text| text.parse::<f64>().ok()) else {
        return Err(Refusal::precondition(format!(
            "The binding key must be an integer: {}",
            binary(key)
        )));
    };
    if negative || weight < 1.0 {
        return Err(Refusal::precondition(
            "The binding key must be greater than 0",
        ));
    }
    Ok(weight.min(f64::MAX))
}

/// Refuses a headers binding whose `x-match` nobody knows.
///
/// # Errors
/// 406 with RabbitMQ's text.
pub(crate) fn check_match(arguments: &Table) -> Result<(), Refusal> {
    let text = match arguments.lookup("x-match") {
        None => return Ok(()),
        Some(Value::LongString(text)) => &text[..],
        Some(other) => {
            return Err(Refusal::precondition(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                other.type_name(),
                erlang(other)
            )));
        }
    };
    let known: [&[u8]; 4] = [b"all", b"any", b"all-with-x", b"any-with-x"];
    if known.contains(&text) {
        return Ok(());
    }
    Err(Refusal::precondition(format!(
        "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
        binary(text)
    )))
}

/// Refuses a topic binding whose wildcards would make matching expensive; `multi` of its words are
/// `#`.
///
/// # Errors
/// 406 with RabbitMQ's text.
pub(crate) fn check_wildcards(key: &[u8], multi: usize) -> Result<(), Refusal> {
    if multi <= MULTI_WILDCARDS_MAX {
        return Ok(());
    }
    Err(Refusal::precondition(format!(
        "Topic binding key '{}' uses {multi} '#' wildcards, at most {MULTI_WILDCARDS_MAX} are \
         allowed",
        String::from_utf8_lossy(key),
    )))
}

/// A value as Erlang prints it. Recursion is bounded by [`crate::field::NESTING_MAX`].
fn erlang(value: &Value) -> String {
    let listed = |items: Vec<String>| format!("[{}]", items.join(","));
    match value {
        Value::Void => "undefined".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::F32(value) => format!("{value:?}"),
        Value::F64(value) => format!("{value:?}"),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::LongString(text) | Value::Bytes(text) => binary(text),
        Value::Array(values) => listed(
            values
                .iter()
                .map(|value| format!("{{{},{}}}", value.type_name(), erlang(value)))
                .collect(),
        ),
        Value::Table(table) => listed(
            table
                .iter()
                .map(|(name, value)| {
                    let (name, kind) = (binary(name), value.type_name());
                    format!("{{{name},{kind},{}}}", erlang(value))
                })
                .collect(),
        ),
        _ => value.as_integer().unwrap_or_default().to_string(),
    }
}

/// Bytes as Erlang prints them.
fn binary(bytes: &[u8]) -> String {
    let printable = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(printable) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let coding = if text.is_ascii() { "" } else { "/utf8" };
        return format!("<<\"{quoted}\"{coding}>>");
    }
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_weights_are_decimal_numbers() {
        for (key, expected) in [
            ("1", Ok(1.0)),
            ("007", Ok(7.0)),
            ("+3", Ok(3.0)),
            ("99999999999999999999", Ok(1e20)),
            ("0", Err("The binding key must be greater than 0")),
            ("-1", Err("The binding key must be greater than 0")),
            ("", Err("The binding key must be an integer: <<>>")),
            (
                "1.5",
                Err("The binding key must be an integer: <<\"1.5\">>"),
            ),
            ("1 ", Err("The binding key must be an integer: <<\"1 \">>")),
            ("+", Err("The binding key must be an integer: <<\"+\">>")),
            (
                "1e3",
                Err("The binding key must be an integer: <<\"1e3\">>"),
            ),
        ] {
            let weight = weight(key.as_bytes());
            assert_eq!(
                weight.map_err(|refusal| refusal.text),
                expected.map_err(Into::into),
                "{key}"
            );
        }
    }

    #[test]
    fn values_are_printed_as_erlang_does() {
        let mut table = Table::new();
        table.insert("a", Value::I32(1)).expect("a short name");
        for (value, expected) in [
            (Value::Void, "undefined"),
            (Value::Bool(true), "true"),
            (Value::F64(1.0), "1.0"),
            (Value::from("a\"b"), "<<\"a\\\"b\">>"),
            (Value::LongString([1, 2].into()), "<<1,2>>"),
            (Value::Table(table), "[{<<\"a\">>,signedint,1}]"),
            (Value::Array(vec![Value::U8(7)]), "[{unsignedbyte,7}]"),
        ] {
            assert_eq!(erlang(&value), expected);
        }
    }
}
