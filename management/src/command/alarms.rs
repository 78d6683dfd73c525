//! Alarms and the limits that set them. A limit that is changed here holds until the broker stops,
//! as in RabbitMQ.

use leveret_core::alarms::Resource;
use leveret_core::options::ResourceLimit;
use leveret_core::quantity::{self, WHOLE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::done;
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};

/// One of the two.
#[derive(Deserialize)]
pub(super) struct MemoryLimit {
    /// A part of the memory that there is, from 0 to 1.
    fraction: Option<String>,
    /// Bytes, with a unit.
    absolute: Option<String>,
}

/// One of the two.
#[derive(Deserialize)]
pub(super) struct DiskLimit {
    /// Bytes, with a unit.
    limit: Option<String>,
    /// Multiples of the memory that there is.
    mem_relative: Option<String>,
}

pub(super) fn set_memory_limit(context: &Context, wanted: &MemoryLimit) -> Result<Answer, Failure> {
    let limit = match (&wanted.fraction, &wanted.absolute) {
        (Some(text), None) => fraction(text, WHOLE)?,
        (None, Some(text)) => size(text)?,
        _ => return Err(one_limit()),
    };
    context.broker.alarms().set_memory_limit(limit);
    Ok(done())
}

pub(super) fn set_disk_limit(context: &Context, wanted: &DiskLimit) -> Result<Answer, Failure> {
    let limit = match (&wanted.limit, &wanted.mem_relative) {
        (Some(text), None) => size(text)?,
        (None, Some(text)) => fraction(text, u64::MAX)?,
        _ => return Err(one_limit()),
    };
    context.broker.alarms().set_disk_limit(limit);
    Ok(done())
}

fn one_limit() -> Failure {
    Failure::new(Code::Usage, "exactly one limit is wanted")
}

fn size(text: &str) -> Result<ResourceLimit, Failure> {
    let wrong = || {
        Failure::new(
            Code::Data,
            format!("'{text}' is no size such as 512MiB or 1GB"),
        )
    };
    let bytes = quantity::parse_size(text).ok_or_else(wrong)?;
    Ok(ResourceLimit::Absolute(bytes))
}

fn fraction(text: &str, max: u64) -> Result<ResourceLimit, Failure> {
    let found = quantity::parse_fraction(text).filter(|millionths| *millionths <= max);
    let wrong = || {
        let range = if max == WHOLE {
            "from 0.0 to 1.0"
        } else {
            "such as 1.5"
        };
        Failure::new(Code::Data, format!("'{text}' is no number {range}"))
    };
    found.map(ResourceLimit::Relative).ok_or_else(wrong)
}

/// What `alarms` tells, whatever it is.
pub(super) fn list(context: &Context) -> Answer {
    let lines = lines(context);
    let message = if lines.is_empty() {
        none(context)
    } else {
        lines.join("\n")
    };
    Answer::One(json!({ "node": context.node_name, "alarms": names(context), "message": message }))
}

/// For health checks: fails while an alarm is set.
pub(super) fn check(context: &Context) -> Result<Answer, Failure> {
    let lines = lines(context);
    if lines.is_empty() {
        return Ok(Answer::One(json!({ "message": none(context) })));
    }
    Err(Failure::new(Code::Unavailable, lines.join("\n")))
}

fn none(context: &Context) -> String {
    format!(
        "Node {} reported no alarms, local or clusterwide",
        context.node_name
    )
}

/// A sentence for each alarm, in RabbitMQ's words.
pub(super) fn lines(context: &Context) -> Vec<String> {
    let node = &context.node_name;
    let of = |resource| match resource {
        Resource::Memory => format!("Memory alarm on node {node}"),
        Resource::Disk => format!("Free disk space alarm on node {node}"),
        Resource::Journal => format!("Journal alarm on node {node}"),
    };
    set(context).map(of).collect()
}

fn names(context: &Context) -> Vec<&'static str> {
    set(context).map(Resource::name).collect()
}

fn set(context: &Context) -> impl Iterator<Item = Resource> {
    let alarms = context.broker.alarms();
    Resource::ALL
        .into_iter()
        .filter(|resource| alarms.is_short_of(*resource))
}

/// A limit as RabbitMQ's `status` has it.
pub(super) fn setting(limit: ResourceLimit) -> Value {
    match limit {
        ResourceLimit::Absolute(bytes) => json!({ "absolute": bytes }),
        ResourceLimit::Relative(millionths) => {
            json!({ "relative": millionths as f64 / WHOLE as f64 })
        }
    }
}
