//! How a key finds its queues among a million bindings: remembered by the publisher, found in the
//! worker's cache, or looked up.
//!
//! Queues keep no list and have no consumer, so that a publication ends where routing does.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::exchange::Memo;
use leveret_core::field::{RawTable, Table, Value};
use leveret_core::journal::MemoryJournal;
use leveret_core::key::Form;
use leveret_core::limits::ROUTES_CACHED_MAX;
use leveret_core::link::{BindQueue, DeclareQueue, Link};
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::options::Options;
use leveret_core::properties::BasicProperties;
use leveret_core::queue::QueueProperties;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

/// A vhost with bindings `site/N/boiler/state`, and `wild/N/+/#` as many, spread over queues.
struct Bindings {
    link: Arc<Link>,
    turn: Turn,
    each: usize,
}

/// Bindings of one queue.
const PER_QUEUE: usize = 100;

impl Bindings {
    fn new(each: usize) -> Self {
        let broker = Broker::open(
            Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        )
        .expect("an empty broker opens");
        let vhost = broker.vhost("/").expect("the default vhost");
        let mut made = Self {
            link: broker.owner_link(&vhost),
            turn: Turn::new(),
            each,
        };
        for first in (0..each).step_by(PER_QUEUE) {
            made.fill(first);
        }
        made
    }

    fn fill(&mut self, first: usize) {
        let name = format!("queue-{first}");
        let wish = DeclareQueue {
            name: &name,
            passive: false,
            exclusive: false,
            properties: QueueProperties {
                direct: true,
                ..QueueProperties::default()
            },
            session: None,
        };
        self.link
            .queue_declare(&mut self.turn, &wish)
            .expect("there is room");
        for n in first..(first + PER_QUEUE).min(self.each) {
            for key in [exact(n), format!("wild/{n}/+/#")] {
                let wish = BindQueue {
                    queue: &name,
                    exchange: "amq.topic",
                    key: key.as_bytes(),
                    form: Form::Slashed,
                    arguments: Table::new(),
                };
                self.link.queue_bind(&wish).expect("there is room");
            }
        }
    }

    /// Publishes under a key, which must lead to one queue.
    fn publish(&mut self, memo: &mut Memo, key: &str) {
        self.publish_to(memo, ("amq.topic", Form::Slashed, key), b"\0\0");
    }

    fn publish_to(
        &mut self,
        memo: &mut Memo,
        (exchange, form, key): (&str, Form, &str),
        properties: &[u8],
    ) {
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form,
                persistent: false,
                retain: false,
                exactly_once: false,
                publisher: 1,
                received: Time(1),
                expires: None,
            },
            exchange,
            key: black_box(key.as_bytes()),
            properties,
            payload: b"",
        };
        let published = self.link.publish(&mut self.turn, memo, &message);
        assert_eq!(published.expect("it is allowed").routed, 1);
    }
}

fn exact(n: usize) -> String {
    format!("site/{n}/boiler/state")
}

/// A headers exchange with this many bindings, each of which asks for all of two headers that a
/// message has, one of them shared by all bindings.
const HEADERS_BINDINGS: i32 = 10_000;

fn table(entries: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, value.clone()).expect("a short name");
    }
    table
}

fn headers(criterion: &mut Criterion) {
    let mut bindings = Bindings::new(PER_QUEUE);
    let order = |id| table(&[("type", Value::from("order")), ("id", Value::I32(id))]);
    for id in 0..HEADERS_BINDINGS {
        let wish = BindQueue {
            queue: "queue-0",
            exchange: "amq.headers",
            key: b"",
            form: Form::Dotted,
            arguments: order(id),
        };
        bindings.link.queue_bind(&wish).expect("there is room");
    }
    let mut encoded = Vec::new();
    order(HEADERS_BINDINGS / 2)
        .encode(&mut encoded)
        .expect("a small table");
    let properties = BasicProperties {
        headers: Some(RawTable::parse(&encoded).expect("just encoded")),
        ..BasicProperties::default()
    };
    let mut raw = Vec::new();
    properties.encode(&mut raw).expect("small properties");
    let mut memo = Memo::default();
    let mut group = criterion.benchmark_group("routing");
    group.bench_function("headers_10k", |bench| {
        bench.iter(|| bindings.publish_to(&mut memo, ("amq.headers", Form::Dotted, "k"), &raw));
    });
    group.finish();
}

fn routing(criterion: &mut Criterion) {
    // Half a million of each kind; a look at whether it runs needs fewer.
    let measuring = std::env::args().any(|argument| argument == "--bench")
        && !std::env::args().any(|argument| argument == "--test");
    let each = if measuring { 500_000 } else { 5_000 };
    let mut bindings = Bindings::new(each);
    let mut memo = Memo::default();
    let mut group = criterion.benchmark_group("routing");

    let key = exact(each / 2);
    group.bench_function("memo_hit", |bench| {
        bench.iter(|| bindings.publish(&mut memo, &key));
    });

    let keys: Vec<_> = (0..ROUTES_CACHED_MAX / 4).map(exact).collect();
    let mut next = keys.iter().cycle();
    group.bench_function("cache_hit", |bench| {
        bench.iter(|| bindings.publish(&mut memo, next.next().expect("a cycle")));
    });

    // More keys than a worker remembers, each far from the one before.
    let stride = each / 7;
    let spread = move |n: usize| n * stride % each;
    let keys: Vec<_> = (0..each).map(|n| exact(spread(n))).collect();
    let mut next = keys.iter().cycle();
    group.bench_function("miss_exact", |bench| {
        bench.iter(|| bindings.publish(&mut memo, next.next().expect("a cycle")));
    });

    let wild = |n| format!("wild/{}/boiler/state", spread(n));
    let keys: Vec<_> = (0..each).map(wild).collect();
    let mut next = keys.iter().cycle();
    group.bench_function("miss_wildcard", |bench| {
        bench.iter(|| bindings.publish(&mut memo, next.next().expect("a cycle")));
    });
    group.finish();
}

criterion_group!(routes, headers, routing);
criterion_main!(routes);
