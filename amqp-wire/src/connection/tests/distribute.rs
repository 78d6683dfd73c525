//! Sender-selected distribution: the headers CC and BCC.

use leveret_core::field::{RawTable, Table, Value};
use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::limits::MORE_KEYS_MAX;
use crate::method::*;

fn keys(names: &[&str]) -> Value {
    Value::Array(names.iter().map(|name| Value::from(*name)).collect())
}

/// Publishes with headers and says what comes back.
fn publish_with(
    client: &mut Client,
    exchange: &str,
    routing_key: &str,
    headers: &[(&str, Value)],
) -> Vec<String> {
    let mut table = Table::new();
    for (name, value) in headers {
        table.insert(name, value.clone()).expect("short");
    }
    let mut encoded = Vec::new();
    table.encode(&mut encoded).expect("short");
    let properties = BasicProperties {
        headers: Some(RawTable::parse(&encoded).expect("legal")),
        ..BasicProperties::default()
    };
    let method = BasicPublish {
        exchange,
        routing_key,
        mandatory: true,
        ..BasicPublish::default()
    };
    let mut bytes = Vec::new();
    publish_as(&mut bytes, method, &properties, b"m");
    client.feed(&bytes);
    client.lines()
}

fn names(table: &Table) -> Vec<String> {
    let name = |(name, _): (&[u8], &Value)| String::from_utf8_lossy(name).into_owned();
    table.iter().map(name).collect()
}

/// FEATURES A5: one copy for each queue, whichever key leads there; nobody sees BCC.
#[test]
fn a5_cc_and_bcc() {
    let mut client = Client::open(&node());
    ["a", "b", "c"]
        .iter()
        .for_each(|queue| client.declare(queue));
    let headers = [
        ("CC", keys(&["a", "b", "b", "nobody"])),
        ("BCC", keys(&["b", "c"])),
        ("other", Value::from("kept")),
    ];
    assert!(publish_with(&mut client, "", "a", &headers).is_empty());
    for (tag, queue) in ["a", "b", "c"].iter().enumerate() {
        let expected = format!("1 basic.get-ok {} '' a left=0 headers=2 m", tag + 1);
        assert_eq!(client.get(queue, true), [expected]);
        assert_eq!(names(&client.headers), ["CC", "other"]);
    }
    // Where only the copies go somewhere, the message is not unroutable.
    assert!(publish_with(&mut client, "", "nobody", &[("BCC", keys(&["a"]))]).is_empty());
    assert_eq!(
        client.get("a", true),
        ["1 basic.get-ok 4 '' nobody left=0 headers=0 m"]
    );
    let nowhere = [("CC", keys(&["x"])), ("BCC", keys(&["y"]))];
    let returned = "1 basic.return 312 NO_ROUTE '' nobody headers=1 m";
    assert_eq!(
        publish_with(&mut client, "", "nobody", &nowhere),
        [returned]
    );
    assert_eq!(names(&client.headers), ["CC"]);
}

/// FEATURES A5: keys of a topic exchange match as the message's own does.
#[test]
fn a5_cc_in_a_topic_exchange() {
    let mut client = Client::open(&node());
    client.declare("q");
    client.declare("r");
    client.bind("q", "amq.topic", "a.*");
    client.bind("r", "amq.topic", "b.#");
    let headers = [("CC", keys(&["a.2", "b.1"]))];
    assert!(publish_with(&mut client, "amq.topic", "a.1", &headers).is_empty());
    let expected = "1 basic.get-ok 1 'amq.topic' a.1 left=0 headers=1 m";
    assert_eq!(client.get("q", true), [expected]);
    let expected = "1 basic.get-ok 2 'amq.topic' a.1 left=0 headers=1 m";
    assert_eq!(client.get("r", true), [expected]);
}

/// FEATURES A5, A7: permission is asked for each key.
#[test]
fn a5_topic_permissions_hold_for_copies() {
    let node = node();
    let broker = &node.broker;
    broker
        .set_topic_permissions("guest", "/", "amq.topic", ["^a\\.", ".*"])
        .expect("valid patterns");
    let mut client = Client::open(&node);
    client.declare("q");
    client.bind("q", "amq.topic", "#");
    let headers = [("BCC", keys(&["a.2", "b.1"]))];
    let expected = "1 channel.close 403 60.40 ACCESS_REFUSED - write access to topic 'b.1' in \
         exchange 'amq.topic' in vhost '/' refused for user 'guest'";
    assert_eq!(
        publish_with(&mut client, "amq.topic", "a.1", &headers),
        [expected]
    );
    let queue = broker.vhost("/").and_then(|vhost| vhost.queue("q"));
    assert_eq!(queue.expect("declared").counts().0, 0);
}

/// FEATURES A5: what is no array is refused in RabbitMQ's words; what is no text in it means
/// nothing.
#[test]
fn a5_cc_of_wrong_types() {
    let rows = [
        ("CC", Value::from("q"), "longstr"),
        ("CC", Value::I32(1), "signedint"),
        ("CC", Value::I64(-1), "long"),
        ("CC", Value::Bool(true), "bool"),
        ("CC", Value::Void, "void"),
        ("BCC", Value::Table(Table::new()), "table"),
        ("BCC", Value::F64(0.0), "double"),
        ("BCC", Value::Timestamp(0), "timestamp"),
        ("BCC", Value::Bytes(Box::default()), "binary"),
    ];
    for (name, value, kind) in rows {
        let mut client = Client::open(&node());
        client.declare("q");
        let expected = format!(
            "1 channel.close 406 60.40 PRECONDITION_FAILED - invalid message: \
             {{unacceptable_type_in_header,\"{name}\",{kind}}}"
        );
        assert_eq!(
            publish_with(&mut client, "", "q", &[(name, value)]),
            [expected]
        );
    }
    let mut client = Client::open(&node());
    client.declare("q");
    let mixed = Value::Array(vec![Value::I32(1), Value::from("q"), Value::Void]);
    assert!(publish_with(&mut client, "", "nobody", &[("CC", mixed)]).is_empty());
    assert_eq!(
        client.get("q", true),
        ["1 basic.get-ok 1 '' nobody left=0 headers=1 m"]
    );
}

#[test]
fn a5_the_keys_of_one_message_are_bounded() {
    for (count, refused) in [(MORE_KEYS_MAX, false), (MORE_KEYS_MAX + 1, true)] {
        let mut client = Client::open(&node());
        client.declare("q");
        let many = vec!["q"; count];
        let found = publish_with(&mut client, "", "q", &[("CC", keys(&many))]);
        assert_eq!(!found.is_empty(), refused, "{count} {found:?}");
    }
}

/// FEATURES A3, A5: the alternate exchange gets what fits under none of its keys.
#[test]
fn a5_copies_have_one_alternate() {
    let mut client = Client::open(&node());
    let mut arguments = Table::new();
    let spare = Value::from("amq.fanout");
    arguments
        .insert("alternate-exchange", spare)
        .expect("short");
    let mut encoded = Vec::new();
    arguments.encode(&mut encoded).expect("short");
    let exchange = ExchangeDeclare {
        exchange: "main",
        type_: "direct",
        arguments: RawTable::parse(&encoded).expect("legal"),
        ..ExchangeDeclare::default()
    };
    let made = client.ask(1, ClientMethod::ExchangeDeclare(exchange));
    assert_eq!(made, ["1 exchange.declare-ok"]);
    client.declare("q");
    client.declare("spare");
    client.bind("q", "main", "a");
    client.bind("spare", "amq.fanout", "");
    let counts = |client: &mut Client| {
        ["q", "spare"].map(|queue| {
            let vhost = client.node.broker.vhost("/").expect("it");
            vhost.queue(queue).expect("declared").counts().0
        })
    };
    for (key, copies, expected) in [
        ("a", &["a"][..], [1, 0]),
        ("a", &["x"], [2, 0]),
        ("x", &["a"], [3, 0]),
        ("x", &["y"], [3, 1]),
    ] {
        let headers = [("CC", keys(copies))];
        assert!(publish_with(&mut client, "main", key, &headers).is_empty());
        assert_eq!(counts(&mut client), expected, "{key} and {copies:?}");
    }
}
