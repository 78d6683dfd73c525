//! A queue with one consumer: push, deliver, acknowledge; and what waits for the consumer's window.
//! And what the journal adds to a push.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::exchange::Memo;
use leveret_core::journal::{Durability, Journal, MemoryJournal, Slot};
use leveret_core::key::Form;
use leveret_core::link::{DeclareQueue, Link};
use leveret_core::message::{AmqpOrigin, Head, Message, MessageRef};
use leveret_core::options::Options;
use leveret_core::queue::{Consumer, Queue, QueueProperties, Settle};
use leveret_core::sink::{Delivery, Outcome, Sink};
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;
use parking_lot::Mutex;

/// Messages of one iteration.
const BATCH: usize = 64;

/// Holds what was delivered until it is acknowledged.
struct Reader {
    window: usize,
    unacked: Mutex<Vec<(u64, Message)>>,
}

impl Wake for Reader {
    fn wake(&self) {}
}

impl Sink for Reader {
    fn deliver(&self, delivery: &mut Delivery<'_>) -> Outcome {
        let mut unacked = self.unacked.lock();
        if unacked.len() >= self.window {
            return Outcome::Full;
        }
        unacked.push((delivery.seq, delivery.share()));
        Outcome::Taken {
            settled: false,
            wake: unacked.len() == 1,
        }
    }

    fn cancelled(&self, _consumer: u64) {}
}

struct Bench {
    link: Arc<Link>,
    turn: Turn,
    memo: Memo,
    queue: Arc<Queue>,
    reader: Arc<Reader>,
    settling: Vec<(u64, Message)>,
}

impl Bench {
    fn new(window: usize) -> Self {
        let broker = Broker::open(
            Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        )
        .expect("an empty broker opens");
        let vhost = broker.vhost("/").expect("the default vhost");
        let link = broker.owner_link(&vhost);
        let mut turn = Turn::new();
        let wish = DeclareQueue {
            name: "readings",
            passive: false,
            exclusive: false,
            properties: QueueProperties {
                durable: true,
                journaled: true,
                ..QueueProperties::default()
            },
            session: None,
        };
        link.queue_declare(&mut turn, &wish).expect("there is room");
        let reader = Arc::new(Reader {
            window,
            unacked: Mutex::new(Vec::with_capacity(BATCH)),
        });
        let sink = Arc::clone(&reader) as Arc<dyn Sink>;
        let connection = link.connection();
        let consumer = Consumer::new(1, connection, "reader".into(), sink);
        let queue = link
            .consume(&turn, "readings", consumer)
            .expect("it is allowed");
        queue.pull(&mut turn, connection, 1);
        Self {
            link,
            turn,
            memo: Memo::default(),
            queue,
            reader,
            settling: Vec::with_capacity(BATCH),
        }
    }

    /// Publishes a batch, and acknowledges window by window until nothing is left.
    fn round(&mut self) {
        for _ in 0..BATCH {
            let message = black_box(message());
            self.link
                .publish(&mut self.turn, &mut self.memo, &message)
                .expect("it is allowed");
        }
        let mut settled = 0;
        while settled < BATCH {
            std::mem::swap(&mut self.settling, &mut self.reader.unacked.lock());
            settled += self.settling.len();
            let acked = self.settling.drain(..);
            self.link
                .settle(&mut self.turn, &self.queue, acked, Settle::Ack);
            self.queue.pull(&mut self.turn, self.link.connection(), 1);
        }
        self.turn.ring();
    }
}

/// 64 bytes, persistent.
fn message() -> MessageRef<'static> {
    MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form: Form::Dotted,
            persistent: true,
            retain: false,
            exactly_once: false,
            publisher: 1,
            received: Time(1),
            expires: None,
        },
        exchange: "",
        key: b"readings",
        properties: b"\x10\0\x02",
        payload: &[7; 64],
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH as u64));
    // Taken at once, or most of them pushed to the list and popped from it as the window opens.
    for (name, window) in [("push_deliver_ack", BATCH), ("push_wait_deliver_ack", 8)] {
        let mut bench = Bench::new(window);
        group.bench_function(name, |criterion| criterion.iter(|| bench.round()));
    }
    group.finish();
}

fn journal(criterion: &mut Criterion) {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let message = message();
    criterion.bench_function("journal/append_in_memory", |bench| {
        bench.iter(|| {
            let slot = Slot {
                durability: Durability::Group,
                queue: 1,
                seq: 1,
                after: 0,
            };
            black_box(journal.publish(slot, black_box(&message), None))
        });
    });
}

criterion_group!(queues, queue, journal);
criterion_main!(queues);
