//! How a command ends: what goes to standard error, and the exit codes of RabbitMQ's tools.

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use leveret_management::protocol::{Code, Failure};

/// Tells what went wrong and makes it the exit code.
pub(super) fn fail(failure: &Failure) -> ExitCode {
    eprintln!("Error:\n{}", failure.text);
    ExitCode::from(failure.exit)
}

/// The exit code of arguments that were not understood, or that asked for help.
pub(super) fn usage(why: &clap::Error) -> ExitCode {
    if !why.use_stderr() {
        print!("{why}");
        return ExitCode::SUCCESS;
    }
    if why.kind() == ErrorKind::InvalidSubcommand
        && let Some(command) = why.get(ContextKind::InvalidSubcommand)
    {
        eprintln!("\nCommand '{command}' not found. ");
        if let Some(near) = why.get(ContextKind::SuggestedSubcommand) {
            eprintln!("Did you mean '{near}'? ");
        }
        return ExitCode::from(Code::Usage.exit());
    }
    let text = why.to_string();
    eprint!("Error (argument validation): {}", text.strip_prefix("error: ").unwrap_or(&text));
    ExitCode::from(Code::Usage.exit())
}

/// A complaint about arguments.
pub(super) fn bad_argument(text: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, text)
}
