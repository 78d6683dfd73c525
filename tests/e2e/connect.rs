//! Connecting, what is negotiated, what is said when the broker stops.

use futures_lite::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};

use crate::amqp::{
    channel, connect, consume, consume_no_ack, declare, next, reply_code, try_connect,
};
use crate::broker::{TestBroker, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5};

/// The smaller of both wishes counts, AMQP 0-9-1 §1.4.2.6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_heartbeat_and_sizes_are_negotiated() {
    let broker = TestBroker::start_with(|config| {
        config.amqp.channel_max = 7;
        config.amqp.frame_max = 8_192;
    })
    .await;
    let wished = try_connect(broker.amqp(), "guest:guest", "%2f?heartbeat=9").await;
    let wished = wished.expect("guest may");
    let configuration = wished.configuration();
    assert_eq!(configuration.heartbeat(), 9);
    assert_eq!(configuration.channel_max(), 7);
    assert_eq!(configuration.frame_max(), 8_192);
    let views: Vec<_> = broker
        .core()
        .peers()
        .iter()
        .map(|(_, peer)| peer.view())
        .collect();
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].timeout_s, views[0].channel_max), (9, 7));
    assert_eq!((&*views[0].user, &*views[0].vhost), ("guest", "/"));

    let default = connect(&broker).await;
    assert_eq!(default.configuration().heartbeat(), 60);
}

/// A body of many frames arrives as it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_large_bodies_are_split_and_joined() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "large", QueueDeclareOptions::default()).await;
    let mut consumer = consume_no_ack(&channel, "large").await;
    let body: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = channel.basic_publish(
        "".into(),
        "large".into(),
        BasicPublishOptions::default(),
        &body,
        BasicProperties::default(),
    );
    within(sent).await.expect("may be sent");
    let delivery = next(&mut consumer).await;
    assert!(
        delivery.data == body,
        "{} bytes came back",
        delivery.data.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_one_port_speaks_both_versions() {
    let broker = TestBroker::start().await;
    let four = Mqtt4::connect(options4(broker.mqtt(), "four"))
        .await
        .expect("3.1.1");
    let five = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("5.0");
    let peers = broker.core().peers();
    let mut protocols: Vec<_> = peers.iter().map(|(_, peer)| peer.view().protocol).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["MQTT 3-1-1", "MQTT 5-0"]);
    four.disconnect().await;
    five.disconnect().await;
}

/// FEATURES L8: everybody is told why, and the broker does end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l8_shutdown_tells_every_client() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "idle", QueueDeclareOptions::default()).await;
    let mut consumer = consume(&channel, "idle").await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "four"))
        .await
        .expect("3.1.1");
    let mut five = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("5.0");
    let amqp_end = async {
        loop {
            match within(consumer.next()).await {
                Some(Err(error)) => return reply_code(&error),
                Some(Ok(_)) => {}
                None => return 0,
            }
        }
    };
    let ends = async { tokio::join!(amqp_end, four.end(), five.end()) };
    let ((), (amqp, _, five)) = tokio::join!(broker.stop(), ends);
    // 320 is CONNECTION_FORCED, 0x8B is Server shutting down.
    assert_eq!(amqp, 320);
    assert!(five.contains("ServerShuttingDown"), "{five}");
}
