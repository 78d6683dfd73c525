//! `leveret pub`: publishes over MQTT or AMQP 0-9-1, with mosquitto_pub's options where they exist.
//!
//! Owns where payloads come from and how many may be under way. Ends when the broker has answered
//! for every message that it answers for.

use std::collections::VecDeque;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use leveret_management::protocol::{Code, Failure};
use leveret_mqtt::packet::QoS;
use leveret_mqtt::topic::{TopicName, translate};

use super::exit;
use super::wire::arguments::{
    MQTT_ONLY, extras, given, keep_alive_s, long_switch, long_value, options, qos, refuse, switch,
    target, text, value, window, wrong,
};
use super::wire::url::{Protocol, Target};
use super::wire::{Happened, Wire, amqp, arguments, mqtt};

pub(super) fn command() -> Command {
    arguments::command("pub", "Publishes messages over MQTT or AMQP 0-9-1")
        .after_help(
            "The options are mosquitto_pub's where it has them. In AMQP the routing key is the \
             topic with dots for slashes, and the exchange amq.topic.",
        )
        .arg(value("topic", 't', "TOPIC", "The topic"))
        .args(payloads())
        .group(
            ArgGroup::new("payload")
                .args(["message", "file", "lines", "null", "stdin"])
                .required(true),
        )
        .arg(switch("retain", 'r', "The message is retained"))
        .arg(
            value(
                "window",
                'M',
                "N",
                "Messages that may wait for an answer [default: 20]",
            )
            .value_parser(value_parser!(NonZeroU16)),
        )
        .arg(
            long_value("repeat", "N", "Publish -m, -f, -n or -s so many times")
                .value_parser(value_parser!(u64).range(1..))
                .conflicts_with("lines"),
        )
        .arg(
            long_value("repeat-delay", "SECONDS", "Wait so long in between")
                .value_parser(value_parser!(f64))
                .requires("repeat"),
        )
        .arg(
            Arg::new("exchange")
                .long("exchange")
                .value_name("NAME")
                .help("AMQP: the exchange [default: amq.topic]; '' is the default exchange"),
        )
        .arg(long_value(
            "routing-key",
            "KEY",
            "AMQP: the routing key, instead of -t",
        ))
        .arg(long_switch(
            "mandatory",
            "AMQP: fail if no queue gets the message",
        ))
}

fn payloads() -> Vec<Arg> {
    vec![
        value("message", 'm', "MESSAGE", "The payload"),
        value("file", 'f', "FILE", "The payload is what the file holds"),
        switch("lines", 'l', "Each line of standard input is a message"),
        switch("null", 'n', "The payload is empty"),
        switch("stdin", 's', "The payload is all of standard input").action(ArgAction::SetTrue),
    ]
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    exit::quietly(publish(matches), matches.get_flag("quiet"))
}

fn publish(matches: &ArgMatches) -> Result<(), Failure> {
    let target = target(matches)?;
    match target.protocol {
        Protocol::Mqtt => {
            refuse(matches, &AMQP_ONLY, Protocol::Mqtt)?;
            let options = options(matches, over_mqtt(matches, &target)?)?;
            let payload = payload(matches)?;
            send(
                &mut mqtt::Client::connect(&target, options)?,
                matches,
                payload,
            )
        }
        Protocol::Amqp => {
            refuse(matches, &MQTT_ONLY, Protocol::Amqp)?;
            refuse(matches, &[("retain", "-r")], Protocol::Amqp)?;
            let publishing = over_amqp(matches)?;
            let payload = payload(matches)?;
            let client = amqp::Client::connect(&target, publishing, keep_alive_s(matches));
            send(&mut client?, matches, payload)
        }
    }
}

const AMQP_ONLY: [(&str, &str); 4] = [
    ("vhost", "--vhost"),
    ("exchange", "--exchange"),
    ("routing-key", "--routing-key"),
    ("mandatory", "--mandatory"),
];

fn over_mqtt(matches: &ArgMatches, target: &Target) -> Result<mqtt::Publishing, Failure> {
    let topic = text(matches, "topic").or(target.topic.as_deref());
    let topic = topic.ok_or_else(|| wrong("-t is missing: which topic?"))?;
    TopicName::parse(topic.as_bytes(), "topic name")
        .map_err(|why| wrong(format!("-t {topic}: {why}")))?;
    Ok(mqtt::Publishing {
        topic: topic.to_owned(),
        qos: qos(matches, "qos"),
        retain: matches.get_flag("retain"),
        window: window(matches.get_one("window")),
    })
}

fn over_amqp(matches: &ArgMatches) -> Result<amqp::Publishing, Failure> {
    let routing_key = match (text(matches, "routing-key"), text(matches, "topic")) {
        (Some(key), None) => key.to_owned(),
        (None, Some(topic)) => {
            let mut key = String::new();
            translate::to_key(topic, &mut key);
            key
        }
        (None, None) => return Err(wrong("-t or --routing-key is missing")),
        (Some(_), Some(_)) => {
            return Err(wrong("-t and --routing-key contradict each other"));
        }
    };
    if routing_key.len() > KEY_BYTES_MAX {
        return Err(wrong(format!(
            "a routing key has at most {KEY_BYTES_MAX} bytes"
        )));
    }
    let safe = qos(matches, "qos") != QoS::AtMostOnce;
    let mandatory = matches.get_flag("mandatory");
    Ok(amqp::Publishing {
        exchange: text(matches, "exchange").unwrap_or("amq.topic").to_owned(),
        routing_key,
        persistent: safe,
        // A message that comes back does so before its confirm.
        confirms: safe || mandatory,
        mandatory,
        window: window(matches.get_one("window")),
        extras: extras(matches)?,
    })
}

/// The one payload; `None` where lines are.
fn payload(matches: &ArgMatches) -> Result<Option<Vec<u8>>, Failure> {
    if matches.get_flag("lines") {
        return Ok(None);
    }
    if matches.get_flag("null") {
        return Ok(Some(Vec::new()));
    }
    if let Some(text) = text(matches, "message") {
        return Ok(Some(text.into()));
    }
    let (name, mut source): (_, Box<dyn std::io::Read>) = match text(matches, "file") {
        Some(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|why| Failure::new(Code::Data, format!("{path}: {why}")))?;
            (path, Box::new(file))
        }
        None => ("standard input", Box::new(std::io::stdin())),
    };
    let mut payload = Vec::new();
    let read = (&mut source)
        .take(PAYLOAD_BYTES_MAX + 1)
        .read_to_end(&mut payload);
    read.map_err(|why| Failure::new(Code::Data, format!("{name}: {why}")))?;
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        let text = format!("{name}: a payload has at most {PAYLOAD_BYTES_MAX} bytes");
        return Err(Failure::new(Code::Data, text));
    }
    Ok(Some(payload))
}

/// What is to be sent, and when.
struct Source {
    /// Lines that wait for the window.
    lines: VecDeque<Vec<u8>>,
    lines_ended: bool,
    /// The one payload, and how many times it is still to be sent.
    payload: Option<(Vec<u8>, u64)>,
    delay_ms: u64,
}

impl Source {
    fn ended(&self) -> bool {
        self.lines.is_empty() && self.lines_ended && self.payload.is_none()
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.payload {
            Some((payload, 1)) => {
                let last = std::mem::take(payload);
                self.payload = None;
                Some(last)
            }
            Some((payload, left)) => {
                *left -= 1;
                Some(payload.clone())
            }
            None => self.lines.pop_front(),
        }
    }
}

fn send(
    wire: &mut impl Wire,
    matches: &ArgMatches,
    payload: Option<Vec<u8>>,
) -> Result<(), Failure> {
    wire.inbox().signals()?;
    if payload.is_none() {
        wire.inbox().lines()?;
    }
    let delay_s = matches.get_one::<f64>("repeat-delay").copied();
    let repeat = matches.get_one::<u64>("repeat").copied().unwrap_or(1);
    let mut source = Source {
        lines: VecDeque::new(),
        lines_ended: payload.is_some(),
        payload: payload.map(|payload| (payload, repeat)),
        delay_ms: (delay_s.unwrap_or_default().max(0.0) * 1_000.0) as u64,
    };
    let mut refused = None;
    let mut next_due = wire.now();
    loop {
        let due = next_due.since_ms(wire.now()) == 0;
        if due && wire.unsettled() < wire.window() {
            if let Some(payload) = source.next() {
                wire.publish(&payload)?;
                next_due = wire.now().after_ms(source.delay_ms);
                continue;
            }
            if source.ended() && wire.unsettled() == 0 {
                break;
            }
        }
        match wire.wait((!due).then_some(next_due))? {
            Happened::Refused(why) => {
                if !given(matches, "quiet") {
                    eprintln!("Warning: a message was refused: {why}");
                }
                refused = Some(why);
            }
            Happened::Line(line) => source.lines.push_back(line),
            Happened::LinesEnded => source.lines_ended = true,
            Happened::Stop => break,
            Happened::Message(_) | Happened::Progress | Happened::TimedOut => {}
        }
    }
    wire.close()?;
    match refused {
        Some(why) => Err(Failure::new(
            Code::Unavailable,
            format!("the broker refused a message: {why}"),
        )),
        None => Ok(()),
    }
}

/// The largest payload: what an MQTT packet holds at most.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455;

/// The longest short string of AMQP.
const KEY_BYTES_MAX: usize = 255;
