//! The arguments of a queue, validated as RabbitMQ validates them, and what they ask for.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Levels, SessionCaps, SessionTerms};
use crate::field::{Table, Value};
use crate::limits::TTL_MS_MAX;
use crate::policy::{self, Applied};
use crate::refusal::Refusal;

/// How a queue keeps and gives its messages (`x-queue-type`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum QueueKind {
    /// A list: what is delivered and acknowledged is gone.
    #[default]
    Classic,
    /// The same, durable, with a count of failed deliveries for each message.
    Quorum,
    /// A log: many read it, nobody empties it.
    Stream,
}

impl QueueKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Classic, Self::Quorum, Self::Stream];

    /// The name in `x-queue-type` and in listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// RabbitMQ's name for what implements it, as its texts have it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }
}

/// What happens to a message that a full queue is given (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// It is taken, and the oldest goes.
    #[default]
    DropHead,
    /// It is refused; a publisher with confirms gets a `basic.nack`.
    RejectPublish,
    /// The same, and it is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// The behaviour with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }

    /// The name in arguments and policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// What a queue is asked for, by its arguments and by policies: `None` is no limit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueArguments {
    /// `x-queue-type`.
    pub kind: QueueKind,
    /// `x-expires`: milliseconds without use after which the queue goes.
    pub expires_ms: Option<u64>,
    /// `x-message-ttl`: milliseconds after which a waiting message goes.
    pub message_ttl_ms: Option<u64>,
    /// `x-max-length`: ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: bytes of the bodies of ready messages; of a stream, of all it keeps.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<Box<str>>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Box<str>>,
    /// `x-dead-letter-strategy` is `at-least-once`. All dead-lettering is that here: a message
    /// leaves its queue's journal only after it has entered another's.
    pub at_least_once: bool,
    /// The priorities that messages may have: as `x-max-priority` says, or those of a quorum queue.
    pub max_priority: Option<Levels>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: failed deliveries that a message may have; negative is any number.
    pub delivery_limit: Option<i64>,
    /// `x-consumer-timeout`: milliseconds that a delivery may wait for its acknowledgement.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-max-age`: milliseconds that a stream keeps a message at least.
    pub max_age_ms: Option<u64>,
    /// `x-stream-max-segment-size-bytes`: the unit in which a stream gives up old messages.
    pub segment_bytes: Option<u64>,
}

impl QueueArguments {
    /// Nothing asked for.
    pub(super) const NOTHING: Self = Self {
        kind: QueueKind::Classic,
        expires_ms: None,
        message_ttl_ms: None,
        max_length: None,
        max_length_bytes: None,
        overflow: Overflow::DropHead,
        dead_letter_exchange: None,
        dead_letter_routing_key: None,
        at_least_once: false,
        max_priority: None,
        single_active_consumer: false,
        delivery_limit: None,
        consumer_timeout_ms: None,
        max_age_ms: None,
        segment_bytes: None,
    };

    /// How many failed deliveries a message may have: RabbitMQ's default for quorum queues is 20.
    #[must_use]
    pub fn failures_max(&self) -> Option<u64> {
        if self.kind != QueueKind::Quorum {
            return None;
        }
        u64::try_from(self.delivery_limit.unwrap_or(DELIVERY_LIMIT_DEFAULT)).ok()
    }
}

/// `x-delivery-limit` of a quorum queue that does not say.
const DELIVERY_LIMIT_DEFAULT: i64 = 20;

/// The arguments of a declaration, the policies that apply, and what is asked for by all of them.
pub(crate) struct Given {
    pub(crate) table: Table,
    pub(crate) applied: Applied,
    direct: bool,
    pub(crate) effective: QueueArguments,
    /// Whose session the queues are parts of.
    pub(crate) session: Option<Arc<SessionTerms>>,
    /// How much those hold.
    pub(crate) caps: Option<SessionCaps>,
    /// Not every message is taken or given at once, even where there is room and credit.
    pub(crate) asks: bool,
}

/// What was given last: queues that are declared alike in a row, as those of MQTT sessions are,
/// share theirs.
pub(crate) struct Alike {
    last: Mutex<VecDeque<Weak<Given>>>,
    /// How much queues of sessions hold.
    caps: Option<SessionCaps>,
}

/// Clients of several kinds may come mixed.
const ALIKE_MAX: usize = 8;

impl Alike {
    pub(crate) fn new(caps: SessionCaps) -> Self {
        Self {
            last: Mutex::default(),
            caps: (!caps.is_nothing()).then_some(caps),
        }
    }

    /// What a queue is given, to keep; nothing if there is nothing.
    pub(crate) fn share(
        &self,
        table: &Table,
        asked: QueueArguments,
        applied: Applied,
        direct: bool,
        session: Option<&Arc<SessionTerms>>,
    ) -> Option<Arc<Given>> {
        if table.is_empty() && applied.is_nothing() && session.is_none() {
            return None;
        }
        let mut last = self.last.lock();
        let same = |held: &Arc<Given>| {
            held.direct == direct
                && held.applied.is(&applied)
                && held.table == *table
                && held.session.as_ref() == session
        };
        if let Some(held) = last.iter().filter_map(Weak::upgrade).find(same) {
            return Some(held);
        }
        // A direct queue keeps nothing and goes with its session: no policy changes what it does.
        let effective = if direct {
            asked
        } else {
            policy::effective(asked, table, &applied)
        };
        let caps = self.caps.filter(|_| session.is_some());
        let given = Arc::new(Given {
            asks: caps.is_some()
                || effective.overflow != Overflow::DropHead
                || effective.dead_letter_exchange.is_some(),
            table: table.clone(),
            effective,
            applied,
            direct,
            session: session.cloned(),
            caps,
        });
        if last.len() == ALIKE_MAX {
            last.pop_front();
        }
        last.push_back(Arc::downgrade(&given));
        Some(given)
    }
}

/// An argument: its name, the kinds of queue that know it, and who reads it.
struct Argument {
    name: &'static str,
    kinds: &'static [QueueKind],
    read: fn(&Value, &mut QueueArguments) -> Result<(), String>,
}

const ANY: &[QueueKind] = &QueueKind::ALL;
const LISTS: &[QueueKind] = &[QueueKind::Classic, QueueKind::Quorum];
const CLASSIC: &[QueueKind] = &[QueueKind::Classic];
const QUORUM: &[QueueKind] = &[QueueKind::Quorum];
const REPLICATED: &[QueueKind] = &[QueueKind::Quorum, QueueKind::Stream];
const STREAM: &[QueueKind] = &[QueueKind::Stream];

/// Who asks for delayed retries does so with this.
const DELAYED_RETRY: &str = "x-delayed-retry-type";

/// What it may be.
pub(crate) const RETRIES: &[&str] = &[RETRIES_OFF, "all", "failed", "returned"];

const RETRIES_OFF: &str = "disabled";

/// All arguments that RabbitMQ knows, in its order. Those of replication mean nothing on one node,
/// and are checked all the same.
const ARGUMENTS: &[Argument] = &[
    Argument {
        name: "x-expires",
        kinds: LISTS,
        read: |value, out| {
            let ms = time(value)?;
            if ms == 0 {
                return Err("{value_zero,0}".to_owned());
            }
            out.expires_ms = Some(ms);
            Ok(())
        },
    },
    Argument {
        name: "x-message-ttl",
        kinds: LISTS,
        read: |value, out| time(value).map(|ms| out.message_ttl_ms = Some(ms)),
    },
    Argument {
        name: "x-dead-letter-exchange",
        kinds: LISTS,
        read: |value, out| name(value).map(|name| out.dead_letter_exchange = Some(name)),
    },
    Argument {
        name: "x-dead-letter-routing-key",
        kinds: LISTS,
        read: |value, out| name(value).map(|name| out.dead_letter_routing_key = Some(name)),
    },
    Argument {
        name: "x-dead-letter-strategy",
        kinds: QUORUM,
        read: |value, out| {
            let word = one_of(
                value,
                &["at-most-once", "at-least-once"],
                "invalid_dlx_strategy",
            )?;
            out.at_least_once = word == "at-least-once";
            Ok(())
        },
    },
    Argument {
        name: "x-max-length",
        kinds: LISTS,
        read: |value, out| natural(value).map(|count| out.max_length = Some(count)),
    },
    Argument {
        name: "x-max-length-bytes",
        kinds: ANY,
        read: |value, out| natural(value).map(|bytes| out.max_length_bytes = Some(bytes)),
    },
    Argument {
        name: "x-max-in-memory-length",
        kinds: QUORUM,
        read: |value, _| natural(value).map(drop),
    },
    Argument {
        name: "x-max-in-memory-bytes",
        kinds: QUORUM,
        read: |value, _| natural(value).map(drop),
    },
    Argument {
        name: "x-max-priority",
        kinds: CLASSIC,
        read: |value, out| {
            let number = natural(value)?;
            let Ok(priority) = u8::try_from(number) else {
                return Err(format!("{{max_value_exceeded,{number}}}"));
            };
            out.max_priority = (priority > 0).then(|| Levels::up_to(priority));
            Ok(())
        },
    },
    Argument {
        name: "x-overflow",
        kinds: LISTS,
        read: |value, out| {
            let words = ["drop-head", "reject-publish", "reject-publish-dlx"];
            let word = one_of(value, &words, "invalid_overflow")?;
            out.overflow = Overflow::named(&word).unwrap_or_default();
            Ok(())
        },
    },
    Argument {
        name: "x-queue-mode",
        kinds: CLASSIC,
        read: |value, _| match &*text(value)? {
            "default" | "lazy" => Ok(()),
            other => Err(format!("\"unsupported queue mode '{other}'\"")),
        },
    },
    Argument {
        name: "x-queue-version",
        kinds: CLASSIC,
        read: |value, _| match natural(value)? {
            1 | 2 => Ok(()),
            other => Err(format!("\"unsupported queue version '{other}'\"")),
        },
    },
    Argument {
        name: "x-single-active-consumer",
        kinds: LISTS,
        read: |value, out| flag(value).map(|flag| out.single_active_consumer = flag),
    },
    Argument {
        name: "x-queue-type",
        kinds: ANY,
        read: |_, _| Ok(()),
    },
    Argument {
        name: "x-delivery-limit",
        kinds: QUORUM,
        read: |value, out| whole(value).map(|limit| out.delivery_limit = Some(limit)),
    },
    Argument {
        name: "x-quorum-initial-group-size",
        kinds: QUORUM,
        read: |value, _| size(value).map(drop),
    },
    Argument {
        name: "x-consumer-timeout",
        kinds: LISTS,
        read: |value, out| natural(value).map(|ms| out.consumer_timeout_ms = Some(ms)),
    },
    Argument {
        name: "x-consumer-disconnected-timeout",
        kinds: QUORUM,
        read: |value, _| natural(value).map(drop),
    },
    Argument {
        name: DELAYED_RETRY,
        kinds: QUORUM,
        read: |value, _| one_of(value, RETRIES, "invalid_delayed_retry_type").map(drop),
    },
    Argument {
        name: "x-delayed-retry-min",
        kinds: QUORUM,
        read: |value, _| natural(value).map(drop),
    },
    Argument {
        name: "x-delayed-retry-max",
        kinds: QUORUM,
        read: |value, _| natural(value).map(drop),
    },
    Argument {
        name: "x-max-age",
        kinds: STREAM,
        read: |value, out| age(value).map(|ms| out.max_age_ms = Some(ms)),
    },
    Argument {
        name: "x-stream-max-segment-size-bytes",
        kinds: STREAM,
        read: |value, out| natural(value).map(|bytes| out.segment_bytes = Some(bytes)),
    },
    Argument {
        name: "x-stream-filter-size-bytes",
        kinds: STREAM,
        read: |value, _| match natural(value)? {
            16..=255 => Ok(()),
            other => Err(format!("{{filter_size_out_of_range,{other}}}")),
        },
    },
    Argument {
        name: "x-initial-cluster-size",
        kinds: STREAM,
        read: |value, _| size(value).map(drop),
    },
    Argument {
        name: "x-queue-leader-locator",
        kinds: REPLICATED,
        read: |value, _| {
            let words = ["client-local", "balanced", "random", "least-leaders"];
            one_of(value, &words, "invalid_queue_locator_arg").map(drop)
        },
    },
    Argument {
        name: "x-queue-master-locator",
        kinds: CLASSIC,
        read: |value, _| text(value).map(drop),
    },
];

impl QueueArguments {
    /// Reads the arguments of the declaration of `queue` in `vhost`. Those that nobody knows mean
    /// nothing.
    ///
    /// # Errors
    /// 406 for a value that RabbitMQ refuses, or an argument that the kind of queue does not have.
    pub fn parse(arguments: &Table, queue: &str, vhost: &str) -> Result<Self, Refusal> {
        if let Some(value) = arguments.lookup("x-dead-letter-exchange")
            && !matches!(value, Value::LongString(_))
        {
            let of = value.type_name();
            return Err(Refusal::precondition(format!(
                "invalid type '{of}' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost \
                 '{vhost}'"
            )));
        }
        let refuse = |name: &str, why: &str| {
            Refusal::precondition(format!(
                "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
            ))
        };
        let asked = arguments.lookup("x-queue-type").map(kind);
        let asked = asked.unwrap_or(Ok(QueueKind::default()));
        let mut parsed = Self::of_kind(asked.map_err(|why| refuse("x-queue-type", &why))?);
        // In RabbitMQ's order: what the kind does not have, then what is no value.
        let known = |argument: &&Argument| argument.kinds.contains(&parsed.kind);
        let is_given = |argument: &&Argument| arguments.lookup(argument.name).is_some();
        let mut others = ARGUMENTS.iter().filter(|argument| !known(argument));
        if let Some(other) = others.find(is_given) {
            let (name, module) = (other.name, parsed.kind.module());
            return Err(Refusal::precondition(format!(
                "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}' of queue type {module}"
            )));
        }
        for argument in ARGUMENTS {
            if let Some(value) = arguments.lookup(argument.name) {
                (argument.read)(value, &mut parsed).map_err(|why| refuse(argument.name, &why))?;
            }
        }
        if parsed.dead_letter_routing_key.is_some() && parsed.dead_letter_exchange.is_none() {
            let why = "routing_key_but_no_dlx_defined";
            return Err(refuse("x-dead-letter-routing-key", why));
        }
        Ok(parsed)
    }

    /// What a queue of this kind has that asks for nothing else.
    fn of_kind(kind: QueueKind) -> Self {
        Self {
            kind,
            max_priority: (kind == QueueKind::Quorum).then_some(Levels::QUORUM),
            ..Self::default()
        }
    }

    /// Reads the arguments of a queue that is there: what another version took and this one
    /// refuses means nothing, and is no reason to lose the queue.
    pub(crate) fn parse_kept(arguments: &Table) -> Option<Self> {
        let mut parsed = Self::of_kind(Self::kind_asked(arguments)?);
        for argument in ARGUMENTS {
            let is_known = argument.kinds.contains(&parsed.kind);
            if let Some(value) = arguments.lookup(argument.name).filter(|_| is_known) {
                let _ = (argument.read)(value, &mut parsed);
            }
        }
        Some(parsed)
    }

    /// The argument, or the setting of a policy, that is taken so that clients need not be changed,
    /// and changes nothing.
    pub(crate) fn unserved(asked: &Table) -> Option<&'static str> {
        let mut names = [DELAYED_RETRY, &DELAYED_RETRY[2..]].into_iter();
        names.find(|name| {
            let word = asked.lookup(name).and_then(|value| text(value).ok());
            word.is_some_and(|word| word != RETRIES_OFF)
        })
    }

    /// The kind that a declaration asks for; any classic one if it does not say, or not clearly.
    pub(crate) fn kind_asked(arguments: &Table) -> Option<QueueKind> {
        match arguments.lookup("x-queue-type") {
            None => Some(QueueKind::Classic),
            Some(value) => kind(value).ok(),
        }
    }

    /// The arguments that must be the same in a declaration of a queue that is there.
    pub(crate) fn compared(kind: QueueKind) -> impl Iterator<Item = &'static str> {
        ARGUMENTS
            .iter()
            .filter(move |argument| argument.kinds.contains(&kind))
            .map(|argument| argument.name)
    }
}

fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn kind(value: &Value) -> Result<QueueKind, String> {
    let name = text(value)?;
    QueueKind::named(&name).ok_or_else(|| format!("\"unsupported queue type '{name}'\""))
}

/// A whole number.
fn whole(value: &Value) -> Result<i64, String> {
    let wrong = || format!("\"expected integer, got {}\"", value.type_name());
    value.as_integer().ok_or_else(wrong)
}

/// A whole number from 0 on.
fn natural(value: &Value) -> Result<u64, String> {
    let number = whole(value)?;
    u64::try_from(number).map_err(|_| format!("{{value_negative,{number}}}"))
}

/// Milliseconds that a timer can wait for.
fn time(value: &Value) -> Result<u64, String> {
    let ms = natural(value)?;
    if ms > TTL_MS_MAX {
        return Err(format!("{{value_too_large,{ms}}}"));
    }
    Ok(ms)
}

/// How many nodes: at least one.
fn size(value: &Value) -> Result<u64, String> {
    match natural(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        size => Ok(size),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| unacceptable(value))
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::LongString(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err(unacceptable(value)),
    }
}

fn name(value: &Value) -> Result<Box<str>, String> {
    text(value).map(Into::into)
}

fn one_of(value: &Value, words: &[&str], otherwise: &str) -> Result<String, String> {
    let word = text(value)?;
    if words.contains(&&*word) {
        Ok(word)
    } else {
        Err(otherwise.to_owned())
    }
}

/// An age such as `7D`: years, months, days, hours, minutes or seconds.
fn age(value: &Value) -> Result<u64, String> {
    age_ms(&text(value)?).ok_or_else(|| "invalid_max_age".to_owned())
}

/// The milliseconds of an age.
pub(crate) fn age_ms(age: &str) -> Option<u64> {
    let parsed = age.split_at_checked(age.len().saturating_sub(1));
    parsed.and_then(|(digits, unit)| {
        let seconds = match unit {
            "Y" => 365 * 24 * 60 * 60,
            "M" => 30 * 24 * 60 * 60,
            "D" => 24 * 60 * 60,
            "h" => 60 * 60,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(seconds * 1_000)
    })
}

#[cfg(test)]
mod tests;
