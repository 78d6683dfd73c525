//! A lean load generator that measures MQTT and AMQP 0-9-1 brokers from outside.
//!
//! Owns scenarios and their reports: [`Parsed`] runs one, [`Report`] is what it found. Of a
//! broker it knows the addresses and, if it is told, the process. What the figures mean stands in
//! the README of this package.

mod amqp;
mod args;
mod binder;
mod clock;
mod commands;
mod engine;
mod failure;
mod farm;
mod flags;
mod mqtt;
mod null;
mod progress;
mod report;
mod scenario;
mod sockets;
mod template;
mod track;
mod usage;

pub use commands::{Parsed, command, null_broker};
pub use failure::Failure;
pub use progress::Progress;
pub use report::{Bucket, Report, Value};
pub use sockets::Reach;
