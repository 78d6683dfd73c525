//! FEATURES A6: policies on queues of both protocols while clients use them; limits of vhosts and
//! users as clients meet them.

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use rumqttc::v5::mqttbytes::QoS;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::amqp::{bound_queue, channel, connect, declare, publish, reply_code, try_connect};
use crate::broker::{TestBroker, eventually, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5, persistent5};
use crate::program::{Program, code, run, stderr, stdout};

async fn set(broker: &TestBroker, command: &str, pattern: &str, definition: Value) {
    let arguments = json!({
        "vhost": "/", "name": "p", "pattern": pattern, "definition": definition.to_string(),
    });
    broker.ctl(command, arguments).await;
}

async fn clear(broker: &TestBroker, command: &str) {
    broker
        .ctl(command, json!({ "vhost": "/", "name": "p" }))
        .await;
}

fn ready(broker: &TestBroker, queue: &str) -> u64 {
    broker.queue(queue).map_or(0, |held| held.view().ready)
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

async fn get(channel: &Channel, queue: &str) -> Option<String> {
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
    let got = within(got).await.expect("may be fetched")?;
    Some(String::from_utf8_lossy(&got.delivery.data).into_owned())
}

/// A publish with confirms; whether it was taken.
async fn confirmed(channel: &Channel, key: &str) -> bool {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish("".into(), key.into(), options, b"m", properties);
    let sent = within(sent).await.expect("is sent");
    matches!(
        within(sent).await.expect("is answered"),
        Confirmation::Ack(_)
    )
}

/// Lengths and dead letters, set, changed and cleared beneath the feet of clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_policies_take_effect_at_once() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "work", durable()).await;
    declare(&channel, "dead", durable()).await;
    for body in ["1", "2", "3"] {
        publish(&channel, "", "work", body.as_bytes()).await;
    }
    eventually("all are there", || ready(&broker, "work") == 3).await;
    let terms = json!({
        "max-length": 1, "dead-letter-exchange": "", "dead-letter-routing-key": "dead",
    });
    set(&broker, "set_policy", "^work$", terms).await;
    assert_eq!(
        ready(&broker, "work"),
        1,
        "the change is answered when it is done"
    );
    assert_eq!(get(&channel, "dead").await.as_deref(), Some("1"));
    assert_eq!(get(&channel, "dead").await.as_deref(), Some("2"));

    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    let terms = json!({ "max-length": 1, "overflow": "reject-publish" });
    set(&broker, "set_policy", "^work$", terms).await;
    assert!(!confirmed(&channel, "work").await, "it is full");
    clear(&broker, "clear_policy").await;
    assert!(
        confirmed(&channel, "work").await,
        "there is no limit any more"
    );

    set(
        &broker,
        "set_policy",
        "^work$",
        json!({ "message-ttl": 20 }),
    )
    .await;
    eventually("the messages expire", || ready(&broker, "work") == 0).await;
    clear(&broker, "clear_policy").await;
    set(&broker, "set_policy", "^work$", json!({ "expires": 20 })).await;
    eventually("the queue expires", || broker.queue("work").is_none()).await;
    assert!(broker.queue("dead").is_some());
    broker.stop().await;
}

/// No argument and no policy exceeds what the operator allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_operators_are_not_exceeded() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    set(
        &broker,
        "set_operator_policy",
        "",
        json!({ "max-length": 2 }),
    )
    .await;
    set(&broker, "set_policy", "", json!({ "max-length": 9 })).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(9));
    let declared = channel.queue_declare("work".into(), durable(), arguments);
    within(declared).await.expect("may be declared");
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    for _ in 0..5 {
        assert!(confirmed(&channel, "work").await);
    }
    assert_eq!(ready(&broker, "work"), 2);
    let columns = [
        "name",
        "policy",
        "operator_policy",
        "effective_policy_definition",
    ];
    let rows = broker
        .ctl("list_queues", json!({ "vhost": "/", "columns": columns }))
        .await;
    let expected = json!([{
        "name": "work", "policy": "p", "operator_policy": "p",
        "effective_policy_definition": { "max-length": 2 },
    }]);
    assert_eq!(rows, expected);
    let refused = broker.try_ctl(
        "set_operator_policy",
        json!({
            "vhost": "/", "name": "p", "pattern": "",
            "definition": "{\"dead-letter-exchange\":\"x\"}",
        }),
    );
    let refused = refused.await.expect_err("operators do not route");
    assert_eq!(
        refused.text,
        "Validation failed\n\n[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy \
         settings\n"
    );
    assert_eq!(refused.exit, 69);
    broker.stop().await;
}

/// Where messages go that match nothing, set and cleared beneath a publisher's feet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_alternate_exchanges_by_policy() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = bound_queue(&channel, "amq.fanout", "").await;
    publish(&channel, "amq.direct", "nowhere", b"lost").await;
    let terms = json!({ "alternate-exchange": "amq.fanout" });
    set(&broker, "set_policy", "^amq\\.direct$", terms).await;
    publish(&channel, "amq.direct", "nowhere", b"found").await;
    eventually("it is found", || ready(&broker, &queue) == 1).await;
    assert_eq!(get(&channel, &queue).await.as_deref(), Some("found"));
    let columns = json!({ "vhost": "/", "columns": ["name", "policy"] });
    let rows = broker.ctl("list_exchanges", columns).await;
    let rows = rows.as_array().expect("a listing");
    assert!(
        rows.contains(&json!({ "name": "amq.direct", "policy": "p" })),
        "{rows:?}"
    );
    assert!(
        rows.contains(&json!({ "name": "amq.topic", "policy": null })),
        "{rows:?}"
    );
    clear(&broker, "clear_policy").await;
    publish(&channel, "amq.direct", "nowhere", b"lost").await;
    assert_eq!(get(&channel, &queue).await, None);
    broker.stop().await;
}

/// R§2.13: the queues of subscriptions have policies as all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_subscriptions_have_policies() {
    const QUEUE: &str = "mqtt-subscription-sleeperqos1";
    let broker = TestBroker::start().await;
    let mut sleeper = Mqtt5::connect(persistent5(broker.mqtt(), "sleeper"))
        .await
        .expect("guest may");
    sleeper.subscribe("s/#", 1).await;
    sleeper.disconnect().await;
    let terms = json!({ "max-length": 2 });
    set(&broker, "set_policy", "^mqtt-subscription-", terms).await;
    let mut publisher = Mqtt5::connect(options5(broker.mqtt(), "publisher"))
        .await
        .expect("guest may");
    for _ in 0..4 {
        publisher.publish("s/1", 1, b"m").await;
    }
    eventually("two are kept", || ready(&broker, QUEUE) == 2).await;
    let held = broker.queue(QUEUE).expect("is there");
    assert_eq!(held.view().losses.total(), 2);
    set(
        &broker,
        "set_policy",
        "^mqtt-subscription-",
        json!({ "expires": 20 }),
    )
    .await;
    eventually("the session ends", || broker.queue(QUEUE).is_none()).await;
    broker.stop().await;
}

/// FEATURES A6, D1: a restart changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_policies_and_limits_survive_a_restart() {
    let broker = TestBroker::start().await;
    set(&broker, "set_policy", "^work$", json!({ "max-length": 1 })).await;
    set(
        &broker,
        "set_operator_policy",
        "",
        json!({ "message-ttl": 60_000 }),
    )
    .await;
    let limits = json!({ "vhost": "/", "definition": "{\"max-queues\":1}" });
    broker.ctl("set_vhost_limits", limits).await;
    let limits = json!({ "username": "guest", "definition": "{\"max-channels\":2}" });
    broker.ctl("set_user_limits", limits).await;
    let connection = connect(&broker).await;
    declare(&channel(&connection).await, "work", durable()).await;
    let broker = broker.restart().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let queue = broker.queue("work").expect("is there");
    let definition = queue.view().applied.definition();
    assert_eq!(definition.len(), 2);
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    for _ in 0..3 {
        assert!(confirmed(&channel, "work").await);
    }
    assert_eq!(ready(&broker, "work"), 1);
    let listed = broker.ctl("list_policies", json!({ "vhost": "/" })).await;
    let expected = json!([{
        "vhost": "/", "name": "p", "pattern": "^work$", "apply-to": "all",
        "definition": "{\"max-length\":1}", "priority": 0,
    }]);
    assert_eq!(listed, expected);
    let refused = channel.queue_declare("two".into(), durable(), FieldTable::default());
    let refused = within(refused).await.expect_err("one is all");
    assert_eq!(reply_code(&refused), 406);
    let limits = broker.ctl("list_user_limits", json!({})).await;
    assert_eq!(limits, json!({ "limits": "{\"max-channels\":2}" }));
    broker.stop().await;
}

async fn refused(broker: &TestBroker, login: &str) -> (u16, String) {
    let error = try_connect(broker.amqp(), login, "%2f").await;
    let error = error.map(drop).expect_err("is refused");
    (reply_code(&error), error.to_string())
}

/// AMQP clients are told 530, MQTT clients 0x97 or 5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_connections_are_limited() {
    let broker = TestBroker::start().await;
    let first: Connection = connect(&broker).await;
    let limits = json!({ "vhost": "/", "definition": "{\"max-connections\":1}" });
    broker.ctl("set_vhost_limits", limits).await;
    let (code, text) = refused(&broker, "guest:guest").await;
    assert_eq!(code, 530);
    let expected = "access to vhost '/' refused for user 'guest': connection limit (1) is reached";
    assert!(text.contains(expected), "{text}");
    let mqtt5 = Mqtt5::connect(options5(broker.mqtt(), "five")).await;
    let why = mqtt5.map(drop).expect_err("is refused");
    assert!(why.contains("QuotaExceeded"), "{why}");
    let mqtt4 = Mqtt4::connect(options4(broker.mqtt(), "four")).await;
    let why = mqtt4.map(drop).expect_err("is refused");
    assert!(why.contains("NotAuthorized"), "{why}");

    broker
        .ctl("clear_vhost_limits", json!({ "vhost": "/" }))
        .await;
    let limits = json!({ "username": "guest", "definition": "{\"max-connections\":1}" });
    broker.ctl("set_user_limits", limits).await;
    let (code, text) = refused(&broker, "guest:guest").await;
    assert_eq!(code, 530);
    let expected = "connection refused for user 'guest': user connection limit (1) is reached";
    assert!(text.contains(expected), "{text}");
    drop(first);
    let one = json!({ "username": "guest", "limit": "max-connections" });
    broker.ctl("clear_user_limits", one).await;
    let second = connect(&broker).await;
    let limits = json!({ "username": "guest", "definition": "{\"max-channels\":1}" });
    broker.ctl("set_user_limits", limits).await;
    // Its channel is closed when it goes.
    let _held = channel(&second).await;
    let third = connect(&broker).await;
    let error = within(third.create_channel()).await;
    let error = error.map(drop).expect_err("over all connections");
    assert_eq!(reply_code(&error), 530, "{error}");
    broker.stop().await;
}

/// A vhost that is full says so: 406 to AMQP clients, 0x97 to MQTT 5.0 clients, which are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_queues_are_limited() {
    let broker = TestBroker::start().await;
    let limits = json!({ "vhost": "/", "definition": "{\"max-queues\":0}" });
    broker.ctl("set_vhost_limits", limits).await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let declared = channel.queue_declare("q".into(), durable(), FieldTable::default());
    let error = within(declared).await.expect_err("there is no room");
    assert_eq!(reply_code(&error), 406);
    let expected = "cannot declare queue 'q' in vhost '/': queue limit in vhost '/' (0) is reached";
    assert!(error.to_string().contains(expected), "{error}");
    let mut client = Mqtt5::connect(options5(broker.mqtt(), "five"))
        .await
        .expect("connections are not limited");
    let asked = client.client.subscribe("s/#", QoS::AtLeastOnce);
    within(asked).await.expect("is sent");
    let end = client.end().await;
    assert!(end.contains("QuotaExceeded"), "{end}");
    broker.stop().await;
}

/// What clients declare without a kind is what their vhost has; subscriptions stay as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_vhosts_have_a_default_kind_of_queue() {
    let broker = TestBroker::start().await;
    let metadata = json!({ "name": "/", "default_queue_type": "quorum", "tags": "a,b" });
    broker.ctl("update_vhost_metadata", metadata).await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "durable", durable()).await;
    declare(&channel, "own", QueueDeclareOptions::exclusive()).await;
    let mut sensor = Mqtt5::connect(persistent5(broker.mqtt(), "sensor"))
        .await
        .expect("guest may");
    sensor.subscribe("s/#", 1).await;
    let columns = json!({ "vhost": "/", "columns": ["name", "type"] });
    let rows = broker.ctl("list_queues", columns).await;
    let expected = json!([
        { "name": "durable", "type": "quorum" },
        { "name": "mqtt-subscription-sensorqos1", "type": "classic" },
        { "name": "own", "type": "classic" },
    ]);
    assert_eq!(rows, expected);
    broker.stop().await;
}

/// Words, the exit code, and how standard output ends.
const CALLS: &[(&[&str], i32, &str)] = &[
    (
        &[
            "set_policy",
            "p1",
            "^q",
            "{\"max-length\":3}",
            "--priority",
            "-1",
        ],
        0,
        "Setting policy \"p1\" for pattern \"^q\" to \"{\"max-length\":3}\" with priority \
             \"-1\" for vhost \"/\" ...\n",
    ),
    (
        &["list_policies"],
        0,
        "Listing policies for vhost \"/\" ...\n\
             vhost\tname\tpattern\tapply-to\tdefinition\tpriority\n\
             /\tp1\t^q\tall\t{\"max-length\":3}\t-1\n",
    ),
    (&["list_policies", "-p", "none"], 65, ""),
    (&["clear_policy", "-s", "p1"], 0, ""),
    (&["clear_policy", "-s", "p1"], 69, ""),
    (&["set_policy", "-s", "p1", "^q", "{\"bogus\":1}"], 69, ""),
    (
        &["set_policy", "-s", "p1", "^q", "{}", "--priority", "x"],
        64,
        "",
    ),
    (
        &[
            "set_operator_policy",
            "o",
            "",
            "{\"expires\":9}",
            "--apply-to",
            "queues",
        ],
        0,
        "Setting operator policy override \"o\" for pattern \"\" to \"{\"expires\":9}\" with \
             priority \"0\" for vhost \"/\" ...\n",
    ),
    (
        &["list_operator_policies", "-s"],
        0,
        "/\to\t\tqueues\t{\"expires\":9}\t0\n",
    ),
    (&["set_vhost_limits", "-s", "{\"max-queues\":5}"], 0, ""),
    (
        &["list_vhost_limits"],
        0,
        "Listing limits for vhost \"/\" ...\n{\"max-queues\":5}\n",
    ),
    (
        &["list_vhost_limits", "--global"],
        0,
        "Listing limits for all vhosts ...\nvhost\tlimits\n/\t{\"max-queues\":5}\n",
    ),
    (
        &["list_parameters", "-s"],
        0,
        "vhost-limits\tlimits\t{\"max-queues\":5}\n\
             operator_policy\to\t{\"pattern\":\"\",\"definition\":{\"expires\":9},\"priority\":0,\
             \"apply-to\":\"queues\"}\n",
    ),
    (&["set_parameter", "-s", "shovel", "s", "{}"], 69, ""),
    (&["clear_parameter", "-s", "vhost-limits", "limits"], 0, ""),
    (&["clear_vhost_limits", "-s"], 69, ""),
    (
        &["set_user_limits", "-s", "guest", "{\"max-channels\":2}"],
        0,
        "",
    ),
    (&["set_user_limits", "-s", "nosuch", "{}"], 69, ""),
    (
        &["clear_user_limits", "guest", "all"],
        0,
        "Clearing all limits for user \"guest\" ...\n",
    ),
    (
        &["list_user_limits"],
        0,
        "Listing limits for user \"guest\" ...\n{}\n",
    ),
    (
        &[
            "add_vhost",
            "-s",
            "v",
            "--description",
            "d",
            "--tags",
            "a,b",
        ],
        0,
        "",
    ),
    (
        &["add_vhost", "-s", "w", "--default-queue-type", "foo"],
        64,
        "",
    ),
    (
        &["list_vhosts", "-s", "name", "description", "tags"],
        0,
        "v\td\t[a, b]\n",
    ),
    (&["enable_vhost_deletion_protection", "-s", "v"], 0, ""),
    (&["delete_vhost", "-s", "v"], 65, ""),
    (&["disable_vhost_deletion_protection", "-s", "v"], 0, ""),
    (&["enable_vhost_protection_from_deletion", "-s", "v"], 0, ""),
    (&["delete_vhost", "-s", "v"], 65, ""),
    (
        &["disable_vhost_protection_from_deletion", "-s", "v"],
        0,
        "",
    ),
    (&["delete_vhost", "-s", "v"], 0, ""),
    (
        &["close_all_connections", "bye"],
        0,
        "Closing all connections in vhost /, reason: bye...\nClosed 0 connections\n",
    ),
    (&["close_all_user_connections", "-s", "guest", "bye"], 0, ""),
    (&["list_queues", "-s", "--offline"], 0, ""),
    (&["list_channels"], 0, "Listing channels ...\n"),
    (&["list_channels", "bogus"], 64, ""),
    (&["clear_password", "-s", "guest"], 0, ""),
    (&["authenticate_user", "-s", "guest", "guest"], 65, ""),
];

/// FEATURES O2: the commands as scripts call them: banners, tables, exit codes.
#[test]
fn o2_policies_and_limits_on_the_command_line() {
    let directory = tempfile::tempdir().expect("a data directory");
    let program = Program::start(directory.path());
    for (arguments, expected, text) in CALLS {
        let output = run(&[&["ctl"], *arguments].concat(), directory.path());
        assert_eq!(
            code(&output),
            Some(*expected),
            "{arguments:?}: {}",
            stderr(&output)
        );
        let told = stdout(&output);
        assert!(told.ends_with(text), "{arguments:?}: {told}");
    }
    let hash = run(&["ctl", "hash_password", "-s", "secret"], directory.path());
    let hash = stdout(&hash);
    let added = [
        "ctl",
        "add_user",
        "anna",
        hash.trim(),
        "--pre-hashed-password",
    ];
    assert_eq!(code(&run(&added, directory.path())), Some(0), "{hash}");
    let authenticate = ["ctl", "authenticate_user", "anna", "secret"];
    assert_eq!(code(&run(&authenticate, directory.path())), Some(0));
    assert_eq!(program.stop(Signal::TERM), Some(0));
}

/// FEATURES O2: listings tell an exclusive consumer from a single active one, the arguments of
/// consumers, and bytes where they are known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_consumers_are_listed() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    // One that is dropped is cancelled.
    let mut held = Vec::new();
    for queue in ["alone", "active"] {
        let mut arguments = FieldTable::default();
        if queue == "active" {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        let options = QueueDeclareOptions::default();
        let declared = channel.queue_declare(queue.into(), options, arguments);
        within(declared).await.expect("may be declared");
        let options = BasicConsumeOptions {
            exclusive: queue == "alone",
            ..BasicConsumeOptions::default()
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(5));
        let consumed = channel.basic_consume(queue.into(), queue.into(), options, arguments);
        held.push(within(consumed).await.expect("may consume"));
    }
    let columns = [
        "name",
        "exclusive_consumer_tag",
        "single_active_consumer_tag",
        "message_bytes",
        "message_bytes_unacknowledged",
    ];
    let rows = broker.ctl("list_queues", json!({ "vhost": "/", "columns": columns }));
    let mut rows = rows.await;
    let rows = rows.as_array_mut().expect("rows");
    rows.sort_by_key(|row| row["name"].to_string());
    let row = |name: &str, alone: Value, active: Value| {
        json!({
            "name": name, "exclusive_consumer_tag": alone, "single_active_consumer_tag": active,
            "message_bytes": 0, "message_bytes_unacknowledged": 0,
        })
    };
    let expected = [
        row("active", Value::Null, json!("active")),
        row("alone", json!("alone"), Value::Null),
    ];
    assert_eq!(*rows, expected);
    let columns = ["arguments"];
    let rows = broker.ctl(
        "list_consumers",
        json!({ "vhost": "/", "columns": columns }),
    );
    let arguments = json!({ "arguments": [["x-priority", "signedint", 5]] });
    assert_eq!(rows.await, json!([arguments, arguments]));
}
