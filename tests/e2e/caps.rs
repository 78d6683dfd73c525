//! How much waits for a session whose client is away, also over a restart.

use serde_json::json;

use crate::broker::TestBroker;
use crate::mqtt::{Mqtt4, Mqtt5, options4, persistent5};

/// FEATURES M16: a queue is known as a session's when the broker comes back, and has its limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m16_limits_of_a_session_hold_over_a_restart() {
    let broker = TestBroker::start_with(|config| {
        config.core.session_caps.offline_max = Some(3);
    })
    .await;
    let mut client = Mqtt5::connect(persistent5(broker.mqtt(), "c"))
        .await
        .expect("connects");
    client.subscribe("t", 1).await;
    client.disconnect().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    publisher.publish("t", 1, b"1").await;
    publisher.publish("t", 1, b"2").await;
    drop(publisher);
    let broker = broker.restart().await;
    let mut publisher = Mqtt4::connect(options4(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for body in [b"3", b"4", b"5"] {
        publisher.publish("t", 1, body).await;
    }
    let dropped = broker.ctl("list_losses", json!({})).await;
    let row = json!({"vhost": "/", "reason": "max_offline_messages", "qos": 1, "count": 2});
    assert_eq!(dropped, json!([row]));
    let mut client = Mqtt5::connect(persistent5(broker.mqtt(), "c"))
        .await
        .expect("connects");
    for body in ["1", "2", "3"] {
        assert_eq!(client.next().await.text(), body);
    }
    client.has_nothing("own").await;
}
