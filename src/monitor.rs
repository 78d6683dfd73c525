//! Watches what the system has left: memory of this process, free space where the data is, and
//! whether the journal is stuck.
//!
//! Owns one task and what it reads; what a reading means is the core's
//! ([`leveret_core::alarms`]). What the system does not tell sets no alarm.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leveret_core::broker::Broker;
use leveret_core::sink::Loss;
use tokio::time::MissedTickBehavior;

/// How often it looks, in milliseconds: RabbitMQ looks at memory each 2.5 s, at the disk from ten
/// times a second to each 10 s.
const LOOK_MS: u64 = 1_000;

/// How often one look goes through all queues.
const PAGED_ROUNDS_MAX: usize = 64;

/// Looks once, and then each second for ever.
pub(crate) async fn watch(broker: Arc<Broker>, data_dir: PathBuf) {
    let mut ticks = tokio::time::interval(Duration::from_millis(LOOK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(&broker, &data_dir);
        tell_losses(&broker);
        if broker.alarms().is_memory_scarce() {
            // Walking all queues takes a while, and reading none of it waits for a disk.
            let broker = Arc::clone(&broker);
            let paged = tokio::task::spawn_blocking(move || page_out(&broker)).await;
            match paged {
                Ok(0) | Err(_) => {}
                Ok(messages) => tracing::debug!(messages, "paged out of memory"),
            }
        }
    }
}

/// Logs what was dropped since the last time: a line for each virtual host and reason.
fn tell_losses(broker: &Broker) {
    for vhost in broker.vhosts() {
        for report in vhost.take_loss_reports() {
            let [qos0, qos1, qos2] = report.counts;
            let messages = qos0 + qos1 + qos2;
            let (vhost, reason) = (vhost.name(), report.loss.name());
            let (whose, topic) = (&*report.whose, &*report.topic);
            match report.loss {
                // It was asked for, or is what QoS 0 promises.
                Loss::Expired | Loss::Offline => tracing::info!(
                    vhost,
                    reason,
                    messages,
                    qos0,
                    qos1,
                    qos2,
                    whose,
                    topic,
                    "messages dropped"
                ),
                _ => tracing::warn!(
                    vhost,
                    reason,
                    messages,
                    qos0,
                    qos1,
                    qos2,
                    whose,
                    topic,
                    "messages dropped"
                ),
            }
        }
    }
}

/// Memory is scarce: queues leave on disk what is there, a bounded number of messages at a time.
fn page_out(broker: &Broker) -> usize {
    let mut messages = 0;
    for _ in 0..PAGED_ROUNDS_MAX {
        let paged = broker.page_out();
        if paged == 0 {
            break;
        }
        messages += paged;
    }
    messages
}

/// Reads the system, and sets and clears the alarms that follow from it.
pub(crate) fn look(broker: &Broker, data_dir: &Path) {
    let alarms = broker.alarms();
    alarms.check_journal(broker.journal().condition().stuck.as_deref());
    if let (Some(used), Some(total)) = (resident_bytes(), total_bytes()) {
        alarms.check_memory(used, total);
    }
    match rustix::fs::statvfs(data_dir) {
        // What is free for whoever is not root.
        Ok(found) => alarms.check_disk(found.f_bavail.saturating_mul(found.f_frsize)),
        Err(error) => {
            tracing::debug!(%error, path = %data_dir.display(), "free disk space is unknown");
        }
    }
}

/// Memory of this process that is not swapped out.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Memory that this process may have: what the machine has, or less if its control group (v2) or
/// one above it may not have so much.
fn total_bytes() -> Option<u64> {
    let machine = memory_total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = memory_max_files(&groups).into_iter().filter_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        // `max` is no limit.
        text.trim().parse().ok()
    });
    Some(limits.fold(machine, u64::min))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The files with the limits of the control group that `/proc/self/cgroup` names for version 2, and
/// of those above it.
fn memory_max_files(groups: &str) -> Vec<PathBuf> {
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(group);
    own.ancestors()
        .take_while(|directory| directory.starts_with(root))
        .map(|directory| directory.join("memory.max"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_understood() {
        let meminfo = "MemTotal:       24684092 kB\nMemFree:        23038900 kB\n";
        assert_eq!(memory_total(meminfo), Some(24_684_092 * 1_024));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        let files = |groups| -> Vec<String> {
            let files = memory_max_files(groups);
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        assert_eq!(
            files("1:cpu:/x\n0::/system.slice/leveret.service\n"),
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert!(files("4:memory:/only/version/1\n").is_empty());
        assert!(files("").is_empty());
    }

    #[test]
    fn this_process_uses_memory_and_has_some_left() {
        let (used, total) = (resident_bytes(), total_bytes());
        assert!(used > Some(0) && used < total, "{used:?} of {total:?}");
    }
}
