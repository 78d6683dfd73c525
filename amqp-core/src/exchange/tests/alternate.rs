//! Alternate exchanges: tried wherever a message matches nothing, and never from memory.

use super::{Publisher, bind, declare, declare_with, link, table, unbind};
use crate::exchange::kind::ALTERNATE;
use crate::field::Value;
use crate::key::Form;
use crate::link::Link;
use crate::reply_code::ReplyCode;

fn with_alternate(link: &Link, name: &str, kind: &str, alternate: &str) {
    let arguments = table(&[(ALTERNATE, Value::from(alternate))]);
    declare_with(link, name, kind, arguments).expect("it can be declared");
}

/// Publishes by two connections, one of which remembers.
fn routed(publisher: &mut Publisher, link: &Link, exchange: &str, key: &str) -> u32 {
    let first = publisher.routed(link, exchange, key, Form::Dotted);
    let again = publisher.routed(link, exchange, key, Form::Dotted);
    assert_eq!(first, again, "{exchange} {key}");
    first
}

#[test]
fn a3_what_matches_nothing_goes_to_the_alternate() {
    let link = link();
    let mut publisher = Publisher::default();
    with_alternate(&link, "main", "direct", "spare");
    let queues = ["a", "b"].map(|name| declare(&link, name));
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 0, "no spare");
    declare_with(&link, "spare", "fanout", table(&[])).expect("declared");
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 0, "unbound");
    assert!(bind(&link, "b", "spare", "", Form::Dotted));
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 1);
    assert_eq!(queues[1].losses().total(), 2, "the spare's queue has both");
    assert!(bind(&link, "a", "main", "k", Form::Dotted));
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 1);
    assert_eq!(queues.map(|queue| queue.losses().total()), [2, 2]);
    unbind(&link, "a", "main", "k", Form::Dotted);
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 1);
    link.exchange_delete("spare", false).expect("deleted");
    assert_eq!(routed(&mut publisher, &link, "main", "k"), 0);
}

/// Every exchange on the way has its own, and whoever leads back to one that was passed is done.
#[test]
fn a3_alternates_stand_along_the_way_and_may_go_round() {
    let link = link();
    let mut publisher = Publisher::default();
    with_alternate(&link, "one", "direct", "two");
    with_alternate(&link, "two", "topic", "three");
    with_alternate(&link, "three", "headers", "one");
    assert_eq!(routed(&mut publisher, &link, "one", "k"), 0);
    declare(&link, "q");
    link.exchange_bind("two", "three", b"", table(&[("h", Value::Void)]))
        .expect("bound");
    assert!(bind(&link, "q", "two", "k", Form::Dotted));
    for exchange in ["one", "two", "three"] {
        assert_eq!(
            routed(&mut publisher, &link, exchange, "k"),
            1,
            "{exchange}"
        );
    }
    // A binding to an exchange is a match, though nothing comes of it there.
    declare_with(&link, "dead", "direct", table(&[])).expect("declared");
    link.exchange_bind("dead", "one", b"k", table(&[]))
        .expect("bound");
    assert_eq!(routed(&mut publisher, &link, "one", "k"), 0);
    // The default exchange has no bindings of its own.
    with_alternate(&link, "last", "direct", "");
    assert_eq!(routed(&mut publisher, &link, "last", "q"), 0);
}

/// A policy's alternate counts at once, also for what was remembered as leading nowhere.
#[test]
fn a3_a_policy_names_an_alternate_while_messages_pass() {
    let link = link();
    let mut publisher = Publisher::default();
    for name in ["plain", "other"] {
        declare_with(&link, name, "direct", table(&[])).expect("declared");
    }
    with_alternate(&link, "own", "direct", "other");
    declare(&link, "q");
    assert!(bind(&link, "q", "amq.fanout", "", Form::Dotted));
    let exchange = |name: &str| link.vhost().exchange(name).expect("it is there");
    let mut expect = |name: &str, expected| {
        assert_eq!(routed(&mut publisher, &link, name, "k"), expected, "{name}");
    };
    expect("plain", 0);
    link.vhost()
        .set_alternate(&exchange("plain"), Some("amq.fanout"));
    expect("plain", 1);
    link.vhost().set_alternate(&exchange("plain"), None);
    expect("plain", 0);
    // The argument wins.
    link.vhost()
        .set_alternate(&exchange("own"), Some("amq.fanout"));
    expect("own", 0);
}

#[test]
fn a3_an_alternate_is_text_and_part_of_the_declaration() {
    let link = link();
    with_alternate(&link, "x", "direct", "spare");
    declare_with(&link, "y", "direct", table(&[])).expect("declared");
    let refused = |name: &str, value: Option<Value>| {
        let arguments = value.map(|value| table(&[(ALTERNATE, value)]));
        declare_with(&link, name, "direct", arguments.unwrap_or_default())
            .expect_err("another declaration")
            .to_string()
    };
    let differs = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange";
    for (name, value, expected) in [
        (
            "z",
            Some(Value::I32(5)),
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in \
             exchange 'z' in vhost '/'"
                .to_owned(),
        ),
        (
            "x",
            None,
            format!(
                "{differs} 'x' in vhost '/': received none but current is the value 'spare' of \
                 type 'longstr'"
            ),
        ),
        (
            "x",
            Some(Value::from("else")),
            format!("{differs} 'x' in vhost '/': received 'else' but current is 'spare'"),
        ),
        (
            "x",
            Some(Value::I32(5)),
            format!("{differs} 'x' in vhost '/': received '5' but current is 'spare'"),
        ),
        (
            "y",
            Some(Value::from("else")),
            format!(
                "{differs} 'y' in vhost '/': received the value 'else' of type 'longstr' but \
                 current is none"
            ),
        ),
    ] {
        assert_eq!(refused(name, value), expected);
    }
    with_alternate(&link, "x", "direct", "spare");
}

/// Whoever names an alternate must be allowed to read from the exchange and to write to the other.
#[test]
fn a7_an_alternate_needs_its_permissions() {
    let owner = link();
    let user = super::user(&owner, "anna", ["^mine", "^(mine|open)", "^mine"]);
    let declare = |name: &str, alternate: &str| {
        let arguments = table(&[(ALTERNATE, Value::from(alternate))]);
        declare_with(&user, name, "direct", arguments)
    };
    assert_eq!(declare("mine-1", "open"), Ok(()));
    let refused = declare("mine-2", "closed").expect_err("may not write there");
    assert_eq!(refused.code, ReplyCode::AccessRefused);
    assert_eq!(
        &*refused.text,
        "write access to exchange 'closed' in vhost '/' refused for user 'anna'"
    );
    let user = super::user(&owner, "otto", ["^mine", ".*", "^$"]);
    let arguments = table(&[(ALTERNATE, Value::from("open"))]);
    let refused = declare_with(&user, "mine-3", "direct", arguments).expect_err("may not read");
    assert_eq!(
        &*refused.text,
        "read access to exchange 'mine-3' in vhost '/' refused for user 'otto'"
    );
}
