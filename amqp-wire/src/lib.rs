//! AMQP 0-9-1 as a sans-io machine over Leveret's core.
//!
//! [`frame`] cuts the stream into frames, [`method`] and [`content`] read and write what is in
//! them, [`deliver`] writes what the server sends most. [`connection`] is the machine that a
//! driver feeds. Nothing here reads a socket or a clock.
//!
//! | Deviation from the specification | Why | Test |
//! |---|---|---|
//! | frames may be 8 bytes above frame-max | RabbitMQ takes them | `frame::tests::size` |
//! | short strings are UTF-8, else 502 | the core's names are text | `method::tests::malformed` |
//! | `exchange.unbind-ok` is 40.51 | RabbitMQ, its clients | `method::tests::known_frames` |
//! | routing keys above 255 bytes are cut | MQTT topics | `deliver::tests::long_keys` |
//!
//! RabbitMQ takes any octets in a short string, and closes the channel of a consumer whose
//! routing key, an MQTT topic, is above 255 bytes.

mod channel;
pub mod connection;
pub mod content;
pub mod deliver;
mod failure;
pub mod frame;
mod heartbeat;
pub mod limits;
pub mod method;
pub mod node;
pub mod options;
mod outlet;
mod session;

pub use connection::Connection;
pub use node::Node;
