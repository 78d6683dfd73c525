//! `cargo xtask sim`: the simulation of the whole broker, with fresh seeds for as long as asked.
//!
//! Owns nothing of it: runs the test binary, which reads what to do from its environment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Args;

/// What to simulate.
#[derive(Args)]
pub(crate) struct Options {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first seed; one that nobody has seen before if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this seed, with all that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// Runs seeds until the time is over or one fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    // With debug assertions: the same program as in `cargo test`.
    command.args(["test", "--test", "sim", "what_was_asked_for"]);
    command.args(["--", "--nocapture", "--exact"]);
    // Short enough to be read out.
    let fresh = || RandomState::new().build_hasher().finish() >> 24;
    let seed = options.seed.unwrap_or_else(fresh);
    if options.trace {
        command.env("SIM_SEED", seed.to_string());
        command.env("SIM_TRACE", "1");
    } else {
        command.env("SIM_FIRST", seed.to_string());
        command.env("SIM_MINUTES", options.minutes.to_string());
    }
    println!("seeds from {seed} on");
    let status = command.status().context("cargo does not run")?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
