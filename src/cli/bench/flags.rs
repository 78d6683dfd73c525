//! The load generator's flags for what the user asked for.
//!
//! Owns the meaning of patterns in AMQP. Values are checked by the generator.

use clap::ArgMatches;
use clap::parser::ValueSource;
use leveret_management::protocol::{Code, Failure};

type Flags = Vec<(String, String)>;

pub(super) fn mqtt(matches: &ArgMatches) -> Flags {
    let mut flags = common(matches);
    take(&mut flags, matches, "addr", "addr");
    take(&mut flags, matches, "user", "user");
    take(&mut flags, matches, "password", "pass");
    for name in ["pattern", "pubs", "subs", "qos", "mqtt-version"] {
        take(&mut flags, matches, name, name);
    }
    take_switch(&mut flags, matches, "persistent");
    flags
}

/// Pairs: a queue for each publisher and consumer. Fan-in and fan-out: each consumer has a queue of
/// its own, behind a fanout exchange if there are several. Shared: one queue for all.
pub(super) fn amqp(matches: &ArgMatches) -> Result<Flags, Failure> {
    let mut flags = common(matches);
    take(&mut flags, matches, "addr", "amqp-addr");
    amqp_login(&mut flags, matches);
    consumer(&mut flags, matches);
    take_switch(&mut flags, matches, "persistent");
    take_switch(&mut flags, matches, "durable");
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let pubs = text("pubs").unwrap_or("1");
    let subs = text("subs");
    let pattern = text("pattern").unwrap_or("pairs");
    let (subs, queues, exchange) = match (pattern, subs) {
        ("pairs", Some(subs)) if subs != pubs => {
            let text = "--pattern pairs has as many consumers as publishers; leave --subs out";
            return Err(Failure::new(Code::Usage, text));
        }
        ("pairs", _) => (pubs, pubs, "default"),
        ("shared", subs) => (subs.unwrap_or("1"), "1", "default"),
        (_, None | Some("1")) => ("1", "1", "default"),
        (_, Some(subs)) => (subs, subs, "fanout"),
    };
    for (name, value) in [
        ("pubs", pubs),
        ("subs", subs),
        ("queues", queues),
        ("exchange", exchange),
    ] {
        flags.push((name.to_owned(), value.to_owned()));
    }
    Ok(flags)
}

pub(super) fn bridge(matches: &ArgMatches) -> Flags {
    let mut flags = common(matches);
    take(&mut flags, matches, "addr", "addr");
    take(&mut flags, matches, "amqp-addr", "amqp-addr");
    take(&mut flags, matches, "user", "user");
    take(&mut flags, matches, "password", "pass");
    amqp_login(&mut flags, matches);
    consumer(&mut flags, matches);
    for name in ["direction", "pubs", "subs", "qos", "mqtt-version"] {
        take(&mut flags, matches, name, name);
    }
    flags
}

fn common(matches: &ArgMatches) -> Flags {
    let mut flags = vec![];
    for name in ["size", "rate", "seconds", "messages", "window"] {
        take(&mut flags, matches, name, name);
    }
    flags
}

fn amqp_login(flags: &mut Flags, matches: &ArgMatches) {
    take(flags, matches, "user", "amqp-user");
    take(flags, matches, "password", "amqp-pass");
    take(flags, matches, "vhost", "vhost");
}

fn consumer(flags: &mut Flags, matches: &ArgMatches) {
    take(flags, matches, "prefetch", "prefetch");
    take(flags, matches, "ack-every", "ack-every");
    take_switch(flags, matches, "auto-ack");
    take_switch(flags, matches, "confirms");
}

fn take(flags: &mut Flags, matches: &ArgMatches, name: &str, theirs: &str) {
    if let Some(value) = matches.get_one::<String>(name) {
        flags.push((theirs.to_owned(), value.clone()));
    }
}

fn take_switch(flags: &mut Flags, matches: &ArgMatches, name: &str) {
    if matches.value_source(name) == Some(ValueSource::CommandLine) {
        flags.push((name.to_owned(), "true".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> String {
        let line = std::iter::once("bench").chain(words.split_whitespace());
        let matches = crate::cli::bench::command()
            .try_get_matches_from(line)
            .expect("clap takes it");
        let (protocol, inner) = matches.subcommand().expect("there is one");
        let flags = match protocol {
            "mqtt" => mqtt(inner),
            "amqp" => amqp(inner).expect("is right"),
            _ => bridge(inner),
        };
        let words = flags.iter().map(|(name, value)| format!("{name}={value}"));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn o8_flags_are_handed_on() {
        let table = [
            ("mqtt", "addr=127.0.0.1:1883 pattern=pairs"),
            (
                "mqtt --addr h:1 --user u --password p --pubs 2 --qos 1 --persistent --rate 5",
                "rate=5 addr=h:1 user=u pass=p pattern=pairs pubs=2 qos=1 persistent=true",
            ),
            (
                "amqp --pubs 3",
                "amqp-addr=127.0.0.1:5672 pubs=3 subs=3 queues=3 exchange=default",
            ),
            (
                "amqp --pattern fan-out --subs 4 --durable --confirms",
                "amqp-addr=127.0.0.1:5672 confirms=true durable=true \
                 pubs=1 subs=4 queues=4 exchange=fanout",
            ),
            (
                "amqp --pattern fan-in --pubs 4 --messages 1k",
                "messages=1k amqp-addr=127.0.0.1:5672 pubs=4 subs=1 queues=1 exchange=default",
            ),
            (
                "amqp --pattern shared --subs 4 --prefetch 10 --auto-ack",
                "amqp-addr=127.0.0.1:5672 prefetch=10 auto-ack=true \
                 pubs=1 subs=4 queues=1 exchange=default",
            ),
            (
                "bridge --user u --direction amqp-mqtt",
                "addr=127.0.0.1:1883 amqp-addr=127.0.0.1:5672 user=u amqp-user=u \
                 direction=amqp-mqtt",
            ),
        ];
        for (words, expected) in table {
            assert_eq!(asked(words), expected, "{words}");
        }
    }
}
