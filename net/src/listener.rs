//! One listener: its sockets, and the loop that accepts on one of them.
//!
//! Owns binding, back-off when the system is out of something, and the count of connections. Must
//! never know what is spoken: what it accepts it hands on.

use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leveret_core::peer::{Accepted, Origin};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::options::{ListenerOptions, Protocol};

/// Why a listener cannot be opened: one sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} ({} listener '{name}'): {}; {}",
    protocol.name(),
    bare(why),
    remedy(why, &protocol.key(name)),
)]
pub struct ListenError {
    /// The listener's name.
    pub name: String,
    /// What it was to speak.
    pub protocol: Protocol,
    /// The address that failed.
    pub address: SocketAddr,
    /// What the system answered.
    pub why: io::Error,
}

/// The system's text without the number that Rust adds.
fn bare(why: &io::Error) -> String {
    let text = why.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn remedy(why: &io::Error, key: &str) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => format!("stop what uses it or set {key}"),
        io::ErrorKind::AddrNotAvailable => format!("set {key} to an address of this machine"),
        io::ErrorKind::PermissionDenied => {
            format!("start with the right to use that port or set {key}")
        }
        _ => format!("set {key}"),
    }
}

/// Binds all sockets of a listener; it must run inside a tokio runtime. Where the machine has no
/// IPv6, a listener that was given by its port alone is on IPv4 only, with a warning.
///
/// # Errors
/// One socket cannot be bound: none is.
pub fn bind(options: &ListenerOptions) -> Result<Vec<Listening>, ListenError> {
    let any_port = options.addresses.iter().all(|address| address.port() == 0);
    for _ in 1..PORT_TRIES_MAX {
        match bind_all(options) {
            // The port that one family got may be in use on the other.
            Err(error) if any_port && error.why.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    bind_all(options)
}

fn bind_all(options: &ListenerOptions) -> Result<Vec<Listening>, ListenError> {
    let everywhere = is_everywhere(&options.addresses);
    let mut bound: Vec<Listening> = Vec::with_capacity(options.addresses.len());
    for address in &options.addresses {
        let mut address = *address;
        // A port that the system chose is one port for both families.
        if everywhere && address.port() == 0 {
            address.set_port(bound.first().map_or(0, |first| first.address.port()));
        }
        match bind_one(address, options) {
            Ok(listener) => bound.push(listener),
            Err(why) if everywhere && address.is_ipv6() && is_without_ipv6(&why) => {
                tracing::warn!(%address, error = %why, "no IPv6 here: listening on IPv4 only");
            }
            Err(why) => {
                let (name, protocol) = (options.name.clone(), options.protocol);
                return Err(ListenError {
                    name,
                    protocol,
                    address,
                    why,
                });
            }
        }
    }
    Ok(bound)
}

/// The pair that a port alone stands for.
fn is_everywhere(addresses: &[SocketAddr]) -> bool {
    let unspecified: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    addresses.len() == 2 && addresses.iter().map(SocketAddr::ip).eq(unspecified)
}

fn is_without_ipv6(why: &io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    why.kind() == io::ErrorKind::AddrNotAvailable || why.raw_os_error() == Some(unsupported)
}

// [MQTT-4.2.0-1]
fn bind_one(address: SocketAddr, options: &ListenerOptions) -> io::Result<Listening> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere it would let two programs listen on one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    // Every socket that is accepted has it from here.
    socket.set_tcp_nodelay(options.nodelay)?;
    let listener = net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    let socket = TcpListener::from_std(listener)?;
    Ok(Listening { socket, address })
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Where it listens, with the port that it got where it asked for any.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Our end of a connection that was accepted here.
    fn local(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        if self.address.ip().is_unspecified() {
            return stream.local_addr();
        }
        Ok(self.address)
    }
}

/// Who is accepted on a listener, and how many.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) origin: Arc<Origin>,
    pub(crate) protocol: Protocol,
    pub(crate) counts: Arc<Counts>,
    /// How many connections all listeners of this protocol may have.
    pub(crate) connections_max: Option<u64>,
}

/// How many connections there are.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Of this listener.
    pub(crate) here: AtomicU64,
    /// Of all listeners of this protocol.
    pub(crate) all: Arc<AtomicU64>,
}

/// A connection's place in the counts; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Counts>);

impl Place {
    /// Takes a place, unless all are taken.
    fn take(door: &Door) -> Option<Self> {
        let before = door.counts.all.fetch_add(1, Ordering::AcqRel);
        door.counts.here.fetch_add(1, Ordering::AcqRel);
        let place = Self(Arc::clone(&door.counts));
        door.connections_max
            .is_none_or(|limit| before < limit)
            .then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::AcqRel);
        self.0.all.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Accepts until it is dropped.
pub(crate) async fn accept(
    listening: Listening,
    door: Door,
    mut serve: impl FnMut(TcpStream, Accepted, Place),
) {
    let mut pause = ACCEPT_PAUSE_MIN;
    // The refusals of one crowd are one line in the log.
    let mut refusing = false;
    loop {
        let (stream, peer) = match listening.socket.accept().await {
            Ok(accepted) => accepted,
            Err(why) if is_of_one_connection(&why) => continue,
            Err(why) => {
                // Out of file descriptors or memory: connections that end give some back.
                tracing::error!(
                    listener = &*door.origin.listener,
                    protocol = door.protocol.name(),
                    error = %why,
                    pause_ms = pause.as_millis(),
                    "cannot accept connections; trying again"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                continue;
            }
        };
        pause = ACCEPT_PAUSE_MIN;
        let Some(place) = Place::take(&door) else {
            if !std::mem::replace(&mut refusing, true) {
                let limit = door.connections_max;
                tracing::warn!(%peer, limit, "connection refused: mqtt.max_connections reached");
            }
            continue;
        };
        refusing = false;
        // A peer that has gone already fails here; its first read says so too.
        let Ok(local) = listening.local(&stream) else {
            continue;
        };
        let origin = Arc::clone(&door.origin);
        let accepted = Accepted {
            peer,
            local,
            origin,
        };
        serve(stream, accepted, place);
    }
}

/// The connection failed before it was accepted; the listener is well.
fn is_of_one_connection(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How often a port is asked for that is free on both families.
const PORT_TRIES_MAX: usize = 256;

/// First pause after accept has failed; it doubles up to [`ACCEPT_PAUSE_MAX`].
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::all_interfaces;

    fn options(addresses: Vec<SocketAddr>) -> ListenerOptions {
        ListenerOptions {
            name: "default".into(),
            protocol: Protocol::Mqtt,
            addresses,
            vhost: None,
            backlog: 16,
            nodelay: true,
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_told_in_one_sentence() {
        let first = bind(&options(vec![([127, 0, 0, 1], 0).into()])).expect("a free port");
        let address = first[0].address();
        let error = bind(&options(vec![address])).expect_err("in use");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address} (MQTT listener 'default'): Address already in use; \
                 stop what uses it or set mqtt.listeners.tcp.default"
            )
        );
    }

    #[tokio::test]
    async fn a_bare_port_is_one_port_for_both_families() {
        let bound = bind(&options(all_interfaces(0))).expect("a free port");
        let ports: Vec<_> = bound.iter().map(|socket| socket.address().port()).collect();
        // One where the machine has no IPv6.
        assert!(
            matches!(ports[..], [one] if one > 0) || ports[0] == ports[1],
            "{ports:?}"
        );
    }

    #[test]
    fn places_are_counted_and_limited() {
        let door = Door {
            origin: Arc::default(),
            protocol: Protocol::Mqtt,
            counts: Arc::default(),
            connections_max: Some(2),
        };
        let first = Place::take(&door);
        let second = Place::take(&door);
        assert!(first.is_some() && second.is_some() && Place::take(&door).is_none());
        assert_eq!(door.counts.here.load(Ordering::Acquire), 2);
        drop(first);
        assert!(Place::take(&door).is_some());
        drop(second);
        assert_eq!(door.counts.all.load(Ordering::Acquire), 0);
    }
}
