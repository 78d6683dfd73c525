//! How a command ends: what goes to standard error, and the exit codes of RabbitMQ's tools.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use leveret_management::protocol::{Code, Failure};

use super::console::print;

/// Tells what went wrong and makes it the exit code.
pub(super) fn fail(failure: &Failure) -> ExitCode {
    eprintln!("Error:\n{}", failure.text);
    ExitCode::from(failure.exit)
}

/// The exit code of a command that has done its work, or not.
pub(super) fn ended(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// The same, without a word where none is wanted.
pub(super) fn quietly(done: Result<(), Failure>, quiet: bool) -> ExitCode {
    match done {
        Err(failure) if quiet => ExitCode::from(failure.exit),
        done => ended(done),
    }
}

/// The exit code of arguments that were not understood, or that asked for help.
pub(super) fn usage(why: &clap::Error) -> ExitCode {
    if !why.use_stderr() {
        return ended(print(&why.to_string()));
    }
    match why.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => eprint!("{why}"),
        ErrorKind::InvalidSubcommand => eprintln!("{}", unknown_command(why)),
        kind => {
            let text = why.to_string();
            let said = text.strip_prefix("error: ").unwrap_or(&text);
            eprint!("Error (argument validation): {}{said}", summary(kind, said));
        }
    }
    ExitCode::from(Code::Usage.exit())
}

/// RabbitMQ's words, before the details.
fn summary(kind: ErrorKind, said: &str) -> &'static str {
    match kind {
        ErrorKind::MissingRequiredArgument => "not enough arguments.\n",
        ErrorKind::UnknownArgument if said.contains("argument '-") => {
            "Invalid options for this command:\n"
        }
        ErrorKind::UnknownArgument => "too many arguments.\n",
        _ => "",
    }
}

fn unknown_command(why: &clap::Error) -> String {
    let command = match why.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(command)) => command.as_str(),
        _ => "",
    };
    let near = match why.get(ContextKind::SuggestedSubcommand) {
        // The last is the nearest.
        Some(ContextValue::Strings(near)) => near.last().map(String::as_str),
        Some(ContextValue::String(near)) => Some(near.as_str()),
        _ => None,
    };
    let hint = near
        .map(|near| format!("\nDid you mean '{near}'? "))
        .unwrap_or_default();
    format!("\nCommand '{command}' not found. {hint}")
}

/// A complaint about arguments.
pub(super) fn bad_argument(text: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_unknown_commands_are_told_with_the_nearest() {
        let table = [
            (
                "list_queuess",
                "\nCommand 'list_queuess' not found. \nDid you mean 'list_queues'? ",
            ),
            ("zzz", "\nCommand 'zzz' not found. "),
        ];
        for (word, expected) in table {
            let parsed =
                crate::cli::ctl::command("rabbitmqctl").try_get_matches_from(["rabbitmqctl", word]);
            assert_eq!(unknown_command(&parsed.expect_err("is unknown")), expected);
        }
    }
}
