//! The text of `status`.

use serde_json::Value;

use crate::cli::output::{Formatter, Style};

const BYTES_PER_GB: f64 = 1_000_000_000.0;

/// What the node tells of itself, in RabbitMQ's sections; as JSON, one object.
pub(super) fn text(style: &Style, status: &Value) -> String {
    if style.formatter == Formatter::Json {
        return format!("{status}\n");
    }
    let of = |name: &str| super::shown(status.get(name));
    let mut out = String::new();
    if style.talks() {
        out += &format!("Status of node {} ...\n", of("node_name"));
    }
    out += &section("Runtime");
    out += &format!(
        "OS PID: {}\nOS: {}\nUptime (seconds): {}\n",
        of("pid"),
        of("os"),
        of("uptime_s")
    );
    out += &format!(
        "Leveret version: {}\nNode name: {}\n\n",
        of("version"),
        of("node_name")
    );
    out += &section("Plugins");
    out += &format!(
        "Enabled plugin file: {}\nEnabled plugins:\n\n",
        of("enabled_plugin_file")
    );
    out += &bullets(status.get("active_plugins"));
    out += &format!(
        "\n{}Node data directory: {}\n\n",
        section("Data directory"),
        of("data_directory")
    );
    out += &format!(
        "{}{}\n",
        section("Config files"),
        bullets(status.get("config_files"))
    );
    out += &section("Alarms");
    out += &alarms(status.get("alarms"));
    out += &section("Memory");
    if let Some(bytes) = status.get("resident_bytes").and_then(Value::as_f64) {
        out += &format!("Total memory used: {:.4} gb\n", bytes / BYTES_PER_GB);
    }
    out += &memory_limit(status);
    out += &format!("\n{}", section("Free Disk Space"));
    out += &disk(status);
    out += &format!("\n{}", section("Journal"));
    out += &journal(&status["journal"]);
    out += &format!(
        "\n{}Connection count: {}\n",
        section("Totals"),
        of("connections")
    );
    out += &format!(
        "Queue count: {}\nVirtual host count: {}\n",
        of("queues"),
        of("vhosts")
    );
    out += &dropped(status.get("messages_dropped"));
    out += &format!("\n{}", section("Listeners"));
    for listener in status
        .get("listeners")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out += &listener_line(listener);
    }
    out
}

/// A line for each alarm that is set.
fn alarms(set: Option<&Value>) -> String {
    let lines = set.and_then(Value::as_array).into_iter().flatten();
    let lines: Vec<String> = lines.map(|line| super::shown(Some(line)) + "\n").collect();
    if lines.is_empty() {
        return "(none)\n\n".to_owned();
    }
    lines.concat() + "\n"
}

fn memory_limit(status: &Value) -> String {
    let setting = &status["vm_memory_high_watermark_setting"];
    let limit = &status["vm_memory_high_watermark_limit"];
    let computed = gigabytes(limit);
    match setting["relative"].as_f64() {
        Some(part) => format!(
            "Memory high watermark setting: {part} of available memory, computed to: {computed}\n"
        ),
        None => format!("Memory high watermark setting: {computed}\n"),
    }
}

fn disk(status: &Value) -> String {
    format!(
        "Low free disk space watermark: {}\nFree disk space: {}\n",
        gigabytes(&status["disk_free_limit"]),
        gigabytes(&status["disk_free"])
    )
}

/// A section of ours: RabbitMQ has no journal.
fn journal(journal: &Value) -> String {
    let state = journal["stuck"].as_str().unwrap_or("running");
    let of = |name: &str| super::shown(journal.get(name));
    format!(
        "State: {state}\nMessages: {}\nFiles: {}, {}\n",
        of("messages"),
        of("files"),
        gigabytes(&journal["bytes"])
    )
}

fn gigabytes(bytes: &Value) -> String {
    match bytes.as_f64() {
        Some(bytes) => format!("{:.4} gb", bytes / BYTES_PER_GB),
        None => "unknown".to_owned(),
    }
}

/// What was dropped, with each reason that there was.
fn dropped(counts: Option<&Value>) -> String {
    let counts = counts.and_then(Value::as_object).into_iter().flatten();
    let counts: Vec<(&str, u64)> = counts
        .map(|(reason, count)| (reason.as_str(), count.as_u64().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if reasons.is_empty() {
        return format!("Messages dropped: {total}\n");
    }
    format!("Messages dropped: {total} ({})\n", reasons.join(", "))
}

fn section(title: &str) -> String {
    format!("{title}\n\n")
}

fn bullets(values: Option<&Value>) -> String {
    let values = values
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    values
        .iter()
        .map(|value| format!(" * {}\n", super::shown(Some(value))))
        .collect()
}

fn listener_line(listener: &Value) -> String {
    let of = |name: &str| super::shown(listener.get(name));
    format!(
        "Interface: {}, port: {}, protocol: {}, purpose: {}\n",
        of("interface"),
        of("port"),
        of("protocol"),
        of("purpose")
    )
}
