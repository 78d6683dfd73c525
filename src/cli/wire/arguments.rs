//! The options that `leveret pub` and `leveret sub` share: mosquitto's letters, and ours for AMQP.
//!
//! Owns their names and what they come to; never connects.

use std::num::NonZeroU16;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use leveret_management::protocol::{Code, Failure};
use leveret_mqtt::packet::{ProtocolVersion, QoS};
use leveret_mqtt::property::Property;

use super::Extras;
use super::mqtt::{Options, Publishing, Testament};
use super::property::Blocks;
use super::url::{Protocol, Target, default_port};

/// An option with a value. Payloads and passwords may begin with a hyphen.
pub(in crate::cli) fn value(
    name: &'static str,
    short: char,
    placeholder: &'static str,
    help: &'static str,
) -> Arg {
    Arg::new(name)
        .short(short)
        .value_name(placeholder)
        .allow_hyphen_values(true)
        .help(help)
}

/// The same with a name instead of a letter.
pub(in crate::cli) fn long_value(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .allow_hyphen_values(true)
        .help(help)
}

pub(in crate::cli) fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name)
        .short(short)
        .action(ArgAction::SetTrue)
        .help(help)
}

pub(in crate::cli) fn long_switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// A command with these options. `-h` is the host, as mosquitto's clients have it.
pub(in crate::cli) fn command(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .disable_help_flag(true)
        .args(place())
        .args(session())
        .args(will())
        .args(unsupported())
        .arg(
            Arg::new("help")
                .long("help")
                .action(ArgAction::Help)
                .help("Print help"),
        )
}

fn place() -> Vec<Arg> {
    vec![
        value("host", 'h', "HOST", "The broker [default: localhost]"),
        value("port", 'p', "PORT", "Its port [default: 1883; AMQP: 5672]")
            .value_parser(value_parser!(u16)),
        value(
            "user",
            'u',
            "NAME",
            "User name; AMQP: guest if it is not given",
        ),
        value(
            "password",
            'P',
            "PASSWORD",
            "Password; AMQP: guest if it is not given",
        ),
        value(
            "url",
            'L',
            "URL",
            "mqtt://[user[:password]@]host[:port]/topic or \
             amqp://[user[:password]@]host[:port]/vhost",
        ),
        long_switch("amqp", "Speak AMQP 0-9-1, as amqp:// does"),
        long_value("vhost", "VHOST", "AMQP: the virtual host [default: /]"),
        value("bind", 'A', "ADDRESS", "The local address to connect from"),
        long_switch("nodelay", "Switch Nagle's algorithm off"),
        switch("debug", 'd', "Tell of each packet"),
        long_switch("quiet", "No errors on standard error"),
    ]
}

fn session() -> Vec<Arg> {
    vec![
        value(
            "id",
            'i',
            "ID",
            "Client identifier [default: the broker's choice]",
        ),
        Arg::new("id-prefix")
            .short('I')
            .long("id-prefix")
            .value_name("PREFIX")
            .conflicts_with("id")
            .help("Client identifier: this and the process id"),
        value("keep-alive", 'k', "SECONDS", "Keep alive; AMQP: heartbeat")
            .value_parser(value_parser!(u16))
            .default_value("60"),
        value(
            "qos",
            'q',
            "QOS",
            "0, 1 or 2. AMQP: with 1 or 2 persistent and acknowledged",
        )
        .value_parser(value_parser!(u8).range(0..=2))
        .default_value("0"),
        switch("persistent", 'c', "Keep the session; needs -i or -I"),
        value(
            "session-expiry",
            'x',
            "SECONDS",
            "Session Expiry Interval; -1: never",
        ),
        value(
            "version",
            'V',
            "VERSION",
            "mqttv31, mqttv311 or mqttv5, or 31, 311 or 5",
        )
        .value_parser(["mqttv31", "mqttv311", "mqttv5", "31", "311", "5"])
        .hide_possible_values(true),
        Arg::new("property")
            .short('D')
            .long("property")
            .value_names(["PACKET", "PROPERTY", "VALUE"])
            .num_args(3..=4)
            .action(ArgAction::Append)
            .help("A property of MQTT 5.0; user-property has a name and a value"),
    ]
}

fn will() -> Vec<Arg> {
    vec![
        long_value("will-topic", "TOPIC", "The will's topic"),
        long_value("will-payload", "PAYLOAD", "Its payload [default: empty]")
            .requires("will-topic"),
        long_value("will-qos", "QOS", "Its QoS [default: 0]")
            .value_parser(value_parser!(u8).range(0..=2))
            .requires("will-topic"),
        long_switch("will-retain", "It is retained").requires("will-topic"),
    ]
}

/// What mosquitto's clients have, and these do not: an error instead of a plain connection.
const WITH_VALUE: [&str; 13] = [
    "cafile",
    "capath",
    "cert",
    "key",
    "keyform",
    "ciphers",
    "tls-version",
    "tls-alpn",
    "tls-engine",
    "tls-engine-kpass-sha1",
    "psk",
    "psk-identity",
    "proxy",
];
const WITHOUT_VALUE: [&str; 2] = ["insecure", "tls-use-os-certs"];
const UNIX: &str = "unix";

fn unsupported() -> Vec<Arg> {
    let hidden = |name: &'static str| Arg::new(name).long(name).hide(true);
    let with = WITH_VALUE.into_iter().chain([UNIX]);
    let without = WITHOUT_VALUE.into_iter();
    with.map(|name| hidden(name).num_args(1))
        .chain(without.map(|name| hidden(name).action(ArgAction::SetTrue)))
        .collect()
}

pub(in crate::cli) fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, text)
}

pub(in crate::cli) fn given(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

pub(in crate::cli) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

pub(in crate::cli) fn qos(matches: &ArgMatches, name: &str) -> QoS {
    let bits = matches.get_one::<u8>(name).copied().unwrap_or_default();
    // The range of the argument leaves nothing else.
    QoS::from_bits(bits).unwrap_or(QoS::AtMostOnce)
}

/// The broker that is meant.
///
/// # Errors
/// 64: options that are not supported or contradict each other.
pub(in crate::cli) fn target(matches: &ArgMatches) -> Result<Target, Failure> {
    let tls = WITH_VALUE.into_iter().chain(WITHOUT_VALUE);
    for name in tls.chain([UNIX]) {
        if given(matches, name) {
            let what = match name {
                "proxy" => "proxies are",
                UNIX => "Unix sockets are",
                _ => "TLS is",
            };
            return Err(wrong(format!("--{name}: {what} not supported")));
        }
    }
    let mut target = match text(matches, "url") {
        Some(url) => {
            for (name, option) in [("host", "-h"), ("port", "-p"), ("amqp", "--amqp")] {
                if given(matches, name) {
                    return Err(wrong(format!("{option} and -L contradict each other")));
                }
            }
            Target::parse(url)?
        }
        None if matches.get_flag("amqp") => Target::local(Protocol::Amqp),
        None => Target::local(Protocol::Mqtt),
    };
    if let Some(host) = text(matches, "host") {
        host.clone_into(&mut target.host);
        target.port = default_port(target.protocol);
    }
    if let Some(port) = matches.get_one::<u16>("port") {
        target.port = *port;
    }
    let or = |given: Option<&str>, before: Option<String>| given.map(str::to_owned).or(before);
    target.user = or(text(matches, "user"), target.user);
    target.password = or(text(matches, "password"), target.password);
    if let Some(vhost) = text(matches, "vhost") {
        vhost.clone_into(&mut target.vhost);
    }
    target.bind = text(matches, "bind").map(str::to_owned);
    target.nodelay = matches.get_flag("nodelay");
    Ok(target)
}

/// Refuses options that mean nothing in the protocol that is spoken.
pub(in crate::cli) fn refuse(
    matches: &ArgMatches,
    names: &[(&str, &str)],
    protocol: Protocol,
) -> Result<(), Failure> {
    let spoken = match protocol {
        Protocol::Mqtt => "MQTT",
        Protocol::Amqp => "AMQP",
    };
    match names.iter().find(|(name, _)| given(matches, name)) {
        Some((_, option)) => Err(wrong(format!("{option} means nothing in {spoken}"))),
        None => Ok(()),
    }
}

/// Shared options that AMQP has not.
pub(in crate::cli) const MQTT_ONLY: [(&str, &str); 7] = [
    ("id", "-i"),
    ("id-prefix", "-I"),
    ("persistent", "-c"),
    ("session-expiry", "-x"),
    ("version", "-V"),
    ("will-topic", "--will-topic"),
    ("debug", "-d"),
];

/// The session of MQTT that is asked for.
///
/// # Errors
/// 64: options that contradict each other, or properties that are none.
pub(in crate::cli) fn options(
    matches: &ArgMatches,
    publish: Publishing,
) -> Result<Options, Failure> {
    let blocks = blocks(matches)?;
    let expiry = text(matches, "session-expiry").map(expiry).transpose()?;
    let five = blocks != Blocks::default() || expiry.is_some();
    let version = match text(matches, "version") {
        Some("31" | "mqttv31") => ProtocolVersion::V3,
        Some("5" | "mqttv5") => ProtocolVersion::V5,
        Some(_) => ProtocolVersion::V4,
        // As mosquitto's clients do: what only 5.0 has asks for 5.0.
        None if five => ProtocolVersion::V5,
        None => ProtocolVersion::V4,
    };
    if five && !version.is_v5() {
        return Err(wrong("-D and -x need MQTT 5.0"));
    }
    let persistent = matches.get_flag("persistent");
    let process = std::process::id();
    let client_id = match (text(matches, "id"), text(matches, "id-prefix")) {
        (Some(id), _) => id.to_owned(),
        (None, Some(prefix)) => format!("{prefix}{process}"),
        (None, None) if persistent => {
            return Err(wrong(
                "You must provide a client id if you are using the -c option.",
            ));
        }
        // MQTT 3.1 has no empty identifier.
        (None, None) if version == ProtocolVersion::V3 => format!("leveret-{process}"),
        (None, None) => String::new(),
    };
    let session_expiry_s = match (version.is_v5(), persistent) {
        (true, true) => Some(expiry.unwrap_or(u32::MAX)),
        _ => expiry,
    };
    let will = text(matches, "will-topic").map(|topic| Testament {
        topic: topic.to_owned(),
        payload: text(matches, "will-payload").unwrap_or_default().into(),
        qos: qos(matches, "will-qos"),
        retain: matches.get_flag("will-retain"),
    });
    Ok(Options {
        version,
        client_id,
        clean: !persistent,
        keep_alive_s: keep_alive_s(matches),
        session_expiry_s,
        will,
        blocks,
        debug: matches.get_flag("debug"),
        publish,
    })
}

pub(in crate::cli) fn keep_alive_s(matches: &ArgMatches) -> u16 {
    matches.get_one("keep-alive").copied().unwrap_or_default()
}

fn occurrences(matches: &ArgMatches) -> Vec<Vec<&str>> {
    let all = matches.get_occurrences::<String>("property");
    all.into_iter()
        .flatten()
        .map(|words| words.map(String::as_str).collect())
        .collect()
}

fn blocks(matches: &ArgMatches) -> Result<Blocks, Failure> {
    let mut blocks = Blocks::default();
    for words in occurrences(matches) {
        blocks.add(&words)?;
    }
    Ok(blocks)
}

/// What `-D publish` says, for AMQP.
///
/// # Errors
/// 64: a property that AMQP has no field for.
pub(in crate::cli) fn extras(matches: &ArgMatches) -> Result<Extras, Failure> {
    let blocks = blocks(matches)?;
    let mut extras = Extras::default();
    for words in occurrences(matches) {
        if words.first() != Some(&"publish") {
            return Err(wrong(format!(
                "-D {} means nothing in AMQP",
                words.join(" ")
            )));
        }
    }
    for property in blocks.published() {
        match property {
            Property::ContentType(text) => extras.content_type = Some(text.to_owned()),
            Property::ResponseTopic(text) => extras.response_topic = Some(text.to_owned()),
            Property::CorrelationData(data) => extras.correlation_data = Some(data.to_vec()),
            Property::MessageExpiryInterval(seconds) => extras.expiry_s = Some(seconds),
            Property::UserProperty(name, value) => {
                extras.user.push((name.to_owned(), value.to_owned()));
            }
            other => return Err(wrong(format!("AMQP has no {}", other.id()))),
        }
    }
    Ok(extras)
}

fn expiry(text: &str) -> Result<u32, Failure> {
    match text {
        "-1" | "\u{221e}" => Ok(u32::MAX),
        text => text
            .parse()
            .map_err(|_| wrong(format!("-x {text}: seconds, or -1 for never"))),
    }
}

/// A window that fits both protocols.
pub(in crate::cli) fn window(text: Option<&NonZeroU16>) -> usize {
    text.map_or(20, |window| window.get().into())
}
