//! FEATURES A4: every argument with good and bad values, in RabbitMQ's words.

use super::*;

fn parse(name: &str, value: Value) -> Result<QueueArguments, String> {
    parse_all(&[(name, value)])
}

fn parse_all(entries: &[(&str, Value)]) -> Result<QueueArguments, String> {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, value.clone()).expect("a short name");
    }
    QueueArguments::parse(&table, "q", "/").map_err(|refusal| refusal.text.into())
}

#[test]
fn a4_arguments_are_read() {
    let asked = parse_all(&[
        ("x-message-ttl", Value::U8(5)),
        ("x-max-length", Value::I64(0)),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
        ("x-max-priority", Value::I32(255)),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-whatever", Value::Void),
    ]);
    let asked = asked.expect("all are good");
    assert_eq!(asked.message_ttl_ms, Some(5));
    assert_eq!(asked.max_length, Some(0));
    assert_eq!(asked.overflow, Overflow::RejectPublishDlx);
    assert_eq!(asked.dead_letter_exchange.as_deref(), Some(""));
    assert_eq!(asked.dead_letter_routing_key.as_deref(), Some("dead"));
    assert_eq!(asked.max_priority, Some(Levels::up_to(255)));
    assert!(asked.single_active_consumer);
    let stream = parse_all(&[
        ("x-queue-type", "stream".into()),
        ("x-max-age", "7D".into()),
    ]);
    let stream = stream.expect("all are good");
    assert_eq!(stream.kind, QueueKind::Stream);
    assert_eq!(stream.max_age_ms, Some(7 * 24 * 60 * 60 * 1_000));
}

#[test]
fn a4_bad_arguments_are_refused_in_rabbitmqs_words() {
    let rows: &[(&str, Value, &str)] = &[
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-expires", Value::I64(-1), "{value_negative,-1}"),
        (
            "x-message-ttl",
            "a".into(),
            "\"expected integer, got longstr\"",
        ),
        (
            "x-message-ttl",
            Value::I64(i64::MAX),
            "{value_too_large,9223372036854775807}",
        ),
        (
            "x-max-length",
            Value::F64(1.0),
            "\"expected integer, got double\"",
        ),
        (
            "x-max-priority",
            Value::I32(256),
            "{max_value_exceeded,256}",
        ),
        ("x-overflow", "drop-tail".into(), "invalid_overflow"),
        (
            "x-queue-mode",
            "eager".into(),
            "\"unsupported queue mode 'eager'\"",
        ),
        (
            "x-queue-type",
            "odd".into(),
            "\"unsupported queue type 'odd'\"",
        ),
        (
            "x-dead-letter-routing-key",
            "k".into(),
            "routing_key_but_no_dlx_defined",
        ),
        (
            "x-single-active-consumer",
            "yes".into(),
            "{unacceptable_type,longstr}",
        ),
    ];
    for (name, value, why) in rows {
        let expected = format!("invalid arg '{name}' for queue 'q' in vhost '/': {why}");
        assert_eq!(parse(name, value.clone()), Err(expected));
    }
}

#[test]
fn a4_arguments_of_other_kinds_are_refused() {
    let quorum = ("x-queue-type", Value::from("quorum"));
    let refused = parse_all(&[quorum, ("x-max-priority", Value::I32(5))]);
    let expected = "invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type \
                    rabbit_quorum_queue";
    assert_eq!(refused, Err(expected.to_owned()));
    assert!(parse("x-delivery-limit", Value::I32(5)).is_err());
    assert!(parse("x-delayed-retry-type", "all".into()).is_err());
    assert!(parse("x-consumer-disconnected-timeout", Value::I32(5)).is_err());
}

/// Delayed retries are no behaviour of ours: clients that ask for them get their queue, and who
/// runs the broker is told.
#[test]
fn a4_arguments_without_effect_are_taken_and_told() {
    let quorum =
        |name, value: Value| parse_all(&[("x-queue-type", "quorum".into()), (name, value)]);
    for word in ["disabled", "all", "failed", "returned"] {
        assert!(
            quorum("x-delayed-retry-type", word.into()).is_ok(),
            "{word}"
        );
    }
    let expected = "invalid arg 'x-delayed-retry-type' for queue 'q' in vhost '/': \
                    invalid_delayed_retry_type";
    let refused = quorum("x-delayed-retry-type", "odd".into());
    assert_eq!(refused, Err(expected.to_owned()));
    for name in [
        "x-delayed-retry-min",
        "x-delayed-retry-max",
        "x-consumer-disconnected-timeout",
    ] {
        assert!(quorum(name, Value::I64(0)).is_ok(), "{name}");
        assert!(quorum(name, Value::I64(-1)).is_err(), "{name}");
    }
    let told = |name, value: Value| {
        let mut table = Table::new();
        table.insert(name, value).expect("a short name");
        QueueArguments::unserved(&table)
    };
    let retries = "x-delayed-retry-type";
    assert_eq!(told(retries, "all".into()), Some(retries));
    assert_eq!(told(retries, "disabled".into()), None);
    assert_eq!(told("x-consumer-disconnected-timeout", Value::I64(5)), None);
}

/// RabbitMQ 4.3 refuses version 1; clients of older ones ask for it.
#[test]
fn a4_versions_and_modes_of_older_clients_are_taken() {
    for (name, value) in [
        ("x-queue-version", Value::I32(1)),
        ("x-queue-version", Value::I32(2)),
        ("x-queue-mode", "lazy".into()),
        ("x-queue-mode", "default".into()),
    ] {
        assert_eq!(parse(name, value), Ok(QueueArguments::default()), "{name}");
    }
}

/// A queue that was declared when more was taken is a queue still.
#[test]
fn a4_arguments_of_a_queue_that_is_there_are_read_leniently() {
    let mut table = Table::new();
    for (name, value) in [
        ("x-max-length", Value::I64(5)),
        ("x-delayed-retry-type", "all".into()),
        ("x-overflow", "drop-tail".into()),
    ] {
        table.insert(name, value).expect("a short name");
    }
    assert!(QueueArguments::parse(&table, "q", "/").is_err());
    let kept = QueueArguments::parse_kept(&table).expect("its kind is known");
    assert_eq!(
        (kept.max_length, kept.overflow),
        (Some(5), Overflow::DropHead)
    );
}
