//! Requests, answers and failures as they travel over the control socket.
//!
//! Owns the shapes and the exit codes that go with failures. Never reads or writes a socket.
//!
//! ```text
//! {"command":"list_queues","arguments":{"vhost":"/"}}\n
//! {"ok":[{"name":"q","messages":0}]}\n
//! {"error":{"code":"unavailable","text":"Parameter does not exist","exit":69}}\n
//! ```
//!
//! What is watched comes line by line, until either side closes the connection:
//!
//! ```text
//! {"live":{"key":"a/b","payload":"1"}}\n
//! ```

use leveret_core::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// The control socket's name in the data directory.
pub const SOCKET_FILE: &str = "control.sock";

/// The longest request in bytes, line end included: a parameter of 1 MiB whose quotes are escaped.
pub const REQUEST_BYTES_MAX: usize = 2 * 1_024 * 1_024 + 64 * 1_024;

/// What a client that watches may be behind, in events.
pub const LIVE_WAITING_MAX: usize = 256;

/// One command with its arguments.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command's name, as `rabbitmqctl` has it.
    pub command: String,
    /// Arguments by name.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// What a command answers when it does what was asked.
pub enum Answer {
    /// One value; null where there is nothing to tell.
    One(Value),
    /// A listing, made row by row while it is written: it may be longer than memory would like.
    Rows(Box<dyn Iterator<Item = Value> + Send>),
    /// What happens from now on, for as long as the client listens. It is the connection's last
    /// answer.
    Live(mpsc::Receiver<Value>),
}

/// What kind of failure it is; each has an exit code of `sysexits.h`, as RabbitMQ's tools have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The command or its arguments make no sense.
    Usage,
    /// An argument names or holds what cannot be.
    Data,
    /// There is no such user.
    NoUser,
    /// What was named is not there, or the node is not.
    Unavailable,
    /// The broker refused, or failed.
    Software,
    /// It may work later.
    Temporary,
    /// The configuration is wrong.
    Configuration,
}

impl Code {
    /// The exit code of a process that fails so.
    #[must_use]
    pub const fn exit(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::NoUser => 67,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Temporary => 75,
            Self::Configuration => 78,
        }
    }
}

/// Why a command was not done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// What to tell, RabbitMQ's words where scripts match on them.
    pub text: String,
    /// The exit code, 64 to 78.
    pub exit: u8,
}

impl Failure {
    /// A failure of a kind, with the exit code that goes with it.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            exit: code.exit(),
        }
    }
}

/// The core's refusals are RabbitMQ's `{error, Text}`: 69 with the text alone.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::Unavailable, refusal.text)
    }
}
