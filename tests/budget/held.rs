//! What idle clients hold: heap bytes of a connection with its task, and of a session without one.
//! And what coming and going allocates.

use leveret_mqtt::packet::QoS;

use crate::rig::{Client, Rig, on_own_thread};
use crate::{amqp, mqtt};

/// Something that many have at once.
pub(crate) struct Held {
    pub(crate) name: &'static str,
    /// Makes the one with this number; `None` if nobody is connected any more.
    make: fn(&Rig, usize) -> Option<Client>,
    /// Heap bytes of each, as requested from the allocator: what it was, and a tenth.
    pub(crate) bytes_max: i64,
}

/// What each may hold.
pub(crate) const HELD: &[Held] = &[
    Held {
        name: "MQTT connection, keep-alive 60 s",
        make: |rig, n| Some(connect(rig, n, true)),
        bytes_max: 1_013,
    },
    Held {
        name: "MQTT connection with one subscription, QoS 0",
        make: |rig, n| {
            let mut client = connect(rig, n, true);
            subscribe(&mut client, n, &["state"], QoS::AtMostOnce);
            Some(client)
        },
        bytes_max: 2_612,
    },
    Held {
        name: "AMQP connection with a channel, heartbeat 60 s",
        make: |rig, _| Some(amqp::connect(rig, 60, false)),
        bytes_max: 2_010,
    },
    Held {
        name: "offline persistent MQTT session with three subscriptions, QoS 1",
        make: |rig, n| {
            let mut client = connect(rig, n, false);
            subscribe(
                &mut client,
                n,
                &["state", "alarm", "config"],
                QoS::AtLeastOnce,
            );
            mqtt::disconnect(client);
            None
        },
        bytes_max: 1_147,
    },
];

/// Allocations of a client that connects, subscribes and disconnects, with its task.
pub(crate) const CHURN_ALLOCATIONS_MAX: u64 = 65;

fn connect(rig: &Rig, n: usize, clean: bool) -> Client {
    mqtt::connect(rig, &format!("sensor-{n:06}"), 60, clean)
}

fn subscribe(client: &mut Client, n: usize, leaves: &[&str], qos: QoS) {
    let filters: Vec<_> = leaves
        .iter()
        .map(|leaf| format!("site/{n}/+/{leaf}"))
        .collect();
    let filters: Vec<_> = filters.iter().map(String::as_str).collect();
    mqtt::subscribe(client, &filters, qos);
}

/// How many are made; tables that all share are among what they hold.
const MANY: usize = 1_000;

fn bytes_each(held: &Held) -> i64 {
    let rig = Rig::new();
    let mut clients = Vec::with_capacity(MANY + 1);
    // The first one makes what a worker keeps.
    clients.extend((held.make)(&rig, MANY));
    let info = allocation_counter::measure(|| {
        clients.extend((0..MANY).filter_map(|n| (held.make)(&rig, n)));
    });
    info.bytes_current / MANY as i64
}

/// Memory of idle clients.
#[test]
fn idle_clients_keep_their_budgets() {
    let mut broken = Vec::new();
    for held in HELD {
        let counted = on_own_thread(|| bytes_each(held));
        if counted > held.bytes_max {
            let (name, allowed) = (held.name, held.bytes_max);
            broken.push(format!(
                "{name}: counted {counted} bytes, allowed {allowed}"
            ));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Coming and going allocates no more than this, and leaves nothing behind.
#[test]
fn churn_keeps_its_budget() {
    let rig = Rig::new();
    let cycle = || {
        let mut client = mqtt::connect(&rig, "commuter", 60, true);
        mqtt::subscribe(&mut client, &["cities/+"], QoS::AtMostOnce);
        mqtt::disconnect(client);
    };
    let cycles = || (0..MANY).for_each(|_| cycle());
    // Tables that all share have found their size before any cycle is counted; one that grows late
    // is no byte of each.
    cycles();
    let info = allocation_counter::measure(cycles);
    let (counted, allowed) = (info.count_total / MANY as u64, CHURN_ALLOCATIONS_MAX);
    assert!(
        counted <= allowed,
        "churn: counted {counted}, allowed {allowed}"
    );
    let left = info.bytes_current / MANY as i64;
    assert_eq!(left, 0, "churn: bytes left behind by each cycle");
}

/// FEATURES O2: whatever the arguments of consumers are, what is kept of them for listings is no
/// more than they were on the wire, and of all consumers of a connection 1 MiB.
#[test]
fn o2_arguments_of_consumers_keep_their_budget() {
    let rig = Rig::new();
    let mut client = amqp::connect(&rig, 60, false);
    amqp::consume(&mut client, true);
    let info = allocation_counter::measure(|| {
        for number in 0..MANY {
            amqp::consume_with_holes(&mut client, &number.to_string(), 4_000);
        }
    });
    // A consumer without arguments takes a few hundred bytes.
    let allowed = 1024 * 1024 + 1_000 * MANY as i64;
    let counted = info.bytes_current;
    assert!(counted < allowed, "counted {counted}, allowed {allowed}");
}
