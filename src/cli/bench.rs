//! `leveret bench`: measures any broker with publishers and subscribers of its own.
//!
//! Owns arguments, progress and output; the work is done by the load generator. Never looks into a
//! broker: what it says was seen at the clients' end.

mod flags;
mod summary;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use leveret_load::{Failure as LoadFailure, Parsed, Progress, Reach, Report};
use leveret_management::protocol::{Code, Failure};

use super::console::{print, print_line};
use super::exit;

pub(super) fn command() -> Command {
    let sub = |name: &'static str, about: &'static str| Command::new(name).about(about);
    Command::new("bench")
        .about("Measures a broker, this one or another, with clients of its own")
        .after_help(
            "Flat out, publishers send as fast as subscribers receive. Each message has a \
             sequence number: what is lost, repeated or out of order is counted.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(sub("mqtt", "MQTT publishers and subscribers").args(mqtt_options()))
        .subcommand(sub("amqp", "AMQP 0-9-1 publishers, queues and consumers").args(amqp_options()))
        .subcommand(sub("bridge", "MQTT to AMQP 0-9-1, or back").args(bridge_options()))
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    exit::ended(measure(matches))
}

fn measure(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((protocol, inner)) = matches.subcommand() else {
        return Ok(());
    };
    let (command, flags) = match protocol {
        "mqtt" => ("mqtt pub-sub", flags::mqtt(inner)),
        "amqp" => ("amqp pub-sub", flags::amqp(inner)?),
        _ => ("bridge", flags::bridge(inner)),
    };
    let parsed = Parsed::new(command, flags, Reach::Anywhere).map_err(told)?;
    let quiet = inner.get_flag("quiet");
    let report = parsed
        .run(&mut |progress| {
            if !quiet {
                eprintln!("{}", line(progress));
            }
        })
        .map_err(told)?;
    let output = inner.get_one::<String>("output").map(String::as_str);
    show(&report, output == Some("json"))
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        print_line(&report.json())?;
    } else {
        print(&summary::text(&summary::Figures::of(report)))?;
    }
    match report.error() {
        Some(why) => Err(Failure::new(Code::Software, why)),
        None => Ok(()),
    }
}

/// Whose fault it is: the arguments', or the broker's that is not there or refuses.
fn told(why: LoadFailure) -> Failure {
    let code = match why {
        LoadFailure::Argument(_) => Code::Usage,
        _ => Code::Unavailable,
    };
    Failure::new(code, why.to_string())
}

/// One second's progress.
fn line(progress: &Progress) -> String {
    let Progress {
        elapsed_s,
        sent_per_s,
        received_per_s,
        received,
        ..
    } = *progress;
    let warming = if progress.measuring {
        ""
    } else {
        ", warming up"
    };
    format!(
        "{elapsed_s:5.1} s  sent {}/s  received {}/s, {} in all{warming}",
        summary::grouped(sent_per_s),
        summary::grouped(received_per_s),
        summary::grouped(received as f64),
    )
}

fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// What means something for every protocol.
fn common_options() -> Vec<Arg> {
    vec![
        value("user", "NAME", "User name; AMQP: guest if it is not given"),
        value(
            "password",
            "PASSWORD",
            "Password; AMQP: guest if it is not given",
        ),
        value("pubs", "N", "Publishers [default: 1]"),
        value("subs", "N", "Subscribers or consumers [default: 1]"),
        value("size", "BYTES", "Payload, at least 16 [default: 64]"),
        value(
            "rate",
            "N",
            "Messages a second of all publishers [default: flat out]",
        ),
        value(
            "seconds",
            "S",
            "How long it measures, after half a second [default: 5]",
        ),
        value(
            "messages",
            "N",
            "Measures so many messages instead; k and m are understood",
        ),
        value(
            "window",
            "N",
            "Unacknowledged messages of a publisher [default: 100]",
        ),
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORM")
            .value_parser(["table", "json"])
            .default_value("table")
            .help("What the result looks like"),
        Arg::new("quiet")
            .short('q')
            .long("quiet")
            .action(ArgAction::SetTrue)
            .help("No progress on standard error"),
    ]
}

fn pattern() -> Arg {
    value("pattern", "PATTERN", "Who gets what")
        .value_parser(["pairs", "fan-in", "fan-out", "shared"])
        .default_value("pairs")
}

fn mqtt_options() -> Vec<Arg> {
    let mut options = vec![
        value("addr", "HOST:PORT", "The broker").default_value("127.0.0.1:1883"),
        pattern(),
        value("qos", "QOS", "0, 1 or 2 [default: 0]"),
        value("mqtt-version", "VERSION", "4 (3.1.1) or 5 [default: 4]"),
        switch("persistent", "Persistent sessions, removed at the end"),
    ];
    options.extend(common_options());
    options
}

fn consumer_options() -> Vec<Arg> {
    vec![
        value("vhost", "NAME", "The virtual host [default: /]"),
        value(
            "prefetch",
            "N",
            "Unacknowledged messages of a consumer [default: no limit]",
        ),
        value("ack-every", "N", "Acknowledge every so many [default: 1]"),
        switch("auto-ack", "No acknowledgements"),
        switch("confirms", "Publisher confirms"),
    ]
}

fn amqp_options() -> Vec<Arg> {
    let mut options = vec![
        value("addr", "HOST:PORT", "The broker").default_value("127.0.0.1:5672"),
        pattern(),
        switch("persistent", "Persistent messages"),
        switch("durable", "Durable queues"),
    ];
    options.extend(consumer_options());
    options.extend(common_options());
    options
}

fn bridge_options() -> Vec<Arg> {
    let mut options = vec![
        value("addr", "HOST:PORT", "The broker's MQTT").default_value("127.0.0.1:1883"),
        value("amqp-addr", "HOST:PORT", "The broker's AMQP").default_value("127.0.0.1:5672"),
        value("direction", "DIRECTION", "Who publishes")
            .value_parser(["mqtt-amqp", "amqp-mqtt"])
            .default_value("mqtt-amqp"),
        value("qos", "QOS", "MQTT's 0, 1 or 2 [default: 0]"),
        value("mqtt-version", "VERSION", "4 (3.1.1) or 5 [default: 4]"),
    ];
    options.extend(consumer_options());
    options.extend(common_options());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(words: &str) -> Result<(), Failure> {
        let words = std::iter::once("bench").chain(words.split_whitespace());
        let matches = command().try_get_matches_from(words);
        measure(&matches.expect("clap takes it"))
    }

    #[test]
    fn o8_wrong_arguments_are_told() {
        let table = [
            ("mqtt --qos 3", "--qos: 3 is outside 0..=2"),
            ("mqtt --addr nowhere", "'nowhere' is not HOST:PORT"),
            ("mqtt --size 3", "--size: 3 is outside 16..=16777216"),
            ("amqp --pubs x", "--pubs: 'x' is not a whole number"),
            ("amqp --prefetch 5 --ack-every 6", "would wait for ever"),
            ("amqp --pubs 2 --subs 3", "--pattern pairs"),
            ("bridge --amqp-addr x", "'x' is not HOST:PORT"),
        ];
        for (words, text) in table {
            let failure = measured(words).expect_err(words);
            assert_eq!(failure.code, Code::Usage, "{words}");
            assert!(failure.text.contains(text), "{words}: {}", failure.text);
        }
    }

    #[test]
    fn o8_no_broker_is_told() {
        // Nothing listens on port 1 of a machine that runs tests.
        let failure = measured("mqtt --addr 127.0.0.1:1").expect_err("nobody is there");
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.text.contains("127.0.0.1:1"), "{}", failure.text);
    }

    #[test]
    fn o8_progress_is_a_line_a_second() {
        let mut progress = Progress {
            elapsed_s: 2.04,
            measuring: true,
            sent: 4_000,
            received: 3_999,
            sent_per_s: 2_000.4,
            received_per_s: 1_234_567.0,
        };
        let expected = "  2.0 s  sent 2,000/s  received 1,234,567/s, 3,999 in all";
        assert_eq!(line(&progress), expected);
        progress.measuring = false;
        assert_eq!(line(&progress), format!("{expected}, warming up"));
    }
}
