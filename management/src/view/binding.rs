//! A binding as a row of `list_bindings`.

use leveret_core::exchange::Binding;
use serde_json::{Value, json};

use super::typed_table;

/// A binding that somebody made.
pub(crate) fn binding(binding: &Binding) -> Value {
    let view = binding.view();
    json!({
        "source_name": view.source,
        "source_kind": "exchange",
        "destination_name": view.destination,
        "destination_kind": view.destination_kind,
        "routing_key": view.routing_key,
        "arguments": typed_table(&view.arguments),
    })
}

/// The binding of every queue to the default exchange, under its own name.
pub(crate) fn default_binding(queue: &str) -> Value {
    json!({
        "source_name": "",
        "source_kind": "exchange",
        "destination_name": queue,
        "destination_kind": "queue",
        "routing_key": queue,
        "arguments": [],
    })
}
