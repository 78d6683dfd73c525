//! The clients that the scripts drive, and their installation.
//!
//! Owns `target/interop/venv` and `target/interop/node`; Debian packages are asked of `apt-get`.
//! Every installation is announced; one that fails is a failure of the chore, never a skip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::script::{Language, Script};
use crate::leveret::target;
use crate::{debian, process};

/// A program of Debian that the scripts need, and the package that brings it.
const DEBIAN: &[(&str, &str, Language)] = &[
    ("mosquitto_sub", "mosquitto-clients", Language::Python),
    ("mosquitto_pub", "mosquitto-clients", Language::Python),
    ("python3", "python3", Language::Python),
    ("ip", "iproute2", Language::Python),
    ("node", "nodejs", Language::Node),
    ("npm", "npm", Language::Node),
    ("ruby", "ruby-bunny", Language::Ruby),
    ("php", "php-cli", Language::Php),
];

/// A library of Debian that the scripts need, by a file of it.
const DEBIAN_LIBRARIES: &[(&str, &str, Language)] = &[
    (
        "/usr/share/php/PhpAmqpLib/autoload.php",
        "php-amqplib",
        Language::Php,
    ),
    ("/usr/share/doc/ruby-bunny", "ruby-bunny", Language::Ruby),
];

/// Where the interpreters and their libraries are.
pub(crate) struct Toolbox {
    scripts: PathBuf,
    venv: PathBuf,
    node: PathBuf,
}

impl Toolbox {
    /// Installs what the chosen scripts need and do not find.
    ///
    /// # Errors
    /// When an installation fails.
    pub(crate) fn prepare(root: &Path, chosen: &[&Script]) -> Result<Self> {
        let home = target(root).join("interop");
        fs::create_dir_all(&home)?;
        let toolbox = Self {
            scripts: root.join("xtask/interop"),
            venv: home.join("venv"),
            node: home.join("node"),
        };
        let needs = |language| chosen.iter().any(|script| script.language == language);
        install_missing(&needs)?;
        if needs(Language::Python) {
            install_venv(&toolbox.venv, &toolbox.scripts.join("requirements.txt"))?;
        }
        if needs(Language::Node) {
            toolbox.install_node()?;
        }
        Ok(toolbox)
    }

    /// The command that runs a script; where the broker is must still be added.
    ///
    /// # Errors
    /// When this program does not know where it lies.
    pub(crate) fn interpreter(&self, script: &Script) -> Result<Command> {
        let mut command = match script.language {
            Language::Python => Command::new(self.venv.join("bin/python")),
            Language::Node => Command::new("node"),
            Language::Php => Command::new("php"),
            Language::Ruby => Command::new("ruby"),
            Language::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("client");
                return Ok(command);
            }
        };
        command
            .arg(self.scripts.join(script.file))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", self.node.join("node_modules"));
        Ok(command)
    }

    fn install_node(&self) -> Result<()> {
        let wanted = self.scripts.join("package.json");
        let stamp = self.node.join("installed-package.json");
        if same(&wanted, &stamp)? {
            return Ok(());
        }
        println!("installing Node clients into {}", self.node.display());
        fs::create_dir_all(&self.node)?;
        fs::copy(&wanted, self.node.join("package.json"))?;
        process::must(Command::new("npm").current_dir(&self.node).args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--loglevel=error",
        ]))?;
        fs::copy(&wanted, &stamp)?;
        Ok(())
    }
}

/// Makes a virtual environment with what a file requires, unless it has just that.
///
/// # Errors
/// When an installation fails.
pub(super) fn install_venv(venv: &Path, wanted: &Path) -> Result<()> {
    let stamp = venv.join("installed-requirements.txt");
    if same(wanted, &stamp)? {
        return Ok(());
    }
    println!("installing Python packages into {}", venv.display());
    if !made_venv(venv)? {
        // Debian keeps `ensurepip` out of its python3.
        debian::install(&["python3-venv"])?;
        if !made_venv(venv)? {
            bail!("python3 -m venv {} fails", venv.display());
        }
    }
    process::must(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .arg("--requirement")
            .arg(wanted),
    )?;
    fs::copy(wanted, &stamp)?;
    Ok(())
}

fn made_venv(venv: &Path) -> Result<bool> {
    let status = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(venv)
        .status();
    Ok(status.context("starting python3")?.success())
}

fn install_missing(needs: &impl Fn(Language) -> bool) -> Result<()> {
    let programs = DEBIAN
        .iter()
        .filter(|(program, ..)| !process::exists(program));
    let libraries = DEBIAN_LIBRARIES
        .iter()
        .filter(|(file, ..)| !Path::new(file).exists());
    let mut missing: Vec<&str> = programs
        .chain(libraries)
        .filter(|(_, _, language)| needs(*language))
        .map(|(_, package, _)| *package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        Ok(())
    } else {
        debian::install(&missing)
    }
}

/// Whether the stamp of the last installation equals what is wanted now.
fn same(wanted: &Path, stamp: &Path) -> Result<bool> {
    let wanted = fs::read(wanted).with_context(|| format!("reading {}", wanted.display()))?;
    // No stamp means nothing was installed, or not to its end.
    Ok(fs::read(stamp).is_ok_and(|installed| installed == wanted))
}
