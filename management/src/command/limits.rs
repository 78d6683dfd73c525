//! Limits of vhosts and users.

use leveret_core::field::{Table, Value as Field};
use leveret_core::quota::{Limited, Limits};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::policies::parse;
use super::{done, existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct OfVHost {
    vhost: String,
    #[serde(default)]
    global: bool,
}

#[derive(Deserialize)]
pub(super) struct SetOfVHost {
    vhost: String,
    /// JSON as text, as it was typed.
    definition: String,
}

#[derive(Deserialize)]
pub(super) struct SetOfUser {
    username: String,
    /// JSON as text, as it was typed.
    definition: String,
}

#[derive(Deserialize)]
pub(super) struct ClearOfUser {
    username: String,
    /// A limit's name, or `all`.
    limit: String,
}

#[derive(Deserialize)]
pub(super) struct OfUser {
    user: Option<String>,
    #[serde(default)]
    global: bool,
}

/// Limits as the JSON that they were set with.
pub(super) fn object(limits: &Limits) -> Value {
    let entries = limits
        .iter()
        .map(|(name, max)| (name.to_owned(), json!(max)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn table(definition: &str) -> Result<Table, Failure> {
    match parse(definition)? {
        Field::Table(table) => Ok(table),
        _ => Err(Failure::new(
            Code::Unavailable,
            "limits must be a dictionary",
        )),
    }
}

/// Sets a vhost's limits, from JSON that was parsed.
pub(super) fn set_parsed(context: &Context, vhost: &str, table: &Table) -> Result<Answer, Failure> {
    let limits = Limits::read(Limited::VHost, table).map_err(|why| {
        let text = format!("Validation failed\n\n{why}\n");
        Failure::new(Code::Unavailable, text)
    })?;
    context.broker.set_vhost_limits(vhost, limits)?;
    Ok(done())
}

pub(super) fn set_of_vhost(context: &Context, wanted: &SetOfVHost) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    set_parsed(context, &wanted.vhost, &table(&wanted.definition)?)
}

pub(super) fn clear_of_vhost(context: &Context, wanted: &OfVHost) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    if vhost.limits().is_empty() {
        return Err(Failure::new(Code::Unavailable, "Parameter does not exist"));
    }
    let broker = &context.broker;
    broker.set_vhost_limits(&wanted.vhost, Limits::default())?;
    Ok(done())
}

/// One vhost's as text; all vhosts' as rows.
pub(super) fn list_of_vhosts(context: &Context, wanted: &OfVHost) -> Result<Answer, Failure> {
    if !wanted.global {
        let limits = existing_vhost(context, &wanted.vhost)?.limits();
        let text = if limits.is_empty() {
            String::new()
        } else {
            object(&limits).to_string()
        };
        return Ok(Answer::One(json!({ "limits": text })));
    }
    let vhosts = context.broker.vhosts().into_iter();
    let vhosts = vhosts.filter(|vhost| !vhost.limits().is_empty());
    Ok(rows(vhosts.map(
        |vhost| json!({ "vhost": vhost.name(), "limits": object(&vhost.limits()).to_string() }),
    )))
}

fn no_such_user(name: &str) -> Failure {
    // RabbitMQ's term, since scripts match on it.
    Failure::new(Code::Unavailable, format!("{{:no_such_user, {name:?}}}"))
}

fn limits_of(context: &Context, user: &str) -> Result<Limits, Failure> {
    let user = context
        .broker
        .user(user)
        .ok_or_else(|| no_such_user(user))?;
    Ok(user.limits.clone())
}

/// Limits that are not named stay.
pub(super) fn set_of_user(context: &Context, wanted: &SetOfUser) -> Result<Answer, Failure> {
    limits_of(context, &wanted.username)?;
    let limits = Limits::read(Limited::User, &table(&wanted.definition)?)
        .map_err(|why| Failure::new(Code::Unavailable, why))?;
    let broker = &context.broker;
    broker.update_user_limits(&wanted.username, |held| *held = limits.or(held))?;
    Ok(done())
}

pub(super) fn clear_of_user(context: &Context, wanted: &ClearOfUser) -> Result<Answer, Failure> {
    limits_of(context, &wanted.username)?;
    let broker = &context.broker;
    broker.update_user_limits(&wanted.username, |held| match wanted.limit.as_str() {
        "all" => *held = Limits::default(),
        one => held.remove(one),
    })?;
    Ok(done())
}

/// One user's as text, `guest`'s if none is named, as in RabbitMQ; all users' as rows.
pub(super) fn list_of_users(context: &Context, wanted: &OfUser) -> Result<Answer, Failure> {
    if !wanted.global {
        let user = wanted.user.as_deref().unwrap_or("guest");
        let limits = object(&limits_of(context, user)?).to_string();
        return Ok(Answer::One(json!({ "limits": limits })));
    }
    let users = context.broker.list_users().into_iter();
    let held = |name: &str| context.broker.user(name).map(|user| user.limits.clone());
    let rows_of: Vec<Value> = users
        .filter_map(|user| {
            let limits = held(&user.name).filter(|limits| !limits.is_empty())?;
            Some(json!({ "user": user.name, "limits": object(&limits).to_string() }))
        })
        .collect();
    Ok(rows(rows_of.into_iter()))
}
