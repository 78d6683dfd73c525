//! Test programs that name their tests: Rust's and Go's. Each test runs in a process of its own.
//!
//! Owns those processes: a test that hangs ends alone. Never judges: it says what came of each.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::results::{Outcome, Results};
use crate::process;

/// How much of a failure's text goes into a table.
const REASON_CHARS_MAX: usize = 600;
/// How many lines of what a test printed are taken for its reason.
const REASON_LINES_MAX: usize = 2;

/// One test: how to start it.
struct Case {
    name: String,
    arguments: Vec<String>,
    skipped: bool,
}

/// Where tests run and how long one may take.
pub(super) struct Place<'a> {
    pub(super) source: &'a Path,
    pub(super) environment: &'a [(String, String)],
    pub(super) test_limit: Duration,
    /// What each test prints goes there.
    pub(super) logs: &'a Path,
    pub(super) left_out: &'a [(&'static str, &'static str)],
}

/// Runs the tests of a program of Rust's harness; their names begin with the program's.
///
/// # Errors
/// When it cannot be started.
pub(super) fn rust(
    label: &str,
    program: &Path,
    place: &Place<'_>,
    results: &mut Results,
) -> Result<()> {
    let list = |arguments: &[&str]| -> Result<Vec<String>> {
        let text = printed(program, place, arguments)?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    };
    let ignored = list(&["--list", "--format", "terse", "--ignored"])?;
    let cases = list(&["--list", "--format", "terse"])?.into_iter();
    let cases = cases.map(|test| Case {
        name: format!("{label}::{test}"),
        skipped: ignored.contains(&test),
        arguments: vec!["--exact".to_owned(), test, "--nocapture".to_owned()],
    });
    run(program, cases.collect(), place, results)
}

/// Runs the tests and examples of a program of Go's.
///
/// # Errors
/// When it cannot be started.
pub(super) fn go(program: &Path, place: &Place<'_>, results: &mut Results) -> Result<()> {
    let text = printed(program, place, &["-test.list", "."])?;
    let names = text
        .lines()
        .filter(|line| line.starts_with("Test") || line.starts_with("Example"));
    let cases = names.map(|name| Case {
        name: name.to_owned(),
        arguments: vec![
            "-test.v".to_owned(),
            "-test.run".to_owned(),
            format!("^{name}$"),
        ],
        skipped: false,
    });
    run(program, cases.collect(), place, results)
}

fn printed(program: &Path, place: &Place<'_>, arguments: &[&str]) -> Result<String> {
    let output = command(program, place).args(arguments).output();
    let output = output.with_context(|| format!("starting {}", program.display()))?;
    if !output.status.success() {
        bail!("{} cannot list its tests", program.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(program: &Path, place: &Place<'_>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(place.source).stdin(Stdio::null());
    let environment = place.environment.iter();
    command.envs(environment.map(|(key, value)| (key, value)));
    command
}

fn run(program: &Path, cases: Vec<Case>, place: &Place<'_>, results: &mut Results) -> Result<()> {
    for case in cases {
        if place.left_out.iter().any(|(name, _)| *name == case.name) {
            continue;
        }
        let outcome = if case.skipped {
            Outcome::Skipped
        } else {
            one(program, &case, place)?
        };
        results.add(&case.name, outcome);
    }
    Ok(())
}

fn one(program: &Path, case: &Case, place: &Place<'_>) -> Result<Outcome> {
    let path = place.logs.join(format!("{}.log", case.name));
    let log = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let mut child = command(program, place)
        .args(&case.arguments)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let status = process::wait(&mut child, place.test_limit)?;
    let output = fs::read(&path)?;
    let output = String::from_utf8_lossy(&output);
    Ok(match status {
        None => {
            let limit = place.test_limit;
            Outcome::Failed(format!("ended after {limit:?}; {}", reason(&output)))
        }
        Some(status) if !status.success() => Outcome::Failed(reason(&output)),
        Some(_) if output.contains("--- SKIP: ") => Outcome::Skipped,
        Some(_) => Outcome::Passed,
    })
}

/// The lines that say what went wrong, or the last one.
fn reason(output: &str) -> String {
    let lines: Vec<_> = output.lines().map(str::trim).collect();
    let panicked = lines.iter().position(|line| line.contains("panicked at"));
    // With a path before the name it is a line of a stack.
    let told = |line: &&str| {
        line.starts_with("panic:") || line.contains("_test.go:") && !line.starts_with('/')
    };
    let found: Vec<_> = if let Some(number) = panicked {
        lines[number..].iter().take(REASON_LINES_MAX).collect()
    } else if lines.iter().any(told) {
        // What Go's tests tell ends with what failed them.
        let told: Vec<_> = lines.iter().filter(|line| told(line)).collect();
        told[told.len().saturating_sub(REASON_LINES_MAX)..].to_vec()
    } else {
        lines
            .iter()
            .rfind(|line| !line.is_empty())
            .into_iter()
            .collect()
    };
    let found: Vec<_> = found.into_iter().copied().collect();
    found.join(" | ").chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_panicked_or_the_last_line() {
        let rust = "running 1 test\nthread 'a' panicked at a.rs:1:2:\nno such queue\nnote: run\n";
        assert_eq!(
            reason(rust),
            "thread 'a' panicked at a.rs:1:2: | no such queue"
        );
        let go = "a_test.go:5: one\na_test.go:6: two\n    a_test.go:7: three\n--- FAIL: TestA\n";
        assert_eq!(reason(go), "a_test.go:6: two | a_test.go:7: three");
        let stack = "panic: late\n\t/usr/a_test.go:7 +0x1\n";
        assert_eq!(reason(stack), "panic: late");
        assert_eq!(reason("one\ntwo\n\n"), "two");
        assert_eq!(reason(""), "");
    }
}
