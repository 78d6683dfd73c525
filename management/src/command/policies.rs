//! Policies and operator policies.

use leveret_core::field::Value as Field;
use leveret_core::policy::{Policy, PolicyWish, Scope};
use leveret_core::turn::Turn;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{done, existing_vhost, rows};
use crate::context::Context;
use crate::parameter;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct Set {
    vhost: String,
    name: String,
    pattern: String,
    /// JSON as text, as it was typed.
    definition: String,
    priority: Option<String>,
    apply_to: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Clear {
    vhost: String,
    name: String,
}

#[derive(Deserialize)]
pub(super) struct InVHost {
    vhost: String,
}

pub(super) fn set(context: &Context, scope: Scope, wanted: &Set) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    let priority = wanted.priority.as_deref().unwrap_or("0");
    let priority = priority.parse().map_err(|_| {
        let text = format!("{priority} priority must be a number");
        Failure::new(Code::Usage, text)
    })?;
    let Field::Table(definition) = parse(&wanted.definition)? else {
        let text = "Validation failed\n\ndefinition must be a dictionary\n";
        return Err(Failure::new(Code::Unavailable, text));
    };
    let wish = PolicyWish {
        name: &wanted.name,
        pattern: &wanted.pattern,
        apply_to: wanted.apply_to.as_deref().unwrap_or("all"),
        priority,
        definition,
    };
    change(context, |turn| {
        let broker = &context.broker;
        broker.set_policy(turn, &wanted.vhost, scope, wish)
    })
}

pub(super) fn clear(context: &Context, scope: Scope, wanted: &Clear) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    change(context, |turn| {
        let broker = &context.broker;
        broker.clear_policy(turn, &wanted.vhost, scope, &wanted.name)
    })
}

/// A change of policies: what queues give up is delivered before it is answered.
fn change(
    context: &Context,
    make: impl FnOnce(&mut Turn) -> Result<(), leveret_core::refusal::Refusal>,
) -> Result<Answer, Failure> {
    let mut turn = Turn::new();
    turn.now = (context.clock)();
    let made = make(&mut turn);
    turn.ring();
    made?;
    Ok(done())
}

/// In RabbitMQ's order: those that win last.
pub(super) fn list(context: &Context, scope: Scope, wanted: &InVHost) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    let mut policies = vhost.policies(scope);
    policies.reverse();
    let name = wanted.vhost.clone();
    Ok(rows(policies.into_iter().map(move |policy| {
        json!({
            "vhost": name,
            "name": policy.name(),
            "pattern": policy.pattern(),
            "apply-to": policy.apply_to().name(),
            "definition": parameter::object(policy.definition()).to_string(),
            "priority": policy.priority(),
        })
    })))
}

/// Sets an operator policy as the parameter that it is in RabbitMQ.
pub(super) fn set_as_parameter(
    context: &Context,
    vhost: &str,
    name: &str,
    value: &Field,
) -> Result<Answer, Failure> {
    let invalid = |text: String| {
        let text = format!("Validation failed\n\n{text}\n");
        Failure::new(Code::Unavailable, text)
    };
    let Field::Table(table) = value else {
        return Err(invalid(format!("{name} not a list")));
    };
    let missing = |key: &str| invalid(format!("Key \"{key}\" not found in {name}"));
    let text = |key: &str| table.lookup(key).and_then(Field::as_str);
    let definition = match table.lookup("definition") {
        Some(Field::Table(definition)) => definition.clone(),
        _ => return Err(missing("definition")),
    };
    let priority = table.lookup("priority").and_then(Field::as_integer);
    let wish = PolicyWish {
        name,
        pattern: text("pattern").ok_or_else(|| missing("pattern"))?,
        apply_to: text("apply-to").unwrap_or("all"),
        priority: priority.ok_or_else(|| missing("priority"))?,
        definition,
    };
    change(context, |turn| {
        let broker = &context.broker;
        broker.set_policy(turn, vhost, Scope::Operator, wish)
    })
}

/// Clears an operator policy as the parameter that it is in RabbitMQ.
pub(super) fn clear_as_parameter(
    context: &Context,
    vhost: &str,
    name: &str,
) -> Result<Answer, Failure> {
    change(context, |turn| {
        let broker = &context.broker;
        broker.clear_policy(turn, vhost, Scope::Operator, name)
    })
}

/// The value of an operator policy as a parameter.
pub(super) fn as_parameter(policy: &Policy) -> Value {
    let mut value = Map::new();
    value.insert("pattern".to_owned(), json!(policy.pattern()));
    let definition = parameter::object(policy.definition());
    value.insert("definition".to_owned(), definition);
    value.insert("priority".to_owned(), json!(policy.priority()));
    value.insert("apply-to".to_owned(), json!(policy.apply_to().name()));
    Value::Object(value)
}

pub(super) fn parse(text: &str) -> Result<Field, Failure> {
    parameter::parse(text).map_err(|why| Failure::new(Code::Unavailable, why.to_string()))
}
