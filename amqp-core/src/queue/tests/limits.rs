//! FEATURES A4: lengths, and what becomes of messages that are too many or failed too often.

use super::rig::{Rig, long, text};
use crate::queue::Settle;
use crate::sink::Loss;

#[test]
fn a4_bytes_are_limited() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-max-length-bytes", long(10))]);
    for body in [&b"aaaa"[..], b"bbbb", b"cccc"] {
        rig.publish("", "q", body);
    }
    assert_eq!((queue.view().ready, queue.view().ready_bytes), (2, 8));
    rig.publish("", "q", b"much too long");
    assert_eq!(queue.view().ready, 0, "it does not fit alone either");
    assert_eq!(queue.losses().of(Loss::Length), 4);
}

#[test]
fn a4_full_queues_reject() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(2)),
        ("x-overflow", text("reject-publish")),
    ];
    let queue = rig.declare("q", &full);
    let rejected: Vec<bool> = (0..3)
        .map(|_| rig.publish("", "q", b"m").rejected)
        .collect();
    assert_eq!(rejected, [false, false, true]);
    assert_eq!(queue.view().ready, 2);
    rig.get("q");
    assert!(!rig.publish("", "q", b"m").rejected, "there is room again");
}

#[test]
fn a4_full_queues_reject_to_the_dead_letter_exchange() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    rig.declare(
        "q",
        &[
            ("x-max-length-bytes", long(4)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ],
    );
    assert!(!rig.publish("", "q", b"fits").rejected);
    assert!(rig.publish("", "q", b"not").rejected);
    let got = rig.get("dead").expect("it is there");
    assert_eq!((&*got.body, &*got.deaths()[0].1), ("not", "maxlen"));
}

fn quorum(limit: i64) -> Vec<(&'static str, crate::field::Value)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", long(limit)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ]
}

/// A message that fails each time is given up when that was too often.
#[test]
fn a4_quorum_queues_limit_failures() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    let queue = rig.declare("q", &quorum(2));
    rig.publish("", "q", b"poison");
    let reader = rig.consume("q", |_| {});
    for failures in 0..3 {
        let got = reader.got().pop().expect("it is delivered");
        assert_eq!((got.failures, got.redelivered), (failures, failures > 0));
        rig.settle(&reader, Settle::Failed);
    }
    assert!(reader.got().is_empty());
    let got = rig.get("dead").expect("it is there");
    assert_eq!(got.deaths(), [("q".into(), "delivery_limit".into(), 1)]);
    assert_eq!(queue.view().ready, 0);
}

/// Nothing is remembered of messages that are gone, whichever way they went.
#[test]
fn a4_failures_are_forgotten() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-queue-type", text("quorum"))]);
    let counted = || {
        let state = queue.state.lock();
        state.ready.as_ref().map_or(0, |ready| ready.failures.len())
    };
    let fail = |rig: &mut Rig, bodies: &[&[u8]]| {
        bodies.iter().for_each(|body| {
            rig.publish("", "q", body);
        });
        let reader = rig.consume("q", |_| {});
        rig.cancel(&reader);
        rig.settle(&reader, Settle::Failed);
    };
    fail(&mut rig, &[b"1", b"2"]);
    let out = rig.consume_some("q", 1, |_| {});
    assert_eq!(counted(), 2);
    queue.purge();
    assert_eq!(counted(), 1, "one is out");
    rig.settle(&out, Settle::Ack);
    rig.cancel(&out);
    fail(&mut rig, &[b"3", b"4"]);
    assert!(rig.get("q").is_some());
    assert_eq!(counted(), 1, "it left through basic.get");
    rig.consume("q", |consumer| consumer.no_ack = true);
    assert_eq!(counted(), 0);
    let mut rig = Rig::new();
    let short = [("x-queue-type", text("quorum")), ("x-max-length", long(1))];
    let queue = rig.declare("q", &short);
    rig.publish("", "q", b"5");
    let reader = rig.consume("q", |_| {});
    rig.cancel(&reader);
    rig.settle(&reader, Settle::Failed);
    rig.publish("", "q", b"6");
    let state = queue.state.lock();
    assert!(state.ready.as_ref().expect("one waits").failures.is_empty());
}

/// What was not tried does not count (RabbitMQ 4.3: basic.nack).
#[test]
fn a4_quorum_queues_do_not_count_requeues() {
    let mut rig = Rig::new();
    rig.declare("q", &quorum(1));
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    for _ in 0..5 {
        rig.settle(&reader, Settle::Requeue);
    }
    assert_eq!(reader.got().len(), 1);
    assert_eq!(reader.got()[0].failures, 0);
}

/// A dead letter that nobody takes is tried again: none is lost.
#[test]
fn a4_dead_letters_wait_for_room() {
    let mut rig = Rig::new();
    let mut arguments = quorum(1);
    arguments.push(("x-dead-letter-strategy", text("at-least-once")));
    arguments.push(("x-overflow", text("reject-publish")));
    let queue = rig.declare("q", &arguments);
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    assert_eq!(queue.losses().total(), 0);
    rig.declare("dead", &[]);
    rig.pass(crate::limits::UNDELIVERED_AGAIN_MS);
    let got = rig.get("dead").expect("it came");
    assert_eq!(got.deaths(), [("q".into(), "rejected".into(), 1)]);
}

/// RabbitMQ: a quorum queue is durable and nobody's own.
#[test]
fn a4_quorum_queues_are_durable() {
    let rig = Rig::new();
    let mut arguments = crate::field::Table::new();
    arguments
        .insert("x-queue-type", text("quorum"))
        .expect("short");
    let properties = crate::queue::QueueProperties {
        arguments,
        ..crate::queue::QueueProperties::default()
    };
    let wish = crate::link::DeclareQueue {
        name: "q",
        properties,
        ..crate::link::DeclareQueue::default()
    };
    let refused = rig.link.queue_declare(&mut crate::turn::Turn::new(), &wish);
    let expected = "invalid property 'non-durable' for queue 'q' in vhost '/'";
    assert_eq!(&*refused.expect_err("it is transient").text, expected);
}
