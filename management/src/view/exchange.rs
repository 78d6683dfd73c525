//! An exchange as a row of `list_exchanges`.

use leveret_core::exchange::Exchange;
use serde_json::{Value, json};

use super::typed_table;

/// All columns but `policy`, which this version does not have.
pub(crate) fn exchange(exchange: &Exchange) -> Value {
    let properties = exchange.properties();
    json!({
        "name": exchange.name(),
        "type": properties.kind.name(),
        "durable": properties.durable,
        "auto_delete": properties.auto_delete,
        "internal": properties.internal,
        "arguments": typed_table(&properties.arguments),
    })
}
