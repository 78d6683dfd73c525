//! Scripts: files of sections, each a list of steps.
//!
//! Owns the layout of a file and the expansion of its lists. What a step means is `step`'s.
//!
//! ```text
//! == a name                     begins a script
//! each {v} in I 5 | S five      makes one script for each of the values
//! for {v} in 1 | 2              repeats the steps up to `end`
//!   queue.declare queue=~q{v}
//! end
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One script, expanded.
#[derive(Debug)]
pub(super) struct Script {
    /// The file's path below the folder, without its ending.
    pub(super) file: String,
    pub(super) name: String,
    pub(super) steps: Vec<String>,
    /// Nothing is opened before the first step.
    pub(super) bare: bool,
    /// The tool does not answer a close by itself.
    pub(super) manual: bool,
    /// No other script may run at the same time.
    pub(super) alone: bool,
}

impl Script {
    /// Its name among all.
    pub(super) fn full_name(&self) -> String {
        format!("{}: {}", self.file, self.name)
    }
}

/// All scripts below a folder, by path and in the order of their files.
///
/// # Errors
/// A file cannot be read, or is not laid out as it should be; two scripts have one name.
pub(super) fn read_all(folder: &Path) -> Result<Vec<Script>> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let file = path.strip_prefix(folder)?.with_extension("");
        let file = file.to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        scripts.extend(parse(&file, &text).with_context(|| path.display().to_string())?);
    }
    let mut names: Vec<_> = scripts.iter().map(Script::full_name).collect();
    names.sort();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("{} is there twice", pair[0]);
    }
    Ok(scripts)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "amqp") {
            found.push(path);
        }
    }
    Ok(())
}

fn parse(file: &str, text: &str) -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    let mut section: Option<(&str, Vec<&str>)> = None;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            if let Some((name, lines)) = section.replace((name.trim(), Vec::new())) {
                finish(file, name, &lines, &mut scripts)?;
            }
        } else {
            let (_, lines) = section.as_mut().context("a step before the first `==`")?;
            lines.push(line);
        }
    }
    if let Some((name, lines)) = section {
        finish(file, name, &lines, &mut scripts)?;
    }
    Ok(scripts)
}

/// Makes the scripts of one section: one, or one for each value of its `each` lines.
fn finish(file: &str, name: &str, lines: &[&str], scripts: &mut Vec<Script>) -> Result<()> {
    let mut variants = vec![(name.to_owned(), Vec::<(String, String)>::new())];
    let mut body = lines;
    while let Some((first, rest)) = body.split_first()
        && let Some(list) = first.strip_prefix("each ")
    {
        let (variable, values) = parse_list(list)?;
        if !name.contains(&variable) {
            bail!("the name {name:?} must contain {variable}");
        }
        let longer = variants.iter().flat_map(|(name, bound)| {
            values.iter().map(|value| {
                let mut bound = bound.clone();
                bound.push((variable.clone(), value.clone()));
                (name.replace(&variable, value), bound)
            })
        });
        variants = longer.collect();
        body = rest;
    }
    for (name, bound) in variants {
        let lines = body.iter().map(|line| substitute(line, &bound));
        let lines: Vec<_> = lines.collect();
        let flag = |flag: &str| lines.iter().any(|line| line == flag);
        let mut steps = Vec::new();
        expand(&lines, &mut steps)?;
        scripts.push(Script {
            file: file.to_owned(),
            bare: flag("bare"),
            manual: flag("manual"),
            alone: flag("alone"),
            name,
            steps: steps
                .into_iter()
                .filter(|line| !["bare", "manual", "alone"].contains(&line.as_str()))
                .collect(),
        });
    }
    Ok(())
}

fn substitute(line: &str, bound: &[(String, String)]) -> String {
    let mut line = line.to_owned();
    for (variable, value) in bound {
        line = line.replace(variable, value);
    }
    line
}

/// `{v} in a | b`.
fn parse_list(list: &str) -> Result<(String, Vec<String>)> {
    let (variable, values) = list
        .split_once(" in ")
        .context("a list is `{v} in a | b`")?;
    let variable = variable.trim();
    if !variable.starts_with('{') || !variable.ends_with('}') {
        bail!("{variable:?} must stand in braces");
    }
    let values = values.split('|').map(|value| value.trim().to_owned());
    Ok((variable.to_owned(), values.collect()))
}

/// Unrolls `for` … `end`; `{i}` counts the rounds of the innermost loop from 1 on.
fn expand(lines: &[String], steps: &mut Vec<String>) -> Result<()> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some(list) = line.strip_prefix("for ") else {
            steps.push(line.clone());
            continue;
        };
        let mut depth = 1;
        let begin = at;
        while depth > 0 {
            let line = lines.get(at).context("a `for` without its `end`")?;
            depth += i32::from(line.starts_with("for ")) - i32::from(line == "end");
            at += 1;
        }
        let (variable, values) = parse_list(list)?;
        for (round, value) in values.into_iter().enumerate() {
            let bound = [
                (variable.clone(), value),
                ("{i}".to_owned(), (round + 1).to_string()),
            ];
            let body = lines[begin..at - 1].iter();
            let body: Vec<_> = body.map(|line| substitute(line, &bound)).collect();
            expand(&body, steps)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_unrolled() {
        let text = "== of {v}\neach {v} in I 5 | t true\nbare\nfor {n} in 1 | 2\n x {v} {n} {i}\n\
                    end\n# a remark\n== last\n";
        let scripts = parse("folder/file", text).expect("it is laid out well");
        let names: Vec<_> = scripts.iter().map(Script::full_name).collect();
        assert_eq!(
            names,
            [
                "folder/file: of I 5",
                "folder/file: of t true",
                "folder/file: last"
            ]
        );
        assert!(scripts[0].bare && !scripts[2].bare);
        assert_eq!(scripts[1].steps, ["x t true 1 1", "x t true 2 2"]);
    }
}
