//! FEATURES A9: readers of streams on one connection, and their share of its turns.

use leveret_core::field::{RawTable, Table, Value};
use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::method::*;

fn encoded(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, Value::from(*value)).expect("short");
    }
    let mut bytes = Vec::new();
    table.encode(&mut bytes).expect("short");
    bytes
}

/// A client with a stream of many messages; the last one alone has the name `rare`.
fn haystack(count: usize) -> Client {
    let mut client = Client::open(&node());
    let arguments = encoded(&[("x-queue-type", "stream")]);
    let method = QueueDeclare {
        queue: "s",
        durable: true,
        arguments: RawTable::parse(&arguments).expect("legal"),
        ..QueueDeclare::default()
    };
    client.ask(1, ClientMethod::QueueDeclare(method));
    let mut bytes = Vec::new();
    for _ in 0..count {
        publish(&mut bytes, "", "s", &BasicProperties::default(), b"hay");
    }
    let headers = encoded(&[("x-stream-filter-value", "rare")]);
    let properties = BasicProperties {
        headers: Some(RawTable::parse(&headers).expect("legal")),
        ..BasicProperties::default()
    };
    publish(&mut bytes, "", "s", &properties, b"needle");
    client.feed(&bytes);
    client.send(1, qos(10, false));
    client.lines();
    client
}

/// Readers for the name `rare`, on two channels, in one batch of input.
fn read(client: &mut Client, readers: usize) {
    let arguments = encoded(&[("x-stream-offset", "first"), ("x-stream-filter", "rare")]);
    let mut bytes = Vec::new();
    ClientMethod::ChannelOpen(ChannelOpen::default()).encode(2, &mut bytes);
    qos(10, false).encode(2, &mut bytes);
    for number in 0..readers {
        let method = BasicConsume {
            queue: "s",
            consumer_tag: &format!("c{number}"),
            no_wait: true,
            arguments: RawTable::parse(&arguments).expect("legal"),
            ..BasicConsume::default()
        };
        ClientMethod::BasicConsume(method).encode(1 + (number % 2) as u16, &mut bytes);
    }
    client.feed(&bytes);
    client.lines();
}

/// Each of many readers gets on in turn, and none waits for another to have read all.
#[test]
fn a9_many_readers_of_a_connection_take_turns() {
    let (messages, readers) = (5_000, 12);
    let mut client = haystack(messages);
    read(&mut client, readers);
    let mut found = Vec::new();
    let mut turns = 1;
    while found.len() < readers {
        client.feed(b"");
        let lines = client.lines();
        found.extend(lines.into_iter().filter(|line| line.contains("needle")));
        turns += 1;
        // A turn is 4,096 messages; a round with less to do is none that another lacks.
        assert!(turns < 60, "{} of {readers} have it", found.len());
    }
    assert!(turns > 10, "they share the turns: {turns}");
    let mut tags: Vec<_> = found
        .iter()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), readers, "{found:?}");
    // All is read: the connection is left alone.
    client.feed(b"");
    assert!(!client.machine.doorbell().answer());
}

/// Readers that are gone cost nothing more.
#[test]
fn a9_closing_a_channel_ends_its_readers() {
    let mut client = haystack(50_000);
    read(&mut client, 20);
    for channel in [1, 2] {
        let close = ClientMethod::ChannelClose(ChannelClose::default());
        let lines = client.ask(channel, close);
        assert_eq!(lines, [format!("{channel} channel.close-ok")]);
    }
    client.feed(b"");
    client.feed(b"");
    assert!(!client.machine.doorbell().answer());
    assert!(client.lines().is_empty());
}
