//! A connection's stream that can move to another thread's runtime.
//!
//! Implementors: the plain socket; what wraps one passes the calls on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of bytes, in both directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Leaves this thread's runtime. Nothing is read or written before [`Self::arrive`].
    ///
    /// # Errors
    /// The stream is lost.
    fn depart(&mut self) -> io::Result<()>;

    /// Joins the runtime of the thread that it is called on.
    ///
    /// # Errors
    /// The stream is lost.
    fn arrive(&mut self) -> io::Result<()>;
}

/// A TCP socket.
#[derive(Debug)]
pub(crate) enum Tcp {
    Here(TcpStream),
    /// Between two runtimes.
    Away(std::net::TcpStream),
    Lost,
}

impl Tcp {
    fn here(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        match self.get_mut() {
            Self::Here(stream) => Ok(Pin::new(stream)),
            Self::Away(_) | Self::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Transport for Tcp {
    fn depart(&mut self) -> io::Result<()> {
        if let Self::Here(stream) = std::mem::replace(self, Self::Lost) {
            *self = Self::Away(stream.into_std()?);
        }
        Ok(())
    }

    fn arrive(&mut self) -> io::Result<()> {
        if let Self::Away(stream) = std::mem::replace(self, Self::Lost) {
            *self = Self::Here(TcpStream::from_std(stream)?);
        }
        Ok(())
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}
