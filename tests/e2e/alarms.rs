//! Alarms: publishers of both protocols wait, consumers go on, and nothing is lost.

use std::ops::RangeInclusive;

use lapin::options::{
    BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::{BasicProperties, Channel, Confirmation, Consumer};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::amqp::{ack, bind, channel, connect, consume, declare, next, next_text, publish, text};
use crate::broker::{TestBroker, eventually, within};
use crate::program::{Program, code, run, stderr, stdout};

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

/// A client that is nothing but bytes: it sends and reads exactly what a test says.
struct Mqtt(TcpStream);

impl Mqtt {
    async fn connect(broker: &TestBroker, id: u8) -> Self {
        let stream = within(TcpStream::connect(broker.mqtt())).await;
        let mut client = Self(stream.expect("it listens"));
        // Keep alive 60 s, clean session.
        let mut connect = *b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01_";
        connect[14] = id;
        client.send(&connect).await;
        client.receives(&[0x20, 2, 0, 0]).await;
        client
    }

    async fn send(&mut self, bytes: &[u8]) {
        within(self.0.write_all(bytes)).await.expect("it is open");
    }

    /// The next bytes are these.
    async fn receives(&mut self, expected: &[u8]) {
        let mut found = vec![0; expected.len()];
        within(self.0.read_exact(&mut found))
            .await
            .expect("it is open");
        assert_eq!(found, expected);
    }

    /// It is answered, and by nothing else.
    async fn pings(&mut self) {
        self.send(&PINGREQ).await;
        self.receives(&PINGRESP).await;
    }
}

/// PUBLISH with QoS 1 to `m/t`; the payload is the packet id.
fn packet(id: u8) -> [u8; 10] {
    [0x32, 8, 0, 3, b'm', b'/', b't', 0, id, b'0' + id]
}

fn puback(id: u8) -> [u8; 4] {
    [0x40, 2, 0, id]
}

/// Publishes with a confirm for each.
async fn publish_confirmed(channel: Channel, bodies: RangeInclusive<u32>) {
    let mut waiting = Vec::new();
    for body in bodies {
        let body = body.to_string();
        let sent = channel.basic_publish(
            "".into(),
            "jobs".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default(),
        );
        waiting.push(within(sent).await.expect("may be sent"));
    }
    for confirm in waiting {
        let confirmation = within(confirm).await.expect("a confirm");
        assert_eq!(confirmation, Confirmation::Ack(None));
    }
}

/// The next deliveries are these; each is acknowledged.
async fn take(consumer: &mut Consumer, bodies: RangeInclusive<u32>) {
    for body in bodies {
        let delivery = next(consumer).await;
        assert_eq!(text(&delivery), body.to_string());
        ack(&delivery).await;
    }
}

/// The states of all connections that a listing shows, sorted.
async fn states(broker: &TestBroker, listing: &str, column: &str) -> Vec<String> {
    let rows = broker.ctl(listing, json!({ "columns": [column] })).await;
    let rows = rows.as_array().expect("rows").iter();
    let mut states: Vec<String> = rows
        .map(|row| row[column].as_str().expect("a state").to_owned())
        .collect();
    states.sort();
    states
}

async fn set_memory_limit(broker: &TestBroker, fraction: &str) {
    let limit = json!({ "fraction": fraction });
    broker.ctl("set_vm_memory_high_watermark", limit).await;
}

async fn alarms(broker: &TestBroker) -> Value {
    broker.ctl("alarms", json!({})).await["alarms"].take()
}

/// FEATURES D4: with too little memory publishers of both protocols are blocked and their clients
/// stay connected, a consumer takes and acknowledges what is there, and when there is more memory
/// everything arrives, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_memory_alarm_blocks_publishers_and_nobody_else() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = channel(&connection).await;
    let selected = publisher.confirm_select(ConfirmSelectOptions::default());
    within(selected).await.expect("confirm.select-ok");
    declare(&publisher, "jobs", QueueDeclareOptions::default()).await;
    declare(&publisher, "from-mqtt", QueueDeclareOptions::default()).await;
    bind(&publisher, "from-mqtt", "amq.topic", "m.t").await;
    publish_confirmed(publisher.clone(), 1..=20).await;
    let mut mqtt = Mqtt::connect(&broker, b'p').await;
    let consuming = connect(&broker).await;
    let consumer = channel(&consuming).await;
    let qos = consumer.basic_qos(1, BasicQosOptions::default());
    within(qos).await.expect("basic.qos-ok");

    set_memory_limit(&broker, "0").await;
    assert_eq!(alarms(&broker).await, json!(["memory"]));
    assert_eq!(
        states(&broker, "list_connections", "state").await,
        ["running"; 2]
    );
    publish(&publisher, "", "jobs", b"21").await;
    eventually("lapin has been told", || connection.status().blocked()).await;
    assert_eq!(
        states(&broker, "list_connections", "state").await,
        ["blocked", "running"]
    );
    let rest = tokio::spawn(publish_confirmed(publisher.clone(), 22..=40));

    let mut sent = [packet(1), packet(2)].concat();
    sent.extend_from_slice(&PINGREQ);
    sent.extend_from_slice(&packet(3));
    mqtt.send(&sent).await;
    mqtt.receives(&PINGRESP).await;
    mqtt.pings().await;
    let mqtt_states = states(&broker, "list_mqtt_connections", "connection_state").await;
    assert_eq!(mqtt_states, ["blocked"]);

    // The publish that met the alarm was taken.
    let mut jobs = consume(&consumer, "jobs").await;
    take(&mut jobs, 1..=21).await;
    let queue = broker.queue("jobs").expect("declared");
    eventually("the queue is drained", || {
        let view = queue.view();
        (view.ready, view.unacked) == (0, 0)
    })
    .await;
    let held = broker.queue("from-mqtt").expect("declared");
    assert_eq!(held.view().ready, 0);
    mqtt.pings().await;

    set_memory_limit(&broker, "1").await;
    assert_eq!(alarms(&broker).await, json!([]));
    for id in 1..=3 {
        mqtt.receives(&puback(id)).await;
    }
    mqtt.pings().await;
    eventually("lapin goes on", || !connection.status().blocked()).await;
    take(&mut jobs, 22..=40).await;
    rest.await.expect("all are confirmed");
    let other = channel(&consuming).await;
    let mut from_mqtt = consume(&other, "from-mqtt").await;
    for expected in ["1", "2", "3"] {
        assert_eq!(next_text(&mut from_mqtt).await, expected);
    }
    broker.stop().await;
}

/// FEATURES D3, D4: with a full disk publishers wait as well, and one alarm that clears does not
/// let them go while the other is set, whichever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_disk_alarm_blocks_and_either_alarm_is_enough() {
    let broker = TestBroker::start().await;
    let set_disk_limit = |limit: Value| broker.ctl("set_disk_free_limit", limit);
    let mut mqtt = Mqtt::connect(&broker, b'a').await;
    for (round, memory_first) in [(1, true), (2, false)] {
        set_disk_limit(json!({ "limit": "1000000TB" })).await;
        assert_eq!(alarms(&broker).await, json!(["disk"]));
        set_memory_limit(&broker, "0.0").await;
        assert_eq!(alarms(&broker).await, json!(["memory", "disk"]));
        mqtt.send(&packet(round)).await;
        mqtt.pings().await;
        if memory_first {
            set_memory_limit(&broker, "0.9").await;
            mqtt.pings().await;
            set_disk_limit(json!({ "mem_relative": "0" })).await;
        } else {
            set_disk_limit(json!({ "limit": "1" })).await;
            mqtt.pings().await;
            set_memory_limit(&broker, "0.9").await;
        }
        mqtt.receives(&puback(round)).await;
    }
    broker.stop().await;
}

/// FEATURES D4: a broker with blocked publishers stops like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_broker_with_blocked_publishers_stops() {
    let broker = TestBroker::start_with(|config| {
        config.core.memory_limit = leveret_core::options::ResourceLimit::Absolute(1);
    })
    .await;
    assert_eq!(alarms(&broker).await, json!(["memory"]), "from the start");
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    publish(&channel, "", "nowhere", b"x").await;
    let mut mqtt = Mqtt::connect(&broker, b'a').await;
    mqtt.send(&packet(1)).await;
    mqtt.pings().await;
    eventually("both are blocked", || broker.core().alarms().waiting() == 2).await;
    broker.stop().await;
    let mut rest = Vec::new();
    let _ = within(mqtt.0.read_to_end(&mut rest)).await;
    assert!(
        rest.is_empty(),
        "nothing is acknowledged that was not handled"
    );
}

/// FEATURES D4: what `leveret ctl` says and sets, and the exit code for health checks.
#[test]
fn d4_ctl_tells_and_sets() {
    let directory = tempfile::tempdir().expect("a data directory");
    let data_dir = directory.path();
    let broker = Program::start(data_dir);
    let ctl = |words: &[&str]| run(&[&["ctl"], words].concat(), data_dir);
    let healthy = ctl(&["check_alarms", "-q"]);
    assert_eq!(code(&healthy), Some(0), "{}", stderr(&healthy));
    assert!(stdout(&healthy).ends_with(" reported no alarms, local or clusterwide\n"));
    let text = stdout(&ctl(&["status"]));
    for part in [
        "Alarms\n\n(none)\n",
        "Memory high watermark setting: 0.6 of available memory, computed to: ",
        "Low free disk space watermark: 0.0500 gb\n",
        "Free disk space: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let set = ctl(&["set_vm_memory_high_watermark", "absolute", "1KiB"]);
    assert_eq!(code(&set), Some(0), "{}", stderr(&set));
    let text = stdout(&set);
    assert!(text.starts_with("Setting memory threshold on "), "{text}");
    assert!(text.ends_with(" to 1KiB bytes ...\n"), "{text}");
    let set = ctl(&["set_disk_free_limit", "mem_relative", "1000000"]);
    assert_eq!(code(&set), Some(0), "{}", stderr(&set));
    let sick = ctl(&["check_alarms"]);
    assert_eq!(code(&sick), Some(69));
    let text = stderr(&sick);
    assert!(
        text.starts_with("Error:\nMemory alarm on node leveret@"),
        "{text}"
    );
    assert!(
        text.contains("\nFree disk space alarm on node leveret@"),
        "{text}"
    );
    let told = ctl(&["alarms", "--silent"]);
    assert_eq!(code(&told), Some(0), "only check_alarms fails");
    assert!(stdout(&told).starts_with("Memory alarm on node"));
    let text = stdout(&ctl(&["status"]));
    assert!(
        text.contains("Alarms\n\nMemory alarm on node leveret@"),
        "{text}"
    );
    assert!(
        text.contains("Memory high watermark setting: 0.0000 gb\n"),
        "{text}"
    );

    for (words, expected) in [
        (&["set_vm_memory_high_watermark"][..], 64),
        (&["set_vm_memory_high_watermark", "absolute"], 64),
        (&["set_vm_memory_high_watermark", "0.4", "0.5"], 64),
        (&["set_vm_memory_high_watermark", "1.1"], 65),
        (&["set_vm_memory_high_watermark", "absolute", "1XB"], 65),
        (&["set_disk_free_limit", "lots"], 65),
        (&["set_disk_free_limit", "mem_relative", "x"], 65),
    ] {
        let output = ctl(words);
        assert_eq!(
            code(&output),
            Some(expected),
            "{words:?}: {}",
            stderr(&output)
        );
    }
    assert_eq!(broker.stop(Signal::TERM), Some(0));
}
