//! The generator against its own null broker: nothing lost on a sound one, everything noticed on a
//! faulty one.
//!
//! Owns the processes it starts. Asserts counts, never times.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A null broker, on ports that the system chooses.
struct Null {
    child: Child,
    mqtt: String,
    amqp: String,
}

impl Drop for Null {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Null {
    fn start(faults: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let mut child = Command::new(env!("CARGO_BIN_EXE_load"))
            .args(["null-broker", "--addr", any, "--amqp-addr", any])
            .args(["--max-seconds", "60"])
            .args(faults)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // It says where it listens once it does: null broker, pid 1, on MQTT AMQP
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("it is piped");
        BufReader::new(stderr)
            .read_line(&mut line)
            .expect("it says so");
        let mut words = line.split_whitespace().rev().map(String::from);
        let amqp = words.next().expect("an address");
        let mqtt = words.next().expect("an address");
        Self { child, mqtt, amqp }
    }

    /// Runs a command against it; the JSON line, and whether it ended well.
    fn load(&self, command: &str) -> (String, bool) {
        let pid = self.child.id().to_string();
        let command = command
            .replace("MQTT", &self.mqtt)
            .replace("AMQP", &self.amqp)
            .replace("PID", &pid);
        load(&command)
    }

    /// A command after which everything has come, each so many times, in order.
    #[track_caller]
    fn sound(&self, command: &str, copies: i64) {
        let (json, ok) = self.load(command);
        assert!(ok, "{command}: {json}");
        let expected = count(&json, "sent") * copies;
        assert_eq!(count(&json, "received"), expected, "{command}: {json}");
        assert!(expected > 0, "{command}: {json}");
        for name in ["lost", "duplicates", "order_violations", "stalls"] {
            assert_eq!(count(&json, name), 0, "{command}: {name} in {json}");
        }
    }
}

fn load(command: &str) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(command.split_whitespace())
        .output()
        .expect("the program starts");
    let json = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    (json, output.status.success())
}

fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()
}

#[track_caller]
fn count(json: &str, name: &str) -> i64 {
    let text = field(json, name).unwrap_or_else(|| panic!("no {name} in {json}"));
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is no count in {json}"))
}

#[test]
fn nothing_is_lost_over_mqtt() {
    let null = Null::start(&[]);
    let shapes = [
        ("fan-in --pubs 3 --topics 7", 1),
        ("fan-out --subs 4", 4),
        ("pairs --pubs 5", 1),
        ("pairs --pubs 2 --topics-per-pub 9 --topic-levels 7", 1),
        ("shared --pubs 2 --subs 3", 1),
    ];
    for version in [4, 5] {
        for qos in 0..3 {
            for (shape, copies) in shapes {
                let command = format!(
                    "mqtt pub-sub --addr MQTT --pattern {shape} --qos {qos} \
                     --mqtt-version {version} --messages 2001 --broker-pid PID"
                );
                null.sound(&command, copies);
            }
        }
    }
    let rest = [
        ("pub-sub --messages 50 --size 1000000", 1),
        (
            "pub-sub --pattern pairs --pubs 3 --qos 1 --messages 999 --persistent",
            1,
        ),
        (
            "pub-sub --pattern fan-out --subs 1000 --messages 300",
            1_000,
        ),
        ("latency --rate 5000 --messages 500", 1),
        (
            "pub-sub --mqtt-version 5 --qos 1 --user-properties 5 --messages 999",
            1,
        ),
        (
            "pub-sub --pattern fan-out --pubs 2 --subs 2 --topic-levels 3 --messages 99",
            2,
        ),
    ];
    for (command, copies) in rest {
        null.sound(&format!("mqtt {command} --addr MQTT"), copies);
    }
}

#[test]
fn nothing_is_lost_over_amqp() {
    let null = Null::start(&[]);
    let table = [
        ("--auto-ack", 1),
        ("--prefetch 200 --ack-every 50", 1),
        ("--confirms --window 50 --prefetch 20 --ack-every 7", 1),
        ("--exchange topic --pubs 4 --subs 8 --queues 4", 1),
        ("--exchange topic --topics-per-pub 20 --topic-levels 6", 1),
        ("--size 300000 --messages 100", 1),
        ("--exchange fanout --queues 3 --subs 3", 3),
    ];
    for (flags, copies) in table {
        let command = format!("amqp pub-sub --amqp-addr AMQP --messages 5001 {flags}");
        null.sound(&command, copies);
    }
}

#[test]
fn connections_are_counted() {
    let null = Null::start(&[]);
    let table = [
        (
            "mqtt connect --addr MQTT --conns 300 --hold 0.2 --settle 0 --subscribe",
            vec![("connected", 300), ("failed", 0), ("conn_lat_n", 300)],
        ),
        (
            "amqp connect --amqp-addr AMQP --conns 300 --rate 0 --hold 0.1 --settle 0",
            vec![("connected", 300), ("failed", 0), ("conn_lat_n", 300)],
        ),
        (
            "mqtt churn --addr MQTT --cycles 500",
            vec![("cycles", 500), ("failed", 0), ("conn_lat_n", 500)],
        ),
        (
            "mqtt sessions --addr MQTT --count 500 --filters 3 --settle 0 --broker-pid PID",
            vec![("sessions", 500), ("failed", 0), ("removed", 500)],
        ),
        (
            "mqtt sessions --addr MQTT --count 50 --mqtt-version 5 --settle 0 --keep",
            vec![("sessions", 50), ("session_lat_n", 50)],
        ),
    ];
    for (command, expected) in table {
        let (json, ok) = null.load(command);
        assert!(ok, "{command}: {json}");
        for (name, n) in expected {
            assert_eq!(count(&json, name), n, "{command}: {json}");
        }
    }
}

#[test]
fn sessions_that_do_not_come_back_are_noticed() {
    let null = Null::start(&[]);
    let rest = "--addr MQTT --seconds 0.5 --settle 0 --broker-pid PID";
    let (json, ok) = null.load(&format!("mqtt takeover --ids 2 --rate 40 {rest}"));
    assert!(!ok, "{json}");
    // It leaves every connection open.
    for (name, expected) in [("returned", 20), ("evicted", 0), ("left_up", 22)] {
        assert_eq!(count(&json, name), expected, "{name}: {json}");
    }
    let (json, ok) = null.load(&format!("mqtt reconnect --sessions 10 --rate 100 {rest}"));
    assert!(!ok, "{json}");
    // It keeps no sessions.
    for (name, expected) in [("returned", 50), ("sessions_present", 0), ("failed", 0)] {
        assert_eq!(count(&json, name), expected, "{name}: {json}");
    }
}

#[test]
fn storms_and_tables_are_made() {
    let null = Null::start(&[]);
    for version in [4, 5] {
        let common = format!("--addr MQTT --mqtt-version {version} --warmup 0 --broker-pid PID");
        let command = format!(
            "mqtt storm {common} --pubs 2 --subscribes 500 --conns 7 --per-packet 3 \
             --wildcard-every 3 --before 0.1 --after 0.1"
        );
        let (json, ok) = null.load(&command);
        assert!(ok, "{json}");
        assert_eq!(count(&json, "subscribed"), 500, "{json}");
        assert_eq!(count(&json, "lost"), 0, "{json}");
        assert!(field(&json, "during_over_before").is_some(), "{json}");

        let command = format!(
            "mqtt table {common} --pubs 2 --bindings 700 --wildcards 70 --conns 7 \
             --per-packet 90 --seconds 0.1"
        );
        let (json, ok) = null.load(&command);
        assert!(ok, "{json}");
        assert_eq!(count(&json, "bound"), 700, "{json}");
        assert_eq!(count(&json, "lost"), 0, "{json}");
        assert!(field(&json, "cost_ratio").is_some(), "{json}");
    }
}

/// The null broker drops nothing for those who do not read: it keeps what the socket does not take.
#[test]
fn stuck_subscribers_are_accounted_for() {
    let null = Null::start(&[]);
    let command = "mqtt stuck --addr MQTT --pubs 5 --qos 1 --stuck-qos 0,1 --messages 2000";
    let (json, ok) = null.load(&format!("{command} --broker-pid PID"));
    assert!(ok, "{json}");
    for name in ["stuck_q0", "stuck_q1"] {
        assert_eq!(count(&json, &format!("{name}_due")), 2_000, "{json}");
        assert_eq!(count(&json, &format!("{name}_received")), 2_000, "{json}");
        assert_eq!(count(&json, &format!("{name}_lost")), 0, "{json}");
        assert_eq!(field(&json, &format!("{name}_closed")), Some("false"));
    }
    assert_eq!(count(&json, "sent"), 4_000, "{json}");
    assert_eq!(count(&json, "lost"), 0, "{json}");
    let faulty = Null::start(&["--drop-every", "100"]);
    let (json, _) = faulty.load(&format!("{command} --drain 0.3 --stall-ms 100"));
    assert!((10..=30).contains(&count(&json, "stuck_q1_lost")), "{json}");
}

#[test]
fn faults_are_noticed() {
    let faults = "--drop-every 100 --dup-every 70 --swap-every 33";
    let null = Null::start(&faults.split(' ').collect::<Vec<_>>());
    for pattern in ["fan-in", "shared"] {
        let (json, _) = null.load(&format!(
            "mqtt pub-sub --addr MQTT --pattern {pattern} --messages 7000 --drain 0.3 \
             --stall-ms 100"
        ));
        assert!((60..=80).contains(&count(&json, "lost")), "{json}");
        assert!((90..=100).contains(&count(&json, "duplicates")), "{json}");
        let late = count(&json, "order_violations");
        assert!((190..=215).contains(&late), "{json}");
    }
}

#[test]
fn only_this_machine_and_only_the_named_process() {
    for address in ["10.1.2.3:1", "192.168.0.1:1", "0.0.0.0:1", "example.org:1"] {
        let (json, ok) = load(&format!("mqtt pub-sub --addr {address}"));
        let refused = json.contains("ADDRESS:PORT") || json.contains("not a loopback");
        assert!(!ok && refused, "{json}");
    }
    let null = Null::start(&[]);
    // This test is the null broker's parent, so the tree does listen there; a stranger does not.
    let me = std::process::id();
    let command = "mqtt pub-sub --addr MQTT --messages 10";
    let (json, ok) = null.load(&format!("{command} --broker-pid {me}"));
    assert!(ok, "{json}");
    let stranger = Null::start(&[]).mqtt.clone();
    let (json, ok) = null.load(&format!("mqtt pub-sub --addr {stranger} --broker-pid PID"));
    assert!(!ok && json.contains("error"), "{json}");
}

#[test]
fn flags_are_checked_before_anything_is_sent() {
    let table = [
        ("mqtt pub-sub --pattern star", "--pattern: star?"),
        ("mqtt pub-sub --qos 3", "--qos: 3 is outside 0..=2"),
        (
            "mqtt pub-sub --topic-levels 2",
            "--topic-levels: 2 is outside 3..=32",
        ),
        ("mqtt pub-sub --user-properties 1", "need --mqtt-version 5"),
        ("mqtt pub-sub --aliases", "need --mqtt-version 5"),
        ("mqtt stuck --stuck-qos 0;1", "--stuck-qos: 0;1?"),
        (
            "mqtt table --bindings 10 --wildcards 11",
            "--wildcards: 11 is outside 0..=10",
        ),
        (
            "amqp pub-sub --prefetch 5 --ack-every 6",
            "would wait for ever",
        ),
        ("amqp pub-sub --queues 2", "fewer publishers than queues"),
        ("amqp pub-sub --topics-per-pub 2", "need --exchange topic"),
        ("bridge --direction up", "--direction: up?"),
    ];
    for (command, words) in table {
        let (json, ok) = load(command);
        assert!(!ok && json.contains(words), "{command}: {json}");
    }
}
