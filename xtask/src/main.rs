//! Chores of Leveret's repository that take more than one command.
//!
//! Owns the set-up of other projects' clients and brokers. Never part of the broker: nothing here
//! ships.

mod compare;
mod crash;
mod debian;
mod differ;
mod durability;
mod faults;
mod fixture;
mod interop;
mod interrupt;
mod leveret;
mod mosquitto;
mod process;
mod rabbitmq;
mod service;
mod sim;

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
    /// Measures this build beside mosquitto and RabbitMQ, interleaved, with tables and plots.
    Compare(compare::Options),
    /// Plays scripts against this build and RabbitMQ, and compares the frames that come back.
    Differ(differ::Options),
    /// Measures what the disk costs this build, and how long a start over much data takes.
    Durability(durability::Options),
    /// Simulates the whole broker with crashes and a faulty disk, seed after seed.
    Sim(sim::Options),
    /// Kills a broker again and again under clients of both protocols, and tells what they saw.
    Crash(crash::Options),
    /// Runs the broker on a file system that fills up, and on a read-only one. Takes root.
    Faults,
    /// One of the clients of `interop`, in a process of its own.
    #[command(hide = true)]
    Client,
    /// Makes the small data directory that later versions must open.
    Fixture(fixture::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Interop(options) => interop::run(&options),
        Chore::Compare(options) => compare::run(&options),
        Chore::Differ(options) => differ::run(&options),
        Chore::Durability(options) => durability::run(&options),
        Chore::Sim(options) => sim::run(&options),
        Chore::Crash(options) => crash::run(&options),
        Chore::Faults => faults::run(),
        Chore::Client => interop::rumqttc::run().map(|()| ExitCode::SUCCESS),
        Chore::Fixture(options) => fixture::run(&options),
    }
}
