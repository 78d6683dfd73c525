//! Where messages about the broker go: to standard error, from the configured severity on.

use std::io::{self, IsTerminal};

use leveret_config::LogLevel;
use tracing::level_filters::LevelFilter;

/// Sends the process's messages to standard error. A second call changes nothing.
pub fn start(level: LogLevel) {
    let filter = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    };
    // It fails only where somebody listens to messages already.
    let _ = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}
