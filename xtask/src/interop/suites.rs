//! `cargo xtask interop --suites`: the test suites that other projects' packages carry, run against
//! RabbitMQ or mosquitto and against this build.
//!
//! Owns the comparison and the verdict: a test that passes there must pass here, or stand in
//! `xtask/interop/suites/explained.toml`. What is missing is installed, and said so.

mod binaries;
mod explained;
mod prepare;
mod pytest;
mod results;
mod run;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use explained::Explained;
use prepare::Prepared;
use results::{Counts, Outcome, Results};
use suite::{SUITES, Suite};

use super::broker::{Broker, Peer};
use crate::{interrupt, leveret};

/// What came of a suite on both brokers.
struct Pair {
    suite: &'static Suite,
    /// What came of it on the broker that says what is right.
    beside: Results,
    leveret: Results,
}

/// Runs the suite of that name, or all, on both brokers; the verdict is the exit code.
///
/// # Errors
/// When the broker does not build, a suite cannot be prepared, or a broker does not start.
pub(super) fn run(only: Option<&str>) -> Result<ExitCode> {
    let root = leveret::root()?;
    let suites = chosen(only)?;
    let explained = Explained::read(&root.join("xtask/interop/suites/explained.toml"))?;
    let home = leveret::target(&root).join("interop").join("suites");
    fs::create_dir_all(&home)?;
    let binary = leveret::build(&root, "leveret", "leveret")?;
    let mut pairs = Vec::with_capacity(suites.len());
    for suite in suites {
        let prepared = suite.prepare(&root, &home.join(suite.name))?;
        suite.beside.install()?;
        let beside = on(&root, &suite.beside, suite, &prepared)?;
        let leveret = on(&root, &Peer::Leveret(binary.clone()), suite, &prepared)?;
        pairs.push(Pair {
            suite,
            beside,
            leveret,
        });
    }
    print_table(&pairs);
    let mut unexplained = 0;
    for pair in &pairs {
        unexplained += report(pair, &explained);
    }
    let compared: usize = pairs.iter().map(|pair| pair.leveret.len()).sum();
    println!("what the tests printed is in {}", home.display());
    println!("{} passed, {unexplained} failed", compared - unexplained);
    Ok(if unexplained == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static Suite>> {
    let Some(name) = only else {
        return Ok(SUITES.iter().collect());
    };
    match SUITES.iter().find(|suite| suite.name == name) {
        Some(suite) => Ok(vec![suite]),
        None => {
            let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("no suite called {name}; there are {}", names.join(", "));
        }
    }
}

/// Runs a suite on a broker of its own. One that dies meanwhile fails as a test would.
fn on(root: &Path, peer: &Peer, suite: &Suite, prepared: &Prepared) -> Result<Results> {
    interrupt::check()?;
    let mut broker = Broker::start(root, peer)?;
    let logs = logs(prepared, peer);
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    fs::create_dir_all(&logs)?;
    println!("running {} against {}", suite.name, peer.name());
    let mut results = suite.run(prepared, &broker, &logs)?;
    if !broker.runs() {
        let words = broker.last_words();
        results.add("(broker)", Outcome::Failed(format!("it ended:\n{words}")));
        return Ok(results);
    }
    // Kept beside what the tests printed: it says why the broker closed something.
    let log = logs.join("(broker).log");
    fs::write(&log, broker.last_words()).with_context(|| format!("writing {}", log.display()))?;
    match broker.stop_and_remove() {
        Ok(()) => results.add("(broker)", Outcome::Passed),
        Err(error) => results.add("(broker)", Outcome::Failed(format!("{error:#}"))),
    }
    Ok(results)
}

fn logs(prepared: &Prepared, peer: &Peer) -> PathBuf {
    prepared.home.join(format!("on-{}", peer.name()))
}

fn print_table(pairs: &[Pair]) {
    let heads = ["passed", "failed", "skipped"].map(|head| format!("{head:>8}"));
    println!(
        "\n{:<12} {:<10}{heads}   leveret {heads}",
        "suite",
        "beside",
        heads = heads.concat()
    );
    for pair in pairs {
        let columns = |results: &Results| {
            let Counts {
                passed,
                failed,
                skipped,
            } = results.counts();
            format!("{passed:>8}{failed:>8}{skipped:>8}")
        };
        println!(
            "{:<12} {:<10}{}           {}",
            pair.suite.name,
            pair.suite.beside.name(),
            columns(&pair.beside),
            columns(&pair.leveret)
        );
    }
    println!();
}

/// Names the tests whose result differs, and says how many are worse here without an explanation.
fn report(pair: &Pair, explained: &Explained) -> usize {
    let suite = pair.suite.name;
    let there = pair.suite.beside.name();
    let mut unexplained = 0;
    for (test, beside) in pair.beside.iter() {
        let missing = Outcome::Failed("did not run".to_owned());
        let leveret = pair.leveret.outcome(test).unwrap_or(&missing);
        let why = explained.why(suite, test);
        match (beside, leveret) {
            (Outcome::Passed, Outcome::Passed) if why.is_some() => {
                println!("explained, but passes: {suite} {test}");
            }
            (Outcome::Passed, Outcome::Passed) => {}
            (Outcome::Passed, worse) => {
                if let Some(why) = why {
                    println!("explained: {suite} {test}: {why}");
                } else {
                    println!("FAIL {suite} {test}: {worse}");
                    unexplained += 1;
                }
            }
            (beside, leveret) if beside.same_kind(leveret) => {}
            (beside, leveret) => {
                println!("differs: {suite} {test}: on {there} {beside}; here {leveret}");
            }
        }
    }
    unexplained
}
