//! What one published message costs.

use std::num::NonZeroU16;

use leveret_mqtt::packet::QoS;

use crate::bench::{Bench, publish};

/// Messages of one read batch.
const BATCH: usize = 16;

fn batch(qos: QoS) -> Vec<u8> {
    let id = |n: usize| (qos != QoS::AtMostOnce).then(|| NonZeroU16::MIN.saturating_add(n as u16));
    (0..BATCH)
        .flat_map(|n| publish("cities/london", qos, id(n)))
        .collect()
}

/// FEATURES M5: a QoS 0 message to a connected subscriber is encoded from the read buffer into the
/// subscriber's out-buffer. A batch allocates that out-buffer, and nothing for each message.
#[test]
fn m5_qos0_batch_allocates_per_batch_not_per_message() {
    let mut bench = Bench::new();
    let mut publisher = bench.connect("publisher");
    let mut subscriber = bench.connect("subscriber");
    bench.subscribe(&mut subscriber, "cities/+", QoS::AtMostOnce);
    let packets = batch(QoS::AtMostOnce);
    // The first batch resolves the route and fills the memo.
    bench.feed(&mut publisher, &packets);
    subscriber.drain();
    subscriber.received.clear();
    let info = allocation_counter::measure(|| {
        bench.feed(&mut publisher, &packets);
        subscriber.drain();
    });
    assert_eq!(
        subscriber.received, packets,
        "the bytes are the publisher's own"
    );
    // The out-buffer grows by doubling from nothing: five steps at most for this batch.
    assert!(
        info.count_total <= 6,
        "{} allocations for {BATCH} messages",
        info.count_total
    );
}

/// DESIGN "Path of one PUBLISH": each connection that got something is woken once for a batch.
#[test]
fn m5_a_batch_wakes_each_subscriber_once() {
    let mut bench = Bench::new();
    let mut publisher = bench.connect("publisher");
    let mut subscribers: Vec<_> = (0..10)
        .map(|n| bench.connect(&format!("subscriber-{n}")))
        .collect();
    for subscriber in &mut subscribers {
        bench.subscribe(subscriber, "cities/london", QoS::AtMostOnce);
    }
    let before = bench.turn.wakes_rung();
    bench.feed(&mut publisher, &batch(QoS::AtMostOnce));
    assert_eq!(bench.turn.wakes_rung() - before, 10);
}

/// FEATURES M8: a QoS 1 message costs the message itself, shared by all who hold it, and no more
/// than that each.
#[test]
fn m8_qos1_message_is_one_allocation() {
    let mut bench = Bench::new();
    let mut publisher = bench.connect("publisher");
    let mut subscriber = bench.connect("subscriber");
    bench.subscribe(&mut subscriber, "cities/+", QoS::AtLeastOnce);
    let packet = publish("cities/london", QoS::AtLeastOnce, Some(NonZeroU16::MIN));
    let ack = |id: u8| [0x40, 2, 0, id];
    for id in 1..=3 {
        bench.feed(&mut publisher, &packet);
        subscriber.drain();
        bench.feed(&mut subscriber, &ack(id));
    }
    let info = allocation_counter::measure(|| {
        bench.feed(&mut publisher, &packet);
        subscriber.drain();
        bench.feed(&mut subscriber, &ack(4));
    });
    // The message, the out-buffers of both sides with their growth, and the run of settled
    // deliveries.
    assert!(
        info.count_total <= 9,
        "{} allocations for one message",
        info.count_total
    );
}
