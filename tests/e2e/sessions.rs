//! Sessions that outlive connections, sessions that move, subscriptions that are shared.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use serde_json::json;

use crate::amqp::{bind, channel, connect};
use crate::broker::{TestBroker, eventually};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5, persistent5};

/// FEATURES M6, M9: what comes while nobody is there waits, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_persistent_session_keeps_messages_in_order() {
    let broker = TestBroker::start().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");

    let mut four = options4(broker.mqtt(), "four");
    four.set_clean_session(false);
    let mut client = Mqtt4::connect(four.clone()).await.expect("connects");
    assert!(!client.session_present);
    client.subscribe("news/+", 1).await;
    client.disconnect().await;
    let mut client = Mqtt5::connect(persistent5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    assert!(!client.session_present);
    client.subscribe("news/+", 1).await;
    drop(client);

    for number in 0..50 {
        publisher
            .publish("news/world", 1, number.to_string().as_bytes())
            .await;
    }
    let mut back4 = Mqtt4::connect(four).await.expect("connects");
    let mut back5 = Mqtt5::connect(persistent5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    assert!(back4.session_present && back5.session_present);
    for number in 0..50 {
        for message in [back4.next().await, back5.next().await] {
            assert_eq!((message.text(), message.qos), (number.to_string(), 1));
        }
    }
    back4.has_nothing("own/4").await;
    back5.has_nothing("own/5").await;
}

/// A clean start throws the session away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_clean_start_ends_the_session() {
    let broker = TestBroker::start().await;
    let mut client = Mqtt5::connect(persistent5(broker.mqtt(), "c"))
        .await
        .expect("connects");
    client.subscribe("a", 1).await;
    client.disconnect().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("a", 1, b"old").await;
    let mut client = Mqtt5::connect(options5(broker.mqtt(), "c"))
        .await
        .expect("connects");
    assert!(!client.session_present);
    publisher.publish("a", 1, b"new").await;
    client.has_nothing("own").await;
}

/// FEATURES M9: a newer connection takes the session, and the older one is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_takeover_tells_the_older_connection() {
    let broker = TestBroker::start().await;
    let mut older = Mqtt5::connect(persistent5(broker.mqtt(), "one"))
        .await
        .expect("connects");
    older.subscribe("a", 1).await;
    let mut newer = Mqtt5::connect(persistent5(broker.mqtt(), "one"))
        .await
        .expect("connects");
    assert!(newer.session_present);
    let end = older.end().await;
    assert!(end.contains("SessionTakenOver"), "{end}");
    newer.publish("a", 1, b"here").await;
    assert_eq!(newer.next().await.text(), "here");
}

/// FEATURES M9: what was not acknowledged comes again, marked, before anything newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_unacknowledged_messages_come_again() {
    let broker = TestBroker::start().await;
    let mut options = persistent5(broker.mqtt(), "slow");
    options.set_manual_acks(true);
    let mut client = Mqtt5::connect(options.clone()).await.expect("connects");
    client.subscribe("jobs", 1).await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for body in ["1", "2", "3"] {
        publisher.publish("jobs", 1, body.as_bytes()).await;
    }
    let queue = broker
        .queue("mqtt-subscription-slowqos1")
        .expect("it is there");
    for expected in ["1", "2", "3"] {
        let message = client.next().await;
        assert_eq!((message.text(), message.dup), (expected.to_owned(), false));
    }
    drop(client);
    eventually("the connection is gone", || queue.view().consumers == 0).await;
    publisher.publish("jobs", 1, b"4").await;
    let mut client = Mqtt5::connect(options).await.expect("connects");
    assert!(client.session_present);
    for (expected, dup) in [("1", true), ("2", true), ("3", true), ("4", false)] {
        let publish = client.next_publish().await;
        assert_eq!(
            (&publish.payload[..], publish.dup),
            (expected.as_bytes(), dup)
        );
        client.client.ack(&publish).await.expect("there is room");
    }
    client.has_nothing_unsettled(&queue).await;
}

impl Mqtt5 {
    /// Waits until everything that the queue gave out is acknowledged.
    async fn has_nothing_unsettled(&mut self, queue: &leveret_core::queue::Queue) {
        // A round trip behind the acknowledgements.
        self.publish("elsewhere", 1, b"").await;
        assert_eq!((queue.view().ready, queue.view().unacked), (0, 0));
    }
}

/// FEATURES M14: every message goes to one member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m14_members_share_the_messages() {
    let broker = TestBroker::start().await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "four"))
        .await
        .expect("connects");
    let mut five = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    four.subscribe("$share/crew/jobs/#", 1).await;
    five.subscribe("$share/crew/jobs/#", 1).await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    let mut numbers = Vec::new();
    for round in 0..10 {
        for number in [2 * round, 2 * round + 1] {
            publisher
                .publish("jobs/x", 1, number.to_string().as_bytes())
                .await;
        }
        for _ in 0..2 {
            let message = tokio::select! {
                message = four.next() => message,
                message = five.next() => message,
            };
            numbers.push(message.text().parse::<u32>().expect("a number"));
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    four.has_nothing("own/4").await;
    five.has_nothing("own/5").await;
}

/// FEATURES M14: what a lost member held goes to the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m14_messages_of_a_lost_member_go_to_the_others() {
    let broker = TestBroker::start().await;
    let mut options = options5(broker.mqtt(), "lazy");
    options.set_manual_acks(true);
    let mut lazy = Mqtt5::connect(options).await.expect("connects");
    lazy.subscribe("$share/crew/jobs", 1).await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("jobs", 1, b"job").await;
    assert_eq!(lazy.next().await.text(), "job");
    let mut other = Mqtt5::connect(options5(broker.mqtt(), "other"))
        .await
        .expect("connects");
    other.subscribe("$share/crew/jobs", 1).await;
    drop(lazy);
    assert_eq!(other.next().await.text(), "job");
}

/// FEATURES M13: user properties stay in order, the expiry counts down, identifiers come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m13_properties_between_mqtt_5_clients() {
    let broker = TestBroker::start().await;
    let mut client = Mqtt5::connect(options5(broker.mqtt(), "c"))
        .await
        .expect("connects");
    client.subscribe("a/+", 1).await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain".to_owned()),
        correlation_data: Some(vec![0, 159, 146, 150].into()),
        response_topic: Some("answers".to_owned()),
        message_expiry_interval: Some(100),
        user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3")],
        ..PublishProperties::default()
    };
    client
        .publish_with("a/b", b"text", properties.clone())
        .await;
    let message = client.next().await;
    let left = message
        .properties
        .message_expiry_interval
        .expect("it expires");
    assert!((1..=100).contains(&left), "{left}");
    let expected = PublishProperties {
        message_expiry_interval: Some(left),
        ..properties
    };
    assert_eq!(message.properties, expected);
}

/// FEATURES M6, O2: what is dropped is counted by reason, also after its queue has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_what_is_dropped_is_counted_by_reason() {
    let broker = TestBroker::start().await;
    let mut absent = options4(broker.mqtt(), "absent");
    absent.set_clean_session(false);
    let mut client = Mqtt4::connect(absent.clone()).await.expect("connects");
    client.subscribe("news/+", 0).await;
    client.disconnect().await;

    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), 1.into());
    let options = QueueDeclareOptions::default();
    let declared = channel.queue_declare("short".into(), options, arguments);
    declared.await.expect("declares");
    bind(&channel, "short", "amq.topic", "news.#").await;

    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for _ in 0..4 {
        publisher.publish("news/world", 0, b"x").await;
    }
    publisher.publish("news", 1, b"all are there now").await;
    let counted = json!({
        "expired": 0,
        "maxlen": 4,
        "offline": 4,
        "overflow": 0,
        "too_large": 0,
        "unaddressable": 0,
        "unreadable": 0,
        "delivery_limit": 0,
        "dead_letter": 0,
        "max_online_messages": 0,
        "max_offline_messages": 0,
        "not_authorized": 0,
        "reserved_topic": 0,
        "retained_limit": 0,
        "reject": 0,
        "will": 0,
        "revoked": 0,
    });
    let status = broker.ctl("status", json!({})).await;
    assert_eq!(status["messages_dropped"], counted);
    let columns = json!({ "vhost": "/", "columns": ["name", "messages_dropped"] });
    let queues = broker.ctl("list_queues", columns).await;
    let dropped = json!([
        { "name": "mqtt-subscription-absentqos0", "messages_dropped": 4 },
        { "name": "short", "messages_dropped": 4 },
    ]);
    assert_eq!(queues, dropped);

    absent.set_clean_session(true);
    let back = Mqtt4::connect(absent).await.expect("connects");
    back.disconnect().await;
    assert!(broker.queue("mqtt-subscription-absentqos0").is_none());
    let status = broker.ctl("status", json!({})).await;
    assert_eq!(status["messages_dropped"], counted);
}
