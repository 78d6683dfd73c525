//! MQTT as a sans-io machine over Leveret's core: 3.1, 3.1.1 and 5.0 in one tree, the version a
//! parameter. Owns the protocol from bytes to sessions; must never open a socket, read a clock or
//! name an async runtime. OASIS MQTT 3.1.1 and 5.0.
//!
//! | MQTT | AMQP |
//! |---|---|
//! | topic `a/b` | routing key `a.b` on one topic exchange ([`topic::translate`]) |
//! | subscription | a queue per client and QoS, one binding per filter |
//! | QoS 0, QoS 1 | delivery mode 1, delivery mode 2 |
//! | user properties | headers |
//!
//! | deviation | from | reason |
//! |---|---|---|
//! | `#` in the middle of a filter ([`topic::FilterMode::Flexible`]) | OASIS §4.7.1.2 | RabbitMQ |
//! | limits of [`limits`] on levels, `#` and user properties | OASIS | memory has a bound |
//! | wildcards in topic names, part-level wildcards, NUL refused | RabbitMQ | OASIS |
//! | duplicate and out-of-range properties refused | RabbitMQ | OASIS |
//! | SUBSCRIBE in 3.1 and 3.1.1: every rule of 3.1.1 is enforced | RabbitMQ | OASIS |

pub mod codec;
mod connection;
mod convert;
mod deliver;
mod flow;
mod handle;
mod identity;
pub mod limits;
mod node;
pub mod options;
mod outlet;
pub mod packet;
pub mod property;
mod reason;
pub mod reason_code;
mod replay;
mod reply;
mod session;
pub mod topic;
pub mod vhost_choice;
pub mod violation;
mod will;

pub use connection::Connection;
pub use node::Node;

/// Who can read the properties of messages that MQTT clients published, with and without their
/// identity: for those that come back from a disk.
#[must_use]
pub fn origins() -> [&'static dyn leveret_core::message::Origin; 2] {
    [&convert::MQTT, &convert::SIGNED]
}
