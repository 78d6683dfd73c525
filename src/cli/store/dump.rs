//! `leveret store dump`: the journal's records, each a line of JSON.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use clap::{Arg, ArgMatches, Command, value_parser};
use leveret_core::field::{RawTable, Value as Field};
use leveret_core::key::Form;
use leveret_core::lists::{Lists, Of};
use leveret_core::message::MessageRef;
use leveret_core::properties::BasicProperties;
use leveret_management::protocol::{Code, Failure};
use leveret_store::journal::inspect::{Entry, Report, What};
use serde_json::{Map, Value, json};

use super::{Store, state_text, unreadable};

pub(super) fn with_options(command: Command) -> Command {
    command
        .arg(
            Arg::new("queue")
                .long("queue")
                .value_name("NAME")
                .help("Only records of this queue"),
        )
        .arg(
            Arg::new("vhost")
                .long("vhost")
                .value_name("VHOST")
                .help("Only records of this vhost; of the queue's, / if it is not given"),
        )
        .arg(
            Arg::new("limit-bytes")
                .long("limit-bytes")
                .value_name("BYTES")
                .value_parser(value_parser!(usize))
                .help("Bytes of a payload that are printed; all if it is not given"),
        )
}

/// Prints what was asked for; `true` if some of the journal is damaged, and not printed.
pub(super) fn run(directory: &Path, matches: &ArgMatches) -> Result<bool, Failure> {
    let store = Store::look(directory)?;
    if let Err(fault) = &store.definitions {
        // The journal can be read without; only names are missing.
        eprintln!("Warning: {}", unreadable(fault).text);
    }
    let only = Chosen::of(&store.lists, matches)?;
    let limit = matches.get_one::<usize>("limit-bytes").copied();
    // What is wanted is known when everything was read once.
    let Some(report) = store.inspect(|_| ())? else {
        return Ok(false);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut wrote = Ok(());
    let printer = Printer {
        lists: &store.lists,
        report: &report,
        limit: limit.unwrap_or(usize::MAX),
    };
    store.inspect(|entry| {
        let fits = only.takes(&store.lists, entry);
        if fits && wrote.is_ok() {
            wrote = writeln!(out, "{}", printer.line(entry));
        }
    })?;
    match wrote.and_then(|()| out.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::new(Code::Software, why.to_string()));
        }
        _ => {}
    }
    for file in report.damaged() {
        let (path, state) = (file.path.display(), state_text(file.state));
        eprintln!("Warning: {path} is {state}; what cannot be read is not printed");
    }
    Ok(report.damaged().next().is_some())
}

/// Whose records are printed.
enum Chosen<'a> {
    All,
    VHost(&'a str),
    Queue(u64),
}

impl<'a> Chosen<'a> {
    fn of(lists: &Lists, matches: &'a ArgMatches) -> Result<Self, Failure> {
        let vhost = matches.get_one::<String>("vhost").map(String::as_str);
        let Some(name) = matches.get_one::<String>("queue") else {
            return Ok(vhost.map_or(Self::All, Self::VHost));
        };
        let vhost = vhost.unwrap_or("/");
        let mut known = lists.by_number.iter();
        let found = known.find(|(_, list)| {
            list.vhost == vhost && matches!(&list.of, Of::Queue(queue) if queue == name)
        });
        match found {
            Some((number, _)) => Ok(Self::Queue(*number)),
            None => {
                let text = format!("no queue '{name}' in vhost '{vhost}'");
                Err(Failure::new(Code::Unavailable, text))
            }
        }
    }

    fn takes(&self, lists: &Lists, entry: &Entry<'_>) -> bool {
        match self {
            Self::All => true,
            Self::VHost(vhost) => {
                let list = queue(entry).and_then(|number| lists.by_number.get(&number));
                list.is_some_and(|list| list.vhost == *vhost)
            }
            Self::Queue(number) => queue(entry) == Some(*number),
        }
    }
}

fn queue(entry: &Entry<'_>) -> Option<u64> {
    match entry.what {
        What::Message { queue, .. } | What::Settle { queue, .. } | What::Forget { queue } => {
            Some(queue)
        }
        What::Batch { .. } => None,
    }
}

/// Records as JSON.
struct Printer<'a> {
    lists: &'a Lists,
    report: &'a Report,
    limit: usize,
}

impl Printer<'_> {
    fn line(&self, entry: &Entry<'_>) -> Value {
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| {
            row.insert(name.to_owned(), value);
        };
        put("kind", kind(entry).into());
        put("segment", entry.segment.into());
        put("offset", entry.offset.into());
        if let Some(number) = queue(entry) {
            put("queue", number.into());
            if let Some(list) = self.lists.by_number.get(&number) {
                put("vhost", list.vhost.as_str().into());
                put("of", list.of.word().into());
                if let Of::Queue(name) = &list.of {
                    put("name", name.as_str().into());
                }
            }
        }
        match entry.what {
            What::Message {
                seq,
                again,
                message,
                ..
            } => {
                put("seq", seq.into());
                put("wanted", self.report.is_wanted(entry).into());
                again
                    .into_iter()
                    .for_each(|at| put("message_at", at.into()));
                let message = message.map_or(Value::Null, |message| self.message(&message));
                put("message", message);
            }
            What::Settle { seqs, .. } => put("seqs", seqs.iter().collect()),
            What::Batch {
                number,
                synced,
                segment,
            } => {
                put("batch", number.into());
                put("synced", synced.into());
                put("begins_in", segment.into());
            }
            What::Forget { .. } => {}
        }
        Value::Object(row)
    }

    fn message(&self, message: &MessageRef<'_>) -> Value {
        let head = &message.head;
        let origin = if head.origin.tag() == 1 {
            "mqtt"
        } else {
            "amqp"
        };
        let form = match head.form {
            Form::Slashed => "slashed",
            Form::Dotted => "dotted",
        };
        let payload = message.payload;
        let shown = &payload[..payload.len().min(self.limit)];
        json!({
            "origin": origin,
            "persistent": head.persistent,
            "retain": head.retain,
            "received_ms": head.received.0,
            "expires_ms": head.expires.map(|at| at.0),
            "exchange": message.exchange,
            "key": bytes(message.key),
            "form": form,
            "properties": properties(message),
            "payload_bytes": payload.len(),
            "payload": bytes(shown),
        })
    }
}

fn kind(entry: &Entry<'_>) -> &'static str {
    match entry.what {
        What::Message { again: None, .. } => "publish",
        What::Message { .. } => "again",
        What::Settle { .. } => "settle",
        What::Forget { .. } => "forget",
        What::Batch { .. } => "batch",
    }
}

/// Text if it is some, else an object with hexadecimal digits.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The properties as AMQP has them, whoever wrote them.
fn properties(message: &MessageRef<'_>) -> Value {
    let mut encoded = Vec::new();
    let origin = message.head.origin;
    origin.append_basic_properties(message, &mut encoded);
    let Ok(found) = BasicProperties::parse(&encoded) else {
        return json!({ "hex": hex(message.properties) });
    };
    let text = [
        ("content_type", found.content_type),
        ("content_encoding", found.content_encoding),
        ("correlation_id", found.correlation_id),
        ("reply_to", found.reply_to),
        ("expiration", found.expiration),
        ("message_id", found.message_id),
        ("type", found.type_),
        ("user_id", found.user_id),
        ("app_id", found.app_id),
        ("cluster_id", found.cluster_id),
    ];
    let numbers = [
        ("delivery_mode", found.delivery_mode.map(u64::from)),
        ("priority", found.priority.map(u64::from)),
        ("timestamp", found.timestamp),
    ];
    let text = text
        .into_iter()
        .filter_map(|(name, value)| Some((name, bytes(value?))));
    let numbers = numbers
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.into())));
    let headers = found.headers.map(|headers| ("headers", table(headers)));
    let all = text.chain(numbers).chain(headers);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn table(table: RawTable<'_>) -> Value {
    let table = table.to_table();
    let entries = table.iter();
    let entries = entries.map(|(name, value)| (String::from_utf8_lossy(name).into(), field(value)));
    Value::Object(entries.collect())
}

/// A field's value; nested ones as the program's own text.
fn field(value: &Field) -> Value {
    match value {
        Field::Bool(value) => (*value).into(),
        Field::F32(value) => (*value).into(),
        Field::F64(value) => (*value).into(),
        Field::LongString(value) | Field::Bytes(value) => bytes(value),
        Field::Timestamp(value) => (*value).into(),
        Field::Void => Value::Null,
        other => match other.as_integer() {
            Some(value) => value.into(),
            None => format!("{other:?}").into(),
        },
    }
}
