//! Sockets and addresses: who may be spoken to, from where, and how many at once.
//!
//! Owns the loopback rule of the `load` program. Never reads or writes a protocol.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::Failure;

/// Which addresses load may be sent to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// This machine only: a literal loopback address or `localhost`.
    Loopback,
    /// Any host that resolves.
    Anywhere,
}

/// The address of `HOST:PORT`.
///
/// # Errors
/// Not of that form, not found, or outside the reach.
pub(crate) fn address(text: &str, reach: Reach) -> Result<SocketAddr, Failure> {
    if reach == Reach::Anywhere {
        let mut found = text
            .to_socket_addrs()
            .map_err(|why| Failure::argument(format!("'{text}' is not HOST:PORT: {why}")))?;
        return found
            .next()
            .ok_or_else(|| Failure::argument(format!("'{text}' has no address")));
    }
    let literal = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr = literal
        .parse()
        .map_err(|_| Failure::argument(format!("'{text}' is not ADDRESS:PORT")))?;
    if !address.ip().is_loopback() {
        return Err(Failure::argument(format!(
            "'{text}' is not a loopback address; this tool sends load to this machine only"
        )));
    }
    Ok(address)
}

/// The i-th source address of n: 127.0.0.2, 127.0.0.3, …, each good for some 28,000 ports.
pub(crate) fn source(i: usize, n: usize) -> Option<Ipv4Addr> {
    (n > 0).then(|| Ipv4Addr::new(127, 0, 0, 2 + (i % n.min(SOURCES_MAX)) as u8))
}

/// For set-up work: a blocking stream whose reads and writes give up after `timeout`.
pub(crate) fn dial(
    to: SocketAddr,
    from: Option<Ipv4Addr>,
    timeout: Duration,
) -> Result<TcpStream, Failure> {
    let dialed = || -> io::Result<TcpStream> {
        let socket = socket(to, from)?;
        socket.connect_timeout(&to.into(), timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        Ok(socket.into())
    };
    dialed().map_err(Failure::system(format!("connect {to}")))
}

/// A stream that is connecting; writable when it is through.
pub(crate) fn dial_nonblocking(
    to: SocketAddr,
    from: Option<Ipv4Addr>,
) -> io::Result<mio::net::TcpStream> {
    let socket = socket(to, from)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(why) if why.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(why);
        }
        _ => {}
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// A set-up stream for the poll.
pub(crate) fn into_mio(stream: TcpStream) -> Result<mio::net::TcpStream, Failure> {
    stream
        .set_nonblocking(true)
        .map_err(Failure::system("nonblocking"))?;
    Ok(mio::net::TcpStream::from_std(stream))
}

pub(crate) fn read_exact(
    stream: &mut TcpStream,
    bytes: &mut [u8],
    what: &str,
) -> Result<(), Failure> {
    stream
        .read_exact(bytes)
        .map_err(Failure::system(format!("waiting for {what}")))
}

/// Lifts the soft descriptor limit to the hard one, and fails if `wanted` connections do not fit.
pub(crate) fn descriptors_for(wanted: usize) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if wanted as u64 + DESCRIPTORS_SPARE > have {
        return Err(Failure::argument(format!(
            "{wanted} connections need more descriptors than the limit of {have} (ulimit -n)"
        )));
    }
    Ok(())
}

fn socket(to: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if to.ip().is_loopback() {
        // Some machines default to BBR, whose pacing timers have no place on loopback. The
        // broker's side is as it is.
        let _ = socket.set_tcp_congestion(b"reno");
        if let (Some(ip), true) = (from, to.is_ipv4()) {
            socket.bind(&SocketAddr::new(IpAddr::V4(ip), 0).into())?;
        }
    }
    Ok(socket)
}

/// 127.0.0.2 to 127.0.0.201.
pub(crate) const SOURCES_MAX: usize = 200;

/// What a process has open besides its connections.
const DESCRIPTORS_SPARE: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_reaches_loopback_only() {
        let good = ["127.0.0.1:1883", "127.9.8.7:1883", "localhost:1", "[::1]:1"];
        let bad = [
            "10.0.0.1:1883",
            "192.168.1.1:1",
            "0.0.0.0:1883",
            "8.8.8.8:53",
            "[::ffff:127.0.0.1]:1",
            "example.org:1883",
            "127.0.0.1",
        ];
        for text in good {
            assert!(address(text, Reach::Loopback).is_ok(), "{text}");
        }
        for text in bad {
            assert!(address(text, Reach::Loopback).is_err(), "{text}");
        }
    }

    #[test]
    fn the_library_reaches_any_address() {
        let to = address("10.0.0.1:1883", Reach::Anywhere);
        assert_eq!(to.ok(), Some(([10, 0, 0, 1], 1883).into()));
        assert!(address("10.0.0.1", Reach::Anywhere).is_err());
    }
}
