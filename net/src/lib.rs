//! Listeners and the driver loop of Leveret.
//!
//! The only crate that awaits sockets of MQTT and AMQP clients, and the only one that reads a
//! clock. Owns how connections come in, are driven and end; must never know what is in a packet.

pub mod clock;
pub mod crew;
pub mod driver;
pub mod listener;
pub mod listeners;
pub mod login;
pub mod machine;
pub mod options;
pub mod serve;
pub mod timers;
pub mod transport;
