//! Chores of Leveret's repository that take more than one command.
//!
//! Owns the set-up of other projects' clients. Never part of the broker: nothing here ships.

mod interop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of Leveret's repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs other projects' MQTT and AMQP clients against the release binary.
    Interop(interop::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Interop(options) => interop::run(&options),
    }
}
