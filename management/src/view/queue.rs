//! A queue as a row of `list_queues`.

use std::sync::Arc;

use leveret_core::policy::Policy;
use leveret_core::queue::Queue;
use serde_json::{Value, json};

use super::{pid, typed_table};
use crate::parameter::object;

/// The columns that this version knows of a queue; what it does not know is null.
pub(crate) fn queue(queue: &Queue) -> Value {
    let view = queue.view();
    let policy = |held: &Option<Arc<Policy>>| held.as_ref().map(|held| held.name().to_owned());
    let definition = view.applied.definition();
    let definition = (!definition.is_empty()).then(|| object(&definition));
    let connection_of =
        |held: &Option<(u64, String)>| held.as_ref().map(|(connection, _)| pid(*connection));
    let tag_of = |held: &Option<(u64, String)>| held.as_ref().map(|(_, tag)| tag.clone());
    // The core counts the bytes that wait; those of deliveries are known where there are none.
    let all_wait = view.unacked == 0;
    let in_memory = all_wait && view.paged == 0;
    let messages = view.ready + view.unacked;
    let none_persistent = !view.durable || messages == 0;
    json!({
        "name": view.name,
        "durable": view.durable,
        "auto_delete": view.auto_delete,
        "arguments": typed_table(&view.arguments),
        "policy": policy(&view.applied.policy),
        "operator_policy": policy(&view.applied.operator),
        "effective_policy_definition": definition,
        "pid": pid(queue.id()),
        "owner_pid": view.exclusive.map(pid),
        "exclusive": view.exclusive.is_some(),
        "exclusive_consumer_pid": connection_of(&view.exclusive_consumer),
        "exclusive_consumer_tag": tag_of(&view.exclusive_consumer),
        "single_active_consumer_pid": connection_of(&view.single),
        "single_active_consumer_tag": tag_of(&view.single),
        "messages_ready": view.ready,
        "messages_unacknowledged": view.unacked,
        "messages": messages,
        "messages_ready_ram": view.ready - view.paged,
        "messages_unacknowledged_ram": view.unacked,
        "messages_ram": view.ready - view.paged + view.unacked,
        "messages_paged_out": view.paged,
        "messages_persistent": none_persistent.then_some(0),
        "message_bytes": all_wait.then_some(view.ready_bytes),
        "message_bytes_ready": view.ready_bytes,
        "message_bytes_unacknowledged": all_wait.then_some(0),
        "message_bytes_ram": in_memory.then_some(view.ready_bytes),
        "message_bytes_persistent": none_persistent.then_some(0),
        "messages_dropped": view.losses.total(),
        "consumers": view.consumers,
        "state": "running",
        "type": view.kind,
    })
}
