//! The tests that may fail here, each with its reason: `xtask/interop/suites/explained.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The reasons by suite and test.
#[derive(Debug)]
pub(super) struct Explained(BTreeMap<(String, String), String>);

impl Explained {
    /// Reads the checked-in file.
    ///
    /// # Errors
    /// When it cannot be read, or an entry lacks `suite`, `test` or `why`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let entries = match table.get("explained") {
            Some(entries) => entries
                .as_array()
                .context("explained is no list")?
                .as_slice(),
            None => &[],
        };
        let mut reasons = BTreeMap::new();
        for entry in entries {
            let text = |key| {
                let value = entry.get(key).and_then(toml::Value::as_str);
                let value = value.map(str::to_owned);
                value.with_context(|| format!("an entry lacks {key}: {entry}"))
            };
            reasons.insert((text("suite")?, text("test")?), text("why")?);
        }
        Ok(Self(reasons))
    }

    /// Why a test may fail.
    pub(super) fn why(&self, suite: &str, test: &str) -> Option<&str> {
        let key = (suite.to_owned(), test.to_owned());
        self.0.get(&key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_suite_and_test() {
        let text = "[[explained]]\nsuite = \"lapin\"\ntest = \"a::b\"\nwhy = \"because\"\n";
        let explained = Explained::parse(text).expect("it is complete");
        assert_eq!(explained.why("lapin", "a::b"), Some("because"));
        assert_eq!(explained.why("amqprs", "a::b"), None);
        assert_eq!(explained.why("lapin", "a::c"), None);
    }

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        let text = "[[explained]]\nsuite = \"lapin\"\ntest = \"a\"\n";
        let error = Explained::parse(text).expect_err("it has no reason");
        assert!(error.to_string().contains("lacks why"), "{error}");
        assert!(Explained::parse("").is_ok());
    }

    #[test]
    fn the_checked_in_file_is_complete() {
        let root = crate::leveret::root().expect("the repository is here");
        Explained::read(&root.join("xtask/interop/suites/explained.toml")).expect("it parses");
    }
}
