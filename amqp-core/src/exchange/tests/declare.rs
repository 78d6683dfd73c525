//! Declaring, binding and deleting exchanges, with RabbitMQ's texts in RabbitMQ's order.

use super::{Publisher, bind, declare, declare_with, link, table, unbind, wish};
use crate::field::{Table, Value};
use crate::key::Form;
use crate::link::{BindQueue, DeclareExchange, Link};
use crate::reply_code::ReplyCode;

fn plain<'a>(name: &'a str, kind: &'a str) -> DeclareExchange<'a> {
    DeclareExchange {
        name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

#[test]
fn a3_a_declaration_is_compared_with_what_is_there() {
    let link = link();
    link.exchange_declare(&plain("x", "direct"))
        .expect("declared");
    link.exchange_declare(&plain("x", "direct"))
        .expect("the same");
    let other = |key: &str, received: &str, current: &str| {
        format!(
            "inequivalent arg '{key}' for exchange 'x' in vhost '/': received '{received}' but \
             current is '{current}'"
        )
    };
    for (wish, expected) in [
        (plain("x", "fanout"), other("type", "fanout", "direct")),
        (
            DeclareExchange {
                durable: true,
                ..plain("x", "direct")
            },
            other("durable", "true", "false"),
        ),
        (
            DeclareExchange {
                auto_delete: true,
                ..plain("x", "direct")
            },
            other("auto_delete", "true", "false"),
        ),
        (
            DeclareExchange {
                internal: true,
                ..plain("x", "direct")
            },
            other("internal", "true", "false"),
        ),
        // Before anything else is looked at.
        (plain("x", "odd"), "unknown exchange type 'odd'".to_owned()),
        (plain("", "odd"), "unknown exchange type 'odd'".to_owned()),
    ] {
        let refused = link.exchange_declare(&wish).expect_err("another");
        assert_eq!(
            (refused.code, &*refused.text),
            (ReplyCode::PreconditionFailed, &*expected)
        );
    }
    // Arguments besides the alternate exchange are not compared.
    let arguments = table(&[("hash-header", Value::from("other"))]);
    declare_with(&link, "x", "direct", arguments).expect("the same");
}

#[test]
fn a3_names_of_the_broker_are_refused() {
    let link = link();
    let passive = |name| DeclareExchange {
        passive: true,
        ..plain(name, "direct")
    };
    let access =
        |refusal: Result<(), crate::refusal::Refusal>| refusal.expect_err("refused").to_string();
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_eq!(access(link.exchange_declare(&plain("", "direct"))), default);
    assert_eq!(access(link.exchange_declare(&passive(""))), default);
    assert_eq!(access(link.exchange_delete("", false)), default);
    assert_eq!(
        access(link.exchange_declare(&plain("amq.mine", "direct"))),
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        access(link.exchange_declare(&passive("amq.mine"))),
        "NOT_FOUND - no exchange 'amq.mine' in vhost '/'"
    );
    for name in ["amq.direct", "amq.nosuch"] {
        assert_eq!(
            access(link.exchange_delete(name, false)),
            format!(
                "ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed"
            )
        );
    }
    declare(&link, "q");
    let bound = |link: &Link| {
        link.queue_bind(&wish("q", "", "k", Form::Dotted))
            .map(|_| ())
    };
    assert_eq!(access(bound(&link)), default);
    let bound = |to, from| link.exchange_bind(to, from, b"", Table::new()).map(|_| ());
    assert_eq!(access(bound("amq.direct", "")), default);
    assert_eq!(access(bound("", "amq.direct")), default);
}

/// The source is looked for first; who unbinds need not find anything.
#[test]
fn a3_ends_that_are_missing() {
    let link = link();
    declare(&link, "q");
    for (queue, exchange, missing) in [
        ("nosuch", "nosuch", "exchange"),
        ("q", "nosuch", "exchange"),
        ("nosuch", "amq.direct", "queue"),
    ] {
        let wish = wish(queue, exchange, "k", Form::Dotted);
        let refused = link.queue_bind(&wish).expect_err("missing");
        let expected = format!("NOT_FOUND - no {missing} 'nosuch' in vhost '/'");
        assert_eq!(refused.to_string(), expected);
        assert_eq!(link.queue_unbind(&wish), Ok(0));
    }
    assert_eq!(unbind(&link, "q", "amq.direct", "k", Form::Dotted), 0);
    let refused = link.exchange_bind("no-to", "no-from", b"", Table::new());
    let text = refused.expect_err("missing").to_string();
    assert_eq!(text, "NOT_FOUND - no exchange 'no-from' in vhost '/'");
    for (to, from) in [("no", "no"), ("amq.direct", "no"), ("no", "amq.direct")] {
        assert_eq!(link.exchange_unbind(to, from, b"", &Table::new()), Ok(()));
    }
}

#[test]
fn a3_auto_delete_follows_the_last_binding_from_it() {
    let link = link();
    let wish = DeclareExchange {
        auto_delete: true,
        ..plain("auto", "direct")
    };
    let is_there = |name: &str| link.vhost().exchange(name).is_some();
    declare(&link, "q");
    link.exchange_declare(&wish).expect("declared");
    // What leads to it does not count.
    link.exchange_bind("auto", "amq.direct", b"k", Table::new())
        .expect("bound");
    link.exchange_unbind("auto", "amq.direct", b"k", &Table::new())
        .expect("unbound");
    assert!(is_there("auto"));
    link.exchange_bind("amq.direct", "auto", b"k", Table::new())
        .expect("bound");
    link.exchange_unbind("amq.direct", "auto", b"k", &Table::new())
        .expect("unbound");
    assert!(!is_there("auto"));
    // One goes with another that goes.
    for name in ["auto", "auto-2"] {
        let wish = DeclareExchange {
            name,
            ..wish.clone()
        };
        link.exchange_declare(&wish).expect("declared");
    }
    link.exchange_bind("auto-2", "auto", b"k", Table::new())
        .expect("bound");
    assert!(bind(&link, "q", "auto-2", "k", Form::Dotted));
    link.queue_delete("q", false, false).expect("deleted");
    assert!(!is_there("auto-2") && !is_there("auto"));
}

#[test]
fn a3_if_unused_looks_at_bindings_from_it() {
    let link = link();
    for name in ["from", "to"] {
        link.exchange_declare(&plain(name, "direct"))
            .expect("declared");
    }
    link.exchange_bind("to", "from", b"k", Table::new())
        .expect("bound");
    let refused = link.exchange_delete("from", true).expect_err("in use");
    let expected = "PRECONDITION_FAILED - exchange 'from' in vhost '/' in use";
    assert_eq!(refused.to_string(), expected);
    link.exchange_delete("to", true)
        .expect("only a destination");
    link.exchange_delete("from", true).expect("unbound by that");
    link.exchange_delete("from", true)
        .expect("not there is no error");
}

#[test]
fn a3_arguments_tell_bindings_apart() {
    let link = link();
    declare(&link, "q");
    let with = |value| BindQueue {
        arguments: table(&[("a", value)]),
        ..wish("q", "amq.direct", "k", Form::Dotted)
    };
    let bind = |value| link.queue_bind(&with(value)).expect("bound").created;
    assert!(bind(Value::I32(1)) && bind(Value::I32(2)));
    assert!(!bind(Value::I32(1)));
    assert_eq!(link.queue_unbind(&with(Value::I32(3))), Ok(2));
    assert_eq!(link.queue_unbind(&with(Value::I32(1))), Ok(1));
    let mut publisher = Publisher::default();
    assert_eq!(publisher.routed(&link, "amq.direct", "k", Form::Dotted), 1);
}

#[test]
fn a3_nobody_publishes_to_an_internal_exchange_but_others_lead_there() {
    let link = link();
    link.exchange_declare(&DeclareExchange {
        internal: true,
        ..plain("inner", "direct")
    })
    .expect("declared");
    declare(&link, "q");
    assert!(bind(&link, "q", "inner", "k", Form::Dotted));
    link.exchange_bind("inner", "amq.direct", b"k", Table::new())
        .expect("bound");
    let mut publisher = Publisher::default();
    assert_eq!(publisher.routed(&link, "amq.direct", "k", Form::Dotted), 1);
    let refused = publisher.publish(&link, "inner", ("k", Form::Dotted), &[0, 0]);
    assert_eq!(
        refused.expect_err("internal").to_string(),
        "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"
    );
}
