//! Global runtime parameters: `mqtt_port_to_vhost_mapping` and its like.

use serde::Deserialize;
use serde_json::json;

use super::{done, rows};
use crate::context::Context;
use crate::parameter;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct Set {
    name: String,
    /// JSON as text, as it was typed.
    value: String,
}

#[derive(Deserialize)]
pub(super) struct Clear {
    name: String,
}

pub(super) fn set(context: &Context, wanted: &Set) -> Result<Answer, Failure> {
    let value = parameter::parse(&wanted.value)
        .map_err(|why| Failure::new(Code::Unavailable, why.to_string()))?;
    context.broker.set_global_parameter(&wanted.name, value)?;
    Ok(done())
}

pub(super) fn clear(context: &Context, wanted: &Clear) -> Result<Answer, Failure> {
    context.broker.clear_global_parameter(&wanted.name)?;
    Ok(done())
}

/// The values as JSON text, which is how RabbitMQ lists them.
pub(super) fn list(context: &Context) -> Answer {
    let held = context.broker.list_global_parameters().into_iter();
    rows(held.map(
        |(name, value)| json!({ "name": name, "value": parameter::to_json(&value).to_string() }),
    ))
}
