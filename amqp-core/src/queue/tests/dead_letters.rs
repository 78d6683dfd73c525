//! FEATURES A4: where dead letters go, and what they tell.

use super::rig::{Rig, long, text};
use crate::field::Value;
use crate::queue::Settle;
use crate::sink::Loss;

const TO_DEAD: [(&str, &str); 2] = [
    ("x-dead-letter-exchange", ""),
    ("x-dead-letter-routing-key", "dead"),
];

fn to_dead(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let to = TO_DEAD.map(|(name, value)| (name, text(value)));
    to.into_iter().chain(more.iter().cloned()).collect()
}

#[test]
fn a4_rejected_messages_are_dead_lettered() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    let queue = rig.declare("q", &to_dead(&[]));
    rig.publish_with("amq.direct", "nobody", b"lost", |_| {});
    rig.publish("", "q", b"bad");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let got = rig.get("dead").expect("it is there");
    assert_eq!((&*got.body, &*got.key, &*got.exchange), ("bad", "dead", ""));
    assert_eq!(got.deaths(), [("q".into(), "rejected".into(), 1)]);
    let fact = |name: &str| got.headers.lookup(name).and_then(Value::as_str);
    assert_eq!(fact("x-first-death-queue"), Some("q"));
    assert_eq!(fact("x-last-death-reason"), Some("rejected"));
    assert_eq!(fact("x-first-death-exchange"), Some(""));
    assert_eq!(queue.losses().total(), 0);
}

#[test]
fn a4_expired_messages_lose_their_time_to_live() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    rig.declare("q", &to_dead(&[]));
    rig.publish_with("", "q", b"old", |properties| {
        properties.expiration = Some(b"30");
    });
    rig.pass(30);
    let got = rig.get("dead").expect("it is there");
    assert_eq!(got.deaths(), [("q".into(), "expired".into(), 1)]);
    assert_eq!(got.expiration, None);
    let Some(Value::Array(deaths)) = got.headers.lookup("x-death") else {
        panic!("no x-death");
    };
    let Value::Table(death) = &deaths[0] else {
        panic!("no table");
    };
    let names: Vec<_> = death.iter().map(|(name, _)| name).collect();
    let expected: [&[u8]; 7] = [
        b"count",
        b"reason",
        b"queue",
        b"time",
        b"exchange",
        b"routing-keys",
        b"original-expiration",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        death.lookup("routing-keys"),
        Some(&Value::Array(vec![text("q")]))
    );
    assert_eq!(death.lookup("original-expiration"), Some(&text("30")));
}

#[test]
fn a4_what_a_full_queue_drops_is_dead_lettered() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    let queue = rig.declare("q", &to_dead(&[("x-max-length", long(1))]));
    for body in [b"1", b"2", b"3"] {
        rig.publish("", "q", body);
    }
    assert_eq!(queue.view().ready, 1);
    let first = rig.get("dead").expect("it is there");
    assert_eq!((&*first.body, &*first.deaths()[0].1), ("1", "maxlen"));
    assert_eq!(rig.get("dead").expect("it is there").body, "2");
    assert_eq!(rig.get("q").expect("it stays").body, "3");
}

/// The same queue and reason count up and come to the front; the first death stays the first.
#[test]
fn a4_deaths_are_counted() {
    let mut rig = Rig::new();
    rig.declare(
        "work",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("wait")),
        ],
    );
    rig.declare(
        "wait",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("work")),
            ("x-message-ttl", long(10)),
        ],
    );
    rig.publish("", "work", b"again");
    let reader = rig.consume("work", |_| {});
    for _ in 0..3 {
        rig.settle(&reader, Settle::Reject);
        rig.pass(10);
    }
    let got = reader.got().pop().expect("it came back");
    let expected = [
        ("wait".into(), "expired".into(), 3),
        ("work".into(), "rejected".into(), 3),
    ];
    assert_eq!(got.deaths(), expected);
    let first = got.headers.lookup("x-first-death-queue");
    assert_eq!(first, Some(&text("work")));
}

/// A ring without a consumer's rejection in it ends.
#[test]
fn a4_automatic_rings_are_cut() {
    let mut rig = Rig::new();
    let round = |next: &str| {
        vec![
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(next)),
            ("x-max-length", long(0)),
        ]
    };
    let one = rig.declare("one", &round("two"));
    let two = rig.declare("two", &round("one"));
    rig.publish("", "one", b"round and round");
    assert_eq!((one.view().ready, two.view().ready), (0, 0));
    assert_eq!(
        two.losses().of(Loss::DeadLetter),
        1,
        "dropped where it would go round again"
    );
    let own = rig.declare(
        "own",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-message-ttl", long(5)),
        ],
    );
    rig.publish("", "own", b"to itself");
    rig.pass(5);
    assert_eq!(own.view().ready, 0);
}

/// A message without another key keeps its own, and those of its `CC`.
#[test]
fn a4_dead_letters_keep_their_keys() {
    let mut rig = Rig::new();
    rig.declare("copy", &[]);
    rig.declare("q", &[("x-dead-letter-exchange", text("amq.fanout"))]);
    let wish = crate::link::BindQueue {
        queue: "copy",
        exchange: "amq.fanout",
        key: b"",
        form: crate::key::Form::Dotted,
        arguments: crate::field::Table::new(),
    };
    rig.link.queue_bind(&wish).expect("may be bound");
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let got = rig.get("copy").expect("it is there");
    assert_eq!((&*got.exchange, &*got.key), ("amq.fanout", "q"));
}

/// Without the exchange it is gone, and counted.
#[test]
fn a4_dead_letters_without_an_exchange_are_counted() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-dead-letter-exchange", text("later"))]);
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    assert_eq!(queue.losses().of(Loss::DeadLetter), 1);
}

/// However long a chain of queues is, the story that a message carries is not.
#[test]
fn a4_deaths_are_bounded() {
    let mut rig = Rig::new();
    let length = crate::limits::DEATHS_MAX + 2;
    for number in 0..length {
        let next = format!("q{}", number + 1);
        rig.declare(
            &format!("q{number}"),
            &[
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&next)),
                ("x-max-length", long(0)),
            ],
        );
    }
    let last = rig.declare(&format!("q{length}"), &[]);
    rig.publish("", "q0", b"far");
    assert_eq!(last.view().ready, 0);
}

/// However many messages expire at once, few are in memory on their way.
#[test]
fn a4_dead_letters_go_some_at_a_time() {
    let mut rig = Rig::new();
    let dead = rig.declare("dead", &[]);
    let queue = rig.declare("q", &to_dead(&[("x-message-ttl", long(10))]));
    let count = 2 * crate::limits::LETTERS_MAX as u64 + 10;
    for _ in 0..count {
        rig.publish("", "q", b"m");
    }
    rig.pass(10);
    let few = crate::limits::LETTERS_MAX as u64;
    assert_eq!((dead.view().ready, queue.view().ready), (few, count - few));
    rig.pass(5);
    assert_eq!((dead.view().ready, queue.view().ready), (count, 0));
}

/// However many have expired before it, basic.get finds the first that has not.
#[test]
fn a4_a_fetch_finds_what_has_not_expired() {
    let mut rig = Rig::new();
    let dead = rig.declare("dead", &[]);
    rig.declare("q", &to_dead(&[]));
    let count = 2 * crate::limits::LETTERS_MAX as u64 + 10;
    for _ in 0..count {
        rig.publish_with("", "q", b"m", |properties| {
            properties.expiration = Some(b"10");
        });
    }
    rig.publish("", "q", b"for ever");
    // Nobody has looked at the time yet.
    rig.turn.now = rig.turn.now.after_ms(10);
    assert_eq!(rig.get("q").expect("it is there").body, "for ever");
    rig.pass(5);
    assert_eq!(dead.view().ready, count);
}

/// RabbitMQ asks for both when the queue is declared.
#[test]
fn a7_dead_letters_need_permission() {
    let mut rig = Rig::new();
    let grants = [".*", "^(?!never)", ".*"];
    assert!(
        rig.broker.set_permissions("guest", "/", grants).is_err(),
        "no look-around"
    );
    for (grants, expected) in [
        (
            [".*", "^q", ".*"],
            "write access to exchange 'other' in vhost '/' refused for user 'guest'",
        ),
        (
            [".*", "^other", "^p"],
            "read access to queue 'q' in vhost '/' refused for user 'guest'",
        ),
    ] {
        rig.broker
            .set_permissions("guest", "/", grants)
            .expect("may be set");
        let refused = rig.try_declare("q", &[("x-dead-letter-exchange", text("other"))]);
        assert_eq!(&*refused.expect_err("it may not").text, expected);
    }
    let grants = ["^q", "^other", "^q"];
    rig.broker
        .set_permissions("guest", "/", grants)
        .expect("may be set");
    rig.declare("q", &[("x-dead-letter-exchange", text("other"))]);
}
