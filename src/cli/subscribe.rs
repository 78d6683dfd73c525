//! `leveret sub`: prints what comes over MQTT or AMQP 0-9-1, with mosquitto_sub's options where
//! they exist.
//!
//! Owns which messages are printed and when it ends. A message is acknowledged after it was
//! printed.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use leveret_management::protocol::{Code, Failure};
use leveret_mqtt::packet::QoS;
use leveret_mqtt::packet::subscribe::SubscriptionOptions;
use leveret_mqtt::topic::{FilterMode, ParsedFilter, matches as topic_matches, translate};

use super::console::print_bytes;
use super::exit;
use super::wire::arguments::{
    MQTT_ONLY, keep_alive_s, long_switch, long_value, options, qos, refuse, switch, target, text,
    value, wrong,
};
use super::wire::format::Format;
use super::wire::url::{Protocol, Target};
use super::wire::{Happened, Message, Wire, amqp, arguments, mqtt};

pub(super) fn command() -> Command {
    arguments::command("sub", "Prints messages that come over MQTT or AMQP 0-9-1")
        .after_help(
            "The options are mosquitto_sub's where it has them; -F takes its sequences, times are \
             UTC. In AMQP a queue of its own is bound to the exchange with dots for slashes and \
             stars for pluses.",
        )
        .arg(many(value(
            "topic",
            't',
            "FILTER",
            "What to subscribe to; more than once",
        )))
        .arg(many(value(
            "unsubscribe",
            'U',
            "FILTER",
            "What to unsubscribe from",
        )))
        .arg(many(value(
            "filter-out",
            'T',
            "FILTER",
            "Topics that are not printed",
        )))
        .args(printing())
        .args(ends())
        .arg(
            Arg::new("exchange")
                .long("exchange")
                .value_name("NAME")
                .help("AMQP: the exchange to bind to [default: amq.topic]"),
        )
        .arg(many(long_value(
            "binding-key",
            "KEY",
            "AMQP: a binding key, instead of -t",
        )))
        .arg(long_value(
            "queue",
            "NAME",
            "AMQP: consume this queue, instead of -t",
        ))
}

fn many(arg: Arg) -> Arg {
    arg.action(ArgAction::Append)
}

fn printing() -> Vec<Arg> {
    vec![
        switch("verbose", 'v', "Print the topic, too"),
        value(
            "format",
            'F',
            "FORMAT",
            "Print in this form, such as %t:%p or %j",
        )
        .conflicts_with("verbose"),
        switch("bare", 'N', "No line end after a message"),
        long_switch("pretty", "JSON over several lines"),
        switch("no-retained", 'R', "Print no retained messages"),
        long_switch(
            "retained-only",
            "End at the first message that is not retained",
        ),
        long_switch("remove-retained", "Delete each retained message that comes"),
        long_value(
            "random-filter",
            "PERCENT",
            "Print so many of the messages, by chance",
        )
        .value_parser(value_parser!(f64)),
    ]
}

fn ends() -> Vec<Arg> {
    vec![
        value("count", 'C', "N", "End after so many messages")
            .value_parser(value_parser!(u64).range(1..)),
        value("wait", 'W', "SECONDS", "End after so many seconds, with 27")
            .value_parser(value_parser!(u64).range(1..)),
        switch("exit", 'E', "End once the subscriptions are acknowledged"),
    ]
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let quiet = matches.get_flag("quiet");
    match subscribe(matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            if !quiet {
                eprintln!("Timed out");
            }
            ExitCode::from(TIMED_OUT)
        }
        Err(failure) => exit::quietly(Err(failure), quiet),
    }
}

/// `false` when it ended because the time was over.
fn subscribe(matches: &ArgMatches) -> Result<bool, Failure> {
    let target = target(matches)?;
    let plan = Plan::of(matches)?;
    match target.protocol {
        Protocol::Mqtt => over_mqtt(matches, &target, &plan),
        Protocol::Amqp => over_amqp(matches, &target, &plan),
    }
}

fn over_mqtt(matches: &ArgMatches, target: &Target, plan: &Plan) -> Result<bool, Failure> {
    refuse(matches, &AMQP_ONLY, Protocol::Mqtt)?;
    let mut filters = list(matches, "topic");
    filters.extend(target.topic.clone());
    let gone = list(matches, "unsubscribe");
    if filters.is_empty() && gone.is_empty() {
        return Err(wrong("-t is missing: which topics?"));
    }
    for filter in filters.iter().chain(&gone) {
        ParsedFilter::parse(filter, FilterMode::Flexible)
            .map_err(|why| wrong(format!("-t {filter}: {why}")))?;
    }
    let nothing = mqtt::Publishing {
        topic: String::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        window: 0,
    };
    let mut client = mqtt::Client::connect(target, options(matches, nothing)?)?;
    client.inbox().signals()?;
    if !filters.is_empty() {
        let asked = SubscriptionOptions::new(qos(matches, "qos"));
        let granted = client.subscribe(&filters, asked)?;
        let mut refused = 0;
        for (filter, one) in filters.iter().zip(&granted) {
            if let Some(why) = &one.refusal {
                refused += 1;
                if !matches.get_flag("quiet") {
                    eprintln!("Warning: '{filter}' was refused: {why}");
                }
            }
        }
        if refused == filters.len() {
            client.close()?;
            let text = "All subscription requests were denied.";
            return Err(Failure::new(Code::Unavailable, text));
        }
    }
    if !gone.is_empty() {
        client.unsubscribe(&gone)?;
    }
    print_all(&mut client, plan)
}

fn over_amqp(matches: &ArgMatches, target: &Target, plan: &Plan) -> Result<bool, Failure> {
    refuse(matches, &MQTT_ONLY, Protocol::Amqp)?;
    refuse(matches, &SUB_MQTT_ONLY, Protocol::Amqp)?;
    let mut keys = list(matches, "binding-key");
    for filter in list(matches, "topic") {
        let mut key = String::new();
        translate::to_key(&filter, &mut key);
        keys.push(key);
    }
    let queue = text(matches, "queue").map(str::to_owned);
    if keys.is_empty() == queue.is_none() {
        return Err(wrong("one of -t, --binding-key and --queue is needed"));
    }
    let acknowledge = qos(matches, "qos") != QoS::AtMostOnce;
    let prefetch = plan.count.unwrap_or(PREFETCH).min(PREFETCH) as u16;
    let consuming = amqp::Consuming {
        // Without acknowledgements the broker would send more than is wanted, and lose it.
        acknowledge: acknowledge || queue.is_some(),
        queue,
        exchange: text(matches, "exchange").unwrap_or("amq.topic").to_owned(),
        keys,
        prefetch,
    };
    let nothing = amqp::Publishing::default();
    let mut client = amqp::Client::connect(target, nothing, keep_alive_s(matches))?;
    client.inbox().signals()?;
    client.consume(&consuming)?;
    print_all(&mut client, plan)
}

const AMQP_ONLY: [(&str, &str); 4] = [
    ("vhost", "--vhost"),
    ("exchange", "--exchange"),
    ("binding-key", "--binding-key"),
    ("queue", "--queue"),
];

const SUB_MQTT_ONLY: [(&str, &str); 6] = [
    ("unsubscribe", "-U"),
    ("no-retained", "-R"),
    ("retained-only", "--retained-only"),
    ("remove-retained", "--remove-retained"),
    ("exit", "-E"),
    ("property", "-D"),
];

fn list(matches: &ArgMatches, name: &str) -> Vec<String> {
    super::many(matches, name)
}

/// What is printed, and until when.
struct Plan {
    format: Format,
    filtered_out: Vec<String>,
    no_retained: bool,
    retained_only: bool,
    remove_retained: bool,
    /// The part of the messages that is printed.
    share: Option<f64>,
    count: Option<u64>,
    wait_ms: Option<u64>,
    exit: bool,
    quiet: bool,
}

impl Plan {
    fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let (bare, pretty) = (matches.get_flag("bare"), matches.get_flag("pretty"));
        let format = match text(matches, "format") {
            Some(format) => Format::parse(format, bare, pretty)?,
            None => Format::plain(matches.get_flag("verbose"), bare),
        };
        let share = matches.get_one::<f64>("random-filter").copied();
        if share.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(wrong("--random-filter is 0 to 100"));
        }
        Ok(Self {
            format,
            filtered_out: list(matches, "filter-out"),
            no_retained: matches.get_flag("no-retained"),
            retained_only: matches.get_flag("retained-only"),
            remove_retained: matches.get_flag("remove-retained"),
            share: share.map(|percent| percent / 100.0),
            count: matches.get_one("count").copied(),
            wait_ms: matches
                .get_one::<u64>("wait")
                .map(|s| s.saturating_mul(1_000)),
            exit: matches.get_flag("exit"),
            quiet: matches.get_flag("quiet"),
        })
    }

    /// Whether a message is none of those that are left out.
    fn wants(&self, message: &Message) -> bool {
        let out = self
            .filtered_out
            .iter()
            .any(|filter| topic_matches(filter, &message.topic));
        let by_chance = |share| rand::random_bool(share);
        let stale = self.no_retained && message.retain;
        !out && !stale && self.share.is_none_or(by_chance)
    }
}

fn print_all(wire: &mut impl Wire, plan: &Plan) -> Result<bool, Failure> {
    let until = plan.wait_ms.map(|ms| wire.now().after_ms(ms));
    let mut printed = 0;
    let mut out = Vec::new();
    let mut in_time = true;
    loop {
        if plan.exit {
            break;
        }
        let message = match wire.wait(until)? {
            Happened::Message(message) => message,
            Happened::TimedOut => {
                in_time = false;
                break;
            }
            Happened::Stop => break,
            _ => continue,
        };
        if plan.retained_only && !message.retain {
            break;
        }
        if plan.wants(&message) {
            out.clear();
            match plan.format.put(&message, wire.now(), &mut out) {
                Ok(()) if !print_bytes(&out)? => break,
                Ok(()) => {}
                Err(why) if plan.quiet => drop(why),
                Err(why) => eprintln!("Error: {why}"),
            }
            if plan.remove_retained && message.retain {
                wire.clear_retained(&message.topic)?;
            }
            printed += 1;
        }
        wire.settle(&message)?;
        if plan.count.is_some_and(|count| printed >= count) {
            break;
        }
    }
    while wire.unsettled() > 0 {
        if matches!(wire.wait(until)?, Happened::Stop | Happened::TimedOut) {
            break;
        }
    }
    wire.close()?;
    Ok(in_time)
}

/// mosquitto_sub's exit code when `-W` is over.
const TIMED_OUT: u8 = 27;

/// Messages of AMQP that may wait to be printed.
const PREFETCH: u64 = 100;
