//! Queues: listing, purging, deleting.

use serde::Deserialize;
use serde_json::json;

use super::{existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};
use crate::view;

#[derive(Deserialize)]
pub(super) struct Purge {
    vhost: String,
    queue: String,
}

#[derive(Deserialize)]
pub(super) struct Delete {
    vhost: String,
    queue: String,
    #[serde(default)]
    if_unused: bool,
    #[serde(default)]
    if_empty: bool,
}

#[derive(Deserialize)]
pub(super) struct List {
    vhost: String,
    /// Only queues whose node is down: there is one node, and it answers.
    #[serde(default)]
    offline: bool,
}

pub(super) fn list(context: &Context, wanted: &List) -> Result<Answer, Failure> {
    let mut queues = existing_vhost(context, &wanted.vhost)?.queues();
    if wanted.offline {
        queues.clear();
    }
    Ok(rows(queues.into_iter().map(|queue| view::queue(&queue))))
}

pub(super) fn purge(context: &Context, wanted: &Purge) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    if vhost.queue(&wanted.queue).is_none() {
        return Err(Failure::new(Code::Unavailable, "not_found"));
    }
    let messages = context
        .broker
        .owner_link(&vhost)
        .queue_purge(&wanted.queue)?;
    Ok(Answer::One(json!({ "messages": messages })))
}

pub(super) fn delete(context: &Context, wanted: &Delete) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.vhost)?;
    if vhost.queue(&wanted.queue).is_none() {
        return Err(Failure::new(Code::Usage, "Queue not found"));
    }
    let link = context.broker.owner_link(&vhost);
    let messages = link.queue_delete(&wanted.queue, wanted.if_unused, wanted.if_empty)?;
    Ok(Answer::One(json!({ "messages": messages })))
}
