//! The `enabled_plugins` file, in RabbitMQ's format: one Erlang list of atoms, then a period.
//!
//! ```text
//! [rabbitmq_management,rabbitmq_mqtt].
//! ```
//!
//! Owns reading and replacing that file. It must never judge which plugins there are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::atomic_file;

/// The largest file that is read, in bytes.
pub const ENABLED_PLUGINS_BYTES_MAX: u64 = 64 * 1_024;

/// The longest plugin name, in characters: Erlang's limit for atoms.
pub const NAME_CHARS_MAX: usize = 255;

/// Why the file cannot be read or written. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum EnabledPluginsError {
    /// It is there but cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
    /// It is larger than [`ENABLED_PLUGINS_BYTES_MAX`].
    #[error("{} is larger than {ENABLED_PLUGINS_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else than a list of names.
    #[error("{}:{}:{}: {}", path.display(), error.line, error.column, error.why)]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: ParseError,
    },
    /// It cannot be replaced; the old file is still there.
    #[error("{} cannot be written: {why}", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
    /// A name that no atom can have: empty, above [`NAME_CHARS_MAX`], or with control characters.
    #[error("{name:?} is not a plugin name")]
    NotAName {
        /// The name.
        name: String,
    },
}

/// Where a text stops being a list of names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{line}:{column}: {why}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// The enabled plugins, in the file's order and each once; none if the file is missing or empty.
///
/// # Errors
/// [`EnabledPluginsError::NotRead`], [`EnabledPluginsError::TooLarge`] and
/// [`EnabledPluginsError::Malformed`].
pub fn read(path: &Path) -> Result<Vec<String>, EnabledPluginsError> {
    let unreadable = |why| EnabledPluginsError::NotRead {
        path: path.to_path_buf(),
        why,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(ENABLED_PLUGINS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > ENABLED_PLUGINS_BYTES_MAX {
        return Err(EnabledPluginsError::TooLarge {
            path: path.to_path_buf(),
        });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    parse(&text).map_err(|error| EnabledPluginsError::Malformed {
        path: path.to_path_buf(),
        error,
    })
}

/// Replaces the file atomically; returns when it is on disk. Names are written in their order,
/// in quotes where Erlang needs them.
///
/// # Errors
/// [`EnabledPluginsError::NotAName`] and [`EnabledPluginsError::NotWritten`]; nothing is changed.
pub fn write<S: AsRef<str>>(path: &Path, names: &[S]) -> Result<(), EnabledPluginsError> {
    let mut text = String::from("[");
    for (index, name) in names.iter().enumerate() {
        let name = name.as_ref();
        if !is_name(name) {
            return Err(EnabledPluginsError::NotAName {
                name: name.to_owned(),
            });
        }
        if index > 0 {
            text.push(',');
        }
        push_atom(&mut text, name);
    }
    text.push_str("].\n");
    atomic_file::write(path, text.as_bytes(), FILE_MODE).map_err(|why| {
        EnabledPluginsError::NotWritten {
            path: path.to_path_buf(),
            why,
        }
    })
}

/// The names in a text of the file's format; none in a blank one. Comments (`%` to the line's
/// end) are skipped.
///
/// # Errors
/// Where the text stops being a list of atoms with a period.
pub fn parse(text: &str) -> Result<Vec<String>, ParseError> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        column: 1,
    };
    let mut names = Vec::new();
    reader.skip_blanks();
    if reader.peek().is_none() {
        return Ok(names);
    }
    reader.expect('[', "expected [")?;
    reader.skip_blanks();
    if reader.peek() == Some(']') {
        reader.next();
    } else {
        loop {
            let name = reader.atom()?;
            if !names.contains(&name) {
                names.push(name);
            }
            reader.skip_blanks();
            let here = reader.error("expected , or ]");
            match reader.next() {
                Some(',') => reader.skip_blanks(),
                Some(']') => break,
                _ => return Err(here),
            }
        }
    }
    reader.skip_blanks();
    reader.expect('.', "expected . after the list")?;
    reader.skip_blanks();
    match reader.peek() {
        None => Ok(names),
        Some(_) => Err(reader.error("expected nothing after the period")),
    }
}

/// A place in the text.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(next)
    }

    fn error(&self, why: &'static str) -> ParseError {
        ParseError {
            line: self.line,
            column: self.column,
            why,
        }
    }

    fn expect(&mut self, wanted: char, why: &'static str) -> Result<(), ParseError> {
        if self.peek() != Some(wanted) {
            return Err(self.error(why));
        }
        self.next();
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while let Some(next) = self.peek() {
            if next == '%' {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.next();
                }
            } else if next.is_whitespace() {
                self.next();
            } else {
                return;
            }
        }
    }

    fn atom(&mut self) -> Result<String, ParseError> {
        let start = self.error("expected a plugin name");
        let name = match self.peek() {
            Some('\'') => self.quoted_atom()?,
            Some(first) if first.is_ascii_lowercase() => self.bare_atom(),
            _ => return Err(start),
        };
        if is_name(&name) {
            Ok(name)
        } else {
            Err(ParseError {
                why: NOT_A_NAME,
                ..start
            })
        }
    }

    fn bare_atom(&mut self) -> String {
        let mut name = String::new();
        while let Some(next) = self.peek().filter(|next| is_bare(*next)) {
            name.push(next);
            self.next();
        }
        name
    }

    fn quoted_atom(&mut self) -> Result<String, ParseError> {
        let mut name = String::new();
        self.next();
        loop {
            let here = self.error("the quoted name does not end");
            match self.next() {
                Some('\'') => return Ok(name),
                Some('\\') => match self.next() {
                    Some(escaped @ ('\'' | '\\')) => name.push(escaped),
                    _ => {
                        return Err(ParseError {
                            why: "only \\' and \\\\ are known",
                            ..here
                        });
                    }
                },
                Some(next) => name.push(next),
                None => return Err(here),
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn is_bare(next: char) -> bool {
    next.is_ascii_alphanumeric() || next == '_' || next == '@'
}

fn push_atom(text: &mut String, name: &str) {
    if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(is_bare) {
        text.push_str(name);
        return;
    }
    text.push('\'');
    for next in name.chars() {
        if matches!(next, '\'' | '\\') {
            text.push('\\');
        }
        text.push(next);
    }
    text.push('\'');
}

const NOT_A_NAME: &str = "not a plugin name";
/// Tools of other users read it, as in RabbitMQ.
const FILE_MODE: u32 = 0o644;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \n% nothing yet\n", &[]),
            ("[].", &[]),
            ("[ ] . \n", &[]),
            ("[rabbitmq_mqtt].", &["rabbitmq_mqtt"]),
            (
                "[rabbitmq_management,rabbitmq_mqtt].\n",
                &["rabbitmq_management", "rabbitmq_mqtt"],
            ),
            ("[a, % first\n  b\n].", &["a", "b"]),
            ("[a,b,a].", &["a", "b"]),
            (
                "['my-plugin','it\\'s','a\\\\b'].",
                &["my-plugin", "it's", "a\\b"],
            ),
            ("[x@y,aB1].", &["x@y", "aB1"]),
        ];
        for (text, names) in table {
            assert_eq!(parse(text).as_deref().expect(text), *names, "{text}");
        }
    }

    #[test]
    fn errors_have_a_position() {
        let long = format!("[{}].", "a".repeat(NAME_CHARS_MAX + 1));
        let table: &[(&str, usize, usize, &str)] = &[
            ("rabbitmq_mqtt.", 1, 1, "expected ["),
            ("[rabbitmq_mqtt]", 1, 16, "expected . after the list"),
            ("[a b].", 1, 4, "expected , or ]"),
            ("[a,\n b,\n ].", 3, 2, "expected a plugin name"),
            ("[,a].", 1, 2, "expected a plugin name"),
            ("[Mqtt].", 1, 2, "expected a plugin name"),
            ("[1].", 1, 2, "expected a plugin name"),
            ("[\"a\"].", 1, 2, "expected a plugin name"),
            ("[{a,b}].", 1, 2, "expected a plugin name"),
            ("[a].[b].", 1, 5, "expected nothing after the period"),
            ("['a].", 1, 6, "the quoted name does not end"),
            ("['a\\n'].", 1, 4, "only \\' and \\\\ are known"),
            ("[''].", 1, 2, NOT_A_NAME),
            ("['a\nb'].", 1, 2, NOT_A_NAME),
            (&long, 1, 2, NOT_A_NAME),
            ("[", 1, 2, "expected a plugin name"),
            ("[a", 1, 3, "expected , or ]"),
        ];
        for (text, line, column, why) in table {
            let error = ParseError {
                line: *line,
                column: *column,
                why,
            };
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("enabled_plugins");
        assert_eq!(read(&path).expect("missing"), Vec::<String>::new());
        let table: &[(&[&str], &str)] = &[
            (&[], "[].\n"),
            (
                &["rabbitmq_management", "rabbitmq_mqtt"],
                "[rabbitmq_management,rabbitmq_mqtt].\n",
            ),
            (&["my-plugin", "it's\\"], "['my-plugin','it\\'s\\\\'].\n"),
        ];
        for (names, text) in table {
            write(&path, names).expect("writes");
            assert_eq!(std::fs::read_to_string(&path).expect("reads"), *text);
            assert_eq!(read(&path).expect(text), *names);
        }
        assert!(matches!(
            write(&path, &["a\nb"]),
            Err(EnabledPluginsError::NotAName { .. })
        ));
        assert_eq!(read(&path).expect("unchanged").len(), 2);
    }

    #[test]
    fn unusable_files_are_named() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("enabled_plugins");
        let large = vec![b' '; 64 * 1_024 + 1];
        let table: [(&[u8], &str); 3] = [
            (b"[a,\nB].", ":2:1: expected"),
            (b"[\xff].", "cannot be read"),
            (&large, "larger"),
        ];
        for (bytes, text) in table {
            std::fs::write(&path, bytes).expect("writes");
            let error = read(&path).expect_err(text).to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(text), "{error}");
        }
        let missing = directory.path().join("missing/enabled_plugins");
        let error = write(&missing, &["a"])
            .expect_err("no directory")
            .to_string();
        assert!(error.contains(&missing.display().to_string()), "{error}");
    }
}
