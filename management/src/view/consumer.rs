//! A consumer as a row of `list_consumers`.

use leveret_core::queue::ConsumerView;
use serde_json::{Value, json};

use super::{pid, typed_table};

/// All columns.
pub(crate) fn consumer(view: &ConsumerView, single: bool) -> Value {
    let status = match (single, view.active) {
        (false, _) => "up",
        (true, true) => "single_active",
        (true, false) => "waiting",
    };
    let arguments = view.arguments.as_ref().map(|kept| kept.to_table());
    json!({
        "queue_name": view.queue,
        "channel_pid": pid(view.connection),
        "consumer_tag": view.tag,
        "ack_required": view.ack_required,
        "prefetch_count": view.prefetch,
        "active": view.active,
        "activity_status": status,
        "arguments": typed_table(&arguments.unwrap_or_default()),
    })
}
