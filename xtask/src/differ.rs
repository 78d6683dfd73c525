//! `cargo xtask differ`: plays the same scripts against Leveret and RabbitMQ, and compares the
//! frames that come back.
//!
//! Owns the verdict: every difference is either in the list of accepted ones, with its reason, or
//! a fault. Its client shares no code with the broker.

mod accepted;
mod client;
mod clock;
mod difference;
mod method;
mod names;
mod octets;
mod peer;
mod play;
mod record;
mod script;
mod step;
mod table;
mod text;
mod value;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use accepted::List;
use peer::Peer;
use record::Transcripts;
use script::Script;

use crate::{interrupt, leveret, process};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Plays only the scripts whose name, `FILE: NAME`, contains this.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Shows both transcripts of every script.
    #[arg(long)]
    verbose: bool,
    /// Plays against RabbitMQ alone and keeps its transcripts.
    #[arg(long, conflicts_with_all = ["recorded", "document"])]
    record: bool,
    /// Plays against Leveret alone and compares with the kept transcripts.
    #[arg(long)]
    recorded: bool,
    /// Plays nothing; writes docs/differences.md and tests/differ/queue/arguments.md.
    #[arg(long)]
    document: bool,
    /// Builds and runs the release binary instead of the debug one.
    #[arg(long)]
    release: bool,
    /// For how long nothing must have come before all is taken to be there, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60)]
    quiet_ms: u64,
    /// How many scripts run at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    jobs: usize,
}

/// Plays the chosen scripts; the verdict is the exit code.
///
/// # Errors
/// A script or a list is not laid out as it should be, or a server does not start or end.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = leveret::root()?;
    let folder = root.join("tests/differ");
    let list = List::read(&folder.join("accepted.toml"))?;
    let scripts = script::read_all(&folder)?;
    if options.document {
        std::fs::write(root.join("docs/differences.md"), list.document())?;
        let page = table::page(&record::read(&folder, &scripts)?);
        std::fs::write(folder.join("queue/arguments.md"), page)?;
        return Ok(ExitCode::SUCCESS);
    }
    for script in &scripts {
        play::check(script).with_context(|| script.full_name())?;
    }
    // Whoever gives up must leave no server behind.
    interrupt::watch()?;
    let setting = std::fs::read_to_string(folder.join("setup.ctl"))?;
    let rabbitmq = if options.recorded {
        record::read(&folder, &scripts)?
    } else {
        let peer = Peer::rabbitmq(&root)?;
        let found = play_all(&peer, &setting, &scripts, options)?;
        peer.stop()?;
        found
    };
    if options.record {
        record::write(&folder, &scripts, &rabbitmq)?;
        println!("recorded {} scripts", rabbitmq.len());
        return Ok(ExitCode::SUCCESS);
    }
    if !options.recorded {
        tell_stale(&record::read(&folder, &scripts)?, &rabbitmq);
    }
    let peer = Peer::leveret(&root, &build(&root, options.release)?)?;
    let leveret = play_all(&peer, &setting, &scripts, options)?;
    let mut verdict = judge(&list, &rabbitmq, &leveret, options.verbose);
    if options.only.is_none() {
        for unused in list.unused() {
            println!("accepted.toml: nothing is accepted by {unused}");
            verdict = ExitCode::FAILURE;
        }
    }
    // A broker that died is a fault even if every script was content.
    peer.stop()?;
    Ok(verdict)
}

/// Compares the transcripts and tells what differs.
fn judge(list: &List, rabbitmq: &Transcripts, leveret: &Transcripts, verbose: bool) -> ExitCode {
    let (mut same, mut accepted, mut unexpected) = (0, 0, 0);
    for (name, lines) in leveret {
        let none = Vec::new();
        let expected = rabbitmq.get(name).unwrap_or_else(|| {
            println!("{name}: RabbitMQ's transcript is missing; record it");
            &none
        });
        if verbose {
            println!("== {name}\nrabbitmq\n{}", expected.join("\n"));
            println!("leveret\n{}\n", lines.join("\n"));
        }
        let (lines, stripped) = list.without_fields(name, lines);
        let (expected, replaced) = list.with_words(name, expected);
        let found = difference::differences(&expected, &lines);
        if found.is_empty() {
            if stripped || replaced {
                accepted += 1;
            } else {
                same += 1;
            }
            continue;
        }
        let (_, faults) = list.divide(name, found);
        if faults.is_empty() {
            accepted += 1;
            continue;
        }
        unexpected += 1;
        println!("DIFFERS {name}");
        let mut step = String::new();
        for fault in faults {
            if fault.step != step {
                println!("    {}", fault.step);
                step = fault.step;
            }
            println!("      {}", fault.line);
        }
    }
    println!(
        "{} scripts: {same} the same, {accepted} with accepted differences, {unexpected} with \
         unexpected ones",
        leveret.len()
    );
    if unexpected == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Says which kept transcripts RabbitMQ has just contradicted.
fn tell_stale(recorded: &Transcripts, rabbitmq: &Transcripts) {
    for (name, lines) in rabbitmq {
        if let Some(kept) = recorded.get(name)
            && kept != lines
        {
            println!("STALE {name}: RabbitMQ did otherwise when it was recorded");
            for difference in difference::differences(kept, lines) {
                println!("    {}\n      {}", difference.step, difference.line);
            }
        }
    }
}

/// Plays the chosen scripts, several at a time, and then those that must run alone.
fn play_all(
    peer: &Peer,
    setting: &str,
    scripts: &[Script],
    options: &Options,
) -> Result<Transcripts> {
    println!("{} listens on {}", peer.name(), peer.port());
    peer.set_up(setting)?;
    let quiet = Duration::from_millis(options.quiet_ms);
    let wanted = |script: &Script| {
        let only = options.only.as_deref().unwrap_or_default();
        script.full_name().contains(only)
    };
    let chosen = scripts
        .iter()
        .enumerate()
        .filter(|(_, script)| wanted(script));
    let (alone, together): (Vec<_>, Vec<_>) = chosen.partition(|(_, script)| script.alone);
    let found = Mutex::new(Transcripts::new());
    let play_one = |number: usize, script: &Script| -> Result<()> {
        interrupt::check()?;
        let lines = match play::play(script, number, peer, quiet) {
            Ok(lines) => lines,
            // The other scripts are still worth playing, but nothing of this one worth keeping.
            Err(error) if !options.record => vec![format!("! {error:#}")],
            Err(error) => return Err(error.context(script.full_name())),
        };
        let mut found = found.lock().expect("no player panics with the lock");
        found.insert(script.full_name(), lines);
        Ok(())
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some((number, script)) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
            play_one(*number, script)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| {
            let outcome = worker.join().ok();
            outcome.context("a player panicked")?
        });
        joined.collect::<Result<()>>()
    })?;
    for (number, script) in alone {
        play_one(number, script)?;
    }
    found.into_inner().context("no player panics with the lock")
}

/// Builds the broker.
fn build(root: &Path, release: bool) -> Result<PathBuf> {
    if release {
        return leveret::build(root, "leveret", "leveret");
    }
    let mut command = Command::new(leveret::cargo());
    command.current_dir(root).args([
        "build",
        "--quiet",
        "--package",
        "leveret",
        "--bin",
        "leveret",
    ]);
    process::must(&mut command)?;
    Ok(leveret::target(root).join("debug").join("leveret"))
}
