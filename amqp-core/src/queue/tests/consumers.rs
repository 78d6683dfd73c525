//! FEATURES A4, A5: whose turn it is.

use super::rig::{Rig, text};
use crate::field::Value;
use crate::queue::Settle;

/// FEATURES A5: higher priorities first while they have credit.
#[test]
fn a5_consumers_have_priorities() {
    let mut rig = Rig::new();
    rig.declare("q", &[]);
    let low = rig.consume_some("q", 10, |consumer| consumer.priority = -1);
    let plain = rig.consume_some("q", 1, |_| {});
    let high = rig.consume_some("q", 2, |consumer| consumer.priority = 10);
    let next = rig.consume_some("q", 1, |consumer| consumer.priority = 10);
    for number in 0..6 {
        rig.publish("", "q", number.to_string().as_bytes());
    }
    assert_eq!(high.bodies(), ["0", "2"], "in turn with its like");
    assert_eq!(next.bodies(), ["1"]);
    assert_eq!(plain.bodies(), ["3"]);
    assert_eq!(low.bodies(), ["4", "5"]);
    rig.cancel(&high);
    rig.cancel(&next);
    rig.cancel(&plain);
    rig.publish("", "q", b"6");
    assert_eq!(low.bodies().len(), 3);
}

/// FEATURES A4: one gets all, until it leaves; then the one that came next.
#[test]
fn a4_single_active_consumer() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-single-active-consumer", Value::Bool(true))]);
    let readers: Vec<_> = (0..3).map(|_| rig.consume("q", |_| {})).collect();
    for body in [b"1", b"2"] {
        rig.publish("", "q", body);
    }
    assert_eq!(readers[0].bodies(), ["1", "2"]);
    let active = |queue: &crate::queue::Queue| {
        let consumers = queue.consumers();
        consumers.iter().filter(|held| held.active).count()
    };
    assert_eq!(active(&queue), 1);
    rig.cancel(&readers[1]);
    rig.cancel(&readers[0]);
    rig.settle(&readers[0], Settle::Requeue);
    rig.publish("", "q", b"3");
    assert_eq!(readers[2].bodies(), ["1", "2", "3"]);
    assert!(readers[1].bodies().is_empty());
    rig.cancel(&readers[2]);
    assert_eq!(active(&queue), 0);
    let last = rig.consume("q", |_| {});
    rig.publish("", "q", b"4");
    assert_eq!(last.bodies(), ["4"]);
    assert!(
        rig.try_consume("q", 1, |consumer| consumer.exclusive = true)
            .is_err()
    );
}

/// FEATURES A5: however many priorities a client invents, each delivery looks at few.
#[test]
fn a5_priorities_of_consumers_are_bounded() {
    let mut rig = Rig::new();
    rig.declare("q", &[("x-queue-mode", text("lazy"))]);
    let most = crate::limits::CONSUMER_PRIORITIES_MAX as i32;
    for priority in 0..most {
        rig.consume_some("q", 0, |consumer| consumer.priority = priority);
    }
    assert!(
        rig.try_consume("q", 0, |consumer| consumer.priority = most)
            .is_err()
    );
    assert!(
        rig.try_consume("q", 0, |consumer| consumer.priority = 7)
            .is_ok()
    );
}

/// FEATURES A4: however many consumers a queue has, those with credit are served alike.
#[test]
fn a4_a_thousand_consumers_are_served_alike() {
    let mut rig = Rig::new();
    rig.declare("q", &[]);
    let readers: Vec<_> = (0..1_000).map(|_| rig.consume("q", |_| {})).collect();
    for _ in 0..10_000 {
        rig.publish("", "q", b"m");
    }
    assert!(readers.iter().all(|reader| reader.got().len() == 10));
}
