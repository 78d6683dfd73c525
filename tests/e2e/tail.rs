//! `leveret tail` as a process of its own: it sees what goes by, and takes nothing.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use lapin::options::QueueDeclareOptions;
use serde_json::Value;

use crate::amqp;
use crate::broker::{TestBroker, eventually};
use crate::mqtt::{Mqtt5, options5};
use crate::program::program;

/// A `leveret tail` that watches. Killed when a test ends without it.
struct Tail {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Tail {
    async fn start(broker: &TestBroker, words: &str) -> Self {
        let mut child = program()
            .arg("tail")
            .args(words.split_whitespace())
            .arg("--data-dir")
            .arg(broker.data_dir())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        eventually("somebody watches", || broker.core().taps().any()).await;
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("is text");
        assert!(read > 0, "it ended");
        line.trim_end().to_owned()
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("is JSON")
    }

    fn ended(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn client(broker: &TestBroker, id: &str) -> Mqtt5 {
    Mqtt5::connect(options5(broker.mqtt(), id))
        .await
        .expect("it is let in")
}

/// FEATURES O8: publications of both protocols, with who published, where to, and how many queues
/// got it; those queues have it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_tail_shows_both_protocols() {
    let broker = TestBroker::start().await;
    let connection = amqp::connect(&broker).await;
    let channel = amqp::channel(&connection).await;
    let queue = amqp::declare(&channel, "q", QueueDeclareOptions::default()).await;
    amqp::bind(&channel, &queue, "amq.topic", "a.#").await;
    let mut device = client(&broker, "device").await;
    let mut tail = Tail::start(&broker, "a/# --json --count 3").await;
    device.publish("b/c", 1, b"not this").await;
    device.publish("a/b", 1, b"one").await;
    amqp::publish(&channel, "amq.topic", "a.c", b"two").await;
    let mqtt = tail.json();
    assert_eq!(
        (&mqtt["protocol"], &mqtt["key"]),
        (&"MQTT".into(), &"a/b".into())
    );
    assert_eq!(
        (&mqtt["client_id"], &mqtt["user"]),
        (&"device".into(), &"guest".into())
    );
    assert_eq!(
        (&mqtt["vhost"], &mqtt["exchange"]),
        (&"/".into(), &"amq.topic".into())
    );
    assert_eq!((&mqtt["qos"], &mqtt["routed"]), (&1.into(), &1.into()));
    assert_eq!(
        (&mqtt["payload"], &mqtt["skipped"]),
        (&"one".into(), &0.into())
    );
    assert!(
        mqtt["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with("127."))
    );
    let amqp = tail.json();
    assert_eq!(
        (&amqp["protocol"], &amqp["key"]),
        (&"AMQP 0-9-1".into(), &"a.c".into())
    );
    assert_eq!(
        (&amqp["qos"], &amqp["client_id"]),
        (&Value::Null, &Value::Null)
    );
    // The default exchange is watched as well.
    amqp::publish(&channel, "", "a", b"\xff\x00").await;
    let bytes = tail.json();
    assert_eq!(
        (&bytes["exchange"], &bytes["routed"]),
        (&"".into(), &0.into())
    );
    assert_eq!(bytes["payload"]["hex"], "ff00");
    assert_eq!(tail.ended(), Some(0));
    assert_eq!(broker.queue("q").map(|queue| queue.counts().0), Some(2));
    eventually("nobody watches any more", || !broker.core().taps().any()).await;
    broker.stop().await;
}

/// FEATURES O8: a binding key of AMQP, one protocol, one exchange; payloads cut or left out; more
/// than the rate is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_tail_chooses_and_samples() {
    let broker = TestBroker::start().await;
    let connection = amqp::connect(&broker).await;
    let channel = amqp::channel(&connection).await;
    let mut device = client(&broker, "device").await;
    let mut tail = Tail::start(&broker, "a.* --key --amqp-only --exchange amq.topic --json").await;
    device.publish("a/b", 1, b"x").await;
    amqp::publish(&channel, "amq.direct", "a.b", b"x").await;
    amqp::publish(&channel, "amq.topic", "a.b.c", b"x").await;
    amqp::publish(&channel, "amq.topic", "a.b", b"it is").await;
    assert_eq!(tail.json()["payload"], "it is");
    drop(tail);
    eventually("nobody watches any more", || !broker.core().taps().any()).await;
    let mut tail = Tail::start(&broker, "--mqtt-only --json --payload-bytes 3 --rate 1").await;
    let flood = tokio::spawn(async move {
        loop {
            device.publish("a/b", 1, "né!".as_bytes()).await;
        }
    });
    // The next second's first tells how many there were.
    let (first, next) = (tail.json(), tail.json());
    flood.abort();
    assert_eq!(
        (&first["payload"], &first["payload_bytes"]),
        (&"né".into(), &4.into())
    );
    assert!(next["skipped"].as_u64() > Some(0), "{next}");
    drop(tail);
    eventually("nobody watches any more", || !broker.core().taps().any()).await;
    let mut tail = Tail::start(&broker, "a/b --redact").await;
    let mut device = client(&broker, "device").await;
    device.publish("a/b", 0, b"secret").await;
    let line = tail.line();
    assert!(
        line.contains("MQTT / amq.topic a/b q0 guest/device@127.0.0.1:"),
        "{line}"
    );
    assert!(line.ends_with(" -> 0 queues, 6 B:"), "{line}");
    broker.stop().await;
}
