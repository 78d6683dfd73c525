//! Requests and their answers across the protocols: what an AMQP request says for an MQTT client to
//! answer to, and the other way round.
//!
//! | request | who answers sees | and its answer goes to |
//! |---|---|---|
//! | AMQP, reply_to `q` | Response Topic `$amqp/reply-to/q` | queue `q`, by the default exchange |
//! | MQTT, Response Topic `a/b` | reply_to `amq.mqtt.reply-to.a.b` | topic `a/b` |

use leveret_core::exchange::Memo;
use leveret_core::key::Form;
use leveret_core::link::Published;
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::refusal::Refusal;
use leveret_core::replies::{MQTT_REPLY_PREFIX, REPLY_PREFIX};
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use crate::limits::STRING_BYTES_MAX;
use crate::topic;

/// What topics begin with that stand for queues.
const TOPIC_PREFIX: &str = "$amqp/reply-to/";

static AMQP: AmqpOrigin = AmqpOrigin;

/// The queue that a topic stands for.
pub(crate) fn queue_of(topic: &str) -> Option<&str> {
    topic
        .strip_prefix(TOPIC_PREFIX)
        .filter(|queue| !queue.is_empty())
}

/// Publishes to such a queue, through the default exchange. That asks for permission to write to
/// it, and, unless nobody can guess the queue's name, to publish to the topic: an MQTT client
/// must not reach by this what its topics keep it from.
///
/// # Errors
/// As [`Core::publish`].
pub(crate) fn answer<C: Core>(
    core: &C,
    turn: &mut Turn,
    memo: &mut Memo,
    message: &MessageRef<'_>,
    queue: &str,
) -> Result<Published, Refusal> {
    if !queue.starts_with(REPLY_PREFIX) {
        core.may_publish(message.exchange, message.key, Form::Slashed)?;
    }
    let mut properties = Vec::new();
    let message = to_queue(message, queue, &mut properties);
    core.publish(turn, memo, &message)
}

/// The message as AMQP has it, since queues have names and not topics. `properties` is only a
/// buffer.
fn to_queue<'a>(
    message: &MessageRef<'a>,
    queue: &'a str,
    properties: &'a mut Vec<u8>,
) -> MessageRef<'a> {
    let origin = message.head.origin;
    origin.append_basic_properties(message, properties);
    MessageRef {
        head: Head {
            origin: &AMQP,
            form: Form::Dotted,
            retain: false,
            ..message.head
        },
        exchange: "",
        key: queue.as_bytes(),
        properties,
        ..*message
    }
}

/// What AMQP is told to answer to; `None` if that would be too long for it.
pub(crate) fn name_of(topic: &str) -> Option<String> {
    if let Some(queue) = queue_of(topic) {
        return Some(queue.to_owned()).filter(|queue| queue.len() <= 255);
    }
    let mut key = String::new();
    topic::translate::to_key(topic, &mut key);
    Some(format!("{MQTT_REPLY_PREFIX}{key}")).filter(|name| name.len() <= 255)
}

/// The Response Topic for what AMQP answers to.
pub(crate) fn topic_of(reply_to: &str) -> Option<String> {
    match reply_to.strip_prefix(MQTT_REPLY_PREFIX) {
        Some(key) => topic_of_key(key),
        None if reply_to.is_empty() => None,
        None => usable(format!("{TOPIC_PREFIX}{reply_to}")),
    }
}

/// A dotted key as a topic to answer to, if it is one.
pub(crate) fn topic_of_key(key: &str) -> Option<String> {
    let mut topic = String::new();
    topic::translate::to_topic(key, &mut topic);
    usable(topic)
}

fn usable(topic: String) -> Option<String> {
    let is_topic = !topic.is_empty() && !topic.contains(['+', '#', '\0']);
    (is_topic && topic.len() <= STRING_BYTES_MAX).then_some(topic)
}
