//! What a changed permission does to those who are connected and to those who are not. Clients over
//! sockets; `tests/spec/flows/reauthorise.json` has the whole matrix, with a clock.

use futures_lite::StreamExt;
use serde_json::json;

use crate::amqp::{self, channel, consume, declare, try_connect};
use crate::broker::{TestBroker, eventually, within};
use crate::mqtt::{Mqtt5, options5, persistent5};

async fn anna(mut options: rumqttc::v5::MqttOptions) -> Mqtt5 {
    options.set_credentials("anna", "secret");
    within(Mqtt5::connect(options)).await.expect("anna may")
}

/// Lets anna read nothing but what matches.
async fn narrow(broker: &TestBroker, read: &str) {
    let wish = json!({
        "username": "anna", "vhost": "/", "exchange": "amq.topic", "write": ".*", "read": read,
    });
    broker.ctl("set_topic_permissions", wish).await;
}

fn bindings(broker: &TestBroker, queue: &str) -> usize {
    broker.queue(queue).map_or(0, |queue| queue.binding_count())
}

/// FEATURES A5, M20: a subscriber who is idle, one who is absent and one who has retained messages
/// to come get nothing more of what they may not read, and what they may read still comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_a_revoked_topic_reaches_nobody() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &["/"]).await;
    let mut guest = Mqtt5::connect(options5(broker.mqtt(), "guest"))
        .await
        .expect("may");
    let mut idle = anna(options5(broker.mqtt(), "idle")).await;
    let mut absent = anna(persistent5(broker.mqtt(), "absent")).await;
    for client in [&mut idle, &mut absent] {
        for filter in ["secret/#", "open/#"] {
            client.subscribe(filter, 1).await;
        }
    }
    absent.disconnect().await;
    let queues = ["mqtt-subscription-idleqos1", "mqtt-subscription-absentqos1"];
    assert!(queues.iter().all(|queue| bindings(&broker, queue) == 2));
    guest.retain("secret/a", b"old").await;
    assert_eq!(idle.next().await.topic, "secret/a");
    narrow(&broker, "^(open|me)").await;
    for queue in queues {
        eventually("one binding is left", || bindings(&broker, queue) == 1).await;
    }
    guest.retain("secret/a", b"new").await;
    guest.retain("open/a", b"1").await;
    assert_eq!(idle.next().await.topic, "open/a");
    let refused = idle.subscribe("open/#", 1).await;
    assert!(refused.contains("Success"), "{refused}");
    assert_eq!(idle.next().await.topic, "open/a");
    idle.has_nothing("me").await;
    let mut back = anna(persistent5(broker.mqtt(), "absent")).await;
    assert!(back.session_present);
    // What was queued before the change stays unread as well.
    assert_eq!(back.next().await.topic, "open/a");
    back.has_nothing("me").await;
}

/// FEATURES A5, M20: a queue that its consumer may not read any more has no consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_consumers_without_permission_are_cancelled() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &["/"]).await;
    let connection = try_connect(broker.amqp(), "anna:secret", "%2f")
        .await
        .expect("anna may");
    let channel = channel(&connection).await;
    for name in ["open", "closed"] {
        declare(
            &channel,
            name,
            lapin::options::QueueDeclareOptions::default(),
        )
        .await;
    }
    let mut open = consume(&channel, "open").await;
    let mut closed = consume(&channel, "closed").await;
    let mut mqtt = anna(options5(broker.mqtt(), "a")).await;
    mqtt.subscribe("t", 1).await;
    broker.permit("anna", "/", [".*", ".*", "^open$"]).await;
    assert!(within(closed.next()).await.is_none(), "it is told");
    let end = mqtt.end().await;
    assert!(end.contains("NotAuthorized"), "{end}");
    let consumers = |name: &str| broker.queue(name).map_or(0, |queue| queue.view().consumers);
    assert_eq!((consumers("open"), consumers("closed")), (1, 0));
    amqp::publish(&channel, "", "open", b"still").await;
    assert_eq!(amqp::next_text(&mut open).await, "still");
}

/// FEATURES A5, M20: the sessions of a user who is deleted end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_sessions_of_a_deleted_user_end() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &["/"]).await;
    let mut absent = anna(persistent5(broker.mqtt(), "absent")).await;
    absent.subscribe("t", 1).await;
    absent.disconnect().await;
    let mut live = anna(persistent5(broker.mqtt(), "live")).await;
    live.subscribe("t", 1).await;
    broker
        .ctl("delete_user", json!({ "username": "anna" }))
        .await;
    live.end().await;
    for queue in ["mqtt-subscription-absentqos1", "mqtt-subscription-liveqos1"] {
        eventually("the queue is gone", || broker.queue(queue).is_none()).await;
    }
}
