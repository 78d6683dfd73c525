//! What `status` tells about the node.

use std::path::Path;
use std::sync::Arc;

use leveret_core::vhost::VHost;
use serde_json::{Map, Value, json};

use super::alarms;
use crate::context::{Context, ListenerRow};
use crate::plugins;
use crate::protocol::{Answer, Failure};

pub(super) fn status(context: &Context) -> Result<Answer, Failure> {
    let broker = &context.broker;
    let vhosts = broker.vhosts();
    let queues: usize = vhosts.iter().map(|vhost| vhost.queues().len()).sum();
    let enabled = plugins::explicit(context.plugins.file()).map_err(plugins::PluginError::from)?;
    let enabled = plugins::effective(&enabled)
        .into_iter()
        .map(|plugin| plugin.name);
    let resources = broker.alarms().resources();
    let journal = broker.journal().condition();
    Ok(Answer::One(json!({
        "node_name": context.node_name,
        "version": context.version,
        "pid": std::process::id(),
        "os": std::env::consts::OS,
        "uptime_s": (context.clock)().since_ms(context.started_at) / 1_000,
        "enabled_plugin_file": shown(context.plugins.file()),
        "active_plugins": enabled.collect::<Vec<_>>(),
        "data_directory": shown(&context.data_dir),
        "config_files": context.config_files.iter().map(|file| shown(file)).collect::<Vec<_>>(),
        "alarms": alarms::lines(context),
        "resident_bytes": resident_bytes(),
        "vm_memory_high_watermark_setting": alarms::setting(resources.memory_limit),
        "vm_memory_high_watermark_limit": resources.memory_limit_bytes(),
        "disk_free_limit": resources.disk_limit_bytes(),
        "disk_free": resources.disk_free,
        "journal": {
            "messages": journal.messages,
            "bytes": journal.bytes,
            "files": journal.files,
            "stuck": journal.stuck,
        },
        "connections": broker.peer_count(),
        "queues": queues,
        "vhosts": vhosts.len(),
        "messages_dropped": dropped(&vhosts),
        "listeners": (context.listeners)().iter().map(listener).collect::<Vec<_>>(),
    })))
}

/// What queues have dropped, by reason: those of all vhosts that there are.
fn dropped(vhosts: &[Arc<VHost>]) -> Value {
    let mut counts = Map::new();
    for (loss, more) in vhosts.iter().flat_map(|vhost| vhost.losses().by_reason()) {
        let count = counts.get(loss.name()).and_then(Value::as_u64);
        counts.insert(loss.name().to_owned(), (count.unwrap_or(0) + more).into());
    }
    Value::Object(counts)
}

/// A path for people: it need not be UTF-8, JSON must.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn listener(row: &ListenerRow) -> Value {
    json!({
        "interface": row.interface,
        "port": row.port,
        "protocol": row.protocol,
        "purpose": row.purpose,
    })
}

/// Resident memory of this process in bytes; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
