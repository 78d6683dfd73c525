//! Debian's mosquitto on a port of its own.
//!
//! Owns its process and the head of its configuration. Never reads the system's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::service::{Launch, Service};
use crate::{debian, process};

/// Debian's name of it, which is the program's as well.
pub(crate) const PACKAGE: &str = "mosquitto";
/// How long it may take to listen, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// Whether it is installed.
pub(crate) fn is_installed() -> bool {
    program().is_some()
}

/// Installs mosquitto if it is not there.
///
/// # Errors
/// When that fails.
pub(crate) fn install() -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    debian::install(&[PACKAGE])
}

/// Starts it in `directory`, open to everybody on a loopback port, with nothing on disk, and with
/// these settings besides.
///
/// # Errors
/// When it is not installed or does not listen in time; its log is in the text.
pub(crate) fn start(directory: &Path, port: u16, settings: &str) -> Result<Service> {
    let file = directory.join("mosquitto.conf");
    fs::write(&file, configuration(port, settings))?;
    let program = program().context("mosquitto is not installed")?;
    let launch = Launch {
        name: PACKAGE,
        directory,
        ports: &[port],
        start_limit: LIMIT,
        stop_limit: LIMIT,
        own_group: true,
    };
    Service::start(Command::new(program).arg("-c").arg(&file), &launch)
}

fn configuration(port: u16, settings: &str) -> String {
    // Started by root it would change to a user that cannot read its directory.
    let user = if rustix::process::geteuid().is_root() {
        "user root\n"
    } else {
        ""
    };
    format!(
        "{user}listener {port} 127.0.0.1\n\
         allow_anonymous true\n\
         persistence false\n\
         {settings}"
    )
}

/// The program, also where only the superuser's path leads.
fn program() -> Option<PathBuf> {
    if process::exists(PACKAGE) {
        return Some(PathBuf::from(PACKAGE));
    }
    let server = Path::new("/usr/sbin").join(PACKAGE);
    server.is_file().then_some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_follow_the_listener() {
        let text = configuration(1883, "log_type none\n");
        let lines: Vec<_> = text.lines().collect();
        for expected in [
            "listener 1883 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
        ] {
            assert!(lines.contains(&expected), "{expected}: {text}");
        }
        assert_eq!(lines.last(), Some(&"log_type none"));
    }
}
