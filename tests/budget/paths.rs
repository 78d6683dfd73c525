//! What a delivery costs on each path: the one table of budgets, and the paths themselves.
//!
//! The names are those of the load generator's scenarios. A round is one batch of every publisher:
//! its clients write it as one segment, the tasks run, subscribers acknowledge, until nothing is
//! left to do. Changing a number here is a decision about the product; docs/performance.md shows
//! the table.

use leveret_mqtt::packet::QoS;

use crate::rig::{Rig, on_own_thread};
use crate::stage::{Counts, Messages, Stage};
use crate::wire::Calls;
use crate::{amqp, mqtt};

/// One path: what happens in a round, and what it may cost.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) round: &'static str,
    stage: fn() -> Stage,
    moved: Messages,
    pub(crate) budget: Counts,
}

const fn path(
    (name, round): (&'static str, &'static str),
    stage: fn() -> Stage,
    (delivered, confirmed): (u64, u64),
    allocations: u64,
    publishers: (u64, u64),
    subscribers: (u64, u64),
    wakes: u64,
) -> Path {
    Path {
        name,
        round,
        stage,
        moved: Messages {
            delivered,
            confirmed,
        },
        budget: Counts {
            allocations,
            publishers: calls(publishers),
            subscribers: calls(subscribers),
            wakes,
        },
    }
}

const fn calls((reads, writes): (u64, u64)) -> Calls {
    Calls { reads, writes }
}

/// Messages of a batch.
const BATCH: u16 = 16;

/// Name and round, stage, messages delivered and acknowledged to their publisher, then the budget:
/// allocations at most, reads and writes of publishers, of subscribers, and wake-ups exactly.
#[rustfmt::skip]
pub(crate) const PATHS: &[Path] = &[
    path(("pairs_q0", "16 messages of 64 bytes, QoS 0"),
        || pairs(QoS::AtMostOnce, BATCH, 64), (16, 0), 2, (1, 0), (0, 1), 1),
    path(("pairs_q0_4k", "16 messages of 4 KiB, QoS 0"),
        || pairs(QoS::AtMostOnce, BATCH, 4_096), (16, 0), 7, (2, 0), (0, 1), 1),
    path(("pairs_q1", "16 messages, QoS 1"),
        || pairs(QoS::AtLeastOnce, BATCH, 64), (16, 16), 27, (1, 1), (1, 1), 1),
    path(("pairs_q2", "16 messages, QoS 2 in, QoS 1 out"),
        || pairs(QoS::ExactlyOnce, BATCH, 64), (16, 16), 31, (2, 2), (1, 1), 1),
    path(("mqtt5_props", "16 messages of 5.0, five User Properties each, QoS 0"),
        || mqtt5(false), (16, 0), 3, (1, 0), (0, 1), 1),
    path(("mqtt5_alias", "the same with topic aliases both ways"),
        || mqtt5(true), (16, 0), 3, (1, 0), (0, 1), 1),
    path(("lat_q0", "one message, QoS 0"),
        || pairs(QoS::AtMostOnce, 1, 64), (1, 0), 1, (1, 0), (0, 1), 1),
    path(("lat_q1", "one message, QoS 1"),
        || pairs(QoS::AtLeastOnce, 1, 64), (1, 1), 5, (1, 1), (1, 1), 1),
    path(("fanin_q0", "16 messages of each of 8 publishers, QoS 0"),
        fanin, (128, 0), 5, (8, 0), (0, 1), 1),
    path(("fanout_q0", "16 messages to 50 subscribers, QoS 0"),
        fanout, (800, 0), 100, (1, 0), (0, 50), 50),
    path(("shared_q1", "16 messages to a group of 4, QoS 1"),
        shared, (16, 16), 38, (1, 1), (4, 4), 4),
    path(("amqp_auto", "16 messages, no acknowledgements"),
        || queue(false, false), (16, 0), 3, (1, 0), (0, 1), 1),
    path(("amqp_ack", "16 messages, each acknowledged, prefetch 100"),
        || queue(true, false), (16, 0), 19, (1, 0), (1, 1), 1),
    path(("amqp_safe", "the same, persistent and with publisher confirms"),
        || queue(true, true), (16, 16), 20, (1, 1), (1, 1), 1),
    path(("bridge_m2a", "16 messages, MQTT QoS 0 to AMQP without acknowledgements"),
        bridge_m2a, (16, 0), 4, (1, 0), (0, 1), 1),
    path(("bridge_a2m", "16 messages, AMQP to MQTT QoS 0"),
        bridge_a2m, (16, 0), 2, (1, 0), (0, 1), 1),
];

const TOPIC: &str = "cities/london";
const FILTER: &str = "cities/+";

fn pairs(qos: QoS, messages: u16, payload_bytes: usize) -> Stage {
    let rig = Rig::new();
    let publisher = mqtt::connect(&rig, "publisher", 0, true);
    let mut subscriber = mqtt::connect(&rig, "subscriber", 0, true);
    mqtt::subscribe(&mut subscriber, &[FILTER], qos);
    let batch = mqtt::batch(TOPIC, qos, messages, payload_bytes);
    Stage::new(rig, vec![publisher], vec![subscriber], batch)
}

fn mqtt5(aliases: bool) -> Stage {
    let rig = Rig::new();
    let publisher = mqtt::connect5(&rig, "publisher");
    let mut subscriber = mqtt::connect5(&rig, "subscriber");
    mqtt::subscribe5(&mut subscriber, &[FILTER], QoS::AtMostOnce);
    let batch = mqtt::batch5(TOPIC, BATCH, aliases);
    Stage::new(rig, vec![publisher], vec![subscriber], batch)
}

fn fanin() -> Stage {
    let rig = Rig::new();
    let publisher = |n| mqtt::connect(&rig, &format!("publisher-{n}"), 0, true);
    let publishers = (0..8).map(publisher).collect();
    let mut subscriber = mqtt::connect(&rig, "subscriber", 0, true);
    mqtt::subscribe(&mut subscriber, &[FILTER], QoS::AtMostOnce);
    let batch = mqtt::batch(TOPIC, QoS::AtMostOnce, BATCH, 64);
    Stage::new(rig, publishers, vec![subscriber], batch)
}

fn fanout() -> Stage {
    several(50, FILTER, QoS::AtMostOnce)
}

fn shared() -> Stage {
    several(4, "$share/group/cities/+", QoS::AtLeastOnce)
}

fn several(subscribers: u16, filter: &str, qos: QoS) -> Stage {
    let rig = Rig::new();
    let publisher = mqtt::connect(&rig, "publisher", 0, true);
    let subscriber = |n| {
        let mut client = mqtt::connect(&rig, &format!("subscriber-{n}"), 0, true);
        mqtt::subscribe(&mut client, &[filter], qos);
        client
    };
    let subscribers = (0..subscribers).map(subscriber).collect();
    let batch = mqtt::batch(TOPIC, qos, BATCH, 64);
    Stage::new(rig, vec![publisher], subscribers, batch)
}

fn queue(acknowledges: bool, confirms: bool) -> Stage {
    let rig = Rig::new();
    let mut publisher = amqp::connect(&rig, 0, false);
    if confirms {
        amqp::confirm(&mut publisher);
    }
    let mut consumer = amqp::connect(&rig, 0, acknowledges);
    amqp::consume(&mut consumer, !acknowledges);
    let batch = amqp::batch("", amqp::QUEUE, confirms, usize::from(BATCH));
    Stage::new(rig, vec![publisher], vec![consumer], batch)
}

fn bridge_m2a() -> Stage {
    let rig = Rig::new();
    let publisher = mqtt::connect(&rig, "publisher", 0, true);
    let mut consumer = amqp::connect(&rig, 0, false);
    amqp::consume(&mut consumer, true);
    let batch = mqtt::batch(TOPIC, QoS::AtMostOnce, BATCH, 64);
    Stage::new(rig, vec![publisher], vec![consumer], batch)
}

fn bridge_a2m() -> Stage {
    let rig = Rig::new();
    let publisher = amqp::connect(&rig, 0, false);
    let mut subscriber = mqtt::connect(&rig, "subscriber", 0, true);
    mqtt::subscribe(&mut subscriber, &[FILTER], QoS::AtMostOnce);
    let batch = amqp::batch("amq.topic", "cities.london", false, usize::from(BATCH));
    Stage::new(rig, vec![publisher], vec![subscriber], batch)
}

/// FEATURES M5, M8, M14: allocations, wake-ups, reads and writes of a delivery are counts
/// that no machine changes.
#[test]
fn paths_keep_their_budgets() {
    let mut broken = Vec::new();
    for path in PATHS {
        let name = path.name;
        match on_own_thread(|| (path.stage)().play(path.moved)) {
            Err(problem) => broken.push(format!("{name}: {problem}")),
            Ok(counted) if counted.keeps(path.budget) => {}
            Ok(counted) => {
                let allowed = path.budget;
                broken.push(format!("{name}: counted {counted}, allowed {allowed}"));
            }
        }
    }
    let heading = "allocations | publishers, reads + writes | subscribers, same | wake-ups";
    assert!(broken.is_empty(), "{heading}\n{}", broken.join("\n"));
}
