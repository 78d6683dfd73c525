//! One broker of this build, and what the system tells of its process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{leveret, process};

/// Time to stop in order.
const STOP: Duration = Duration::from_secs(30);

/// A broker; killed when it is dropped.
pub(super) struct Server {
    child: Child,
    mqtt: u16,
    amqp: u16,
    ready_ms: u64,
}

impl Server {
    /// Starts, and waits until it says that it is ready.
    pub(super) fn start(binary: &Path, data: &Path, settings: &[&str]) -> Result<Self> {
        let (mqtt, amqp) = (free_port()?, free_port()?);
        let mut command = leveret::command(binary, data, mqtt, amqp);
        leveret::set(&mut command, "mqtt.prefetch=100");
        settings
            .iter()
            .for_each(|setting| leveret::set(&mut command, setting));
        command.args(["--log-level", "error"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the broker")?;
        let stdout = child.stdout.take().context("it is piped")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some(rest) = line.trim_start().strip_prefix("ready") {
                let words = rest.split_whitespace();
                let ready_ms = words.filter_map(|word| word.parse().ok()).next();
                return Ok(Self {
                    child,
                    mqtt,
                    amqp,
                    ready_ms: ready_ms.context("it tells how long it took")?,
                });
            }
        }
        // It has said why on standard error.
        child.wait()?;
        bail!("the broker did not start");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn mqtt(&self) -> String {
        format!("127.0.0.1:{}", self.mqtt)
    }

    pub(super) fn amqp(&self) -> String {
        format!("127.0.0.1:{}", self.amqp)
    }

    /// How long it took until it was ready, in milliseconds.
    pub(super) fn ready_ms(&self) -> u64 {
        self.ready_ms
    }

    pub(super) fn rss_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib: u64 = kib.context("it is told")?.trim().parse()?;
        Ok(kib * 1_024)
    }

    /// Bytes that it has written to files, and to the disk in whole pages.
    pub(super) fn written(&self) -> Result<(u64, u64)> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let find = |key: &str| -> Result<u64> {
            let line = io.lines().find_map(|line| line.strip_prefix(key));
            Ok(line.context("it is counted")?.trim().parse()?)
        };
        Ok((find("wchar:")?, find("write_bytes:")?))
    }

    /// Stops it in order.
    pub(super) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        match process::wait(&mut self.child, STOP)? {
            Some(status) if status.success() => Ok(()),
            status => bail!("the broker ended with {status:?}"),
        }
    }

    /// Kills it.
    pub(super) fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("a signal")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has at the moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
