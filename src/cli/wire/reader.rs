//! The bytes of a stream, cut into what a protocol sends.
//!
//! Owns the buffer. It holds what came and no more, whatever a peer announces: at most one packet
//! or frame, which the protocols bound, and one read.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;

use leveret_management::protocol::Failure;

use super::lost;

pub(super) struct Buffered {
    stream: TcpStream,
    bytes: Vec<u8>,
    taken: usize,
}

impl Buffered {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            taken: 0,
        }
    }

    /// What came and was not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Says that the first of [`Self::unread`] were dealt with.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// Waits for more.
    ///
    /// # Errors
    /// 69: the broker closed the connection, or was silent for longer than the stream's timeout.
    pub(super) fn more(&mut self) -> Result<(), Failure> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(lost("the broker closed the connection")),
                Ok(bytes) => {
                    self.bytes.extend_from_slice(&chunk[..bytes]);
                    return Ok(());
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(lost("the broker does not answer"));
                }
                Err(why) => return Err(lost(format!("the connection is lost: {why}"))),
            }
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

const CHUNK_BYTES: usize = 64 * 1_024;
