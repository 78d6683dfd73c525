//! Transactions: what is kept back, what a commit and a rollback do, and what a disk has to do
//! with it.

use std::sync::Arc;

use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::client::*;
use super::confirm::{Disk, on_disk};
use crate::limits::{TX_BYTES_MAX, TX_MESSAGES_MAX};
use crate::method::*;

const SELECT: ClientMethod<'static> = ClientMethod::TxSelect(TxSelect {});
const COMMIT: ClientMethod<'static> = ClientMethod::TxCommit(TxCommit {});
const ROLLBACK: ClientMethod<'static> = ClientMethod::TxRollback(TxRollback {});

/// A client with queue `q` and a transaction.
fn selected() -> Client {
    let mut client = Client::open(&node());
    client.declare("q");
    assert_eq!(client.ask(1, SELECT), ["1 tx.select-ok"]);
    client
}

fn counts(client: &Client) -> (u64, u64) {
    let vhost = client.node.broker.vhost("/").expect("the default");
    let view = vhost.queue("q").expect("declared").view();
    (view.ready, view.unacked)
}

fn mandatory(key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let method = BasicPublish {
        routing_key: key,
        mandatory: true,
        ..BasicPublish::default()
    };
    publish_as(&mut bytes, method, &BasicProperties::default(), b"m");
    bytes
}

/// FEATURES A8: publications are seen after the commit, and by nobody before.
#[test]
fn a8_publications_wait_for_the_commit() {
    let mut client = selected();
    client.publish("", "q", "one");
    client.publish("", "q", "two");
    assert_eq!(client.get("q", true), ["1 basic.get-empty"]);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
    assert_eq!(counts(&client), (2, 0));
    assert_eq!(client.get("q", true), ["1 basic.get-ok 1 '' q left=1 one"]);
    // The next transaction has begun with that.
    client.publish("", "q", "three");
    assert_eq!(counts(&client), (1, 0));
    assert_eq!(client.ask(1, ROLLBACK), ["1 tx.rollback-ok"]);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
    assert_eq!(counts(&client), (1, 0));
}

/// FEATURES A8: an acknowledgement counts after the commit; a rollback takes it back.
#[test]
fn a8_acknowledgements_wait_for_the_commit() {
    let mut client = Client::open(&node());
    client.declare("q");
    for body in ["1", "2", "3", "4"] {
        client.publish("", "q", body);
    }
    client.send(1, SELECT);
    client.send(1, qos(3, false));
    client.send(1, consume("q", "c", false));
    assert_eq!(client.lines().len(), 6);
    // No credit comes back before the commit.
    assert!(client.ack(2, true).is_empty());
    assert_eq!(counts(&client), (1, 3));
    let unknown = "1 channel.close 406 60.80 PRECONDITION_FAILED - unknown delivery tag 1";
    assert_eq!(client.ask(1, ROLLBACK), ["1 tx.rollback-ok"]);
    assert_eq!(counts(&client), (1, 3));
    // All of it can be acknowledged again, one by one.
    assert!(client.ack(1, false).is_empty());
    let found = client.ask(1, COMMIT);
    assert_eq!(found, ["1 tx.commit-ok", "1 basic.deliver c 4 '' q 4"]);
    assert_eq!(counts(&client), (0, 3));
    // What was taken is not there any more, committed or not.
    assert!(client.ack(2, false).is_empty());
    assert_eq!(client.ack(1, false), [unknown]);
    // The channel has failed: what was not committed is in the queue again.
    assert_eq!(counts(&client), (3, 0));
}

/// FEATURES A8: each word on a delivery is kept as what it was.
#[test]
fn a8_rejections_are_kept_in_their_order() {
    let mut client = Client::open(&node());
    client.declare("q");
    for body in ["1", "2", "3"] {
        client.publish("", "q", body);
    }
    client.send(1, SELECT);
    client.send(1, consume("q", "c", false));
    client.lines();
    let nack = |delivery_tag, requeue| {
        ClientMethod::BasicNack(BasicNack {
            delivery_tag,
            multiple: false,
            requeue,
        })
    };
    assert!(client.ask(1, nack(2, false)).is_empty());
    let reject = BasicReject {
        delivery_tag: 1,
        requeue: true,
    };
    assert!(client.ask(1, ClientMethod::BasicReject(reject)).is_empty());
    assert!(client.ack(3, false).is_empty());
    // Recovery knows nothing of what a transaction has.
    let recover = ClientMethod::BasicRecover(BasicRecover { requeue: true });
    assert_eq!(client.ask(1, recover), ["1 basic.recover-ok"]);
    assert_eq!(counts(&client), (0, 3));
    let expected = ["1 basic.deliver c 4 again '' q 1", "1 tx.commit-ok"];
    assert_eq!(client.ask(1, COMMIT), expected);
    assert_eq!(counts(&client), (0, 1));
}

/// FEATURES A8: what RabbitMQ asks when a message comes is asked then.
#[test]
fn a8_a_publication_is_checked_when_it_comes() {
    let mut client = selected();
    client.publish("nowhere", "k", "m");
    let expected = "1 channel.close 404 60.40 NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    assert_eq!(client.lines(), [expected]);

    let node = node();
    let mut client = Client::open(&node);
    client.send(1, SELECT);
    node.broker
        .set_permissions("guest", "/", ["^q$", "^$", "^q$"])
        .expect("valid patterns");
    client.lines();
    client.publish("", "q", "m");
    let expected = "1 channel.close 403 60.40 ACCESS_REFUSED - write access to exchange \
         'amq.default' in vhost '/' refused for user 'guest'";
    assert_eq!(client.lines(), [expected]);
}

/// FEATURES A8: what nobody gets comes back at the commit.
#[test]
fn a8_returned_at_the_commit() {
    let mut client = selected();
    client.feed(&mandatory("nobody"));
    client.feed(&mandatory("q"));
    assert!(client.lines().is_empty());
    let returned = "1 basic.return 312 NO_ROUTE '' nobody m";
    assert_eq!(client.ask(1, COMMIT), [returned, "1 tx.commit-ok"]);
    // A queue that was there, and is not any more.
    client.feed(&mandatory("q"));
    let delete = QueueDelete {
        queue: "q",
        ..QueueDelete::default()
    };
    let deleted = client.ask(1, ClientMethod::QueueDelete(delete));
    assert_eq!(deleted, ["1 queue.delete-ok 1"]);
    let returned = "1 basic.return 312 NO_ROUTE '' q m";
    assert_eq!(client.ask(1, COMMIT), [returned, "1 tx.commit-ok"]);
}

/// FEATURES A8: transactions and confirms exclude each other, in RabbitMQ's words.
#[test]
fn a8_modes() {
    let confirm = ClientMethod::ConfirmSelect(ConfirmSelect { no_wait: false });
    let rows = [
        (
            COMMIT,
            COMMIT,
            "90.20 PRECONDITION_FAILED - channel is not transactional",
        ),
        (
            ROLLBACK,
            ROLLBACK,
            "90.30 PRECONDITION_FAILED - channel is not transactional",
        ),
        (
            SELECT,
            confirm,
            "85.10 PRECONDITION_FAILED - cannot switch from tx to confirm mode",
        ),
        (
            confirm,
            SELECT,
            "90.10 PRECONDITION_FAILED - cannot switch from confirm to tx mode",
        ),
    ];
    for (first, second, why) in rows {
        let mut client = Client::open(&node());
        client.send(1, first);
        client.send(1, second);
        let expected = format!("1 channel.close 406 {why}");
        assert_eq!(client.lines().last(), Some(&expected));
    }
    let mut client = selected();
    client.publish("", "q", "m");
    // Selecting again changes nothing.
    assert_eq!(client.ask(1, SELECT), ["1 tx.select-ok"]);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
    assert_eq!(counts(&client), (1, 0));
}

fn durable(mode: u8) -> (Arc<Disk>, Client) {
    let (disk, mut client) = on_disk();
    client.send(1, SELECT);
    client.lines();
    let properties = BasicProperties {
        delivery_mode: Some(mode),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    for _ in 0..2 {
        publish(&mut bytes, "", "q", &properties, b"m");
    }
    client.feed(&bytes);
    (disk, client)
}

/// FEATURES A8: a commit is answered when the disk has all of it.
#[test]
fn a8_a_commit_waits_for_the_disk() {
    let (disk, mut client) = durable(2);
    assert!(client.ask(1, COMMIT).is_empty());
    assert!(!client.machine.wants_input(), "nothing overtakes a commit");
    disk.watermark.raise(1);
    assert!(client.lines().is_empty(), "half of it");
    // What is on its way meanwhile is neither refused nor lost.
    assert!(client.get("q", true).is_empty());
    disk.sync();
    assert_eq!(client.lines(), ["1 tx.commit-ok"]);
    client.feed(b"");
    assert_eq!(client.lines(), ["1 basic.get-ok 1 '' q left=1 mode=2 m"]);

    // What the disk does not keep need not wait for it.
    let (_disk, mut client) = durable(1);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
}

/// FEATURES A8, D3: what the disk did not take is never said to be committed.
#[test]
fn a8_a_failed_disk_refuses_the_commit() {
    let refused = "1 channel.close 406 90.20 PRECONDITION_FAILED - partial tx completion";
    let (disk, mut client) = durable(2);
    assert!(client.ask(1, COMMIT).is_empty());
    disk.watermark.raise(1);
    disk.watermark.fail();
    assert_eq!(client.lines(), [refused]);
    let close_ok = ClientMethod::ChannelCloseOk(ChannelCloseOk {});
    assert!(client.ask(1, close_ok).is_empty());

    // One that comes later is refused as well.
    let (disk, mut client) = durable(2);
    disk.watermark.fail();
    assert_eq!(client.ask(1, COMMIT), [refused]);
}

/// FEATURES A8: a queue that refuses a message refuses its transaction.
#[test]
fn a8_a_full_queue_refuses_the_commit() {
    let mut client = Client::open(&node());
    let mut arguments = leveret_core::field::Table::new();
    arguments
        .insert("x-max-length", leveret_core::field::Value::I32(1))
        .expect("short");
    arguments
        .insert("x-overflow", "reject-publish".into())
        .expect("short");
    let mut bytes = Vec::new();
    arguments.encode(&mut bytes).expect("short");
    let queue = QueueDeclare {
        queue: "q",
        arguments: leveret_core::field::RawTable::parse(&bytes).expect("legal"),
        ..QueueDeclare::default()
    };
    client.send(1, ClientMethod::QueueDeclare(queue));
    client.send(1, SELECT);
    client.lines();
    client.publish("", "q", "one");
    client.publish("", "q", "two");
    let refused = "1 channel.close 406 90.20 PRECONDITION_FAILED - partial tx completion";
    assert_eq!(client.ask(1, COMMIT), [refused]);
    assert_eq!(counts(&client), (1, 0));
}

/// FEATURES A8: a channel that ends, or whose connection does, has committed nothing.
#[test]
fn a8_an_end_is_a_rollback() {
    for hang_up in [false, true] {
        let node = node();
        let mut client = Client::open(&node);
        client.declare("q");
        client.publish("", "q", "1");
        client.send(1, SELECT);
        client.send(1, consume("q", "c", false));
        client.lines();
        client.publish("", "q", "2");
        client.ack(1, false);
        if hang_up {
            client.hang_up();
        } else {
            let close = ClientMethod::ChannelClose(ChannelClose::default());
            assert_eq!(client.ask(1, close), ["1 channel.close-ok"]);
        }
        let queue = node.broker.vhost("/").and_then(|vhost| vhost.queue("q"));
        let view = queue.expect("declared").view();
        assert_eq!((view.ready, view.unacked), (1, 0), "hung up: {hang_up}");
    }
}

/// FEATURES A8: the time that a message has begins with the commit.
#[test]
fn a8_expiration_counts_from_the_commit() {
    let mut client = selected();
    let properties = BasicProperties {
        expiration: Some(b"100"),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    publish(&mut bytes, "", "q", &properties, b"m");
    client.feed(&bytes);
    client.turn.now = Time(5_000);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
    client.turn.now = Time(5_099);
    assert_eq!(client.get("q", false), ["1 basic.get-ok 1 '' q left=0 m"]);
    let reject = BasicReject {
        delivery_tag: 1,
        requeue: true,
    };
    client.send(1, ClientMethod::BasicReject(reject));
    client.send(1, COMMIT);
    client.turn.now = Time(5_100);
    assert_eq!(
        client.get("q", true),
        ["1 tx.commit-ok", "1 basic.get-empty"]
    );
}

/// FEATURES A8: what a client may have in transactions is bounded over all of its channels.
#[test]
fn a8_transactions_are_bounded() {
    let why = format!(
        "PRECONDITION_FAILED - transactions of this connection exceed {TX_MESSAGES_MAX} messages \
         or {TX_BYTES_MAX} bytes"
    );
    let mut client = selected();
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.send(2, SELECT);
    client.lines();
    let mut one = Vec::new();
    let body = vec![b'x'; 500_000];
    publish(&mut one, "", "q", &BasicProperties::default(), &body);
    let fits = TX_BYTES_MAX / (body.len() + 300);
    for _ in 0..fits {
        client.feed(&one);
    }
    assert!(client.lines().is_empty());
    client.feed(&one);
    assert_eq!(client.lines(), [format!("1 channel.close 406 60.40 {why}")]);
    // The bound is given back with the channel.
    client.send(1, ClientMethod::ChannelCloseOk(ChannelCloseOk {}));
    client.send(1, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.send(1, SELECT);
    client.lines();
    let small = {
        let mut bytes = Vec::new();
        let none = BasicProperties::default();
        (0..1_000).for_each(|_| publish(&mut bytes, "", "q", &none, b""));
        bytes
    };
    for _ in 0..TX_MESSAGES_MAX / 1_000 {
        client.feed(&small);
    }
    assert!(client.lines().is_empty());
    client.feed(&small);
    assert_eq!(client.lines(), [format!("1 channel.close 406 60.40 {why}")]);
    assert_eq!(counts(&client), (0, 0));
}

/// FEATURES A8: words on nothing take no memory.
#[test]
fn a8_words_on_nothing_are_not_kept() {
    let mut client = selected();
    for _ in 0..100 {
        assert!(client.ack(0, true).is_empty());
        let nack = BasicNack {
            delivery_tag: 0,
            multiple: true,
            requeue: true,
        };
        assert!(client.ask(1, ClientMethod::BasicNack(nack)).is_empty());
    }
    assert_eq!(client.machine.channels[&1].tx_words(), 0);
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
}

/// FEATURES A8: whatever a rollback finds, each delivery waits in its place again.
#[test]
fn a8_a_rollback_finds_every_place() {
    let mut client = selected();
    client.send(1, consume("q", "c", false));
    let mut waiting = std::collections::BTreeSet::new();
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut last_tag = 0;
    for _ in 0..40 {
        for _ in 0..random(30) {
            client.publish("", "q", "m");
            last_tag += 1;
            waiting.insert(last_tag);
        }
        client.send(1, COMMIT);
        let mut left = waiting.clone();
        for _ in 0..random(20) {
            let some = random(left.len().max(1) as u64) as usize;
            let Some(tag) = left.iter().nth(some).copied() else {
                break;
            };
            let multiple = random(4) == 0;
            left.retain(|held| if multiple { *held > tag } else { *held != tag });
            client.ack(tag, multiple);
        }
        if random(2) == 0 {
            client.send(1, COMMIT);
            waiting = left;
        } else {
            client.send(1, ROLLBACK);
        }
        let lines = client.lines();
        assert!(
            lines.iter().all(|line| !line.contains("close")),
            "{lines:?}"
        );
        assert_eq!(counts(&client).1, waiting.len() as u64);
    }
    for tag in waiting {
        assert!(client.ack(tag, false).is_empty());
    }
    assert_eq!(client.ask(1, COMMIT), ["1 tx.commit-ok"]);
    assert_eq!(counts(&client), (0, 0));
}

/// FEATURES A8, D5: one client's rollbacks of much leave time for others between them.
#[test]
fn a8_large_rollbacks_end_a_turn() {
    let mut client = selected();
    client.send(1, consume("q", "c", false));
    for _ in 0..40 {
        let mut bytes = Vec::new();
        let none = BasicProperties::default();
        (0..1_000).for_each(|_| publish(&mut bytes, "", "q", &none, b""));
        client.feed(&bytes);
        client.send(1, COMMIT);
        client.turn.begin(Time(1_000));
    }
    client.lines();
    assert_eq!(counts(&client), (0, 40_000));
    let mut cycle = Vec::new();
    let (delivery_tag, multiple) = (0, true);
    ClientMethod::BasicAck(BasicAck {
        delivery_tag,
        multiple,
    })
    .encode(1, &mut cycle);
    ROLLBACK.encode(1, &mut cycle);
    let taken = client
        .machine
        .handle_input(&mut client.turn, &cycle.repeat(5));
    assert_eq!(taken, cycle.len());
}
