//! A broker in memory whose connections run in the real driver, over sockets in memory.
//!
//! Tasks are polled by hand: one that was woken, or whose socket has something to read. Nothing of
//! the clients' side is counted.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use allocation_counter::opt_out;
use leveret_auth::login::Internal;
use leveret_auth::password::{Hashing, hash_new};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::peer::{Accepted, Origin};
use leveret_net::clock::Clock;
use leveret_net::driver::{Driver, Surroundings};
use leveret_net::login::Authenticator;
use leveret_net::machine::Machine;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};

use crate::wire::{Calls, Socket, Wire};
use crate::{amqp, mqtt};

/// Deliveries of a session or a consumer that may be in flight: more than any batch here has.
pub(crate) const WINDOW: u16 = 100;

/// The broker, and what drives its connections.
pub(crate) struct Rig {
    /// Its timers are armed, and never ring in a test.
    runtime: Runtime,
    surroundings: Arc<Surroundings>,
    mqtt: Arc<leveret_mqtt::Node>,
    amqp: Arc<leveret_amqp::Node>,
    accepted: Accepted,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        // A quick hash: logins are answered in the same turn, as they are by the cache.
        let hash = hash_new(Hashing::RabbitSha256, b"guest", &mut rng).expect("it hashes");
        let clock = Clock::start();
        let broker = Broker::open(
            leveret_core::options::Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            clock.now(),
            || hash.to_string(),
        )
        .expect("an empty broker opens");
        let internal = Arc::new(Internal::new(&mut rng));
        let authenticator = Arc::new(Authenticator::new(Arc::clone(&broker), internal));
        let options = leveret_mqtt::options::Options {
            prefetch: WINDOW,
            ..leveret_mqtt::options::Options::default()
        };
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
        Self {
            runtime: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            surroundings: Arc::new(Surroundings {
                clock,
                authenticator,
            }),
            mqtt: leveret_mqtt::Node::new(Arc::clone(&broker), options),
            amqp: leveret_amqp::Node::new(broker, leveret_amqp::options::Options::default()),
            accepted: Accepted {
                peer: address,
                local: address,
                origin: Origin::new("test", None),
            },
        }
    }

    /// An accepted MQTT connection.
    pub(crate) fn mqtt(&self, agent: mqtt::Agent) -> Client {
        let now = self.surroundings.clock.now();
        let machine = leveret_mqtt::Connection::new(&self.mqtt, self.accepted.clone(), now);
        self.serve(machine, Agent::Mqtt(agent))
    }

    /// An accepted AMQP connection.
    pub(crate) fn amqp(&self, agent: amqp::Agent) -> Client {
        let now = self.surroundings.clock.now();
        let machine = leveret_amqp::Connection::new(&self.amqp, self.accepted.clone(), now);
        self.serve(machine, Agent::Amqp(agent))
    }

    fn serve<M: Machine + 'static>(&self, machine: M, agent: Agent) -> Client {
        let mut client = None;
        opt_out(|| {
            let bell = Arc::new(Bell::default());
            client = Some((
                Arc::new(Wire::default()),
                Waker::from(Arc::clone(&bell)),
                bell,
            ));
        });
        let (wire, waker, bell) = client.expect("it was just made");
        let _entered = self.runtime.enter();
        let driver = Driver::new(
            machine,
            Socket(Arc::clone(&wire)),
            Arc::clone(&self.surroundings),
        );
        let mut client = Client {
            task: Some(Box::pin(driver)),
            handle: self.runtime.handle().clone(),
            wire,
            waker,
            bell,
            agent,
            inbox: Vec::new(),
            answers: Vec::new(),
        };
        client.poll();
        client
    }
}

/// Runs something with a worker's state of its own: what a worker remembers of routes is true for
/// one broker, and a process has one.
pub(crate) fn on_own_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let ended = scope.spawn(run).join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Bell {
    woken: AtomicBool,
    wakes: AtomicU64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.wakes.fetch_add(1, Ordering::AcqRel);
    }
}

/// What the client does with what it receives.
enum Agent {
    Mqtt(mqtt::Agent),
    Amqp(amqp::Agent),
}

/// A client, and the broker's task for it.
pub(crate) struct Client {
    /// `None` when it has run to its end.
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    handle: tokio::runtime::Handle,
    wire: Arc<Wire>,
    waker: Waker,
    bell: Arc<Bell>,
    agent: Agent,
    inbox: Vec<u8>,
    answers: Vec<u8>,
}

impl Client {
    /// The client writes, as one segment; nobody has looked yet.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    /// Its task runs, and the client answers, until both wait.
    pub(crate) fn settle(&mut self) {
        while self.turn() {}
    }

    /// The client closes its side; the task runs to its end.
    pub(crate) fn hang_up(mut self) {
        self.wire.end();
        self.settle();
        assert!(self.task.is_none(), "the connection has ended");
        opt_out(|| drop(self));
    }

    /// Polls the task if there is a reason to, and lets the client answer. `false`: there was none.
    pub(crate) fn turn(&mut self) -> bool {
        let woken = self.bell.woken.load(Ordering::Acquire);
        if self.task.is_none() || (!woken && !self.wire.wants_poll()) {
            return false;
        }
        self.poll();
        self.react();
        true
    }

    fn poll(&mut self) {
        let _entered = self.handle.enter();
        self.bell.woken.store(false, Ordering::Release);
        let mut cx = Context::from_waker(&self.waker);
        if let Some(task) = &mut self.task
            && task.as_mut().poll(&mut cx).is_ready()
        {
            self.task = None;
        }
    }

    fn react(&mut self) {
        opt_out(|| {
            self.wire.take(&mut self.inbox);
            match &mut self.agent {
                Agent::Mqtt(agent) => agent.read(&self.inbox, &mut self.answers),
                Agent::Amqp(agent) => agent.read(&self.inbox, &mut self.answers),
            }
            self.inbox.clear();
            if !self.answers.is_empty() {
                self.wire.send(&self.answers);
                self.answers.clear();
            }
        });
    }

    /// Messages that the client has received so far.
    pub(crate) fn delivered(&self) -> u64 {
        match &self.agent {
            Agent::Mqtt(agent) => agent.delivered,
            Agent::Amqp(agent) => agent.delivered,
        }
    }

    /// Publications of the client that the broker has acknowledged so far.
    pub(crate) fn confirmed(&self) -> u64 {
        match &self.agent {
            Agent::Mqtt(agent) => agent.confirmed,
            Agent::Amqp(agent) => agent.confirmed,
        }
    }

    /// What its task has asked of the system so far.
    pub(crate) fn calls(&self) -> Calls {
        self.wire.calls()
    }

    /// How often its task was woken by others so far.
    pub(crate) fn wakes(&self) -> u64 {
        self.bell.wakes.load(Ordering::Acquire)
    }
}
