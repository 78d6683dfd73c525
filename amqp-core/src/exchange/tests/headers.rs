//! The headers exchange: what fits what, and what that costs among many bindings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Dice, Publisher, bind, declare, link, properties_of, table, wish};
use crate::exchange::headers::{COMPARED, EXAMINED};
use crate::field::{Table, Value};
use crate::key::Form;
use crate::link::{BindQueue, Link};
use crate::time::Time;
use crate::turn::TURN_MS_MAX;

fn bind_with(link: &Link, queue: &str, arguments: Table) {
    let wish = BindQueue {
        arguments,
        ..wish(queue, "amq.headers", "", Form::Dotted)
    };
    link.queue_bind(&wish).expect("can be bound");
}

fn unbind_with(link: &Link, queue: &str, arguments: Table) {
    let wish = BindQueue {
        arguments,
        ..wish(queue, "amq.headers", "", Form::Dotted)
    };
    link.queue_unbind(&wish).expect("can be unbound");
}

fn fits(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
    let link = link();
    declare(&link, "q");
    bind_with(&link, "q", table(arguments));
    let properties = properties_of(headers);
    let routed =
        Publisher::default().publish(&link, "amq.headers", ("", Form::Dotted), &properties);
    routed.expect("published") == 1
}

#[test]
fn a3_headers_fit_as_x_match_says() {
    let word = |word: &str| ("x-match", Value::from(word));
    let one = |name: &'static str| (name, Value::I32(1));
    for (arguments, headers, expected) in [
        // Nothing asked: all of it is there, any of it is not.
        (vec![], vec![], true),
        (vec![], vec![one("a")], true),
        (vec![word("all")], vec![one("a")], true),
        (vec![word("any")], vec![one("a")], false),
        (
            vec![one("a"), one("b")],
            vec![one("a"), one("b"), one("c")],
            true,
        ),
        (vec![one("a"), one("b")], vec![one("a")], false),
        (vec![word("any"), one("a"), one("b")], vec![one("b")], true),
        (vec![word("any"), one("a"), one("b")], vec![one("c")], false),
        // Names that begin with x-.
        (vec![one("x-a")], vec![], true),
        (vec![word("any"), one("x-a")], vec![one("x-a")], false),
        (vec![word("all-with-x"), one("x-a")], vec![], false),
        (vec![word("all-with-x"), one("x-a")], vec![one("x-a")], true),
        (vec![word("any-with-x"), one("x-a")], vec![one("x-a")], true),
        (
            vec![word("any-with-x"), one("x-a")],
            vec![one("x-b")],
            false,
        ),
        (vec![word("any-with-x")], vec![word("any-with-x")], false),
        // A void asks for the header alone.
        (vec![("a", Value::Void)], vec![one("a")], true),
        (vec![("a", Value::Void)], vec![("a", Value::Void)], true),
        (vec![("a", Value::Void)], vec![one("b")], false),
        (vec![word("any"), ("a", Value::Void)], vec![one("a")], true),
        (vec![one("a")], vec![("a", Value::Void)], false),
    ] {
        let fits = fits(&arguments, &headers);
        assert_eq!(fits, expected, "{arguments:?} and {headers:?}");
    }
}

#[test]
fn a3_header_values_are_equal_as_rabbitmq_has_it() {
    let nested = |value| Value::Table(table(&[("n", value)]));
    for (one, other, expected) in [
        (Value::I8(1), Value::I64(1), true),
        (Value::U8(255), Value::I16(255), true),
        (Value::I32(1), Value::F64(1.0), false),
        (Value::F32(1.5), Value::F64(1.5), true),
        (Value::F64(1.5), Value::F64(2.5), false),
        (Value::from("1"), Value::I32(1), false),
        (Value::from("a"), Value::Bytes((*b"a").into()), true),
        (Value::from("a"), Value::from("b"), false),
        (Value::Bool(true), Value::Bool(true), true),
        (Value::Bool(true), Value::I32(1), false),
        (Value::Timestamp(7), Value::Timestamp(7), true),
        (
            Value::Array(vec![Value::I8(1)]),
            Value::Array(vec![Value::I8(1)]),
            true,
        ),
        (
            Value::Array(vec![Value::I8(1)]),
            Value::Array(vec![Value::I8(2)]),
            false,
        ),
        (nested(Value::I8(1)), nested(Value::I8(1)), true),
        (nested(Value::I8(1)), nested(Value::from("1")), false),
        (
            Value::Decimal { scale: 1, value: 2 },
            Value::Decimal { scale: 1, value: 2 },
            true,
        ),
    ] {
        let fits = fits(&[("a", one.clone())], &[("a", other.clone())]);
        assert_eq!(fits, expected, "{one:?} and {other:?}");
    }
}

/// Whether headers fit a binding's arguments, read one by one.
fn reading(arguments: &Table, headers: &Table) -> bool {
    let any = arguments.lookup("x-match") == Some(&Value::from("any"));
    let asked = arguments.iter().filter(|(name, _)| *name != b"x-match");
    let mut fits = asked.map(|(name, value)| {
        let held = headers.lookup(std::str::from_utf8(name).expect("text"));
        held.is_some_and(|held| *value == Value::Void || held == value)
    });
    if any {
        fits.any(|fits| fits)
    } else {
        fits.all(|fits| fits)
    }
}

/// Thousands of bindings with little in common, with much, and of every mode, against a plain
/// reading; half of them go and the rest still fits.
#[test]
fn a3_an_index_finds_what_a_plain_reading_finds() {
    let link = link();
    let mut dice = Dice(0x5851_F42D_4C95_7F2D);
    let queues: Vec<_> = (0..64).map(|n| declare(&link, &format!("q{n}"))).collect();
    let mut held: Vec<(usize, Table)> = Vec::new();
    for number in 0..2_000 {
        let mut arguments = vec![("x-match", Value::from(dice.pick(&["all", "any"])))];
        for name in ["type", "id", "zone"] {
            match dice.roll(4) {
                0 => {}
                1 if dice.roll(8) == 0 => arguments.push((name, Value::Void)),
                _ if name == "type" => arguments.push((name, Value::from("order"))),
                _ => arguments.push((name, Value::I32(dice.roll(200) as i32))),
            }
        }
        let new = (number % 64, table(&arguments));
        bind_with(&link, &format!("q{}", new.0), new.1.clone());
        if !held.contains(&new) {
            held.push(new);
        }
    }
    let mut publisher = Publisher::default();
    for round in 0..2 {
        for _ in 0..200 {
            let mut headers = Vec::new();
            for name in ["id", "zone", "other"] {
                if dice.roll(3) > 0 {
                    headers.push((name, Value::I32(dice.roll(200) as i32)));
                }
            }
            if dice.roll(2) == 0 {
                headers.push(("type", Value::from("order")));
            }
            let wanted = table(&headers);
            let expected: std::collections::BTreeSet<usize> = held
                .iter()
                .filter(|(_, arguments)| reading(arguments, &wanted))
                .map(|(queue, _)| *queue)
                .collect();
            let before: Vec<u64> = queues.iter().map(|q| q.losses().total()).collect();
            let properties = properties_of(&headers);
            let to = ("", Form::Dotted);
            let routed = publisher.publish(&link, "amq.headers", to, &properties);
            let got: std::collections::BTreeSet<usize> = (0..64)
                .filter(|n| queues[*n].losses().total() > before[*n])
                .collect();
            assert_eq!(got, expected, "{headers:?} in round {round}");
            assert_eq!(routed, Ok(expected.len() as u32));
        }
        for (queue, arguments) in held.split_off(held.len() / 2) {
            unbind_with(&link, &format!("q{queue}"), arguments);
        }
    }
    for (queue, arguments) in held {
        unbind_with(&link, &format!("q{queue}"), arguments);
    }
    let exchange = link.vhost().exchange("amq.headers").expect("it is there");
    assert!(!exchange.in_use());
}

/// A message is held against the bindings that share a value with it, not against all.
#[test]
fn a3_ten_thousand_header_bindings_cost_what_a_few_do() {
    let link = link();
    declare(&link, "q");
    for id in 0..10_000 {
        let arguments = table(&[("type", Value::from("order")), ("id", Value::I32(id))]);
        bind_with(&link, "q", arguments);
    }
    let mut publisher = Publisher::default();
    let properties = properties_of(&[("type", Value::from("order")), ("id", Value::I32(5_000))]);
    let before = EXAMINED.get();
    let to = ("", Form::Dotted);
    let routed = publisher.publish(&link, "amq.headers", to, &properties);
    assert_eq!(routed, Ok(1));
    let examined = EXAMINED.get() - before;
    assert!((1..=10).contains(&examined), "{examined} were looked at");
}

/// However many conditions a binding shares with a message, each is looked at once, and the binding
/// is found once.
#[test]
fn a3_many_headers_are_compared_once() {
    let link = link();
    declare(&link, "q");
    let names: Vec<_> = (0..100).map(|number| format!("h{number}")).collect();
    let common = |last: usize| -> Vec<(&str, Value)> {
        let value = |number| if number < 99 { number } else { last as i32 };
        let each = names.iter().zip(0..);
        each.map(|(name, number)| (&**name, Value::I32(value(number))))
            .collect()
    };
    for number in 0..100 {
        let mode = if number % 2 == 0 { "any" } else { "all" };
        let mut arguments = common(1_000 + number);
        arguments.push(("x-match", Value::from(mode)));
        bind_with(&link, "q", table(&arguments));
    }
    let properties = properties_of(&common(1_001));
    COMPARED.set(0);
    let to = ("", Form::Dotted);
    let routed = Publisher::default().publish(&link, "amq.headers", to, &properties);
    assert_eq!(routed, Ok(1));
    assert_eq!(
        COMPARED.get(),
        50 + 100,
        "one of each any, all of the one that fits"
    );
}

/// What is slow ends the turn when it has taken too long; what is remembered never asks the time.
#[test]
fn a3_a_turn_sees_what_slow_routes_cost() {
    let link = link();
    declare(&link, "q");
    bind_with(&link, "q", table(&[("a", Value::I32(1))]));
    bind(&link, "q", "amq.direct", "k", Form::Dotted);
    let looks = Arc::new(AtomicU64::new(0));
    let mut publisher = Publisher::default();
    let clock = Arc::clone(&looks);
    publisher
        .turn
        .set_clock(move || Time(2 * clock.fetch_add(1, Ordering::Relaxed)));
    publisher.turn.begin(Time(0));
    for _ in 0..100 {
        publisher.routed(&link, "amq.direct", "k", Form::Dotted);
    }
    assert_eq!(looks.load(Ordering::Relaxed), 1, "none but for the first");
    assert!(!publisher.turn.is_spent());
    let mut published = 0;
    while !publisher.turn.is_spent() {
        publisher.routed(&link, "amq.headers", "", Form::Dotted);
        published += 1;
    }
    assert_eq!(published, TURN_MS_MAX.div_ceil(2));
    publisher.turn.begin(Time(1_000));
    assert!(!publisher.turn.is_spent());
}
