//! What the broker tells of itself: `$SYS` and the event exchange.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use crate::amqp;
use crate::broker::{TestBroker, eventually};
use crate::mqtt::{Message, Mqtt4, Mqtt5, options4, options5};

/// A client of MQTT 5.0 that is let in.
async fn client(broker: &TestBroker, id: &str) -> Mqtt5 {
    Mqtt5::connect(options5(broker.mqtt(), id))
        .await
        .expect("it is let in")
}

/// The last level of the topic, and the payload.
fn told(message: &Message) -> (String, Value) {
    let last = message.topic.rsplit('/').next().unwrap_or_default();
    let payload = serde_json::from_slice(&message.payload).expect("is JSON");
    (last.to_owned(), payload)
}

/// FEATURES M15: who comes, subscribes and goes, and why, each under its own topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_presence_under_sys() {
    let broker = TestBroker::start().await;
    let mut watcher = client(&broker, "watcher").await;
    watcher.subscribe("$SYS/+/clients/dev%2F1/+", 0).await;
    let mut device = client(&broker, "dev/1").await;
    device.subscribe("a/#", 1).await;
    device
        .client
        .unsubscribe("a/#")
        .await
        .expect("there is room");
    device.disconnect().await;
    // Another version, and a connection that is replaced.
    let mut old = Mqtt4::connect(options4(broker.mqtt(), "dev/1"))
        .await
        .expect("it is let in");
    let mut new = client(&broker, "dev/1").await;
    old.end().await;
    new.has_nothing("x").await;
    let mut words = Vec::new();
    let mut last = Vec::new();
    for _ in 0..9 {
        let (word, json) = told(&watcher.next().await);
        assert_eq!(json["event"], word.as_str());
        assert_eq!(json["client_id"], "dev/1");
        assert_eq!(
            (&json["username"], &json["vhost"]),
            (&"guest".into(), &"/".into())
        );
        assert!(json["time_ms"].as_u64() > Some(1_600_000_000_000), "{json}");
        assert!(
            json["peer"]
                .as_str()
                .is_some_and(|peer| peer.starts_with("127."))
        );
        words.push(word);
        last.push(json);
    }
    let expected = [
        "connected",
        "subscribed",
        "unsubscribed",
        "disconnected",
        "connected",
    ];
    assert_eq!(words[..5], expected);
    assert_eq!(last[0]["protocol"], "MQTT 5-0");
    assert_eq!(last[0]["session_present"], false);
    assert_eq!(
        (&last[1]["filter"], &last[1]["qos"]),
        (&"a/#".into(), &1.into())
    );
    assert_eq!(last[2]["filter"], "a/#");
    assert_eq!(last[3]["reason_code"], 0);
    assert_eq!(last[4]["protocol"], "MQTT 3-1-1");
    // The newcomer does not wait for the other to go.
    let mut rest: Vec<_> = words[5..].to_vec();
    rest.sort();
    assert_eq!(rest[..2], ["connected", "disconnected"]);
    assert!(words.contains(&"taken_over".to_owned()), "{words:?}");
    let replaced = last[5..]
        .iter()
        .find(|json| json["event"] == "disconnected");
    assert_eq!(
        replaced.map(|json| &json["reason_code"]),
        Some(&0x8E.into())
    );
    broker.stop().await;
}

/// FEATURES M15: a loss without DISCONNECT has its reason; `#` gets nothing of `$SYS`, neither in
/// MQTT nor in AMQP; who may not read gets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_losses_and_who_gets_them() {
    let broker = TestBroker::start().await;
    let connection = amqp::connect(&broker).await;
    let channel = amqp::channel(&connection).await;
    let queue = amqp::bound_queue(&channel, "amq.topic", "#").await;
    let mut consumer = amqp::consume_no_ack(&channel, &queue).await;
    let mut everything = client(&broker, "everything").await;
    everything.subscribe("#", 0).await;
    let mut watcher = client(&broker, "watcher").await;
    watcher.subscribe("$SYS/+/clients/+/disconnected", 0).await;
    let lost = client(&broker, "lost").await;
    drop(lost);
    let (_, json) = told(&watcher.next().await);
    assert_eq!(
        (&json["client_id"], &json["reason_code"]),
        (&"lost".into(), &0x80.into())
    );
    assert_eq!(json["reason"], "the connection was lost");
    everything.has_nothing("own").await;
    let delivery = amqp::next(&mut consumer).await;
    assert_eq!(delivery.routing_key.as_str(), "own");
    broker.stop().await;
}

/// FEATURES M15: a virtual host hears of its own clients alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_each_vhost_hears_of_its_own() {
    let broker = TestBroker::start().await;
    for (vhost, user) in [("red", "rita"), ("blue", "bert")] {
        broker
            .ctl("add_vhost", serde_json::json!({"name": vhost}))
            .await;
        broker.add_user(user, "pw", &[vhost]).await;
    }
    let login = |id: &str, name: &str| {
        let mut options = options5(broker.mqtt(), id);
        options.set_credentials(name, "pw");
        options
    };
    let mut red = Mqtt5::connect(login("r1", "red:rita"))
        .await
        .expect("let in");
    red.subscribe("$SYS/+/clients/+/connected", 0).await;
    let _blue = Mqtt5::connect(login("b1", "blue:bert"))
        .await
        .expect("let in");
    let _other = Mqtt5::connect(login("r2", "red:rita"))
        .await
        .expect("let in");
    let (_, json) = told(&red.next().await);
    assert_eq!(
        (&json["client_id"], &json["vhost"]),
        (&"r2".into(), &"red".into())
    );
    broker.stop().await;
}

/// FEATURES M15: the broker's figures under VerneMQ's names and mosquitto's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_figures_under_sys() {
    let broker = TestBroker::start_with(|config| {
        config.mqtt.systree.interval_ms = 20;
        config.mqtt.systree.qos = 1;
    })
    .await;
    let mut watcher = client(&broker, "watcher").await;
    watcher.retain("kept", b"x").await;
    watcher.subscribe("$SYS/+/active/mqtt/connections", 1).await;
    watcher.subscribe("$SYS/broker/+/count", 0).await;
    let expected = [
        ("connections", "1"),
        ("subscriptions/count", "2"),
        ("retained messages/count", "1"),
    ];
    let mut found = std::collections::BTreeMap::new();
    // The first may be from before the second subscription.
    while !expected.iter().all(|(name, value)| {
        let mut named = found
            .iter()
            .filter(|(topic, _): &(&String, &String)| topic.ends_with(name));
        named.next().is_some_and(|(_, found)| found == value)
    }) {
        let message = watcher.next().await;
        assert!(message.topic.starts_with("$SYS/"), "{message:?}");
        found.insert(message.topic.clone(), message.text());
    }
    let node = found.keys().find(|topic| topic.ends_with("/connections"));
    assert!(
        node.is_some_and(|topic| topic.starts_with("$SYS/leveret@")),
        "{found:?}"
    );
    broker.stop().await;
}

/// FEATURES M15: off is off; retained figures need nobody who listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_switches() {
    let broker = TestBroker::start_with(|config| {
        config.mqtt.presence_events = false;
        config.mqtt.systree.interval_ms = 20;
        config.mqtt.systree.retain = true;
    })
    .await;
    let vhost = broker.core().vhost("/").expect("it is there");
    eventually("figures are retained", || vhost.retained_count() >= 15).await;
    let mut watcher = client(&broker, "watcher").await;
    watcher.subscribe("$SYS/+/clients/other/#", 0).await;
    drop(client(&broker, "other").await);
    watcher.subscribe("$SYS/broker/version", 0).await;
    let message = watcher.next().await;
    assert_eq!(message.topic, "$SYS/broker/version");
    assert!(message.text().starts_with("leveret version "));
    broker.stop().await;
}

/// FEATURES M15, O11: the same on the event exchange, with RabbitMQ's keys and headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o11_events_for_amqp_consumers() {
    let broker = TestBroker::start().await;
    let connection = amqp::connect(&broker).await;
    let channel = amqp::channel(&connection).await;
    let queue = amqp::bound_queue(&channel, "amq.rabbitmq.event", "#").await;
    let mut consumer = amqp::consume_no_ack(&channel, &queue).await;
    let mut options = options5(broker.mqtt(), "bad");
    options.set_credentials("nobody", "wrong");
    assert!(Mqtt5::connect(options).await.is_err());
    let mut device = client(&broker, "device").await;
    device.subscribe("a", 1).await;
    device.disconnect().await;
    let expected = [
        ("user.authentication.failure", "bad"),
        ("user.authentication.success", "device"),
        ("connection.created", "device"),
        ("mqtt.client.subscribed", "device"),
        ("connection.closed", "device"),
    ];
    for (key, id) in expected {
        let delivery = amqp::next(&mut consumer).await;
        assert_eq!(delivery.routing_key.as_str(), key);
        assert_eq!(delivery.exchange.as_str(), "amq.rabbitmq.event");
        assert_eq!(*delivery.properties.delivery_mode(), Some(2));
        assert!(delivery.properties.timestamp().is_some());
        let json: Value = serde_json::from_slice(&delivery.data).expect("is JSON");
        assert_eq!(json["client_id"], id, "{key}");
        let headers = delivery.properties.headers().clone().expect("it has some");
        assert_eq!(text(&headers, "vhost"), "/");
        assert_eq!(text(&headers, "peer_host"), "127.0.0.1");
        let port = headers.inner().get("port");
        assert_eq!(port, Some(&AMQPValue::LongInt(broker.mqtt().port().into())));
        assert!(headers.inner().contains_key("timestamp_in_ms"));
        assert!(text(&headers, "name").ends_with(&format!(" -> {}", broker.mqtt())));
    }
    // It is internal: nobody else publishes to it.
    let refused = broker
        .core()
        .vhost("/")
        .and_then(|vhost| vhost.exchange("amq.rabbitmq.event"));
    assert!(refused.is_some_and(|exchange| exchange.properties().internal));
    broker.stop().await;
}

fn text(headers: &FieldTable, name: &str) -> String {
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}
