//! The terminal, or what stands in its place: text out, a password in.

use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Read as _, Write as _};

use leveret_management::protocol::{Code, Failure};

/// The longest password line read from standard input, in bytes.
const PASSWORD_BYTES_MAX: u64 = 8 * 1_024;

/// Prints to standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes()).map(|_| ())
}

/// Prints to standard output, and tells whether anybody reads on.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Software, why.to_string()))
        }
        written => Ok(written.is_ok()),
    }
}

/// Prints a line to standard output, as [`print`] does.
pub(super) fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Asks for a password: unseen at a terminal, else a line of standard input.
pub(super) fn password() -> Result<String, Failure> {
    print_line("Password: ")?;
    let line = if std::io::stdin().is_terminal() {
        rpassword::read_password().unwrap_or_default()
    } else {
        let mut line = String::new();
        let mut input = std::io::stdin().lock().take(PASSWORD_BYTES_MAX);
        // What is no text is no password either.
        input
            .read_line(&mut line)
            .map_or_else(|_| String::new(), |_| line)
    };
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        let text = "Password is not provided via argument or stdin";
        return Err(Failure::new(Code::Data, text));
    }
    Ok(password.to_owned())
}
