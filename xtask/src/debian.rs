//! Debian's packages: what is missing is installed, and said so.
//!
//! Owns the command line of `apt-get`. Never skips silently, never removes anything.

use std::process::Command;

use anyhow::Result;

use crate::process;

/// Installs packages; the lists are fetched anew when the first attempt fails.
///
/// # Errors
/// When the second attempt fails as well.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    println!("installing Debian packages: {}", packages.join(" "));
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    if process::must(&mut apt_get(&install)).is_ok() {
        return Ok(());
    }
    process::must(&mut apt_get(&["update"]))?;
    process::must(&mut apt_get(&install))
}

/// The installed version of a package, if Debian's tools know it.
pub(crate) fn version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Version}", package])
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !version.is_empty()).then_some(version)
}

fn apt_get(arguments: &[&str]) -> Command {
    // Containers run as root and have no sudo; elsewhere it must not ask for a password.
    let mut command = if process::exists("sudo") {
        let mut command = Command::new("sudo");
        command.args([
            "--non-interactive",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
        ]);
        command
    } else {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    command.args(arguments);
    command
}
