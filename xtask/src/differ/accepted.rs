//! The differences that are meant to be, each with its reason.
//!
//! Owns the layout of the list, and the document that is made of it.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::difference::Difference;

/// What a difference follows instead of RabbitMQ 3.10.
const FOLLOWED: &[&str] = &["4.3", "specification", "leveret"];

/// A text in which `*` stands for anything, and whether it was good for something.
struct Pattern {
    text: String,
    used: Cell<bool>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            used: Cell::new(false),
        }
    }

    fn fits(&self, text: &str) -> bool {
        matches(&self.text, text)
    }
}

/// One accepted difference.
struct Accepted {
    /// Which scripts, by full name.
    scripts: Vec<Pattern>,
    reason: String,
    follows: String,
    /// The lines that may differ; all if there is none of these.
    lines: Vec<Pattern>,
    /// The fields of tables that only Leveret has.
    fields: Vec<Pattern>,
    /// What stands in RabbitMQ's lines, and what must stand in Leveret's.
    replaces: Option<(String, String)>,
}

impl Accepted {
    fn read(entry: &toml::Value) -> Result<Self> {
        let word = |name: &str| {
            let word = entry.get(name).and_then(toml::Value::as_str);
            word.map(str::to_owned)
                .with_context(|| format!("an entry lacks {name}: {entry}"))
        };
        let words = |name: &str| -> Vec<Pattern> {
            let words = entry.get(name).and_then(toml::Value::as_array);
            let words = words.into_iter().flatten().filter_map(toml::Value::as_str);
            words.map(Pattern::new).collect()
        };
        let mut scripts = words("script");
        if scripts.is_empty() {
            scripts.push(Pattern::new(&word("script")?));
        }
        let replaces = match &words("replaces")[..] {
            [] => None,
            [from, to] => Some((from.text.clone(), to.text.clone())),
            _ => bail!("replaces has two texts: {entry}"),
        };
        let accepted = Self {
            scripts,
            reason: word("reason")?,
            follows: word("follows")?,
            lines: words("lines"),
            fields: words("fields"),
            replaces,
        };
        if !FOLLOWED.contains(&accepted.follows.as_str()) {
            bail!("{}: it follows none of {FOLLOWED:?}", accepted.title());
        }
        Ok(accepted)
    }

    fn title(&self) -> String {
        let scripts: Vec<_> = self.scripts.iter().map(|one| &*one.text).collect();
        scripts.join("`, `")
    }

    fn is_for(&self, script: &str) -> bool {
        self.scripts.iter().any(|one| one.fits(script))
    }

    /// It was good for something in this script.
    fn note(&self, script: &str) {
        let fitting = self.scripts.iter().filter(|one| one.fits(script));
        fitting.for_each(|one| one.used.set(true));
    }

    fn accepts(&self, script: &str, line: &str) -> bool {
        if !self.is_for(script) {
            return false;
        }
        let any = self.lines.is_empty() && self.fields.is_empty() && self.replaces.is_none();
        let fitting: Vec<_> = self.lines.iter().filter(|one| one.fits(line)).collect();
        fitting.iter().for_each(|one| one.used.set(true));
        let accepts = any || !fitting.is_empty();
        if accepts {
            self.note(script);
        }
        accepts
    }
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
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let entries = table.get("accepted").and_then(toml::Value::as_array);
        let entries = entries.into_iter().flatten().map(Accepted::read);
        Ok(Self(entries.collect::<Result<_>>()?))
    }

    /// Divides what differs into what is accepted and what is not.
    pub(super) fn divide(
        &self,
        script: &str,
        differences: Vec<Difference>,
    ) -> (Vec<Difference>, Vec<Difference>) {
        differences.into_iter().partition(|difference| {
            let accepting = self.0.iter();
            let accepting = accepting.filter(|entry| entry.accepts(script, &difference.line));
            // All of them are told that they are of use.
            accepting.count() > 0
        })
    }

    /// RabbitMQ's transcript with the words that must stand in Leveret's; whether there were any.
    pub(super) fn with_words(&self, script: &str, lines: &[String]) -> (Vec<String>, bool) {
        self.change(script, lines, |entry, line| {
            let (from, to) = entry.replaces.as_ref()?;
            let answer = line.trim_start().starts_with("< ");
            let found = answer && line.contains(from.as_str());
            found.then(|| line.replace(from.as_str(), to))
        })
    }

    /// Leveret's transcript without the fields that only it has; whether there were any.
    pub(super) fn without_fields(&self, script: &str, lines: &[String]) -> (Vec<String>, bool) {
        self.change(script, lines, |entry, line| {
            let mut changed = line.to_owned();
            for field in &entry.fields {
                let next = without(&changed, &field.text);
                if next != changed {
                    field.used.set(true);
                    changed = next;
                }
            }
            (changed != line).then_some(changed)
        })
    }

    fn change(
        &self,
        script: &str,
        lines: &[String],
        change: impl Fn(&Accepted, &str) -> Option<String>,
    ) -> (Vec<String>, bool) {
        let mut lines = lines.to_vec();
        let mut is_changed = false;
        for entry in self.0.iter().filter(|entry| entry.is_for(script)) {
            for line in &mut lines {
                if let Some(changed) = change(entry, line) {
                    *line = changed;
                    entry.note(script);
                    is_changed = true;
                }
            }
        }
        (lines, is_changed)
    }

    /// What has accepted nothing, after all scripts were compared.
    pub(super) fn unused(&self) -> Vec<String> {
        let mut unused = Vec::new();
        for entry in &self.0 {
            let parts = [
                ("script", &entry.scripts),
                ("line", &entry.lines),
                ("field", &entry.fields),
            ];
            for (what, patterns) in parts {
                let idle = patterns.iter().filter(|one| !one.used.get());
                unused.extend(idle.map(|one| {
                    let title = entry.title();
                    format!("`{title}` ({}): the {what} `{}`", entry.reason, one.text)
                }));
            }
        }
        unused
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
                let script = entry.title().replace('|', "\\|");
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

    const LIST: &str = r#"
        [[accepted]]
        script = ["a: one", "a: two"]
        reason = "a refusal says what was missing"
        follows = "4.3"
        replaces = ["access to ", "read access to "]

        [[accepted]]
        script = "a: *"
        reason = "some differ"
        follows = "leveret"
        lines = ["+ this*", "- that*"]
        fields = ["x", "y"]
    "#;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn what_accepts_nothing_is_told() {
        let list = List::parse(LIST).expect("it is a list");
        assert_eq!(list.unused().len(), 7);
        let (_, changed) = list.with_words("a: one", &lines(&["  < access to q"]));
        assert!(changed);
        let this = Difference {
            step: String::new(),
            line: "+ this one".to_owned(),
        };
        let (accepted, _) = list.divide("a: one", vec![this.clone()]);
        assert_eq!(accepted, std::slice::from_ref(&this));
        let (_, faults) = list.divide("b: one", vec![this.clone()]);
        assert_eq!(faults, [this]);
        let (_, changed) = list.without_fields("a: two", &lines(&["  < {x: I 1, z: I 2}"]));
        assert!(changed);
        let left: Vec<_> = list.unused();
        let ends = ["script `a: two`", "line `- that*`", "field `y`"];
        assert_eq!(left.len(), ends.len(), "{left:?}");
        assert!(
            left.iter().zip(ends).all(|(one, end)| one.ends_with(end)),
            "{left:?}"
        );
    }

    /// Another word is a difference, and one that no entry accepts.
    #[test]
    fn the_word_must_be_the_right_one() {
        let list = List::parse(LIST).expect("it is a list");
        let rabbitmq = lines(&["> step access to q", "  < refused: access to q"]);
        let (expected, _) = list.with_words("a: one", &rabbitmq);
        let right = lines(&["> step access to q", "  < refused: read access to q"]);
        assert_eq!(expected, right);
        let wrong = lines(&["> step access to q", "  < refused: write access to q"]);
        let found = super::super::difference::differences(&expected, &wrong);
        let (accepted, faults) = list.divide("a: one", found);
        assert_eq!((accepted.len(), faults.len()), (0, 2));
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
