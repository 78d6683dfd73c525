//! Alarms: who publishes while one is set waits, who consumes does not.

use std::sync::Arc;

use leveret_core::alarms::Resource;
use leveret_core::peer::CloseReason;
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::client::*;
use crate::method::*;
use crate::node::Node;

fn alarm(node: &Node, resource: Resource, is_short: bool) {
    node.broker.alarms().set(resource, is_short);
}

fn state(node: &Node) -> &'static str {
    let peers = node.broker.peers();
    let (_, peer) = peers.last().expect("it is connected");
    peer.view().state
}

fn deliver(tag: u64, body: &str) -> String {
    format!("1 basic.deliver c {tag} '' q {body}")
}

/// FEATURES D4: the publish that meets an alarm is taken, what is behind it is not read until no
/// alarm is set; nothing is lost and nothing changes places.
#[test]
fn d4_publishers_wait_until_no_alarm_is_set() {
    let [memory, disk, _] = Resource::ALL;
    let both = "0 connection.blocked low on memory & disk";
    for (set, expected, first, second) in [
        (
            &[memory][..],
            "0 connection.blocked low on memory",
            None,
            memory,
        ),
        (&[disk], "0 connection.blocked low on disk", None, disk),
        (&[memory, disk], both, Some(memory), disk),
        (&[disk, memory], both, Some(disk), memory),
    ] {
        let node = node();
        let mut client = Client::open(&node);
        let mut consumer = Client::open(&node);
        client.declare("q");
        consumer.consume("q", false);
        let selected = client.ask(1, ClientMethod::ConfirmSelect(ConfirmSelect::default()));
        assert_eq!(selected, ["1 confirm.select-ok"]);
        for resource in set {
            alarm(&node, *resource, true);
        }
        assert!(client.lines().is_empty(), "it has not published");
        let mut bytes = Vec::new();
        for body in ["1", "2", "3"] {
            let properties = BasicProperties::default();
            publish(&mut bytes, "", "q", &properties, body.as_bytes());
        }
        client.feed(&bytes);
        assert_eq!(client.lines(), ["1 basic.ack 1", expected]);
        assert!(!client.machine.wants_input());
        assert_eq!(consumer.lines(), [deliver(1, "1")]);
        assert!(consumer.ack(1, false).is_empty());
        if let Some(resource) = first {
            alarm(&node, resource, false);
            client.feed(b"");
            assert!(client.lines().is_empty(), "the other one is set");
            assert!(!client.machine.wants_input());
        }
        alarm(&node, second, false);
        assert_eq!(client.lines(), ["0 connection.unblocked"]);
        assert!(client.machine.wants_input());
        client.feed(b"");
        assert_eq!(client.lines(), ["1 basic.ack 3 multiple"]);
        assert_eq!(consumer.lines(), [deliver(2, "2"), deliver(3, "3")]);
        assert_eq!(node.broker.alarms().waiting(), 0);
    }
}

/// FEATURES D4: an alarm that clears and comes back before the connection has looked.
#[test]
fn d4_an_alarm_that_comes_back_blocks_again() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    alarm(&node, Resource::Memory, true);
    client.publish("", "q", "1");
    assert_eq!(client.lines(), ["0 connection.blocked low on memory"]);
    alarm(&node, Resource::Memory, false);
    alarm(&node, Resource::Disk, true);
    assert!(client.lines().is_empty());
    assert!(!client.machine.wants_input());
    alarm(&node, Resource::Disk, false);
    assert_eq!(client.lines(), ["0 connection.unblocked"]);
    alarm(&node, Resource::Disk, true);
    client.publish("", "q", "2");
    assert_eq!(client.lines(), ["0 connection.blocked low on disk"]);
}

/// FEATURES D4: a message in pieces is finished before its connection is blocked.
#[test]
fn d4_a_message_that_has_begun_is_taken_whole() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    let mut bytes = Vec::new();
    publish(&mut bytes, "", "q", &BasicProperties::default(), b"body");
    let (head, rest) = bytes.split_at(bytes.len() - 6);
    client.feed(head);
    alarm(&node, Resource::Memory, true);
    assert!(client.machine.wants_input());
    client.feed(rest);
    assert_eq!(client.lines(), ["0 connection.blocked low on memory"]);
    let vhost = node.broker.vhost("/").expect("the default");
    assert_eq!(vhost.queue("q").expect("declared").view().ready, 1);
}

/// FEATURES D4: consumers and their acknowledgements go on, and so does whatever is no publish.
#[test]
fn d4_who_does_not_publish_is_not_blocked() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    for body in ["1", "2"] {
        client.publish("", "q", body);
    }
    alarm(&node, Resource::Memory, true);
    client.send(1, qos(1, false));
    let found = client.consume("q", false);
    assert_eq!(found.last(), Some(&deliver(1, "1")));
    assert_eq!(client.ack(1, false), [deliver(2, "2")]);
    client.declare("another");
    assert_eq!(state(&node), "running");
}

/// FEATURES D4: a binding that brings messages with it is a publication as well.
#[test]
fn d4_who_binds_to_what_is_kept_waits_too() {
    for through in [false, true] {
        let node = node();
        let mut client = Client::open(&node);
        client.declare("q");
        for (name, kind) in [("kept", "x-recent-history"), ("next", "fanout")] {
            let method = ExchangeDeclare {
                exchange: name,
                type_: kind,
                ..ExchangeDeclare::default()
            };
            let declared = client.ask(1, ClientMethod::ExchangeDeclare(method));
            assert_eq!(declared, ["1 exchange.declare-ok"]);
        }
        client.bind("q", "next", "");
        alarm(&node, Resource::Memory, true);
        client.bind("q", "kept", "empty");
        assert!(client.machine.wants_input(), "nothing came with it");
        alarm(&node, Resource::Memory, false);
        client.publish("kept", "", "1");
        alarm(&node, Resource::Memory, true);
        let answer = if through {
            let method = ExchangeBind {
                destination: "next",
                source: "kept",
                ..ExchangeBind::default()
            };
            client.send(1, ClientMethod::ExchangeBind(method));
            "1 exchange.bind-ok"
        } else {
            let method = QueueBind {
                queue: "q",
                exchange: "kept",
                ..QueueBind::default()
            };
            client.send(1, ClientMethod::QueueBind(method));
            "1 queue.bind-ok"
        };
        let blocked = "0 connection.blocked low on memory";
        assert_eq!(client.lines(), [answer, blocked]);
        assert!(!client.machine.wants_input());
        let vhost = node.broker.vhost("/").expect("the default");
        let ready = vhost.queue("q").expect("declared").view().ready;
        assert_eq!(ready, 2, "the published one, and its replay");
        alarm(&node, Resource::Memory, false);
        assert_eq!(client.lines(), ["0 connection.unblocked"]);
    }
}

/// FEATURES D4: a client that did not say that it understands is blocked without a word.
#[test]
fn d4_only_those_are_told_who_understand() {
    let node = node();
    let mut client = Client::accepted(&node);
    let mut bytes = Vec::new();
    handshake_as(&mut bytes, &["consumer_cancel_notify"]);
    client.feed(&bytes);
    client.lines();
    client.declare("q");
    alarm(&node, Resource::Disk, true);
    client.publish("", "q", "1");
    assert!(client.lines().is_empty());
    assert!(!client.machine.wants_input());
    assert_eq!(state(&node), "blocked");
    alarm(&node, Resource::Disk, false);
    assert!(client.lines().is_empty());
    assert!(client.machine.wants_input());
    assert_eq!(state(&node), "running");
}

/// FEATURES D4: heartbeats are sent to a blocked client, and its own are not missed: they wait with
/// what it has published.
#[test]
fn d4_heartbeats_of_a_blocked_connection() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    alarm(&node, Resource::Memory, true);
    client.publish("", "q", "1");
    client.lines();
    for second in (30..=600).step_by(30) {
        client.turn.now = Time(1_000 + second * 1_000);
        client.machine.handle_timeout(&mut client.turn);
        assert_eq!(client.lines(), ["heartbeat"], "{second}");
    }
    assert!(!client.machine.is_closed());
    client.turn.now = Time(720_000);
    alarm(&node, Resource::Memory, false);
    assert_eq!(client.lines(), ["0 connection.unblocked"]);
    client.turn.now = Time(720_000 + 119_999);
    client.machine.handle_timeout(&mut client.turn);
    assert!(!client.machine.is_closed(), "its time begins anew");
    client.turn.now = Time(720_000 + 120_000);
    client.machine.handle_timeout(&mut client.turn);
    assert!(client.machine.is_closed());
}

/// FEATURES D4: a blocked connection can be closed, and leaves nothing that waits.
#[test]
fn d4_a_blocked_connection_can_end() {
    let node = node();
    alarm(&node, Resource::Memory, true);
    for by_broker in [true, false] {
        let mut client = Client::open(&node);
        client.declare("q");
        client.publish("", "q", "1");
        client.publish("", "q", "2");
        assert_eq!(client.lines(), ["0 connection.blocked low on memory"]);
        assert_eq!(node.broker.alarms().waiting(), 1);
        if by_broker {
            node.broker.close_peers(&CloseReason::Shutdown, |_| true);
            let text = "broker forced connection closure with reason 'shutdown'";
            let expected = format!("0 connection.close 320 0.0 CONNECTION_FORCED - {text}");
            assert_eq!(client.lines(), [expected]);
            client.send(0, ClientMethod::ConnectionCloseOk(ConnectionCloseOk {}));
            assert!(client.machine.is_closed());
        }
        client.hang_up();
        assert_eq!(node.broker.alarms().waiting(), 0);
    }
    assert_eq!(Arc::strong_count(&node), 1);
}
