//! `cargo xtask interop`: builds the broker, starts it, and drives other projects' clients at it.
//! With `--suites` it runs the test suites that those clients carry. docs/interop.md has both.
//!
//! Owns the list of scripts and the verdict. It never skips: what is missing is installed, said so,
//! or a failure: the script that connects from another host makes a network namespace, which takes
//! root. It ends only processes that it started.

mod broker;
mod redis;
pub(crate) mod rumqttc;
mod script;
mod suites;
mod toolbox;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;

use broker::{Broker, Peer};
use script::{SCRIPTS, Script};
use toolbox::Toolbox;

use crate::{interrupt, leveret};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs every script instead of the smoke.
    #[arg(long)]
    all: bool,
    /// Runs other projects' own test suites against RabbitMQ and this build, and compares.
    #[arg(long, conflicts_with_all = ["all", "peer", "keep"])]
    suites: bool,
    /// Runs only the script, or with --suites the suite, of this name; a script's output is shown.
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    only: Option<String>,
    /// Runs the scripts that know nothing of Leveret against another broker, to judge the scripts.
    #[arg(long, value_enum, default_value_t = Target::Leveret)]
    peer: Target,
    /// Keeps the broker's data directory and log, and prints where they are.
    #[arg(long)]
    keep: bool,
}

/// What the scripts are run against.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Leveret,
    Mosquitto,
    Rabbitmq,
}

/// Runs the chosen scripts one after another against one broker; the verdict is the exit code.
///
/// # Errors
/// When the broker does not build or start, or a tool cannot be installed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    interrupt::watch()?;
    if options.suites {
        return suites::run(options.only.as_deref());
    }
    let root = leveret::root()?;
    let scripts = chosen(options)?;
    let toolbox = Toolbox::prepare(&root, &scripts)?;
    let peer = match options.peer {
        Target::Leveret => Peer::Leveret(leveret::build(&root, "leveret", "leveret")?),
        Target::Mosquitto => Peer::Mosquitto,
        Target::Rabbitmq => Peer::RabbitMq,
    };
    peer.install()?;
    let broker = Broker::start(&root, &peer)?;
    let mut failed = run_all(&scripts, &toolbox, &broker, options.only.is_some())?;
    let passed = scripts.len() - failed;
    if failed > 0 {
        println!("the broker's last words:\n{}", broker.last_words());
    }
    if options.keep {
        println!("kept {}", broker.directory().display());
    }
    let stopped = if options.keep {
        broker.stop()
    } else {
        broker.stop_and_remove()
    };
    if let Err(error) = stopped {
        // A broker that died or hangs is a failure even when every script was content.
        println!("FAIL orderly end\n{error:#}");
        failed += 1;
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the scripts and says how many failed. What a script prints is shown if it fails, or if
/// `told` all of it is wanted.
fn run_all(scripts: &[&Script], toolbox: &Toolbox, broker: &Broker, told: bool) -> Result<usize> {
    let mut failed = 0;
    for script in scripts {
        let outcome = script.run(toolbox, broker)?;
        if outcome.passed {
            if told {
                println!("{}", outcome.output.trim_end());
            }
            println!("ok {} ({} checks)", script.name, outcome.checks);
        } else {
            println!("FAIL {}\n{}", script.name, outcome.output.trim_end());
            failed += 1;
        }
    }
    Ok(failed)
}

fn chosen(options: &Options) -> Result<Vec<&'static Script>> {
    let fits = |script: &Script| script.fits(options.peer);
    let Some(name) = &options.only else {
        return Ok(SCRIPTS
            .iter()
            .filter(|script| fits(script) && (options.all || script.smoke))
            .collect());
    };
    match SCRIPTS.iter().find(|script| script.name == name.as_str()) {
        Some(script) if fits(script) => Ok(vec![script]),
        Some(_) => bail!("{name} cannot pass there"),
        None => {
            let names: Vec<_> = SCRIPTS.iter().map(|script| script.name).collect();
            bail!("no script called {name}; there are {}", names.join(", "));
        }
    }
}
