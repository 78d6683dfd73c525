//! Control socket and commands of Leveret.
//!
//! The owner of a node rules it through a Unix socket in its data directory: one JSON request a
//! line, one JSON answer a line. Nobody is asked for credentials, because only the owner can open
//! the socket. This crate never decides what a change means (the core does), never prints (the
//! command line does), and answers a change only when it is durable.
//!
//! | module | owns |
//! |---|---|
//! | [`control`] | the socket, its bounds and timeouts |
//! | [`protocol`] | requests, answers and failures as they travel |
//! | [`command`] | what can be asked, one file a group |
//! | [`context`] | what the commands work on |
//! | [`plugins`] | which plugins there are, and how the set of enabled ones changes |
//! | `view` | the core's views as JSON |
//! | `parameter` | JSON as field values and back |
//! | `durable` | waiting until changes are on disk |

pub mod command;
pub mod context;
pub mod control;
mod durable;
mod parameter;
pub mod plugins;
pub mod protocol;
mod view;
