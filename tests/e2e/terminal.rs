//! `leveret pub` and `leveret sub` as processes of their own, against a broker and each other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use lapin::options::QueueDeclareOptions;
use rustix::process::{Pid, Signal, kill_process};

use crate::amqp;
use crate::broker::{TestBroker, eventually};
use crate::mqtt::{Mqtt5, options5};
use crate::program::{code, program, stderr, stdout};

/// A command whose words are split at blanks, with the broker's ports for MQTT and AMQP. A tilde
/// is a blank within a word.
fn command(broker: &TestBroker, words: &str) -> Command {
    let (mqtt, amqp) = (broker.mqtt().port(), broker.amqp().port());
    let words = words
        .replace("AMQP", &amqp.to_string())
        .replace("MQTT", &mqtt.to_string());
    let mut command = program();
    command.args(words.split_whitespace().map(|word| word.replace('~', " ")));
    command
}

async fn run(broker: &TestBroker, words: &str) -> Output {
    run_with(broker, words, "").await
}

async fn run_with(broker: &TestBroker, words: &str, input: &str) -> Output {
    let mut command = command(broker, words);
    let input = input.to_owned();
    let work = move || {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may have ended before it reads.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    tokio::task::spawn_blocking(work).await.expect("it ran")
}

async fn done(broker: &TestBroker, words: &str) {
    let output = run(broker, words).await;
    assert_eq!(code(&output), Some(0), "{words}: {}", stderr(&output));
}

/// A `leveret sub` that is subscribed. Killed when a test ends without it.
struct Sub {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Sub {
    /// With `-d`, so that it tells when it is subscribed.
    fn start(broker: &TestBroker, words: &str) -> Self {
        let mut sub = Self::begin(broker, &format!("sub -d {words}"));
        while !sub.line().starts_with("Subscribed") {}
        sub
    }

    fn begin(broker: &TestBroker, words: &str) -> Self {
        let mut child = command(broker, words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("is text");
        assert!(read > 0, "it ended");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next message; what `-d` says is left out.
    fn message(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.starts_with("Client ") {
                return line;
            }
        }
    }

    fn ended(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }

    fn stop(self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.ended()
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// FEATURES O8: each version and QoS; the broker delivers with QoS 1 at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_every_version_and_qos() {
    let broker = TestBroker::start().await;
    for version in ["31", "mqttv311", "5"] {
        for qos in 0..=2 {
            let words = format!("-p MQTT -V {version} -t a/+ -q {qos} -C 2 -F %t|%q|%p");
            let mut sub = Sub::start(&broker, &words);
            let rest = format!("-p MQTT -V {version} -q {qos}");
            done(&broker, &format!("pub {rest} -t a/b -m one~two")).await;
            done(&broker, &format!("pub {rest} -t a/c -n")).await;
            assert_eq!(sub.message(), format!("a/b|{}|one two", qos.min(1)));
            assert_eq!(sub.message(), format!("a/c|{}|", qos.min(1)));
            assert_eq!(sub.ended(), Some(0), "{version} {qos}");
        }
    }
    broker.stop().await;
}

/// FEATURES O8: payloads of lines, files, pipes, and several times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_where_payloads_come_from() {
    let broker = TestBroker::start().await;
    let file = broker.data_dir().join("payload");
    std::fs::write(&file, "from a file").expect("it is written");
    let mut sub = Sub::start(&broker, "-p MQTT -t t -q 1 -v -C 8");
    let pub_ = "pub -p MQTT -t t -q 1";
    let piped = [("-l", "a\nb\n\nd"), ("-s", "all\tof it")];
    for (option, input) in piped {
        let output = run_with(&broker, &format!("{pub_} {option}"), input).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    }
    done(&broker, &format!("{pub_} -f {}", file.display())).await;
    done(&broker, &format!("{pub_} -m again --repeat 2 -M 1")).await;
    let expected = [
        "a",
        "b",
        "",
        "d",
        "all\tof it",
        "from a file",
        "again",
        "again",
    ];
    for payload in expected {
        assert_eq!(sub.message(), format!("t {payload}"));
    }
    assert_eq!(sub.ended(), Some(0));
    broker.stop().await;
}

/// FEATURES O8: what comes from MQTT and from AMQP, at either kind of subscriber, with properties.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_across_protocols() {
    let broker = TestBroker::start().await;
    let form = "%t|%p|%C|%D|%R|%E|%P";
    let mut mqtt = Sub::start(&broker, &format!("-p MQTT -V 5 -t a/# -C 2 -F {form}"));
    let url = "amqp://guest:guest@localhost:AMQP/%2f";
    let words = format!("sub -L {url} -t a/# -q 1 -C 2 -F {form}");
    let mut other = Sub::begin(&broker, &words);
    eventually("the AMQP client consumes", || {
        let vhost = broker.core().vhost("/").expect("it is there");
        let consuming = vhost.queues().iter().filter(|q| q.counts().1 > 0).count();
        consuming == 2
    })
    .await;
    let says = "-D publish content-type text -D publish correlation-data id \
                -D publish message-expiry-interval 60 -D publish user-property k v";
    done(&broker, &format!("pub -p MQTT -t a/b -m one -q 1 {says}")).await;
    done(&broker, &format!("pub -L {url} -t a/b -m two -q 1 {says}")).await;
    for sub in [&mut mqtt, &mut other] {
        for payload in ["one", "two"] {
            let line = sub.message();
            let wanted = format!("a/b|{payload}|text|id||60|");
            assert!(line.starts_with(&wanted) && line.contains("k:v"), "{line}");
        }
    }
    assert_eq!((mqtt.ended(), other.ended()), (Some(0), Some(0)));
    // A queue that is there is consumed with acknowledgements: what is not wanted stays.
    let connection = amqp::connect(&broker).await;
    let channel = amqp::channel(&connection).await;
    amqp::declare(&channel, "work", QueueDeclareOptions::default()).await;
    amqp::bind(&channel, "work", "amq.topic", "work").await;
    for word in ["x", "y", "z"] {
        done(
            &broker,
            &format!("pub -L {url} --routing-key work -m {word} -q 1"),
        )
        .await;
    }
    let output = run(&broker, &format!("sub -L {url} --queue work -C 2")).await;
    assert_eq!(stdout(&output), "x\ny\n");
    eventually("the third is back", || {
        broker
            .queue("work")
            .is_some_and(|queue| queue.counts().0 == 1)
    })
    .await;
    broker.stop().await;
}

/// FEATURES O8: retained messages, sessions that stay, topics that are left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_retained_and_sessions() {
    let broker = TestBroker::start().await;
    done(&broker, "pub -p MQTT -t r/a -m kept -r -q 1").await;
    done(&broker, "pub -p MQTT -t r/b -m kept -r -q 1").await;
    let table = [
        ("-v -C 1 -T r/b", "r/a kept\n", 0),
        ("-F %t|%r -C 1 -T r/a", "r/b|1\n", 0),
        ("-N -C 2", "keptkept", 0),
        ("-R -W 1", "", 27),
        ("--random-filter 0 -W 1", "", 27),
        ("--remove-retained -T r/b -C 1", "kept\n", 0),
        ("-v -C 1", "r/b kept\n", 0),
    ];
    for (words, expected, exit) in table {
        let output = run(&broker, &format!("sub -p MQTT -t r/+ {words}")).await;
        assert_eq!(
            (stdout(&output), code(&output)),
            (expected.to_owned(), Some(exit)),
            "{words}"
        );
    }
    let mut sub = Sub::start(&broker, "-p MQTT -t r/+ --retained-only");
    assert_eq!(sub.message(), "kept");
    done(&broker, "pub -p MQTT -t r/b -m live").await;
    assert_eq!(sub.ended(), Some(0));
    for version in ["311", "5"] {
        let session = format!("sub -p MQTT -V {version} -i s{version} -c -q 1");
        done(&broker, &format!("{session} -t s -E")).await;
        done(&broker, "pub -p MQTT -t s -m waited -q 1").await;
        let output = run(&broker, &format!("{session} -t s -C 1")).await;
        assert_eq!(stdout(&output), "waited\n");
        done(&broker, &format!("{session} -U s -W 1 -E")).await;
        done(&broker, "pub -p MQTT -t s -m lost -q 1").await;
        let name = format!("mqtt-subscription-s{version}qos1");
        let left = broker.queue(&name).map(|queue| queue.counts().0);
        assert_eq!(left, Some(0), "{version}");
    }
    broker.stop().await;
}

/// FEATURES O8: SIGTERM ends a subscriber with DISCONNECT, SIGKILL without: only then its will.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_a_signal_is_an_orderly_end() {
    let broker = TestBroker::start().await;
    let mut watcher = Mqtt5::connect(options5(broker.mqtt(), "watcher"))
        .await
        .expect("it is let in");
    watcher.subscribe("will", 1).await;
    let will = "-p MQTT -t t --will-topic will --will-qos 1 --will-payload";
    let gentle = Sub::start(&broker, &format!("{will} gentle"));
    assert_eq!(gentle.stop(Signal::TERM), Some(0));
    let rough = Sub::start(&broker, &format!("{will} rough"));
    assert_eq!(rough.stop(Signal::KILL), None);
    assert_eq!(watcher.next().await.text(), "rough");
    broker.stop().await;
}

/// FEATURES O8: what ends it with which code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_exit_codes_of_pub_and_sub() {
    let broker = TestBroker::start().await;
    broker.add_user("nobody", "nobody", &[]).await;
    for &(words, exit, text) in ENDS {
        let output = run(&broker, words).await;
        let said = stderr(&output);
        assert_eq!(code(&output), Some(exit), "{words}: {said}");
        assert!(said.contains(text), "{words}: {said}");
    }
    let quiet = run(&broker, "sub -p 1 -t a --quiet").await;
    assert_eq!((code(&quiet), stderr(&quiet)), (Some(69), String::new()));
    broker.stop().await;
}

/// Words, the exit code, and what standard error says.
const ENDS: &[(&str, i32, &str)] = &[
    ("pub -p MQTT -m x", 64, "-t is missing"),
    ("pub -p MQTT -t a/# -m x", 64, "-t a/#"),
    (
        "pub -p MQTT -t a -m x --cafile f",
        64,
        "TLS is not supported",
    ),
    (
        "sub -p MQTT -t a --proxy f",
        64,
        "proxies are not supported",
    ),
    (
        "pub -L mqtts://localhost/t -m x",
        64,
        "TLS is not supported",
    ),
    ("pub -L mqtt://localhost/t -h h -m x", 64, "-h and -L"),
    ("pub -p MQTT -t a", 64, ""),
    (
        "pub -p MQTT -t a -m x -V 5 -D publish nothing 1",
        64,
        "nothing",
    ),
    ("pub -p MQTT -t a -m x -V 311 -x 5", 64, "need MQTT 5.0"),
    ("pub -p MQTT -t a -m x -c", 64, "client id"),
    ("pub -p MQTT -t a -m x --exchange e", 64, "nothing in MQTT"),
    (
        "pub -L amqp://localhost:AMQP -t a -m x -r",
        64,
        "nothing in AMQP",
    ),
    ("sub -p MQTT -t a -F %Q", 64, "%Q is not known"),
    ("sub -p MQTT", 64, "-t is missing"),
    ("pub -p MQTT -t a -f no/such/file", 65, "no/such/file"),
    ("pub -p 1 -t a -m x", 69, "cannot connect"),
    (
        "pub -p MQTT -u nobody -P wrong -t a -m x",
        69,
        "bad user name or password",
    ),
    (
        "pub -p MQTT -V 5 -u nobody -P nobody -t a -m x",
        69,
        "(0x87)",
    ),
    (
        "pub -L amqp://guest:wrong@localhost:AMQP -t a -m x",
        69,
        "403 ACCESS_REFUSED",
    ),
    (
        "pub -L amqp://localhost:AMQP/none -t a -m x",
        69,
        "530 NOT_ALLOWED",
    ),
    (
        "pub -L amqp://localhost:AMQP --exchange e -t a -m x -q 1",
        69,
        "404 NOT_FOUND",
    ),
    (
        "pub -L amqp://localhost:AMQP -t a -m x --mandatory",
        69,
        "312 NO_ROUTE",
    ),
    (
        "sub -L amqp://localhost:AMQP --queue q -C 1",
        69,
        "404 NOT_FOUND",
    ),
    (
        "pub -p MQTT -V 5 -t $SYS/a -m x -q 1",
        69,
        "not authorized (0x87)",
    ),
    ("sub -p MQTT -t a -W 1", 27, "Timed out"),
    ("sub -L amqp://localhost:AMQP -t a -W 1", 27, "Timed out"),
    ("pub -p MQTT -t a -m x", 0, ""),
];
