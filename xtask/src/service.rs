//! A server that a chore starts, waits for, and ends.
//!
//! Owns that one process, or the group of processes that it leads. Never touches another one.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{interrupt, process};

/// How much of a server's log a failure shows.
const LAST_LINES: usize = 40;
/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// What to start, and what to expect of it.
pub(crate) struct Launch<'a> {
    /// Its name in messages.
    pub(crate) name: &'a str,
    /// Where its log goes, as `NAME.log`; must exist.
    pub(crate) directory: &'a Path,
    /// The loopback ports that accept once it is ready.
    pub(crate) ports: &'a [u16],
    /// How long that may take.
    pub(crate) start_limit: Duration,
    /// How long an orderly end may take before it is killed.
    pub(crate) stop_limit: Duration,
    /// Whether it leads a process group: it is then spared a terminal's Ctrl-C, which the chore
    /// must take itself, and its children end with it.
    pub(crate) own_group: bool,
}

/// A running server; ended when dropped.
pub(crate) struct Service {
    child: Child,
    name: String,
    log: PathBuf,
    stop_limit: Duration,
    own_group: bool,
}

impl Service {
    /// Starts a server and waits until its ports accept.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; its log is in the text.
    pub(crate) fn start(command: &mut Command, launch: &Launch<'_>) -> Result<Self> {
        let path = launch.directory.join(format!("{}.log", launch.name));
        let log = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        if launch.own_group {
            command.process_group(0);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut service = Self {
            child,
            name: launch.name.to_owned(),
            log: path,
            stop_limit: launch.stop_limit,
            own_group: launch.own_group,
        };
        service.await_ports(launch)?;
        Ok(service)
    }

    fn await_ports(&mut self, launch: &Launch<'_>) -> Result<()> {
        let mut ended = None;
        let ready = process::until(launch.start_limit, || {
            interrupt::check()?;
            ended = self.child.try_wait()?;
            Ok(ended.is_some() || launch.ports.iter().copied().all(accepts))
        })?;
        let name = &self.name;
        if let Some(status) = ended {
            bail!("{name} ended with {status}:\n{}", self.last_words());
        }
        if !ready {
            let limit = launch.start_limit;
            bail!(
                "{name} does not listen after {limit:?}:\n{}",
                self.last_words()
            );
        }
        Ok(())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Ends it the way a service manager does.
    ///
    /// # Errors
    /// When it had ended before, does not end in time, or ends with anything but 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        let name = self.name.clone();
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{name} ended by itself with {status}:\n{}",
                self.last_words()
            );
        }
        match self.terminate()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{name} ended with {status}:\n{}", self.last_words()),
            None => bail!("{name} did not end {:?} after SIGTERM", self.stop_limit),
        }
    }

    /// SIGTERM, and SIGKILL when that is not heard; `None` when it took the latter.
    fn terminate(&mut self) -> Result<Option<ExitStatus>> {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).context("sending SIGTERM")?;
        let mut status = None;
        // Not interruptible: this is the way out.
        process::until(self.stop_limit, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        if status.is_none() {
            if self.own_group {
                kill_process_group(id, Signal::KILL).context("killing a group")?;
            } else {
                self.child.kill().context("killing a server")?;
            }
            self.child.wait().context("waiting for a killed server")?;
        }
        Ok(status)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.runs()
            && let Err(error) = self.terminate()
        {
            eprintln!("{} (process {}): {error:#}", self.name, self.id());
        }
    }
}

/// Ports of the loopback interface that were free a moment ago, never the same ones twice in a row.
/// They lie below those that the system gives to clients: one of the many connections that a chore
/// makes must not sit on the port of the next server.
///
/// # Errors
/// When none is free.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = next_free()?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// How many ports were asked for, so that the next search begins where the last one ended.
static TRIED: AtomicU32 = AtomicU32::new(0);
/// Where servers' ports begin, and where clients' do if the system does not say.
const FIRST_PORT: u16 = 10_000;
const CLIENTS_PORT: u16 = 32_768;

fn next_free() -> Result<TcpListener> {
    let clients = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let clients = clients.and_then(|range| range.split_whitespace().next()?.parse().ok());
    let count = u32::from(
        clients
            .unwrap_or(CLIENTS_PORT)
            .saturating_sub(FIRST_PORT)
            .max(1),
    );
    // Chores that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..count {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let offset = begin.wrapping_add(step) % count;
        let port = FIRST_PORT + u16::try_from(offset).context("ports are 16 bits")?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    bail!("no free port from {FIRST_PORT} on")
}

fn accepts(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_below_those_of_clients() {
        let first: [u16; 3] = free_ports().expect("some are free");
        let second: [u16; 3] = free_ports().expect("some are free");
        let mut all = [first, second].concat();
        assert!(all.iter().all(|port| *port >= FIRST_PORT));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }
}
