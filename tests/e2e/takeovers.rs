//! Who has a client id: its session's user, over restarts as well, and what happens when many want
//! it.

use std::fs::File;

use rumqttc::v5::MqttOptions;

use leveret_mqtt::options::{DeliverMode, OfListener, ProtocolVersions};
use leveret_net::options::Protocol;

use crate::broker::{TestBroker, eventually, listener, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5, persistent5};
use crate::program::Program;

fn as_user(mut options: MqttOptions, user: &str) -> MqttOptions {
    options.set_credentials(user, "secret");
    options
}

/// FEATURES M9, class A2: nobody has another user's session, whether its owner is there, is away,
/// or has not been seen since the broker was started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_client_id_cannot_be_stolen() {
    let broker = TestBroker::start().await;
    broker.add_user("owner", "secret", &["/"]).await;
    broker.add_user("thief", "secret", &["/"]).await;
    let owner = |broker: &TestBroker| as_user(persistent5(broker.mqtt(), "meter"), "owner");
    let mut client = Mqtt5::connect(owner(&broker)).await.expect("connects");
    client.subscribe("bills", 1).await;
    refused(&broker).await;
    client.publish("own", 1, b"still here").await;
    client.disconnect().await;
    refused(&broker).await;

    let broker = broker.restart().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("bills", 1, b"for the owner").await;
    refused(&broker).await;
    let mut client = Mqtt5::connect(owner(&broker)).await.expect("connects");
    assert!(client.session_present);
    assert_eq!(client.next().await.text(), "for the owner");
    // What its owner has ended is free.
    client.disconnect().await;
    let ended = as_user(options5(broker.mqtt(), "meter"), "owner");
    let client = Mqtt5::connect(ended).await.expect("connects");
    client.disconnect().await;
    let queue = "mqtt-subscription-meterqos1";
    eventually("the session is over", || broker.queue(queue).is_none()).await;
    let thief = as_user(persistent5(broker.mqtt(), "meter"), "thief");
    let client = Mqtt5::connect(thief).await.expect("connects");
    assert!(!client.session_present);
}

/// The thief tries to resume the session, to end it, and with MQTT 3.1.1.
async fn refused(broker: &TestBroker) {
    for wish in [persistent5, options5] {
        let wish = as_user(wish(broker.mqtt(), "meter"), "thief");
        let answer = Mqtt5::connect(wish).await.err().expect("it is refused");
        assert!(answer.contains("ClientIdentifierNotValid"), "{answer}");
    }
    let mut wish = options4(broker.mqtt(), "meter");
    wish.set_credentials("thief", "secret");
    let answer = Mqtt4::connect(wish).await.err().expect("it is refused");
    assert!(answer.contains("BadClientId"), "{answer}");
}

/// FEATURES M9: where ids are not bound, whoever comes last has the session, and owns it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_ids_that_are_not_bound_change_hands() {
    let broker = TestBroker::start_with(|config| config.mqtt.client_ids_bound = false).await;
    broker.add_user("one", "secret", &["/"]).await;
    broker.add_user("two", "secret", &["/"]).await;
    let mut client = Mqtt5::connect(as_user(persistent5(broker.mqtt(), "c"), "one"))
        .await
        .expect("connects");
    client.subscribe("t", 1).await;
    let owner = |broker: &TestBroker| {
        let queue = broker
            .queue("mqtt-subscription-cqos1")
            .expect("it is there");
        queue.session().map(|session| session.user.to_string())
    };
    assert_eq!(owner(&broker).as_deref(), Some("one"));
    let newer = Mqtt5::connect(as_user(persistent5(broker.mqtt(), "c"), "two"))
        .await
        .expect("connects");
    assert!(newer.session_present);
    assert_eq!(owner(&broker).as_deref(), Some("two"));
    newer.disconnect().await;
    let broker = broker.restart().await;
    assert_eq!(owner(&broker).as_deref(), Some("two"));
}

/// FEATURES M9: two clients that share an id are told of once, with their users and peers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m9_a_takeover_storm_is_logged_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let data = directory.path().join("data");
    let file = File::create(&log).expect("a file");
    let program = tokio::task::spawn_blocking(move || Program::start_logging(&data, file));
    let program = within(program).await.expect("it starts");
    let address = program.address("MQTT").parse().expect("an address");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut options = options4(address, "twin");
        options.set_clean_session(false);
        clients.push(Mqtt4::connect(options).await.expect("connects"));
    }
    let said = std::fs::read_to_string(&log).expect("is text");
    let storms: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("takeover storm"))
        .collect();
    assert_eq!(storms.len(), 1, "{said}");
    for part in ["twin", "guest", "127.0.0.1:"] {
        assert!(storms[0].contains(part), "{part} in {}", storms[0]);
    }
}

/// FEATURES M19: where the operator allows it, nobody is replaced: each connection has a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m19_connections_with_one_id_stay_beside_each_other() {
    let broker = TestBroker::start_with(|config| config.mqtt.multiple_sessions = true).await;
    let connect = || Mqtt5::connect(persistent5(broker.mqtt(), "twin"));
    let mut first = connect().await.expect("connects");
    first.subscribe("news/+", 1).await;
    let mut second = connect().await.expect("connects");
    assert!(second.session_present);
    first.publish("news/a", 1, b"both").await;
    assert_eq!(first.next().await.text(), "both");
    assert_eq!(second.next().await.text(), "both");
    let own = "mqtt-subscription-twin~2qos1";
    assert!(broker.queue(own).is_some());
    second.disconnect().await;
    eventually("its queue is gone", || broker.queue(own).is_none()).await;
    first.publish("news/a", 1, b"one").await;
    assert_eq!(first.next().await.text(), "one");
}

/// FEATURES M19: balanced, each message goes to one of them, and nothing is lost with one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m19_balanced_connections_share_a_session() {
    let broker = TestBroker::start_with(|config| {
        config.mqtt.multiple_sessions = true;
        config.mqtt.deliver_mode = DeliverMode::Balance;
    })
    .await;
    let connect = || {
        let mut options = persistent5(broker.mqtt(), "worker");
        options.set_manual_acks(true);
        Mqtt5::connect(options)
    };
    let mut first = connect().await.expect("connects");
    first.subscribe("jobs", 1).await;
    let mut second = connect().await.expect("connects");
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for body in ["1", "2"] {
        publisher.publish("jobs", 1, body.as_bytes()).await;
    }
    let mut seen = [first.next().await.text(), second.next().await.text()];
    let of_second = seen[1].clone();
    seen.sort();
    assert_eq!(seen, ["1", "2"]);
    drop(second);
    assert_eq!(
        first.next().await.text(),
        of_second,
        "it was never acknowledged"
    );
}

/// FEATURES M1: a listener has protocol versions of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_listeners_have_versions_of_their_own() {
    let broker = TestBroker::start_with(|config| {
        config.net.listeners.push(listener(Protocol::Mqtt, "new"));
        let new = OfListener {
            protocol_versions: Some(ProtocolVersions {
                v3: false,
                v4: false,
                v5: true,
            }),
            ..OfListener::default()
        };
        config.mqtt.listeners.insert("new".to_owned(), new);
    })
    .await;
    let new = broker.port(Protocol::Mqtt, 1);
    let refused = Mqtt4::connect(options4(new, "old")).await;
    let why = refused.err().expect("it is refused");
    assert!(why.contains("RefusedProtocolVersion"), "{why}");
    Mqtt5::connect(options5(new, "new"))
        .await
        .expect("connects");
    Mqtt4::connect(options4(broker.mqtt(), "old"))
        .await
        .expect("connects");
}
