//! The server's end of a connection, with somebody who looks: how many bytes went through the
//! socket, and what the machine waits for. Owns the accept loop; must never change a byte.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use leveret_core::broker::Broker;
use leveret_core::doorbell::Doorbell;
use leveret_core::login::{Reply, Request};
use leveret_core::peer::Accepted;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_mqtt::{Connection, Node};
use leveret_net::driver::{Driver, Surroundings};
use leveret_net::machine::Machine;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::world::answer;

/// What was seen of a connection at the server's end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes that the driver has read.
    pub(super) read: u64,
    /// Bytes that the socket has taken.
    pub(super) written: u64,
    /// The machine wants input.
    pub(super) wants: bool,
    /// It has asked who somebody is, and has no answer yet.
    pub(super) asks: bool,
    /// The driver has shut the sending side.
    pub(super) shut: bool,
    /// The driver is through.
    pub(super) over: bool,
}

pub(super) type Shared = Arc<Mutex<Seen>>;

/// Between the clients of a world and its accept loop.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Passing>>);

#[derive(Default)]
struct Passing {
    passwords: BTreeMap<String, String>,
    expected: VecDeque<Accepted>,
    opened: VecDeque<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Gate {
    /// A user's password, for what the backend would answer at random.
    pub(super) fn add_user(&self, name: &str, password: &str) {
        let passwords = &mut self.0.lock().passwords;
        passwords.insert(name.to_owned(), password.to_owned());
    }

    /// The next connection passes for one with these ends.
    pub(super) fn expect(&self, accepted: Accepted) {
        self.0.lock().expected.push_back(accepted);
    }

    /// The connection that was accepted.
    pub(super) fn take_opened(&self) -> Option<Shared> {
        self.0.lock().opened.pop_front()
    }

    /// What runs its connections.
    pub(super) fn take_tasks(&self) -> Vec<AbortHandle> {
        std::mem::take(&mut self.0.lock().tasks)
    }
}

/// Accepts until it is dropped.
pub(super) async fn accept(
    listener: TcpListener,
    gate: Gate,
    node: Arc<Node<Broker>>,
    surroundings: Arc<Surroundings>,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut passing = gate.0.lock();
        let accepted = passing.expected.pop_front().expect("it is expected");
        let seen = Shared::default();
        seen.lock().wants = true;
        let machine = Watched {
            connection: Connection::new(&node, accepted, surroundings.clock.now()),
            seen: Arc::clone(&seen),
            gate: gate.clone(),
            instead: None,
        };
        let stream = Counted {
            stream,
            seen: Arc::clone(&seen),
        };
        let driver = Driver::new(machine, stream, Arc::clone(&surroundings));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            driver.await;
            shared.lock().over = true;
        });
        passing.tasks.push(task.abort_handle());
        passing.opened.push_back(seen);
    }
}

/// A connection whose questions and wishes are seen.
struct Watched {
    connection: Connection<Broker>,
    seen: Shared,
    gate: Gate,
    /// What is answered instead of what the backend says: it has no time for `busy`, and the nonce
    /// and salt of an exchange are those of the rows.
    instead: Option<Reply>,
}

impl Machine for Watched {
    fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        self.connection.handle_input(turn, input)
    }

    fn handle_wake(&mut self, turn: &mut Turn) {
        self.connection.handle_wake(turn);
    }

    fn handle_timeout(&mut self, turn: &mut Turn) {
        self.connection.handle_timeout(turn);
    }

    fn handle_reply(&mut self, turn: &mut Turn, reply: Reply) {
        self.seen.lock().asks = false;
        let reply = self.instead.take().unwrap_or(reply);
        self.connection.handle_reply(turn, reply);
    }

    fn handle_close(&mut self, turn: &mut Turn) {
        self.connection.handle_close(turn);
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.connection.poll_timeout()
    }

    fn poll_request(&mut self) -> Option<Request> {
        let request = self.connection.poll_request();
        if let Some(request) = &request {
            self.seen.lock().asks = true;
            self.instead = match request {
                Request::Login(who) if &*who.user != "busy" => None,
                request => Some(answer(request, &self.gate.0.lock().passwords)),
            };
        }
        request
    }

    fn poll_output(&mut self, out: &mut Vec<u8>) {
        self.connection.poll_output(out);
    }

    fn wants_input(&self) -> bool {
        let wants = self.connection.wants_input();
        self.seen.lock().wants = wants;
        wants
    }

    fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    fn is_left(&self) -> bool {
        self.connection.is_left()
    }

    fn peer(&self) -> SocketAddr {
        self.connection.peer()
    }

    fn doorbell(&self) -> &Doorbell {
        self.connection.doorbell()
    }
}

/// A socket whose bytes are counted.
struct Counted {
    stream: TcpStream,
    seen: Shared,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.seen.lock().read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.seen.lock().written += count as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.seen.lock().shut |= polled.is_ready();
        polled
    }
}
