//! What many bindings cost: memory is counted, and what must not depend on their number is done so
//! often that a walk over all of them would never end. No clock is looked at.

use std::fmt::Write;

use super::{Dice, Publisher, bind, declare, link, unbind};
use crate::key::Form;
use crate::link::Link;
use crate::reply_code::ReplyCode;

const TOPIC: &str = "amq.topic";

/// Bytes that a binding may take in all structures together.
const BINDING_BYTES_MAX: i64 = 200;

/// Bindings just after the tables have grown: the worst there is.
const BINDINGS: usize = 29_000;

struct Shape {
    queues: usize,
    keys: usize,
    exchange: &'static str,
}

fn make(link: &Link, shape: &Shape, (queue, key): (&mut String, &mut String)) {
    for number in 0..BINDINGS {
        queue.clear();
        key.clear();
        let _ = write!(queue, "q{}", number % shape.queues);
        let _ = write!(
            key,
            "plant/line/{:06}/state",
            number / (BINDINGS / shape.keys)
        );
        assert!(bind(link, queue, shape.exchange, key, Form::Slashed));
    }
}

/// DESIGN "Small and quick": an exact binding costs at most 200 bytes, its destination's share
/// included, however the bindings lie.
#[test]
fn a_binding_costs_two_hundred_bytes() {
    for shape in [
        // One bridge with many topics, many devices with one each, one topic of many devices.
        Shape {
            queues: 1,
            keys: BINDINGS,
            exchange: TOPIC,
        },
        Shape {
            queues: BINDINGS,
            keys: BINDINGS,
            exchange: TOPIC,
        },
        Shape {
            queues: BINDINGS,
            keys: 1,
            exchange: TOPIC,
        },
        Shape {
            queues: BINDINGS,
            keys: 1,
            exchange: "amq.fanout",
        },
        Shape {
            queues: BINDINGS / 10,
            keys: BINDINGS,
            exchange: "amq.direct",
        },
    ] {
        let link = link();
        (0..shape.queues).for_each(|number| {
            declare(&link, &format!("q{number}"));
        });
        let mut names = (String::with_capacity(64), String::with_capacity(64));
        let names = (&mut names.0, &mut names.1);
        let counted = allocation_counter::measure(|| make(&link, &shape, names));
        let each = counted.bytes_current / BINDINGS as i64;
        let Shape {
            queues,
            keys,
            exchange,
        } = shape;
        assert!(
            each <= BINDING_BYTES_MAX,
            "{exchange}, {queues} queues, {keys} keys: {each} bytes a binding"
        );
    }
}

/// Filters cost more than exact keys, and all of it is given back with the last binding.
#[test]
fn what_bindings_took_they_give_back() {
    for pattern in [
        "device/{}/state",
        "device/{}/+/x",
        "{}.5/#",
        "$share.{}/a.b/*",
        "#/{}",
    ] {
        let link = link();
        let queue = declare(&link, "q");
        let each = |change: &dyn Fn(&str)| {
            for number in 0..5_000 {
                change(&pattern.replace("{}", &number.to_string()));
            }
        };
        let taken = allocation_counter::measure(|| {
            each(&|key| assert!(bind(&link, "q", TOPIC, key, Form::Slashed)));
        });
        let cost = taken.bytes_current / 5_000;
        assert!(cost <= 600, "{pattern}: {cost} bytes a binding");
        let given = allocation_counter::measure(|| {
            each(&|key| {
                unbind(&link, "q", TOPIC, key, Form::Slashed);
            });
        });
        let left = taken.bytes_current + given.bytes_current;
        assert!(left <= 16_384, "{pattern}: {left} bytes left");
        assert_eq!(queue.binding_count(), 0);
    }
}

/// A publisher's memo holds whatever else is bound: with nothing allocated on the way.
#[test]
fn a_remembered_route_survives_other_bindings() {
    let link = link();
    declare(&link, "hot");
    declare(&link, "other");
    bind(&link, "hot", TOPIC, "hot/topic", Form::Slashed);
    let mut publisher = Publisher::default();
    let mut dice = Dice(7);
    let mut resolved = 0;
    for number in 0..2_000 {
        let routed = publisher.routed(&link, TOPIC, "hot/topic", Form::Slashed);
        assert_eq!(routed, 1);
        let key = match dice.roll(3) {
            0 => format!("cold/{number}"),
            1 => format!("cold/{number}/#"),
            _ => format!("hot/{number}/+"),
        };
        bind(&link, "other", TOPIC, &key, Form::Slashed);
        let counted = allocation_counter::measure(|| {
            publisher.routed(&link, TOPIC, "hot/topic", Form::Slashed);
        });
        resolved += usize::from(counted.count_total > 0);
    }
    // Some part of it may share a cell with one of the others: one in eight thousand of them.
    assert!(resolved <= 20, "{resolved} of 2,000 binds made it stale");
}

/// Bind, find and unbind among equal keys, among one queue's bindings and in the trie; then all at
/// once, by deleting the queue or the exchange.
#[test]
fn nothing_walks_over_all_bindings() {
    let link = link();
    link.exchange_declare(&crate::link::DeclareExchange {
        name: "doomed",
        kind: "topic",
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: crate::field::Table::new(),
    })
    .expect("can be declared");
    let many = 20_000;
    let queue = declare(&link, "q");
    let names: Vec<String> = (0..many).map(|number| format!("q{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        declare(&link, name);
        assert!(bind(&link, name, TOPIC, "all/+", Form::Slashed));
        assert!(!bind(&link, name, TOPIC, "all/+", Form::Slashed));
        for key in [format!("one/{number}"), format!("wild/{number}/#")] {
            assert!(bind(&link, "q", TOPIC, &key, Form::Slashed));
            assert!(!bind(&link, "q", TOPIC, &key, Form::Slashed));
            assert!(bind(&link, "q", "doomed", &key, Form::Slashed));
        }
    }
    assert_eq!(queue.binding_count(), many * 4);
    let mut publisher = Publisher::default();
    let all = publisher.routed(&link, TOPIC, "all/x", Form::Slashed);
    assert_eq!(all as usize, many);
    link.exchange_delete("doomed", false)
        .expect("can be deleted");
    assert_eq!(queue.binding_count(), many * 2);
    for (number, name) in names.iter().enumerate() {
        assert_eq!(unbind(&link, name, TOPIC, "all/+", Form::Slashed), 0);
        if number % 2 == 0 {
            unbind(&link, "q", TOPIC, &format!("one/{number}"), Form::Slashed);
        }
    }
    link.queue_delete("q", false, false)
        .expect("can be deleted");
    let topic = link.vhost().exchange(TOPIC).expect("it is there");
    assert!(!topic.in_use());
    assert_eq!(publisher.routed(&link, TOPIC, "all/x", Form::Slashed), 0);
}

/// FEATURES A3: bindings with several wildcards that a long key fits in very many ways. A message
/// for which matching would take too long is refused, others are not.
#[test]
fn a3_a_message_that_is_too_hard_to_match_is_refused() {
    let link = link();
    declare(&link, "q");
    let mut dice = Dice(5);
    let keys: Vec<String> = (0..3_000)
        .map(|number| {
            let middle: Vec<&str> = (0..20).map(|_| dice.pick(&["a", "*"])).collect();
            format!("#.{}.#.b{number}", middle.join("."))
        })
        .collect();
    for key in &keys {
        assert!(bind(&link, "q", TOPIC, key, Form::Dotted));
    }
    let mut publisher = Publisher::default();
    let long = format!("{}.b7", ["a"; 126].join("."));
    let mut publish = |key: &str| publisher.publish(&link, TOPIC, (key, Form::Dotted), &[0, 0]);
    let refusal = publish(&long).expect_err("it takes too long");
    assert_eq!(refusal.code, ReplyCode::ResourceError);
    assert!(refusal.text.contains("1048576 steps"), "{}", refusal.text);
    let short = format!("{}.b7", ["a"; 22].join("."));
    assert_eq!(publish(&short), Ok(1));
    for key in &keys[8..] {
        unbind(&link, "q", TOPIC, key, Form::Dotted);
    }
    assert_eq!(publish(&long), Ok(1));
}

/// Whatever a worker remembers of one broker, the next one's messages go to the next one's queues.
#[test]
fn a3_a_worker_may_serve_one_broker_after_another() {
    let mut publisher = Publisher::default();
    for round in 0..3 {
        let link = link();
        for exchange in ["", "amq.direct", "amq.topic"] {
            let name = format!("q{}", exchange.len());
            let queue = declare(&link, &name);
            if !exchange.is_empty() {
                assert!(bind(&link, &name, exchange, &name, Form::Dotted));
            }
            // Another connection of the same worker.
            publisher.memo.clear();
            assert_eq!(publisher.routed(&link, exchange, &name, Form::Dotted), 1);
            assert_eq!(queue.losses().total(), 1, "{exchange} of broker {round}");
        }
    }
}
