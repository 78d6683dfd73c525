//! Who gets in, where to, and what they may do there: asked the same way by both protocols.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use leveret_net::options::Protocol;
use serde_json::json;

use crate::amqp::{channel, reply_code, try_connect};
use crate::broker::{TestBroker, listener, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5};

/// FEATURES U3: 403 to AMQP, the code for bad credentials to MQTT; never which part was wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_wrong_credentials_are_refused() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &["/"]).await;
    for (user, password) in [("anna", "wrong"), ("nobody", "secret"), ("guest", "secret")] {
        let login = format!("{user}:{password}");
        let error = try_connect(broker.amqp(), &login, "%2f")
            .await
            .expect_err("refused");
        assert_eq!(reply_code(&error), 403, "{login}: {error}");
        let mut four = options4(broker.mqtt(), "four");
        four.set_credentials(user, password);
        let error = Mqtt4::connect(four).await.err().expect("refused");
        assert!(error.contains("BadUserNamePassword"), "{login}: {error}");
        let mut five = options5(broker.mqtt(), "five");
        five.set_credentials(user, password);
        let error = Mqtt5::connect(five).await.err().expect("refused");
        assert!(error.contains("BadUserNamePassword"), "{login}: {error}");
    }
    try_connect(broker.amqp(), "anna:secret", "%2f")
        .await
        .expect("anna may");
    let mut four = options4(broker.mqtt(), "four");
    four.set_credentials("anna", "secret");
    Mqtt4::connect(four).await.expect("anna may");
}

/// FEATURES V1: an unknown vhost is refused by both protocols.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_unknown_vhost_is_refused() {
    let broker = TestBroker::start().await;
    let error = try_connect(broker.amqp(), "guest:guest", "nowhere").await;
    let error = error.expect_err("refused");
    assert_eq!(reply_code(&error), 530, "{error}");
    let mut options = options4(broker.mqtt(), "c");
    options.set_credentials("nowhere:guest", "guest");
    let error = Mqtt4::connect(options).await.err().expect("refused");
    assert!(error.contains("BadUserNamePassword"), "{error}");
}

/// A vhost that is there, without permissions in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_vhost_without_permissions_is_refused() {
    let broker = TestBroker::start().await;
    broker.ctl("add_vhost", json!({ "name": "closed" })).await;
    let error = try_connect(broker.amqp(), "guest:guest", "closed").await;
    let error = error.expect_err("refused");
    assert_eq!(reply_code(&error), 530, "{error}");
    let mut options = options5(broker.mqtt(), "c");
    options.set_credentials("closed:guest", "guest");
    let error = Mqtt5::connect(options).await.err().expect("refused");
    assert!(error.contains("NotAuthorized"), "{error}");
}

/// FEATURES V1, V2: `vhost:user` chooses, and vhosts see nothing of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v2_vhosts_see_nothing_of_each_other() {
    let broker = TestBroker::start().await;
    for vhost in ["red", "blue"] {
        broker.ctl("add_vhost", json!({ "name": vhost })).await;
    }
    broker.add_user("anna", "secret", &["red", "blue"]).await;
    let login = |vhost: &str| {
        // The same client id in both: ids belong to vhosts.
        let mut options = options5(broker.mqtt(), "same");
        options.set_credentials(format!("{vhost}:anna"), "secret");
        options
    };
    let mut red = Mqtt5::connect(login("red")).await.expect("anna may");
    let mut blue = Mqtt5::connect(login("blue")).await.expect("anna may");
    red.subscribe("a", 1).await;
    blue.subscribe("a", 1).await;
    let queue = "mqtt-subscription-sameqos1";
    assert!(broker.queue_in("red", queue).is_some() && broker.queue_in("blue", queue).is_some());
    assert!(broker.queue(queue).is_none());
    red.retain("a", b"red").await;
    assert_eq!(red.next().await.text(), "red");
    blue.has_nothing("own").await;
}

/// FEATURES V1: the port chooses, by `mqtt_port_to_vhost_mapping`; the user name still wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_ports_choose_vhosts() {
    let broker = TestBroker::start_with(|config| {
        config
            .net
            .listeners
            .push(listener(Protocol::Mqtt, "second"));
        config
            .net
            .listeners
            .push(listener(Protocol::Mqtt, "unmapped"));
    })
    .await;
    for vhost in ["red", "blue"] {
        broker.ctl("add_vhost", json!({ "name": vhost })).await;
    }
    broker
        .add_user("anna", "secret", &["/", "red", "blue"])
        .await;
    let ports = [0, 1, 2].map(|place| broker.port(Protocol::Mqtt, place));
    let mapping = json!({
        ports[0].port().to_string(): "red",
        ports[1].port().to_string(): "blue",
    });
    let parameter = json!({
        "name": "mqtt_port_to_vhost_mapping",
        "value": mapping.to_string(),
    });
    broker.ctl("set_global_parameter", parameter).await;
    let table = [
        (ports[0], "anna", "red"),
        (ports[1], "anna", "blue"),
        (ports[2], "anna", "/"),
        (ports[0], "blue:anna", "blue"),
        (ports[0], "/:anna", "/"),
    ];
    for (row, (port, user, vhost)) in table.into_iter().enumerate() {
        let id = format!("c{row}");
        let mut options = options4(port, &id);
        options.set_credentials(user, "secret");
        let mut client = Mqtt4::connect(options).await.expect("anna may");
        client.subscribe("a", 1).await;
        let queue = format!("mqtt-subscription-{id}qos1");
        assert!(
            broker.queue_in(vhost, &queue).is_some(),
            "{user} on {port} is not in {vhost}"
        );
    }
}

/// FEATURES V1: a listener that has a vhost serves no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_pinned_listener_serves_its_vhost_only() {
    let broker = TestBroker::start_with(|config| {
        config.net.listeners[1].vhost = Some("red".to_owned());
    })
    .await;
    broker.ctl("add_vhost", json!({ "name": "red" })).await;
    broker.add_user("anna", "secret", &["/", "red"]).await;
    for (user, served) in [("anna", true), ("red:anna", true), ("/:anna", false)] {
        let mut options = options5(broker.mqtt(), "c");
        options.set_credentials(user, "secret");
        let connected = Mqtt5::connect(options).await;
        assert_eq!(connected.is_ok(), served, "{user}");
        if let Ok(mut client) = connected {
            client.subscribe("a", 1).await;
            assert!(broker.queue_in("red", "mqtt-subscription-cqos1").is_some());
        }
    }
}

/// FEATURES U1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u1_anonymous_clients_need_permission() {
    let broker = TestBroker::start_with(|config| config.mqtt.allow_anonymous = false).await;
    let error = Mqtt4::connect(options4(broker.mqtt(), "c")).await.err();
    let error = error.expect("refused");
    assert!(error.contains("BadUserNamePassword"), "{error}");
    let mut options = options4(broker.mqtt(), "c");
    options.set_credentials("guest", "guest");
    Mqtt4::connect(options)
        .await
        .expect("guest is not anonymous");
}

/// FEATURES U3, A7: configure, write and read are asked on AMQP's paths.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_permissions_bind_amqp_clients() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &[]).await;
    broker
        .permit("anna", "/", ["^mine", "^mine", "^(mine|amq.topic)"])
        .await;
    let connection = try_connect(broker.amqp(), "anna:secret", "%2f")
        .await
        .expect("anna may");
    let allowed = channel(&connection).await;
    let options = QueueDeclareOptions::default();
    let declared = allowed.queue_declare("mine.1".into(), options, FieldTable::default());
    within(declared).await.expect("configure");
    let bound = allowed.queue_bind(
        "mine.1".into(),
        "amq.topic".into(),
        "a".into(),
        Default::default(),
        FieldTable::default(),
    );
    within(bound)
        .await
        .expect("write to the queue, read from the exchange");

    let refused = channel(&connection).await;
    let declared = refused.queue_declare("yours".into(), options, FieldTable::default());
    let error = within(declared).await.expect_err("configure");
    assert_eq!(reply_code(&error), 403, "{error}");
    let refused = channel(&connection).await;
    let declared = refused.exchange_declare(
        "yours".into(),
        ExchangeKind::Fanout,
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    let error = within(declared).await.expect_err("configure");
    assert_eq!(reply_code(&error), 403, "{error}");
    let refused = channel(&connection).await;
    within(refused.confirm_select(Default::default()))
        .await
        .expect("confirm.select-ok");
    let sent = refused.basic_publish(
        "amq.topic".into(),
        "a".into(),
        Default::default(),
        b"x",
        BasicProperties::default(),
    );
    let confirm = within(sent).await.expect("may be sent");
    let error = within(confirm).await.expect_err("write");
    assert_eq!(reply_code(&error), 403, "{error}");
}

/// FEATURES U3, A7: and on MQTT's, for live connections as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_permissions_bind_mqtt_clients() {
    let broker = TestBroker::start_with(|config| {
        config.mqtt.disconnect_on_unauthorized = false;
    })
    .await;
    broker.add_user("anna", "secret", &["/"]).await;
    let mut options = options5(broker.mqtt(), "c");
    options.set_credentials("anna", "secret");
    let mut client = Mqtt5::connect(options).await.expect("anna may");
    assert_eq!(client.subscribe("a", 1).await, "[Success(AtLeastOnce)]");
    client.publish("a", 1, b"allowed").await;
    assert_eq!(client.next().await.text(), "allowed");

    // May no longer write to the exchange, nor read from it.
    broker
        .permit(
            "anna",
            "/",
            [".*", "^mqtt-subscription-", "^mqtt-subscription-"],
        )
        .await;
    client
        .try_publish("a", 1, false, b"refused")
        .await
        .expect("an answer");
    assert_eq!(client.subscribe("b", 1).await, "[NotAuthorized]");

    // What it had subscribed to went with the permission.
    broker.permit("anna", "/", [".*", ".*", ".*"]).await;
    assert_eq!(client.subscribe("a", 1).await, "[Success(AtLeastOnce)]");
    client.publish("a", 1, b"allowed again").await;
    assert_eq!(client.next().await.text(), "allowed again");
}

/// The default: what is refused ends the connection, and 5.0 is told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_refused_publish_ends_the_mqtt_connection() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "secret", &[]).await;
    broker.permit("anna", "/", [".*", "^mqtt-", ".*"]).await;
    let mut options = options5(broker.mqtt(), "five");
    options.set_credentials("anna", "secret");
    let mut client = Mqtt5::connect(options).await.expect("anna may");
    let end = client
        .try_publish("a", 1, false, b"x")
        .await
        .expect_err("refused");
    assert!(end.contains("NotAuthorized"), "{end}");
    let mut options = options4(broker.mqtt(), "four");
    options.set_credentials("anna", "secret");
    let mut client = Mqtt4::connect(options).await.expect("anna may");
    client
        .try_publish("a", 1, false, b"x")
        .await
        .expect_err("refused");
}

/// FEATURES A7: topic permissions, with the client's id in the pattern.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_topic_permissions_know_the_client_id() {
    let broker = TestBroker::start_with(|config| {
        config.mqtt.disconnect_on_unauthorized = false;
    })
    .await;
    broker.add_user("anna", "secret", &["/"]).await;
    let wish = json!({
        "username": "anna", "vhost": "/", "exchange": "amq.topic",
        "write": "^{client_id}\\.", "read": "^(all|{client_id})\\.",
    });
    broker.ctl("set_topic_permissions", wish).await;
    let mut options = options5(broker.mqtt(), "dev-1");
    options.set_credentials("anna", "secret");
    let mut client = Mqtt5::connect(options).await.expect("anna may");
    assert_eq!(
        client.subscribe("dev-1/#", 1).await,
        "[Success(AtLeastOnce)]"
    );
    assert_eq!(client.subscribe("dev-2/#", 1).await, "[NotAuthorized]");
    assert_eq!(
        client.subscribe("all/news", 1).await,
        "[Success(AtLeastOnce)]"
    );
    let mut watcher = Mqtt4::connect(options4(broker.mqtt(), "w"))
        .await
        .expect("guest may");
    watcher.subscribe("#", 1).await;
    client
        .try_publish("dev-2/state", 1, false, b"forged")
        .await
        .expect("an answer");
    client.publish("dev-1/state", 1, b"own").await;
    assert_eq!(client.next().await.text(), "own");
    assert_eq!(watcher.next().await.text(), "own");

    // The same patterns for an AMQP client, which has no client id.
    let connection = try_connect(broker.amqp(), "anna:secret", "%2f")
        .await
        .expect("anna may");
    let channel = channel(&connection).await;
    within(channel.confirm_select(Default::default()))
        .await
        .expect("confirm.select-ok");
    let sent = channel.basic_publish(
        "amq.topic".into(),
        "dev-1.state".into(),
        Default::default(),
        b"forged",
        BasicProperties::default(),
    );
    let confirm = within(sent).await.expect("may be sent");
    let error = within(confirm).await.expect_err("refused");
    assert_eq!(reply_code(&error), 403, "{error}");
}

/// A deleted user is gone for the next login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_changed_passwords_count_at_once() {
    let broker = TestBroker::start().await;
    broker.add_user("anna", "old", &["/"]).await;
    let login = |password: &str| {
        let mut options = options4(broker.mqtt(), "c");
        options.set_credentials("anna", password);
        Mqtt4::connect(options)
    };
    assert!(login("old").await.is_ok());
    let change = json!({ "username": "anna", "password": "new" });
    broker.ctl("change_password", change).await;
    assert!(login("old").await.is_err());
    assert!(login("new").await.is_ok());
    broker
        .ctl("delete_user", json!({ "username": "anna" }))
        .await;
    assert!(login("new").await.is_err());
}
