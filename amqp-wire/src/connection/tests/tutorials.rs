//! RabbitMQ's tutorials, one test each.

use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::method::*;

fn exchange(client: &mut Client, exchange: &str, type_: &str) {
    let method = ExchangeDeclare {
        exchange,
        type_,
        ..ExchangeDeclare::default()
    };
    let found = client.ask(1, ClientMethod::ExchangeDeclare(method));
    assert_eq!(found, ["1 exchange.declare-ok"]);
}

/// An exclusive queue with a name of the server's making.
fn own_queue(client: &mut Client) -> String {
    let method = QueueDeclare {
        exclusive: true,
        ..QueueDeclare::default()
    };
    let found = client.ask(1, ClientMethod::QueueDeclare(method));
    let name = found[0].split(' ').nth(2).expect("a name").to_owned();
    assert!(name.starts_with("amq.gen-"), "{found:?}");
    name
}

#[test]
fn one_hello_world() {
    let node = node();
    let mut sender = Client::open(&node);
    sender.declare("hello");
    sender.publish("", "hello", "Hello World!");
    let mut receiver = Client::open(&node);
    receiver.declare("hello");
    let expected = [
        "1 basic.consume-ok c",
        "1 basic.deliver c 1 '' hello Hello World!",
    ];
    assert_eq!(receiver.consume("hello", true), expected);
    sender.publish("", "hello", "again");
    assert_eq!(receiver.lines(), ["1 basic.deliver c 2 '' hello again"]);
}

#[test]
fn two_work_queues() {
    let node = node();
    let mut sender = Client::open(&node);
    let queue = QueueDeclare {
        queue: "tasks",
        durable: true,
        ..QueueDeclare::default()
    };
    sender.send(1, ClientMethod::QueueDeclare(queue));
    let mut workers = [Client::open(&node), Client::open(&node)];
    for worker in &mut workers {
        assert_eq!(worker.ask(1, qos(1, false)), ["1 basic.qos-ok"]);
        worker.consume("tasks", false);
    }
    let properties = BasicProperties {
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    for task in ["t1", "t2", "t3"] {
        publish(&mut bytes, "", "tasks", &properties, task.as_bytes());
    }
    sender.feed(&bytes);
    assert_eq!(
        workers[0].lines(),
        ["1 basic.deliver c 1 '' tasks mode=2 t1"]
    );
    assert_eq!(
        workers[1].lines(),
        ["1 basic.deliver c 1 '' tasks mode=2 t2"]
    );
    let [first, second] = workers;
    let mut second = second;
    // A worker that dies leaves its task to the others.
    first.hang_up();
    assert!(second.lines().is_empty());
    let found = second.ack(1, false);
    assert_eq!(found, ["1 basic.deliver c 2 again '' tasks mode=2 t1"]);
    assert_eq!(
        second.ack(2, false),
        ["1 basic.deliver c 3 '' tasks mode=2 t3"]
    );
    assert!(second.ack(3, false).is_empty());
}

#[test]
fn three_publish_subscribe() {
    let node = node();
    let mut sender = Client::open(&node);
    exchange(&mut sender, "logs", "fanout");
    sender.publish("logs", "", "nobody hears this");
    let mut receivers = [Client::open(&node), Client::open(&node)];
    for receiver in &mut receivers {
        let name = own_queue(receiver);
        // The empty name is the queue just declared.
        receiver.bind("", "logs", "");
        assert_eq!(receiver.consume(&name, true), ["1 basic.consume-ok c"]);
    }
    sender.publish("logs", "", "all hear this");
    for receiver in &mut receivers {
        assert_eq!(
            receiver.lines(),
            ["1 basic.deliver c 1 'logs'  all hear this"]
        );
    }
}

#[test]
fn four_routing() {
    let node = node();
    let mut client = Client::open(&node);
    exchange(&mut client, "direct_logs", "direct");
    let name = own_queue(&mut client);
    for key in ["warning", "error"] {
        client.bind(&name, "direct_logs", key);
    }
    client.consume(&name, true);
    for key in ["info", "warning", "error"] {
        client.publish("direct_logs", key, key);
    }
    let expected = [
        "1 basic.deliver c 1 'direct_logs' warning warning",
        "1 basic.deliver c 2 'direct_logs' error error",
    ];
    assert_eq!(client.lines(), expected);
}

#[test]
fn five_topics() {
    let node = node();
    let mut client = Client::open(&node);
    exchange(&mut client, "topic_logs", "topic");
    let name = own_queue(&mut client);
    for key in ["kern.*", "*.critical", "lazy.#"] {
        client.bind(&name, "topic_logs", key);
    }
    client.consume(&name, true);
    for key in [
        "kern.info",
        "kern.critical",
        "cron.info",
        "lazy",
        "lazy.a.b",
    ] {
        client.publish("topic_logs", key, "m");
    }
    let found: Vec<_> = client.lines();
    let keys: Vec<_> = found
        .iter()
        .map(|line| line.split(' ').nth(5).unwrap_or(""))
        .collect();
    assert_eq!(keys, ["kern.info", "kern.critical", "lazy", "lazy.a.b"]);
}

#[test]
fn six_rpc() {
    let node = node();
    let mut server = Client::open(&node);
    server.declare("rpc_queue");
    server.send(1, qos(1, false));
    server.consume("rpc_queue", false);
    server.lines();
    let mut client = Client::open(&node);
    let callback = own_queue(&mut client);
    client.consume(&callback, true);
    let request = BasicProperties {
        reply_to: Some(callback.as_bytes()),
        correlation_id: Some(b"7"),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    publish(&mut bytes, "", "rpc_queue", &request, b"30");
    client.feed(&bytes);
    assert_eq!(server.lines(), ["1 basic.deliver c 1 '' rpc_queue 30"]);
    server.publish("", &callback, "832040");
    server.ack(1, false);
    let expected = format!("1 basic.deliver c 1 '' {callback} 832040");
    assert_eq!(client.lines(), [expected]);
}

#[test]
fn exchanges_are_bound_to_exchanges() {
    let mut client = Client::open(&node());
    exchange(&mut client, "a", "fanout");
    exchange(&mut client, "b", "fanout");
    client.declare("q");
    client.bind("q", "b", "");
    let bind = ExchangeBind {
        destination: "b",
        source: "a",
        ..ExchangeBind::default()
    };
    assert_eq!(
        client.ask(1, ClientMethod::ExchangeBind(bind)),
        ["1 exchange.bind-ok"]
    );
    client.publish("a", "k", "m");
    let unbind = ExchangeUnbind {
        destination: "b",
        source: "a",
        ..ExchangeUnbind::default()
    };
    assert_eq!(
        client.ask(1, ClientMethod::ExchangeUnbind(unbind)),
        ["1 exchange.unbind-ok"]
    );
    client.publish("a", "k", "lost");
    let found = client.consume("q", true);
    assert_eq!(found[1..], ["1 basic.deliver c 1 'a' k m"]);
    let delete = ExchangeDelete {
        exchange: "a",
        ..ExchangeDelete::default()
    };
    assert_eq!(
        client.ask(1, ClientMethod::ExchangeDelete(delete)),
        ["1 exchange.delete-ok"]
    );
}
