//! Where messages about the broker go: to standard error, from the configured severity on.
//!
//! One message is one line, whatever a peer put into its names: nobody writes a line of their own
//! into the log.

use std::io::{self, IsTerminal, Write};

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
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// Writes each message, which comes as a whole with its line end, as one line.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let body = message.strip_suffix(b"\n").unwrap_or(message);
        if body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            let mut line = Vec::with_capacity(message.len() + 8);
            for byte in body {
                match byte {
                    b'\n' => line.extend_from_slice(b"\\n"),
                    b'\r' => line.extend_from_slice(b"\\r"),
                    other => line.push(*other),
                }
            }
            line.push(b'\n');
            self.0.write_all(&line)?;
        } else {
            self.0.write_all(message)?;
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O9: one line each.
    #[test]
    fn o9_a_message_is_one_line() {
        let table = [
            ("plain\n", "plain\n"),
            ("two\nlines\r\n", "two\\nlines\\r\n"),
            ("no end", "no end"),
        ];
        for (message, expected) in table {
            let mut out = Vec::new();
            OneLine(&mut out)
                .write_all(message.as_bytes())
                .expect("memory");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
