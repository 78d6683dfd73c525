//! FEATURES A4, D1: what of a queue's life is in the journal, and what comes of it after a restart.

use std::sync::{Arc, Barrier};

use super::rig::{Reader, Rig, long, text};
use super::tape::Tape;
use crate::definitions::Kind;
use crate::exchange::Memo;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::link::{BindQueue, DeclareExchange};
use crate::message::{AmqpOrigin, Head, MessageRef};
use crate::properties::BasicProperties;
use crate::queue::Settle;
use crate::quota::Limits;
use crate::turn::Turn;

/// FEATURES D1: a crash at any moment repeats a dead letter at most.
#[test]
fn d1_dead_letters_enter_before_they_leave() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let dead = rig.declare("dead", &[]).id();
    let to_dead = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    let queue = rig.declare("q", &to_dead).id();
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let expected = [("publish", queue), ("publish", dead), ("settle", queue)];
    assert_eq!(*tape.story.lock(), expected);
}

/// FEATURES M13: the node's secret is made once: what unknown users are told stays the same.
#[test]
fn m13_the_secret_of_a_node_survives_a_restart() {
    let tape = Arc::new(Tape::default());
    let first = Tape::rig(&tape).broker.login_secret(|| [7; 32]);
    let again = Tape::rig(&tape).broker.login_secret(|| [8; 32]);
    assert_eq!((first, again), ([7; 32], [7; 32]));
    let other = Arc::new(Tape::default());
    assert_eq!(Tape::rig(&other).broker.login_secret(|| [8; 32]), [8; 32]);
}

/// FEATURES A4: arguments that a client may send can be kept: a record has them one level deeper.
#[test]
fn a4_arguments_of_all_levels_are_found_again() {
    let mut value = long(1);
    for _ in 1..crate::field::NESTING_MAX {
        value = Value::Array(vec![value]);
    }
    let tape = Arc::new(Tape::default());
    for arguments in [&[("deep", value)][..], &[]] {
        let mut rig = Tape::rig(&tape);
        if !arguments.is_empty() {
            rig.declare("q", arguments);
        }
        let vhost = rig.broker.vhost("/").expect("the default");
        let found = vhost.queue("q").expect("it is there").view().arguments;
        assert!(
            matches!(found.lookup("deep"), Some(Value::Array(_))),
            "{found:?}"
        );
    }
}

/// FEATURES A4: priorities are found again.
#[test]
fn a4_priorities_survive_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &[("x-max-priority", long(9))]);
        for priority in [1, 3, 3, 2, 1] {
            rig.publish_with("", "q", &[b'0' + priority], |properties| {
                properties.priority = Some(priority);
            });
        }
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert_eq!((queue.view().ready, queue.view().ready_bytes), (5, 5));
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: String = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, "33211");
    assert!(seen.iter().all(|got| got.redelivered));
}

/// FEATURES A4: nobody need touch a queue for its messages to expire.
#[test]
fn a4_messages_expire_after_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &[("x-message-ttl", long(500))]);
        rig.publish("", "q", b"m");
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    rig.pass(499);
    assert_eq!(queue.view().ready, 1);
    rig.pass(1);
    assert_eq!(queue.view().ready, 0);
    assert!(tape.kept(queue.id()).is_empty());
}

/// FEATURES A4: the journal keeps messages, not how often they have failed.
#[test]
fn a4_failures_are_counted_anew_after_a_restart() {
    let tape = Arc::new(Tape::default());
    let arguments = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", long(1)),
    ];
    let last = |reader: &Reader| {
        let got = reader.got().pop();
        got.map(|got| (got.failures, got.redelivered))
    };
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &arguments);
        rig.publish("", "q", b"m");
        let reader = rig.consume("q", |_| {});
        rig.settle(&reader, Settle::Failed);
        assert_eq!(last(&reader), Some((1, true)));
    }
    // Once more would have been too often.
    let mut rig = Tape::rig(&tape);
    let reader = rig.consume("q", |_| {});
    for failures in 0..2 {
        assert_eq!(last(&reader), Some((failures, true)));
        rig.settle(&reader, Settle::Failed);
    }
    assert_eq!(last(&reader), None, "it was given up");
}

/// FEATURES A4, D1: what another version took is no reason to lose a queue and what is in it.
#[test]
fn d1_a_queue_with_arguments_that_are_refused_now_is_kept() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare(
            "q",
            &[("x-unknown", text("all")), ("x-max-length", long(5))],
        );
        rig.publish("", "q", b"m");
    }
    // As a version that did not know it would have written it.
    tape.rename_argument(b"x-unknown", b"x-max-age");
    let mut rig = Tape::rig(&tape);
    let got = rig.get("q").expect("queue and message are there");
    assert_eq!(got.body, "m");
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert_eq!(
        queue.properties().arguments.lookup("x-max-age"),
        Some(&text("all"))
    );
}

/// FEATURES A3: the exchange survives a restart, what it has kept does not.
#[test]
fn a3_recent_history_is_gone_after_a_restart() {
    let tape = Arc::new(Tape::default());
    let history = |rig: &mut Rig, key: &[u8]| {
        rig.declare("q", &[]);
        let wish = BindQueue {
            queue: "q",
            exchange: "rh",
            key,
            form: Form::Dotted,
            arguments: Table::new(),
        };
        let made = rig.link.queue_bind(&wish).expect("both are there");
        made.history.len()
    };
    {
        let mut rig = Tape::rig(&tape);
        let wish = DeclareExchange {
            name: "rh",
            kind: "x-recent-history",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        rig.link.exchange_declare(&wish).expect("declared");
        rig.publish("rh", "k", b"m");
        assert_eq!(history(&mut rig, b"1"), 1);
    }
    let mut rig = Tape::rig(&tape);
    assert_eq!(history(&mut rig, b"2"), 0);
    rig.publish("rh", "k", b"m");
    assert_eq!(history(&mut rig, b"3"), 1);
}

fn expiring(ms: &'static [u8]) -> impl Fn(&mut BasicProperties<'_>) {
    move |properties| properties.expiration = Some(ms)
}

/// FEATURES A4: the same of messages that have a time of their own, in a queue that has none.
#[test]
fn a4_a_messages_own_time_ends_after_a_restart() {
    let tape = Arc::new(Tape::default());
    let to_dead = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &to_dead);
        rig.declare("dead", &[]);
        rig.publish_with("", "q", b"m", expiring(b"500"));
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    rig.pass(499);
    assert_eq!(queue.view().ready, 1);
    rig.pass(1);
    assert_eq!(queue.view().ready, 0);
    assert_eq!(rig.get("dead").expect("it is there").body, "m");
}

/// FEATURES A4: the same of messages that are on disk because they are many.
#[test]
fn a4_a_messages_own_time_ends_on_disk() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = rig.declare("q", &[]);
    for _ in 0..1_500 {
        rig.publish_with("", "q", b"m", expiring(b"500"));
    }
    rig.publish("", "q", b"for ever");
    assert!(queue.page_out() > 0);
    rig.pass(500);
    assert_eq!(queue.view().ready, 1);
    assert_eq!(rig.get("q").expect("it stays").body, "for ever");
}

/// FEATURES A4: what no message asks for, the disk is not asked for.
#[test]
fn a4_what_does_not_expire_is_not_read() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = rig.declare("q", &[("x-max-length", long(1_000))]);
    for _ in 0..1_000 {
        rig.publish("", "q", b"m");
    }
    while queue.page_out() > 0 {}
    for _ in 0..1_000 {
        rig.publish("", "q", b"n");
    }
    rig.pass(10_000);
    let mut rig = Tape::rig(&tape);
    rig.pass(10_000);
    rig.publish("", "q", b"o");
    assert!(tape.reads.lock().is_empty());
}

/// FEATURES A4: a quorum queue keeps every message, whatever its delivery mode says.
#[test]
fn a4_quorum_queues_keep_transient_messages() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        tape.slow_down();
        for (name, kind) in [("q", "quorum"), ("c", "classic")] {
            rig.declare(name, &[("x-queue-type", text(kind))]);
            let published = rig.publish_with("", name, b"m", |properties| {
                properties.delivery_mode = Some(1);
            });
            assert_eq!(published.journaled > 0, name == "q");
        }
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert!(rig.get("c").is_none());
    assert_eq!(rig.get("q").expect("it was confirmed").body, "m");
    assert!(tape.kept(queue.id()).is_empty());
}

/// FEATURES A3, D1: a delayed message goes on under all its keys, also those that nobody sees.
#[test]
fn a3_more_keys_of_a_delayed_message_survive_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        let mut arguments = Table::new();
        let inserted = arguments.insert("x-delayed-type", text("direct"));
        inserted.expect("a short name");
        let wish = DeclareExchange {
            name: "later",
            kind: "x-delayed-message",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments,
        };
        rig.link.exchange_declare(&wish).expect("declared");
        for name in ["one", "two"] {
            rig.declare(name, &[]);
            let bound = rig.link.queue_bind(&BindQueue {
                queue: name,
                exchange: "later",
                key: name.as_bytes(),
                form: Form::Dotted,
                arguments: Table::new(),
            });
            bound.expect("bound");
        }
        let mut headers = Table::new();
        headers.insert("x-delay", long(500)).expect("a short name");
        let mut encoded = Vec::new();
        headers.encode(&mut encoded).expect("a small table");
        let properties = BasicProperties {
            headers: Some(crate::field::RawTable::parse(&encoded).expect("just encoded")),
            ..BasicProperties::default()
        };
        let mut raw = Vec::new();
        properties.encode(&mut raw).expect("short properties");
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                persistent: true,
                retain: false,
                exactly_once: false,
                publisher: 1,
                received: rig.turn.now,
                expires: None,
            },
            exchange: "later",
            key: b"one",
            properties: &raw,
            payload: b"m",
        };
        let mut memo = Memo::default();
        let routed = rig
            .link
            .route_keys(&mut rig.turn, &mut memo, &message, &[b"two", b"\xff"]);
        let routed = routed.expect("may be published");
        rig.link.publish_to(&mut rig.turn, &message, &routed);
    }
    let mut rig = Tape::rig(&tape);
    assert!(rig.get("two").is_none());
    rig.pass(500);
    let bodies = ["one", "two"].map(|name| rig.get(name).map(|got| got.body));
    assert_eq!(bodies, [Some("m".to_owned()), Some("m".to_owned())]);
}

/// FEATURES O2: whatever is said about a vhost while it is deleted, a restart does not bring it
/// back; and one that was made anew stays.
#[test]
fn o2_deleted_vhosts_stay_deleted() {
    let tape = Arc::new(Tape::default());
    let broker = Tape::rig(&tape).broker;
    for round in 0..500 {
        broker.add_vhost("v").expect("made");
        let start = Barrier::new(4);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                start.wait();
                let mut turn = Turn::new();
                broker.delete_vhost(&mut turn, "v").expect("it is there");
            });
            threads.spawn(|| {
                start.wait();
                let _ = broker.update_vhost("v", |metadata| metadata.description = "new".into());
            });
            threads.spawn(|| {
                start.wait();
                let _ = broker.set_vhost_limits("v", Limits::default());
            });
            threads.spawn(|| {
                start.wait();
                let _ = broker.set_permissions("guest", "v", ["", "", ""]);
            });
        });
        let left = [Kind::VHost, Kind::Permission].map(|kind| tape.recorded(kind));
        assert_eq!(left, [1, 1], "round {round}: those of the default vhost");
    }
    for round in 0..500 {
        broker.add_vhost("v").expect("made");
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut turn = Turn::new();
                broker.delete_vhost(&mut turn, "v").expect("it is there");
            });
            threads.spawn(|| while broker.add_vhost("v").is_err() {});
        });
        assert_eq!(tape.recorded(Kind::VHost), 2, "round {round}");
        broker
            .delete_vhost(&mut Turn::new(), "v")
            .expect("it is there");
    }
}
