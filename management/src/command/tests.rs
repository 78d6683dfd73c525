//! Every command against a broker in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_auth::login::Internal;
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::field::{Table, Value as Field};
use leveret_core::journal::MemoryJournal;
use leveret_core::link::DeclareQueue;
use leveret_core::options::Options;
use leveret_core::peer::{CloseReason, Peer, PeerView};
use leveret_core::queue::QueueProperties;
use leveret_core::sink::{Delivery, Outcome, Sink};
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;
use serde_json::json;

use super::*;
use crate::context::{ChangeLock, ListenerRow};
use crate::plugins::{PluginHost, Plugins, Switching};

/// A host whose plugins start and stop at once.
#[derive(Default)]
struct Switch(AtomicBool);

impl PluginHost for Switch {
    fn enable(&self, _name: &'static str) -> Switching<'_> {
        self.0.store(true, Ordering::Release);
        Box::pin(async { Ok(()) })
    }

    fn disable(&self, _name: &'static str) -> Switching<'_> {
        self.0.store(false, Ordering::Release);
        Box::pin(async { Ok(()) })
    }

    fn is_running(&self, _name: &str) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection that only remembers whether it was closed.
struct Connection {
    protocol: &'static str,
    closed: AtomicBool,
}

impl Wake for Connection {
    fn wake(&self) {}
}

impl Sink for Connection {
    fn deliver(&self, _delivery: &mut Delivery<'_>) -> Outcome {
        Outcome::Full
    }

    fn cancelled(&self, _consumer: u64) {}
}

impl Peer for Connection {
    fn view(&self) -> PeerView {
        PeerView {
            protocol: self.protocol,
            peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000),
            local: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1_883),
            user: "guest".to_owned(),
            vhost: "/".to_owned(),
            state: "running",
            channels: 0,
            frame_max: 0,
            channel_max: 0,
            timeout_s: 60,
            connected_at: 1,
            received_bytes: 2,
            sent_bytes: 3,
            pending_bytes: 0,
            auth_mechanism: "none".to_owned(),
            client_id: self.protocol.starts_with("MQTT").then(|| "c1".to_owned()),
            clean_session: Some(true),
            unacked: 0,
            client_properties: Table::new(),
        }
    }

    fn close(&self, _why: &CloseReason) {
        self.closed.store(true, Ordering::Release);
    }
}

/// A broker with its defaults, `guest` without a password; files go to `data_dir`.
pub(crate) fn context(data_dir: PathBuf) -> Context {
    let journal = Arc::new(MemoryJournal::default());
    let definitions = Arc::new(Volatile::default());
    let broker = Broker::open(
        Options::default(),
        definitions,
        journal,
        Time(0),
        String::new,
    );
    let host = Switch::default();
    host.0.store(true, Ordering::Release);
    Context {
        broker: broker.expect("an empty broker opens"),
        logins: Arc::new(Internal::new(&mut rand::rng())),
        plugins: Plugins::new(Arc::new(host), data_dir.join("enabled_plugins")),
        node_name: "n@h".to_owned(),
        version: "1.2.3",
        data_dir,
        config_files: vec!["a.toml".into()],
        started_at: Time(1_000),
        clock: Arc::new(|| Time(61_000)),
        listeners: Arc::new(|| {
            vec![ListenerRow {
                protocol: "mqtt".to_owned(),
                purpose: "MQTT".to_owned(),
                interface: "[::]".to_owned(),
                port: 1_883,
            }]
        }),
        changes: ChangeLock::default(),
    }
}

async fn ask(context: &Context, command: &str, arguments: Value) -> Result<Value, (String, u8)> {
    let Value::Object(arguments) = arguments else {
        panic!("arguments are an object")
    };
    let request = Request {
        command: command.to_owned(),
        arguments,
    };
    match run(context, request).await {
        Ok(Answer::One(value)) => Ok(value),
        Ok(Answer::Live(_)) => panic!("{command} goes on"),
        Ok(Answer::Rows(rows)) => Ok(rows.collect()),
        Err(failure) => Err((failure.text, failure.exit)),
    }
}

type Case<'a> = (&'a str, Value, Result<Value, (&'a str, u8)>);

/// One command after the other, each with what it must answer.
async fn check(context: &Context, cases: Vec<Case<'_>>) {
    for (command, arguments, expected) in cases {
        let shown = format!("{command} {arguments}");
        match (ask(context, command, arguments).await, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "{shown}"),
            (Err((text, exit)), Err((expected, code))) => {
                assert!(text.contains(expected), "{shown}: {text}");
                assert_eq!(exit, code, "{shown}: {text}");
            }
            (answer, expected) => panic!("{shown}: {answer:?}, expected {expected:?}"),
        }
    }
}

const OK: Result<Value, (&str, u8)> = Ok(Value::Null);

#[tokio::test]
async fn o2_users() {
    let context = context(PathBuf::new());
    let u = json!({ "username": "u" });
    let with = |password: &str| json!({ "username": "u", "password": password });
    let wrong = "Error: failed to authenticate user \"u\"\nuser 'u' - invalid credentials";
    let missing = "User \"u\" does not exist";
    check(
        &context,
        vec![
            ("add_user", with("pw"), OK),
            (
                "add_user",
                with("pw"),
                Err(("User \"u\" already exists", 70)),
            ),
            (
                "add_user",
                json!({ "username": "v", "password": "" }),
                Err(("", 65)),
            ),
            (
                "add_user",
                json!({ "username": "v" }),
                Err(("bad arguments: missing field", 64)),
            ),
            ("authenticate_user", with("pw"), OK),
            ("authenticate_user", with("no"), Err((wrong, 65))),
            ("change_password", with("p2"), OK),
            ("authenticate_user", with("pw"), Err((wrong, 65))),
            ("authenticate_user", with("p2"), OK),
            (
                "set_user_tags",
                json!({ "username": "u", "tags": ["b", "a"] }),
                OK,
            ),
            (
                "list_users",
                json!({}),
                Ok(json!([
                    { "user": "guest", "tags": ["administrator"] },
                    { "user": "u", "tags": ["b", "a"] }
                ])),
            ),
            ("delete_user", u.clone(), OK),
            ("delete_user", u, Err((missing, 67))),
            ("change_password", with("x"), Err((missing, 67))),
            (
                "set_user_tags",
                json!({ "username": "u", "tags": [] }),
                Err((missing, 67)),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn o2_hashed_passwords_are_taken() {
    let context = context(PathBuf::new());
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    check(
        &context,
        vec![
            (
                "add_user",
                json!({ "username": "h", "password": hash, "pre_hashed": true }),
                OK,
            ),
            (
                "authenticate_user",
                json!({ "username": "h", "password": "test12" }),
                OK,
            ),
            (
                "add_user",
                json!({ "username": "i", "password": "no hash", "pre_hashed": true }),
                Err(("", 65)),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn o2_vhosts() {
    let context = context(PathBuf::new());
    let v = json!({ "name": "v" });
    let missing = "Virtual host 'v' does not exist";
    check(
        &context,
        vec![
            ("add_vhost", v.clone(), OK),
            ("add_vhost", v.clone(), OK),
            (
                "list_vhosts",
                json!({ "columns": ["name", "description"] }),
                Ok(json!([
                    { "name": "/", "description": "Default virtual host" },
                    { "name": "v", "description": "" }
                ])),
            ),
            ("delete_vhost", v.clone(), OK),
            ("delete_vhost", v, Err((missing, 65))),
            ("list_queues", json!({ "vhost": "v" }), Err((missing, 65))),
        ],
    )
    .await;
}

#[tokio::test]
async fn o2_permissions() {
    let context = context(PathBuf::new());
    let set = |user: &str, vhost: &str, configure: &str| {
        let (write, read) = ("^a", "");
        json!({
            "username": user, "vhost": vhost, "configure": configure, "write": write, "read": read
        })
    };
    let row = |key: &str, value: &str| {
        let mut row = json!({ "configure": "c", "write": "^a", "read": "" });
        row[key] = Value::from(value);
        json!([row])
    };
    let guest = json!({ "username": "guest", "vhost": "/" });
    let nobody = json!({ "username": "nobody", "vhost": "/" });
    let slash = json!({ "vhost": "/" });
    check(
        &context,
        vec![
            ("set_permissions", set("guest", "/", "c"), OK),
            (
                "set_permissions",
                set("nobody", "/", "c"),
                Err(("User nobody does not exist", 67)),
            ),
            (
                "set_permissions",
                set("guest", "v", "c"),
                Err(("Virtual host v does not exist", 69)),
            ),
            (
                "set_permissions",
                set("guest", "/", "("),
                Err(("regular expression", 69)),
            ),
            ("list_permissions", slash.clone(), Ok(row("user", "guest"))),
            (
                "list_permissions",
                json!({ "vhost": "v" }),
                Err(("'v' does not exist", 65)),
            ),
            (
                "list_user_permissions",
                json!({ "username": "guest" }),
                Ok(row("vhost", "/")),
            ),
            (
                "list_user_permissions",
                nobody.clone(),
                Err(("User nobody does not exist", 69)),
            ),
            (
                "clear_permissions",
                nobody,
                Err(("User nobody does not exist", 67)),
            ),
            ("clear_permissions", guest, OK),
            ("list_permissions", slash, Ok(json!([]))),
        ],
    )
    .await;
}

#[tokio::test]
async fn o2_topic_permissions() {
    let context = context(PathBuf::new());
    let topic = json!({
        "username": "guest", "vhost": "/", "exchange": "amq.topic", "write": "w", "read": "r"
    });
    let guest = json!({ "username": "guest", "vhost": "/" });
    let nobody = json!({ "username": "nobody", "vhost": "/" });
    let slash = json!({ "vhost": "/" });
    let anna = json!({ "username": "anna", "password": "pw" });
    let annas = json!({
        "username": "anna", "vhost": "/", "exchange": "amq.topic", "write": "w", "read": "r"
    });
    let first = "user 'anna' has no permissions in vhost '/': set those first";
    check(
        &context,
        vec![
            ("add_user", anna, OK),
            ("set_topic_permissions", annas, Err((first, 69))),
            ("set_topic_permissions", topic, OK),
            (
                "list_topic_permissions",
                slash.clone(),
                Ok(json!([
                    { "user": "guest", "exchange": "amq.topic", "write": "w", "read": "r" }
                ])),
            ),
            (
                "list_user_topic_permissions",
                guest.clone(),
                Ok(json!([{ "vhost": "/", "exchange": "amq.topic", "write": "w", "read": "r" }])),
            ),
            ("clear_topic_permissions", guest.clone(), OK),
            ("list_topic_permissions", slash.clone(), Ok(json!([]))),
            (
                "clear_topic_permissions",
                nobody.clone(),
                Err(("User nobody does not exist", 67)),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn o2_global_parameters_map_ports_to_vhosts() {
    let context = context(PathBuf::new());
    let (name, text) = ("mqtt_port_to_vhost_mapping", r#"{"1883":"v1","8883":"v1"}"#);
    check(
        &context,
        vec![
            (
                "set_global_parameter",
                json!({ "name": name, "value": text }),
                OK,
            ),
            (
                "list_global_parameters",
                json!({}),
                Ok(json!([{ "name": name, "value": text }])),
            ),
            (
                "set_global_parameter",
                json!({ "name": "x", "value": "{x" }),
                Err(("JSON decoding error. Reason: ", 69)),
            ),
        ],
    )
    .await;
    assert_eq!(context.broker.vhost_of_port(1_883).as_deref(), Some("v1"));
    let named = json!({ "name": name });
    let cleared = vec![
        ("clear_global_parameter", named.clone(), OK),
        (
            "clear_global_parameter",
            named,
            Err(("Parameter does not exist", 69)),
        ),
    ];
    check(&context, cleared).await;
}

fn declare(context: &Context, name: &str) {
    let vhost = context.broker.vhost("/").expect("the default vhost");
    let mut arguments = Table::new();
    arguments
        .insert("x-expires", Field::I32(60_000))
        .expect("fits");
    let properties = QueueProperties {
        durable: true,
        arguments,
        ..QueueProperties::default()
    };
    let wish = DeclareQueue {
        name,
        properties,
        ..DeclareQueue::default()
    };
    let link = context.broker.owner_link(&vhost);
    link.queue_declare(&mut Turn::new(), &wish)
        .expect("declares");
}

#[tokio::test]
async fn o2_queues_exchanges_and_bindings() {
    let context = context(PathBuf::new());
    declare(&context, "q");
    let slash = json!({ "vhost": "/" });
    let q = json!({ "vhost": "/", "queue": "q" });
    let columns = ["name", "durable", "arguments", "messages", "policy", "type"];
    check(
        &context,
        vec![
            (
                "list_queues",
                json!({ "vhost": "/", "columns": columns }),
                Ok(json!([{
                    "name": "q",
                    "durable": true,
                    "arguments": [["x-expires", "signedint", 60_000]],
                    "messages": 0,
                    "policy": null,
                    "type": "classic"
                }])),
            ),
            (
                "list_bindings",
                slash.clone(),
                Ok(json!([{
                    "source_name": "",
                    "source_kind": "exchange",
                    "destination_name": "q",
                    "destination_kind": "queue",
                    "routing_key": "q",
                    "arguments": []
                }])),
            ),
            ("list_consumers", slash.clone(), Ok(json!([]))),
            ("purge_queue", q.clone(), Ok(json!({ "messages": 0 }))),
            ("delete_queue", q.clone(), Ok(json!({ "messages": 0 }))),
            ("delete_queue", q.clone(), Err(("Queue not found", 64))),
            ("purge_queue", q, Err(("not_found", 69))),
        ],
    )
    .await;
    let names = json!({ "vhost": "/", "columns": ["name", "type", "internal"] });
    let exchanges = ask(&context, "list_exchanges", names).await.expect("lists");
    let exchanges = exchanges.as_array().expect("rows");
    // RabbitMQ's seven, and that of events.
    assert_eq!(exchanges.len(), 8);
    assert!(exchanges.contains(&json!({ "name": "", "type": "direct", "internal": false })));
    let trace = json!({ "name": "amq.rabbitmq.trace", "type": "topic", "internal": true });
    assert!(exchanges.contains(&trace));
}

#[tokio::test]
async fn o2_connections_are_listed_by_protocol_and_closed() {
    let context = context(PathBuf::new());
    let connection = |protocol| {
        Arc::new(Connection {
            protocol,
            closed: AtomicBool::new(false),
        })
    };
    let (amqp, mqtt) = (connection("AMQP 0-9-1"), connection("MQTT 3-1-1"));
    context.broker.register(7, amqp.clone());
    context.broker.register(8, mqtt.clone());
    let name = "127.0.0.1:50000 -> 127.0.0.1:1883";
    let close = |which: &str| json!({ "connection": which, "reason": "bye" });
    check(
        &context,
        vec![
            (
                "list_connections",
                json!({ "columns": ["pid", "user", "peer_port", "protocol", "ssl_hash"] }),
                Ok(json!([{
                    "pid": "<leveret.7>",
                    "user": "guest",
                    "peer_port": 50_000,
                    "protocol": "{0,9,1}",
                    "ssl_hash": null
                }])),
            ),
            (
                "list_mqtt_connections",
                json!({ "columns": ["client_id", "conn_name", "protocol"] }),
                Ok(json!([
                    { "client_id": "c1", "conn_name": name, "protocol": "{'MQTT',{3,1,1}}" }
                ])),
            ),
            (
                "close_connection",
                close("<leveret.9>"),
                Err(("does not exist", 69)),
            ),
            ("close_connection", close("<leveret.8>"), OK),
        ],
    )
    .await;
    assert!(mqtt.closed.load(Ordering::Acquire) && !amqp.closed.load(Ordering::Acquire));
    check(&context, vec![("close_connection", close(name), OK)]).await;
    assert!(amqp.closed.load(Ordering::Acquire));
}

#[tokio::test]
async fn o1_plugins_are_switched_online() {
    let directory = tempfile::tempdir().expect("directory");
    let context = context(directory.path().to_owned());
    let change = |change: &str, names: &[&str]| json!({ "change": change, "names": names });
    let changed = ask(&context, "change_plugins", change("disable", &["mqtt"])).await;
    assert_eq!(
        changed.expect("disables")["stopped"],
        json!(["rabbitmq_mqtt"])
    );
    let listed = ask(&context, "list_plugins", json!({}))
        .await
        .expect("lists");
    let rows = listed["plugins"].as_array().expect("rows");
    for row in rows {
        let name = &row["name"];
        assert_eq!(row["enabled"], "not_enabled", "{name}");
        // Exchange types are always there.
        assert_eq!(row["running"], *name != "rabbitmq_mqtt", "{name}");
    }
    let hash = ["rabbitmq_consistent_hash_exchange"];
    for (verb, done) in [("enable", "started"), ("disable", "stopped")] {
        let changed = ask(&context, "change_plugins", change(verb, &hash)).await;
        assert_eq!(changed.expect("changes")[done], json!(hash));
    }
    let changed = ask(
        &context,
        "change_plugins",
        change("enable", &["rabbitmq_mqtt"]),
    )
    .await;
    assert_eq!(
        changed.expect("enables")["started"],
        json!(["rabbitmq_mqtt"])
    );
    let wrong = vec![
        (
            "change_plugins",
            change("enable", &["x"]),
            Err(("{:plugins_not_found, [:x]}", 70)),
        ),
        (
            "change_plugins",
            change("set", &["rabbitmq_stomp"]),
            Err(("known to RabbitMQ, not part of this version", 70)),
        ),
    ];
    check(&context, wrong).await;
    let file = std::fs::read_to_string(directory.path().join("enabled_plugins"));
    assert_eq!(file.expect("reads"), "[rabbitmq_mqtt].\n");
}

/// FEATURES D4: limits are changed and told, and `check_alarms` fails while an alarm is set.
#[tokio::test]
async fn d4_alarms_and_limits() {
    let context = context(PathBuf::new());
    let alarms = context.broker.alarms();
    alarms.check_memory(600, 1_000);
    alarms.check_disk(10_000);
    let (memory, disk) = ("set_vm_memory_high_watermark", "set_disk_free_limit");
    let none = "Node n@h reported no alarms, local or clusterwide";
    let both = "Memory alarm on node n@h\nFree disk space alarm on node n@h";
    let told = |names: Value, message| {
        let all = json!({ "node": "n@h", "alarms": names, "message": message });
        ("alarms", json!({}), Ok(all))
    };
    check(
        &context,
        vec![
            (disk, json!({ "limit": "10kB" }), OK),
            told(json!([]), none),
            ("check_alarms", json!({}), Ok(json!({ "message": none }))),
            (memory, json!({ "fraction": "0.5" }), OK),
            (disk, json!({ "mem_relative": "10.001" }), OK),
            told(json!(["memory", "disk"]), both),
            ("check_alarms", json!({}), Err((both, 69))),
            (memory, json!({ "absolute": "600" }), OK),
            told(json!(["disk"]), "Free disk space alarm on node n@h"),
            (
                memory,
                json!({ "fraction": "1.5" }),
                Err(("from 0.0 to 1.0", 65)),
            ),
            (memory, json!({ "absolute": "many" }), Err(("no size", 65))),
            (disk, json!({ "limit": "0.5" }), Err(("no size", 65))),
            (
                disk,
                json!({ "mem_relative": "-1" }),
                Err(("no number", 65)),
            ),
            (memory, json!({}), Err(("exactly one", 64))),
            (
                disk,
                json!({ "limit": "1", "mem_relative": "1" }),
                Err(("exactly one", 64)),
            ),
        ],
    )
    .await;
    let status = ask(&context, "status", json!({})).await.expect("is told");
    let expected = json!({
        "alarms": ["Free disk space alarm on node n@h"],
        "vm_memory_high_watermark_setting": { "absolute": 600 },
        "vm_memory_high_watermark_limit": 600,
        "disk_free_limit": 10_001,
        "disk_free": 10_000,
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&status[name], value, "{name}");
    }
}

#[tokio::test]
async fn o2_status_and_unknown_commands() {
    let directory = tempfile::tempdir().expect("directory");
    let context = context(directory.path().to_owned());
    let status = ask(&context, "status", json!({})).await.expect("answers");
    for (name, expected) in [
        ("node_name", json!("n@h")),
        ("uptime_s", json!(60)),
        ("active_plugins", json!(["rabbitmq_mqtt"])),
        ("config_files", json!(["a.toml"])),
        ("vhosts", json!(1)),
    ] {
        assert_eq!(status[name], expected, "{name}");
    }
    assert_eq!(status["listeners"][0]["port"], 1_883);
    let unknown = vec![(
        "nosuch",
        json!({}),
        Err(("Command 'nosuch' not found.", 64)),
    )];
    check(&context, unknown).await;
}
