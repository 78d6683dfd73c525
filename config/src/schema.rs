//! The table of settings: one row each, and nothing about a setting that is not in its row.
//!
//! Keys are RabbitMQ's. Files, environment variables, error texts, `docs/configuration.md`,
//! `config/leveret.toml` and `config/rabbitmq.conf` all come from here.

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
        settings: NODE,
    },
    Section {
        title: "Resource limits",
        settings: RESOURCES,
    },
    Section {
        title: "Listeners",
        settings: LISTENERS,
    },
    Section {
        title: "Users",
        settings: USERS,
    },
    Section {
        title: "Journal",
        settings: JOURNAL,
    },
    Section {
        title: "MQTT",
        settings: MQTT,
    },
    Section {
        title: "AMQP 0-9-1",
        settings: AMQP,
    },
];

const NODE: &[Setting] = &[
    setting(
        "data_dir",
        Kind::Path,
        "",
        "Directory of what survives a restart; unset, it is `/var/lib/leveret` for root and for \
         whoever may write there, else `leveret-data` in the directory that the program is \
         started in.",
    )
    .example("data_dir", "/var/lib/leveret"),
    setting(
        "enabled_plugins_file",
        Kind::Path,
        "",
        "File that lists the enabled plugins; unset, it is `enabled_plugins` in `data_dir`.",
    )
    .example("enabled_plugins_file", "/etc/leveret/enabled_plugins"),
    setting(
        "log.console.level",
        Kind::Choice(&["debug", "info", "warning", "error", "none"]),
        "info",
        "The least severe messages that the console shows.",
    ),
];

const RESOURCES: &[Setting] = &[
    setting(
        "vm_memory_high_watermark.relative",
        Kind::Fraction { max: 1 },
        "0.6",
        "Part of the memory of the machine, or of the control group (v2) if that may have less, \
         above which the broker blocks publishers until it uses less; 0 blocks all of them.",
    ),
    setting(
        "vm_memory_high_watermark.absolute",
        Kind::Size,
        "",
        "The same in bytes, at most what there is; wins over `vm_memory_high_watermark.relative`.",
    )
    .example("vm_memory_high_watermark.absolute", "2GB"),
    setting(
        "disk_free_limit.absolute",
        Kind::Size,
        "50MB",
        "Free space on the disk of `data_dir` below which the broker blocks publishers until there \
         is more; given, it wins over `disk_free_limit.relative`.",
    ),
    setting(
        "disk_free_limit.relative",
        Kind::Fraction { max: 1_000 },
        "",
        "The same in multiples of the memory that `vm_memory_high_watermark.relative` is part of.",
    )
    .example("disk_free_limit.relative", "1.5"),
];

const LISTENERS: &[Setting] = &[
    setting(
        "listeners.tcp.<name>",
        Kind::Listener,
        "",
        "Where AMQP 0-9-1 is served; a port alone means all interfaces, IPv6 and IPv4.",
    )
    .members(&[("default", "5672")])
    .or_none(),
    setting(
        "mqtt.listeners.tcp.<name>",
        Kind::Listener,
        "",
        "Where MQTT is served; a port alone means all interfaces, IPv6 and IPv4.",
    )
    .members(&[("default", "1883")])
    .or_none(),
    setting(
        "mqtt.listener_vhosts.<name>",
        NAME,
        "",
        "Pins every connection of this MQTT listener to a virtual host.",
    )
    .members(&[])
    .example("mqtt.listener_vhosts.default", "/"),
    setting(
        "tcp_listen_options.backlog",
        BACKLOG,
        "4096",
        "How many connections may wait for accept on an AMQP listener.",
    ),
    setting(
        "tcp_listen_options.nodelay",
        TRUE_FALSE,
        "true",
        "Whether AMQP connections send small segments at once (`TCP_NODELAY`).",
    ),
    setting(
        "mqtt.tcp_listen_options.backlog",
        BACKLOG,
        "4096",
        "How many connections may wait for accept on an MQTT listener.",
    ),
    setting(
        "mqtt.tcp_listen_options.nodelay",
        TRUE_FALSE,
        "true",
        "Whether MQTT connections send small segments at once (`TCP_NODELAY`).",
    ),
];

const USERS: &[Setting] = &[
    setting(
        "default_user",
        NAME,
        "guest",
        "User who is made when the broker has none.",
    ),
    setting(
        "default_pass",
        PASSWORD,
        "guest",
        "Password of the default user.",
    )
    .secret(),
    setting(
        "default_vhost",
        NAME,
        "/",
        "Virtual host that is made together with the default user.",
    ),
    setting(
        "default_permissions.configure",
        Kind::Regex,
        ".*",
        "What the default user may declare and delete in the default virtual host.",
    ),
    setting(
        "default_permissions.write",
        Kind::Regex,
        ".*",
        "What the default user may publish to in the default virtual host.",
    ),
    setting(
        "default_permissions.read",
        Kind::Regex,
        ".*",
        "What the default user may consume from in the default virtual host.",
    ),
    setting(
        "default_user_tags.<tag>",
        TRUE_FALSE,
        "",
        "Whether the default user has this tag.",
    )
    .members(&[("administrator", "true")]),
    setting(
        "loopback_users.<user>",
        TRUE_FALSE,
        "",
        "Whether this user may connect over the loopback interface only.",
    )
    .members(&[("guest", "true")])
    .or_none(),
    setting(
        "anonymous_login_user",
        NAME,
        "guest",
        "User of clients that bring no credentials; `none` refuses them.",
    )
    .aliases(&[Alias {
        key: "mqtt.default_user",
        kind: NAME,
        from: "RabbitMQ before 4.0",
    }]),
    setting(
        "anonymous_login_pass",
        PASSWORD,
        "guest",
        "Password that is used for clients that bring no credentials.",
    )
    .aliases(&[Alias {
        key: "mqtt.default_pass",
        kind: PASSWORD,
        from: "RabbitMQ before 4.0",
    }])
    .secret(),
];

const DURABILITY: Kind = Kind::Choice(&["group", "interval", "none"]);

const JOURNAL: &[Setting] = &[
    setting(
        "journal.durability",
        DURABILITY,
        "group",
        "When a persistent message in a durable queue is acknowledged: with `group` when the disk \
         has it, else when the operating system has it.",
    ),
    setting(
        "journal.interval",
        Kind::Duration {
            unit: TimeUnit::Milliseconds,
            min: 1,
            max: 60_000,
            forever: &[],
        },
        "200",
        "With `interval`: how long the disk may be behind.",
    ),
    setting(
        "journal.vhosts.<vhost>",
        DURABILITY,
        "",
        "The durability of a virtual host of its own.",
    )
    .members(&[])
    .example("journal.vhosts.blue", "interval"),
];

const MQTT: &[Setting] = &[
    setting(
        "mqtt.allow_anonymous",
        TRUE_FALSE,
        "true",
        "Whether an MQTT client may connect without user name and password.",
    ),
    setting(
        "mqtt.vhost",
        NAME,
        "/",
        "Virtual host of MQTT connections for which nothing else chooses one.",
    ),
    setting(
        "mqtt.exchange",
        NAME,
        "amq.topic",
        "Topic exchange that MQTT topics are routed through, in every virtual host.",
    ),
    setting(
        "mqtt.max_session_expiry_interval_seconds",
        Kind::Duration {
            unit: TimeUnit::Seconds,
            min: 0,
            max: EXPIRY_S_MAX,
            forever: &["infinity"],
        },
        "86400",
        "How long an MQTT session outlives its connection at most.",
    )
    .aliases(&[
        Alias {
            key: "mqtt.subscription_ttl",
            kind: Kind::Duration {
                unit: TimeUnit::Milliseconds,
                min: 0,
                max: EXPIRY_S_MAX * 1_000,
                forever: &["infinity", "undefined"],
            },
            from: "RabbitMQ before 3.13",
        },
        Alias {
            key: "persistent_client_expiration",
            kind: Kind::Lifetime {
                max_s: EXPIRY_S_MAX,
            },
            from: "VerneMQ",
        },
    ]),
    setting(
        "mqtt.prefetch",
        Kind::Integer {
            min: 1,
            max: 65_535,
            unit: "messages",
        },
        "10",
        "How many QoS 1 messages one connection may leave unacknowledged.",
    ),
    setting(
        "mqtt.topic_filters",
        Kind::Choice(&["flexible", "strict"]),
        "flexible",
        "Whether `#` may stand anywhere in a topic filter, as in AMQP, or only at its end.",
    ),
    setting(
        "mqtt.disconnect_on_unauthorized",
        TRUE_FALSE,
        "true",
        "Whether a refused PUBLISH or SUBSCRIBE closes the connection.",
    ),
    setting(
        "mqtt.login_timeout",
        TIMEOUT,
        "10000",
        "Time from accept to a complete CONNECT.",
    ),
    setting(
        "mqtt.max_packet_size_unauthenticated",
        Kind::Integer {
            min: 1,
            max: 268_435_455,
            unit: "bytes",
        },
        "65536",
        "Largest MQTT packet before login.",
    ),
    setting(
        "mqtt.max_packet_size_authenticated",
        Kind::Integer {
            min: 1,
            max: 268_435_455,
            unit: "bytes",
        },
        "16777216",
        "Largest MQTT packet after login; never above `max_message_size`.",
    ),
    setting(
        "mqtt.topic_alias_maximum",
        Kind::Integer {
            min: 0,
            max: 65_535,
            unit: "aliases",
        },
        "16",
        "How many topic aliases one connection may use in each direction.",
    ),
    setting(
        "mqtt.max_connections",
        Kind::Limit {
            max: 100_000_000,
            unit: "connections",
        },
        "infinity",
        "How many MQTT connections the node takes.",
    ),
    setting(
        "mqtt.retained_messages_max",
        Kind::Integer {
            min: 0,
            max: 1_000_000_000,
            unit: "messages",
        },
        "1000000",
        "How many retained messages one virtual host holds.",
    ),
    setting(
        "mqtt.output_bytes_max",
        Kind::Integer {
            min: 4_096,
            max: 1_073_741_824,
            unit: "bytes",
        },
        "4194304",
        "How much may wait for one MQTT client before QoS 0 messages to it are dropped.",
    ),
    setting(
        "mqtt.allowed_protocol_versions",
        Kind::Choices(&["3", "4", "5"]),
        "3, 4, 5",
        "Protocol levels of CONNECT that are served: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.",
    ),
];

const AMQP: &[Setting] = &[
    setting(
        "max_message_size",
        Kind::Integer {
            min: 1,
            max: 536_870_912,
            unit: "bytes",
        },
        "16777216",
        "Largest message body that is taken, from AMQP and MQTT clients alike.",
    ),
    setting(
        "frame_max",
        Kind::IntegerOrZero {
            min: 8_192,
            max: 16_777_216,
            unit: "bytes",
        },
        "131072",
        "Largest frame that connection.tune offers; 0 is no limit.",
    ),
    setting(
        "initial_frame_max",
        Kind::Integer {
            min: 4_096,
            max: 16_777_216,
            unit: "bytes",
        },
        "8192",
        "Largest frame before connection.tune-ok; never above `frame_max`.",
    ),
    setting(
        "channel_max",
        Kind::Integer {
            min: 0,
            max: 65_535,
            unit: "channels",
        },
        "2047",
        "Highest channel number that connection.tune offers; 0 is no limit.",
    ),
    setting(
        "heartbeat",
        Kind::Duration {
            unit: TimeUnit::Seconds,
            min: 0,
            max: 65_535,
            forever: &[],
        },
        "60",
        "Heartbeat that connection.tune offers; 0 switches heartbeats off.",
    ),
    setting(
        "handshake_timeout",
        TIMEOUT,
        "10000",
        "Time from accept to connection.open.",
    ),
    setting(
        "consumer_timeout",
        Kind::Duration {
            unit: TimeUnit::Milliseconds,
            min: 1,
            max: 4_294_967_295,
            forever: &["undefined"],
        },
        "1800000",
        "How long a delivery may wait for its acknowledgement before its AMQP channel is closed.",
    ),
    setting(
        "auth_mechanisms.<N>",
        Kind::Choice(&["PLAIN", "AMQPLAIN", "ANONYMOUS"]),
        "",
        "The mechanisms that connection.start offers, in the order of their numbers.",
    )
    .members(&[("1", "PLAIN"), ("2", "AMQPLAIN"), ("3", "ANONYMOUS")])
    .numbered(),
];

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
