//! What users may do in vhosts, and under which topics.

use serde::Deserialize;
use serde_json::json;

use super::{InVHost, check_text, check_user_and_vhost, done, existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct OfUser {
    username: String,
}

#[derive(Deserialize)]
pub(super) struct Set {
    vhost: String,
    username: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
pub(super) struct Clear {
    vhost: String,
    username: String,
}

#[derive(Deserialize)]
pub(super) struct SetTopic {
    vhost: String,
    username: String,
    exchange: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
pub(super) struct ClearTopic {
    vhost: String,
    username: String,
    exchange: Option<String>,
}

pub(super) fn set(context: &Context, wanted: &Set) -> Result<Answer, Failure> {
    check_user_and_vhost(context, &wanted.username, &wanted.vhost)?;
    let patterns = [&*wanted.configure, &*wanted.write, &*wanted.read];
    for pattern in patterns {
        check_text("pattern", pattern)?;
    }
    context
        .broker
        .set_permissions(&wanted.username, &wanted.vhost, patterns)?;
    Ok(done())
}

pub(super) fn clear(context: &Context, wanted: &Clear) -> Result<Answer, Failure> {
    check_user_and_vhost(context, &wanted.username, &wanted.vhost)?;
    context
        .broker
        .clear_permissions(&wanted.username, &wanted.vhost)?;
    Ok(done())
}

pub(super) fn list(context: &Context, wanted: &InVHost) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    let vhost = wanted.vhost.clone();
    let held = context
        .broker
        .list_permissions()
        .into_iter()
        .filter(move |row| row.vhost == vhost);
    Ok(rows(held.map(|row| {
        let (configure, write, read) = (row.configure, row.write, row.read);
        json!({ "user": row.user, "configure": configure, "write": write, "read": read })
    })))
}

pub(super) fn list_of_user(context: &Context, wanted: &OfUser) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    let user = wanted.username.clone();
    let held = context
        .broker
        .list_permissions()
        .into_iter()
        .filter(move |row| row.user == user);
    Ok(rows(held.map(|row| {
        let (configure, write, read) = (row.configure, row.write, row.read);
        json!({ "vhost": row.vhost, "configure": configure, "write": write, "read": read })
    })))
}

pub(super) fn set_topic(context: &Context, wanted: &SetTopic) -> Result<Answer, Failure> {
    check_user_and_vhost(context, &wanted.username, &wanted.vhost)?;
    let patterns = [&*wanted.write, &*wanted.read];
    for text in [&*wanted.exchange, &*wanted.write, &*wanted.read] {
        check_text("pattern", text)?;
    }
    let (user, vhost) = (&wanted.username, &wanted.vhost);
    context
        .broker
        .set_topic_permissions(user, vhost, &wanted.exchange, patterns)?;
    Ok(done())
}

pub(super) fn clear_topic(context: &Context, wanted: &ClearTopic) -> Result<Answer, Failure> {
    let (user, vhost) = (&wanted.username, &wanted.vhost);
    check_user_and_vhost(context, user, vhost)?;
    context
        .broker
        .clear_topic_permissions(user, vhost, wanted.exchange.as_deref())?;
    Ok(done())
}

pub(super) fn list_topic(context: &Context, wanted: &InVHost) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.vhost)?;
    let vhost = wanted.vhost.clone();
    let held = context.broker.list_topic_permissions().into_iter();
    Ok(rows(held.filter(move |row| row.vhost == vhost).map(
        |row| {
            let (exchange, write, read) = (row.exchange, row.write, row.read);
            json!({ "user": row.user, "exchange": exchange, "write": write, "read": read })
        },
    )))
}

pub(super) fn list_topic_of_user(context: &Context, wanted: &OfUser) -> Result<Answer, Failure> {
    check_user(context, &wanted.username)?;
    let user = wanted.username.clone();
    let held = context.broker.list_topic_permissions().into_iter();
    Ok(rows(held.filter(move |row| row.user == user).map(|row| {
        let (exchange, write, read) = (row.exchange, row.write, row.read);
        json!({ "vhost": row.vhost, "exchange": exchange, "write": write, "read": read })
    })))
}

/// Listings answer 69 where changes answer 67; the words are ours, RabbitMQ prints a term.
fn check_user(context: &Context, name: &str) -> Result<(), Failure> {
    match context.broker.user(name) {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            Code::Unavailable,
            format!("User {name} does not exist"),
        )),
    }
}
