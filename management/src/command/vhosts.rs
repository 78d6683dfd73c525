//! Virtual hosts.

use leveret_core::turn::Turn;
use serde::Deserialize;
use serde_json::json;

use super::{done, existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Failure};

#[derive(Deserialize)]
pub(super) struct NamedVHost {
    name: String,
}

pub(super) fn list(context: &Context) -> Answer {
    let vhosts = context.broker.vhosts().into_iter();
    rows(vhosts.map(|vhost| json!({ "name": vhost.name(), "tracing": false, "tags": [] })))
}

/// Adding what is there is no error, as in RabbitMQ.
pub(super) fn add(context: &Context, wanted: &NamedVHost) -> Result<Answer, Failure> {
    if context.broker.vhost(&wanted.name).is_none() {
        context.broker.add_vhost(&wanted.name)?;
    }
    Ok(done())
}

pub(super) fn delete(context: &Context, wanted: &NamedVHost) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.name)?;
    let mut turn = Turn::new();
    turn.now = (context.clock)();
    let deleted = context.broker.delete_vhost(&mut turn, &wanted.name);
    turn.ring();
    deleted?;
    Ok(done())
}
