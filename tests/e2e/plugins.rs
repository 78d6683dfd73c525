//! The MQTT adapter is a plugin: switched off and on while the broker runs.

use serde_json::json;
use tokio::net::TcpStream;

use crate::amqp::{bound_queue, channel, connect, consume_no_ack, next_text, publish};
use crate::broker::{TestBroker, within};
use crate::mqtt::{Mqtt4, Mqtt5, options5, persistent5};

async fn switch(broker: &TestBroker, change: &str) {
    let wish = json!({ "change": change, "names": ["rabbitmq_mqtt"] });
    broker.ctl("change_plugins", wish).await;
}

/// FEATURES O1: MQTT goes and comes back; AMQP clients and MQTT sessions notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_switching_mqtt_keeps_sessions_and_amqp() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.topic", "news").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;
    let mut kept = Mqtt5::connect(persistent5(broker.mqtt(), "kept"))
        .await
        .expect("connects");
    kept.subscribe("news", 1).await;
    let mut clean = Mqtt5::connect(options5(broker.mqtt(), "clean"))
        .await
        .expect("connects");
    let port = broker.mqtt();

    let ((), kept_end, clean_end) =
        tokio::join!(switch(&broker, "disable"), kept.end(), clean.end());
    for end in [kept_end, clean_end] {
        assert!(end.contains("ServerDisconnect"), "{end}");
    }
    assert!(
        within(TcpStream::connect(port)).await.is_err(),
        "nobody listens"
    );
    publish(&channel, "amq.topic", "news", b"while it was off").await;
    assert_eq!(next_text(&mut consumer).await, "while it was off");

    switch(&broker, "enable").await;
    let mut back = Mqtt5::connect(persistent5(broker.mqtt(), "kept"))
        .await
        .expect("connects");
    assert!(back.session_present);
    assert_eq!(back.next().await.text(), "while it was off");
    publish(&channel, "amq.topic", "news", b"on again").await;
    assert_eq!(back.next().await.text(), "on again");
    assert_eq!(next_text(&mut consumer).await, "on again");
}

/// What is off stays off over a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_switches_survive_a_restart() {
    let broker = TestBroker::start().await;
    switch(&broker, "disable").await;
    let broker = broker.restart().await;
    connect(&broker).await;
    let listed = broker.ctl("status", json!({})).await;
    assert!(!listed.to_string().contains("\"mqtt\""), "{listed}");
    switch(&broker, "enable").await;
    let broker = broker.restart().await;
    let options = crate::mqtt::options4(broker.mqtt(), "c");
    Mqtt4::connect(options).await.expect("connects");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_unknown_plugins_are_refused() {
    let broker = TestBroker::start().await;
    let wish = json!({ "change": "enable", "names": ["rabbitmq_nothing"] });
    let failure = broker
        .try_ctl("change_plugins", wish)
        .await
        .expect_err("unknown");
    assert!(failure.text.contains("rabbitmq_nothing"), "{failure}");
    let options = options5(broker.mqtt(), "c");
    Mqtt5::connect(options).await.expect("nothing else changed");
}
