//! Deliveries that are not acknowledged in time.

use std::sync::Arc;

use leveret_core::field::{RawTable, Table, Value};
use leveret_core::policy::{PolicyWish, Scope};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use super::client::*;
use crate::method::*;
use crate::node::Node;
use crate::options::Options;

/// A node where a delivery may wait for 10 seconds.
fn impatient() -> Arc<Node> {
    let options = Options {
        consumer_timeout_ms: 10_000,
        ..Options::default()
    };
    Node::new(Arc::clone(&node().broker), options)
}

fn late(channel: u16, timeout_ms: u32) -> String {
    format!(
        "{channel} channel.close 406 0.0 PRECONDITION_FAILED - delivery acknowledgement on \
         channel {channel} timed out. Timeout value used: {timeout_ms} ms. This timeout value can \
         be configured, see consumers doc guide to learn more"
    )
}

/// Declares quorum queue `q`; its answer is not looked at yet.
fn declare_quorum(client: &mut Client, more: &[(&str, Value)]) {
    let mut table = Table::new();
    let kind = ("x-queue-type", Value::from("quorum"));
    for (name, value) in more.iter().chain([&kind]) {
        table.insert(name, value.clone()).expect("short");
    }
    let mut encoded = Vec::new();
    table.encode(&mut encoded).expect("short");
    let queue = QueueDeclare {
        queue: "q",
        durable: true,
        arguments: RawTable::parse(&encoded).expect("legal"),
        ..QueueDeclare::default()
    };
    client.send(1, ClientMethod::QueueDeclare(queue));
}

fn consume_for(client: &mut Client, channel: u16, tag: &str, timeout: Value) -> Vec<String> {
    let mut table = Table::new();
    table.insert("x-consumer-timeout", timeout).expect("short");
    let mut encoded = Vec::new();
    table.encode(&mut encoded).expect("short");
    let method = BasicConsume {
        queue: "q",
        consumer_tag: tag,
        arguments: RawTable::parse(&encoded).expect("legal"),
        ..BasicConsume::default()
    };
    client.ask(channel, ClientMethod::BasicConsume(method))
}

/// The time that the machine asks to be called at, heartbeats aside.
fn next(client: &mut Client) -> Option<Time> {
    let mut tune = Vec::new();
    client.machine.poll_output(&mut tune);
    assert!(tune.is_empty());
    client.machine.poll_timeout()
}

/// FEATURES A5: the channel of a consumer that does not acknowledge is closed; the message goes
/// to somebody else, and nobody else notices.
#[test]
fn a5_a_delivery_that_waits_too_long_closes_its_channel() {
    let node = impatient();
    let mut client = Client::open(&node);
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.lines();
    client.declare("q");
    client.consume("q", false);
    client.publish("", "q", "one");
    client.turn.now = Time(4_000);
    client.publish("", "q", "two");
    assert_eq!(client.lines().len(), 2);
    // The first is acknowledged in time: the second has its own.
    client.ack(1, false);
    assert_eq!(client.wait_until(Time(11_000)), Vec::<String>::new());
    assert_eq!(next(&mut client), Some(Time(14_000)));
    assert!(client.wait_until(Time(13_999)).is_empty());
    assert_eq!(client.wait_until(Time(14_000)), [late(1, 10_000)]);
    let get = BasicGet {
        queue: "q",
        ..BasicGet::default()
    };
    let found = client.ask(2, ClientMethod::BasicGet(get));
    assert_eq!(found, ["2 basic.get-ok 1 again '' q left=0 two"]);
    // What was fetched waits no longer than that either.
    assert_eq!(client.wait_until(Time(24_000)), [late(2, 10_000)]);
}

/// FEATURES A5: a client that reads nothing has no longer than others.
#[test]
fn a5_a_client_that_does_not_read_is_late_too() {
    let mut client = Client::open(&impatient());
    client.declare("q");
    for body in ["one", "two", "three"] {
        client.publish("", "q", body);
    }
    client.lines();
    let mut bytes = Vec::new();
    consume("q", "c", false).encode(1, &mut bytes);
    client.feed_unread(&bytes);
    assert_eq!(client.machine.poll_timeout(), Some(Time(11_000)));
    // Those of the first moment are acknowledged, and the last one comes later.
    let (delivery_tag, multiple) = (3, true);
    let ack = BasicAck {
        delivery_tag,
        multiple,
    };
    bytes.clear();
    ClientMethod::BasicAck(ack).encode(1, &mut bytes);
    publish(&mut bytes, "", "q", &BasicProperties::default(), b"four");
    client.turn.now = Time(4_000);
    client.feed_unread(&bytes);
    client.turn.now = Time(11_000);
    client.machine.handle_timeout(&mut client.turn);
    assert_eq!(client.machine.poll_timeout(), Some(Time(14_000)));
    client.turn.now = Time(14_000);
    client.machine.handle_timeout(&mut client.turn);
    assert_eq!(client.lines().last(), Some(&late(1, 10_000)));
}

/// FEATURES A5: `x-consumer-timeout` holds for its consumer alone, shorter or longer.
#[test]
fn a5_consumers_have_timeouts_of_their_own() {
    for (own, expected) in [(3_000, [4_000, 11_000]), (30_000, [11_000, 31_000])] {
        let mut client = Client::open(&impatient());
        client.declare("q");
        // On one channel, in either order of delivery.
        consume_for(&mut client, 1, "own", Value::I32(own));
        client.send(1, consume("q", "common", false));
        client.lines();
        client.publish("", "q", "one");
        client.publish("", "q", "two");
        assert_eq!(client.lines().len(), 2);
        assert_eq!(next(&mut client), Some(Time(expected[0])), "{own}");
        let tag = if own < 10_000 { 1 } else { 2 };
        client.ack(tag, false);
        assert!(client.wait_until(Time(expected[0])).is_empty(), "{own}");
        let deadline = next(&mut client);
        assert!(deadline.is_some_and(|at| at <= Time(expected[1])), "{own}");
        let timeout = if own < 10_000 { 10_000 } else { 30_000 };
        let found = client.wait_until(Time(expected[1]));
        assert!(found.contains(&late(1, timeout)), "{own} {found:?}");
    }
}

#[test]
fn a5_timeouts_that_are_none() {
    let rows = [
        (Value::I32(0), Some("expected a positive integer, got 0")),
        (Value::I64(-1), Some("expected a positive integer, got -1")),
        (
            Value::I64(i64::MIN),
            Some("expected a positive integer, got -9223372036854775808"),
        ),
        (Value::from("1"), Some("expected integer, got longstr")),
        (Value::U32(1 << 31), None),
        (Value::I64(i64::MAX), None),
    ];
    for (value, refused) in rows {
        let mut client = Client::open(&impatient());
        client.declare("q");
        client.publish("", "q", "m");
        let found = consume_for(&mut client, 1, "c", value.clone());
        match refused {
            Some(why) => assert_eq!(
                found,
                [format!(
                    "1 channel.close 406 60.20 PRECONDITION_FAILED - invalid arg \
                     'x-consumer-timeout' for queue 'q' in vhost '/': \"{why}\""
                )]
            ),
            None => {
                assert_eq!(found.len(), 2, "{value:?}");
                assert!(client.wait_until(Time(20_000)).is_empty(), "{value:?}");
            }
        }
    }
}

/// FEATURES A5: a transaction that has the acknowledgement is no consumer that is late, but one
/// that gives it back is.
#[test]
fn a5_a_rollback_brings_the_deadline_back() {
    let mut client = Client::open(&impatient());
    client.declare("q");
    client.publish("", "q", "m");
    client.send(1, ClientMethod::TxSelect(TxSelect {}));
    client.consume("q", false);
    client.ack(1, false);
    assert!(client.wait_until(Time(12_000)).is_empty());
    client.send(1, ClientMethod::TxRollback(TxRollback {}));
    assert_eq!(client.lines(), ["1 tx.rollback-ok"]);
    assert_eq!(client.wait_until(Time(12_000)), [late(1, 10_000)]);
}

/// FEATURES A5: a queue may say how long its deliveries wait, also those that are fetched.
#[test]
fn a5_queues_have_timeouts_of_their_own() {
    for fetched in [false, true] {
        let mut client = Client::open(&impatient());
        declare_quorum(&mut client, &[("x-consumer-timeout", Value::I32(3_000))]);
        client.publish("", "q", "m");
        assert_eq!(client.lines().len(), 1);
        if fetched {
            assert_eq!(client.get("q", false).len(), 1);
        } else {
            assert_eq!(client.consume("q", false).len(), 2);
        }
        assert!(client.wait_until(Time(3_999)).is_empty());
        assert_eq!(client.wait_until(Time(4_000)), [late(1, 3_000)]);
    }
}

/// Sets the timeout of queue `q` by a policy, or takes it away.
fn set_patience(client: &Client, timeout_ms: Option<i64>) {
    let broker = &client.node.broker;
    let (scope, mut turn) = (Scope::Ordinary, Turn::new());
    let done = match timeout_ms {
        None => broker.clear_policy(&mut turn, "/", scope, "p"),
        Some(ms) => {
            let mut definition = Table::new();
            let inserted = definition.insert("consumer-timeout", Value::I64(ms));
            inserted.expect("short");
            let wish = PolicyWish {
                name: "p",
                pattern: "^q$",
                apply_to: "queues",
                priority: 0,
                definition,
            };
            broker.set_policy(&mut turn, "/", scope, wish)
        }
    };
    done.expect("a policy");
}

/// FEATURES A6: a policy's timeout holds for what was delivered before, however it was, and no
/// longer than the policy.
#[test]
fn a6_timeouts_follow_policies_at_once() {
    for way in ["consumed", "fetched", "cancelled", "rolled back"] {
        let mut client = Client::open(&impatient());
        declare_quorum(&mut client, &[]);
        client.publish("", "q", "m");
        client.lines();
        if way == "rolled back" {
            // One of a queue without policy is in front.
            client.declare("other");
            client.publish("", "other", "m");
            client.get("other", false);
        }
        if matches!(way, "fetched" | "rolled back") {
            client.get("q", false);
        } else {
            client.consume("q", false);
        }
        if way == "cancelled" {
            let consumer_tag = "c";
            let cancel = BasicCancel {
                consumer_tag,
                ..BasicCancel::default()
            };
            client.ask(1, ClientMethod::BasicCancel(cancel));
        }
        if way == "rolled back" {
            client.ask(1, ClientMethod::TxSelect(TxSelect {}));
            client.ack(2, false);
        }
        // Longer, the node's own again, and shorter.
        for (set, expected) in [(Some(50_000), 51_000), (None, 11_000), (Some(2_000), 3_000)] {
            set_patience(&client, set);
            client.lines();
            if way != "rolled back" {
                // A heartbeat may be due before.
                let expected = Time(expected).min(Time(31_000));
                assert_eq!(next(&mut client), Some(expected), "{way}");
            }
        }
        client.ask(1, ClientMethod::TxRollback(TxRollback {}));
        if way == "rolled back" {
            assert_eq!(client.wait_until(Time(3_000)), [late(1, 2_000)], "{way}");
        }
    }
}

/// FEATURES A6: a consumer that has said how long keeps to that; what comes later waits as long
/// as the policy says.
#[test]
fn a6_consumers_with_timeouts_of_their_own_keep_them() {
    let mut client = Client::open(&impatient());
    declare_quorum(&mut client, &[]);
    client.send(1, qos(1, false));
    consume_for(&mut client, 1, "own", Value::I32(8_000));
    client.publish("", "q", "one");
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.send(2, consume("q", "common", false));
    set_patience(&client, Some(2_000));
    client.lines();
    assert_eq!(next(&mut client), Some(Time(9_000)));
    client.turn.now = Time(5_000);
    client.publish("", "q", "two");
    assert_eq!(client.lines(), ["2 basic.deliver common 1 '' q two"]);
    assert_eq!(next(&mut client), Some(Time(7_000)));
    assert_eq!(client.wait_until(Time(7_000)), [late(2, 2_000)]);
    assert_eq!(client.wait_until(Time(9_000)), [late(1, 8_000)]);
}

/// FEATURES A5: what a consumer asks for holds where its queue says something else, and is no more
/// than its own.
#[test]
fn a5_a_consumers_word_counts_more_than_its_queues() {
    let mut client = Client::open(&impatient());
    declare_quorum(&mut client, &[("x-consumer-timeout", Value::I32(3_000))]);
    client.lines();
    client.send(1, qos(1, false));
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.send(2, consume("q", "common", false));
    consume_for(&mut client, 1, "own", Value::I32(8_000));
    client.publish("", "q", "one");
    client.publish("", "q", "two");
    assert_eq!(client.lines().len(), 2);
    assert_eq!(client.wait_until(Time(4_000)), [late(2, 3_000)]);
    assert!(client.wait_until(Time(8_999)).is_empty());
    assert_eq!(client.wait_until(Time(9_000)), [late(1, 8_000)]);
}

/// FEATURES A4: a quorum queue tells how many deliveries of a message have failed.
#[test]
fn a4_failed_deliveries_are_counted_in_a_header() {
    let mut client = Client::open(&node());
    declare_quorum(&mut client, &[]);
    client.publish("", "q", "m");
    client.lines();
    assert_eq!(client.get("q", false), ["1 basic.get-ok 1 '' q left=0 m"]);
    let give_back = |delivery_tag, rejected| {
        let requeue = true;
        if rejected {
            return ClientMethod::BasicReject(BasicReject {
                delivery_tag,
                requeue,
            });
        }
        ClientMethod::BasicNack(BasicNack {
            delivery_tag,
            multiple: false,
            requeue,
        })
    };
    // basic.nack says that the message was not tried.
    client.send(1, give_back(1, false));
    let expected = "1 basic.get-ok 2 again '' q left=0 m";
    assert_eq!(client.get("q", false), [expected]);
    for failed in 1..=2 {
        client.send(1, give_back(failed + 1, true));
        let tag = failed + 2;
        let expected = format!("1 basic.get-ok {tag} again '' q left=0 headers=1 m");
        assert_eq!(client.get("q", false), [expected]);
        let count = client.headers.lookup("x-delivery-count");
        assert_eq!(count, Some(&Value::I64(failed as i64)));
    }
    // What a channel leaves behind was tried too.
    client.send(1, ClientMethod::ChannelClose(ChannelClose::default()));
    client.send(1, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.lines();
    client.get("q", false);
    let count = client.headers.lookup("x-delivery-count");
    assert_eq!(count, Some(&Value::I64(3)));
}
