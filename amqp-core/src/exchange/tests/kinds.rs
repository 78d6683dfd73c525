//! The kinds that RabbitMQ has as plugins, as their users meet them.

use std::sync::Arc;

use super::{
    Publisher, bind, declare, declare_with, link, message, properties_of, table, unbind, wish,
};
use crate::exchange::kind::ALTERNATE;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::limits::{HASHED_BINDINGS_MAX, HISTORY_BYTES_MAX};
use crate::link::{BindQueue, DeclareQueue, Link};
use crate::message::MessageRef;
use crate::properties::BasicProperties;
use crate::queue::Queue;

fn lost(queues: &[Arc<Queue>]) -> Vec<u64> {
    queues.iter().map(|queue| queue.losses().total()).collect()
}

/// Which queue a message with these properties goes to.
fn target(
    publisher: &mut Publisher,
    link: &Link,
    queues: &[Arc<Queue>],
    (exchange, key): (&str, &str),
    properties: &[u8],
) -> usize {
    let before = lost(queues);
    let routed = publisher.publish(link, exchange, (key, Form::Dotted), properties);
    assert_eq!(routed, Ok(1), "{exchange} {key}");
    let after = lost(queues);
    before
        .iter()
        .zip(after)
        .position(|(before, after)| after > *before)
        .expect("one has it")
}

fn targets(link: &Link, queues: &[Arc<Queue>], exchange: &str) -> Vec<usize> {
    let mut publisher = Publisher::default();
    (0..2_000)
        .map(|key| {
            let key = format!("device.{key}");
            target(&mut publisher, link, queues, (exchange, &key), &[0, 0])
        })
        .collect()
}

fn queues(link: &Link, count: usize) -> Vec<Arc<Queue>> {
    (0..count)
        .map(|number| declare(link, &format!("q{number}")))
        .collect()
}

#[test]
fn a3_consistent_hash_spreads_by_weight_and_moves_little() {
    let link = link();
    declare_with(&link, "ch", "x-consistent-hash", table(&[])).expect("declared");
    let queues = queues(&link, 4);
    for (queue, weight) in [("q0", "1"), ("q1", "2"), ("q2", "3")] {
        assert!(bind(&link, queue, "ch", weight, Form::Dotted));
    }
    let before = targets(&link, &queues, "ch");
    assert_eq!(before, targets(&link, &queues, "ch"), "the same key");
    for (queue, share) in [(0, 2_000 / 6), (1, 4_000 / 6), (2, 6_000 / 6)] {
        let got = before.iter().filter(|target| **target == queue).count();
        assert!(got.abs_diff(share) < share / 4, "queue {queue} has {got}");
    }
    // What moves, moves to the new one.
    assert!(bind(&link, "q3", "ch", "2", Form::Dotted));
    let after = targets(&link, &queues, "ch");
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(_, after)| *after == 3));
    assert!((400..600).contains(&moved.count()), "a quarter");
    // And back again.
    unbind(&link, "q3", "ch", "2", Form::Dotted);
    assert_eq!(before, targets(&link, &queues, "ch"));
    // What one leaves goes to the others, whatever its place.
    unbind(&link, "q0", "ch", "1", Form::Dotted);
    let without = targets(&link, &queues, "ch");
    let kept = before
        .iter()
        .zip(&without)
        .filter(|(before, _)| **before != 0);
    assert!(kept.clone().all(|(before, after)| before == after));
}

#[test]
fn a3_consistent_hash_takes_a_header_or_a_property() {
    let link = link();
    let queues = queues(&link, 8);
    let on = |name: &str, on: &str, what: &str| {
        let arguments = table(&[(on, Value::from(what))]);
        declare_with(&link, name, "x-consistent-hash", arguments).expect("declared");
        for number in 0..8 {
            let queue = format!("q{number}");
            assert!(bind(&link, &queue, name, "10", Form::Dotted));
        }
    };
    on("by-header", "hash-header", "id");
    on("by-message", "hash-property", "message_id");
    on("by-correlation", "hash-property", "correlation_id");
    on("by-time", "hash-property", "timestamp");
    let mut publisher = Publisher::default();
    for (exchange, make) in [
        (
            "by-header",
            (|n: u64| properties_of(&[("id", Value::I64(n as i64))])) as fn(u64) -> _,
        ),
        ("by-message", |n| {
            let text = n.to_string();
            encoded(&BasicProperties {
                message_id: Some(text.as_bytes()),
                ..BasicProperties::default()
            })
        }),
        ("by-correlation", |n| {
            let text = n.to_string();
            encoded(&BasicProperties {
                correlation_id: Some(text.as_bytes()),
                ..BasicProperties::default()
            })
        }),
        ("by-time", |n| {
            encoded(&BasicProperties {
                timestamp: Some(n),
                ..BasicProperties::default()
            })
        }),
    ] {
        let mut hit = std::collections::BTreeSet::new();
        for number in 0..64 {
            let properties: Vec<u8> = make(number);
            let mut to = |key| target(&mut publisher, &link, &queues, (exchange, key), &properties);
            let (one, other) = (to("a"), to("b"));
            assert_eq!(one, other, "{exchange}: the key does not count");
            hit.insert(one);
        }
        assert_eq!(hit.len(), 8, "{exchange}: all have some");
        // Those without it all go one way.
        let mut to = |key| target(&mut publisher, &link, &queues, (exchange, key), &[0, 0]);
        assert_eq!(to("a"), to("b"));
    }
}

fn encoded(properties: &BasicProperties<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    properties.encode(&mut out).expect("small properties");
    out
}

#[test]
fn a3_modulus_hash_and_random_choose_one() {
    let link = link();
    let queues = queues(&link, 4);
    for kind in ["x-modulus-hash", "x-random", "x-local-random"] {
        declare_with(&link, kind, kind, table(&[])).expect("declared");
        let mut publisher = Publisher::default();
        assert_eq!(publisher.routed(&link, kind, "k", Form::Dotted), 0);
        for number in 0..4 {
            assert!(bind(&link, &format!("q{number}"), kind, "", Form::Dotted));
        }
        let seen = targets(&link, &queues, kind);
        for queue in 0..4 {
            let got = seen.iter().filter(|target| **target == queue).count();
            assert!((400..600).contains(&got), "{kind}: queue {queue} has {got}");
        }
        let same = seen == targets(&link, &queues, kind);
        assert_eq!(same, kind == "x-modulus-hash", "{kind}");
        for number in [1, 3, 0] {
            unbind(&link, &format!("q{number}"), kind, "", Form::Dotted);
        }
        assert!(
            targets(&link, &queues, kind)
                .iter()
                .all(|target| *target == 2)
        );
    }
}

#[test]
fn a3_recent_history_is_replayed_to_new_bindings() {
    let link = link();
    let arguments = table(&[("x-recent-history-length", Value::I32(3))]);
    declare_with(&link, "rh", "x-recent-history", arguments).expect("declared");
    declare_with(&link, "rh20", "x-recent-history", table(&[])).expect("declared");
    let mut publisher = Publisher::default();
    for number in 0..30 {
        let key = format!("k{number}");
        for exchange in ["rh", "rh20"] {
            assert_eq!(publisher.routed(&link, exchange, &key, Form::Dotted), 0);
        }
    }
    let private = properties_of(&[("x-recent-history-no-store", Value::Bool(true))]);
    let routed = publisher.publish(&link, "rh", ("private", Form::Dotted), &private);
    assert_eq!(routed, Ok(0));
    let queue = declare(&link, "q");
    let mut replay = |exchange: &str, key: &str| {
        let made = link.queue_bind(&wish("q", exchange, key, Form::Dotted));
        let made = made.expect("can be bound");
        link.replay(&mut publisher.turn, &made);
        let keys = made
            .history
            .iter()
            .map(|noted| noted.message.view().key.to_vec());
        let keys: Vec<_> = keys
            .map(|key| String::from_utf8(key).expect("text"))
            .collect();
        (keys, queue.losses().total())
    };
    let last = ["k27", "k28", "k29"].map(str::to_owned).to_vec();
    assert_eq!(replay("rh", ""), (last, 3));
    // The same binding again is none.
    assert_eq!(replay("rh", ""), (Vec::new(), 3));
    assert_eq!(replay("rh20", "").0.len(), 20);
    // Through another exchange: as the key leads there.
    declare_with(&link, "next", "direct", table(&[])).expect("declared");
    assert!(bind(&link, "q", "next", "k28", Form::Dotted));
    let before = queue.losses().total();
    let made = link
        .exchange_bind("next", "rh", b"", Table::new())
        .expect("bound");
    link.replay_through(&mut publisher.turn, &made);
    assert_eq!(queue.losses().total(), before + 1);
    assert_eq!(publisher.routed(&link, "rh", "k28", Form::Dotted), 1);
}

/// What is replayed is kept once, however many queues get it, and how often.
#[test]
fn a3_recent_history_is_shared() {
    let link = link();
    let mut publisher = Publisher::default();
    declare_with(&link, "rh", "x-recent-history", table(&[])).expect("declared");
    assert_eq!(publisher.routed(&link, "rh", "k", Form::Dotted), 0);
    let wish_queue = DeclareQueue {
        name: "q",
        ..DeclareQueue::default()
    };
    let declared = link.queue_declare(&mut publisher.turn, &wish_queue);
    declared.expect("declared");
    for key in ["one", "two"] {
        let made = link.queue_bind(&wish("q", "rh", key, Form::Dotted));
        link.replay(&mut publisher.turn, &made.expect("bound"));
    }
    let got = [(); 2].map(|()| {
        let got = link.get(&mut publisher.turn, "q", true).expect("allowed");
        got.expect("it was replayed").taken.message
    });
    let places = got.each_ref().map(|message| message.view().key.as_ptr());
    assert_eq!(places[0], places[1]);
}

/// Refuses declarations of exchanges with these arguments, each with its text.
fn refuses(kind: &str, rows: &[(&[(&str, Value)], &str)]) {
    let link = link();
    for (arguments, expected) in rows {
        let refused = declare_with(&link, "odd", kind, table(arguments)).expect_err(expected);
        let expected = format!("PRECONDITION_FAILED - {expected}");
        assert_eq!(refused.to_string(), expected);
    }
}

/// Every argument that cannot be, with the text of the plugin.
#[test]
fn a3_kinds_refuse_arguments() {
    let text = |value: &str| Value::from(value);
    refuses("x-nosuch", &[(&[], "unknown exchange type 'x-nosuch'")]);
    let exclusive = "hash-header and hash-property are mutually exclusive";
    let both = [
        ("hash-header", text("h")),
        ("hash-property", text("app_id")),
    ];
    let property = ("hash-property", text("app_id"));
    let header = "Invalid argument 5, 'hash-header' must be a string";
    refuses(
        "x-consistent-hash",
        &[
            (&both, exclusive),
            (
                std::slice::from_ref(&property),
                "Unsupported property: app_id",
            ),
            (&[("hash-header", Value::I32(5))], header),
        ],
    );
    let kind = |name: &str| ("x-delayed-type", text(name));
    let no_kind = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    let itself = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
    let hash = [kind("x-consistent-hash"), property.clone()];
    refuses(
        "x-delayed-message",
        &[
            (&[], no_kind),
            (&[kind("x-delayed-message")], itself),
            (&[kind("nosuch")], "unknown exchange type 'nosuch'"),
            (&hash, "Unsupported property: app_id"),
        ],
    );
    let positive = "'x-recent-history-length' must be a positive integer";
    for (value, printed) in [
        (Value::I32(0), "0"),
        (Value::I8(-1), "-1"),
        (Value::U32(5), "5"),
        (text("abc"), "<<\"abc\">>"),
        (Value::Bool(true), "true"),
    ] {
        let expected = format!("Invalid argument {printed}, {positive}");
        let arguments = [("x-recent-history-length", value)];
        refuses("x-recent-history", &[(&arguments, &expected)]);
    }
    let long = [("x-recent-history-length", Value::I64(100_001))];
    let expected = "Invalid argument 100001, 'x-recent-history-length' can be at most 100000";
    refuses("x-recent-history", &[(&long, expected)]);
}

/// Every binding that cannot be, with the text of RabbitMQ or the plugin.
#[test]
fn a3_kinds_refuse_bindings() {
    let link = link();
    declare(&link, "q");
    let delayed = table(&[("x-delayed-type", Value::from("topic"))]);
    declare_with(&link, "delayed", "x-delayed-message", delayed).expect("declared");
    for (name, kind) in [
        ("ch", "x-consistent-hash"),
        ("lr", "x-local-random"),
        ("h", "headers"),
    ] {
        declare_with(&link, name, kind, table(&[])).expect("declared");
    }
    let x_match = |value| table(&[("x-match", value)]);
    let none = Table::new;
    let number = "The binding key must be an integer: <<\"a\">>";
    let key = "Non empty binding 'k' key not permitted";
    let value = "Invalid x-match field value <<\"bogus\">>; expected all, any, all-with-x, or \
                 any-with-x";
    let kind = "Invalid x-match field type unsignedbyte (value 1); expected longstr";
    let wild = "Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 are allowed";
    for (exchange, key, arguments, expected) in [
        ("ch", "0", none(), "The binding key must be greater than 0"),
        ("ch", "a", none(), number),
        ("lr", "k", none(), key),
        ("h", "", x_match(Value::from("bogus")), value),
        ("h", "", x_match(Value::U8(1)), kind),
        ("delayed", "#.#.#", none(), wild),
    ] {
        let wish = BindQueue {
            arguments,
            ..wish("q", exchange, key, Form::Dotted)
        };
        let refused = link.queue_bind(&wish).expect_err(expected);
        let expected = format!("PRECONDITION_FAILED - {expected}");
        assert_eq!(refused.to_string(), expected);
    }
    let refused = link.exchange_bind("h", "lr", b"", Table::new());
    let text = refused.expect_err("no queue").text;
    assert_eq!(&*text, "Destination not found");
}

/// A hash or a throw that meets no binding is a message that matches nothing.
#[test]
fn a3_every_kind_has_an_alternate() {
    let link = link();
    declare(&link, "q");
    assert!(bind(&link, "q", "amq.fanout", "", Form::Dotted));
    for kind in crate::exchange::ExchangeKind::ALL {
        let arguments = table(&[
            (ALTERNATE, Value::from("amq.fanout")),
            ("x-delayed-type", Value::from("direct")),
        ]);
        declare_with(&link, kind.name(), kind.name(), arguments).expect("declared");
        let mut publisher = Publisher::default();
        assert_eq!(
            publisher.routed(&link, kind.name(), "k", Form::Dotted),
            1,
            "{kind:?}"
        );
    }
}

/// Each is looked at for each message.
#[test]
fn a3_an_exchange_that_hashes_has_so_many_bindings() {
    let link = link();
    declare_with(&link, "ch", "x-consistent-hash", table(&[])).expect("declared");
    declare(&link, "q");
    for weight in 1..=HASHED_BINDINGS_MAX {
        assert!(bind(&link, "q", "ch", &weight.to_string(), Form::Dotted));
    }
    let one_more = (HASHED_BINDINGS_MAX + 1).to_string();
    let refused = link.queue_bind(&wish("q", "ch", &one_more, Form::Dotted));
    assert_eq!(
        &*refused.expect_err("too many").text,
        "exchange 'ch' has 10000 bindings already"
    );
    // The heaviest of them counts, once.
    let mut publisher = Publisher::default();
    assert_eq!(publisher.routed(&link, "ch", "k", Form::Dotted), 1);
}

/// FEATURES A3: what is kept is bounded in bytes as well as in messages; the oldest goes.
#[test]
fn a3_recent_history_is_bounded_in_bytes_too() {
    let link = link();
    let arguments = table(&[("x-recent-history-length", Value::I32(100_000))]);
    declare_with(&link, "rh", "x-recent-history", arguments).expect("declared");
    declare(&link, "q");
    let mut publisher = Publisher::default();
    // Not quite: its exchange, key and properties count as well.
    let quarter = vec![0; HISTORY_BYTES_MAX / 4 - 100];
    let mut kept = |body: &[u8], key: &str| {
        let message = MessageRef {
            payload: body,
            ..message("rh", (key, Form::Dotted), &[0, 0])
        };
        let published = link.publish(&mut publisher.turn, &mut publisher.memo, &message);
        published.expect("it can be published");
        let made = link.queue_bind(&wish("q", "rh", key, Form::Dotted));
        let history = made.expect("can be bound").history;
        let keys = history
            .iter()
            .map(|noted| noted.message.view().key.to_vec());
        let keys = keys.map(|key| String::from_utf8(key).expect("text"));
        keys.collect::<Vec<_>>().join(" ")
    };
    for (key, expected) in [
        ("1", "1"),
        ("2", "1 2"),
        ("3", "1 2 3"),
        ("4", "1 2 3 4"),
        ("5", "2 3 4 5"),
    ] {
        assert_eq!(kept(&quarter, key), expected);
    }
    // One that alone is too large pushes nothing out.
    let whole = vec![0; HISTORY_BYTES_MAX + 1];
    assert_eq!(kept(&whole, "6"), "2 3 4 5");
    assert_eq!(kept(b"small", "7"), "2 3 4 5 7");
}
