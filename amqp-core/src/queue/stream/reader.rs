//! One consumer of a stream: where it begins, what it asks for, and how far it is.
//!
//! ```text
//! x-stream-offset = "first" / "last" / "next" / integer / timestamp / interval
//! interval        = 1*DIGIT ("Y" / "M" / "D" / "h" / "m" / "s")
//! ```

use std::collections::VecDeque;

use crate::field::{RawTable, Value, ValueRef};
use crate::key::Form;
use crate::limits::STREAM_FILTERS_MAX;
use crate::message::{Message, MessageRef};
use crate::properties::BasicProperties;
use crate::queue::QueueKind;
use crate::refusal::Refusal;
use crate::time::Time;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Start {
    First,
    /// With the newest message that is there.
    Last,
    /// With what comes after it.
    #[default]
    Next,
    Offset(u64),
    /// With the first message that came then or later.
    At(Time),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct StreamReader {
    pub(super) start: Start,
    filter: Option<Filter>,
    /// The first of its arguments: other kinds of queue do not know it.
    argument: &'static str,
    /// The offset of the next message for it.
    pub(super) next: u64,
    /// What came before is not for it.
    pub(super) since: Option<Time>,
    /// What was read from the journal and is not delivered yet.
    pub(super) piece: VecDeque<(u64, Message)>,
    /// How far the journal was read.
    pub(super) read_to: u64,
}

/// Which messages a reader wants, by their header [`FILTER_VALUE`].
#[derive(Clone, Debug, Default)]
struct Filter {
    /// Sorted.
    values: Vec<Box<[u8]>>,
    /// Those without the header as well.
    unfiltered: bool,
}

/// The header that filters look at.
const FILTER_VALUE: &str = "x-stream-filter-value";

const OFFSET: &str = "x-stream-offset";
const FILTER: &str = "x-stream-filter";
const UNFILTERED: &str = "x-stream-match-unfiltered";

impl StreamReader {
    /// What the arguments of `basic.consume` ask of a stream; nothing if they do not. `queue` and
    /// `vhost` are for texts.
    ///
    /// # Errors
    /// 406 for a value that is no offset, or too many filters.
    pub fn asked(
        arguments: RawTable<'_>,
        queue: &str,
        vhost: &str,
        now: Time,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let refuse = |name: &str, why: &str| {
            Err(Refusal::precondition(format!(
                "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
            )))
        };
        let mut asked = Self::default();
        let mut unfiltered = false;
        for (name, value) in arguments.entries() {
            let known = [OFFSET, FILTER, UNFILTERED];
            let Some(known) = known.into_iter().find(|known| known.as_bytes() == name) else {
                continue;
            };
            if asked.argument.is_empty() {
                asked.argument = known;
            }
            match (known, value) {
                (OFFSET, value) => match start(value, now) {
                    Some(start) => asked.start = start,
                    None => {
                        let why = format!("{{invalid_stream_offset_arg,{}}}", term(value));
                        return refuse(known, &why);
                    }
                },
                (UNFILTERED, ValueRef::Bool(flag)) => unfiltered = flag,
                (FILTER, ValueRef::LongString(text)) => asked.want([text]),
                (FILTER, ValueRef::Array(array)) => {
                    if array.values().count() > STREAM_FILTERS_MAX {
                        let why = format!("at most {STREAM_FILTERS_MAX} values are allowed");
                        return refuse(known, &why);
                    }
                    asked.want(array.values().filter_map(|value| match value {
                        ValueRef::LongString(text) => Some(text),
                        _ => None,
                    }));
                }
                // As in RabbitMQ, other types mean nothing.
                _ => {}
            }
        }
        if let Some(filter) = &mut asked.filter {
            filter.unfiltered = unfiltered;
        }
        Ok((!asked.argument.is_empty()).then(|| Box::new(asked)))
    }

    fn want<'a>(&mut self, values: impl IntoIterator<Item = &'a [u8]>) {
        let mut values: Vec<Box<[u8]>> = values.into_iter().map(Into::into).collect();
        values.sort_unstable();
        self.filter = Some(Filter {
            values,
            unfiltered: false,
        });
    }

    /// A queue that is no stream does not know these arguments.
    pub(crate) fn foreign(&self, queue: &str, vhost: &str, kind: QueueKind) -> Refusal {
        unknown(self.argument, queue, vhost, kind)
    }

    /// Whether it leaves messages out: many may have to be read for one.
    pub(super) fn skips(&self) -> bool {
        self.filter.is_some() || self.since.is_some()
    }

    /// The next message of those that were read from the journal.
    pub(super) fn read_ahead(&mut self) -> Option<(u64, Message)> {
        while self.piece.front().is_some_and(|(at, _)| *at < self.next) {
            self.piece.pop_front();
        }
        self.piece.front().cloned()
    }

    /// Whether a message is for it. They come in order.
    pub(super) fn wants(&mut self, message: &MessageRef<'_>) -> bool {
        if let Some(since) = self.since {
            if message.head.received < since {
                return false;
            }
            self.since = None;
        }
        let Some(filter) = &self.filter else {
            return true;
        };
        let mut raw = Vec::new();
        let raw = if message.head.form == Form::Dotted {
            // Those of AMQP publishers.
            message.properties
        } else {
            let origin = message.head.origin;
            origin.append_basic_properties(message, &mut raw);
            &raw[..]
        };
        let headers = BasicProperties::parse(raw)
            .ok()
            .and_then(|properties| properties.headers);
        match headers.and_then(|headers| headers.lookup(FILTER_VALUE)) {
            Some(ValueRef::LongString(value)) => {
                let found = filter.values.binary_search_by(|held| (**held).cmp(value));
                found.is_ok()
            }
            _ => filter.unfiltered,
        }
    }
}

/// The refusal of an argument that this kind of queue does not have.
pub(crate) fn unknown(argument: &str, queue: &str, vhost: &str, kind: QueueKind) -> Refusal {
    let module = kind.module();
    Refusal::precondition(format!(
        "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {module}"
    ))
}

fn start(value: ValueRef<'_>, now: Time) -> Option<Start> {
    match value {
        ValueRef::LongString(b"first") => Some(Start::First),
        ValueRef::LongString(b"last") => Some(Start::Last),
        ValueRef::LongString(b"next") => Some(Start::Next),
        ValueRef::LongString(text) => {
            let ms = interval_ms(text)?;
            Some(Start::At(Time(now.0.saturating_sub(ms))))
        }
        ValueRef::Timestamp(seconds) => Some(Start::At(Time(seconds.saturating_mul(1_000)))),
        // Below the first is the first.
        value => {
            let offset = value.to_value().as_integer()?;
            Some(Start::Offset(u64::try_from(offset).unwrap_or_default()))
        }
    }
}

fn interval_ms(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    let unit_s = match unit {
        b'Y' => 365 * 24 * 60 * 60,
        b'M' => 30 * 24 * 60 * 60,
        b'D' => 24 * 60 * 60,
        b'h' => 60 * 60,
        b'm' => 60,
        b's' => 1,
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    count.checked_mul(unit_s * 1_000).filter(|ms| *ms > 0)
}

/// A value as RabbitMQ's texts show it.
fn term(value: ValueRef<'_>) -> String {
    let value = value.to_value();
    let shown = match &value {
        Value::LongString(text) => format!("<<\"{}\">>", String::from_utf8_lossy(text)),
        Value::Bool(flag) => flag.to_string(),
        Value::Void => "undefined".to_owned(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        _ => "...".to_owned(),
    };
    format!("{{{},{shown}}}", value.type_name())
}
