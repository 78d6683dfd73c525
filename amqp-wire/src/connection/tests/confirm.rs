//! Publisher confirms, returns, and answers that wait for a disk.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_core::definitions::{Change, Definitions, Fault, Kind, Volatile};
use leveret_core::journal::{Appended, Body, Durability, Journal, MemoryJournal, Slot, Stretch};
use leveret_core::message::{Message, MessageRef};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;
use leveret_core::watermark::Watermark;

use super::client::*;
use crate::method::*;
use crate::node::Node;
use crate::options::Options;

/// A disk that syncs when it is told to.
#[derive(Default)]
pub(super) struct Disk {
    written: AtomicU64,
    pub(super) watermark: Arc<Watermark>,
}

impl Disk {
    fn write(&self) -> u64 {
        self.written.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn sync(&self) {
        self.watermark.raise(self.written.load(Ordering::Acquire));
    }
}

impl Journal for Disk {
    fn publish(&self, _: Slot, _: &MessageRef<'_>, _: Option<Body>) -> Appended {
        let number = self.write();
        Appended { number, body: None }
    }

    fn settle(&self, _queue: u64, _seqs: &[u64], _surely: Option<Durability>) -> u64 {
        0
    }

    fn forget(&self, _queue: u64) {}

    fn last_queue(&self) -> u64 {
        0
    }

    fn recovered(&self, _queue: u64) -> Vec<Stretch> {
        Vec::new()
    }

    fn has(&self, _queue: u64, _seqs: Range<u64>) -> bool {
        false
    }

    fn fetch(&self, _queue: u64, _seqs: Range<u64>) -> Vec<(u64, Message)> {
        Vec::new()
    }

    fn written(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn settled_in(&self) {}

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }
}

impl Definitions for Disk {
    fn load(&self, _kind: Kind, _visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        Ok(())
    }

    fn submit(&self, _changes: Vec<Change>) -> u64 {
        self.write()
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }
}

fn select(client: &mut Client) {
    let method = ClientMethod::ConfirmSelect(ConfirmSelect { no_wait: false });
    assert_eq!(client.ask(1, method), ["1 confirm.select-ok"]);
}

fn messages(count: usize, mode: u8) -> Vec<u8> {
    let properties = BasicProperties {
        delivery_mode: Some(mode),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    for _ in 0..count {
        publish(&mut bytes, "", "q", &properties, b"m");
    }
    bytes
}

/// The declaration of `q`, a queue that outlives the broker.
fn durable_queue() -> ClientMethod<'static> {
    ClientMethod::QueueDeclare(QueueDeclare {
        queue: "q",
        durable: true,
        ..QueueDeclare::default()
    })
}

/// A client of a node over a disk, with a durable queue.
pub(super) fn on_disk() -> (Arc<Disk>, Client) {
    let disk = Arc::new(Disk::default());
    let node = node_over(Arc::new(Volatile::default()), Arc::clone(&disk) as _);
    let mut client = Client::open(&node);
    client.send(1, durable_queue());
    client.lines();
    (disk, client)
}

#[test]
fn transient_messages_are_confirmed_in_the_same_turn() {
    let mut client = Client::open(&node());
    client.declare("q");
    client.feed(&messages(2, 1));
    assert!(client.lines().is_empty());
    select(&mut client);
    client.feed(&messages(1, 1));
    assert_eq!(client.lines(), ["1 basic.ack 1"]);
    client.feed(&messages(5, 1));
    assert_eq!(client.lines(), ["1 basic.ack 6 multiple"]);
}

/// FEATURES D3: nobody waits for an answer that will never be true.
#[test]
fn d3_a_failed_disk_ends_who_waits_for_definitions() {
    let disk = Arc::new(Disk::default());
    let journal = Arc::new(MemoryJournal::default());
    let node = node_over(Arc::clone(&disk) as _, journal);
    disk.sync();
    let mut client = Client::open(&node);
    client.send(1, durable_queue());
    assert!(client.lines().is_empty());
    Definitions::watermark(&*disk).fail();
    let lines = client.lines();
    let expected = "0 connection.close 541 0.0 INTERNAL_ERROR";
    assert!(
        lines.len() == 1 && lines[0].starts_with(expected),
        "{lines:?}"
    );
}

/// FEATURES A1, D1: no delivery mode but 2 is persistent, and none is refused or changed.
#[test]
fn a1_delivery_modes() {
    let (disk, mut client) = on_disk();
    select(&mut client);
    for (number, mode) in [0, 1, 3, 255].into_iter().enumerate() {
        client.feed(&messages(1, mode));
        let number = number + 1;
        assert_eq!(client.lines(), [format!("1 basic.ack {number}")], "{mode}");
        let expected = format!("1 basic.get-ok {number} '' q left=0 mode={mode} m");
        assert_eq!(client.get("q", true), [expected]);
    }
    client.feed(&messages(1, 2));
    assert!(client.lines().is_empty());
    disk.sync();
    assert_eq!(client.lines(), ["1 basic.ack 5"]);
}

/// FEATURES D1: what the disk did not take is never confirmed, and its publisher is told.
#[test]
fn a_failed_disk_is_told_as_nack() {
    let (disk, mut client) = on_disk();
    select(&mut client);
    client.feed(&messages(3, 2));
    assert!(client.lines().is_empty());
    disk.watermark.raise(1);
    disk.watermark.fail();
    assert_eq!(client.lines(), ["1 basic.ack 1", "1 basic.nack 3 multiple"]);
    client.feed(&messages(1, 2));
    assert_eq!(client.lines(), ["1 basic.nack 4"]);
    client.feed(&messages(1, 1));
    assert_eq!(client.lines(), ["1 basic.ack 5"]);
}

#[test]
fn durable_messages_are_confirmed_in_order_when_they_are_on_disk() {
    let (disk, mut client) = on_disk();
    select(&mut client);
    client.feed(&messages(1, 1));
    assert_eq!(client.lines(), ["1 basic.ack 1"]);
    client.feed(&messages(2, 2));
    // The last one is transient and waits for those before it all the same.
    client.feed(&messages(1, 1));
    assert!(client.lines().is_empty());
    disk.watermark.raise(1);
    assert_eq!(client.lines(), ["1 basic.ack 2"]);
    client.feed(&messages(1, 2));
    disk.sync();
    assert_eq!(client.lines(), ["1 basic.ack 5 multiple"]);
}

#[test]
fn returned_before_confirmed() {
    let mut client = Client::open(&node());
    select(&mut client);
    let mut bytes = Vec::new();
    let method = BasicPublish {
        routing_key: "nobody",
        mandatory: true,
        ..BasicPublish::default()
    };
    publish_as(&mut bytes, method, &BasicProperties::default(), b"m");
    client.feed(&bytes);
    let expected = ["1 basic.return 312 NO_ROUTE '' nobody m", "1 basic.ack 1"];
    assert_eq!(client.lines(), expected);
}

#[test]
fn a_channel_that_fails_confirms_what_it_has_taken() {
    let mut client = Client::open(&node());
    client.declare("q");
    select(&mut client);
    let mut bytes = messages(2, 1);
    publish(
        &mut bytes,
        "nowhere",
        "k",
        &BasicProperties::default(),
        b"m",
    );
    client.feed(&bytes);
    let expected = [
        "1 basic.ack 2 multiple",
        "1 channel.close 404 60.40 NOT_FOUND - no exchange 'nowhere' in vhost '/'",
    ];
    assert_eq!(client.lines(), expected);
}

#[test]
fn declarations_are_answered_when_they_are_on_disk() {
    let disk = Arc::new(Disk::default());
    let node = node_over(Arc::clone(&disk) as _, Arc::new(MemoryJournal::default()));
    let mut client = Client::open(&node);
    // What does not outlive the broker need not wait.
    client.declare("transient");
    client.send(1, durable_queue());
    assert!(!client.machine.wants_input());
    client.send(
        1,
        ClientMethod::BasicGet(BasicGet {
            queue: "q",
            ..BasicGet::default()
        }),
    );
    assert!(client.lines().is_empty());
    disk.sync();
    assert_eq!(client.lines(), ["1 queue.declare-ok q 0 0"]);
    assert!(client.machine.wants_input());
    client.feed(b"");
    assert_eq!(client.lines(), ["1 basic.get-empty"]);
}

/// FEATURES A5, D1: a channel that is closed while its answer waits for the disk hears nothing but
/// that, and another one goes on.
#[test]
fn a5_no_answer_follows_channel_close() {
    let disk = Arc::new(Disk::default());
    let node = node_over(Arc::clone(&disk) as _, Arc::new(MemoryJournal::default()));
    let options = Options {
        consumer_timeout_ms: 10_000,
        ..Options::default()
    };
    let mut client = Client::open(&Node::new(Arc::clone(&node.broker), options));
    client.declare("transient");
    client.publish("", "transient", "m");
    assert_eq!(client.get("transient", false).len(), 1);
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.lines();
    client.send(1, durable_queue());
    assert!(!client.machine.wants_input());
    let lines = client.wait_until(Time(11_000));
    assert!(
        lines.len() == 1 && lines[0].starts_with("1 channel.close 406"),
        "{lines:?}"
    );
    assert!(client.machine.wants_input());
    disk.sync();
    assert!(client.lines().is_empty());
    let get = BasicGet {
        queue: "transient",
        ..BasicGet::default()
    };
    let found = client.ask(2, ClientMethod::BasicGet(get));
    assert_eq!(found, ["2 basic.get-ok 1 again '' transient left=0 m"]);
}
