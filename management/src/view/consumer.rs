//! A consumer as a row of `list_consumers`.

use leveret_core::queue::ConsumerView;
use serde_json::{Value, json};

use super::pid;

/// All columns; arguments of consumers are not kept by the core.
pub(crate) fn consumer(view: &ConsumerView) -> Value {
    json!({
        "queue_name": view.queue,
        "channel_pid": pid(view.connection),
        "consumer_tag": view.tag,
        "ack_required": view.ack_required,
        "prefetch_count": view.prefetch,
        "active": true,
        "activity_status": "up",
        "arguments": [],
    })
}
