//! The settings that a policy may have, and their values. Texts are RabbitMQ's.

use super::Scope;
use crate::field::{Table, Value};
use crate::limits::TTL_MS_MAX;
use crate::queue::{Overflow, QueueKind, RETRIES, age_ms};

/// What a policy asks for, or two of them together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(super) expires_ms: Option<u64>,
    pub(super) message_ttl_ms: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) max_length_bytes: Option<u64>,
    pub(super) overflow: Option<Overflow>,
    pub(super) dead_letter_exchange: Option<Box<str>>,
    pub(super) dead_letter_routing_key: Option<Box<str>>,
    pub(super) at_least_once: Option<bool>,
    pub(super) delivery_limit: Option<i64>,
    pub(super) consumer_timeout_ms: Option<u64>,
    pub(super) max_age_ms: Option<u64>,
    pub(super) segment_bytes: Option<u64>,
    pub(crate) alternate_exchange: Option<Box<str>>,
}

/// How two values of a setting go together: the user's and the operator's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Both {
    /// The operator cannot set it.
    Never,
    /// The smaller one.
    Least,
    /// The greater one.
    Most,
    /// The operator's.
    Operator,
}

/// One setting.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) both: Both,
    /// A policy that has it does not apply to these.
    unsupported: &'static [QueueKind],
    /// What a wrong value is not.
    what: &'static str,
    /// `None`: the value is wrong.
    read: fn(&Value, &mut Settings) -> Option<()>,
}

const ALL: &[QueueKind] = &[];
const NOT_STREAM: &[QueueKind] = &[QueueKind::Stream];
const QUORUM: &[QueueKind] = &[QueueKind::Classic, QueueKind::Stream];
const CLASSIC: &[QueueKind] = &[QueueKind::Quorum, QueueKind::Stream];
const STREAM: &[QueueKind] = &[QueueKind::Classic, QueueKind::Quorum];

const fn key(
    name: &'static str,
    both: Both,
    unsupported: &'static [QueueKind],
    what: &'static str,
    read: fn(&Value, &mut Settings) -> Option<()>,
) -> Key {
    Key {
        name,
        both,
        unsupported,
        what,
        read,
    }
}

/// All settings that RabbitMQ 4.3 knows without plugins.
pub(super) const KEYS: &[Key] = &[
    key(
        "alternate-exchange",
        Both::Never,
        ALL,
        "alternate exchange name",
        |value, out| text(value).map(|name| out.alternate_exchange = Some(name)),
    ),
    key(
        "consumer-disconnected-timeout",
        Both::Never,
        QUORUM,
        "consumer disconnected timeout",
        |value, _| natural(value).map(drop),
    ),
    key(
        "consumer-timeout",
        Both::Never,
        ALL,
        "consumer timeout",
        |value, out| natural(value).map(|ms| out.consumer_timeout_ms = Some(ms)),
    ),
    key(
        "dead-letter-exchange",
        Both::Never,
        NOT_STREAM,
        "dead letter exchange name",
        |value, out| text(value).map(|name| out.dead_letter_exchange = Some(name)),
    ),
    key(
        "dead-letter-routing-key",
        Both::Never,
        NOT_STREAM,
        "dead letter routing key",
        |value, out| text(value).map(|name| out.dead_letter_routing_key = Some(name)),
    ),
    key(
        "dead-letter-strategy",
        Both::Never,
        QUORUM,
        "dead letter strategy",
        |value, out| {
            let word = one_of(value, &["at-most-once", "at-least-once"])?;
            out.at_least_once = Some(word == "at-least-once");
            Some(())
        },
    ),
    key(
        "delayed-retry-max",
        Both::Never,
        QUORUM,
        "delayed retry maximum",
        |value, _| natural(value).map(drop),
    ),
    key(
        "delayed-retry-min",
        Both::Never,
        QUORUM,
        "delayed retry minimum",
        |value, _| natural(value).map(drop),
    ),
    key(
        "delayed-retry-type",
        Both::Never,
        QUORUM,
        "delayed retry type",
        |value, _| one_of(value, RETRIES).map(drop),
    ),
    key(
        "delivery-limit",
        Both::Least,
        QUORUM,
        "delivery limit",
        |value, out| {
            value
                .as_integer()
                .map(|limit| out.delivery_limit = Some(limit))
        },
    ),
    key(
        "expires",
        Both::Least,
        NOT_STREAM,
        "queue expiry",
        |value, out| {
            let ms = time(value).filter(|ms| *ms > 0)?;
            out.expires_ms = Some(ms);
            Some(())
        },
    ),
    key(
        "initial-cluster-size",
        Both::Never,
        STREAM,
        "cluster size",
        |value, _| natural(value).map(drop),
    ),
    key("max-age", Both::Never, STREAM, "max age", |value, out| {
        out.max_age_ms = Some(age_ms(&text(value)?)?);
        Some(())
    }),
    key(
        "max-in-memory-bytes",
        Both::Least,
        QUORUM,
        "maximum memory in bytes",
        |value, _| natural(value).map(drop),
    ),
    key(
        "max-in-memory-length",
        Both::Least,
        QUORUM,
        "maximum memory in bytes",
        |value, _| natural(value).map(drop),
    ),
    key(
        "max-length",
        Both::Least,
        NOT_STREAM,
        "maximum length",
        |value, out| natural(value).map(|count| out.max_length = Some(count)),
    ),
    key(
        "max-length-bytes",
        Both::Least,
        ALL,
        "maximum length in bytes",
        |value, out| natural(value).map(|bytes| out.max_length_bytes = Some(bytes)),
    ),
    key(
        "message-ttl",
        Both::Least,
        NOT_STREAM,
        "message TTL",
        |value, out| time(value).map(|ms| out.message_ttl_ms = Some(ms)),
    ),
    key(
        "overflow",
        Both::Operator,
        NOT_STREAM,
        "overflow value",
        |value, out| {
            let words = ["drop-head", "reject-publish", "reject-publish-dlx"];
            out.overflow = Overflow::named(one_of(value, &words)?);
            Some(())
        },
    ),
    key(
        "queue-leader-locator",
        Both::Never,
        ALL,
        "queue leader locator value",
        |value, _| {
            let words = ["client-local", "balanced", "random", "least-leaders"];
            one_of(value, &words).map(drop)
        },
    ),
    key(
        "queue-master-locator",
        Both::Never,
        CLASSIC,
        "queue-master-locator value",
        |value, _| one_of(value, &["min-masters", "client-local", "random"]).map(drop),
    ),
    key(
        "queue-mode",
        Both::Never,
        CLASSIC,
        "queue-mode value",
        |value, _| one_of(value, &["default", "lazy"]).map(drop),
    ),
    key(
        "queue-version",
        Both::Operator,
        ALL,
        "queue-version value",
        |value, _| {
            value
                .as_integer()
                .filter(|number| matches!(number, 1 | 2))
                .map(drop)
        },
    ),
    key(
        "stream-filter-size-bytes",
        Both::Never,
        STREAM,
        "filter size. Valid range is 16-255",
        |value, _| {
            natural(value)
                .filter(|size| (16..=255).contains(size))
                .map(drop)
        },
    ),
    key(
        "stream-max-segment-size-bytes",
        Both::Never,
        STREAM,
        "segment size",
        |value, out| natural(value).map(|bytes| out.segment_bytes = Some(bytes)),
    ),
    key(
        "target-group-size",
        Both::Most,
        QUORUM,
        "qq target count value",
        |value, _| natural(value).filter(|size| *size > 0).map(drop),
    ),
];

/// The setting with this name, if `scope` may have it.
fn find(scope: Scope, name: &[u8]) -> Option<&'static Key> {
    let allowed = |key: &&Key| scope == Scope::Ordinary || key.both != Both::Never;
    KEYS.iter()
        .find(|key| key.name.as_bytes() == name)
        .filter(allowed)
}

/// Whether queues of this kind have all settings of a policy.
pub(super) fn all_supported(definition: &Table, kind: QueueKind) -> bool {
    definition.iter().all(|(name, _)| {
        find(Scope::Ordinary, name).is_none_or(|key| !key.unsupported.contains(&kind))
    })
}

impl Settings {
    /// Reads a definition; the error says which value or which names are wrong.
    pub(super) fn read(scope: Scope, definition: &Table) -> Result<Self, String> {
        if definition.is_empty() {
            return Err("no policy provided".to_owned());
        }
        let mut settings = Self::default();
        let mut entries: Vec<(&[u8], &Value)> = definition.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        let mut unknown = Vec::new();
        for (name, value) in entries {
            let Some(key) = find(scope, name) else {
                let name = String::from_utf8_lossy(name);
                unknown.push(format!("{{<<\"{name}\">>,{}}}", term(value)));
                continue;
            };
            if (key.read)(value, &mut settings).is_none() {
                let is = if key.name == "queue-master-locator" {
                    "invalid"
                } else {
                    "is not a valid"
                };
                return Err(format!("{} {is} {}", term(value), key.what));
            }
        }
        if unknown.is_empty() {
            return Ok(settings);
        }
        let unknown = unknown.join(",");
        Err(format!("[{unknown}] are not recognised policy settings"))
    }
}

/// A value as Erlang writes it.
pub(crate) fn term(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::LongString(bytes) | Value::Bytes(bytes) => {
            format!("<<\"{}\">>", String::from_utf8_lossy(bytes))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(term).collect();
            format!("[{}]", values.join(","))
        }
        Value::Table(table) => {
            let entry = |(name, value): (&[u8], &Value)| {
                format!(
                    "<<\"{}\">> => {}",
                    String::from_utf8_lossy(name),
                    term(value)
                )
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("#{{{}}}", entries.join(","))
        }
        Value::Void => "null".to_owned(),
        other => other
            .as_integer()
            .map_or_else(|| "undefined".to_owned(), |number| number.to_string()),
    }
}

fn natural(value: &Value) -> Option<u64> {
    u64::try_from(value.as_integer()?).ok()
}

/// Milliseconds that a timer can wait for.
fn time(value: &Value) -> Option<u64> {
    natural(value).filter(|ms| *ms <= TTL_MS_MAX)
}

fn text(value: &Value) -> Option<Box<str>> {
    value.as_str().map(Into::into)
}

fn one_of<'a>(value: &'a Value, words: &[&str]) -> Option<&'a str> {
    value.as_str().filter(|word| words.contains(word))
}
