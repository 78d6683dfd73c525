//! How a queue's arguments, its policy and its operator policy go together.
//!
//! First the two policies, setting by setting; then the outcome and the arguments, as each kind of
//! queue of RabbitMQ does it:
//!
//! | Setting | classic | quorum | stream |
//! |---|---|---|---|
//! | numbers | the smaller | the smaller | the policy's |
//! | `overflow` | the argument's | the policy's | |
//! | dead letters | the argument's | the argument's | |
//! | `delivery-limit` | | the smaller; the greater if one is negative | |

use super::Applied;
use super::keys::{Both, KEYS, Settings};
use crate::field::{Table, Value};
use crate::queue::{QueueArguments, QueueKind};

/// The smaller of those that are there.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Two policies as one.
pub(super) fn settings(policy: Settings, operator: Settings) -> Settings {
    Settings {
        expires_ms: least(policy.expires_ms, operator.expires_ms),
        message_ttl_ms: least(policy.message_ttl_ms, operator.message_ttl_ms),
        max_length: least(policy.max_length, operator.max_length),
        max_length_bytes: least(policy.max_length_bytes, operator.max_length_bytes),
        overflow: operator.overflow.or(policy.overflow),
        delivery_limit: least(policy.delivery_limit, operator.delivery_limit),
        // The rest is not the operator's to set.
        ..policy
    }
}

/// Two definitions as one, for listings.
pub(super) fn definitions(policy: &Table, operator: &Table) -> Table {
    let mut merged = Table::new();
    for key in KEYS {
        let value = match (policy.lookup(key.name), operator.lookup(key.name)) {
            (Some(one), Some(other)) => together(key.both, one, other),
            (one, other) => one.or(other),
        };
        if let Some(value) = value {
            // Our own names are far below the limit of 255 bytes.
            let _ = merged.insert(key.name, value.clone());
        }
    }
    merged
}

fn together<'a>(both: Both, policy: &'a Value, operator: &'a Value) -> Option<&'a Value> {
    let smaller = policy.as_integer() <= operator.as_integer();
    Some(match both {
        Both::Least if smaller => policy,
        Both::Most if !smaller => policy,
        Both::Never => policy,
        Both::Least | Both::Most | Both::Operator => operator,
    })
}

/// What a queue does: `asked` are its arguments, and `declared` the table that they were read from.
pub(crate) fn effective(
    asked: QueueArguments,
    declared: &Table,
    applied: &Applied,
) -> QueueArguments {
    if applied.is_nothing() {
        return asked;
    }
    let policy = applied.settings();
    match asked.kind {
        QueueKind::Classic | QueueKind::Quorum => list(asked, declared, policy),
        QueueKind::Stream => QueueArguments {
            max_length_bytes: policy.max_length_bytes.or(asked.max_length_bytes),
            max_age_ms: policy.max_age_ms.or(asked.max_age_ms),
            segment_bytes: policy.segment_bytes.or(asked.segment_bytes),
            consumer_timeout_ms: policy.consumer_timeout_ms.or(asked.consumer_timeout_ms),
            ..asked
        },
    }
}

fn list(asked: QueueArguments, declared: &Table, policy: Settings) -> QueueArguments {
    let says = |name| declared.lookup(name).is_some();
    let own_overflow = asked.kind == QueueKind::Classic && says("x-overflow");
    let own_strategy = says("x-dead-letter-strategy");
    QueueArguments {
        expires_ms: least(asked.expires_ms, policy.expires_ms),
        message_ttl_ms: least(asked.message_ttl_ms, policy.message_ttl_ms),
        max_length: least(asked.max_length, policy.max_length),
        max_length_bytes: least(asked.max_length_bytes, policy.max_length_bytes),
        overflow: policy
            .overflow
            .filter(|_| !own_overflow)
            .unwrap_or(asked.overflow),
        dead_letter_exchange: asked.dead_letter_exchange.or(policy.dead_letter_exchange),
        dead_letter_routing_key: asked
            .dead_letter_routing_key
            .or(policy.dead_letter_routing_key),
        at_least_once: policy
            .at_least_once
            .filter(|_| !own_strategy)
            .unwrap_or(asked.at_least_once),
        delivery_limit: match (asked.delivery_limit, policy.delivery_limit) {
            // A negative one is no limit.
            (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
            (one, other) => least(one, other),
        },
        consumer_timeout_ms: least(asked.consumer_timeout_ms, policy.consumer_timeout_ms),
        ..asked
    }
}
