//! Exchanges as their users meet them, through a link: the rig of the tests below it.

mod alternate;
mod declare;
mod delayed;
mod headers;
mod keys;
mod kinds;
mod model;
mod race;
mod scale;

use std::sync::Arc;

use crate::broker::Broker;
use crate::definitions::Volatile;
use crate::exchange::Memo;
use crate::field::{RawTable, Table, Value};
use crate::journal::MemoryJournal;
use crate::key::Form;
use crate::link::{BindQueue, DeclareExchange, DeclareQueue, Link};
use crate::message::{AmqpOrigin, Head, MessageRef};
use crate::options::Options;
use crate::properties::BasicProperties;
use crate::queue::{Queue, QueueProperties};
use crate::refusal::Refusal;
use crate::time::Time;
use crate::turn::Turn;
use crate::user::User;

/// Small, repeatable, and enough to mix things.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// The owner's link into a vhost of a broker in memory.
fn link() -> Arc<Link> {
    let broker = Broker::open(
        Options::default(),
        Arc::new(Volatile::default()),
        Arc::new(MemoryJournal::default()),
        Time(1),
        || "unused".to_owned(),
    )
    .expect("an empty broker opens");
    rest(&broker);
    let vhost = broker.vhost("/").expect("the default vhost is made");
    broker.owner_link(&vhost)
}

/// Lets the broker do what it has to do for users that were made.
fn rest(broker: &Arc<Broker>) {
    let mut turn = Turn::new();
    turn.begin(Time(1));
    broker.handle_timeout(&mut turn);
}

/// A queue that counts what it gets as lost, and keeps nothing.
fn declare(link: &Link, name: &str) -> Arc<Queue> {
    let wish = DeclareQueue {
        name,
        properties: QueueProperties {
            direct: true,
            ..QueueProperties::default()
        },
        ..DeclareQueue::default()
    };
    let declared = link.queue_declare(&mut Turn::new(), &wish);
    declared.expect("the queue can be declared").queue
}

fn declare_exchange(link: &Link, name: &str, kind: &str) {
    declare_with(link, name, kind, Table::new()).expect("the exchange can be declared");
}

fn declare_with(link: &Link, name: &str, kind: &str, arguments: Table) -> Result<(), Refusal> {
    link.exchange_declare(&DeclareExchange {
        name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments,
    })
}

fn table(entries: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, value.clone()).expect("a short name");
    }
    table
}

/// The properties of a message with these headers.
fn properties_of(headers: &[(&str, Value)]) -> Vec<u8> {
    let mut encoded = Vec::new();
    table(headers).encode(&mut encoded).expect("a small table");
    let headers = Some(RawTable::parse(&encoded).expect("just encoded"));
    let mut out = Vec::new();
    let properties = BasicProperties {
        headers,
        ..BasicProperties::default()
    };
    properties.encode(&mut out).expect("small properties");
    out
}

/// The link of a user with these permissions: configure, write, read.
fn user(owner: &Link, name: &str, permissions: [&str; 3]) -> Arc<Link> {
    let broker = owner.broker();
    let user = User {
        password_hash: "".into(),
        tags: Vec::new(),
        ..User::default()
    };
    broker.put_user(name, user).expect("made");
    broker
        .set_permissions(name, "/", permissions)
        .expect("granted");
    rest(broker);
    let here = std::net::Ipv4Addr::LOCALHOST.into();
    let opened = broker.open_vhost(broker.new_connection(), name, "/", None, here);
    opened.expect("may enter")
}

fn wish<'a>(queue: &'a str, exchange: &'a str, key: &'a str, form: Form) -> BindQueue<'a> {
    BindQueue {
        queue,
        exchange,
        key: key.as_bytes(),
        form,
        arguments: Table::new(),
    }
}

fn bind(link: &Link, queue: &str, exchange: &str, key: &str, form: Form) -> bool {
    let made = link.queue_bind(&wish(queue, exchange, key, form));
    made.expect("the queue can be bound").created
}

fn unbind(link: &Link, queue: &str, exchange: &str, key: &str, form: Form) -> usize {
    let left = link.queue_unbind(&wish(queue, exchange, key, form));
    left.expect("the queue can be unbound")
}

/// One publisher with what it and its worker remember.
#[derive(Default)]
struct Publisher {
    turn: Turn,
    memo: Memo,
}

impl Publisher {
    /// Publishes an empty message and says how many queues it was routed to.
    fn publish(
        &mut self,
        link: &Link,
        exchange: &str,
        (key, form): (&str, Form),
        properties: &[u8],
    ) -> Result<u32, Refusal> {
        let message = message(exchange, (key, form), properties);
        let published = link.publish(&mut self.turn, &mut self.memo, &message)?;
        Ok(published.routed)
    }

    fn routed(&mut self, link: &Link, exchange: &str, key: &str, form: Form) -> u32 {
        self.publish(link, exchange, (key, form), &[0, 0])
            .expect("the message can be published")
    }
}

/// An empty message, published at 1 ms.
fn message<'a>(
    exchange: &'a str,
    (key, form): (&'a str, Form),
    properties: &'a [u8],
) -> MessageRef<'a> {
    MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form,
            persistent: false,
            retain: false,
            exactly_once: false,
            publisher: 0,
            received: Time(1),
            expires: None,
        },
        exchange,
        key: key.as_bytes(),
        properties,
        payload: b"",
    }
}
