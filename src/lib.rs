//! Leveret: an MQTT adapter over an AMQP 0-9-1 core, in one binary.
//!
//! This package assembles the crates and owns nothing else: which options go where, in which order
//! things start and stop, and what is printed. Tests start a whole broker in their process with
//! [`server::start`].

mod announce;
pub mod banner;
pub mod cli;
mod monitor;
pub mod paths;
mod plugins;
mod presence;
pub mod run;
pub mod server;
pub mod signals;
mod systree;
pub mod telemetry;
