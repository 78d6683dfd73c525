//! The broker under test: one process on free ports with a data directory of its own.
//!
//! Owns that process and that directory. Never touches a broker that it did not start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{process, target};

/// How long the listeners may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long an orderly end may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How much of the broker's log a failure shows.
const LAST_LINES: usize = 40;

/// A running broker; ended when dropped.
pub(crate) struct Broker {
    child: Child,
    binary: PathBuf,
    directory: PathBuf,
    mqtt_port: u16,
    amqp_port: u16,
}

impl Broker {
    /// Starts the binary and waits until both listeners accept.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; its log is in the text.
    pub(crate) fn start(root: &Path, binary: &Path) -> Result<Self> {
        let name = format!("broker-{}", std::process::id());
        let directory = target(root).join("interop").join(name);
        fs::create_dir_all(directory.join("data"))?;
        let log = File::create(directory.join("log"))?;
        let (mqtt_port, amqp_port) = free_ports()?;
        let child = Command::new(binary)
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args([
                "--set",
                &format!("mqtt.listeners.tcp.default=127.0.0.1:{mqtt_port}"),
            ])
            .args([
                "--set",
                &format!("listeners.tcp.default=127.0.0.1:{amqp_port}"),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let binary = binary.to_path_buf();
        let mut broker = Self {
            child,
            binary,
            directory,
            mqtt_port,
            amqp_port,
        };
        broker.await_listeners()?;
        println!("leveret listens on {mqtt_port} (MQTT) and {amqp_port} (AMQP)");
        Ok(broker)
    }

    fn await_listeners(&mut self) -> Result<()> {
        let ports = [self.mqtt_port, self.amqp_port];
        let child = &mut self.child;
        let mut ended = None;
        let ready = process::until(START_LIMIT, || {
            ended = child.try_wait()?;
            Ok(ended.is_some() || ports.into_iter().all(accepts))
        })?;
        if let Some(status) = ended {
            bail!("the broker ended with {status}:\n{}", self.last_words());
        }
        if !ready {
            bail!("no listener after {START_LIMIT:?}:\n{}", self.last_words());
        }
        Ok(())
    }

    /// The environment that tells a script where the broker is.
    pub(crate) fn describe(&self, command: &mut Command) {
        command
            .env("INTEROP_MQTT_PORT", self.mqtt_port.to_string())
            .env("INTEROP_AMQP_PORT", self.amqp_port.to_string())
            .env("INTEROP_BINARY", &self.binary)
            .env("INTEROP_DATA_DIR", self.directory.join("data"));
    }

    /// Where its data, its log and the scripts' output are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The end of the broker's log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Ends the broker the way a service manager does and keeps its directory.
    ///
    /// # Errors
    /// When it had ended before, or does not end in time.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()
    }

    /// Ends the broker and removes its directory.
    ///
    /// # Errors
    /// As [`Broker::stop`], and when the directory cannot be removed.
    pub(crate) fn stop_and_remove(mut self) -> Result<()> {
        self.terminate()?;
        fs::remove_dir_all(&self.directory).context("removing the broker's directory")
    }

    fn terminate(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the broker ended by itself with {status}:\n{}",
                self.last_words()
            );
        }
        let id = self.child.id().to_string();
        process::must(Command::new("kill").args(["-TERM", &id]))?;
        match process::wait(&mut self.child, STOP_LIMIT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the broker ended with {status}:\n{}", self.last_words()),
            None => bail!("the broker did not end {STOP_LIMIT:?} after SIGTERM"),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Reached with a live process only on an error's way out; that error is the report.
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Two ports that were free a moment ago; both are held while they are chosen.
fn free_ports() -> Result<(u16, u16)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

fn accepts(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
