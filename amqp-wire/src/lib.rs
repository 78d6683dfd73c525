//! AMQP 0-9-1 as a sans-io machine over Leveret's core.
//!
//! [`frame`] cuts the stream into frames, [`method`] and [`content`] read and write what is in
//! them, [`deliver`] writes what the server sends most. Nothing here reads a socket or a clock.
//!
//! | Deviation from the specification | Why | Test |
//! |---|---|---|
//! | a frame may be 8 bytes larger than frame-max | RabbitMQ: some clients forget the 8 bytes around a payload | `frame::tests::size` |
//! | short strings in methods are UTF-8, else 502 (RabbitMQ takes any octets) | names are text in the core, its files and its documents | `method::tests::malformed` |
//! | `exchange.unbind-ok` is 40.51 | RabbitMQ, and every client with it | `method::tests::known_frames` |
//! | a routing key above 255 bytes (an MQTT topic) is cut in `basic.deliver` | the alternative closes the consumer's channel | `deliver::tests::long_keys` |

pub mod content;
pub mod deliver;
pub mod frame;
pub mod method;
pub mod options;
