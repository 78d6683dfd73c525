//! What `rabbitmq-plugins` prints, line by line.

use std::fmt::Write;

use leveret_management::plugins::{Change, Changed, Enabled, PluginRow};
use serde_json::json;

use crate::cli::output::{Formatter, Style};

/// How much is told of each plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    Normal,
    Verbose,
    Minimal,
}

/// One call of `list`.
pub(super) struct Listed<'a> {
    pub(super) node: &'a str,
    /// Whether the node answered.
    pub(super) reached: bool,
    pub(super) shape: Shape,
    pub(super) pattern: &'a str,
}

impl Listed<'_> {
    /// The listing as text.
    pub(super) fn text(&self, style: &Style, plugins: &[PluginRow]) -> String {
        if style.formatter == Formatter::Json {
            return self.json(plugins);
        }
        let mut out = String::new();
        if style.talks() {
            out += &format!("Listing plugins with pattern \"{}\" ...\n", self.pattern);
            if self.shape != Shape::Minimal {
                out += &self.legend();
            }
        }
        let width = plugins
            .iter()
            .map(|plugin| plugin.name.len())
            .max()
            .unwrap_or_default();
        out + &plugins
            .iter()
            .map(|plugin| self.plugin(plugin, width))
            .collect::<String>()
    }

    fn legend(&self) -> String {
        let status = if self.reached {
            format!("* = running on {}", self.node)
        } else {
            format!("[failed to contact {} - status not shown]", self.node)
        };
        let configured = " Configured: E = explicitly enabled; e = implicitly enabled\n";
        format!("{configured} | Status: {status}\n |/\n")
    }

    fn plugin(&self, plugin: &PluginRow, width: usize) -> String {
        let configured = match plugin.enabled {
            Enabled::Enabled => 'E',
            Enabled::Implicit => 'e',
            Enabled::NotEnabled => ' ',
        };
        let running = if plugin.running { '*' } else { ' ' };
        let PluginRow {
            name,
            version,
            description,
            ..
        } = plugin;
        match self.shape {
            Shape::Minimal => format!("{name}\n"),
            Shape::Normal => format!("[{configured}{running}] {name:width$} {version}\n"),
            Shape::Verbose => format!(
                "[{configured}{running}] {name}\n     Version:     \t{version}\n     \
                 Dependencies:\t[{}]\n     Description: \t{description}\n",
                plugin.dependencies.join(",")
            ),
        }
    }

    fn json(&self, plugins: &[PluginRow]) -> String {
        let plugin = |plugin: &PluginRow| {
            json!({
                "enabled": plugin.enabled,
                "name": plugin.name,
                "running": plugin.running,
                "running_version": plugin.running.then_some(&plugin.version),
                "version": plugin.version,
            })
        };
        let format = match self.shape {
            Shape::Normal => "normal",
            Shape::Verbose => "verbose",
            Shape::Minimal => "minimal",
        };
        let status = if self.reached { "running" } else { "node_down" };
        let plugins: Vec<_> = plugins.iter().map(plugin).collect();
        format!(
            "{}\n",
            json!({ "format": format, "plugins": plugins, "status": status })
        )
    }
}

/// What is said before a change.
pub(super) fn change_banner(change: Change, node: &str, all: bool, names: &[String]) -> String {
    let verb = if change == Change::Disable {
        "Disabling"
    } else {
        "Enabling"
    };
    if all {
        return format!("{verb} ALL plugins on node {node}\n");
    }
    let names: String = names.iter().map(|name| format!("{name}\n")).collect();
    format!("{verb} plugins on node {node}:\n{names}")
}

/// What is said after a change.
pub(super) fn changed(change: Change, node: &str, online: bool, changed: &Changed) -> String {
    let mut out = if changed.configured.is_empty() {
        "All plugins have been disabled.\n".to_owned()
    } else {
        format!(
            "The following plugins have been configured:\n{}",
            indented(&changed.configured)
        )
    };
    out += &format!("Applying plugin configuration to {node}...\n");
    let (verb, altered) = match change {
        Change::Disable => ("disabled", &changed.disabled),
        Change::Enable | Change::Set => ("enabled", &changed.enabled),
    };
    if change != Change::Set && !altered.is_empty() {
        out += &format!(
            "The following plugins have been {verb}:\n{}\n",
            indented(altered)
        );
    }
    out += &if online {
        switched(changed)
    } else {
        written(change, changed)
    };
    out
}

fn switched(changed: &Changed) -> String {
    match (changed.started.len(), changed.stopped.len()) {
        (0, 0) => "Plugin configuration unchanged.\n".to_owned(),
        (started, 0) => format!("started {started} plugins.\n"),
        (0, stopped) => format!("stopped {stopped} plugins.\n"),
        (started, stopped) => format!("started {started} plugins and stopped {stopped} plugins.\n"),
    }
}

fn written(change: Change, changed: &Changed) -> String {
    let count = match change {
        Change::Enable => ("enabled", changed.enabled.len()),
        Change::Disable => ("disabled", changed.disabled.len()),
        Change::Set => ("set", changed.configured.len()),
    };
    if changed.enabled.is_empty() && changed.disabled.is_empty() {
        return "Plugin configuration unchanged.\n".to_owned();
    }
    let (verb, count) = count;
    format!(
        "{verb} {count} plugins.\nOffline change; changes will take effect at broker restart.\n"
    )
}

fn indented(names: &[String]) -> String {
    names.iter().map(|name| format!("  {name}\n")).collect()
}

/// What is said before an answer of `is_enabled`; `node` is none for the file.
pub(super) fn asking(names: &[String], node: Option<&str>) -> String {
    let (plugins, are) = counted(names);
    match node {
        Some(node) => format!(
            "Asking node {node} if {} {are} enabled...",
            plugins.to_lowercase()
        ),
        None => format!(
            "Inferring if {} from local environment...",
            plugins.to_lowercase()
        ),
    }
}

/// The answer of `is_enabled`.
pub(super) fn are_enabled(
    names: &[String],
    node: Option<&str>,
    plugins: &[PluginRow],
) -> Result<String, String> {
    let enabled: Vec<&str> = plugins
        .iter()
        .filter(|plugin| plugin.enabled != Enabled::NotEnabled)
        .map(|plugin| plugin.name.as_str())
        .collect();
    let is_missing = |name: &&String| {
        let full = leveret_management::plugins::find(name).map_or(name.as_str(), |held| held.name);
        !enabled.contains(&full)
    };
    let missing: Vec<String> = names.iter().filter(is_missing).cloned().collect();
    let place = node
        .map(|node| format!(" on node {node}"))
        .unwrap_or_default();
    if missing.is_empty() {
        let (plugins, are) = counted(names);
        return Ok(format!("{plugins} {are} enabled{place}\n"));
    }
    let (plugins, are) = counted(&missing);
    let mut text =
        format!("{plugins} {are} not enabled{place}. Enabled plugins and dependencies: ");
    // Writing to a string does not fail.
    let _ = write!(text, "{}", enabled.join(", "));
    Err(text)
}

fn counted(names: &[String]) -> (String, &'static str) {
    match names {
        [name] => (format!("Plugin {name}"), "is"),
        names => (format!("Plugins {}", names.join(", ")), "are"),
    }
}

#[cfg(test)]
mod tests;
