//! Suites that pytest runs, from source packages of PyPI.
//!
//! Owns `target/interop/suites/venv`, which all of them share, and the run of one suite. What came
//! of each test is told by `xtask/interop/suites/interop_record.py`, a plugin of pytest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::prepare::Prepared;
use super::results::{Outcome, Results};
use super::suite::Suite;
use crate::interop::toolbox;
use crate::process;

/// Where a run is told of, and how.
pub(super) struct Run<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) python: &'a Path,
    pub(super) files: &'a [&'a str],
    pub(super) arguments: &'a [&'a str],
    pub(super) environment: &'a [(String, String)],
    pub(super) logs: &'a Path,
}

/// Installs the clients, and unpacks the source package; gives its folder and the interpreter.
///
/// # Errors
/// When that fails.
pub(super) fn prepare(root: &Path, home: &Path, sdist: &str) -> Result<(PathBuf, PathBuf)> {
    let venv = home.with_file_name("venv");
    toolbox::install_venv(&venv, &root.join("xtask/interop/suites/requirements.txt"))?;
    let python = venv.join("bin/python");
    let source = home.join(format!("source-{}", sdist.replace("==", "-")));
    if source.join("PKG-INFO").is_file() {
        return Ok((source, python));
    }
    println!("fetching the source of {sdist}");
    let fetched = home.join("fetched");
    if fetched.exists() {
        fs::remove_dir_all(&fetched)?;
    }
    process::must(
        Command::new(&python)
            .args(["-m", "pip", "download", "--quiet"])
            .args(["--disable-pip-version-check", "--no-deps"])
            .args(["--no-binary", ":all:", "--no-build-isolation", "--dest"])
            .arg(&fetched)
            .arg(sdist),
    )?;
    let mut files = fs::read_dir(&fetched)?;
    let file = files.next().context("pip downloaded nothing")??.path();
    fs::create_dir_all(&source)?;
    process::must(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--directory"])
            .arg(&source)
            .arg("--file")
            .arg(&file),
    )?;
    Ok((source, python))
}

/// Runs a suite, file after file; tests that it did not come to have failed.
///
/// # Errors
/// When it cannot be started, or finds no test.
pub(super) fn run(suite: &Suite, run: &Run<'_>, results: &mut Results) -> Result<()> {
    let record = run.logs.join("record.tsv");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = run.python.parent().map(Path::to_path_buf);
    // Some tests start the client's own program, as an activated environment would find it.
    let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path)))?;
    for file in run.files {
        let log = run
            .logs
            .join(format!("{}.log", file.replace(['/', ':'], "_")));
        let log = File::create(log)?;
        let mut child = command(suite, run, file)
            .env("INTEROP_RECORD", &record)
            .env("PATH", &path)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting pytest")?;
        process::wait(&mut child, suite.limit)?;
    }
    // No record is no test: pytest did not get that far.
    let text = fs::read_to_string(&record).unwrap_or_default();
    let missing = read_record(&text, results);
    if results.len() == 0 && missing.is_empty() {
        bail!("pytest found no test; see {}", run.logs.display());
    }
    for test in missing {
        results.add(&test, Outcome::Failed("did not end in time".to_owned()));
    }
    Ok(())
}

fn command(suite: &Suite, run: &Run<'_>, file: &str) -> Command {
    let mut command = Command::new(run.python);
    command
        .current_dir(&run.prepared.source)
        .args(["-m", "pytest", "-v", "-W", "ignore"])
        .args(["-p", "no:cacheprovider", "-p", "interop_record"])
        .arg(format!("--timeout={}", suite.test_limit.as_secs()))
        .args(run.arguments)
        .arg(file)
        .envs(run.environment.iter().map(|(key, value)| (key, value)))
        .env("PYTHONPATH", &run.prepared.ours)
        .stdin(Stdio::null());
    if !suite.left_out.is_empty() {
        let names: Vec<_> = suite.left_out.iter().map(|(name, _)| *name).collect();
        command.args(["-k", &format!("not ({})", names.join(" or "))]);
    }
    command
}

/// Notes what the record says, and gives the tests that began no report.
fn read_record(text: &str, results: &mut Results) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(what), Some(test)) = (fields.next(), fields.next()) else {
            continue;
        };
        let outcome = match what {
            "collected" => {
                missing.insert(test.to_owned());
                continue;
            }
            "passed" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            _ => Outcome::Failed(fields.next().unwrap_or_default().to_owned()),
        };
        missing.remove(test);
        results.add(test, outcome);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_a_report_is_missing() {
        let text = "collected\ta\ncollected\tb\ncollected\tc\npassed\ta\t\nfailed\tb\tno answer\n";
        let mut results = Results::default();
        let missing = read_record(text, &mut results);
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["c"]);
        assert_eq!(results.outcome("a"), Some(&Outcome::Passed));
        let failed = Outcome::Failed("no answer".to_owned());
        assert_eq!(results.outcome("b"), Some(&failed));
    }
}
