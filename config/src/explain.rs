//! All that is known about one key, on demand: `leveret config explain KEY`.
//!
//! Never holds the value of a secret setting.

use std::fmt;

use crate::error::ConfigError;
use crate::resolve::{Effective, Row, unknown};
use crate::schema::{self, Alias, Setting};
use crate::source::env_name;

/// What `config explain` shows; its display form is the text to print, without a last line end.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The row of the table.
    pub setting: &'static Setting,
    /// The other name that was asked for, if it was one.
    pub asked: Option<&'static Alias>,
    /// What holds now: one row, or one for each member of a family; empty if nothing was given to
    /// look at.
    pub current: Vec<Row>,
}

/// Explains `key`, which may be another name of a setting or a member of a family.
///
/// # Errors
/// [`ConfigError::UnknownKey`] with the nearest key, or [`ConfigError::NotServed`].
pub fn explain(key: &str) -> Result<Explanation, ConfigError> {
    let by_row = || schema::settings().find(|setting| setting.key == key || setting.stem() == key);
    let found = schema::find(key).map(|found| found.setting).or_else(by_row);
    let setting = found.ok_or_else(|| unknown(key, None))?;
    let asked = setting.aliases.iter().find(|alias| alias.key == key);
    Ok(Explanation {
        setting,
        asked,
        current: Vec::new(),
    })
}

/// Explains `key` with the value that `effective` has for it.
///
/// # Errors
/// As [`explain`].
pub fn explain_effective(key: &str, effective: &Effective) -> Result<Explanation, ConfigError> {
    let mut explanation = explain(key)?;
    let ours = |row: &&Row| row.setting == explanation.setting.key;
    explanation.current = effective.rows().iter().filter(ours).cloned().collect();
    Ok(explanation)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting {
            key,
            kind,
            doc,
            aliases,
            ..
        } = self.setting;
        writeln!(f, "{key}")?;
        if let Some(alias) = self.asked {
            writeln!(
                f,
                "  (asked as {}: {}, from {})",
                alias.key, alias.kind, alias.from
            )?;
        }
        writeln!(f, "  {doc}")?;
        writeln!(f, "  type:     {}", kind.name())?;
        writeln!(f, "  allowed:  {kind}")?;
        if !kind.unit().is_empty() {
            writeln!(f, "  unit:     {}", kind.unit())?;
        }
        for (index, line) in default_lines(self.setting).iter().enumerate() {
            writeln!(
                f,
                "  {} {line}",
                if index == 0 { "default: " } else { "         " }
            )?;
        }
        for alias in *aliases {
            writeln!(
                f,
                "  alias:    {} ({}; {})",
                alias.key, alias.kind, alias.from
            )?;
        }
        for row in &self.current {
            writeln!(
                f,
                "  now:      {} = {} ({})",
                row.key, row.value, row.origin
            )?;
        }
        write!(f, "  env:      {}", env_name(key))
    }
}

fn default_lines(setting: &Setting) -> Vec<String> {
    let shown = |(key, value): (String, &str)| match setting.family {
        Some(_) => format!("{key} = {value}"),
        None => setting.shown(value).to_owned(),
    };
    let lines: Vec<String> = setting.defaults().map(shown).collect();
    if lines.is_empty() {
        vec!["unset".into()]
    } else {
        lines
    }
}
