//! A socket in memory that counts what reaches it.
//!
//! Stands in for the system's socket under the real driver, with the readiness of tokio: a read
//! that did not fill its buffer has emptied the socket, and the next one asks the system only after
//! more has come. Whatever the client's end allocates is not counted.

use std::io;
use std::iter::Sum;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use allocation_counter::opt_out;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Calls that reach the system.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Calls {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

impl Calls {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
        }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            reads: self.reads.max(other.reads),
            writes: self.writes.max(other.writes),
        }
    }
}

impl Sum for Calls {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, calls| Self {
            reads: sum.reads + calls.reads,
            writes: sum.writes + calls.writes,
        })
    }
}

/// Both directions of one connection. The client's end.
#[derive(Default)]
pub(crate) struct Wire(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    to_broker: Vec<u8>,
    taken: usize,
    to_client: Vec<u8>,
    /// The broker's end may find something.
    readable: bool,
    /// The client has closed its side.
    ended: bool,
    reader: Option<Waker>,
    calls: Calls,
}

impl Wire {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client writes, as one segment.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut ends = self.ends();
        opt_out(|| ends.to_broker.extend_from_slice(bytes));
        ends.readable = true;
    }

    /// The client closes its side.
    pub(crate) fn end(&self) {
        let mut ends = self.ends();
        ends.ended = true;
        ends.readable = true;
    }

    /// The client reads all there is.
    pub(crate) fn take(&self, into: &mut Vec<u8>) {
        let mut ends = self.ends();
        opt_out(|| into.append(&mut ends.to_client));
    }

    /// There is something to read, and the broker's end is waiting for it.
    pub(crate) fn wants_poll(&self) -> bool {
        let ends = self.ends();
        ends.readable && ends.reader.is_some()
    }

    /// What the broker's end has asked of the system so far.
    pub(crate) fn calls(&self) -> Calls {
        self.ends().calls
    }
}

/// The broker's end.
pub(crate) struct Socket(pub(crate) Arc<Wire>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.0.ends();
        if !ends.readable {
            ends.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.reader = None;
        ends.calls.reads += 1;
        let rest = &ends.to_broker[ends.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        ends.taken += count;
        if ends.taken == ends.to_broker.len() {
            ends.to_broker.clear();
            ends.taken = 0;
        }
        if buf.remaining() > 0 && !ends.ended {
            ends.readable = false;
        }
        if count == 0 && !ends.ended {
            ends.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.0.ends();
        ends.calls.writes += 1;
        opt_out(|| ends.to_client.extend_from_slice(buf));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
