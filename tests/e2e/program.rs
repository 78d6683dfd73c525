//! The program itself, in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A broker in a process of its own. Killed when a test ends without stopping it.
pub(crate) struct Program {
    child: Child,
    pub(crate) banner: Vec<String>,
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str], data_dir: &Path) -> Output {
    let mut command = program();
    command.args(arguments).env("LEVERET_DATA_DIR", data_dir);
    command.output().expect("it runs")
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A broker that may not be ready yet. Killed when a test ends without it.
pub(crate) struct Starting(Child);

impl Starting {
    pub(crate) fn begin(data_dir: &Path) -> Self {
        Self(spawn(data_dir, &[]))
    }

    /// Waits until the data directory is its own: next it reads what is there.
    pub(crate) fn wait_for_lock(&self, data_dir: &Path) {
        let mine = format!("{}\n", self.0.id());
        let lock = data_dir.join("leveret.lock");
        while std::fs::read_to_string(&lock).ok() != Some(mine.clone()) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(data_dir: &Path, sets: &[&str]) -> Child {
    server(data_dir, sets).spawn().expect("it runs")
}

fn server(data_dir: &Path, sets: &[&str]) -> Command {
    let mut command = program();
    command
        .args(["server", "--set", "listeners.tcp.default=127.0.0.1:0"])
        .args(["--set", "mqtt.listeners.tcp.default=127.0.0.1:0"])
        .args(["--log-level", "warning", "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::piped());
    for set in sets {
        command.args(["--set", set]);
    }
    command
}

impl Program {
    /// Starts, and waits until it says that it is ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// The same with settings, `KEY=VALUE` each.
    pub(crate) fn start_with(data_dir: &Path, sets: &[&str]) -> Self {
        Self::ready(spawn(data_dir, sets))
    }

    /// The same with its log, from warnings on, in a file.
    pub(crate) fn start_logging(data_dir: &Path, log: File) -> Self {
        let mut command = server(data_dir, &[]);
        Self::ready(command.stderr(log).spawn().expect("it runs"))
    }

    fn ready(mut child: Child) -> Self {
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
    pub(crate) fn address(&self, protocol: &str) -> String {
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

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal, and gives the exit code.
    pub(crate) fn stop(mut self, signal: Signal) -> Option<i32> {
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
