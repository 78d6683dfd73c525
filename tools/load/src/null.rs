//! A broker that only forwards: the floor of what any broker has to do, so the ceiling of this
//! generator.
//!
//! MQTT: all QoS, exact, `#` and `+` (last level) filters, shared subscriptions. AMQP: all exchange
//! kinds, confirms. It keeps nothing, checks nothing and forgets a subscriber that is gone. Never
//! listens beyond loopback.

mod amqp;
mod mqtt;
mod routes;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::args::Args;
use crate::clock::now;
use crate::failure::Failure;
use crate::sockets;
use routes::{Cached, Routes};

/// A connection that the broker serves.
struct Peer {
    stream: TcpStream,
    amqp: bool,
    v5: bool,
    greeted: bool,
    out: Out,
    /// The start of a packet that is not complete.
    left: Vec<u8>,
    cached: Cached,
    confirm: bool,
    /// Delivery tags: last published, last confirmed, last delivered.
    published: u64,
    confirmed: u64,
    delivered: u64,
}

#[derive(Default)]
struct Out {
    buffer: Vec<u8>,
    at: usize,
    blocked: bool,
}

/// One message in so many, each; 0: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Faults {
    drop: u64,
    duplicate: u64,
    swap: u64,
}

struct Broker {
    peers: Vec<Option<Peer>>,
    /// Places of peers that are gone.
    free: Vec<usize>,
    routes: Routes,
    /// Peers with bytes to write.
    dirty: Vec<usize>,
    faults: Faults,
    seen: u64,
    held: Option<Vec<u8>>,
}

struct Listener {
    socket: TcpListener,
    amqp: bool,
}

/// Serves until `--max-seconds` are over.
pub(crate) fn serve(args: &Args) -> Result<(), Failure> {
    sockets::descriptors_for(0)?;
    let mut poll = Poll::new().map_err(Failure::system("poll"))?;
    let mut listeners = vec![];
    let mut names = vec![];
    for (flag, amqp) in [("addr", false), ("amqp-addr", true)] {
        if args.text(flag).is_empty() {
            continue;
        }
        let wanted = sockets::address(args.text(flag), args.reach)?;
        let (socket, address) = listen(&poll, wanted, listeners.len())?;
        listeners.push(Listener { socket, amqp });
        names.push(address.to_string());
    }
    let end = now() + (args.number("max-seconds", 0.1, 7_200.0)? * 1e9) as u64;
    let mut broker = Broker {
        peers: vec![],
        free: vec![],
        routes: Routes::default(),
        dirty: vec![],
        faults: Faults {
            drop: args.count("drop-every", 0, 1_000_000_000)?,
            duplicate: args.count("dup-every", 0, 1_000_000_000)?,
            swap: args.count("swap-every", 0, 1_000_000_000)?,
        },
        seen: 0,
        held: None,
    };
    let (pid, names) = (std::process::id(), names.join(" "));
    eprintln!("null broker, pid {pid}, on {names}");
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    let mut again: Vec<usize> = vec![];
    while now() < end {
        let wait = if again.is_empty() {
            Duration::from_millis(200)
        } else {
            Duration::ZERO
        };
        if poll.poll(&mut events, Some(wait)).is_err() {
            continue;
        }
        let mut ready = std::mem::take(&mut again);
        for event in &events {
            let at = event.token().0;
            if let Some(listener) = at.checked_sub(LISTENERS).and_then(|i| listeners.get(i)) {
                broker.accept(&poll, listener);
            } else {
                broker.note(event, &mut ready);
            }
        }
        for id in ready {
            broker.read(id, &mut buffer, &mut again);
        }
        broker.flush_dirty();
    }
    Ok(())
}

fn listen(
    poll: &Poll,
    address: SocketAddr,
    place: usize,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let mut socket = TcpListener::bind(address)?;
        let token = Token(LISTENERS + place);
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    };
    bound().map_err(Failure::system(address.to_string()))
}

impl Broker {
    fn accept(&mut self, poll: &Poll, listener: &Listener) {
        while let Ok((mut stream, _)) = listener.socket.accept() {
            let _ = stream.set_nodelay(true);
            let id = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            if poll
                .registry()
                .register(&mut stream, Token(id), both)
                .is_err()
            {
                self.free.push(id);
                continue;
            }
            self.peers[id] = Some(Peer {
                stream,
                amqp: listener.amqp,
                v5: false,
                greeted: false,
                out: Out::default(),
                left: vec![],
                cached: Cached::default(),
                confirm: false,
                published: 0,
                confirmed: 0,
                delivered: 0,
            });
        }
    }

    fn note(&mut self, event: &mio::event::Event, ready: &mut Vec<usize>) {
        let id = event.token().0;
        if event.is_writable()
            && let Some(peer) = self.peers.get_mut(id).and_then(Option::as_mut)
        {
            peer.flush();
        }
        if (event.is_readable() || event.is_read_closed()) && !ready.contains(&id) {
            ready.push(id);
        }
    }

    /// Reads once from a peer, and comes back if there may be more.
    fn read(&mut self, id: usize, buffer: &mut [u8], again: &mut Vec<usize>) {
        let Some(mut me) = self.peers.get_mut(id).and_then(Option::take) else {
            return;
        };
        let left = me.left.len();
        buffer[..left].copy_from_slice(&me.left);
        let alive = match me.stream.read(&mut buffer[left..left + READ_BYTES]) {
            Ok(0) => false,
            Ok(n) => {
                if n == READ_BYTES {
                    again.push(id);
                }
                self.serve(&mut me, id, &buffer[..left + n])
            }
            Err(why) => why.kind() == ErrorKind::WouldBlock,
        };
        if alive && me.left.len() + READ_BYTES <= buffer.len() {
            self.peers[id] = Some(me);
        } else {
            again.retain(|other| *other != id);
            self.free.push(id);
            self.routes.gone(id);
        }
    }

    /// Whether the peer may stay.
    fn serve(&mut self, me: &mut Peer, id: usize, data: &[u8]) -> bool {
        let before = me.out.buffer.len();
        let used = if me.amqp {
            self.amqp(me, id, data)
        } else {
            self.mqtt(me, id, data)
        };
        if me.out.buffer.len() > before && !me.out.blocked {
            me.flush();
        }
        let Some(used) = used else {
            return false;
        };
        me.left.clear();
        me.left.extend_from_slice(&data[used..]);
        true
    }

    /// Bytes to everyone the sender's last look-up found; the sender itself is out of the table.
    fn forward(&mut self, me: &Peer, bytes: &[u8], deliver: bool) {
        for route in &me.cached.to {
            let Some(to) = self.routes.next_peer(*route) else {
                continue;
            };
            let Some(peer) = &mut self.peers[to] else {
                continue;
            };
            if deliver {
                peer.deliver();
            }
            peer.out.buffer.extend_from_slice(bytes);
            self.dirty.push(to);
            if !peer.out.blocked && peer.out.buffer.len() > FLUSH_BYTES {
                peer.flush();
            }
        }
    }

    fn flush_dirty(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(peer) = &mut self.peers[id]
                && !peer.out.blocked
            {
                peer.flush();
            }
        }
    }
}

impl Peer {
    fn flush(&mut self) {
        let out = &mut self.out;
        while out.at < out.buffer.len() {
            match self.stream.write(&out.buffer[out.at..]) {
                Ok(n) => out.at += n,
                Err(_) => {
                    out.blocked = true;
                    return;
                }
            }
        }
        out.buffer.clear();
        out.at = 0;
        out.blocked = false;
    }
}

/// A whole message of the largest size.
const BUFFER_BYTES: usize = 17 << 20;
const READ_BYTES: usize = 128 * 1_024;
const FLUSH_BYTES: usize = 64 * 1_024;

/// Tokens of listeners; no peer has so high a number.
const LISTENERS: usize = usize::MAX / 2;
