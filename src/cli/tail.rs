//! `leveret tail`: shows publications of both protocols as they go by, and takes nothing.
//!
//! Owns how a line looks. The broker samples: see `management`'s command of the same name.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use leveret_core::time::Time;
use leveret_management::protocol::Failure;
use serde_json::{Map, Value};

use super::client::{self, Target};
use super::console::print_bytes;
use super::exit;
use super::term;
use super::wire::moment::Moment;

pub(super) fn command() -> Command {
    Command::new("tail")
        .about("Shows publications as they go by, over MQTT and AMQP, and takes nothing")
        .after_help(
            "A filter is one of MQTT, such as 'sensors/#', or with --key a binding key of AMQP, \
             such as 'orders.*'; either finds the publications of both protocols.",
        )
        .arg(
            Arg::new("filter")
                .value_name("FILTER")
                .default_value("#")
                .help("What is shown"),
        )
        .arg(switch("key", "The filter is a binding key of AMQP"))
        .arg(
            Arg::new("vhost")
                .short('p')
                .long("vhost")
                .value_name("VHOST")
                .help("This virtual host alone [default: all]"),
        )
        .arg(
            Arg::new("exchange")
                .long("exchange")
                .value_name("NAME")
                .help("Publications to this exchange alone"),
        )
        .arg(number(
            "rate",
            "N",
            "Publications a second that are shown [default: 100]",
        ))
        .arg(number(
            "payload-bytes",
            "BYTES",
            "Bytes of a payload that are shown [default: 200]",
        ))
        .arg(number("count", "N", "End after so many"))
        .arg(switch("redact", "Show no payloads"))
        .arg(switch("json", "A JSON object a line"))
        .arg(switch("mqtt-only", "Publications of MQTT clients alone"))
        .arg(switch("amqp-only", "Publications of AMQP clients alone").conflicts_with("mqtt-only"))
        .args(client::place())
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).num_args(0).help(help)
}

fn number(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .value_parser(value_parser!(u32).range(1..))
        .help(help)
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    exit::ended(tail(matches))
}

fn tail(matches: &ArgMatches) -> Result<(), Failure> {
    let mut arguments = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            arguments.insert(name.replace('-', "_"), value);
        }
    };
    for name in ["filter", "vhost", "exchange"] {
        put(
            name,
            matches.get_one::<String>(name).cloned().map(Value::from),
        );
    }
    for name in ["rate", "payload-bytes"] {
        put(name, matches.get_one::<u32>(name).copied().map(Value::from));
    }
    for name in ["key", "redact", "mqtt-only", "amqp-only"] {
        put(name, matches.get_flag(name).then_some(true.into()));
    }
    let json = matches.get_flag("json");
    let mut left = matches.get_one::<u32>("count").copied();
    let client = Target::of(matches)?.connect()?;
    client.watch("tail", arguments, &mut |row| {
        let mut out = if json { row.to_string() } else { line(row) };
        out.push('\n');
        let goes_on = print_bytes(out.as_bytes())?;
        if let Some(left) = &mut left {
            *left -= 1;
        }
        Ok(goes_on && left != Some(0))
    })
}

/// One publication for people.
fn line(row: &Value) -> String {
    let text = |name: &str| term::cell(name, &row[name]);
    let at = Moment::at(Time(row["time_ms"].as_u64().unwrap_or_default()));
    let mut out = String::new();
    if let Some(skipped) = row["skipped"].as_u64().filter(|skipped| *skipped > 0) {
        out = format!("… {skipped} not shown\n");
    }
    let protocol = if row["protocol"] == "MQTT" {
        "MQTT"
    } else {
        "AMQP"
    };
    let quality = match row["qos"].as_u64() {
        Some(qos) => format!("q{qos}"),
        None if row["persistent"] == true => "persistent".to_owned(),
        None => "transient".to_owned(),
    };
    let retained = if row["retain"] == true {
        " retained"
    } else {
        ""
    };
    let who = match (text("client_id"), text("user")) {
        (id, user) if id.is_empty() && user.is_empty() => "the broker".to_owned(),
        (id, user) if id.is_empty() => user,
        (id, user) => format!("{user}/{id}"),
    };
    let peer = Some(text("peer")).filter(|peer| !peer.is_empty());
    let peer = peer.map(|peer| format!("@{peer}")).unwrap_or_default();
    let payload = match &row["payload"] {
        Value::Null => String::new(),
        Value::String(text) => format!(" {}", term::cell("payload", &Value::from(text.as_str()))),
        other => format!(" 0x{}", other["hex"].as_str().unwrap_or_default()),
    };
    format!(
        "{out}{} {protocol} {} {} {} {quality}{retained} {who}{peer} -> {} queues, {} B:{payload}",
        at.clock(),
        text("vhost"),
        exchange(&text("exchange")),
        text("key"),
        text("routed"),
        text("payload_bytes"),
    )
}

fn exchange(name: &str) -> &str {
    if name.is_empty() { "(default)" } else { name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn o8_a_publication_is_a_line() {
        let mut row = json!({
            "time_ms": 1_795_338_305_409_u64, "protocol": "MQTT", "vhost": "/",
            "exchange": "amq.topic", "key": "a/b", "qos": 1, "persistent": true, "retain": true,
            "user": "guest", "client_id": "dev\u{1b}", "peer": "127.0.0.1:5", "routed": 2,
            "payload_bytes": 5, "payload": "he\nlo", "skipped": 0,
        });
        assert_eq!(
            line(&row),
            "09:05:05.409 MQTT / amq.topic a/b q1 retained guest/dev\\033@127.0.0.1:5 -> 2 queues, \
             5 B: he\\012lo"
        );
        row["protocol"] = "AMQP 0-9-1".into();
        row["exchange"] = "".into();
        row["payload"] = json!({ "hex": "ff" });
        row["skipped"] = 3.into();
        for name in ["qos", "client_id", "peer"] {
            row[name] = Value::Null;
        }
        assert_eq!(
            line(&row),
            "… 3 not shown\n09:05:05.409 AMQP / (default) a/b persistent retained guest -> 2 \
             queues, 5 B: 0xff"
        );
    }
}
