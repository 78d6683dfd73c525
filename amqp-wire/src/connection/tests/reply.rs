//! Direct reply-to: requests, replies, and the ends of requesters.

use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::limits::REPLY_DELIVERY_BYTES_MAX;
use crate::method::*;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A client that waits for replies.
fn requester(node: &std::sync::Arc<crate::node::Node>) -> Client {
    let mut client = Client::open(node);
    assert_eq!(client.consume(REPLY_TO, true), ["1 basic.consume-ok c"]);
    client
}

fn request(client: &mut Client, queue: &str) {
    let properties = BasicProperties {
        reply_to: Some(REPLY_TO.as_bytes()),
        correlation_id: Some(b"7"),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    publish(&mut bytes, "", queue, &properties, b"question");
    client.feed(&bytes);
}

/// Sends a mandatory reply and says what comes back.
fn reply(client: &mut Client, name: &str, body: &str) -> Vec<String> {
    let mut bytes = Vec::new();
    let method = BasicPublish {
        routing_key: name,
        mandatory: true,
        ..BasicPublish::default()
    };
    publish_as(
        &mut bytes,
        method,
        &BasicProperties::default(),
        body.as_bytes(),
    );
    client.feed(&bytes);
    client.lines()
}

/// A server with a question, the client that asked it, and where the answer goes.
fn asked() -> (Client, Client, String) {
    let node = node();
    let mut server = Client::open(&node);
    server.declare("rpc");
    server.consume("rpc", true);
    let mut client = requester(&node);
    request(&mut client, "rpc");
    assert!(client.lines().is_empty());
    assert_eq!(server.lines(), ["1 basic.deliver c 1 '' rpc question"]);
    let name = server.reply_to.clone();
    (server, client, name)
}

fn passive(name: &str) -> ClientMethod<'_> {
    ClientMethod::QueueDeclare(QueueDeclare {
        queue: name,
        passive: true,
        ..QueueDeclare::default()
    })
}

/// FEATURES A5: a question under one name, the answer under another that only the two know.
#[test]
fn a5_replies_reach_the_channel_that_asked() {
    let (mut server, mut client, name) = asked();
    let node = std::sync::Arc::clone(&server.node);
    assert!(
        name.starts_with("amq.rabbitmq.reply-to.") && name.len() > 40,
        "{name}"
    );
    for number in 1..=2 {
        assert!(reply(&mut server, &name, "answer").is_empty());
        let expected = format!("1 basic.deliver c {number} '' {name} answer");
        assert_eq!(client.lines(), [expected]);
    }
    // It can be asked for, and is no queue of the vhost.
    let found = server.ask(1, passive(&name));
    assert_eq!(found, [format!("1 queue.declare-ok {name} 0 1")]);
    assert_eq!(node.broker.vhost("/").expect("it").queues().len(), 1);
    // Nobody else is confused with it.
    let other = requester(&node);
    let lost = format!("{}x", &name[..name.len() - 1]);
    let returned = format!("1 basic.return 312 NO_ROUTE '' {lost} answer");
    assert_eq!(reply(&mut server, &lost, "answer"), [returned]);
    other.hang_up();
}

/// FEATURES A5: who has asked and is gone gets nothing, and who replies is told.
#[test]
fn a5_replies_to_who_is_gone_are_unroutable() {
    for end in ["cancel", "channel", "connection"] {
        let node = node();
        let mut server = Client::open(&node);
        server.declare("rpc");
        server.consume("rpc", true);
        let mut client = requester(&node);
        request(&mut client, "rpc");
        server.lines();
        let name = server.reply_to.clone();
        assert!(reply(&mut server, &name, "answer").is_empty(), "{end}");
        client.lines();
        match end {
            "cancel" => {
                let cancel = BasicCancel {
                    consumer_tag: "c",
                    no_wait: false,
                };
                let found = client.ask(1, ClientMethod::BasicCancel(cancel));
                assert_eq!(found, ["1 basic.cancel-ok c"]);
                // It may ask again, under another name.
                assert_eq!(client.consume(REPLY_TO, true), ["1 basic.consume-ok c"]);
                request(&mut client, "rpc");
                server.lines();
                assert_ne!(server.reply_to, name);
            }
            "channel" => {
                let close = ClientMethod::ChannelClose(ChannelClose::default());
                assert_eq!(client.ask(1, close), ["1 channel.close-ok"]);
            }
            _ => client.hang_up(),
        }
        let returned = format!("1 basic.return 312 NO_ROUTE '' {name} late");
        assert_eq!(reply(&mut server, &name, "late"), [returned], "{end}");
        let expected =
            format!("1 channel.close 404 50.10 NOT_FOUND - no queue '{name}' in vhost '/'");
        assert_eq!(server.ask(1, passive(&name)), [expected], "{end}");
    }
}

/// FEATURES A5: every refusal of RabbitMQ's.
#[test]
fn a5_refusals_of_direct_reply_to() {
    let get = |queue| {
        ClientMethod::BasicGet(BasicGet {
            queue,
            ..BasicGet::default()
        })
    };
    let bind = ClientMethod::QueueBind(QueueBind {
        queue: REPLY_TO,
        exchange: "amq.direct",
        ..QueueBind::default()
    });
    let unbind = ClientMethod::QueueUnbind(QueueUnbind {
        queue: REPLY_TO,
        exchange: "amq.direct",
        ..QueueUnbind::default()
    });
    let volatile = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
    let rows: &[(&[ClientMethod<'_>], String)] = &[
        (
            &[consume(REPLY_TO, "c", false)],
            "1 channel.close 406 60.20 PRECONDITION_FAILED - reply consumer cannot acknowledge"
                .to_owned(),
        ),
        (
            &[consume(REPLY_TO, "c", true), consume(REPLY_TO, "d", true)],
            "1 channel.close 406 60.20 PRECONDITION_FAILED - reply consumer already set".to_owned(),
        ),
        (
            &[consume("q", "c", true), consume(REPLY_TO, "c", true)],
            "0 connection.close 530 60.20 NOT_ALLOWED - attempt to reuse consumer tag 'c'"
                .to_owned(),
        ),
        (
            &[consume("amq.rabbitmq.reply-to.x", "c", true)],
            "1 channel.close 404 60.20 NOT_FOUND - no queue 'amq.rabbitmq.reply-to.x' in vhost \
             '/'"
            .to_owned(),
        ),
        (&[bind], format!("1 channel.close 403 50.20 {volatile}")),
        (&[unbind], format!("1 channel.close 403 50.50 {volatile}")),
        (
            &[get(REPLY_TO)],
            "0 connection.close 540 60.70 NOT_IMPLEMENTED - basic.get not supported by volatile \
             queue 'amq.rabbitmq.reply-to' in vhost '/'"
                .to_owned(),
        ),
        (
            &[passive(REPLY_TO)],
            format!("1 queue.declare-ok {REPLY_TO} 0 1"),
        ),
    ];
    for (methods, expected) in rows {
        let mut client = Client::open(&node());
        client.declare("q");
        methods.iter().for_each(|method| client.send(1, *method));
        assert_eq!(client.lines().last(), Some(expected));
        client.hang_up();
    }
    let mut client = Client::open(&node());
    request(&mut client, "q");
    let expected = "1 channel.close 406 60.40 PRECONDITION_FAILED - fast reply consumer does not \
         exist";
    assert_eq!(client.lines(), [expected]);
}

/// FEATURES A5: no other channel gets replies that are not meant for it.
#[test]
fn a5_nobody_consumes_another_channels_replies() {
    let (mut server, _client, name) = asked();
    let expected = format!(
        "1 channel.close 406 60.20 PRECONDITION_FAILED - only creator channel may consume from \
         queue '{name}' in vhost '/'"
    );
    assert_eq!(server.ask(1, consume(&name, "d", true)), [expected]);
}

/// FEATURES A5, D5: what waits for a requester that does not read is bounded; what comes after it
/// has read arrives.
#[test]
fn a5_replies_that_nobody_reads_are_bounded() {
    let node = node();
    let mut server = Client::open(&node);
    server.declare("rpc");
    server.consume("rpc", true);
    let mut client = requester(&node);
    request(&mut client, "rpc");
    server.lines();
    let name = server.reply_to.clone();
    // As large as a message may be.
    let large = "x".repeat(1_000_000);
    for _ in 0..20 {
        assert!(reply(&mut server, &name, &large).is_empty(), "it is routed");
    }
    let found = client.lines();
    // The last one begins below the limit.
    let fit = REPLY_DELIVERY_BYTES_MAX / large.len() + 1;
    assert_eq!(found.len(), fit);
    let last = format!("1 basic.deliver c {fit} '' {name} (1000000 bytes)");
    assert_eq!(found.last(), Some(&last));
    assert!(reply(&mut server, &name, "again").is_empty());
    let next = format!("1 basic.deliver c {} '' {name} again", fit + 1);
    assert_eq!(client.lines(), [next]);
}
