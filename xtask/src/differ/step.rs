//! One step of a script, as it is written.
//!
//! Owns the words of a line. What they do is `play`'s.
//!
//! ```text
//! [@CONNECTION][CHANNEL][!] VERB name=value flag …
//! ```
//! Without `@…` a step is meant for channel 1 of connection `a`; both are opened if they are not,
//! with `!` only the connection.
//! `@+` is a channel that no step before has used.

use anyhow::{Context, Result, bail};

use super::text::Source;
use super::value::{self, Table};

/// Where a step is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) connection: char,
    /// `None` is a fresh one.
    pub(super) channel: Option<u16>,
    /// Whether that is written, and not the default.
    pub(super) explicit: bool,
    /// Whether its channel is not opened for it.
    pub(super) as_is: bool,
}

/// A value as it is written.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Word(Vec<u8>),
    Table(Table),
}

/// A step as it is written.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) target: Target,
    pub(super) verb: String,
    /// Words without a name, and what follows their `=` if there is one.
    pub(super) words: Vec<(String, Option<Given>)>,
}

impl Step {
    /// Takes a line apart.
    ///
    /// # Errors
    /// It is not written as a step is.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let (mut target, rest) = parse_target(line)?;
        let mut source = Source::new(rest);
        let verb = String::from_utf8(source.word("=")?)?;
        let mut words = Vec::new();
        // These take the rest of the line as it is.
        if ["ctl", "raw"].contains(&verb.as_str()) {
            words.push((source.rest(), None));
            return Ok(Self {
                target,
                verb,
                words,
            });
        }
        while !source.is_empty() {
            let name = String::from_utf8(source.word("=")?)?;
            let value = if source.skip_at_once('=') {
                Some(if source.skip('{') {
                    Given::Table(value::parse_table_after_brace(&mut source)?)
                } else {
                    Given::Word(source.word("")?)
                })
            } else {
                None
            };
            words.push((name, value));
        }
        // `connect b` is `@b connect`.
        if ["close", "connect", "drop", "hello", "tcp"].contains(&verb.as_str())
            && let Some((name, None)) = words.first()
            && let Some(connection) = name.chars().next()
        {
            target.connection = connection;
            words.remove(0);
        }
        Ok(Self {
            target,
            verb,
            words,
        })
    }

    /// Takes the value of one name out.
    pub(super) fn take(&mut self, name: &str) -> Option<Option<Given>> {
        let at = self.words.iter().position(|(known, _)| known == name)?;
        Some(self.words.remove(at).1)
    }

    /// Takes a word out that must have a value.
    ///
    /// # Errors
    /// It has none, or a table.
    pub(super) fn take_word(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Some(Given::Word(word))) => Ok(Some(word)),
            Some(_) => bail!("{name} takes a word"),
        }
    }

    /// Takes a number out.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn take_number(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(word) = self.take_word(name)? else {
            return Ok(None);
        };
        let word = String::from_utf8(word)?;
        let number = word.parse().with_context(|| format!("{name}={word}"))?;
        Ok(Some(number))
    }

    /// Says that every word has been understood.
    ///
    /// # Errors
    /// One is left.
    pub(super) fn done(&self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some((name, _)) => bail!("{} knows no {name}", self.verb),
        }
    }
}

fn parse_target(line: &str) -> Result<(Target, &str)> {
    let mut target = Target {
        connection: 'a',
        channel: Some(1),
        explicit: false,
        as_is: false,
    };
    let Some(written) = line.strip_prefix('@') else {
        return Ok((target, line));
    };
    let (mut place, rest) = written.split_once(' ').context("a step without a verb")?;
    if let Some(shorter) = place.strip_suffix('!') {
        place = shorter;
        target.as_is = true;
    }
    if let Some(connection) = place.chars().next().filter(char::is_ascii_alphabetic) {
        target.connection = connection;
        place = &place[1..];
    }
    target.explicit = !place.is_empty();
    match place {
        "" => {}
        "+" => target.channel = None,
        number => target.channel = Some(number.parse().context("a channel is a number")?),
    }
    Ok((target, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = "@b12! queue.declare queue=\"a b\" durable arguments={x: I 5}";
        let mut step = Step::parse(line).expect("it is a step");
        assert_eq!(step.target.connection, 'b');
        assert_eq!(step.target.channel, Some(12));
        assert!(step.target.as_is);
        assert_eq!(step.verb, "queue.declare");
        let word = step.take_word("queue").expect("it is a word");
        assert_eq!(word.as_deref(), Some(&b"a b"[..]));
        assert!(matches!(step.take("durable"), Some(None)));
        assert!(matches!(
            step.take("arguments"),
            Some(Some(Given::Table(_)))
        ));
        step.done().expect("nothing is left");
    }
}
