//! CPU and memory of a broker's process tree, of this process and of the machine, from `/proc`.
//!
//! Owns the look from outside; where `/proc` says nothing the figures are 0. Never touches the
//! processes themselves.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::clock;

/// What a process tree has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system, reaped children included.
    pub(crate) cpu_s: f64,
    /// Summed over the tree.
    pub(crate) rss_kb: u64,
    /// Summed lifetime peaks.
    pub(crate) hwm_kb: u64,
    /// Context switches of all live threads.
    pub(crate) context_switches: u64,
    pub(crate) processes: u32,
    pub(crate) threads: u32,
}

/// Everything CPU-like at one instant, so that two of them give a difference.
#[derive(Clone, Copy)]
pub(crate) struct Snap {
    pub(crate) t: u64,
    pub(crate) broker: Usage,
    pub(crate) own_cpu_s: f64,
    /// Busy seconds over all CPUs, stolen seconds.
    pub(crate) machine: (f64, f64),
}

pub(crate) fn snap(pid: u32) -> Snap {
    Snap {
        t: clock::now(),
        broker: usage(pid),
        own_cpu_s: clock::own_cpu_s(),
        machine: machine(),
    }
}

/// The process and its descendants; empty if it is not there.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut all: Vec<(u32, u32)> = vec![];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(pid) = pid
            && let Some((parent, _)) = stat(pid)
        {
            all.push((pid, parent));
        }
    }
    let mut found = vec![];
    if all.iter().any(|(pid, _)| *pid == root) {
        found.push(root);
    }
    let mut i = 0;
    while i < found.len() {
        let parent = found[i];
        found.extend(all.iter().filter(|a| a.1 == parent).map(|a| a.0));
        i += 1;
    }
    found
}

/// Whether one of the tree's processes listens on the port; true where that cannot be read.
pub(crate) fn listens(root: u32, port: u16) -> bool {
    let mut sockets = vec![];
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let ending = format!(":{port:04X}");
            if cells.len() > 9 && cells[3] == "0A" && cells[1].ends_with(&ending) {
                sockets.push(format!("socket:[{}]", cells[9]));
            }
        }
    }
    let mut blind = sockets.is_empty();
    for pid in tree(root) {
        let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            blind = true;
            continue;
        };
        let mut links = folder
            .flatten()
            .filter_map(|e| fs::read_link(e.path()).ok());
        if links.any(|link| sockets.iter().any(|s| link.to_str() == Some(s))) {
            return true;
        }
    }
    blind
}

/// What the tree has used so far; nothing for root 0.
pub(crate) fn usage(root: u32) -> Usage {
    let mut usage = Usage::default();
    if root == 0 {
        return usage;
    }
    for pid in tree(root) {
        usage.processes += 1;
        let ticks = stat(pid).map_or(0.0, |s| s.1 as f64 / clock_ticks_per_second() as f64);
        status(pid, &mut usage);
        let mut ns = 0_u64;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
                ns += text.split(' ').next().map_or(0, number);
            }
            if let Ok(text) = fs::read_to_string(task.path().join("status")) {
                let lines = text.lines().filter(|l| l.contains("ctxt_switches:"));
                usage.context_switches += lines.map(second_word).sum::<u64>();
            }
        }
        // To the nanosecond from the living threads, unless threads or children have died and
        // only the ticks know.
        usage.cpu_s += ticks.max(ns as f64 / 1e9);
    }
    usage
}

/// A cheap look at RSS for the sampler: pages from `statm` of processes already known.
pub(crate) fn rss_kb(pids: &[u32]) -> u64 {
    let pages = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        second_word(&text)
    };
    pids.iter().map(pages).sum::<u64>() * (page_size() as u64 / 1024)
}

fn machine() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cells = text.lines().next().unwrap_or_default().split_whitespace();
    let v: Vec<f64> = cells.skip(1).filter_map(|x| x.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq, steal, ..] = v[..] else {
        return (0.0, 0.0);
    };
    let ticks = clock_ticks_per_second() as f64;
    (
        (user + nice + system + irq + softirq) / ticks,
        steal / ticks,
    )
}

/// Parent and CPU ticks from `/proc/PID/stat`; the name field may hold spaces and brackets.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let cells: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    let cell = |i: usize| cells.get(i).copied().map_or(0, number);
    let ticks = cell(11) + cell(12) + cell(13) + cell(14);
    Some((cell(1) as u32, ticks))
}

fn status(pid: u32, usage: &mut Usage) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    for line in text.lines() {
        if line.starts_with("VmRSS:") {
            usage.rss_kb += second_word(line);
        } else if line.starts_with("VmHWM:") {
            usage.hwm_kb += second_word(line);
        } else if line.starts_with("Threads:") {
            usage.threads += second_word(line) as u32;
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn second_word(line: &str) -> u64 {
    line.split_whitespace().nth(1).map_or(0, number)
}
