//! Types of values: their bounds, how they are described, how a value is read from text.
//!
//! A value that was read is within its bounds; nothing behind this module checks again.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use leveret_core::quantity::{self, WHOLE};
use leveret_net::options::all_interfaces;

use crate::source::Shape;

/// The type of a setting with its bounds, both ends included.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A whole number, or 0 for no limit.
    IntegerOrZero {
        /// Least number but 0.
        min: u64,
        /// Greatest number.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A whole number, or `infinity` for no limit.
    Limit {
        /// Greatest number.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A whole number, or -1 for none.
    Cap {
        /// Greatest number.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A whole number of milliseconds or seconds.
    Duration {
        /// What one is worth.
        unit: TimeUnit,
        /// Least number.
        min: u64,
        /// Greatest number.
        max: u64,
        /// Words that mean "for ever"; empty if it may not be.
        forever: &'static [&'static str],
    },
    /// VerneMQ's length of life: a number with `s`, `h`, `d`, `w`, `m` (4 weeks) or `y` (12
    /// months), or a word for "as long as it wants".
    Lifetime {
        /// The longest, in seconds.
        max_s: u64,
        /// The word for none.
        forever: &'static str,
    },
    /// A number of bytes, with a unit or without.
    Size,
    /// A number with or without a decimal point, up to this one.
    Fraction {
        /// Greatest value.
        max: u64,
    },
    /// A text, bounded in bytes of UTF-8.
    Text {
        /// Least length.
        min: usize,
        /// Greatest length.
        max: usize,
    },
    /// A regular expression, at most 1,024 bytes.
    Regex,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or more of these words with commas between them.
    Choices(&'static [&'static str]),
    /// Where a listener listens.
    Listener,
    /// A path of a file or directory; empty is unset.
    Path,
}

/// What a number in a duration is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeUnit {
    /// 1 ms.
    Milliseconds,
    /// 1,000 ms.
    Seconds,
}

impl TimeUnit {
    const fn ms(self) -> u64 {
        match self {
            Self::Milliseconds => 1,
            Self::Seconds => 1_000,
        }
    }

    /// The unit as documents write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
        }
    }
}

/// A value that is within the bounds of its kind. Equal values mean the same.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    /// `None` is no limit.
    Number(Option<u64>),
    /// Milliseconds; `None` is for ever.
    Duration(Option<u64>),
    Text(String),
    /// In the order of the kind, without duplicates.
    Words(Vec<&'static str>),
    Listener(Vec<SocketAddr>),
}

const REGEX_BYTES_MAX: usize = 1_024;

/// Reads `text`; `None` if it is not a value of `kind`. `shape` is what the file format says
/// about it.
pub(crate) fn parse(kind: Kind, text: &str, shape: Shape) -> Option<Value> {
    if !fits(kind, text, shape) {
        return None;
    }
    match kind {
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Integer { min, max, .. } => {
            whole(text, min, max).map(|number| Value::Number(Some(number)))
        }
        Kind::IntegerOrZero { .. } if text == "0" => Some(Value::Number(Some(0))),
        Kind::IntegerOrZero { min, max, .. } => {
            whole(text, min, max).map(|number| Value::Number(Some(number)))
        }
        Kind::Limit { .. } if text == "infinity" => Some(Value::Number(None)),
        Kind::Limit { max, .. } => whole(text, 0, max).map(|number| Value::Number(Some(number))),
        Kind::Cap { .. } if text == "-1" => Some(Value::Number(None)),
        Kind::Cap { max, .. } => whole(text, 0, max).map(|number| Value::Number(Some(number))),
        Kind::Duration { forever, .. } if forever.contains(&text) => Some(Value::Duration(None)),
        Kind::Duration { unit, min, max, .. } => {
            whole(text, min, max).map(|number| Value::Duration(Some(number * unit.ms())))
        }
        Kind::Lifetime { max_s, forever } => lifetime(text, max_s, forever),
        Kind::Size => quantity::parse_size(text).map(|bytes| Value::Number(Some(bytes))),
        Kind::Fraction { max } => quantity::parse_fraction(text)
            .filter(|millionths| *millionths <= max * WHOLE)
            .map(|millionths| Value::Number(Some(millionths))),
        Kind::Text { min, max } => (min..=max)
            .contains(&text.len())
            .then(|| Value::Text(text.into())),
        Kind::Regex => {
            let valid = text.len() <= REGEX_BYTES_MAX && regex::Regex::new(text).is_ok();
            valid.then(|| Value::Text(text.into()))
        }
        Kind::Choice(words) => words.contains(&text).then(|| Value::Text(text.into())),
        Kind::Choices(words) => choices(text, words),
        Kind::Listener => listener(text).map(Value::Listener),
        Kind::Path => (!text.contains('\0')).then(|| Value::Text(text.into())),
    }
}

/// Whether a value that the file marks as `shape` may be one of `kind`: in TOML, `"10"` is no
/// number, and `true` no text.
fn fits(kind: Kind, text: &str, shape: Shape) -> bool {
    let number = matches!(
        kind,
        Kind::Integer { .. }
            | Kind::IntegerOrZero { .. }
            | Kind::Limit { .. }
            | Kind::Cap { .. }
            | Kind::Duration { .. }
    );
    match shape {
        Shape::Bare => true,
        Shape::Boolean => matches!(kind, Kind::Bool),
        Shape::Integer => {
            let amount = matches!(kind, Kind::Size | Kind::Fraction { .. });
            number || amount || matches!(kind, Kind::Listener | Kind::Choices(_))
        }
        Shape::Float => matches!(kind, Kind::Fraction { .. }),
        Shape::String if number => text != "-1" && text.parse::<u64>().is_err(),
        Shape::String => !matches!(kind, Kind::Bool | Kind::Fraction { .. }),
        Shape::List => matches!(kind, Kind::Choices(_)),
        Shape::Other => false,
    }
}

/// Digits only: no sign, no spaces.
fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
}

fn lifetime(text: &str, max_s: u64, forever: &str) -> Option<Value> {
    const HOUR_S: u64 = 3_600;
    const WEEK_S: u64 = 7 * 24 * HOUR_S;
    if text == forever {
        return Some(Value::Duration(None));
    }
    let unit_at = text.char_indices().next_back()?.0;
    let (number, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "s" => 1,
        "h" => HOUR_S,
        "d" => 24 * HOUR_S,
        "w" => WEEK_S,
        "m" => 4 * WEEK_S,
        "y" => 48 * WEEK_S,
        _ => return None,
    };
    if number.is_empty() {
        return None;
    }
    let seconds = whole(number, 0, max_s)?.checked_mul(unit_s)?;
    (seconds <= max_s).then_some(Value::Duration(Some(seconds * 1_000)))
}

fn choices(text: &str, words: &'static [&'static str]) -> Option<Value> {
    let given: Vec<&str> = text.split(',').map(str::trim).collect();
    let legal = given.iter().all(|word| words.contains(word));
    let chosen = words
        .iter()
        .copied()
        .filter(|word| given.contains(word))
        .collect();
    legal.then_some(Value::Words(chosen))
}

/// `PORT`, `IPv4:PORT`, `[IPv6]:PORT`, and `IPv6:PORT`, which RabbitMQ takes too. Port 0 needs an
/// address: the system would choose two different ones for the two families.
fn listener(text: &str) -> Option<Vec<SocketAddr>> {
    if let Some(port) = whole(text, 1, u64::from(u16::MAX)) {
        return u16::try_from(port).ok().map(all_interfaces);
    }
    if let Ok(address) = text.parse() {
        return Some(vec![address]);
    }
    let (ip, port) = text.rsplit_once(':')?;
    let port = u16::try_from(whole(port, 0, u64::from(u16::MAX))?).ok()?;
    Some(vec![(ip.parse::<Ipv6Addr>().ok()?, port).into()])
}

impl Kind {
    /// What numbers of this kind count, empty if it has no numbers.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Integer { unit, .. }
            | Self::IntegerOrZero { unit, .. }
            | Self::Limit { unit, .. }
            | Self::Cap { unit, .. } => unit,
            Self::Duration { unit, .. } => unit.name(),
            Self::Size => "bytes",
            Self::Text { .. } | Self::Regex => "bytes of UTF-8",
            _ => "",
        }
    }

    /// The name of the type alone.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Integer { .. } | Self::IntegerOrZero { .. } | Self::Cap { .. } => "integer",
            Self::Limit { .. } => "integer or infinity",
            Self::Duration { .. } => "duration",
            Self::Lifetime { .. } => "lifetime",
            Self::Size => "size",
            Self::Fraction { .. } => "fraction",
            Self::Text { .. } => "text",
            Self::Regex => "regular expression",
            Self::Choice(_) => "word",
            Self::Choices(_) => "list of words",
            Self::Listener => "address",
            Self::Path => "path",
        }
    }
}

/// All that is allowed, as one phrase: `a whole number from 1 to 65535 (messages)`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min, max, unit } => {
                write!(f, "a whole number of {unit} from {min} to {max}")
            }
            Self::IntegerOrZero { min, max, unit } => {
                write!(f, "a whole number of {unit} from {min} to {max}, or 0")
            }
            Self::Limit { max, unit } => {
                write!(f, "a whole number of {unit} from 0 to {max}, or infinity")
            }
            Self::Cap { max, unit } => {
                write!(f, "a whole number of {unit} from 0 to {max}, or -1")
            }
            Self::Duration {
                unit,
                min,
                max,
                forever,
            } => {
                write!(f, "a whole number of {} from {min} to {max}", unit.name())?;
                forever.iter().try_for_each(|word| write!(f, ", or {word}"))
            }
            Self::Lifetime { max_s, forever } => write!(
                f,
                "a whole number with s, h, d, w, m (4 weeks) or y (48 weeks), up to {max_s}s, \
                 or {forever}"
            ),
            Self::Size => f.write_str(
                "a whole number of bytes, or with kB, MB, GB, TB (thousands) or KiB, MiB, GiB, \
                 TiB (1024s)",
            ),
            Self::Fraction { max } => write!(f, "a number from 0.0 to {max}.0"),
            Self::Text { min, max } => write!(f, "a text of {min} to {max} bytes"),
            Self::Regex => write!(f, "a regular expression of at most {REGEX_BYTES_MAX} bytes"),
            Self::Choice(words) => f.write_str(&words.join(", or ")),
            Self::Choices(words) => {
                write!(
                    f,
                    "one or more of {} with commas between them",
                    words.join(", ")
                )
            }
            Self::Listener => f.write_str("PORT from 1 to 65535, IPv4:PORT, or [IPv6]:PORT"),
            Self::Path => f.write_str("a path"),
        }
    }
}
