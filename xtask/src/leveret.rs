//! This repository: where it is, how its programs are built, how its broker is started.
//!
//! Owns cargo's command line. Never builds anything but release binaries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The repository's folder.
///
/// # Errors
/// When the chore was built outside of it.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in the repository")?;
    Ok(root.to_path_buf())
}

/// Cargo's target folder; every chore writes into a folder of its own there.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Cargo itself.
pub(crate) fn cargo() -> OsString {
    // Set by `cargo run`, which is how chores are started.
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Builds a release binary and says where it is.
///
/// # Errors
/// When it does not build.
pub(crate) fn build(root: &Path, package: &str, binary: &str) -> Result<PathBuf> {
    println!("building the release binary of {package}");
    process::must(
        Command::new(cargo())
            .current_dir(root)
            .args(["build", "--quiet", "--release"])
            .args(["--package", package, "--bin", binary]),
    )?;
    Ok(target(root).join("release").join(binary))
}

/// The command that runs one of our tests.
///
/// # Errors
/// When the chore was built outside of the repository.
pub(crate) fn test(suite: &str, name: &str) -> Result<Command> {
    let mut command = Command::new(cargo());
    command
        .current_dir(root()?)
        .args(["test", "--quiet", "--package", "leveret", "--test", suite])
        .args(["--", "--exact", name]);
    Ok(command)
}

/// The command that runs the broker on two loopback ports with its data in a directory.
pub(crate) fn command(binary: &Path, data: &Path, mqtt_port: u16, amqp_port: u16) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(data);
    set(
        &mut command,
        &format!("mqtt.listeners.tcp.default=127.0.0.1:{mqtt_port}"),
    );
    set(
        &mut command,
        &format!("listeners.tcp.default=127.0.0.1:{amqp_port}"),
    );
    command
}

/// Adds one setting, as `key=value`.
pub(crate) fn set(command: &mut Command, setting: &str) {
    command.args(["--set", setting]);
}
