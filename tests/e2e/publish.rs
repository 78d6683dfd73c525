//! Publish and subscribe between MQTT clients: every QoS, retained messages, wills.

use rumqttc::v5;
use rumqttc::{LastWill, QoS};

use crate::broker::{TestBroker, eventually};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5};

/// FEATURES M7, M8: what is granted, and what arrives, for every pair of levels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m8_quality_of_service_of_every_pair() {
    let broker = TestBroker::start().await;
    let granted = [
        "[Success(AtMostOnce)]",
        "[Success(AtLeastOnce)]",
        "[Success(AtLeastOnce)]",
    ];
    let mut publisher4 = Mqtt4::connect(options4(broker.mqtt(), "p4"))
        .await
        .expect("connects");
    let mut publisher5 = Mqtt5::connect(options5(broker.mqtt(), "p5"))
        .await
        .expect("connects");
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "s4"))
        .await
        .expect("connects");
    let mut five = Mqtt5::connect(options5(broker.mqtt(), "s5"))
        .await
        .expect("connects");
    for wanted in 0..=2_u8 {
        let filter = format!("level/{wanted}");
        assert_eq!(
            four.subscribe(&filter, wanted).await,
            granted[wanted as usize]
        );
        assert_eq!(
            five.subscribe(&filter, wanted).await,
            granted[wanted as usize]
        );
        for sent in 0..=2_u8 {
            let qos = sent.min(wanted).min(1);
            for from in [4, 5] {
                if from == 4 {
                    publisher4.publish(&filter, sent, b"x").await;
                } else {
                    publisher5.publish(&filter, sent, b"x").await;
                }
                for message in [four.next().await, five.next().await] {
                    let what = format!("{sent} of {from} to {wanted}");
                    assert_eq!(message.topic, filter, "{what}");
                    assert_eq!((message.qos, message.retain), (qos, false), "{what}");
                }
            }
        }
    }
}

/// FEATURES M10: set, replaced, cleared; a live delivery is not retained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_retained_set_replaced_cleared() {
    let broker = TestBroker::start().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.retain("lamps/hall", b"off").await;
    publisher.retain("lamps/hall", b"on").await;
    publisher.retain("lamps/attic", b"off").await;

    let mut late = Mqtt5::connect(options5(broker.mqtt(), "late"))
        .await
        .expect("connects");
    late.subscribe("lamps/+", 1).await;
    let mut states = [late.next().await, late.next().await];
    states.sort_by(|a, b| a.topic.cmp(&b.topic));
    let told = states.map(|m| (m.topic.clone(), m.text(), m.retain));
    assert_eq!(told[0], ("lamps/attic".to_owned(), "off".to_owned(), true));
    assert_eq!(told[1], ("lamps/hall".to_owned(), "on".to_owned(), true));

    // Clearing is a message for those who are there; live messages are not retained.
    publisher.retain("lamps/hall", b"").await;
    let cleared = late.next().await;
    assert_eq!((cleared.text(), cleared.retain), (String::new(), false));

    let mut later = Mqtt4::connect(options4(broker.mqtt(), "later"))
        .await
        .expect("connects");
    later.subscribe("lamps/#", 0).await;
    assert_eq!(later.next().await.topic, "lamps/attic");
    later.has_nothing("own").await;
}

/// FEATURES M11: a broken connection has its will published, a DISCONNECT has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m11_will_of_a_broken_connection() {
    let broker = TestBroker::start().await;
    let mut watcher = Mqtt4::connect(options4(broker.mqtt(), "w"))
        .await
        .expect("connects");
    watcher.subscribe("wills/+", 1).await;

    let mut polite = options4(broker.mqtt(), "polite");
    polite.set_last_will(LastWill::new(
        "wills/polite",
        "gone",
        QoS::AtLeastOnce,
        false,
    ));
    let polite = Mqtt4::connect(polite).await.expect("connects");
    polite.disconnect().await;

    let mut four = options4(broker.mqtt(), "four");
    four.set_last_will(LastWill::new("wills/four", "gone", QoS::AtLeastOnce, true));
    drop(Mqtt4::connect(four).await.expect("connects"));
    let will = watcher.next().await;
    assert_eq!(
        (&*will.topic, &*will.text(), will.qos),
        ("wills/four", "gone", 1)
    );

    let mut five = options5(broker.mqtt(), "five");
    let qos = v5::mqttbytes::QoS::AtMostOnce;
    let last_will = v5::mqttbytes::v5::LastWill::new("wills/five", "gone", qos, false, None);
    five.set_last_will(last_will);
    drop(Mqtt5::connect(five).await.expect("connects"));
    assert_eq!(watcher.next().await.topic, "wills/five");

    // The retained one stays for those who come later.
    let mut late = Mqtt5::connect(options5(broker.mqtt(), "late"))
        .await
        .expect("connects");
    late.subscribe("wills/#", 0).await;
    let kept = late.next().await;
    assert_eq!((&*kept.topic, kept.retain), ("wills/four", true));
    late.has_nothing("own").await;
    watcher.has_nothing("own").await;
}

/// FEATURES M6: what a clean session had goes with its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_clean_session_leaves_nothing() {
    let broker = TestBroker::start().await;
    let mut client = Mqtt4::connect(options4(broker.mqtt(), "guest-1"))
        .await
        .expect("connects");
    client.subscribe("a", 0).await;
    client.subscribe("b", 1).await;
    let names = [
        "mqtt-subscription-guest-1qos0",
        "mqtt-subscription-guest-1qos1",
    ];
    for name in names {
        assert!(broker.queue(name).is_some(), "{name}");
    }
    client.disconnect().await;
    eventually("both queues are gone", || {
        names.iter().all(|name| broker.queue(name).is_none())
    })
    .await;
}
