//! Definitions to objects and back: what is written for each kind, and how a node's objects come
//! back at start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Broker, restore};
use crate::definitions::{Change, Fault, Kind};
use crate::exchange::kind::Rules;
use crate::exchange::{
    Attached, Bound, Destination, End, Exchange, ExchangeKind, ExchangeProperties, Terms,
};
use crate::field::{Table, Value};
use crate::key::Form;
use crate::limits::KEY_BYTES_MAX;
use crate::permission::{Grants, Pattern, TopicGrants};
use crate::policy::{Scope, Subject};
use crate::queue::{Queue, QueueArguments, QueueKind, QueueProperties, SessionTerms};
use crate::quota::{Limited, Limits};
use crate::records::{self, flag, nested, text};
use crate::shelf::Shelves;
use crate::time::Time;
use crate::user::User;
use crate::vhost::{Facts, Metadata, VHost};

/// Whether a binding outlives the process: both its ends do.
pub(super) fn is_recorded(bound: &Bound) -> bool {
    let source = bound
        .source()
        .is_some_and(|source| source.properties().durable);
    source
        && match bound.destination() {
            Destination::Queue(queue) => queue.upgrade().is_some_and(|queue| queue.journaled()),
            Destination::Exchange(to) => to.upgrade().is_some_and(|to| to.properties().durable),
        }
}

pub(super) fn record_vhost(vhost: &VHost) -> Change {
    let facts = vhost.facts.read().clone();
    let metadata = facts.metadata;
    let tags = metadata
        .tags
        .iter()
        .map(|tag| Value::from(&**tag))
        .collect();
    let kind = metadata.default_queue_type.map_or("", QueueKind::name);
    let value = records::table([
        // Below 2^63: they are counted one by one.
        ("journal", Value::I64(vhost.shelves.number() as i64)),
        ("description", Value::from(&*metadata.description)),
        ("tags", Value::Array(tags)),
        ("default_queue_type", Value::from(kind)),
        ("protected", Value::Bool(metadata.protected)),
        ("limits", Value::Table(facts.limits.table())),
    ]);
    records::put(Kind::VHost, &[vhost.name().as_bytes()], &value)
}

pub(super) fn record_queue(vhost: &VHost, queue: &Queue) -> Change {
    let properties = queue.properties();
    let mut value = records::table([
        // Below 2^63: they are counted one by one.
        ("journal", Value::I64(queue.id as i64)),
        ("auto_delete", Value::Bool(properties.auto_delete)),
        ("direct", Value::Bool(properties.direct)),
        ("arguments", Value::Table(properties.arguments)),
    ]);
    if let Some(session) = queue.session() {
        // Our own name is far below the limit of 255 bytes.
        let _ = value.insert("session", Value::Table(session.table()));
    }
    records::put(
        Kind::Queue,
        &[vhost.name().as_bytes(), queue.name().as_bytes()],
        &value,
    )
}

pub(super) fn forget_queue(vhost: &VHost, queue: &Queue) -> Change {
    records::delete(
        Kind::Queue,
        &[vhost.name().as_bytes(), queue.name().as_bytes()],
    )
}

pub(super) fn record_exchange(vhost: &VHost, exchange: &Exchange) -> Change {
    let properties = exchange.properties();
    let value = records::table([
        ("type", Value::from(properties.kind.name())),
        ("auto_delete", Value::Bool(properties.auto_delete)),
        ("internal", Value::Bool(properties.internal)),
        ("arguments", Value::Table(properties.arguments.clone())),
    ]);
    records::put(
        Kind::Exchange,
        &[vhost.name().as_bytes(), exchange.name().as_bytes()],
        &value,
    )
}

pub(super) fn forget_exchange(vhost: &VHost, name: &str) -> Change {
    records::delete(Kind::Exchange, &[vhost.name().as_bytes(), name.as_bytes()])
}

/// The parts that tell a binding from all others: vhost, source, destination with its kind, key
/// with its form, and the arguments.
fn binding_key(vhost: &VHost, bound: &Bound) -> [Vec<u8>; 7] {
    let kind = match bound.destination() {
        Destination::Queue(_) => b"q",
        Destination::Exchange(_) => b"e",
    };
    let form = match bound.form() {
        Form::Dotted => b".",
        Form::Slashed => b"/",
    };
    let source = bound.source();
    [
        vhost.name().as_bytes().to_vec(),
        source
            .map(|held| held.name().as_bytes().to_vec())
            .unwrap_or_default(),
        kind.to_vec(),
        bound.destination_name().into_bytes(),
        form.to_vec(),
        bound.key().to_vec(),
        bound.arguments().to_vec(),
    ]
}

pub(super) fn record_binding(vhost: &VHost, bound: &Bound) -> Change {
    let parts = binding_key(vhost, bound);
    let parts = parts.each_ref().map(Vec::as_slice);
    records::put(Kind::Binding, &parts, &Table::new())
}

pub(super) fn forget_binding(vhost: &VHost, bound: &Bound) -> Change {
    let parts = binding_key(vhost, bound);
    let parts = parts.each_ref().map(Vec::as_slice);
    records::delete(Kind::Binding, &parts)
}

/// Forgets those of them that are recorded.
pub(super) fn forget_bindings(vhost: &VHost, bindings: &[Bound]) -> impl Iterator<Item = Change> {
    bindings
        .iter()
        .filter(|bound| is_recorded(bound))
        .map(|bound| forget_binding(vhost, bound))
}

/// What a record came to.
enum Loaded {
    /// It is an object again.
    Made,
    /// What it belongs to is gone: it is dropped, with a warning.
    Orphan,
    /// This version does not write such records: nothing is started on it.
    Unknown,
}

impl From<Option<()>> for Loaded {
    fn from(made: Option<()>) -> Self {
        made.map_or(Self::Orphan, |()| Self::Made)
    }
}

/// Brings back everything that is defined.
pub(super) fn load(broker: &Arc<Broker>, now: Time) -> Result<(), Fault> {
    let mut orphans = Vec::new();
    number_behind_all(broker)?;
    for kind in Kind::ALL {
        let mut bad = None;
        if kind == Kind::Queue {
            for vhost in broker.vhosts() {
                restore::begin(broker, &vhost, now);
            }
        }
        broker.definitions.load(kind, &mut |key, value| {
            let loaded = match kind {
                Kind::Node => Loaded::Made,
                // A binding's key ends in bytes that need not be text: it reads its own.
                Kind::Binding => load_binding(broker, key),
                _ => load_named(broker, kind, key, value, now),
            };
            match loaded {
                Loaded::Made => {}
                Loaded::Orphan => {
                    let key_text = String::from_utf8_lossy(key).into_owned();
                    tracing::warn!(
                        ?kind,
                        key = key_text,
                        "definition of something gone: dropped"
                    );
                    orphans.push(Change::Delete {
                        kind,
                        key: key.into(),
                    });
                }
                Loaded::Unknown => bad = Some(String::from_utf8_lossy(key).into_owned()),
            }
        })?;
        if let Some(key) = bad {
            return Err(Fault {
                what: format!("reading the {kind:?} record {key:?}"),
                why: "it is not one that this version writes".to_owned(),
            });
        }
    }
    if !orphans.is_empty() {
        broker.submit(orphans);
    }
    for vhost in broker.vhosts() {
        restore::finish(&vhost);
        // Built-in ones were there before the policies.
        let exchanges = vhost.exchanges();
        exchanges
            .iter()
            .for_each(|held| vhost.apply_to_exchange(held));
    }
    broker.journal.settled_in();
    for vhost in broker.vhosts() {
        for queue in vhost.queues() {
            broker.arm_expiry(&vhost, &queue);
            queue.watch_restored(now);
        }
    }
    Ok(())
}

fn load_named(broker: &Arc<Broker>, kind: Kind, key: &[u8], value: &[u8], now: Time) -> Loaded {
    let parts = records::parts(key).and_then(|parts| {
        let text = parts.iter().map(|part| std::str::from_utf8(part).ok());
        text.collect::<Option<Vec<&str>>>()
    });
    let (Some(parts), Ok(value)) = (parts, Table::decode(value)) else {
        return Loaded::Unknown;
    };
    let vhost = match kind {
        Kind::Exchange | Kind::Queue | Kind::Policy | Kind::OperatorPolicy => parts.first(),
        Kind::Permission | Kind::TopicPermission => parts.get(1),
        _ => None,
    };
    if vhost.is_some_and(|name| broker.vhost(name).is_none()) {
        return Loaded::Orphan;
    }
    match load_one(broker, kind, &parts, &value, now) {
        Some(()) => Loaded::Made,
        None => Loaded::Unknown,
    }
}

fn load_one(
    broker: &Arc<Broker>,
    kind: Kind,
    parts: &[&str],
    value: &Table,
    now: Time,
) -> Option<()> {
    match (kind, parts) {
        (Kind::VHost, [name]) => {
            let known = journal_number(value);
            let shelves = known.unwrap_or_else(|| broker.next_queues(Shelves::COUNT));
            let (next_id, epochs) = (&broker.next_id, &broker.epochs);
            let door = |vhost: &_| broker.door(name, vhost);
            let events = *broker.options.event_vhost == **name;
            let vhost = VHost::new(name, next_id, epochs, door, (shelves, events));
            *vhost.facts.write() = load_facts(value)?;
            if known.is_none() {
                // Recorded before vhosts had numbers.
                let record = broker.submit(vec![record_vhost(&vhost)]);
                vhost.shelves.set_record(record);
            }
            broker.vhosts.write().insert((*name).into(), vhost);
        }
        (Kind::User, [name]) => {
            let user = User {
                password_hash: text(value, "password_hash"),
                // Empty in what older versions wrote.
                scram: text(value, "scram_sha_256"),
                tags: tags(value),
                limits: Limits::read(Limited::User, &nested(value, "limits")).ok()?,
            };
            broker.users.put(name, user);
        }
        (Kind::Permission, [user, vhost]) => {
            let pattern = |name| Pattern::new(&text(value, name)).ok();
            let grants = Grants {
                configure: pattern("configure")?,
                write: pattern("write")?,
                read: pattern("read")?,
                topics: std::collections::HashMap::new(),
            };
            broker.users.set_grants(user, vhost, grants);
        }
        (Kind::TopicPermission, [user, vhost, exchange]) => {
            let topics = TopicGrants {
                write: text(value, "write"),
                read: text(value, "read"),
            };
            broker.users.set_topics(user, vhost, exchange, Some(topics));
        }
        (Kind::GlobalParameter, [name]) => {
            let value = value.lookup("value")?.clone();
            broker
                .parameters
                .write()
                .insert((*name).into(), Arc::new(value));
        }
        (Kind::Policy, [vhost, name]) => load_policy(broker, Scope::Ordinary, vhost, name, value)?,
        (Kind::OperatorPolicy, [vhost, name]) => {
            load_policy(broker, Scope::Operator, vhost, name, value)?;
        }
        (Kind::Exchange, [vhost, name]) => load_exchange(broker, vhost, name, value)?,
        (Kind::Queue, [vhost, name]) => load_queue(broker, vhost, name, value, now)?,
        _ => return None,
    }
    Some(())
}

fn load_policy(
    broker: &Broker,
    scope: Scope,
    vhost: &str,
    name: &str,
    value: &Table,
) -> Option<()> {
    let vhost = broker.vhost(vhost)?;
    vhost.policies.load(scope, name, value).then_some(())
}

fn load_exchange(broker: &Broker, vhost: &str, name: &str, value: &Table) -> Option<()> {
    let properties = ExchangeProperties {
        kind: ExchangeKind::named(&text(value, "type"))?,
        durable: true,
        auto_delete: flag(value, "auto_delete"),
        internal: flag(value, "internal"),
        arguments: nested(value, "arguments"),
    };
    Rules::parse(properties.kind, &properties.arguments).ok()?;
    let exchange = Exchange::new(name, properties);
    let vhost = broker.vhost(vhost)?;
    vhost.add_exchange(exchange).ok().map(|_| ())
}

fn tags(value: &Table) -> Vec<Box<str>> {
    let tags = match value.lookup("tags") {
        Some(Value::Array(tags)) => tags.as_slice(),
        _ => &[],
    };
    let texts = tags.iter().filter_map(Value::as_str);
    texts.map(Into::into).collect()
}

/// What is said about a vhost, and its limits; older versions wrote neither.
fn load_facts(value: &Table) -> Option<Facts> {
    let metadata = Metadata {
        description: text(value, "description"),
        tags: tags(value),
        default_queue_type: QueueKind::named(&text(value, "default_queue_type")),
        protected: flag(value, "protected"),
    };
    let limits = Limits::read(Limited::VHost, &nested(value, "limits")).ok()?;
    Some(Facts { metadata, limits })
}

/// The number that a queue has in the journal.
fn journal_number(value: &Table) -> Option<u64> {
    let number = value.lookup("journal").and_then(Value::as_integer)?;
    u64::try_from(number).ok()
}

/// No queue that is made from now on has the number of one that is recorded.
fn number_behind_all(broker: &Broker) -> Result<(), Fault> {
    for (kind, count) in [(Kind::VHost, Shelves::COUNT), (Kind::Queue, 1)] {
        broker.definitions.load(kind, &mut |_, value| {
            let number = Table::decode(value).ok().as_ref().and_then(journal_number);
            let next = number.map_or(0, |number| number + count);
            broker.next_queue.fetch_max(next, Ordering::Relaxed);
        })?;
    }
    Ok(())
}

fn load_queue(broker: &Broker, vhost: &str, name: &str, value: &Table, now: Time) -> Option<()> {
    let arguments = nested(value, "arguments");
    let parsed = QueueArguments::parse_kept(&arguments)?;
    let properties = QueueProperties {
        durable: true,
        auto_delete: flag(value, "auto_delete"),
        exclusive: None,
        direct: flag(value, "direct"),
        journaled: true,
        arguments,
    };
    let vhost = broker.vhost(vhost)?;
    let subject = Subject {
        name,
        kind: parsed.kind,
        direct: properties.direct,
    };
    let applied = vhost.policies.of_queue(&subject);
    let session = SessionTerms::read(value).map(Arc::new);
    let given = vhost.alike.share(
        &properties.arguments,
        parsed,
        applied,
        properties.direct,
        session.as_ref(),
    );
    let known = journal_number(value);
    let id = known.unwrap_or_else(|| broker.next_queue());
    // One that was in use is unused since the node came back.
    let now = vhost.shelves.unused_since(id, now);
    let queue = Queue::new(id, name, &properties, given, Some(vhost.door()), now);
    queue.restore(broker.journal.recovered(id));
    let queue = vhost.add_queue(queue).ok()?;
    if known.is_none() {
        // Recorded before queues had numbers that survive.
        broker.record_queue(&vhost, &queue);
    }
    Some(())
}

fn load_binding(broker: &Broker, key: &[u8]) -> Loaded {
    match records::parts(key).as_deref() {
        Some([vhost, source, kind, destination, form, key, arguments]) => bind(
            broker,
            [vhost, source, kind, destination, form, key, arguments],
        )
        .into(),
        _ => Loaded::Unknown,
    }
}

fn bind(broker: &Broker, parts: [&[u8]; 7]) -> Option<()> {
    let [vhost, source, kind, destination, form, key, arguments] = parts;
    let name = |bytes| std::str::from_utf8(bytes).ok();
    let vhost = broker.vhost(name(vhost)?)?;
    let source = vhost.exchange(name(source)?)?;
    let form = if form == b"/" {
        Form::Slashed
    } else {
        Form::Dotted
    };
    // What this version wrote it can read, and it wrote no longer key.
    let mut sorted = Vec::new();
    let table = Table::decode(arguments).ok()?.sorted();
    table.encode(&mut sorted).ok()?;
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let terms = Terms {
        key,
        form,
        arguments: &sorted,
    };
    let attach = |end| source.attach(vhost.topology(), end, &terms, &mut Vec::new());
    let attached = match kind {
        b"q" => attach(End::Queue(&vhost.queue(name(destination)?)?)),
        b"e" => attach(End::Exchange(&vhost.exchange(name(destination)?)?)),
        _ => return None,
    };
    let Attached::Made(bound) = attached else {
        return None;
    };
    if sorted != arguments {
        // Recorded before arguments were sorted.
        let old = records::delete(Kind::Binding, &parts);
        broker.submit(vec![old, record_binding(&vhost, &bound)]);
    }
    Some(())
}
