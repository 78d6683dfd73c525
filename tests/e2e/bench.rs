//! `leveret bench` as a process of its own, against a broker.

use std::process::Command;

use serde_json::Value;

use crate::broker::{TestBroker, eventually};

/// Runs the command, with the broker's addresses for MQTT and AMQP; standard output, and the exit
/// code.
async fn bench(broker: &TestBroker, words: &str) -> (String, Option<i32>) {
    let line = words
        .replace("MQTT", &broker.mqtt().to_string())
        .replace("AMQP", &broker.amqp().to_string());
    let run = move || {
        Command::new(env!("CARGO_BIN_EXE_leveret"))
            .arg("bench")
            .args(line.split_whitespace())
            .output()
            .expect("the program starts")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it ran");
    let stdout = String::from_utf8(output.stdout).expect("is text");
    (stdout, output.status.code())
}

/// FEATURES O8: every pattern over both protocols, and the bridge both ways: all comes, once, in
/// order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_bench_counts_what_comes() {
    let broker = TestBroker::start().await;
    let table = [
        ("mqtt --addr MQTT", 1),
        ("mqtt --addr MQTT --pattern fan-in --pubs 3 --qos 1", 1),
        (
            "mqtt --addr MQTT --pattern fan-out --subs 3 --qos 2 --mqtt-version 5",
            3,
        ),
        (
            "mqtt --addr MQTT --pattern shared --subs 3 --qos 1 --size 2000",
            1,
        ),
        (
            "mqtt --addr MQTT --pubs 2 --qos 1 --persistent --window 10",
            1,
        ),
        ("mqtt --addr MQTT --rate 5000", 1),
        ("amqp --addr AMQP --pubs 2", 1),
        ("amqp --addr AMQP --pattern fan-out --subs 3 --auto-ack", 3),
        (
            "amqp --addr AMQP --pattern shared --subs 2 --prefetch 50 --ack-every 10",
            1,
        ),
        (
            "amqp --addr AMQP --persistent --durable --confirms --window 50",
            1,
        ),
        ("bridge --addr MQTT --amqp-addr AMQP --qos 1", 1),
        (
            "bridge --addr MQTT --amqp-addr AMQP --direction amqp-mqtt --subs 2 --confirms",
            2,
        ),
    ];
    for (words, copies) in table {
        let words = format!("{words} --messages 1000 -q -o json");
        let (json, code) = bench(&broker, &words).await;
        assert_eq!(code, Some(0), "{words}: {json}");
        let report: Value = serde_json::from_str(&json).expect("is JSON");
        let expected = [
            ("sent", 1_000),
            ("received", 1_000 * copies),
            ("lost", 0),
            ("duplicates", 0),
            ("order_violations", 0),
        ];
        for (name, n) in expected {
            assert_eq!(report[name], n, "{words}: {name} in {json}");
        }
    }
    // What the runs have made is gone with them.
    eventually("no queue is left", || {
        let vhost = broker.core().vhost("/");
        vhost.is_some_and(|vhost| vhost.queues().is_empty())
    })
    .await;
    broker.stop().await;
}

/// A run without JSON ends with a summary; a broker that refuses ends it with 69.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_bench_tells_people() {
    let broker = TestBroker::start().await;
    let (text, code) = bench(&broker, "mqtt --addr MQTT --messages 2k").await;
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "sent                    2,000",
        "lost",
        "latency   p50",
        " <  ",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let login = "mqtt --addr MQTT --user nobody --password wrong";
    assert_eq!(bench(&broker, login).await, (String::new(), Some(69)));
    broker.stop().await;
}
