//! Transcripts on disk: one `.rabbitmq` file beside each file of scripts.
//!
//! Owns their layout: `== NAME`, then the transcript's lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::script::Script;

/// Transcripts by a script's full name.
pub(super) type Transcripts = BTreeMap<String, Vec<String>>;

/// Reads what was recorded of the files that scripts come from.
///
/// # Errors
/// A file is there and cannot be read.
pub(super) fn read(folder: &Path, scripts: &[Script]) -> Result<Transcripts> {
    let mut found = Transcripts::new();
    let mut files: Vec<_> = scripts.iter().map(|script| script.file.as_str()).collect();
    files.dedup();
    for file in files {
        let path = folder.join(format!("{file}.rabbitmq"));
        if !path.exists() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut name = String::new();
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("== ") {
                name = format!("{file}: {next}");
                found.insert(name.clone(), Vec::new());
            } else if let Some(lines) = found.get_mut(&name)
                && !line.is_empty()
            {
                lines.push(line.to_owned());
            }
        }
    }
    Ok(found)
}

/// Writes the files of the scripts that were run; what was not run stays as it was recorded, and
/// what no script is called any more is forgotten.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(folder: &Path, scripts: &[Script], fresh: &Transcripts) -> Result<()> {
    let recorded = read(folder, scripts)?;
    let mut texts = BTreeMap::<&str, String>::new();
    for script in scripts {
        let name = script.full_name();
        let text = texts.entry(&script.file).or_default();
        if let Some(lines) = fresh.get(&name).or_else(|| recorded.get(&name)) {
            let _ = writeln!(text, "== {}\n{}\n", script.name, lines.join("\n"));
        }
    }
    for (file, text) in texts {
        let path = folder.join(format!("{file}.rabbitmq"));
        if text.is_empty() {
            continue;
        }
        let text = format!("{}\n", text.trim_end());
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
