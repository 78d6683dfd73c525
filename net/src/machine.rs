//! What the driver asks of a protocol machine: the one vocabulary of MQTT and AMQP 0-9-1.
//!
//! Machines are sans-io: they are handed bytes, wake-ups and the time, and are asked for bytes, for
//! deadlines and for what takes time. Implementors: the `Connection` of either protocol crate.

use std::net::SocketAddr;

use leveret_core::doorbell::Doorbell;
use leveret_core::login::{Reply, Request};
use leveret_core::time::Time;
use leveret_core::turn::Turn;

/// One connection's protocol.
pub trait Machine: Send + Unpin {
    /// Takes whole packets or frames off the front of `input` and returns how many bytes that was.
    /// The rest is offered again, with more behind it where it is a part of a frame.
    fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize;

    /// Others have filled the out-buffer, something became durable, room came back, or the
    /// connection is to be closed.
    fn handle_wake(&mut self, turn: &mut Turn);

    /// The time of [`Self::poll_timeout`] has come.
    fn handle_timeout(&mut self, turn: &mut Turn);

    /// The answer to the last [`Self::poll_request`].
    fn handle_reply(&mut self, turn: &mut Turn, reply: Reply);

    /// The stream is gone or shut. Called exactly once, and last.
    fn handle_close(&mut self, turn: &mut Turn);

    /// When [`Self::handle_timeout`] has something to do.
    fn poll_timeout(&self) -> Option<Time>;

    /// What the machine wants to know from somebody who may wait.
    fn poll_request(&mut self) -> Option<Request>;

    /// Moves all bytes that are to be sent to the end of `out`.
    fn poll_output(&mut self, out: &mut Vec<u8>);

    /// Whether [`Self::handle_input`] may be called; otherwise nothing is read.
    fn wants_input(&self) -> bool;

    /// Nothing more is wanted from the peer: what is to be sent is sent, then the stream is shut.
    fn is_closed(&self) -> bool;

    /// Closed because the peer said goodbye, and waits for no answer: once what is to be sent was
    /// handed to the stream, it may be dropped.
    fn is_left(&self) -> bool {
        false
    }

    /// The other end, for the log.
    fn peer(&self) -> SocketAddr;

    /// Where the machine is woken.
    fn doorbell(&self) -> &Doorbell;
}
