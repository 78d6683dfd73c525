//! The words of a script: bare, or in quotes with escapes.
//!
//! Owns how octets are written on a page, both ways.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Context, Result, bail};

/// What is left of a line.
pub(super) struct Source<'a>(Peekable<Chars<'a>>);

impl<'a> Source<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self(line.chars().peekable())
    }

    fn skip_space(&mut self) {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.0.peek().is_none()
    }

    pub(super) fn is_quoted(&mut self) -> bool {
        self.skip_space();
        self.0.peek() == Some(&'"')
    }

    /// Whether `wanted` came next; it is taken then.
    pub(super) fn skip(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.0.next_if_eq(&wanted).is_some()
    }

    /// As [`Source::skip`], with no space before it.
    pub(super) fn skip_at_once(&mut self, wanted: char) -> bool {
        self.0.next_if_eq(&wanted).is_some()
    }

    pub(super) fn expect(&mut self, wanted: char) -> Result<()> {
        if !self.skip(wanted) {
            bail!("{wanted:?} expected before {:?}", self.rest());
        }
        Ok(())
    }

    /// All that is left.
    pub(super) fn rest(&self) -> String {
        self.0.clone().collect::<String>().trim().to_owned()
    }

    /// The next word: up to a space or one of `ends`, or what stands in quotes.
    pub(super) fn word(&mut self, ends: &str) -> Result<Vec<u8>> {
        self.skip_space();
        if self.0.next_if_eq(&'"').is_some() {
            return self.quoted();
        }
        let mut word = String::new();
        while let Some(c) = self.0.next_if(|c| !c.is_whitespace() && !ends.contains(*c)) {
            word.push(c);
        }
        if word.is_empty() {
            bail!("a word expected before {:?}", self.rest());
        }
        Ok(word.into_bytes())
    }

    fn quoted(&mut self) -> Result<Vec<u8>> {
        let mut word = Vec::new();
        loop {
            match self.0.next().context("a quote is not closed")? {
                '"' => return Ok(word),
                '\\' => match self.0.next().context("a line ends in an escape")? {
                    'n' => word.push(b'\n'),
                    'r' => word.push(b'\r'),
                    't' => word.push(b'\t'),
                    'x' => {
                        let digits: String = self.0.by_ref().take(2).collect();
                        word.push(u8::from_str_radix(&digits, 16)?);
                    }
                    other => word.extend(other.to_string().as_bytes()),
                },
                other => word.extend(other.to_string().as_bytes()),
            }
        }
    }
}

/// Octets as a word that reads back as them; long runs are told by their length.
pub(super) fn show(octets: &[u8]) -> String {
    if octets.len() > LONGEST && octets.iter().all(|octet| *octet == octets[0]) {
        return format!("<{} of {:?}>", octets.len(), char::from(octets[0]));
    }
    // A lone letter would read as a type.
    if octets.len() > 1 && octets.iter().all(is_bare) {
        return String::from_utf8_lossy(octets).into_owned();
    }
    quote(octets)
}

/// As [`show`], where no type can stand: the key of a table.
pub(super) fn show_key(octets: &[u8]) -> String {
    if !octets.is_empty() && octets.iter().all(is_bare) {
        return String::from_utf8_lossy(octets).into_owned();
    }
    quote(octets)
}

fn is_bare(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.~$<>/#*@+".contains(octet)
}

fn quote(octets: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                '"' | '\\' => {
                    shown.push('\\');
                    shown.push(c);
                }
                c if u32::from(c) < 0x20 => {
                    let _ = write!(shown, "\\x{:02x}", u32::from(c));
                }
                c => shown.push(c),
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(shown, "\\x{octet:02x}");
        }
    }
    shown.push('"');
    shown
}

/// Longer runs of one octet are told by their length.
const LONGEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        for octets in [&b"abc"[..], b"", b"a b", b"\"\\\n\x00\xff", "é".as_bytes()] {
            let shown = show(octets);
            let read = Source::new(&shown).word("").expect("it is a word");
            assert_eq!(read, octets, "{shown}");
        }
    }
}
