//! The table of settings: one row each, and nothing about a setting that is not in its row.
//!
//! Keys are RabbitMQ's. Files, environment variables, error texts, `docs/configuration.md`,
//! `config/leveret.toml` and `config/rabbitmq.conf` all come from here.

mod amqp;
mod mqtt;
mod node;

use crate::kind::{Kind, TimeUnit, Value};
use crate::source::Shape;

/// One setting, or one family of settings if its key ends in a `<placeholder>`.
#[derive(Debug)]
pub struct Setting {
    /// Words with dots between them; the last of a family is `<name>`, `<user>`, `<tag>` or `<N>`.
    pub key: &'static str,
    /// Type and bounds of the value.
    pub kind: Kind,
    /// The value when nobody gives one, as `rabbitmq.conf` would have it; empty is unset.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Other names.
    pub aliases: &'static [Alias],
    /// What a family has beyond a single setting.
    pub family: Option<Family>,
    /// Whether the value is never shown.
    pub secret: bool,
    /// For a setting without a default: a key and value to show how it is written.
    pub example: Option<(&'static str, &'static str)>,
}

/// Another name of a setting, perhaps in another unit.
#[derive(Debug)]
pub struct Alias {
    /// The name.
    pub key: &'static str,
    /// Type and bounds under this name.
    pub kind: Kind,
    /// Where the name comes from.
    pub from: &'static str,
}

/// A setting with members.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name and value of the members when nobody gives any. One that is given replaces them all.
    pub members: &'static [(&'static str, &'static str)],
    /// Whether `none` under the family's own key empties it.
    pub none: bool,
    /// Whether members are numbered from 1, and their order matters.
    pub numbered: bool,
}

/// Settings that belong together.
#[derive(Debug)]
pub struct Section {
    /// A heading.
    pub title: &'static str,
    /// In the order of documents.
    pub settings: &'static [Setting],
}

/// A number of a numbered family is at most this.
const NUMBER_MAX: u32 = 64;

const TRUE_FALSE: Kind = Kind::Bool;
const NAME: Kind = Kind::Text { min: 1, max: 255 };
const PASSWORD: Kind = Kind::Text { min: 1, max: 1_024 };
const BACKLOG: Kind = Kind::Integer {
    min: 1,
    max: 65_535,
    unit: "connections",
};
const TIMEOUT: Kind = Kind::Duration {
    unit: TimeUnit::Milliseconds,
    min: 1,
    max: 3_600_000,
    forever: &[],
};
// MQTT 5.0 §3.1.2.11.2: Session Expiry Interval is four bytes, and all ones mean "for ever".
const EXPIRY_S_MAX: u64 = 4_294_967_294;

/// All settings.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Node",
        settings: node::NODE,
    },
    Section {
        title: "Resource limits",
        settings: node::RESOURCES,
    },
    Section {
        title: "Listeners",
        settings: node::LISTENERS,
    },
    Section {
        title: "Users",
        settings: node::USERS,
    },
    Section {
        title: "Journal",
        settings: node::JOURNAL,
    },
    Section {
        title: "MQTT",
        settings: mqtt::MQTT,
    },
    Section {
        title: "AMQP 0-9-1",
        settings: amqp::AMQP,
    },
    Section {
        title: "Events",
        settings: node::EVENTS,
    },
];

const DURABILITY: Kind = Kind::Choice(&["group", "interval", "none"]);

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    let (aliases, family, secret, example) = (&[], None, false, None);
    Setting {
        key,
        kind,
        default,
        doc,
        aliases,
        family,
        secret,
        example,
    }
}

impl Setting {
    const fn aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn members(mut self, members: &'static [(&'static str, &'static str)]) -> Self {
        self.family = Some(Family {
            members,
            none: false,
            numbered: false,
        });
        self
    }

    const fn or_none(mut self) -> Self {
        if let Some(family) = &mut self.family {
            family.none = true;
        }
        self
    }

    const fn numbered(mut self) -> Self {
        if let Some(family) = &mut self.family {
            family.numbered = true;
        }
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn example(mut self, key: &'static str, value: &'static str) -> Self {
        self.example = Some((key, value));
        self
    }

    /// The key without the placeholder of a family.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        match (self.family, self.key.rsplit_once('.')) {
            (Some(_), Some((stem, _))) => stem,
            _ => self.key,
        }
    }

    /// `value`, unless it must not be shown.
    #[must_use]
    pub fn shown<'a>(&self, value: &'a str) -> &'a str {
        if self.secret { "<hidden>" } else { value }
    }

    /// Key and value of everything that holds when nobody says anything.
    pub fn defaults(&self) -> impl Iterator<Item = (String, &'static str)> {
        let single = (self.family.is_none() && !self.default.is_empty())
            .then(|| (self.key.to_owned(), self.default));
        let members = self.family.map_or(&[][..], |family| family.members);
        let stem = self.stem();
        single.into_iter().chain(
            members
                .iter()
                .map(move |(name, value)| (format!("{stem}.{name}"), *value)),
        )
    }
}

/// All settings, section by section.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// What a written key means.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) setting: &'static Setting,
    /// Type under the name that was written.
    pub(crate) kind: Kind,
    pub(crate) part: Part,
}

/// Which part of a setting a key is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// All of a setting that is no family.
    Whole,
    /// One member of a family.
    Member(Member),
    /// The key of a family itself.
    Stem,
}

/// A member of a family. Numbered ones sort by number, others by name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Member {
    number: u32,
    pub(crate) name: String,
}

impl Member {
    /// `None` if members of this family are not named like that.
    pub(crate) fn of(family: Family, name: &str) -> Option<Self> {
        let number = if family.numbered {
            name.parse()
                .ok()
                .filter(|number| (1..=NUMBER_MAX).contains(number))?
        } else {
            0
        };
        (!name.is_empty()).then(|| Self {
            number,
            name: name.into(),
        })
    }
}

/// The setting that `key` belongs to.
pub(crate) fn find(key: &str) -> Option<Found> {
    settings().find_map(|setting| match setting.family {
        Some(family) => find_in_family(setting, family, key),
        None if key == setting.key => Some(Found {
            setting,
            kind: setting.kind,
            part: Part::Whole,
        }),
        None => setting
            .aliases
            .iter()
            .find(|alias| alias.key == key)
            .map(|alias| Found {
                setting,
                kind: alias.kind,
                part: Part::Whole,
            }),
    })
}

fn find_in_family(setting: &'static Setting, family: Family, key: &str) -> Option<Found> {
    let found = |part| Found {
        setting,
        kind: setting.kind,
        part,
    };
    let rest = key.strip_prefix(setting.stem())?;
    if rest.is_empty() {
        return (family.none || family.numbered).then(|| found(Part::Stem));
    }
    Member::of(family, rest.strip_prefix('.')?)
        .map(Part::Member)
        .map(found)
}

/// The value of a default, which a test reads from every row of the table.
pub(crate) fn default_value(kind: Kind, text: &str) -> Value {
    match crate::kind::parse(kind, text, Shape::Bare) {
        Some(value) => value,
        None => panic!("the table has a default '{text}' that its own row forbids"),
    }
}

/// The key that was probably meant by `key`, and in how many letters it differs.
pub(crate) fn nearest(key: &str) -> Option<(String, usize)> {
    let names = settings().flat_map(|setting| {
        std::iter::once((setting.key, setting.family))
            .chain(setting.aliases.iter().map(|alias| (alias.key, None)))
    });
    let mut best: Option<(String, usize)> = None;
    for (name, family) in names {
        let candidate = match family {
            None => name.to_owned(),
            Some(_) => with_placeholder_filled(name, key),
        };
        // The section was left out: `vhost` for `mqtt.vhost`.
        let tail = candidate
            .strip_suffix(key)
            .is_some_and(|section| section.ends_with('.'));
        let letters = if tail {
            1
        } else {
            strsim::damerau_levenshtein(key, &candidate)
        };
        let allowed = (key.len() / 4).clamp(2, 6);
        if letters <= allowed && best.as_ref().is_none_or(|(_, least)| letters < *least) {
            best = Some((candidate, letters));
        }
    }
    best
}

/// `listeners.tcp.<name>` for the key `listners.tcp.a` becomes `listeners.tcp.a`. For a key whose
/// last word is the mistake, the placeholder stays.
fn with_placeholder_filled(name: &str, key: &str) -> String {
    let words = name.split('.').count();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let member = key.splitn(words, '.').nth(words - 1);
    let filled = member.map(|member| format!("{stem}.{member}"));
    filled
        .filter(|filled| find(filled).is_some())
        .unwrap_or_else(|| name.to_owned())
}
