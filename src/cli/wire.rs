//! What `leveret pub` and `leveret sub` speak with: an MQTT or an AMQP 0-9-1 client over a blocking
//! socket.
//!
//! Owns what both have in common. One thread reads the socket, others lines and signals; all of it
//! comes through one bounded [`Inbox`], and only the command's own thread writes and decides.

pub(super) mod amqp;
pub(super) mod arguments;
pub(super) mod format;
pub(super) mod inbox;
pub(super) mod moment;
pub(super) mod mqtt;
pub(super) mod property;
mod reader;
mod socket;
pub(super) mod url;

use leveret_core::time::Time;
use leveret_management::protocol::{Code, Failure};

/// A message as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Message {
    /// In AMQP the routing key as a topic.
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// What acknowledges it: a packet identifier or a delivery tag; 0 where nothing does.
    pub(super) id: u64,
    pub(super) extras: Extras,
}

/// What a message says beside topic and payload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Extras {
    pub(super) topic_alias: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) correlation_data: Option<Vec<u8>>,
    pub(super) expiry_s: Option<u32>,
    pub(super) payload_format: Option<bool>,
    pub(super) response_topic: Option<String>,
    pub(super) subscription_ids: Vec<u32>,
    pub(super) user: Vec<(String, String)>,
}

/// What a wait ended with.
#[derive(Debug)]
pub(super) enum Happened {
    /// A message.
    Message(Message),
    /// The broker does not take a message that was sent, and says why.
    Refused(String),
    /// Some answer came; what is unsettled may have become less.
    Progress,
    /// A line of standard input.
    Line(Vec<u8>),
    /// Standard input is at its end.
    LinesEnded,
    /// Somebody wants the program to end.
    Stop,
    /// Nothing, until the time was over.
    TimedOut,
}

/// A client that is connected.
pub(super) trait Wire {
    /// Sends a message to where this client publishes to.
    fn publish(&mut self, payload: &[u8]) -> Result<(), Failure>;
    /// How many messages may be sent before one of them is settled.
    fn window(&self) -> usize;
    /// How many were sent that the broker has not answered for.
    fn unsettled(&self) -> usize;
    /// Says that a message was dealt with.
    fn settle(&mut self, message: &Message) -> Result<(), Failure>;
    /// Publishes, retained, an empty message to the topic: what deletes what is retained.
    fn clear_retained(&mut self, topic: &str) -> Result<(), Failure>;
    /// Waits for the next event.
    fn wait(&mut self, until: Option<Time>) -> Result<Happened, Failure>;
    /// The time now.
    fn now(&self) -> Time;
    /// Where more events may come from.
    fn inbox(&self) -> inbox::Feed;
    /// Says goodbye.
    fn close(&mut self) -> Result<(), Failure>;
}

/// The broker is not there, or ended it.
fn lost(text: impl Into<String>) -> Failure {
    Failure::new(Code::Unavailable, text)
}

/// The broker sent what it must not.
fn broken(text: impl Into<String>) -> Failure {
    Failure::new(Code::Software, text)
}

/// An argument that cannot be sent.
fn unfit(text: impl Into<String>) -> Failure {
    Failure::new(Code::Data, text)
}

/// How long connecting and logging in may take, in milliseconds.
const CONNECT_MS_MAX: u64 = 10_000;
