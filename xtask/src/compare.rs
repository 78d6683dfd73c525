//! `cargo xtask compare`: measures this build beside other brokers, interleaved, on one machine.
//!
//! Owns the options and the order of things: build, install, measure, report. What it starts, it
//! ends; the system's own brokers are not touched. It never skips silently: what is missing is
//! installed, said so, or a failure.

mod document;
mod given;
mod measure;
mod metric;
mod number;
mod peer;
mod plot;
mod procfs;
mod report;
mod runs;
mod scenario;
mod summary;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use given::Given;
use measure::Plan;
use peer::Peer;
use summary::Summary;
use target::Verdict;

use crate::{debian, interrupt, leveret};

/// What to measure, and what to do with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each scenario runs on each broker.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How many seconds of a run are measured, where the scenario takes a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only these scenarios, separated by commas.
    #[arg(long, value_name = "SCENARIO,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Where runs.tsv, summary.tsv and raw.jsonl go; default: compare in cargo's target folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A broker that runs already on this machine's loopback, with - for an address that it does
    /// not have; it is measured as it is and left as it is. May be repeated.
    #[arg(long = "peer", value_name = "NAME=MQTT_ADDR[,AMQP_ADDR],pid=PID")]
    peers: Vec<Given>,
    /// Another build of leveret, measured as one more broker called `before`.
    #[arg(long, value_name = "BINARY")]
    baseline: Option<PathBuf>,
    /// Also measures mosquitto with Nagle's algorithm, its default, as `mosquitto_nagle`.
    #[arg(long)]
    with_nagle: bool,
    /// Leaves a yardstick out; may be repeated. Its targets are not judged then.
    #[arg(long, value_name = "BROKER")]
    without: Vec<Yardstick>,
    /// Writes the tables and plots of docs/performance.md; takes all scenarios and yardsticks.
    #[arg(long, conflicts_with_all = ["only", "without"])]
    write: bool,
    /// Exits with 1 if a target is missed.
    #[arg(long)]
    budget: bool,
}

/// A broker that is installed and started unless it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Yardstick {
    Mosquitto,
    Rabbitmq,
}

/// Measures and reports; the exit code is the targets' if `--budget` is given.
///
/// # Errors
/// When the options do not fit together, something does not build, install or start, or on an
/// interruption. Every broker that was started has ended then.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = leveret::root()?;
    let scenarios = scenario::chosen(&options.only)?;
    check(options)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => leveret::target(&root).join("compare"),
    };
    let home = leveret::target(&root)
        .join("compare")
        .join(format!("brokers-{}", std::process::id()));
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let binary = leveret::build(&root, "leveret", "leveret")?;
    let load = leveret::build(&root, "leveret-load", "load")?;
    let peers = peers(options, binary)?;
    install(&peers)?;
    interrupt::watch()?;
    procfs::raise_files()?;
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let plan = Plan {
        scenarios,
        peers,
        rounds: options.rounds,
        seconds: options.seconds,
        load,
        home,
        raw: out.join("raw.jsonl"),
    };
    println!("{} runs; reports go to {}", plan.total(), out.display());
    let measured = plan.measure();
    // Gone on an error's way out as well; the brokers in it have ended.
    let removed = fs::remove_dir_all(&plan.home).context("removing the brokers' directory");
    let runs = measured?;
    removed?;
    conclude(options, &root, &out, &plan, runs)
}

/// Prints and writes what the runs say.
fn conclude(
    options: &Options,
    root: &Path,
    out: &Path,
    plan: &Plan,
    runs: Vec<runs::Run>,
) -> Result<ExitCode> {
    let metrics = plan.scenarios.iter().flat_map(|one| one.metrics);
    let keys: Vec<_> = metrics.map(|metric| metric.key).collect();
    fs::write(out.join("runs.tsv"), runs::tsv(&runs, &keys))?;
    let summary = Summary {
        scenarios: plan.scenarios.clone(),
        brokers: plan.peers.iter().map(|peer| peer.name.clone()).collect(),
        runs,
    };
    fs::write(out.join("summary.tsv"), report::tsv(&summary))?;
    let judged = target::judge(&summary);
    println!("\n{}", report::text(&summary, plan, &judged));
    println!(
        "written: runs.tsv, summary.tsv and raw.jsonl in {}",
        out.display()
    );
    if options.write {
        document::write(root, &summary, plan, &judged)?;
    }
    let missed = judged
        .iter()
        .filter(|row| row.verdict == Verdict::Missed)
        .count();
    println!("{missed} of {} targets missed", judged.len());
    Ok(if options.budget && missed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What clap cannot see: names used twice, things that are not there.
fn check(options: &Options) -> Result<()> {
    for (index, given) in options.peers.iter().enumerate() {
        let Given { name, pid, .. } = given;
        if options.peers[..index].iter().any(|one| one.name == *name) {
            bail!("--peer: {name} is given twice");
        }
        if !procfs::exists(*pid) {
            bail!("--peer: {name}: no process {pid}");
        }
        if let Some(files) = procfs::files_max(*pid).filter(|files| *files < procfs::FILES_MIN) {
            println!("compare: {name} may open only {files} files: idle_10k will fail");
        }
    }
    if let Some(path) = options.baseline.as_ref().filter(|path| !path.is_file()) {
        bail!("--baseline: there is no file {}", path.display());
    }
    Ok(())
}

/// The brokers in the order of the columns; the first is compared with all others.
fn peers(options: &Options, binary: PathBuf) -> Result<Vec<Peer>> {
    let with = |yardstick| !options.without.contains(&yardstick);
    let mut peers = vec![Peer::leveret("leveret", binary)];
    if let Some(path) = &options.baseline {
        // Started from a folder of its own, so the path must not depend on ours.
        peers.push(Peer::leveret("before", path.canonicalize()?));
    }
    if with(Yardstick::Mosquitto) {
        peers.push(Peer::mosquitto("mosquitto", true));
    }
    if options.with_nagle {
        peers.push(Peer::mosquitto("mosquitto_nagle", false));
    }
    if with(Yardstick::Rabbitmq) {
        peers.push(Peer::rabbitmq("rabbitmq"));
    }
    peers.extend(options.peers.iter().cloned().map(Peer::given));
    Ok(peers)
}

/// Installs what the chosen brokers need; Debian may start services of its own then, which this
/// chore leaves as they are.
fn install(peers: &[Peer]) -> Result<()> {
    let mut missing: Vec<_> = peers.iter().filter_map(Peer::missing_package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    debian::install(&missing)?;
    match peers.iter().find_map(Peer::missing_package) {
        Some(package) => bail!("{package} was installed, but its programs are not there"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &str) -> Result<Options> {
        let words = std::iter::once("compare").chain(words.split_whitespace());
        let line = Line::try_parse_from(words)?;
        scenario::chosen(&line.options.only)?;
        check(&line.options)?;
        Ok(line.options)
    }

    #[test]
    fn arguments_are_refused_with_a_reason() {
        let own = std::process::id();
        let twice = format!("--peer a=127.0.0.1:1,pid={own} --peer a=127.0.0.1:2,pid={own}");
        let cases = [
            ("--rounds 0", "0 is not in 1..=99"),
            ("--seconds 601", "601 is not in 1..=600"),
            ("--only pairs_q0,nope", "no scenario called nope"),
            ("--without kafka", "invalid value 'kafka'"),
            ("--write --only churn", "cannot be used with"),
            ("--write --without rabbitmq", "cannot be used with"),
            ("--peer a=1883,pid=1", "no address"),
            (
                "--peer a=127.0.0.1:1,pid=4294967295",
                "no process 4294967295",
            ),
            (&twice, "a is given twice"),
            ("--baseline no/such/file", "there is no file no/such/file"),
        ];
        for (words, expected) in cases {
            let error = parse(words).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{words} is accepted"));
            assert!(error.contains(expected), "{words}: {error}");
        }
    }

    #[test]
    fn arguments_choose_the_brokers() {
        let own = std::process::id();
        let peer = format!("--without mosquitto --peer flash=127.0.0.1:1,pid={own}");
        let cases = [
            ("", "leveret mosquitto rabbitmq"),
            ("--with-nagle", "leveret mosquitto mosquitto_nagle rabbitmq"),
            ("--without mosquitto --without rabbitmq", "leveret"),
            (&peer, "leveret rabbitmq flash"),
        ];
        for (words, expected) in cases {
            let options = parse(words).unwrap_or_else(|error| panic!("{words}: {error}"));
            let peers = peers(&options, PathBuf::from("leveret")).expect("they are there");
            let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
            assert_eq!(names.join(" "), expected);
        }
    }
}
