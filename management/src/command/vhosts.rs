//! Virtual hosts.

use leveret_core::queue::QueueKind;
use leveret_core::turn::Turn;
use leveret_core::vhost::Metadata;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{done, existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};

#[derive(Deserialize)]
pub(super) struct NamedVHost {
    name: String,
}

#[derive(Deserialize)]
pub(super) struct WithMetadata {
    name: String,
    description: Option<String>,
    /// Between commas.
    tags: Option<String>,
    default_queue_type: Option<String>,
}

pub(super) fn list(context: &Context) -> Answer {
    let vhosts = context.broker.vhosts().into_iter();
    let node = context.node_name.clone();
    rows(vhosts.map(move |vhost| {
        let Metadata {
            description,
            tags,
            default_queue_type,
            protected,
        } = vhost.metadata();
        let kind = default_queue_type.map_or("classic", QueueKind::name);
        let mut metadata = json!({ "description": description, "tags": tags });
        if let Some(kind) = default_queue_type {
            metadata["default_queue_type"] = Value::from(kind.name());
        }
        if protected {
            metadata["protected_from_deletion"] = Value::from(true);
        }
        json!({
            "name": vhost.name(),
            "description": description,
            "tags": tags,
            "default_queue_type": kind,
            "protected_from_deletion": protected,
            "tracing": false,
            "cluster_state": { &node: "running" },
            "metadata": metadata,
        })
    }))
}

/// What is said about a vhost, laid over what is said already.
fn metadata(wanted: &WithMetadata, mut held: Metadata) -> Result<Metadata, Failure> {
    if let Some(description) = &wanted.description {
        held.description = description.as_str().into();
    }
    if let Some(tags) = &wanted.tags {
        let tags = tags.split(',').map(str::trim);
        held.tags = tags.filter(|tag| !tag.is_empty()).map(Into::into).collect();
    }
    if let Some(kind) = &wanted.default_queue_type {
        let Some(known) = QueueKind::named(kind) else {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "Default queue type must be one of: quorum, stream, classic. Provided: {kind}"
                ),
            ));
        };
        held.default_queue_type = Some(known);
    }
    Ok(held)
}

/// Adding what is there is no error, as in RabbitMQ, and changes what is said about it.
pub(super) fn add(context: &Context, wanted: &WithMetadata) -> Result<Answer, Failure> {
    let told = [
        &wanted.description,
        &wanted.tags,
        &wanted.default_queue_type,
    ];
    match context.broker.vhost(&wanted.name) {
        None => {
            let metadata = metadata(wanted, Metadata::default())?;
            context.broker.add_vhost_with(&wanted.name, metadata)?;
        }
        Some(_) if told.iter().any(|said| said.is_some()) => return update(context, wanted),
        Some(_) => {}
    }
    Ok(done())
}

pub(super) fn update(context: &Context, wanted: &WithMetadata) -> Result<Answer, Failure> {
    let vhost = existing_vhost(context, &wanted.name)?;
    let told = [
        &wanted.description,
        &wanted.tags,
        &wanted.default_queue_type,
    ];
    if told.iter().all(|said| said.is_none()) {
        return Err(Failure::new(Code::Usage, "not enough arguments."));
    }
    let metadata = metadata(wanted, vhost.metadata())?;
    context
        .broker
        .update_vhost(&wanted.name, |held| *held = metadata)?;
    Ok(done())
}

pub(super) fn protect(
    context: &Context,
    wanted: &NamedVHost,
    protected: bool,
) -> Result<Answer, Failure> {
    existing_vhost(context, &wanted.name)?;
    context
        .broker
        .update_vhost(&wanted.name, |held| held.protected = protected)?;
    Ok(done())
}

pub(super) fn delete(context: &Context, wanted: &NamedVHost) -> Result<Answer, Failure> {
    if existing_vhost(context, &wanted.name)?.metadata().protected {
        return Err(Failure::new(
            Code::Data,
            "Cannot delete this virtual host: it is protected from deletion. To lift the \
             protection, inspect and update its metadata",
        ));
    }
    let mut turn = Turn::new();
    turn.now = (context.clock)();
    let deleted = context.broker.delete_vhost(&mut turn, &wanted.name);
    turn.ring();
    deleted?;
    Ok(done())
}
