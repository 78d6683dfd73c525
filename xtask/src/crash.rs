//! `cargo xtask crash`: the crash test of `tests/e2e/crash.rs` with as many kills as one likes.
//!
//! Owns nothing but the numbers: the clients and the verdict are the test's.

use std::process::ExitCode;

use anyhow::Result;

use crate::{leveret, process};

/// How long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often the broker is killed.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// Decides how many acknowledgements come before each kill.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Kills a broker over one data directory, and prints what its clients saw.
///
/// # Errors
/// Something was lost, or came twice that may not.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut command = leveret::test("e2e", "crash::d1_a_storm_of_kills_loses_nothing")?;
    command
        .arg("--nocapture")
        .env("LEVERET_CRASH_KILLS", options.kills.to_string())
        .env("LEVERET_CRASH_SEED", options.seed.to_string());
    process::must(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
