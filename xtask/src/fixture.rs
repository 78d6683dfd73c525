//! `cargo xtask fixture`: makes the small data directory that later versions must open.
//!
//! Owns the file's name; what is in it is `tests/e2e/fixture.rs`'s. To be run once for each format.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{leveret, process};

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The journal's version, which names the file.
    #[arg(long)]
    version: u32,
    /// Replaces a file that is there: only before a release has written its format.
    #[arg(long)]
    replace: bool,
}

/// Makes the file.
///
/// # Errors
/// It is there already, or the test that makes it fails.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = leveret::root()?;
    let name = format!("tests/fixtures/journal-{}.pack", options.version);
    let path = root.join(&name);
    if path.exists() && !options.replace {
        bail!("{name} is there: it stays as its version wrote it");
    }
    let mut command = leveret::test("e2e", "fixture::d2_a_fresh_store_is_as_the_kept_ones")?;
    command.env("LEVERET_FIXTURE", &path);
    process::must(&mut command)?;
    println!("made {name}; commit it, and name it in tests/e2e/fixture.rs");
    Ok(ExitCode::SUCCESS)
}
