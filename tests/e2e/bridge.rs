//! The heart of the product: MQTT clients and AMQP clients on the same messages.

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::amqp::{
    ack, bound_queue, channel, connect, consume, consume_no_ack, declare, next, next_text, publish,
    publish_with, text, try_connect,
};
use crate::broker::{TestBroker, eventually, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5};

fn header<'a>(delivery: &'a lapin::message::Delivery, name: &str) -> Option<&'a [u8]> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// FEATURES M2, I1: `cities/london` is `cities.london`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_topic_reaches_amqp_consumer_as_routing_key() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.topic", "cities.*").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;

    let mut four = Mqtt4::connect(options4(broker.mqtt(), "four"))
        .await
        .expect("connects");
    four.publish("towns/ely", 1, b"nobody wants it").await;
    for (qos, delivery_mode) in [(0, 1), (1, 2), (2, 2)] {
        four.publish("cities/london", qos, b"rain").await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.exchange.as_str(), "amq.topic");
        assert_eq!(delivery.routing_key.as_str(), "cities.london");
        assert_eq!(text(&delivery), "rain");
        assert_eq!(
            *delivery.properties.delivery_mode(),
            Some(delivery_mode),
            "QoS {qos}"
        );
    }
}

/// FEATURES I1: the properties of MQTT 5.0 in AMQP's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_mqtt_properties_become_amqp_properties() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.topic", "cities.#").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;
    let mut five = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    let properties = PublishProperties {
        content_type: Some("application/json".to_owned()),
        correlation_data: Some(b"id-7".to_vec().into()),
        response_topic: Some("answers/five".to_owned()),
        message_expiry_interval: Some(30),
        user_properties: vec![
            ("unit".to_owned(), "mm".to_owned()),
            ("station".to_owned(), "kew".to_owned()),
        ],
        ..PublishProperties::default()
    };
    five.publish_with("cities/london", b"{}", properties).await;

    let delivery = next(&mut consumer).await;
    let said = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    let properties = &delivery.properties;
    assert_eq!(
        said(properties.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(said(properties.correlation_id()).as_deref(), Some("id-7"));
    assert_eq!(said(properties.expiration()).as_deref(), Some("30000"));
    assert_eq!(header(&delivery, "unit"), Some(&b"mm"[..]));
    assert_eq!(header(&delivery, "station"), Some(&b"kew"[..]));
    assert_eq!(
        header(&delivery, "x-reply-to-topic"),
        Some(&b"answers.five"[..])
    );
}

/// FEATURES I2: and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_amqp_message_reaches_mqtt_subscribers() {
    let broker = TestBroker::start().await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "four"))
        .await
        .expect("connects");
    four.subscribe("cities/+", 1).await;
    let mut five = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("connects");
    five.subscribe("cities/#", 1).await;

    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let mut headers = FieldTable::default();
    headers.insert("unit".into(), AMQPValue::LongString("mm".into()));
    headers.insert("count".into(), AMQPValue::LongInt(3));
    headers.insert(
        "nested".into(),
        AMQPValue::FieldTable(FieldTable::default()),
    );
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("text/plain".into())
        .with_correlation_id("id-9".into())
        .with_expiration("45000".into())
        .with_headers(headers);
    publish_with(&channel, "amq.topic", "cities.london", b"sun", properties).await;
    publish(&channel, "amq.topic", "cities.paris", b"fog").await;

    let message = four.next().await;
    assert_eq!(
        (&*message.topic, &*message.text(), message.qos),
        ("cities/london", "sun", 1)
    );
    let message = four.next().await;
    assert_eq!(
        (&*message.topic, &*message.text(), message.qos),
        ("cities/paris", "fog", 0)
    );

    let message = five.next().await;
    assert_eq!(
        (&*message.topic, &*message.text(), message.qos),
        ("cities/london", "sun", 1)
    );
    let properties = message.properties;
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"id-9"[..]));
    assert!((1..=45).contains(&properties.message_expiry_interval.expect("it expires")));
    let mut user = properties.user_properties;
    user.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(user, [pair("count", "3"), pair("unit", "mm")]);
    assert_eq!(five.next().await.topic, "cities/paris");
}

/// FEATURES M2: between MQTT clients a dot is a dot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_dots_and_slashes_survive_between_mqtt_clients() {
    let broker = TestBroker::start().await;
    let mut client = Mqtt4::connect(options4(broker.mqtt(), "c"))
        .await
        .expect("connects");
    client.subscribe("#", 1).await;
    for topic in ["a.b/c", "/leading", "trailing/", "a//b", "v1.2/x.y"] {
        client.publish(topic, 1, b"x").await;
        assert_eq!(client.next().await.topic, topic);
    }
}

/// FEATURES M5: a subscription is a queue that AMQP clients see and bind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_subscription_is_a_queue_for_amqp() {
    let broker = TestBroker::start().await;
    let mut subscriber = Mqtt4::connect(options4(broker.mqtt(), "dev"))
        .await
        .expect("connects");
    subscriber.subscribe("cities/+", 1).await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let name = "mqtt-subscription-devqos1";
    let queue = QueueDeclareOptions::durable().passive();
    assert_eq!(declare(&channel, name, queue).await, name);
    crate::amqp::bind(&channel, name, "amq.topic", "extra.key").await;
    publish(&channel, "amq.topic", "extra.key", b"by a binding of AMQP").await;
    let message = subscriber.next().await;
    assert_eq!(
        (&*message.topic, &*message.text()),
        ("extra/key", "by a binding of AMQP")
    );
    // The default exchange reaches it by its name, too.
    publish(&channel, "", name, b"by its name").await;
    assert_eq!(subscriber.next().await.text(), "by its name");
}

/// FEATURES M14: MQTT members and AMQP workers share one queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m14_amqp_worker_joins_a_shared_subscription() {
    let broker = TestBroker::start().await;
    let mut member = Mqtt5::connect(options5(broker.mqtt(), "m"))
        .await
        .expect("connects");
    assert_eq!(
        member.subscribe("$share/crew/jobs/+", 1).await,
        "[Success(AtLeastOnce)]"
    );
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let mut worker = consume(&channel, "mqtt-shared-crew/jobs/+").await;
    let mut publisher = Mqtt5::connect(options5(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for number in 0..2 {
        publisher
            .publish(&format!("jobs/{number}"), 1, b"job")
            .await;
    }
    // One each: neither has acknowledged when the other's is given out.
    let delivery = next(&mut worker).await;
    let message = member.next().await;
    let mut topics = [
        delivery.routing_key.as_str().replace('.', "/"),
        message.topic,
    ];
    topics.sort();
    assert_eq!(topics, ["jobs/0", "jobs/1"]);
    ack(&delivery).await;
    let queue = broker
        .queue("mqtt-shared-crew/jobs/+")
        .expect("it is there");
    eventually("all jobs are settled", || queue.view().unacked == 0).await;
}

/// FEATURES I6: an MQTT client asks, an AMQP worker answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_request_of_mqtt_is_answered_by_amqp() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.topic", "requests.square").await;
    let mut requests = consume_no_ack(&channel, &queue).await;

    let mut asking = Mqtt5::connect(options5(broker.mqtt(), "asking"))
        .await
        .expect("connects");
    asking.subscribe("answers/asking", 1).await;
    let properties = PublishProperties {
        response_topic: Some("answers/asking".to_owned()),
        correlation_data: Some(b"call-1".to_vec().into()),
        ..PublishProperties::default()
    };
    asking
        .publish_with("requests/square", b"12", properties)
        .await;

    let request = next(&mut requests).await;
    let key = header(&request, "x-reply-to-topic").expect("where to answer");
    let key = String::from_utf8_lossy(key).into_owned();
    let id = request.properties.correlation_id().clone().expect("an id");
    let properties = BasicProperties::default().with_correlation_id(id);
    publish_with(&channel, "amq.topic", &key, b"144", properties).await;
    let answer = asking.next().await;
    assert_eq!((&*answer.topic, &*answer.text()), ("answers/asking", "144"));
    assert_eq!(
        answer.properties.correlation_data.as_deref(),
        Some(&b"call-1"[..])
    );
}

/// FEATURES M2: an MQTT wildcard matches AMQP keys, an AMQP wildcard matches MQTT topics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_wildcards_mean_the_same_on_both_sides() {
    // Filter, binding key, a topic that matches, one that does not.
    let table = [
        ("a/+/c", "a.*.c", "a/b/c", "a/b/b/c"),
        ("a/#", "a.#", "a/b/b/c", "b/a"),
        ("+/b", "*.b", "x/b", "x/y/b"),
    ];
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    for (row, (filter, key, matching, other)) in table.into_iter().enumerate() {
        let queue = bound_queue(&channel, "amq.topic", key).await;
        let mut consumer = consume_no_ack(&channel, &queue).await;
        let id = format!("row-{row}");
        let mut client = Mqtt5::connect(options5(broker.mqtt(), &id))
            .await
            .expect("connects");
        client.subscribe(filter, 1).await;
        client.publish(other, 1, b"mqtt").await;
        client.publish(matching, 1, b"mqtt").await;
        publish(&channel, "amq.topic", &other.replace('/', "."), b"amqp").await;
        publish(&channel, "amq.topic", &matching.replace('/', "."), b"amqp").await;
        for expected in ["mqtt", "amqp"] {
            let message = client.next().await;
            assert_eq!(
                (&*message.topic, &*message.text()),
                (matching, expected),
                "{filter}"
            );
            assert_eq!(next_text(&mut consumer).await, expected, "{key}");
        }
        client.disconnect().await;
    }
}

/// FEATURES M3: `#` in the middle, which rumqttc refuses to send: byte by byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_multi_level_wildcard_in_the_middle() {
    let broker = TestBroker::start().await;
    let mut client = within(TcpStream::connect(broker.mqtt()))
        .await
        .expect("it listens");
    let connect_and_subscribe =
        b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01m\x82\x0a\0\x01\0\x05a/#/z\0";
    client.write_all(connect_and_subscribe).await.expect("room");
    let mut answers = [0; 9];
    within(client.read_exact(&mut answers))
        .await
        .expect("CONNACK and SUBACK");
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    for key in ["a.b", "a.z", "a.b.c.z"] {
        publish(&channel, "amq.topic", key, b"!").await;
    }
    let expected = b"\x30\x06\0\x03a/z!\x30\x0a\0\x07a/b/c/z!";
    let mut arrived = vec![0; expected.len()];
    within(client.read_exact(&mut arrived))
        .await
        .expect("two messages");
    assert_eq!(arrived, expected);
}

fn claims(delivery: &lapin::message::Delivery) -> (Option<&str>, Option<&str>, Option<String>) {
    let text = |name| header(delivery, name).and_then(|text| std::str::from_utf8(text).ok());
    let user = delivery.properties.user_id().as_ref();
    (
        text("x-mqtt-client-id"),
        text("x-mqtt-topic"),
        user.map(ToString::to_string),
    )
}

/// FEATURES I3: who published is told for as long as the message lives, and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_identity_survives_a_restart_and_cannot_be_forged() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = channel(&connection).await;
    declare(&publisher, "dead", QueueDeclareOptions::durable()).await;
    let mut arguments = FieldTable::default();
    for (name, value) in [("exchange", ""), ("routing-key", "dead")] {
        let name = format!("x-dead-letter-{name}");
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let options = QueueDeclareOptions::durable();
    within(publisher.queue_declare("kept".into(), options, arguments))
        .await
        .expect("may be declared");
    crate::amqp::bind(&publisher, "kept", "amq.topic", "cities.*").await;

    let mut four = Mqtt4::connect(options4(broker.mqtt(), "dev-7"))
        .await
        .expect("connects");
    four.publish("cities/london", 1, b"rain").await;
    // What is published with QoS 1 is acknowledged when it is on disk; this one comes after it.
    let mut headers = FieldTable::default();
    for name in ["x-mqtt-client-id", "X-MQTT-Topic", "mine"] {
        headers.insert(name.into(), AMQPValue::LongString("root".into()));
    }
    let kept = broker.queue("kept").expect("it is declared");
    eventually("the first is there", || kept.counts().0 == 1).await;
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    publish_with(&publisher, "amq.topic", "cities.rome", b"sun", properties).await;
    eventually("the second is there", || kept.counts().0 == 2).await;
    drop(kept);
    drop(connection);

    let broker = broker.restart().await;
    let connection = connect(&broker).await;
    let consumer_channel = channel(&connection).await;
    let mut consumer = consume(&consumer_channel, "kept").await;
    let delivery = next(&mut consumer).await;
    let expected = (
        Some("dev-7"),
        Some("cities/london"),
        Some("guest".to_owned()),
    );
    assert_eq!(claims(&delivery), expected);
    let reject = lapin::options::BasicRejectOptions::default();
    within(delivery.reject(reject)).await.expect("may reject");
    let forged = next(&mut consumer).await;
    assert_eq!(claims(&forged), (None, None, None));
    assert_eq!(header(&forged, "X-MQTT-Topic"), None);
    assert_eq!(header(&forged, "mine"), Some(&b"root"[..]));

    let mut dead = consume_no_ack(&consumer_channel, "dead").await;
    assert_eq!(claims(&next(&mut dead).await), expected);
}

/// FEATURES I3: without the headers nothing is said, and nothing is reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_identity_headers_are_switched_off_for_a_vhost() {
    let broker = TestBroker::start_with(|config| {
        for options in [&mut config.mqtt.identity, &mut config.amqp.identity] {
            options.vhosts.insert("/".to_owned(), false);
        }
    })
    .await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.topic", "#").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "dev-7"))
        .await
        .expect("connects");
    four.publish("cities/london", 1, b"rain").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(claims(&delivery), (None, None, None));
    assert!(delivery.properties.headers().is_none());
    let mut headers = FieldTable::default();
    let value = AMQPValue::LongString("anybody".into());
    headers.insert("x-mqtt-client-id".into(), value);
    let properties = BasicProperties::default().with_headers(headers);
    publish_with(&channel, "amq.topic", "t", b"sun", properties).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(claims(&delivery), (Some("anybody"), None, None));
}

async fn bind_retained(
    channel: &lapin::Channel,
    queue: &str,
    key: &str,
    value: AMQPValue,
) -> Result<(), lapin::Error> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-mqtt-retained".into(), value);
    let options = lapin::options::QueueBindOptions::default();
    let exchange = "amq.topic".into();
    within(channel.queue_bind(queue.into(), exchange, key.into(), options, arguments)).await
}

/// FEATURES I4: a queue gets what is retained when it is bound, once, whatever its kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_binding_replays_what_is_retained() {
    let broker = TestBroker::start().await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "keeper"))
        .await
        .expect("connects");
    for (topic, value) in [
        ("cities/ely", "old"),
        ("cities/ely", "fog"),
        ("towns/x", "no"),
    ] {
        four.retain(topic, value.as_bytes()).await;
    }
    for n in 0..600 {
        four.retain(&format!("cities/rome/{n:03}"), b"sun").await;
    }
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let yes = || AMQPValue::Boolean(true);
    for kind in ["classic", "quorum", "stream"] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions::durable();
        within(channel.queue_declare(kind.into(), options, arguments))
            .await
            .expect("may be declared");
        bind_retained(&channel, kind, "cities.#", yes())
            .await
            .expect("is bound");
        // What is published after the answer comes behind: the replay holds the connection back.
        publish(&channel, "amq.topic", "cities.end", b"end").await;
        let queue = broker.queue(kind).expect("it is declared");
        eventually(kind, || queue.counts().0 == 602).await;
        bind_retained(&channel, kind, "cities.#", yes())
            .await
            .expect("is bound again");
        publish(&channel, "amq.topic", "cities.end", b"end").await;
        eventually(kind, || queue.counts().0 == 603).await;
    }
    let mut consumer = consume_no_ack(&channel, "classic").await;
    let first = next(&mut consumer).await;
    assert_eq!(
        (first.routing_key.as_str(), &*text(&first)),
        ("cities.ely", "fog")
    );
    assert_eq!(claims(&first).0, Some("keeper"));
    for n in 0..600 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.routing_key.as_str(), format!("cities.rome.{n:03}"));
    }
    assert_eq!(next_text(&mut consumer).await, "end");
}

/// FEATURES I4: the argument is a boolean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_wrong_argument_is_refused() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let wrong = [
        AMQPValue::LongString("true".into()),
        AMQPValue::LongInt(1),
        AMQPValue::Void,
    ];
    for value in wrong {
        let channel = channel(&connection).await;
        let queue = declare(&channel, "", QueueDeclareOptions::exclusive()).await;
        let refused = bind_retained(&channel, &queue, "#", value).await;
        let error = refused.expect_err("not a boolean");
        assert_eq!(crate::amqp::reply_code(&error), 406);
        assert!(error.to_string().contains("x-mqtt-retained"), "{error}");
    }
    let channel = channel(&connection).await;
    let queue = declare(&channel, "", QueueDeclareOptions::exclusive()).await;
    let no = AMQPValue::Boolean(false);
    bind_retained(&channel, &queue, "#", no)
        .await
        .expect("is bound");
}

/// FEATURES I4, D4: a replay fills queues, so it waits for memory as a publisher does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_replay_waits_while_an_alarm_is_set() {
    let broker = TestBroker::start().await;
    let mut four = Mqtt4::connect(options4(broker.mqtt(), "keeper"))
        .await
        .expect("connects");
    for n in 0..600 {
        four.retain(&format!("cities/{n:03}"), b"sun").await;
    }
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let own = declare(&channel, "", QueueDeclareOptions::exclusive()).await;
    let limit = |fraction: &str| serde_json::json!({ "fraction": fraction });
    broker.ctl("set_vm_memory_high_watermark", limit("0")).await;
    bind_retained(&channel, &own, "cities.*", AMQPValue::Boolean(true))
        .await
        .expect("is bound");
    eventually("it waits", || broker.core().alarms().waiting() == 1).await;
    let queue = broker.queue(&own).expect("it is declared");
    assert_eq!(queue.view().ready, 0);
    broker.ctl("set_vm_memory_high_watermark", limit("1")).await;
    eventually("all have come", || queue.view().ready == 600).await;
}

/// FEATURES I6: an AMQP service answers an MQTT client as it answers anybody: to reply_to, through
/// the default exchange.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_amqp_service_answers_mqtt_by_reply_to() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let service = bound_queue(&channel, "amq.topic", "rpc.*").await;
    let mut requests = consume_no_ack(&channel, &service).await;
    let mut client = Mqtt5::connect(options5(broker.mqtt(), "asks"))
        .await
        .expect("connects");
    client.subscribe("answers/asks/+", 1).await;
    let properties = PublishProperties {
        response_topic: Some("answers/asks/1".to_owned()),
        correlation_data: Some(b"nr-1".to_vec().into()),
        ..PublishProperties::default()
    };
    client.publish_with("rpc/add", b"1+1", properties).await;

    let request = next(&mut requests).await;
    let reply_to = request.properties.reply_to().clone().expect("a reply_to");
    let correlation = request.properties.correlation_id().clone().expect("an id");
    assert_eq!(reply_to.as_str(), "amq.mqtt.reply-to.answers.asks.1");
    let properties = BasicProperties::default()
        .with_correlation_id(correlation)
        .with_delivery_mode(2);
    publish_with(&channel, "", reply_to.as_str(), b"2", properties).await;
    let answer = client.next().await;
    assert_eq!((&*answer.topic, &*answer.text()), ("answers/asks/1", "2"));
    let data = answer.properties.correlation_data;
    assert_eq!(data.as_deref(), Some(&b"nr-1"[..]));
}

/// FEATURES I6: who asks names where the answer goes, and closes nothing of who answers by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_an_answer_that_may_not_be_published_closes_nothing() {
    let broker = TestBroker::start().await;
    broker.add_user("service", "secret", &["/"]).await;
    let wish = serde_json::json!({
        "username": "service", "vhost": "/", "exchange": "amq.topic",
        "write": "^open\\.", "read": ".*",
    });
    broker.ctl("set_topic_permissions", wish).await;
    let login = "service:secret";
    let connection = try_connect(broker.amqp(), login, "%2f").await;
    let connection = connection.expect("service may");
    let mut client = Mqtt5::connect(options5(broker.mqtt(), "asks"))
        .await
        .expect("connects");
    client.subscribe("#", 1).await;
    let channel = channel(&connection).await;
    let closed = |key: &str| format!("amq.mqtt.reply-to.{key}");
    let plain = BasicProperties::default;
    publish_with(&channel, "", &closed("closed.1"), b"no", plain()).await;
    channel.tx_select().await.expect("transactions");
    publish_with(&channel, "", &closed("closed.2"), b"no", plain()).await;
    publish_with(&channel, "", &closed("open.1"), b"yes", plain()).await;
    channel.tx_commit().await.expect("the channel is open");
    let answer = client.next().await;
    assert_eq!((&*answer.topic, &*answer.text()), ("open/1", "yes"));
    client.has_nothing("the/end").await;
}

/// An MQTT service answers one request to its Response Topic, with its Correlation Data.
async fn answer_one(service: &mut Mqtt5) -> String {
    let request = service.next().await;
    let topic = request.properties.response_topic.clone().expect("a topic");
    let properties = PublishProperties {
        correlation_data: request.properties.correlation_data.clone(),
        ..PublishProperties::default()
    };
    let text = format!("{}!", request.text());
    service
        .publish_with(&topic, text.as_bytes(), properties)
        .await;
    topic
}

/// FEATURES I6: an MQTT service answers AMQP clients: into their queue, and by direct reply-to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_mqtt_service_answers_amqp() {
    let broker = TestBroker::start().await;
    let mut service = Mqtt5::connect(options5(broker.mqtt(), "serves"))
        .await
        .expect("connects");
    service.subscribe("rpc/+", 1).await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let own = declare(&channel, "answers/here", QueueDeclareOptions::exclusive()).await;
    let mut answers = consume_no_ack(&channel, &own).await;
    let mut direct = consume_no_ack(&channel, "amq.rabbitmq.reply-to").await;
    let asking = |reply_to: &str, id: &str| {
        BasicProperties::default()
            .with_reply_to(reply_to.into())
            .with_correlation_id(id.into())
    };
    publish_with(&channel, "amq.topic", "rpc.hey", b"hey", asking(&own, "1")).await;
    let topic = answer_one(&mut service).await;
    assert_eq!(topic, "$amqp/reply-to/answers/here");
    let answer = next(&mut answers).await;
    assert_eq!((answer.exchange.as_str(), &*text(&answer)), ("", "hey!"));
    let id = |answer: &lapin::message::Delivery| {
        let id = answer.properties.correlation_id().clone();
        id.expect("an id").to_string()
    };
    assert_eq!(id(&answer), "1");
    assert_eq!(claims(&answer).0, Some("serves"));
    assert_eq!(claims(&answer).1, Some(&*topic));

    let directly = asking("amq.rabbitmq.reply-to", "2");
    publish_with(&channel, "amq.topic", "rpc.you", b"you", directly).await;
    let topic = answer_one(&mut service).await;
    assert!(
        topic.starts_with("$amqp/reply-to/amq.rabbitmq.reply-to."),
        "{topic}"
    );
    let answer = next(&mut direct).await;
    assert_eq!((&*text(&answer), &*id(&answer)), ("you!", "2"));
}
