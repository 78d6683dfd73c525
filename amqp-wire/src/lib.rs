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
//! | a key above 255 bytes is cut for consumers | below | `consume::long_keys_hurt_nobody` |
//! | `basic.qos` global: per channel | RabbitMQ ≤ 4.2 | `consume::windows_of_consumer_or_channel` |
//! | frame-max from 4,096; RabbitMQ 4.1: 8,192 | clients offer it | `handshake::tuning` |
//!
//! RabbitMQ takes any octets in a short string, and closes the channel of a consumer whose
//! routing key, an MQTT topic, is above 255 bytes. Here the whole key is the header
//! `x-original-routing-key`, unless the header frame would outgrow frame-max by that.
//!
//! `docs/amqp.md` has the rest.

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
