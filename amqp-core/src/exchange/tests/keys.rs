//! Messages with more than one routing key, as with the headers CC and BCC: each goes its way once,
//! with all its keys.

use super::{Publisher, bind, declare, declare_with, link, message, properties_of, table};
use crate::exchange::kind::ALTERNATE;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::link::Link;
use crate::queue::Queue;

/// How many queues a message under these keys was routed to.
fn routed(publisher: &mut Publisher, link: &Link, exchange: &str, keys: &[&str]) -> u32 {
    let more: Vec<_> = keys[1..].iter().map(|key| key.as_bytes()).collect();
    let message = message(exchange, (keys[0], Form::Dotted), &[0, 0]);
    let (turn, memo) = (&mut publisher.turn, &mut publisher.memo);
    let routed = link.route_keys(turn, memo, &message, &more);
    let routed = routed.expect("may be published");
    link.publish_to(turn, &message, &routed).routed
}

fn got(queues: &[std::sync::Arc<Queue>]) -> Vec<u64> {
    queues.iter().map(|queue| queue.losses().total()).collect()
}

/// Random kinds throw once, hashing ones hash all keys together, and the same keys lead one way.
#[test]
fn a3_more_keys_are_one_choice() {
    for kind in [
        "x-random",
        "x-local-random",
        "x-consistent-hash",
        "x-modulus-hash",
    ] {
        let link = link();
        declare_with(&link, "x", kind, Table::new()).expect("declared");
        let key = if kind == "x-consistent-hash" { "1" } else { "" };
        let queues: Vec<_> = (0..16)
            .map(|number| declare(&link, &format!("q{number}")))
            .collect();
        for queue in &queues {
            assert!(bind(&link, queue.name(), "x", key, Form::Dotted));
        }
        let mut publisher = Publisher::default();
        let mut taken = 0;
        for number in 0..50 {
            let keys = ["a", "b", "c"].map(|key| format!("{key}{number}"));
            let keys = keys.each_ref().map(|key| &**key);
            assert_eq!(routed(&mut publisher, &link, "x", &keys), 1, "{kind}");
            let now = got(&queues);
            assert_eq!(now.iter().sum::<u64>(), number + 1, "{kind}");
            taken = now.iter().filter(|got| **got > 0).count();
        }
        assert!(taken > 4, "{kind}: {taken} queues of 16 got something");
        if kind.ends_with("hash") {
            let before = got(&queues);
            routed(&mut publisher, &link, "x", &["a7", "b7", "c7"]);
            routed(&mut publisher, &link, "x", &["a7", "b7", "c7"]);
            let by = |now: &[u64]| -> Vec<u64> {
                now.iter()
                    .zip(&before)
                    .map(|(now, was)| now - was)
                    .collect()
            };
            assert!(by(&got(&queues)).contains(&2), "{kind}");
        }
    }
}

/// A delayed message waits once, and goes on under all its keys: once to each queue.
#[test]
fn a3_more_keys_of_a_delayed_message_wait_once() {
    let link = link();
    let mut publisher = Publisher::default();
    let queues = ["all", "one", "two"].map(|name| declare(&link, name));
    for (exchange, kind) in [("fan", "fanout"), ("direct", "direct")] {
        let arguments = table(&[("x-delayed-type", Value::from(kind))]);
        declare_with(&link, exchange, "x-delayed-message", arguments).expect("declared");
    }
    assert!(bind(&link, "all", "fan", "", Form::Dotted));
    assert!(bind(&link, "one", "direct", "one", Form::Dotted));
    assert!(bind(&link, "two", "direct", "two", Form::Dotted));
    let properties = properties_of(&[("x-delay", Value::I32(10))]);
    for exchange in ["fan", "direct"] {
        let message = message(exchange, ("one", Form::Dotted), &properties);
        let (turn, memo) = (&mut publisher.turn, &mut publisher.memo);
        let routed = link.route_keys(turn, memo, &message, &[b"two", b"three"]);
        let routed = routed.expect("may be published");
        assert_eq!((routed.len(), routed.is_gone()), (1, false));
        assert_eq!(link.publish_to(turn, &message, &routed).routed, 1);
    }
    assert_eq!(got(&queues), [0, 0, 0]);
    publisher.turn.begin(crate::time::Time(11));
    link.broker().handle_timeout(&mut publisher.turn);
    assert_eq!(got(&queues), [1, 1, 1]);
}

/// What a recent-history exchange keeps, it keeps once; an exchange that is bound later gets it
/// under all its keys.
#[test]
fn a3_more_keys_are_noted_once() {
    let link = link();
    let mut publisher = Publisher::default();
    declare_with(&link, "rh", "x-recent-history", Table::new()).expect("declared");
    declare_with(&link, "next", "direct", Table::new()).expect("declared");
    let queues = ["early", "late", "two"].map(|name| declare(&link, name));
    assert!(bind(&link, "early", "rh", "", Form::Dotted));
    assert!(bind(&link, "two", "next", "two", Form::Dotted));
    let keys = ["one", "two", "three"];
    assert_eq!(routed(&mut publisher, &link, "rh", &keys), 1);
    let made = link.queue_bind(&super::wish("late", "rh", "", Form::Dotted));
    link.replay(&mut publisher.turn, &made.expect("bound"));
    let made = link.exchange_bind("next", "rh", b"", Table::new());
    link.replay_through(&mut publisher.turn, &made.expect("bound"));
    assert_eq!(got(&queues), [1, 1, 1]);
}

/// A message of a transaction is kept for new bindings when it is published, not before.
#[test]
fn a3_what_is_kept_back_is_noted_when_it_is_published() {
    let link = link();
    let mut publisher = Publisher::default();
    declare_with(&link, "rh", "x-recent-history", Table::new()).expect("declared");
    let queues = ["before", "after"].map(|name| declare(&link, name));
    let message = message("rh", ("k", Form::Dotted), &[0, 0]);
    let (turn, memo) = (&mut publisher.turn, &mut publisher.memo);
    let bind = |turn: &mut _, name| {
        let made = link.queue_bind(&super::wish(name, "rh", "", Form::Dotted));
        link.replay(turn, &made.expect("bound"));
    };
    let routed = link.route_kept_back(turn, memo, &message, &[]);
    bind(turn, "before");
    link.publish_to(turn, &message, &routed.expect("may be published"));
    bind(turn, "after");
    assert_eq!(got(&queues), [0, 1]);
}

/// An alternate gets what matches nothing under any of the keys.
#[test]
fn a3_an_alternate_gets_what_no_key_leads_on() {
    let link = link();
    let mut publisher = Publisher::default();
    let arguments = table(&[(ALTERNATE, Value::from("amq.fanout"))]);
    declare_with(&link, "x", "direct", arguments).expect("declared");
    let queues = ["q", "spare"].map(|name| declare(&link, name));
    assert!(bind(&link, "q", "x", "q", Form::Dotted));
    assert!(bind(&link, "spare", "amq.fanout", "", Form::Dotted));
    assert_eq!(routed(&mut publisher, &link, "x", &["other", "q"]), 1);
    assert_eq!(got(&queues), [1, 0]);
    assert_eq!(routed(&mut publisher, &link, "x", &["other", "none"]), 1);
    assert_eq!(got(&queues), [1, 1]);
}

/// Each key leads to its queues, and a queue gets a message once.
#[test]
fn a5_each_key_leads_to_its_queues() {
    let link = link();
    let mut publisher = Publisher::default();
    let queues = ["a", "b"].map(|name| declare(&link, name));
    for (exchange, key) in [
        ("amq.topic", "#.a"),
        ("amq.topic", "a.*"),
        ("amq.direct", "a.b"),
    ] {
        assert!(bind(&link, "a", exchange, key, Form::Dotted));
    }
    assert!(bind(&link, "b", "amq.topic", "b", Form::Dotted));
    for (exchange, keys, expected) in [
        ("amq.topic", &["x", "a.b", "a.a", "b"][..], 2),
        ("amq.direct", &["x", "a.b"], 1),
        ("", &["nobody", "a", "b", "a"], 2),
        ("amq.fanout", &["a", "b"], 0),
    ] {
        assert_eq!(routed(&mut publisher, &link, exchange, keys), expected);
    }
    assert_eq!(got(&queues), [3, 2]);
}
