//! The table, its documents and what it says about itself hold together.

use std::path::Path;

use super::{Files, config};
use crate::kind::{Kind, Value, parse};
use crate::schema::{self, settings};
use crate::source::Shape;
use crate::*;

#[test]
fn documents_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = [
        (root.join("leveret.toml"), sample_toml()),
        (root.join("rabbitmq.conf"), sample_conf()),
        (root.join("../docs/configuration.md"), reference_markdown()),
    ];
    for (path, text) in documents {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().expect("has a folder")).expect("can be made");
            std::fs::write(&path, &text).expect("a document can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "{} is old; run with UPDATE_DOCS=1",
            path.display()
        );
    }
}

#[test]
fn samples_load_as_they_are_and_with_every_line_switched_on() {
    for (name, text) in [
        ("leveret.toml", sample_toml()),
        ("rabbitmq.conf", sample_conf()),
    ] {
        let on: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        assert!(
            on.lines()
                .filter(|line| line.contains(" = ") && !line.starts_with('#'))
                .count()
                > 40
        );
        for (kind, text) in [("off", &text), ("on", &on)] {
            let files = Files::new(&format!("sample-{kind}"), &[(name, text)]);
            let sources = Sources {
                files: files.paths.clone(),
                ..Sources::default()
            };
            let (config, effective) = load(&sources).expect("the sample is right");
            assert_eq!(config, Config::default(), "{name} {kind}");
            let defaults: usize = settings().map(|setting| setting.defaults().count()).sum();
            let given = if kind == "on" { defaults } else { 0 };
            assert_eq!(effective.given().count(), given, "{name} {kind}");
        }
    }
}

#[test]
fn values_of_listeners_and_lifetimes() {
    let listener = schema::find("listeners.tcp.a")
        .expect("is in the table")
        .kind;
    let lifetime = Kind::Lifetime {
        forever: "never",
        max_s: 4_294_967_294,
    };
    let rows: &[Row<'_>] = &[
        (
            listener,
            &[
                "1",
                "65535",
                "1.2.3.4:5",
                "[::1]:5",
                "::1:5672",
                ":::5672",
                "127.0.0.1:0",
            ],
            &[
                "",
                "0",
                "65536",
                "+1",
                "host:1",
                "1.2.3.4",
                "1.2.3.4:65536",
                "[::1]",
                "[::1]:+5",
            ],
        ),
        (
            lifetime,
            &["0s", "1h", "1d", "1w", "1m", "1y", "never", "4294967294s"],
            &[
                "",
                "h",
                "1",
                "-1h",
                "1x",
                "1.5h",
                "infinity",
                "4294967295s",
                "1é",
                "200y",
            ],
        ),
    ];
    check_values(rows);
}

#[test]
fn values_of_plain_kinds() {
    let seconds = schema::find("heartbeat").expect("is in the table").kind;
    let limit = schema::find("mqtt.max_connections")
        .expect("is in the table")
        .kind;
    let levels = schema::find("mqtt.allowed_protocol_versions")
        .expect("is in the table")
        .kind;
    let rows: &[Row<'_>] = &[
        (
            seconds,
            &["0", "65535", "007"],
            &["", "-1", "1s", "infinity", " 1", "65536"],
        ),
        (
            limit,
            &["0", "100000000", "infinity"],
            &["100000001", "none", "Infinity"],
        ),
        (
            levels,
            &["3", "5,4", "3, 4, 5", "4,4"],
            &["", "3,", "6", "3 4"],
        ),
        (
            Kind::Size,
            &["0", "1GB", "512MiB", "50mb", "4G"],
            &["", "-1", "1.5GB", "1XB", "GB", "1 GB"],
        ),
        (
            Kind::Fraction { max: 1 },
            &["0", "0.0", "0.6", "1", "1.0"],
            &["", "1.01", "-0.1", "40%", "infinity"],
        ),
        (Kind::Regex, &["", ".*", "^a|b$"], &["(", "*"]),
        (Kind::Bool, &["true", "false"], &["", "TRUE", "1", "on"]),
    ];
    check_values(rows);
}

/// Texts that are values of a kind, and texts that are not.
type Row<'a> = (Kind, &'a [&'a str], &'a [&'a str]);

#[track_caller]
fn check_values(rows: &[Row<'_>]) {
    for (kind, good, bad) in rows {
        for text in *good {
            assert!(parse(*kind, text, Shape::Bare).is_some(), "{kind}: {text}");
        }
        for text in *bad {
            assert!(parse(*kind, text, Shape::Bare).is_none(), "{kind}: {text}");
        }
    }
}

/// Bounds fit the fields of the option structs: the greatest value of each row loads, and is not
/// cut to a narrower type.
#[test]
fn every_row_is_sound() {
    let mut keys = Vec::new();
    for setting in settings() {
        assert!(setting.doc.ends_with('.'), "{}", setting.key);
        for (key, text) in setting.defaults() {
            assert!(parse(setting.kind, text, Shape::Bare).is_some(), "{key}");
            assert_eq!(
                schema::find(&key).map(|found| found.setting.key),
                Some(setting.key)
            );
        }
        let placeholder = setting.key.ends_with('>');
        assert_eq!(setting.family.is_some(), placeholder, "{}", setting.key);
        keys.push(setting.key);
        keys.extend(setting.aliases.iter().map(|alias| alias.key));
        if let Kind::Integer { max, .. }
        | Kind::IntegerOrZero { max, .. }
        | Kind::Limit { max, .. }
        | Kind::Cap { max, .. } = setting.kind
        {
            assert!(parse(setting.kind, &max.to_string(), Shape::Bare) == number(max));
            assert!(parse(setting.kind, &(max + 1).to_string(), Shape::Bare).is_none());
        }
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "a key is in the table twice");
    let greatest = config(&[
        "mqtt.prefetch=65535",
        "mqtt.topic_alias_maximum=65535",
        "mqtt.max_packet_size_unauthenticated=268435455",
        "mqtt.max_packet_size_authenticated=268435455",
        "max_message_size=536870912",
        "frame_max=16777216",
        "heartbeat=65535",
        "channel_max=0",
    ]);
    assert_eq!(greatest.mqtt.packet_authenticated_bytes_max, 268_435_455);
    assert_eq!(greatest.mqtt.packet_unauthenticated_bytes_max, 268_435_455);
    assert_eq!(
        (greatest.mqtt.prefetch, greatest.mqtt.topic_alias_max),
        (u16::MAX, u16::MAX)
    );
    assert_eq!(
        (greatest.amqp.heartbeat_s, greatest.amqp.channel_max),
        (u16::MAX, 0)
    );
    let unlimited = config(&["frame_max=0", "initial_frame_max=16777216"]);
    assert_eq!(unlimited.amqp.frame_max, 0);
}

fn number(number: u64) -> Option<Value> {
    Some(Value::Number(Some(number)))
}

/// Values for those that 9001, `false` or `x` would not change, or not be valid for.
const SPECIAL: &[(&str, &str)] = &[
    ("log.console.level", "debug"),
    ("listeners.tcp.<name>", "5673"),
    ("mqtt.listeners.tcp.<name>", "1884"),
    ("mqtt.topic_filters", "strict"),
    ("mqtt.allowed_protocol_versions", "4"),
    ("mqtt.max_packet_size_unauthenticated", "77"),
    ("mqtt.max_packet_size_authenticated", "77"),
    ("max_message_size", "536870912"),
    ("auth_mechanisms.<N>", "AMQPLAIN"),
    ("persistent_client_expiration", "77h"),
    ("max_last_will_delay", "77h"),
    ("mqtt.queue_type", "lifo"),
    ("queue_type", "lifo"),
    ("mqtt.queue_overflow", "reject"),
    ("mqtt.upgrade_outgoing_qos", "true"),
    ("upgrade_outgoing_qos", "true"),
    ("mqtt.retry_interval", "77"),
    ("retry_interval", "77"),
    ("mqtt.retry_interval_v4", "true"),
    ("mqtt.suppress_lwt_on_session_takeover", "true"),
    ("suppress_lwt_on_session_takeover", "true"),
    ("mqtt.client_id_binding", "none"),
    ("mqtt.allow_multiple_sessions", "true"),
    ("allow_multiple_sessions", "true"),
    ("mqtt.queue_deliver_mode", "balance"),
    ("queue_deliver_mode", "balance"),
    ("mqtt.auth_methods", "none"),
    ("mqtt.systree_qos", "1"),
    ("systree_qos", "1"),
    ("mqtt.systree_retain", "true"),
    ("systree_retain", "true"),
    ("mqtt.topic_max_depth", "77"),
    ("topic_max_depth", "77"),
    ("mqtt.listener_vhosts.<name>", "/x"),
    ("mqtt.listener_versions.<name>", "5"),
    ("mqtt.listener_topic_filters.<name>", "strict"),
    (
        "mqtt.message_interceptors.incoming.set_client_id_annotation.enabled",
        "true",
    ),
    ("journal.durability", "none"),
    ("journal.vhosts.<vhost>", "none"),
    ("vm_memory_high_watermark.relative", "0.5"),
    ("disk_free_limit.relative", "0.5"),
];

/// Every setting changes the configuration: none is read and forgotten.
#[test]
fn every_setting_has_an_effect() {
    for setting in settings() {
        let aliases = setting.aliases.iter().map(|alias| (alias.key, alias.kind));
        for (key, kind) in std::iter::once((setting.key, setting.kind)).chain(aliases) {
            let given = SPECIAL
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value);
            let value = given.unwrap_or(match kind {
                Kind::Bool => "false",
                Kind::Text { .. } | Kind::Regex | Kind::Path => "x",
                _ => "9001",
            });
            let key = match setting.family {
                Some(family) if family.numbered => format!("{}.1", setting.stem()),
                Some(_) if setting.key.contains("<user>") => "loopback_users.guest".into(),
                Some(_) if setting.key.contains("<tag>") => {
                    "default_user_tags.administrator".into()
                }
                Some(_) => format!("{}.default", setting.stem()),
                None => key.to_owned(),
            };
            assert_ne!(
                config(&[&format!("{key}={value}")]),
                Config::default(),
                "{key}={value}"
            );
        }
    }
}

#[test]
fn explanations() {
    let alias = explain("mqtt.subscription_ttl")
        .expect("is in the table")
        .to_string();
    let parts = [
        "mqtt.max_session_expiry_interval_seconds\n",
        "asked as mqtt.subscription_ttl",
        "default:  86400\n",
        "unit:     seconds\n",
        "alias:    persistent_client_expiration",
        "env:      LEVERET_MQTT__MAX_SESSION_EXPIRY_INTERVAL_SECONDS",
    ];
    for part in parts {
        assert!(alias.contains(part), "{part}\n{alias}");
    }
    for key in [
        "listeners.tcp",
        "listeners.tcp.default",
        "listeners.tcp.<name>",
    ] {
        let family = explain(key).expect("is in the table").to_string();
        assert!(
            family.contains("default:  listeners.tcp.default = 5672\n"),
            "{family}"
        );
    }
    let mistakes = [
        (
            "mqtt.exchnage",
            "unknown key 'mqtt.exchnage'; did you mean 'mqtt.exchange'?",
        ),
        (
            "ssl_options",
            "key 'ssl_options' is known to RabbitMQ, not served by this version",
        ),
    ];
    for (key, expected) in mistakes {
        assert_eq!(
            explain(key).map_err(|e| e.to_string()).err().as_deref(),
            Some(expected)
        );
    }
}
