//! Which policy applies to what, and what it comes to with arguments.

use super::*;
use crate::queue::{Overflow, QueueArguments};

fn table(entries: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, value.clone()).expect("short");
    }
    table
}

fn number(name: &str, value: i64) -> Table {
    table(&[(name, Value::I64(value))])
}

fn text(name: &str, value: &str) -> Table {
    table(&[(name, Value::from(value))])
}

fn wish<'a>(name: &'a str, pattern: &'a str, definition: Table) -> PolicyWish<'a> {
    PolicyWish {
        name,
        pattern,
        apply_to: "all",
        priority: 0,
        definition,
    }
}

fn refusal(scope: Scope, wish: PolicyWish<'_>) -> String {
    let refused = Policies::default().set(scope, wish);
    refused.expect_err("is refused").text.into()
}

/// What RabbitMQ says to a definition, without the words around it.
fn complaint(scope: Scope, definition: Table) -> String {
    let text = refusal(scope, wish("p", ".*", definition));
    let said = text.strip_prefix("Validation failed\n\n");
    said.and_then(|said| said.strip_suffix('\n'))
        .expect("has RabbitMQ's words around it")
        .to_owned()
}

/// Definitions, and RabbitMQ's words on them.
fn wrong() -> Vec<(Table, &'static str)> {
    vec![
        (number("max-length", -3), "-3 is not a valid maximum length"),
        (
            text("max-length", "x"),
            "<<\"x\">> is not a valid maximum length",
        ),
        (
            number("max-length-bytes", -1),
            "-1 is not a valid maximum length in bytes",
        ),
        (number("expires", 0), "0 is not a valid queue expiry"),
        (number("message-ttl", -1), "-1 is not a valid message TTL"),
        (
            text("overflow", "x"),
            "<<\"x\">> is not a valid overflow value",
        ),
        (
            number("dead-letter-exchange", 1),
            "1 is not a valid dead letter exchange name",
        ),
        (
            number("dead-letter-routing-key", 1),
            "1 is not a valid dead letter routing key",
        ),
        (
            text("dead-letter-strategy", "x"),
            "<<\"x\">> is not a valid dead letter strategy",
        ),
        (
            number("alternate-exchange", 1),
            "1 is not a valid alternate exchange name",
        ),
        (
            text("delivery-limit", "x"),
            "<<\"x\">> is not a valid delivery limit",
        ),
        (
            number("consumer-timeout", -1),
            "-1 is not a valid consumer timeout",
        ),
        (text("max-age", "7"), "<<\"7\">> is not a valid max age"),
        (
            number("queue-version", 3),
            "3 is not a valid queue-version value",
        ),
        (
            text("queue-mode", "x"),
            "<<\"x\">> is not a valid queue-mode value",
        ),
        (
            text("queue-leader-locator", "x"),
            "<<\"x\">> is not a valid queue leader locator value",
        ),
        (
            number("target-group-size", 0),
            "0 is not a valid qq target count value",
        ),
        (
            number("bogus", 1),
            "[{<<\"bogus\">>,1}] are not recognised policy settings",
        ),
        (
            text("ha-mode", "all"),
            "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings",
        ),
        (Table::new(), "no policy provided"),
    ]
}

/// FEATURES A6: every value is checked, in RabbitMQ's words.
#[test]
fn a6_wrong_values_are_refused() {
    for (definition, expected) in wrong() {
        assert_eq!(complaint(Scope::Ordinary, definition), expected);
    }
    let both = table(&[("bogus", Value::I64(1)), ("max-length", Value::I64(-3))]);
    assert_eq!(
        complaint(Scope::Ordinary, both),
        "-3 is not a valid maximum length",
        "values come before names"
    );
}

/// FEATURES A6: times are bounded as those of arguments are, and what has no effect is checked too.
#[test]
fn a6_wrong_times_and_retries_are_refused() {
    let years = 315_360_000_001;
    for (definition, expected) in [
        (
            number("message-ttl", years),
            "315360000001 is not a valid message TTL",
        ),
        (
            number("expires", years),
            "315360000001 is not a valid queue expiry",
        ),
        (
            text("delayed-retry-type", "sometimes"),
            "<<\"sometimes\">> is not a valid delayed retry type",
        ),
    ] {
        assert_eq!(complaint(Scope::Ordinary, definition), expected);
    }
}

/// FEATURES A6: pattern, kind of objects and name are checked as well.
#[test]
fn a6_wrong_policies_are_refused() {
    let fine = || number("max-length", 3);
    let bad = refusal(Scope::Ordinary, wish("p", "(", fine()));
    assert!(
        bad.starts_with(
            "Validation failed\n\npattern should be regular expression but is invalid: "
        ),
        "{bad}"
    );
    let bad = PolicyWish {
        apply_to: "foo",
        ..wish("p", ".*", fine())
    };
    assert!(refusal(Scope::Ordinary, bad).contains("apply-to 'foo' unrecognised"));
    assert!(refusal(Scope::Ordinary, wish("", ".*", fine())).contains("policy name"));
    let long = text("dead-letter-exchange", &"x".repeat(POLICY_BYTES_MAX));
    assert!(refusal(Scope::Ordinary, wish("p", ".*", long)).contains("policy has more than"));
}

/// FEATURES A6: an operator bounds, it does not route.
#[test]
fn a6_operator_policies_have_few_settings() {
    for key in keys::KEYS {
        let value = match key.name {
            "overflow" => Value::from("drop-head"),
            "dead-letter-strategy" => Value::from("at-most-once"),
            "max-age" => Value::from("1D"),
            "queue-mode" => Value::from("lazy"),
            "delayed-retry-type" => Value::from("all"),
            "queue-leader-locator" | "queue-master-locator" => Value::from("client-local"),
            "stream-filter-size-bytes" => Value::I64(16),
            name if name.ends_with("exchange") || name.ends_with("key") => Value::from("x"),
            _ => Value::I64(1),
        };
        let definition = table(&[(key.name, value)]);
        let policies = Policies::default();
        let ordinary = policies.set(Scope::Ordinary, wish("p", ".*", definition.clone()));
        assert!(ordinary.is_ok(), "{}", key.name);
        let operator = policies.set(Scope::Operator, wish("p", ".*", definition));
        let allowed = [
            "delivery-limit",
            "expires",
            "max-in-memory-bytes",
            "max-in-memory-length",
            "max-length",
            "max-length-bytes",
            "message-ttl",
            "overflow",
            "queue-version",
            "target-group-size",
        ];
        assert_eq!(
            operator.is_ok(),
            allowed.contains(&key.name),
            "{}",
            key.name
        );
    }
}

fn classic(name: &str) -> Subject<'_> {
    Subject {
        name,
        kind: QueueKind::Classic,
        direct: false,
    }
}

fn name_of(policy: &Option<Arc<Policy>>) -> Option<&str> {
    policy.as_deref().map(Policy::name)
}

/// FEATURES A6: patterns are searched, not anchored; the empty one is found everywhere.
#[test]
fn a6_patterns_are_searched() {
    for (pattern, name, expected) in [
        ("^q", "q1", true),
        ("^q", "aq", false),
        ("q", "aq", true),
        ("", "anything", true),
        (".*", "", true),
        ("^mqtt-subscription-", "mqtt-subscription-cqos1", true),
    ] {
        let policies = Policies::default();
        let set = policies.set(Scope::Ordinary, wish("p", pattern, number("expires", 1)));
        set.expect("is fine");
        let found = policies.of_queue(&classic(name)).policy.is_some();
        assert_eq!(found, expected, "{pattern} on {name}");
    }
    let ahead = refusal(Scope::Ordinary, wish("p", "(?=a)", number("expires", 1)));
    assert!(ahead.contains("look-around"), "{ahead}");
}

/// FEATURES A6: one policy and one operator policy, those with the highest priority.
#[test]
fn a6_the_highest_priority_applies() {
    let policies = Policies::default();
    let set = |scope, name, priority| {
        let wish = PolicyWish {
            priority,
            ..wish(name, ".*", number("max-length", 1))
        };
        policies.set(scope, wish).expect("is fine");
        let applied = policies.of_queue(&classic("q"));
        name_of(&applied.policy).map(ToOwned::to_owned)
    };
    assert_eq!(set(Scope::Ordinary, "a", 1).as_deref(), Some("a"));
    assert_eq!(set(Scope::Ordinary, "b", 2).as_deref(), Some("b"));
    assert_eq!(
        set(Scope::Ordinary, "c", 2).as_deref(),
        Some("c"),
        "the newer one"
    );
    assert_eq!(set(Scope::Ordinary, "d", -1).as_deref(), Some("c"));
    assert_eq!(
        set(Scope::Ordinary, "b", 2).as_deref(),
        Some("b"),
        "set again"
    );
    assert_eq!(
        set(Scope::Operator, "o", 9).as_deref(),
        Some("b"),
        "beside it"
    );
    let applied = policies.of_queue(&classic("q"));
    assert_eq!(name_of(&applied.operator), Some("o"));
    assert!(policies.clear(Scope::Ordinary, "b"));
    assert!(!policies.clear(Scope::Ordinary, "b"), "it is gone");
    let applied = policies.of_queue(&classic("q"));
    assert_eq!(name_of(&applied.policy), Some("c"));
}

/// FEATURES A6: what it applies to is said, and follows from its settings.
#[test]
fn a6_policies_apply_to_what_they_say() {
    use QueueKind::{Classic, Quorum, Stream};
    let applies = |apply_to, definition: Table, kind, direct| {
        let policies = Policies::default();
        let wish = PolicyWish {
            apply_to,
            ..wish("p", ".*", definition)
        };
        policies.set(Scope::Ordinary, wish).expect("is fine");
        let subject = Subject {
            name: "q",
            kind,
            direct,
        };
        let exchange = policies.of_exchange("x").policy.is_some();
        (policies.of_queue(&subject).policy.is_some(), exchange)
    };
    let bytes = || number("max-length-bytes", 1);
    for (apply_to, kind, direct, expected) in [
        ("all", Classic, false, (true, true)),
        ("queues", Classic, false, (true, false)),
        ("exchanges", Classic, false, (false, true)),
        ("classic_queues", Classic, false, (true, false)),
        ("classic_queues", Classic, true, (false, false)),
        ("classic_queues", Quorum, false, (false, false)),
        ("quorum_queues", Quorum, false, (true, false)),
        ("streams", Stream, false, (true, false)),
        ("streams", Quorum, false, (false, false)),
        ("qos0_queues", Classic, true, (true, false)),
        ("qos0_queues", Classic, false, (false, false)),
    ] {
        assert_eq!(
            applies(apply_to, bytes(), kind, direct),
            expected,
            "{apply_to} {kind:?}"
        );
    }
    let on = |definition: Table, kind| applies("all", definition, kind, false).0;
    assert!(
        !on(number("delivery-limit", 1), Classic),
        "classic queues have no such thing"
    );
    assert!(on(number("delivery-limit", 1), Quorum));
    assert!(!on(text("max-age", "1D"), Classic) && on(text("max-age", "1D"), Stream));
    assert!(!on(number("message-ttl", 1), Stream));
    let mixed = table(&[
        ("max-age", Value::from("1D")),
        ("max-length-bytes", Value::I64(1)),
    ]);
    assert!(!on(mixed, Classic), "one such setting is enough");
}

/// The terms of a queue with these arguments and policies.
fn terms(arguments: Table, policy: Option<Table>, operator: Option<Table>) -> QueueArguments {
    let asked = QueueArguments::parse(&arguments, "q", "/").expect("is fine");
    let policies = Policies::default();
    let set = |scope, definition: Option<Table>| {
        definition.map(|held| {
            let set = policies.set(scope, wish("p", ".*", held));
            set.expect("is fine")
        })
    };
    let applied = Applied {
        policy: set(Scope::Ordinary, policy),
        operator: set(Scope::Operator, operator),
    };
    effective(asked, &arguments, &applied)
}

/// FEATURES A6: of numbers the smallest counts.
#[test]
fn a6_numbers_are_the_smallest() {
    type Read = fn(&QueueArguments) -> Option<u64>;
    let keys: [(&str, Read); 4] = [
        ("expires", |terms| terms.expires_ms),
        ("message-ttl", |terms| terms.message_ttl_ms),
        ("max-length", |terms| terms.max_length),
        ("max-length-bytes", |terms| terms.max_length_bytes),
    ];
    for (key, read) in keys {
        for (argument, policy, operator, expected) in [
            (Some(5), None, None, Some(5)),
            (None, Some(5), None, Some(5)),
            (None, None, Some(5), Some(5)),
            (Some(5), Some(3), None, Some(3)),
            (Some(3), Some(5), None, Some(3)),
            (Some(5), None, Some(3), Some(3)),
            (Some(3), Some(4), Some(5), Some(3)),
            (Some(5), Some(4), Some(3), Some(3)),
            (None, Some(9), Some(3), Some(3)),
            (None, Some(3), Some(9), Some(3)),
            (None, None, None, None),
        ] {
            let own = argument.map_or_else(Table::new, |n| number(&format!("x-{key}"), n));
            let set = |held: Option<i64>| held.map(|held| number(key, held));
            let terms = terms(own, set(policy), set(operator));
            assert_eq!(
                read(&terms),
                expected,
                "{key}: {argument:?} {policy:?} {operator:?}"
            );
        }
    }
}

fn quorum(name: &str, value: Value) -> Table {
    table(&[("x-queue-type", Value::from("quorum")), (name, value)])
}

/// FEATURES A6: what happens to messages beyond the limit: the operator decides between policies,
/// the argument of a classic queue over both, the policies over a quorum queue's.
#[test]
fn a6_overflow_is_decided_by_kind() {
    let (drop, reject, dlx) = ("drop-head", "reject-publish", "reject-publish-dlx");
    let own = |word| text("x-overflow", word);
    let set = |word| Some(text("overflow", word));
    let of = |own, policy, operator| terms(own, policy, operator).overflow;
    assert_eq!(of(Table::new(), set(reject), None), Overflow::RejectPublish);
    assert_eq!(
        of(Table::new(), set(reject), set(dlx)),
        Overflow::RejectPublishDlx
    );
    assert_eq!(of(own(drop), set(reject), set(dlx)), Overflow::DropHead);
    let own = || quorum("x-overflow", Value::from(drop));
    assert_eq!(of(own(), set(reject), None), Overflow::RejectPublish);
    assert_eq!(of(own(), None, None), Overflow::DropHead);
}

/// FEATURES A6: dead letters go where the declaration says, or else the policy.
#[test]
fn a6_arguments_say_where_dead_letters_go() {
    let policy = || {
        Some(table(&[
            ("dead-letter-exchange", Value::from("p")),
            ("dead-letter-routing-key", Value::from("pk")),
        ]))
    };
    let by_policy = terms(Table::new(), policy(), None);
    assert_eq!(by_policy.dead_letter_exchange.as_deref(), Some("p"));
    assert_eq!(by_policy.dead_letter_routing_key.as_deref(), Some("pk"));
    let own = terms(text("x-dead-letter-exchange", "a"), policy(), None);
    assert_eq!(own.dead_letter_exchange.as_deref(), Some("a"));
    assert_eq!(own.dead_letter_routing_key.as_deref(), Some("pk"));
    let strategy = || Some(text("dead-letter-strategy", "at-least-once"));
    let own = quorum("x-dead-letter-strategy", Value::from("at-most-once"));
    assert!(!terms(own, strategy(), None).at_least_once);
    let none = quorum("x-max-length", Value::I64(1));
    assert!(terms(none, strategy(), None).at_least_once);
}

/// FEATURES A6: a negative delivery limit is none, whoever says it.
#[test]
fn a6_delivery_limits_are_the_smaller() {
    for (argument, policy, operator, expected) in [
        (Some(5), Some(3), None, Some(3)),
        (Some(3), Some(5), None, Some(3)),
        (Some(-1), Some(5), None, Some(5)),
        (Some(5), Some(-1), None, Some(5)),
        (None, Some(5), Some(2), Some(2)),
        (None, None, None, None),
    ] {
        let own = match argument {
            Some(limit) => quorum("x-delivery-limit", Value::I64(limit)),
            None => text("x-queue-type", "quorum"),
        };
        let set = |held: Option<i64>| held.map(|held| number("delivery-limit", held));
        let terms = terms(own, set(policy), set(operator));
        assert_eq!(
            terms.delivery_limit, expected,
            "{argument:?} {policy:?} {operator:?}"
        );
    }
}

/// FEATURES A6, A8: a policy says how much a stream keeps, whatever its declaration.
#[test]
fn a6_streams_obey_their_policy() {
    let own = table(&[
        ("x-queue-type", Value::from("stream")),
        ("x-max-age", Value::from("1D")),
        ("x-max-length-bytes", Value::I64(10)),
    ]);
    let policy = table(&[
        ("max-age", Value::from("7D")),
        ("max-length-bytes", Value::I64(100)),
    ]);
    let terms = terms(own, Some(policy), Some(number("max-length-bytes", 50)));
    assert_eq!(terms.max_age_ms, Some(7 * 24 * 60 * 60 * 1_000));
    assert_eq!(terms.max_length_bytes, Some(50));
}

/// FEATURES A6: listings tell what both policies come to.
#[test]
fn a6_definitions_are_told_together() {
    let policy = table(&[
        ("max-length", Value::I64(10)),
        ("overflow", Value::from("drop-head")),
        ("dead-letter-exchange", Value::from("x")),
        ("target-group-size", Value::I64(5)),
    ]);
    let operator = table(&[
        ("max-length", Value::I64(7)),
        ("overflow", Value::from("reject-publish")),
        ("expires", Value::I64(9)),
        ("target-group-size", Value::I64(3)),
    ]);
    let both = merge::definitions(&policy, &operator);
    for (name, value) in [
        ("max-length", Value::I64(7)),
        ("overflow", Value::from("reject-publish")),
        ("dead-letter-exchange", Value::from("x")),
        ("expires", Value::I64(9)),
        ("target-group-size", Value::I64(5)),
    ] {
        assert_eq!(both.lookup(name), Some(&value), "{name}");
    }
    assert_eq!(both.len(), 5);
}
