//! The differences that are meant to be, each with its reason.
//!
//! Owns the layout of the list, and the document that is made of it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::difference::Difference;

/// What a difference follows instead of RabbitMQ 3.10.
const FOLLOWED: &[&str] = &["4.3", "specification", "leveret"];

/// One accepted difference.
pub(super) struct Accepted {
    /// Which scripts: a full name, in which `*` stands for anything.
    script: String,
    reason: String,
    follows: String,
    /// The lines that may differ, with `*`; all if there is none.
    lines: Vec<String>,
    /// The fields of tables that only Leveret has.
    fields: Vec<String>,
}

/// The whole list.
pub(super) struct List(Vec<Accepted>);

impl List {
    /// Reads the list.
    ///
    /// # Errors
    /// An entry lacks something, or follows nothing that is known.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let mut list = Vec::new();
        let entries = table.get("accepted").and_then(toml::Value::as_array);
        for entry in entries.into_iter().flatten() {
            let word = |name: &str| {
                let word = entry.get(name).and_then(toml::Value::as_str);
                word.map(str::to_owned)
                    .with_context(|| format!("an entry lacks {name}: {entry}"))
            };
            let words = |name: &str| -> Vec<String> {
                let words = entry.get(name).and_then(toml::Value::as_array);
                let words = words.into_iter().flatten().filter_map(toml::Value::as_str);
                words.map(str::to_owned).collect()
            };
            let accepted = Accepted {
                script: word("script")?,
                reason: word("reason")?,
                follows: word("follows")?,
                lines: words("lines"),
                fields: words("fields"),
            };
            if !FOLLOWED.contains(&accepted.follows.as_str()) {
                bail!("{}: it follows none of {FOLLOWED:?}", accepted.script);
            }
            list.push(accepted);
        }
        Ok(Self(list))
    }

    /// Divides what differs into what is accepted and what is not.
    pub(super) fn divide(
        &self,
        script: &str,
        differences: Vec<Difference>,
    ) -> (Vec<Difference>, Vec<Difference>) {
        let entries: Vec<_> = self
            .0
            .iter()
            .filter(|entry| matches(&entry.script, script))
            .collect();
        differences.into_iter().partition(|difference| {
            entries.iter().any(|entry| {
                let all = entry.lines.is_empty() && entry.fields.is_empty();
                let mut lines = entry.lines.iter();
                all || lines.any(|line| matches(line, &difference.line))
            })
        })
    }

    /// Leveret's transcript without the fields that only it has; whether there were any.
    pub(super) fn without_fields(&self, script: &str, lines: &[String]) -> (Vec<String>, bool) {
        let entries = self.0.iter();
        let entries = entries.filter(|entry| matches(&entry.script, script));
        let fields: Vec<_> = entries.flat_map(|entry| &entry.fields).collect();
        let strip = |line: &String| {
            let mut line = line.clone();
            for field in &fields {
                line = without(&line, field);
            }
            line
        };
        let stripped: Vec<_> = lines.iter().map(strip).collect();
        let changed = stripped != lines;
        (stripped, changed)
    }

    /// The entries that fit none of these scripts.
    pub(super) fn unused(&self, scripts: &[String]) -> Vec<&str> {
        let unused = self.0.iter().filter(|entry| {
            let mut scripts = scripts.iter();
            !scripts.any(|script| matches(&entry.script, script))
        });
        unused.map(|entry| entry.script.as_str()).collect()
    }

    /// The document for readers.
    pub(super) fn document(&self) -> String {
        let mut text = String::from(DOCUMENT_HEAD);
        for (follows, title) in [
            ("4.3", "RabbitMQ 4.3 does otherwise than 3.10"),
            ("specification", "The specification asks for it"),
            ("leveret", "Leveret's own"),
        ] {
            let _ = write!(text, "\n## {title}\n\n| scripts | why |\n|---|---|\n");
            for entry in self.0.iter().filter(|entry| entry.follows == follows) {
                let script = entry.script.replace('|', "\\|");
                let _ = writeln!(text, "| `{script}` | {} |", entry.reason);
            }
        }
        text
    }
}

/// A line without one field of its tables, whose value must be plain.
fn without(line: &str, field: &str) -> String {
    let begin = format!("{field}: ");
    let Some((before, rest)) = line.split_once(&begin) else {
        return line.to_owned();
    };
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    match rest[end..].strip_prefix(", ") {
        Some(after) => format!("{before}{after}"),
        None => format!("{}{}", before.trim_end_matches(", "), &rest[end..]),
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

const DOCUMENT_HEAD: &str = "# Differences from RabbitMQ\n
`cargo xtask differ` plays the scripts in `tests/differ` against this broker and against Debian's
RabbitMQ 3.10, and compares what comes back, frame by frame. Leveret follows RabbitMQ 4.3. This page
is made from `tests/differ/accepted.toml` by `cargo xtask differ --document`: what differs and is
not listed here is a fault.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_out() {
        for (line, expected) in [
            ("{a: S 1, x: S y, z: I 5}", "{a: S 1, z: I 5}"),
            ("{a: S 1, x: S y}", "{a: S 1}"),
            ("{x: S y}", "{}"),
            ("{a: S 1}", "{a: S 1}"),
        ] {
            assert_eq!(without(line, "x"), expected);
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("a: b", "a: b", true),
            ("a: *", "a: b c", true),
            ("*", "", true),
            (
                "- connection.close*version*",
                "- connection.close x version y",
                true,
            ),
            ("a*b", "a b c", false),
            ("a*c*b", "acb", true),
            ("b", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
