//! The core's views as JSON rows, under the columns that `rabbitmqctl` knows them by.
//!
//! Owns names and shapes of columns. What a row does not have, the command line shows as empty.

mod binding;
mod channel;
mod connection;
mod consumer;
mod exchange;
mod field;
mod queue;

pub(crate) use binding::{binding, default_binding};
pub(crate) use channel::channel;
pub(crate) use connection::{amqp_connection, connection_name, mqtt_connection};
pub(crate) use consumer::consumer;
pub(crate) use exchange::exchange;
pub(crate) use field::typed_table;
pub(crate) use queue::queue;

/// What stands in the place of an Erlang process id: `<leveret.N>`.
pub(crate) fn pid(number: u64) -> String {
    format!("<leveret.{number}>")
}

/// The number in a text made by [`pid`].
pub(crate) fn number_of_pid(text: &str) -> Option<u64> {
    text.strip_prefix("<leveret.")?
        .strip_suffix('>')?
        .parse()
        .ok()
}
