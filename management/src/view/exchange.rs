//! An exchange as a row of `list_exchanges`.

use leveret_core::exchange::Exchange;
use leveret_core::policy::Policy;
use leveret_core::vhost::VHost;
use serde_json::{Value, json};

use super::typed_table;

/// All columns.
pub(crate) fn exchange(vhost: &VHost, exchange: &Exchange) -> Value {
    let properties = exchange.properties();
    let policies = vhost.policies_of_exchange(exchange.name());
    json!({
        "name": exchange.name(),
        "type": properties.kind.name(),
        "durable": properties.durable,
        "auto_delete": properties.auto_delete,
        "internal": properties.internal,
        "arguments": typed_table(&properties.arguments),
        "policy": policies.policy.as_deref().map(Policy::name),
    })
}
