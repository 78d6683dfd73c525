//! The arguments of a queue that mean something here, validated as RabbitMQ validates them.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::field::{Table, Value};
use crate::limits::TTL_MS_MAX;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;

/// What a queue's arguments ask for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueArguments {
    /// `x-expires`: milliseconds without use after which the queue goes.
    pub expires_ms: Option<u64>,
    /// `x-message-ttl`: milliseconds after which a waiting message goes.
    pub message_ttl_ms: Option<u64>,
    /// `x-max-length`: ready messages; the oldest go first.
    pub max_length: Option<u64>,
}

/// The arguments of a declaration, and what they ask for.
pub(crate) struct Given {
    pub(crate) table: Table,
    pub(crate) parsed: QueueArguments,
}

/// The arguments that were given last: queues that are declared alike in a row, as those of MQTT
/// sessions are, share theirs.
#[derive(Default)]
pub(crate) struct Alike(Mutex<Weak<Given>>);

impl Alike {
    /// The arguments for a queue to keep; nothing if there are none.
    pub(crate) fn share(&self, table: &Table, parsed: QueueArguments) -> Option<Arc<Given>> {
        if table.is_empty() {
            return None;
        }
        let mut last = self.0.lock();
        if let Some(held) = last.upgrade()
            && held.table == *table
        {
            return Some(held);
        }
        let table = table.clone();
        let given = Arc::new(Given { table, parsed });
        *last = Arc::downgrade(&given);
        Some(given)
    }
}

/// Arguments that RabbitMQ serves and this version does not: refused, since ignoring them would
/// lose messages that their owner counts on.
const NOT_SERVED: [&str; 12] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-max-age",
    "x-max-length-bytes",
    "x-max-priority",
    "x-single-active-consumer",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-consumer-timeout",
    "x-initial-cluster-size",
];

impl QueueArguments {
    /// Reads the arguments of the declaration of `queue` in `vhost`.
    ///
    /// # Errors
    /// 406 for a value that RabbitMQ refuses, 540 for an argument that only RabbitMQ serves.
    pub fn parse(arguments: &Table, queue: &str, vhost: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for (name, value) in arguments.iter() {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let refuse = |why: String| invalid(name, queue, vhost, &why);
            match name {
                "x-expires" => {
                    let ms = number(value, TTL_MS_MAX).map_err(refuse)?;
                    if ms == 0 {
                        return Err(refuse("{value_zero,0}".to_owned()));
                    }
                    parsed.expires_ms = Some(ms);
                }
                "x-message-ttl" => {
                    parsed.message_ttl_ms = Some(number(value, TTL_MS_MAX).map_err(refuse)?);
                }
                "x-max-length" => {
                    parsed.max_length = Some(number(value, u64::MAX).map_err(refuse)?);
                }
                "x-overflow" => match value.as_str() {
                    Some("drop-head") => {}
                    _ => return Err(not_served(name)),
                },
                "x-queue-type" => match value.as_str() {
                    Some("classic") => {}
                    Some("quorum" | "stream") => return Err(not_served(name)),
                    _ => {
                        return Err(Refusal::precondition(format!(
                            "invalid arg 'x-queue-type' for queue '{queue}' in vhost '{vhost}'"
                        )));
                    }
                },
                other if NOT_SERVED.contains(&other) => return Err(not_served(other)),
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn not_served(name: &str) -> Refusal {
    Refusal::new(
        ReplyCode::NotImplemented,
        format!("queue argument '{name}' with this value is not served by this version"),
    )
}

fn invalid(name: &str, queue: &str, vhost: &str, why: &str) -> Refusal {
    Refusal::precondition(format!(
        "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
    ))
}

/// A whole number from 0 to `max`, with RabbitMQ's words for what is wrong with it.
fn number(value: &Value, max: u64) -> Result<u64, String> {
    let Some(number) = value.as_integer() else {
        return Err("{unacceptable_type,non_integer}".to_owned());
    };
    match u64::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        Ok(_) => Err(format!("{{value_too_large,{number}}}")),
        Err(_) => Err(format!("{{value_negative,{number}}}")),
    }
}
