//! Flags: each command has tables of them, anything else is refused.
//!
//! Owns how values are read: sizes with k and m, ranges. Never knows what a flag is for.

use std::collections::HashMap;

use clap::{Arg, ArgMatches, Command};

use crate::failure::Failure;
use crate::sockets::Reach;

/// A flag: its name, its default, what it is for. A default of `true` or `false` makes it a
/// switch: alone it means `true`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

/// Tables of flags; the first that has a flag gives its default.
pub(crate) type Tables = &'static [&'static [Flag]];

/// The values of a command's flags.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    values: HashMap<&'static str, String>,
    /// Which addresses may be spoken to.
    pub(crate) reach: Reach,
}

impl Args {
    pub(crate) fn read(tables: Tables, matches: &ArgMatches, reach: Reach) -> Self {
        let value = |flag: &Flag| {
            let given = matches.get_one::<String>(flag.0).cloned();
            (flag.0, given.unwrap_or_else(|| flag.1.to_owned()))
        };
        Self {
            values: unique(tables).iter().map(value).collect(),
            reach,
        }
    }

    /// The text of a flag; empty if the command has none of that name.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A whole number within a range; k and m stand for thousands and millions.
    pub(crate) fn count(&self, name: &str, least: u64, most: u64) -> Result<u64, Failure> {
        let text = self.text(name);
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
            _ => (text, 1),
        };
        let read = digits.parse::<u64>().ok();
        let Some(value) = read.and_then(|value| value.checked_mul(factor)) else {
            return Err(Failure::argument(format!(
                "--{name}: '{text}' is not a whole number"
            )));
        };
        if value < least || value > most {
            return Err(Failure::argument(format!(
                "--{name}: {value} is outside {least}..={most}"
            )));
        }
        Ok(value)
    }

    /// The same as `count`, for what is counted in memory.
    pub(crate) fn size(&self, name: &str, least: usize, most: usize) -> Result<usize, Failure> {
        self.count(name, least as u64, most as u64)
            .map(|value| value as usize)
    }

    /// 0, 1 or 2.
    pub(crate) fn qos(&self, name: &str) -> Result<u8, Failure> {
        self.count(name, 0, 2).map(|value| value as u8)
    }

    /// A number within a range.
    pub(crate) fn number(&self, name: &str, least: f64, most: f64) -> Result<f64, Failure> {
        let text = self.text(name);
        let value: f64 = text
            .parse()
            .map_err(|_| Failure::argument(format!("--{name}: '{text}' is not a number")))?;
        if !(least..=most).contains(&value) {
            return Err(Failure::argument(format!(
                "--{name}: {value} is outside {least}..={most}"
            )));
        }
        Ok(value)
    }

    /// A flag whose text is none of those it may have.
    pub(crate) fn unknown(&self, name: &str) -> Failure {
        Failure::argument(format!("--{name}: {}?", self.text(name)))
    }
}

/// The flags of some tables as a command of the command line.
pub(crate) fn command(name: &'static str, about: &'static str, tables: Tables) -> Command {
    Command::new(name)
        .about(about)
        .args_override_self(true)
        .args(unique(tables).into_iter().map(argument))
}

fn argument(flag: Flag) -> Arg {
    let Flag(name, default, help) = flag;
    let mut arg = Arg::new(name).long(name).help(help).value_name("VALUE");
    if matches!(default, "true" | "false") {
        arg = arg
            .num_args(0..=1)
            .value_parser(["true", "false"])
            .default_missing_value("true")
            .hide_possible_values(true);
    }
    if !default.is_empty() {
        arg = arg.default_value(default);
    }
    arg
}

fn unique(tables: Tables) -> Vec<Flag> {
    let mut found: Vec<Flag> = vec![];
    for flag in tables.iter().copied().flatten() {
        if !found.iter().any(|seen| seen.0 == flag.0) {
            found.push(*flag);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[Flag] = &[Flag("n", "1", ""), Flag("b", "false", "")];
    const SECOND: &[Flag] = &[Flag("n", "2", ""), Flag("s", "", "")];
    const TABLES: Tables = &[FIRST, SECOND];

    fn parse(text: &str) -> Option<Args> {
        let words = std::iter::once("load").chain(text.split_whitespace());
        let matches = command("load", "", TABLES).try_get_matches_from(words);
        Some(Args::read(TABLES, &matches.ok()?, Reach::Loopback))
    }

    #[test]
    fn flags_are_read() {
        let args = parse("--b --n 5k --s=x").expect("is right");
        assert!(args.is_set("b"));
        assert_eq!(args.count("n", 0, 1 << 40).ok(), Some(5_000));
        assert_eq!(args.text("s"), "x");
        let args = parse("--b false --n 3 --n 4M").expect("is right");
        assert!(!args.is_set("b"));
        assert_eq!(args.count("n", 0, 1 << 40).ok(), Some(4_000_000));
        let args = parse("").expect("is right");
        assert_eq!((args.text("n"), args.text("s")), ("1", ""));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in ["--zz 1", "--n", "x", "--b maybe"] {
            assert!(parse(text).is_none(), "{text}");
        }
        let args = parse("--n 9 --s 1x").expect("is right");
        let words = |result: Result<u64, Failure>| result.map_err(|why| why.to_string());
        assert_eq!(
            words(args.count("n", 0, 8)),
            Err("--n: 9 is outside 0..=8".into())
        );
        let not = "--s: '1x' is not a whole number";
        assert_eq!(words(args.count("s", 0, 8)), Err(not.into()));
        assert!(args.number("s", 0.0, 1.0).is_err());
    }
}
