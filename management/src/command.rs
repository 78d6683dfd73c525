//! What can be asked over the control socket: one file a group of commands.
//!
//! Owns the table of commands and what all have in common: arguments are parsed before anything
//! happens, changes happen one at a time and are answered when they are durable, listings give the
//! columns that were asked for. Texts of failures are RabbitMQ's.

mod alarms;
mod bindings;
mod connections;
mod consumers;
mod exchanges;
mod limits;
mod losses;
mod parameters;
mod permissions;
mod plugins;
mod policies;
mod queues;
mod status;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod users;
mod vhosts;

use std::sync::Arc;

use leveret_core::policy::Scope;
use leveret_core::vhost::VHost;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::durable;
use crate::protocol::{Answer, Code, Failure, Request};

/// Bytes of a pattern, a tag list or another text that a record holds: three of them fit into one.
const TEXT_BYTES_MAX: usize = 64 * 1_024;

/// Does what is asked.
///
/// # Errors
/// What the client is to be told.
pub async fn run(context: &Context, request: Request) -> Result<Answer, Failure> {
    let Request {
        command,
        mut arguments,
    } = request;
    let columns = match arguments.remove("columns") {
        None => None,
        Some(columns) => Some(parse_value::<Vec<String>>(columns)?),
    };
    let answer = match query(context, &command, &arguments).await {
        Some(answer) => answer?,
        None => change(context, &command, arguments).await?,
    };
    Ok(match (answer, columns) {
        (Answer::Rows(rows), Some(columns)) => {
            Answer::Rows(Box::new(rows.map(move |row| selected(row, &columns))))
        }
        (answer, _) => answer,
    })
}

/// Commands that change nothing; `None` for any other.
async fn query(
    context: &Context,
    command: &str,
    arguments: &Map<String, Value>,
) -> Option<Result<Answer, Failure>> {
    let in_vhost = |list: fn(Arc<VHost>) -> Answer| {
        let wanted: InVHost = parse(arguments.clone())?;
        Ok(list(existing_vhost(context, &wanted.vhost)?))
    };
    Some(match command {
        "status" => status::status(context),
        "alarms" => Ok(alarms::list(context)),
        "check_alarms" => alarms::check(context),
        "list_plugins" => plugins::list(context),
        "list_users" => Ok(users::list(context)),
        "authenticate_user" => match parse(arguments.clone()) {
            Ok(wanted) => users::authenticate(context, wanted).await,
            Err(failure) => Err(failure),
        },
        "list_vhosts" => Ok(vhosts::list(context)),
        "list_permissions" => parse(arguments.clone()).and_then(|w| permissions::list(context, &w)),
        "list_user_permissions" => {
            parse(arguments.clone()).and_then(|w| permissions::list_of_user(context, &w))
        }
        "list_topic_permissions" => {
            parse(arguments.clone()).and_then(|w| permissions::list_topic(context, &w))
        }
        "list_user_topic_permissions" => {
            parse(arguments.clone()).and_then(|w| permissions::list_topic_of_user(context, &w))
        }
        "list_global_parameters" => Ok(parameters::list(context)),
        "list_channels" => Ok(connections::list_channels(context)),
        "hash_password" => match parse(arguments.clone()) {
            Ok(wanted) => users::hash_password(wanted).await,
            Err(failure) => Err(failure),
        },
        "list_queues" => parse(arguments.clone()).and_then(|w| queues::list(context, &w)),
        "list_exchanges" => in_vhost(exchanges::list),
        "list_bindings" => in_vhost(bindings::list),
        "list_consumers" => in_vhost(consumers::list),
        "list_connections" => Ok(connections::list_amqp(context)),
        "list_mqtt_connections" => Ok(connections::list_mqtt(context)),
        _ => return query_terms(context, command, arguments),
    })
}

/// Those that ask for policies, limits and parameters of vhosts.
fn query_terms(
    context: &Context,
    command: &str,
    arguments: &Map<String, Value>,
) -> Option<Result<Answer, Failure>> {
    let policies =
        |scope| parse(arguments.clone()).and_then(|w| policies::list(context, scope, &w));
    Some(match command {
        "list_policies" => policies(Scope::Ordinary),
        "list_operator_policies" => policies(Scope::Operator),
        "list_losses" => Ok(losses::list(context)),
        "list_parameters" => {
            parse(arguments.clone()).and_then(|w| parameters::list_in_vhost(context, &w))
        }
        "list_vhost_limits" => {
            parse(arguments.clone()).and_then(|w| limits::list_of_vhosts(context, &w))
        }
        "list_user_limits" => {
            parse(arguments.clone()).and_then(|w| limits::list_of_users(context, &w))
        }
        "tail" => parse(arguments.clone()).and_then(|w| tail::tail(context, w)),
        _ => return None,
    })
}

/// Commands that change something, one at a time; answers when the change is durable.
async fn change(
    context: &Context,
    command: &str,
    arguments: Map<String, Value>,
) -> Result<Answer, Failure> {
    let _one_at_a_time = context.changes.hold().await;
    let answer = match command {
        "change_plugins" => plugins::change(context, parse(arguments)?).await,
        "add_user" => users::add(context, parse(arguments)?).await,
        "delete_user" => users::delete(context, &parse(arguments)?),
        "change_password" => users::change_password(context, parse(arguments)?).await,
        "set_user_tags" => users::set_tags(context, parse(arguments)?),
        "add_vhost" => vhosts::add(context, &parse(arguments)?),
        "delete_vhost" => vhosts::delete(context, &parse(arguments)?),
        "set_permissions" => permissions::set(context, &parse(arguments)?),
        "clear_permissions" => permissions::clear(context, &parse(arguments)?),
        "set_topic_permissions" => permissions::set_topic(context, &parse(arguments)?),
        "clear_topic_permissions" => permissions::clear_topic(context, &parse(arguments)?),
        "set_global_parameter" => parameters::set(context, &parse(arguments)?),
        "clear_global_parameter" => parameters::clear(context, &parse(arguments)?),
        "set_vm_memory_high_watermark" => alarms::set_memory_limit(context, &parse(arguments)?),
        "set_disk_free_limit" => alarms::set_disk_limit(context, &parse(arguments)?),
        "purge_queue" => queues::purge(context, &parse(arguments)?),
        "delete_queue" => queues::delete(context, &parse(arguments)?),
        "close_connection" => connections::close(context, &parse(arguments)?),
        "clear_password" => users::clear_password(context, &parse(arguments)?),
        other => change_terms(context, other, arguments),
    }?;
    durable::settle(&context.broker).await?;
    Ok(answer)
}

/// Those that change policies, limits, and what belongs to a whole vhost or user.
fn change_terms(
    context: &Context,
    command: &str,
    arguments: Map<String, Value>,
) -> Result<Answer, Failure> {
    match command {
        "update_vhost_metadata" => vhosts::update(context, &parse(arguments)?),
        "enable_vhost_deletion_protection" => vhosts::protect(context, &parse(arguments)?, true),
        "disable_vhost_deletion_protection" => vhosts::protect(context, &parse(arguments)?, false),
        "set_policy" => policies::set(context, Scope::Ordinary, &parse(arguments)?),
        "set_operator_policy" => policies::set(context, Scope::Operator, &parse(arguments)?),
        "clear_policy" => policies::clear(context, Scope::Ordinary, &parse(arguments)?),
        "clear_operator_policy" => policies::clear(context, Scope::Operator, &parse(arguments)?),
        "set_vhost_limits" => limits::set_of_vhost(context, &parse(arguments)?),
        "clear_vhost_limits" => limits::clear_of_vhost(context, &parse(arguments)?),
        "set_user_limits" => limits::set_of_user(context, &parse(arguments)?),
        "clear_user_limits" => limits::clear_of_user(context, &parse(arguments)?),
        "set_parameter" => parameters::set_in_vhost(context, &parse(arguments)?),
        "clear_parameter" => parameters::clear_in_vhost(context, &parse(arguments)?),
        "close_all_connections" => connections::close_all(context, &parse(arguments)?),
        "close_all_user_connections" => connections::close_of_user(context, &parse(arguments)?),
        other => Err(Failure::new(
            Code::Usage,
            format!("Command '{other}' not found."),
        )),
    }
}

/// Arguments of commands that work in one vhost.
#[derive(Deserialize)]
struct InVHost {
    vhost: String,
}

fn parse<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Failure> {
    parse_value(Value::Object(arguments))
}

fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|why| Failure::new(Code::Usage, format!("bad arguments: {why}")))
}

/// The wanted columns of a row, in the wanted order; null for what the row does not have.
fn selected(mut row: Value, columns: &[String]) -> Value {
    let mut taken = |column: &String| (column.clone(), row[column.as_str()].take());
    Value::Object(columns.iter().map(&mut taken).collect())
}

fn existing_vhost(context: &Context, name: &str) -> Result<Arc<VHost>, Failure> {
    let missing = || Failure::new(Code::Data, format!("Virtual host '{name}' does not exist"));
    context.broker.vhost(name).ok_or_else(missing)
}

/// `set_permissions` and its like have words of their own for what is not there.
fn check_user_and_vhost(context: &Context, user: &str, vhost: &str) -> Result<(), Failure> {
    if context.broker.user(user).is_none() {
        return Err(Failure::new(
            Code::NoUser,
            format!("User {user} does not exist"),
        ));
    }
    if context.broker.vhost(vhost).is_none() {
        let text = format!("Virtual host {vhost} does not exist");
        return Err(Failure::new(Code::Unavailable, text));
    }
    Ok(())
}

/// Bounds what a record will hold.
fn check_text(what: &str, text: &str) -> Result<(), Failure> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("{what} is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Failure::new(Code::Data, text));
    }
    Ok(())
}

fn done() -> Answer {
    Answer::One(Value::Null)
}

fn rows(rows: impl Iterator<Item = Value> + Send + 'static) -> Answer {
    Answer::Rows(Box::new(rows))
}
