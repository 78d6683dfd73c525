//! Clients of both protocols over one data directory whose broker is killed again and again, also
//! while it starts.

use std::path::Path;

use lapin::options::QueueDeclareOptions;
use tokio::task::{JoinHandle, spawn, spawn_blocking};

use super::amqp::{consume_all, consume_until_killed, publish_last, publish_until_killed};
use super::mqtt::{Publisher, Subscriber};
use super::oracle::{Oracle, Summary, Way};
use crate::amqp::{bind, channel, declare, try_connect};
use crate::program::{Program, Starting};

/// Queues: of an AMQP consumer, of an MQTT session, and one that is read at the end.
const WORK: &str = "work";
const SESSION: &str = "session";
const AUDIT: &str = "audit";

const LAST: &str = "last";

/// At most so many acknowledgements come before a kill.
const ACKNOWLEDGEMENTS_MAX: u64 = 400;

/// Looks at a broker that starts, before it is killed.
const LOOKS_MAX: u64 = 2_000;

/// Seeded, so that a run can be had again as far as the system lets it.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Who publishes, from one life of the broker to the next.
struct Crowd {
    oracle: Oracle,
    amqp: [(&'static str, u64); 2],
    mqtt: Vec<Publisher>,
}

impl Crowd {
    fn new(oracle: &Oracle) -> Self {
        let publisher = |client_id, way| Publisher::new(client_id, way, oracle);
        Self {
            oracle: oracle.clone(),
            amqp: [("amqp-1", 0), ("amqp-2", 0)],
            mqtt: vec![
                publisher("one-1", Way::Qos1),
                publisher("one-2", Way::Qos1),
                publisher("two-1", Way::Qos2),
                publisher("two-2", Way::Qos2),
            ],
        }
    }

    /// Publishes and consumes until the broker is killed.
    async fn live(&mut self, amqp: &str, mqtt: &str) {
        let oracle = &self.oracle;
        let consumer = spawn(consume_until_killed(amqp.to_owned(), WORK, oracle.clone()));
        let subscriber = subscriber(oracle);
        let address = mqtt.to_owned();
        let subscriber = spawn_blocking(move || subscriber.run(&address, None));
        let publish = |publisher: Publisher| {
            let address = mqtt.to_owned();
            spawn_blocking(move || publisher.run(&address))
        };
        let publishers: Vec<JoinHandle<Publisher>> = self.mqtt.drain(..).map(publish).collect();
        let confirmed: Vec<JoinHandle<u64>> = self
            .amqp
            .iter()
            .map(|(name, next)| {
                spawn(publish_until_killed(
                    amqp.to_owned(),
                    name,
                    *next,
                    oracle.clone(),
                ))
            })
            .collect();
        for (task, (_, next)) in confirmed.into_iter().zip(&mut self.amqp) {
            *next = task.await.expect("it ends well");
        }
        for task in publishers {
            self.mqtt.push(task.await.expect("it ends well"));
        }
        consumer.await.expect("it ends well");
        subscriber.await.expect("it ends well");
    }
}

fn subscriber(oracle: &Oracle) -> Subscriber {
    Subscriber {
        queue: SESSION,
        oracle: oracle.clone(),
    }
}

fn addresses(program: &Program) -> (String, String) {
    (program.address("AMQP 0-9-1"), program.address("MQTT"))
}

/// Everything is routed to three queues.
async fn set_up(amqp: &str, mqtt: &str, oracle: &Oracle) {
    let address = amqp.parse().expect("an address");
    let connection = try_connect(address, "guest:guest", "%2f").await;
    let channel = channel(&connection.expect("connects")).await;
    for queue in [WORK, AUDIT] {
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        declare(&channel, queue, durable).await;
        bind(&channel, queue, "amq.topic", "crash.#").await;
    }
    let (subscriber, mqtt) = (subscriber(oracle), mqtt.to_owned());
    let subscribed = spawn_blocking(move || subscriber.subscribe(&mqtt));
    subscribed.await.expect("it ends well");
}

/// Kills a broker that is starting: at once, when it has its directory, or a little later.
fn kill_starting(directory: &Path, random: &mut Random) {
    let starting = Starting::begin(directory);
    if random.below(3) > 0 {
        starting.wait_for_lock(directory);
    }
    for _ in 0..random.below(LOOKS_MAX) {
        std::thread::yield_now();
    }
    starting.kill();
}

/// Kills a broker so many times, and tells what its clients saw.
pub(super) async fn run(directory: &Path, kills: u64, seed: u64) -> Summary {
    let oracle = Oracle::new();
    let mut crowd = Crowd::new(&oracle);
    let mut random = Random(seed);
    let (mut killed, mut in_recovery) = (0, 0);
    while killed < kills {
        let program = Program::start(directory);
        oracle.revived();
        let (amqp, mqtt) = addresses(&program);
        if killed == 0 {
            set_up(&amqp, &mqtt, &oracle).await;
        }
        let acknowledgements = 1 + random.below(ACKNOWLEDGEMENTS_MAX);
        oracle.kill_after(acknowledgements, program.pid());
        crowd.live(&amqp, &mqtt).await;
        drop(program);
        killed += 1;
        let more = if random.below(4) == 0 {
            random.below(3)
        } else {
            0
        };
        for _ in 0..more.min(kills - killed) {
            kill_starting(directory, &mut random);
            killed += 1;
            in_recovery += 1;
        }
    }
    let program = Program::start(directory);
    oracle.revived();
    let (amqp, mqtt) = addresses(&program);
    for publisher in crowd.mqtt {
        let address = mqtt.clone();
        let finished = spawn_blocking(move || publisher.finish(&address));
        finished.await.expect("it ends well");
    }
    oracle.sent(Way::Amqp, LAST);
    publish_last(&amqp, LAST, &oracle).await;
    let (subscriber, address) = (subscriber(&oracle), mqtt.clone());
    let subscriber = spawn_blocking(move || subscriber.run(&address, Some(LAST)));
    consume_all(&amqp, WORK, LAST, &oracle).await;
    consume_all(&amqp, AUDIT, LAST, &oracle).await;
    subscriber.await.expect("it ends well");
    let mut summary = oracle.summary(&[WORK, SESSION], AUDIT);
    (summary.kills, summary.kills_in_recovery) = (killed, in_recovery);
    summary
}
