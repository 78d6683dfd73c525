//! What /proc tells of processes: whether they are, what they burn, how many files they may open.
//!
//! Owns no process. What another process writes there may be gone at any moment.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{interrupt, process};

/// What `idle_10k` needs and a little more.
pub(crate) const FILES_MIN: u64 = 10_100;

/// How long brokers may take to become calm, and how long one look lasts.
const CALM_LIMIT_LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(500);
/// Ticks within one look that a calm broker may use: a tenth of a core.
const CALM_TICKS_MAX: u64 = 5;

/// Whether there is such a process.
pub(crate) fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// How many files a process may open; `None` when that cannot be read, or there is no limit.
pub(crate) fn files_max(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Raises this process's own limit of open files as far as it goes; brokers inherit it.
///
/// # Errors
/// When the system refuses.
pub(crate) fn raise_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    if maximum.is_some_and(|files| files < FILES_MIN) {
        println!("compare: fewer than {FILES_MIN} open files are allowed: idle_10k will fail");
    }
    Ok(())
}

/// Waits until none of these process trees is busy with what the last run left it; not for ever.
///
/// # Errors
/// On an interruption.
pub(crate) fn await_calm(roots: &[u32]) -> Result<()> {
    let mut before = ticks(roots);
    for _ in 0..CALM_LIMIT_LOOKS {
        process::until(LOOK, || interrupt::check().map(|()| false))?;
        let after = ticks(roots);
        let mut pairs = before.iter().zip(&after);
        if pairs.all(|(before, after)| after.saturating_sub(*before) <= CALM_TICKS_MAX) {
            return Ok(());
        }
        before = after;
    }
    Ok(())
}

/// CPU ticks, user and system, of the tree under each root.
fn ticks(roots: &[u32]) -> Vec<u64> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(one) = parse(&stat) {
            all.insert(pid, one);
        }
    }
    roots.iter().map(|root| tree(&all, *root)).collect()
}

/// Parent and CPU ticks from a line of /proc/PID/stat; the name in it may hold spaces and brackets.
fn parse(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    let parent = fields.get(1)?.parse().ok()?;
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    Some((parent, user + system))
}

fn tree(all: &HashMap<u32, (u32, u64)>, root: u32) -> u64 {
    let mut members = vec![root];
    let mut next = 0;
    while let Some(member) = members.get(next).copied() {
        next += 1;
        // A process has one parent, so nobody is added twice; only pid 0 is its own.
        let children = all
            .iter()
            .filter(|(pid, (parent, _))| *parent == member && **pid != 0);
        members.extend(children.map(|(pid, _)| *pid));
    }
    let own = members.iter().filter_map(|pid| all.get(pid));
    own.map(|(_, ticks)| ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_parsed() {
        let tail = "S 17 5 5 0 -1 4194560 1 0 0 0 30 12 0 0 20 0";
        for (line, expected) in [
            (format!("42 (beam.smp) {tail}"), Some((17, 42))),
            (format!("42 (a) (b c) {tail}"), Some((17, 42))),
            ("42 (x) S 17".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(&line), expected, "{line}");
        }
    }

    #[test]
    fn a_tree_is_summed_with_its_grandchildren() {
        let all = HashMap::from([(1, (0, 1)), (2, (1, 10)), (3, (2, 100)), (4, (9, 1000))]);
        for (root, expected) in [(1, 111), (2, 110), (4, 1000), (5, 0)] {
            assert_eq!(tree(&all, root), expected);
        }
    }

    #[test]
    fn this_process_is_there() {
        assert!(exists(std::process::id()));
        assert!(files_max(std::process::id()).is_none_or(|files| files > 0));
        assert!(files_max(0).is_none());
    }
}
