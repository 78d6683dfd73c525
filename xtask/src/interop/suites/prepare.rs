//! Getting a suite's source and building it, once for both brokers.
//!
//! Owns `target/interop/suites`. What is there in the wanted version is not fetched again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::pytest;
use super::suite::{Kind, Suite};
use crate::{debian, leveret, process};

/// A suite that is ready to run.
pub(super) struct Prepared {
    /// Its directory under `target/interop/suites`.
    pub(super) home: PathBuf,
    /// Where its tests expect to be started.
    pub(super) source: PathBuf,
    pub(super) tests: Tests,
    /// Where this chore's part of the suites lies.
    pub(super) ours: PathBuf,
}

/// How the tests are started.
pub(super) enum Tests {
    /// Programs of Rust's test harness, by the names of their files.
    Rust(Vec<(String, PathBuf)>),
    /// One program of Go's.
    Go(PathBuf),
    /// pytest, by the interpreter that has it.
    Pytest(PathBuf),
}

impl Suite {
    /// Fetches and builds what is not there yet.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn prepare(&self, root: &Path, home: &Path) -> Result<Prepared> {
        fs::create_dir_all(home)?;
        for (name, why) in self.left_out {
            println!("{}: without {name}: {why}", self.name);
        }
        if self.redis && !process::exists("redis-server") {
            debian::install(&["redis-server"])?;
        }
        let (source, tests) = match &self.kind {
            Kind::Crate { features, patches } => {
                let source = copy_crate(root, self.name, home, patches)?;
                let programs = build_crate(&source, home, features)?;
                (source, Tests::Rust(programs))
            }
            Kind::Go { package, import } => go(home, package, import)?,
            Kind::Python { sdist, .. } => {
                let (source, python) = pytest::prepare(root, home, sdist)?;
                (source, Tests::Pytest(python))
            }
        };
        Ok(Prepared {
            home: home.to_path_buf(),
            source,
            tests,
            ours: root.join("xtask/interop/suites"),
        })
    }
}

/// Copies a dependency's source from where cargo keeps it: the tests write beside themselves.
fn copy_crate(
    root: &Path,
    name: &str,
    home: &Path,
    patches: &[(&str, &str, &str)],
) -> Result<PathBuf> {
    let kept = kept_source(root, name)?;
    let source = home.join("source");
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    process::must(
        Command::new("cp")
            .args(["--recursive", "--preserve=timestamps"])
            .arg(&kept)
            .arg(&source),
    )?;
    // It lies in this workspace's folder and is none of its members.
    let manifest = source.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, format!("{text}\n[workspace]\n"))?;
    for (file, old, new) in patches {
        let path = source.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if !text.contains(old) {
            bail!("{} no longer contains {old}", path.display());
        }
        fs::write(&path, text.replace(old, new))?;
    }
    Ok(source)
}

/// Where cargo keeps the source of a dependency of this workspace.
fn kept_source(root: &Path, name: &str) -> Result<PathBuf> {
    let output = Command::new(leveret::cargo())
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .stdin(Stdio::null())
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|package| package["name"] == name);
    let package = package.with_context(|| format!("{name} is no dependency"))?;
    let manifest = package["manifest_path"].as_str().context("no manifest")?;
    let folder = Path::new(manifest).parent().context("no folder")?;
    println!("{name} {} is in cargo's registry", package["version"]);
    Ok(folder.to_path_buf())
}

/// Builds the integration tests and gives their programs by name.
fn build_crate(source: &Path, home: &Path, features: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    println!("building the tests in {}", source.display());
    let output = Command::new(leveret::cargo())
        .current_dir(source)
        .env("CARGO_TARGET_DIR", home.join("built"))
        .args(["test", "--quiet", "--no-run", "--test", "*"])
        .args(["--no-default-features", "--features", &features.join(",")])
        .args(["--message-format", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo test")?;
    if !output.status.success() {
        bail!("the tests in {} do not build", source.display());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        let program = message["executable"].as_str();
        if let (Some(name), Some(program)) = (message["target"]["name"].as_str(), program) {
            programs.push((name.to_owned(), PathBuf::from(program)));
        }
    }
    programs.sort();
    Ok(programs)
}

/// Builds the tests of a library that Debian keeps as source.
fn go(home: &Path, package: &str, import: &str) -> Result<(PathBuf, Tests)> {
    let path = Path::new("/usr/share/gocode");
    let source = path.join("src").join(import);
    let mut missing = Vec::new();
    if !process::exists("go") {
        missing.push("golang-go");
    }
    if !source.is_dir() {
        missing.push(package);
    }
    if !missing.is_empty() {
        debian::install(&missing)?;
    }
    let program = home.join("tests");
    println!("building the tests of {import}");
    process::must(
        Command::new("go")
            .current_dir(home)
            .env("GO111MODULE", "off")
            .env("GOPATH", path)
            .env("GOFLAGS", "")
            .env("GOCACHE", home.join("cache"))
            .args(["test", "-c", "-tags", "integration", "-o"])
            .arg(&program)
            .arg(import),
    )?;
    Ok((source, Tests::Go(program)))
}
