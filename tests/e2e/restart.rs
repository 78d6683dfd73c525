//! What is there again after a stop and a start on the same data directory.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::amqp::{
    ack, bind, channel, connect, consume, consume_no_ack, declare, next, next_text, publish,
    try_connect,
};
use crate::broker::{TestBroker, eventually, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5, persistent5};

/// Users, vhosts, permissions and parameters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_what_administrators_set_survives() {
    let broker = TestBroker::start().await;
    broker.ctl("add_vhost", json!({ "name": "red" })).await;
    broker.ctl("add_vhost", json!({ "name": "gone" })).await;
    broker.add_user("anna", "secret", &["red"]).await;
    broker.permit("anna", "red", ["^a", "^b", "^c"]).await;
    let tags = json!({ "username": "anna", "tags": ["monitoring"] });
    broker.ctl("set_user_tags", tags).await;
    let topics = json!({
        "username": "anna", "vhost": "red", "exchange": "amq.topic",
        "write": "^w", "read": "^r",
    });
    broker.ctl("set_topic_permissions", topics).await;
    let parameter = json!({ "name": "mqtt_port_to_vhost_mapping", "value": "{\"1\":\"red\"}" });
    broker.ctl("set_global_parameter", parameter).await;
    broker.ctl("delete_vhost", json!({ "name": "gone" })).await;

    let questions = [
        ("list_users", json!({})),
        ("list_vhosts", json!({})),
        ("list_permissions", json!({ "vhost": "red" })),
        ("list_topic_permissions", json!({ "vhost": "red" })),
        ("list_global_parameters", json!({})),
    ];
    let mut before = Vec::new();
    for (command, arguments) in &questions {
        before.push(broker.ctl(command, arguments.clone()).await);
    }
    let all = format!("{before:?}");
    for part in [
        "anna",
        "monitoring",
        "^a",
        "^w",
        "mqtt_port_to_vhost_mapping",
        "red",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let broker = broker.restart().await;
    for ((command, arguments), before) in questions.into_iter().zip(before) {
        assert_eq!(broker.ctl(command, arguments).await, before, "{command}");
    }
    try_connect(broker.amqp(), "anna:secret", "red")
        .await
        .expect("anna may");
    try_connect(broker.amqp(), "anna:secret", "gone")
        .await
        .expect_err("it is gone");
}

/// Durable exchanges, queues and bindings stay; the others go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_durable_topology_survives() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let held = channel(&connection).await;
    for (name, durable) in [("kept", true), ("lost", false)] {
        let options = ExchangeDeclareOptions {
            durable,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Topic;
        let declared = held.exchange_declare(name.into(), kind, options, FieldTable::default());
        within(declared).await.expect("may be declared");
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(3_600_000));
    let durable = QueueDeclareOptions::durable();
    let declared = held.queue_declare("kept".into(), durable, arguments.clone());
    within(declared).await.expect("may be declared");
    declare(&held, "lost", QueueDeclareOptions::default()).await;
    bind(&held, "kept", "kept", "a.#").await;
    bind(&held, "kept", "lost", "b").await;

    let broker = broker.restart().await;
    assert!(broker.queue("kept").is_some() && broker.queue("lost").is_none());
    let connection = connect(&broker).await;
    let again = channel(&connection).await;
    // Equivalent means: with its arguments.
    let declared = again.queue_declare("kept".into(), durable, arguments);
    within(declared).await.expect("it is as it was");
    let mut consumer = consume_no_ack(&again, "kept").await;
    publish(&again, "kept", "a.b.c", b"routed").await;
    assert_eq!(next_text(&mut consumer).await, "routed");
    let bindings = broker
        .ctl("list_bindings", json!({ "vhost": "/" }))
        .await
        .to_string();
    assert!(!bindings.contains("\"lost\""), "{bindings}");
}

/// FEATURES M6: a persistent session is there again, with its subscriptions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_persistent_sessions_survive() {
    let broker = TestBroker::start().await;
    let mut four = options4(broker.mqtt(), "four");
    four.set_clean_session(false);
    let mut client = Mqtt4::connect(four).await.expect("connects");
    client.subscribe("a/+", 1).await;
    client.subscribe("b/#", 0).await;
    client.disconnect().await;
    let mut client = Mqtt5::connect(persistent5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    client.subscribe("a/+", 1).await;
    // This one is connected when the broker stops.
    let ((), broker) = tokio::join!(async { drop(client.end().await) }, broker.restart());

    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("a/b", 1, b"while away").await;
    let mut four = options4(broker.mqtt(), "four");
    four.set_clean_session(false);
    let mut four = Mqtt4::connect(four).await.expect("connects");
    let mut five = Mqtt5::connect(persistent5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    assert!(four.session_present && five.session_present);
    for message in [four.next().await, five.next().await] {
        assert_eq!(
            (&*message.topic, &*message.text(), message.qos),
            ("a/b", "while away", 1)
        );
    }
    publisher.publish("b/c/d", 1, b"now").await;
    let message = four.next().await;
    assert_eq!((&*message.topic, message.qos), ("b/c/d", 0));
}

/// FEATURES D1, M6, M9: persistent messages in durable queues survive, in order and with their
/// properties; those that were settled, and transient ones, do not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_persistent_messages_survive() {
    let broker = TestBroker::start().await;
    let mut session = Mqtt5::connect(persistent5(broker.mqtt(), "s"))
        .await
        .expect("connects");
    session.subscribe("news/#", 1).await;
    let connection = connect(&broker).await;
    let held = channel(&connection).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    declare(&held, "kept", durable).await;
    bind(&held, "kept", "amq.topic", "news.#").await;
    let mut publisher = Mqtt5::connect(options5(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("news/first", 1, b"settled").await;
    assert_eq!(session.next().await.payload, b"settled");
    drop(session);
    for number in 0..20 {
        let text = number.to_string();
        publisher.publish("news/world", 1, text.as_bytes()).await;
        publisher.publish("news/world", 0, b"transient").await;
    }
    publisher.publish("news/end", 1, b"end").await;
    let queue = broker.queue("kept").expect("it is there");
    assert_eq!(queue.counts().0, 42);
    let status = broker.ctl("status", json!({})).await;
    // 22 persistent ones of the queue, 21 of the session, which has acknowledged the first.
    let messages = status["journal"]["messages"].as_u64();
    assert!(messages >= Some(43), "{status}");
    assert_eq!(status["journal"]["stuck"], json!(null));

    let broker = broker.restart().await;
    let mut session = Mqtt5::connect(persistent5(broker.mqtt(), "s"))
        .await
        .expect("connects");
    assert!(session.session_present);
    let connection = connect(&broker).await;
    let held = channel(&connection).await;
    let mut consumer = consume(&held, "kept").await;
    for number in 0..22 {
        let expected = match number {
            0 => "settled".to_owned(),
            21 => "end".to_owned(),
            _ => (number - 1).to_string(),
        };
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.data, expected.as_bytes());
        assert!(delivery.redelivered, "it was there before");
        ack(&delivery).await;
        if number > 0 {
            let message = session.next().await;
            assert_eq!(message.payload, expected.as_bytes());
        }
    }
    drop(connection);
    session.disconnect().await;
    let broker = broker.restart().await;
    eventually("nothing comes back", || {
        broker
            .queue("kept")
            .is_some_and(|queue| queue.counts().0 == 0)
    })
    .await;
}
