//! A broker without disk, one client, and readers that note what they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::definitions::{Definitions, Volatile};
use crate::exchange::Memo;
use crate::field::{RawTable, Table, Value};
use crate::journal::{Journal, MemoryJournal};
use crate::key::Form;
use crate::link::{DeclareQueue, Link, Published};
use crate::message::{AmqpOrigin, Head, Message, MessageRef};
use crate::options::Options;
use crate::properties::BasicProperties;
use crate::queue::{Consumer, Queue, QueueProperties, Settle};
use crate::refusal::Refusal;
use crate::sink::{Delivery, Outcome, Sink};
use crate::time::Time;
use crate::turn::Turn;
use crate::watermark::Wake;

pub(super) fn long(value: i64) -> Value {
    Value::I64(value)
}

pub(super) fn text(value: &str) -> Value {
    Value::from(value)
}

pub(super) struct Rig {
    pub(super) broker: Arc<Broker>,
    pub(super) link: Arc<Link>,
    pub(super) turn: Turn,
    readers: AtomicU64,
}

/// A message as a client gets it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) body: String,
    pub(super) key: String,
    pub(super) exchange: String,
    pub(super) redelivered: bool,
    pub(super) failures: u32,
    pub(super) headers: Table,
    pub(super) expiration: Option<String>,
    pub(super) seq: u64,
    pub(super) offset: Option<u64>,
    pub(super) message: Message,
}

impl Got {
    fn of(message: Message, seq: u64, redelivered: bool, failures: u32) -> Self {
        let view = message.view();
        let mut raw = Vec::new();
        view.head.origin.append_basic_properties(&view, &mut raw);
        let properties = BasicProperties::parse(&raw).expect("they are valid");
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            body: lossy(view.payload),
            key: lossy(view.key),
            exchange: view.exchange.to_owned(),
            redelivered,
            failures,
            headers: properties
                .headers
                .map_or_else(Table::new, RawTable::to_table),
            expiration: properties.expiration.map(lossy),
            seq,
            offset: None,
            message: message.clone(),
        }
    }

    /// `x-death` as (queue, reason, count).
    pub(super) fn deaths(&self) -> Vec<(String, String, i64)> {
        let Some(Value::Array(deaths)) = self.headers.lookup("x-death") else {
            return Vec::new();
        };
        let row = |death: &Value| {
            let Value::Table(death) = death else {
                panic!("no table: {death:?}");
            };
            let word = |name| {
                let value = death.lookup(name).and_then(Value::as_str);
                value.expect("a text").to_owned()
            };
            let count = death.lookup("count").and_then(Value::as_integer);
            (word("queue"), word("reason"), count.expect("a count"))
        };
        deaths.iter().map(row).collect()
    }
}

/// A consumer that takes as much as it has credit for.
pub(super) struct Reader {
    key: u64,
    queue: Mutex<Option<Arc<Queue>>>,
    credit: AtomicU64,
    got: Mutex<Vec<Got>>,
    /// It was told to pull again.
    called: AtomicBool,
    /// What happens while it takes a delivery.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Reader {
    pub(super) fn bodies(&self) -> Vec<String> {
        self.got.lock().iter().map(|got| got.body.clone()).collect()
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    /// Has something happen while it takes its next delivery.
    pub(super) fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock() = Some(Box::new(happens));
    }

    fn queue(&self) -> Arc<Queue> {
        self.queue.lock().clone().expect("it consumes")
    }
}

impl Sink for Reader {
    fn deliver(&self, delivery: &mut Delivery<'_>) -> Outcome {
        let credit = self.credit.load(Ordering::Relaxed);
        if credit == 0 {
            return Outcome::Full;
        }
        self.credit.store(credit - 1, Ordering::Relaxed);
        if let Some(happens) = self.meanwhile.lock().take() {
            happens();
        }
        let got = Got::of(
            delivery.message.to_message(&mut Vec::new()),
            delivery.seq,
            delivery.redelivered,
            delivery.failures,
        );
        self.got.lock().push(Got {
            offset: delivery.offset,
            // What a sink keeps until it is settled.
            message: delivery.share(),
            ..got
        });
        Outcome::Taken {
            settled: false,
            wake: false,
        }
    }

    fn again(&self, consumer: u64) {
        assert_eq!(consumer, self.key);
        self.called.store(true, Ordering::Relaxed);
    }

    fn cancelled(&self, _consumer: u64) {}
}

impl Wake for Reader {
    fn wake(&self) {}
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::over(
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
        )
    }

    /// A broker over what an earlier one left.
    pub(super) fn over(definitions: Arc<dyn Definitions>, journal: Arc<dyn Journal>) -> Self {
        let broker = Broker::open(
            Options::default(),
            definitions,
            journal,
            Time(1_000_000),
            || "hash".to_owned(),
        );
        let broker = broker.expect("opens");
        let address = [127, 0, 0, 1].into();
        let link = broker.open_vhost(1, "guest", "/", None, address);
        let mut turn = Turn::new();
        turn.now = Time(1_000_000);
        Self {
            link: link.expect("guest may"),
            broker,
            turn,
            readers: AtomicU64::new(1),
        }
    }

    pub(super) fn try_declare(
        &mut self,
        name: &str,
        arguments: &[(&str, Value)],
    ) -> Result<Arc<Queue>, Refusal> {
        let mut table = Table::new();
        for (name, value) in arguments {
            table.insert(name, value.clone()).expect("a short name");
        }
        let wish = DeclareQueue {
            name,
            properties: QueueProperties {
                durable: true,
                journaled: true,
                arguments: table,
                ..QueueProperties::default()
            },
            ..DeclareQueue::default()
        };
        let declared = self.link.queue_declare(&mut self.turn, &wish)?;
        Ok(declared.queue)
    }

    pub(super) fn declare(&mut self, name: &str, arguments: &[(&str, Value)]) -> Arc<Queue> {
        self.try_declare(name, arguments).expect("may be declared")
    }

    pub(super) fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) -> Published {
        self.publish_with(exchange, key, body, |_| {})
    }

    pub(super) fn publish_with(
        &mut self,
        exchange: &str,
        key: &str,
        body: &[u8],
        set: impl FnOnce(&mut BasicProperties<'_>),
    ) -> Published {
        let mut properties = BasicProperties::default();
        set(&mut properties);
        self.send(exchange, key, body, &properties)
    }

    /// Publishes a message with the bytes of a table as its headers.
    pub(super) fn publish_raw(
        &mut self,
        exchange: &str,
        key: &str,
        body: &[u8],
        headers: &[u8],
    ) -> Published {
        let properties = BasicProperties {
            headers: Some(RawTable::parse(headers).expect("it is a table")),
            ..BasicProperties::default()
        };
        self.send(exchange, key, body, &properties)
    }

    fn send(
        &mut self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: &BasicProperties<'_>,
    ) -> Published {
        let mut raw = Vec::new();
        properties.encode(&mut raw).expect("short properties");
        let ttl_ms = properties.expiration.map(|ms| {
            let text = std::str::from_utf8(ms).expect("digits");
            text.parse::<u64>().expect("digits")
        });
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                persistent: properties.delivery_mode != Some(1),
                retain: false,
                exactly_once: false,
                publisher: 1,
                received: self.turn.now,
                expires: ttl_ms.map(|ms| self.turn.now.after_ms(ms)),
            },
            exchange,
            key: key.as_bytes(),
            properties: &raw,
            payload: body,
        };
        let mut memo = Memo::default();
        let published = self.link.publish(&mut self.turn, &mut memo, &message);
        published.expect("may be published")
    }

    pub(super) fn get(&mut self, queue: &str) -> Option<Got> {
        let got = self.link.get(&mut self.turn, queue, true);
        let taken = got.expect("may be fetched")?.taken;
        let (seq, redelivered, failures) = (taken.seq, taken.redelivered, taken.failures);
        Some(Got::of(taken.message, seq, redelivered, failures))
    }

    /// A consumer with credit for all.
    pub(super) fn consume(&mut self, queue: &str, set: impl FnOnce(&mut Consumer)) -> Arc<Reader> {
        self.consume_some(queue, u64::MAX, set)
    }

    pub(super) fn consume_some(
        &mut self,
        queue: &str,
        credit: u64,
        set: impl FnOnce(&mut Consumer),
    ) -> Arc<Reader> {
        self.try_consume(queue, credit, set).expect("may consume")
    }

    pub(super) fn try_consume(
        &mut self,
        queue: &str,
        credit: u64,
        set: impl FnOnce(&mut Consumer),
    ) -> Result<Arc<Reader>, Refusal> {
        let reader = Arc::new(Reader {
            key: self.readers.fetch_add(1, Ordering::Relaxed),
            queue: Mutex::default(),
            credit: AtomicU64::new(credit),
            got: Mutex::default(),
            called: AtomicBool::new(false),
            meanwhile: Mutex::default(),
        });
        let mut consumer = Consumer::new(reader.key, 1, "tag".into(), Arc::clone(&reader) as _);
        set(&mut consumer);
        let held = self.link.consume(&self.turn, queue, consumer)?;
        *reader.queue.lock() = Some(Arc::clone(&held));
        held.pull(&mut self.turn, 1, reader.key);
        Ok(reader)
    }

    /// Does what a reader's owner does that was told to pull; says whether it was.
    pub(super) fn pull_again(&mut self, reader: &Reader) -> bool {
        let called = reader.called.swap(false, Ordering::Relaxed);
        if called {
            self.turn.begin(self.turn.now);
            reader.queue().pull(&mut self.turn, 1, reader.key);
        }
        called
    }

    /// Gives a reader so much more credit.
    pub(super) fn credit(&mut self, reader: &Reader, credit: u64) {
        reader.credit.fetch_add(credit, Ordering::Relaxed);
        reader.queue().pull(&mut self.turn, 1, reader.key);
    }

    pub(super) fn cancel(&mut self, reader: &Reader) {
        let queue = reader.queue();
        self.link.cancel(&mut self.turn, &queue, reader.key);
    }

    /// Settles all that a reader has.
    pub(super) fn settle(&mut self, reader: &Reader, how: Settle) {
        let all = std::mem::take(&mut *reader.got.lock());
        let held = all.into_iter().map(|got| (got.seq, got.message));
        let queue = reader.queue();
        self.link.settle(&mut self.turn, &queue, held, how);
    }

    /// Lets time pass, and the broker do what is due.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.turn.now.after_ms(ms);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= until) {
            self.turn.now = at.max(self.turn.now);
            self.broker.handle_timeout(&mut self.turn);
        }
        self.turn.now = until;
    }
}
