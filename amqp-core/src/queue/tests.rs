//! FEATURES A4: what queues do with messages, as a client sees it. Time is the tests' own.

mod consumers;
mod dead_letters;
mod letters;
mod limits;
mod policies;
mod quorum;
mod restart;
mod rig;
mod session;
mod streams;
mod tape;
mod undelivered;

use rig::{Rig, long, text};

/// FEATURES A4: a queue's and a message's time to live; the shorter one counts.
#[test]
fn a4_messages_expire_at_the_head() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-message-ttl", long(100))]);
    rig.publish("", "q", b"one");
    rig.publish_with("", "q", b"two", |properties| {
        properties.expiration = Some(b"20");
    });
    rig.pass(50);
    assert_eq!(
        queue.view().ready,
        2,
        "the second one stands behind the first"
    );
    rig.pass(50);
    assert_eq!(queue.view().ready, 0);
    assert_eq!(queue.losses().total(), 2);
}

/// FEATURES A4: what must not wait is gone unless somebody takes it at once.
#[test]
fn a4_a_ttl_of_zero_needs_a_waiting_consumer() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-message-ttl", long(0))]);
    rig.publish("", "q", b"nobody");
    assert_eq!(queue.view().ready, 0);
    let reader = rig.consume("q", |_| {});
    rig.publish("", "q", b"somebody");
    assert_eq!(reader.bodies(), ["somebody"]);
}

/// FEATURES A4: the head's time counts, whoever was there before it.
#[test]
fn a4_a_new_head_is_watched() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[]);
    let expiring = |ms: &'static [u8]| {
        move |properties: &mut crate::properties::BasicProperties<'_>| {
            properties.expiration = Some(ms);
        }
    };
    rig.publish_with("", "q", b"long", expiring(b"10000"));
    rig.publish_with("", "q", b"short", expiring(b"50"));
    assert_eq!(rig.get("q").expect("it waits").body, "long");
    rig.pass(50);
    assert_eq!(queue.view().ready, 0);
}

/// FEATURES A4: a queue that nobody reads has its messages looked at for years to come, and its own
/// end: few timers do for that.
#[test]
fn a4_timers_are_few() {
    let mut rig = Rig::new();
    let expires = [("x-expires", long(1_000 * 60 * 60 * 48))];
    let queue = rig.declare("q", &expires);
    rig.declare("p", &[]);
    for _ in 0..10_000 {
        rig.publish_with("", "q", b"m", |properties| {
            properties.expiration = Some(b"5000");
        });
        rig.publish_with("", "p", b"in ten years", |properties| {
            properties.expiration = Some(b"315360000000");
        });
        rig.get("p");
        rig.publish_with("", "p", b"now", |properties| {
            properties.expiration = Some(b"1");
        });
        rig.pass(10_000);
    }
    assert_eq!(queue.losses().total(), 10_000);
    assert!(rig.broker.timers.looks() < 2_000);
    assert!(rig.link.vhost().queue("q").is_some());
    rig.pass(1_000 * 60 * 60 * 48);
    assert!(rig.link.vhost().queue("q").is_none(), "it has expired");
}

/// FEATURES A4: higher priorities first, in order within one; above the maximum is the maximum.
#[test]
fn a4_priorities_come_first() {
    let mut rig = Rig::new();
    rig.declare("q", &[("x-max-priority", long(5))]);
    let order = [
        (None, "none"),
        (Some(1), "one"),
        (Some(9), "nine"),
        (Some(5), "five"),
    ];
    for (priority, body) in order.into_iter().chain([(Some(1), "one again")]) {
        rig.publish_with("", "q", body.as_bytes(), |properties| {
            properties.priority = priority;
        });
    }
    let mut seen = Vec::new();
    while let Some(got) = rig.get("q") {
        seen.push(got.body);
    }
    assert_eq!(seen, ["nine", "five", "one", "one again", "none"]);
}

/// FEATURES A4: what comes back goes to its place among its like.
#[test]
fn a4_requeued_messages_keep_their_priority() {
    let mut rig = Rig::new();
    rig.declare("q", &[("x-max-priority", long(5))]);
    for (priority, body) in [(1, "a"), (2, "b"), (1, "c")] {
        rig.publish_with("", "q", body.as_bytes(), |properties| {
            properties.priority = Some(priority);
        });
    }
    let reader = rig.consume("q", |_| {});
    assert_eq!(reader.bodies(), ["b", "a", "c"]);
    rig.cancel(&reader);
    rig.settle(&reader, super::Settle::Requeue);
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: Vec<_> = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, ["b", "a", "c"]);
    assert!(seen.iter().all(|got| got.redelivered));
}

/// FEATURES A4: equal arguments are the same declaration, others are refused in RabbitMQ's words.
#[test]
fn a4_declarations_are_compared() {
    let mut rig = Rig::new();
    rig.declare(
        "q",
        &[("x-max-length", long(5)), ("x-overflow", text("drop-head"))],
    );
    rig.declare(
        "q",
        &[("x-overflow", text("drop-head")), ("x-max-length", long(5))],
    );
    let refused = rig.try_declare(
        "q",
        &[("x-max-length", long(6)), ("x-overflow", text("drop-head"))],
    );
    let expected = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but \
                    current is '5'";
    assert_eq!(&*refused.expect_err("another length").text, expected);
    let refused = rig.try_declare("q", &[("x-queue-type", text("quorum"))]);
    assert!(refused.is_err());
}
