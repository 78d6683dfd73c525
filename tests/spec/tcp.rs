//! The same worlds over TCP: a broker with a listener on a free loopback port, each connection run
//! by the driver of the real server over a real socket, and clients that hold the other ends.
//!
//! That nothing (more) comes is proved, not waited for: everything runs on this thread, the thread
//! has nothing left to do, and what either end of each socket has sent the other has read. Time
//! stands still until [`Verbs::advance`], then goes from one timer to the next.
//!
//! ```text
//! client ──socket── Counted ─ Driver ─ Watched ─ Connection      seen: read, written, wants, asks
//! ```

mod served;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use leveret_auth::login::Internal;
use leveret_auth::password::{Hashing, hash_new};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::link::Link;
use leveret_core::turn::Turn;
use leveret_core::user::User;
use leveret_mqtt::Node;
use leveret_mqtt::packet::ProtocolVersion;
use leveret_net::clock::Clock;
use leveret_net::driver::Surroundings;
use leveret_net::login::Authenticator;
use leveret_net::timers;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::verbs::Verbs;
use crate::world::{BEGIN, accepted, read_options};

use served::{Gate, Seen, Shared};

/// Times in a row that a thread at rest must find all sockets at rest: a wake-up that the system
/// has noted and the thread has not is seen in between.
const RESTS: usize = 3;

/// Looks after which a world that does not come to rest is broken.
const LOOKS_MAX: usize = 5_000_000;

thread_local! {
    /// Woken when nothing on this thread can go on.
    static PARKED: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// What worlds have in common: the thread's runtime, and passwords that were verified.
pub(crate) struct Rig {
    runtime: Runtime,
    internal: Arc<Internal>,
}

impl Rig {
    pub(crate) fn new() -> Rc<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .on_thread_park(|| {
                let waiting = PARKED.with_borrow_mut(Option::take);
                waiting.into_iter().for_each(Waker::wake);
            })
            .build();
        Rc::new(Self {
            runtime: runtime.expect("a runtime"),
            internal: Arc::new(Internal::new(&mut StdRng::seed_from_u64(1))),
        })
    }
}

/// A client's end of a connection.
struct Client {
    /// `None` once either side has closed it.
    stream: Option<TcpStream>,
    seen: Shared,
    version: ProtocolVersion,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    sent: u64,
    received: Vec<u8>,
    got: u64,
}

/// See the module.
pub(crate) struct TcpWorld {
    rig: Rc<Rig>,
    broker: Arc<Broker>,
    clock: Clock,
    turn: Turn,
    clients: BTreeMap<String, Client>,
    address: SocketAddr,
    gate: Gate,
    tasks: Vec<AbortHandle>,
}

impl TcpWorld {
    /// A new broker, which listens; `options` as in memory.
    pub(crate) fn new(rig: &Rc<Rig>, options: &Value) -> Self {
        let (core, mqtt) = read_options(options);
        let definitions = Arc::new(Volatile::default());
        let journal = Arc::new(MemoryJournal::default());
        let guest = || quick_hash("guest");
        let broker = Broker::open(core, definitions, journal, BEGIN, guest);
        let broker = broker.expect("nothing can fail in memory");
        let node = Node::new(Arc::clone(&broker), mqtt);
        let gate = Gate::default();
        gate.add_user("guest", "guest");
        let inside = rig.runtime.enter();
        let clock = Clock::start_at(BEGIN);
        let internal = Arc::clone(&rig.internal);
        let surroundings = Arc::new(Surroundings {
            clock,
            authenticator: Arc::new(Authenticator::new(Arc::clone(&broker), internal)),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let accepting = served::accept(listener, gate.clone(), node, surroundings);
        let tasks = vec![
            tokio::spawn(accepting).abort_handle(),
            tokio::spawn(timers::drive(Arc::clone(&broker), clock)).abort_handle(),
        ];
        drop(inside);
        Self {
            rig: Rc::clone(rig),
            broker,
            clock,
            turn: Turn::new(),
            clients: BTreeMap::new(),
            address,
            gate,
            tasks,
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let client = self.clients.get_mut(name);
        client.unwrap_or_else(|| panic!("no client is called {name:?}"))
    }
}

impl Verbs for TcpWorld {
    fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    fn owner(&mut self, vhost: &str) -> (Arc<Link>, &mut Turn) {
        let _inside = self.rig.runtime.enter();
        self.turn.now = self.clock.now();
        let vhost = self.broker.vhost(vhost).expect("the vhost is there");
        (self.broker.owner_link(&vhost), &mut self.turn)
    }

    fn add_user(&mut self, name: &str, password: &str) {
        let user = User {
            password_hash: quick_hash(password).into(),
            ..User::default()
        };
        self.broker.put_user(name, user).expect("a user name");
        self.gate.add_user(name, password);
    }

    fn is_open(&self, name: &str) -> bool {
        let client = self.clients.get(name);
        client.is_some_and(|client| client.stream.is_some())
    }

    fn names(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    fn open(&mut self, name: &str, words: &str) {
        self.gate.expect(accepted(words));
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let mut opened = None;
        while opened.is_none() {
            self.rig.runtime.block_on(rest());
            opened = self.gate.take_opened();
        }
        let client = Client {
            stream: Some(stream),
            seen: opened.expect("it was looked for"),
            version: ProtocolVersion::V4,
            unsent: Vec::new(),
            sent: 0,
            received: Vec::new(),
            got: 0,
        };
        self.clients.insert(name.to_owned(), client);
        self.settle();
    }

    fn speak(&mut self, name: &str, version: ProtocolVersion) {
        self.client(name).version = version;
    }

    fn version(&mut self, name: &str) -> ProtocolVersion {
        self.client(name).version
    }

    fn feed(&mut self, name: &str, bytes: &[u8]) {
        self.client(name).unsent.extend_from_slice(bytes);
        self.settle();
    }

    fn cut(&mut self, name: &str) {
        self.client(name).stream = None;
        self.settle();
    }

    fn received(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.client(name).received
    }

    fn with_output(&self) -> Vec<String> {
        let waiting = self.clients.iter().filter(|(_, c)| !c.received.is_empty());
        waiting.map(|(name, _)| name.clone()).collect()
    }

    fn advance(&mut self, ms: u64) {
        // The clock is this runtime's own: nothing of this is waited for.
        let end = Duration::from_millis(ms);
        let passed = async { timeout(end, pending::<()>()).await };
        let passed = self.rig.runtime.block_on(passed);
        assert!(passed.is_err(), "nothing is pending for ever");
        self.settle();
    }

    fn settle(&mut self) {
        self.turn.ring();
        let mut rests = 0;
        for _ in 0..LOOKS_MAX {
            self.rig.runtime.block_on(rest());
            let mut quiet = true;
            for client in self.clients.values_mut() {
                quiet &= !client.exchange() && client.is_quiet();
            }
            rests = if quiet { rests + 1 } else { 0 };
            if rests == RESTS {
                return;
            }
        }
        let seen: Vec<_> = self.clients.iter().map(|(n, c)| (n, c.tell())).collect();
        panic!("the server does not come to rest: {seen:?}");
    }
}

impl Drop for TcpWorld {
    fn drop(&mut self) {
        self.clients.clear();
        for task in self.tasks.drain(..).chain(self.gate.take_tasks()) {
            task.abort();
        }
        for _ in 0..RESTS {
            self.rig.runtime.block_on(rest());
        }
    }
}

impl Client {
    /// Sends and receives what the socket takes and has; says whether anything happened.
    fn exchange(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let before = (self.sent, self.got);
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.sent += count as u64;
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                // Its end is read below.
                Err(_) => self.unsent.clear(),
            }
        }
        let mut buffer = [0; 16 * 1_024];
        loop {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    self.got += count as u64;
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    self.stream = None;
                    return true;
                }
            }
        }
        before != (self.sent, self.got)
    }

    /// Whether nothing is under way in either direction.
    fn is_quiet(&self) -> bool {
        let seen = self.seen.lock();
        if self.stream.is_none() {
            return seen.over;
        }
        let heard = self.unsent.is_empty() && self.sent == seen.read;
        let told = self.got == seen.written && !seen.shut && !seen.over;
        (heard || !seen.wants) && told && !seen.asks
    }

    fn tell(&self) -> (bool, u64, u64, Seen) {
        (
            self.stream.is_some(),
            self.sent,
            self.got,
            *self.seen.lock(),
        )
    }
}

/// Resolves when nothing on this thread can go on before a socket or another thread wakes it.
fn rest() -> impl Future<Output = ()> {
    let mut waits = false;
    poll_fn(move |cx| {
        if waits && PARKED.with_borrow(Option::is_none) {
            return Poll::Ready(());
        }
        waits = true;
        PARKED.set(Some(cx.waker().clone()));
        Poll::Pending
    })
}

/// RabbitMQ's hash, which is verified at once.
fn quick_hash(password: &str) -> String {
    let rng = &mut StdRng::seed_from_u64(2);
    let hash = hash_new(Hashing::RabbitSha256, password.as_bytes(), rng);
    hash.expect("a password").to_string()
}
