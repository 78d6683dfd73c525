//! The program itself: exit codes, its command line against a running broker, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A broker in a process of its own. Killed when a test ends without stopping it.
struct Program {
    child: Child,
    banner: Vec<String>,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], data_dir: &Path) -> Output {
    let mut command = program();
    command.args(arguments).env("LEVERET_DATA_DIR", data_dir);
    command.output().expect("it runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Program {
    /// Starts, and waits until it says that it is ready.
    fn start(data_dir: &Path) -> Self {
        let mut child = program()
            .args(["server", "--set", "listeners.tcp.default=127.0.0.1:0"])
            .args(["--set", "mqtt.listeners.tcp.default=127.0.0.1:0"])
            .args(["--log-level", "warning", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let stdout = child.stdout.take().expect("it is piped");
        let mut banner = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("is text");
            let ready = line.trim_start().starts_with("ready");
            banner.push(line);
            if ready {
                break;
            }
        }
        Self { child, banner }
    }

    /// The address that a line of the banner ends with.
    fn address(&self, protocol: &str) -> String {
        let line = self.banner.iter().find(|line| line.contains(protocol));
        let line = line.unwrap_or_else(|| panic!("{protocol} in {:?}", self.banner));
        let words = line.split_whitespace();
        let found = words
            .into_iter()
            .find(|word| word.starts_with("127.0.0.1:"));
        found
            .unwrap_or_else(|| panic!("an address in {line}"))
            .to_owned()
    }

    /// Sends a signal, and gives the exit code.
    fn stop(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// FEATURES O2: starts, answers `ctl`, ends with 0 on SIGTERM and SIGINT.
#[test]
fn o2_ctl_asks_a_running_broker() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().expect("a data directory");
        let data_dir = directory.path();
        let broker = Program::start(data_dir);
        let status = run(&["ctl", "status"], data_dir);
        assert_eq!(code(&status), Some(0), "{}", stderr(&status));
        let text = stdout(&status);
        assert!(
            text.contains("AMQP 0-9-1") && text.contains("Messages dropped: 0\n"),
            "{text}"
        );

        let added = run(&["ctl", "add_user", "anna", "secret"], data_dir);
        assert_eq!(code(&added), Some(0), "{}", stderr(&added));
        let again = run(&["ctl", "add_user", "anna", "secret"], data_dir);
        assert_eq!(code(&again), Some(70), "{}", stderr(&again));
        let users = run(&["ctl", "list_users", "--formatter", "json"], data_dir);
        let users: serde_json::Value = serde_json::from_slice(&users.stdout).expect("is JSON");
        assert_eq!(users.as_array().map(Vec::len), Some(2), "{users}");
        let queues = run(&["ctl", "list_queues", "-p", "none"], data_dir);
        assert_eq!(code(&queues), Some(65), "{}", stderr(&queues));
        let plugins = run(&["plugins", "list", "-e", "-m"], data_dir);
        assert!(
            stdout(&plugins).contains("rabbitmq_mqtt"),
            "{}",
            stdout(&plugins)
        );

        // An MQTT client that is connected does not keep it from ending.
        let mut client = TcpStream::connect(broker.address("MQTT")).expect("it listens");
        client
            .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")
            .expect("room");
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("a CONNACK");
        assert_eq!(connack, [0x20, 2, 0, 0]);
        assert_eq!(broker.stop(signal), Some(0));
        let status = run(&["ctl", "status"], data_dir);
        assert_eq!(code(&status), Some(69), "nobody is there");
    }
}

/// FEATURES O3: a wrong configuration is 78, wherever it comes from.
#[test]
fn o3_wrong_configuration_ends_with_78() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = directory.path().join("good.toml");
    std::fs::write(&good, "[mqtt]\nprefetch = 7\n").expect("is written");
    let bad = directory.path().join("bad.conf");
    std::fs::write(&bad, "# fine\nmqtt.prefetsh = 7\n").expect("is written");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let data_dir = directory.path();

    let checked = run(&["config", "check", "--config", &good], data_dir);
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
    let checked = run(&["config", "check", "--config", &bad], data_dir);
    assert_eq!(code(&checked), Some(78));
    let text = stderr(&checked);
    assert!(
        text.contains("bad.conf:2") && text.contains("mqtt.prefetch'"),
        "{text}"
    );
    let shown = run(&["config", "show", "--config", &good], data_dir);
    assert!(
        stdout(&shown).contains("mqtt.prefetch = 7"),
        "{}",
        stdout(&shown)
    );

    let started = run(&["server", "--config", &bad], data_dir);
    assert_eq!(code(&started), Some(78));
    let text = stderr(&started);
    assert!(
        text.starts_with("leveret: ") && text.lines().count() == 1,
        "{text}"
    );
}

/// What is taken is 69, in one sentence on standard error.
#[test]
fn o2_what_is_in_use_ends_with_69() {
    let directory = tempfile::tempdir().expect("a data directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let amqp = format!("listeners.tcp.default={address}");
    let arguments = ["server", "--log-level", "none", "--set", &amqp];
    let refused = run(&arguments, directory.path());
    assert_eq!(code(&refused), Some(69));
    let text = stderr(&refused);
    assert!(
        text.contains("listeners.tcp.default") && text.lines().count() == 1,
        "{text}"
    );

    let broker = Program::start(directory.path());
    let refused = run(&["server", "--log-level", "none"], directory.path());
    assert_eq!(code(&refused), Some(69));
    let text = stderr(&refused);
    assert!(
        text.contains("in use") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(broker.stop(Signal::TERM), Some(0));
}

/// Arguments that nobody understands are 64, and nothing is started.
#[test]
fn o2_arguments_without_sense_end_with_64() {
    let directory = tempfile::tempdir().expect("a data directory");
    for arguments in [
        &["ctl", "list_queuess"][..],
        &["ctl", "add_user"],
        &["plugins", "enabel"],
        &["--no-such-flag"],
    ] {
        let output = run(arguments, directory.path());
        assert_eq!(
            code(&output),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let version = run(&["--version"], directory.path());
    assert_eq!(code(&version), Some(0));
    assert!(stdout(&version).contains(env!("CARGO_PKG_VERSION")));
}
