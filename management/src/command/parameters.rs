//! Runtime parameters: global ones such as `mqtt_port_to_vhost_mapping`, and those of vhosts, which
//! are another way to see and set limits and operator policies, as in RabbitMQ.

use leveret_core::field::Value as Field;
use leveret_core::policy::Scope;
use leveret_core::quota::Limits;
use serde::Deserialize;
use serde_json::json;

use super::{done, existing_vhost, limits, policies, rows};
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

#[derive(Deserialize)]
pub(super) struct SetInVHost {
    vhost: String,
    component: String,
    name: String,
    /// JSON as text, as it was typed.
    value: String,
}

#[derive(Deserialize)]
pub(super) struct ClearInVHost {
    vhost: String,
    component: String,
    name: String,
}

#[derive(Deserialize)]
pub(super) struct InVHost {
    vhost: String,
}

/// The component and the name of a vhost's limits.
const LIMITS: (&str, &str) = ("vhost-limits", "limits");

/// The component of operator policies.
const OPERATOR: &str = "operator_policy";

pub(super) fn set_in_vhost(context: &Context, wanted: &SetInVHost) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    let refused = |text: String| Err(Failure::new(Code::Unavailable, text));
    let value = || policies::parse(&wanted.value);
    let (component, name) = (wanted.component.as_str(), wanted.name.as_str());
    if component == "policy" {
        return refused("policies may not be set using this method".to_owned());
    }
    if component == OPERATOR {
        return policies::set_as_parameter(context, &wanted.vhost, name, &value()?);
    }
    if (component, name) != LIMITS {
        return refused(format!(
            "Validation failed\n\ncomponent {component} not found\n"
        ));
    }
    match value()? {
        Field::Table(table) => limits::set_parsed(context, &wanted.vhost, &table),
        _ => refused(format!("Validation failed\n\n{name} not a list\n")),
    }
}

pub(super) fn clear_in_vhost(context: &Context, wanted: &ClearInVHost) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    let refused = |text| Err(Failure::new(Code::Unavailable, text));
    let (component, name) = (wanted.component.as_str(), wanted.name.as_str());
    if component == "policy" {
        return refused("policies may not be cleared using this method");
    }
    if component == OPERATOR {
        return policies::clear_as_parameter(context, &wanted.vhost, name);
    }
    if (component, name) != LIMITS || vhost.limits().is_empty() {
        return refused("Parameter does not exist");
    }
    context
        .broker
        .set_vhost_limits(&wanted.vhost, Limits::default())?;
    Ok(done())
}

pub(super) fn list_in_vhost(context: &Context, wanted: &InVHost) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    let limits = Some(vhost.limits()).filter(|limits| !limits.is_empty());
    let limits = limits.map(|limits| {
        let value = limits::object(&limits).to_string();
        json!({ "component": LIMITS.0, "name": LIMITS.1, "value": value })
    });
    let operator = vhost.policies(Scope::Operator).into_iter().map(|policy| {
        let value = policies::as_parameter(&policy).to_string();
        json!({ "component": OPERATOR, "name": policy.name(), "value": value })
    });
    Ok(rows(limits.into_iter().chain(operator)))
}
