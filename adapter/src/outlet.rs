//! The half of a connection that others may touch: its out-buffer with the state that encoding
//! needs, behind one lock, and the doorbell that wakes the owner.
//!
//! Publishers deliver into it ([`crate::deliver`]), a newer connection of the same client takes the
//! session out of it, administrators list and close it. Only the owner writes it to the socket.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use leveret_core::claims::{Leftover, Owner};
use leveret_core::doorbell::Doorbell;
use leveret_core::events::{Client, Event, What};
use leveret_core::link::Reader;
use leveret_core::peer::{Accepted, CloseReason, Peer, PeerView};
use leveret_core::seam::Core;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;
use parking_lot::{Mutex, MutexGuard};

use crate::flow::{Flow, Terms};
use crate::identity;
use crate::limits::ANSWERS_BYTES_MAX;
use crate::options::{DeliverMode, Options};
use crate::packet::ProtocolVersion;
use crate::reason::Ending;
use crate::session;
use crate::will::Will;

/// What an out-buffer has room for from its second packet on.
const OUTPUT_BYTES_FIRST: usize = 2_048;

/// Why the owner must close, said by others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// A newer connection has the client id, and has taken the session.
    Evicted,
    /// The broker or an administrator wants it.
    Close(CloseReason),
    /// A queue that the session consumed is gone.
    QueueGone,
    /// The connection itself has closed, for this reason if it had one: nothing is delivered to it
    /// any more.
    Over(Option<Ending>),
}

/// An out-buffer, to append a packet to. The first takes what it needs: one message to a hundred
/// thousand clients is that many buffers. Where a second one follows before it is sent, more do.
pub(crate) fn roomy(buf: &mut Vec<u8>) -> &mut Vec<u8> {
    if !buf.is_empty() && buf.capacity() < OUTPUT_BYTES_FIRST {
        buf.reserve(OUTPUT_BYTES_FIRST - buf.len());
    }
    buf
}

/// What the lock protects.
pub(crate) struct Out {
    pub(crate) buf: Vec<u8>,
    pub(crate) version: ProtocolVersion,
    pub(crate) order: Option<Box<Order>>,
    /// Somebody else has taken the session, whatever the order is.
    pub(crate) evicted: bool,
    /// It is not read because an alarm is set.
    pub(crate) blocked: bool,
    /// What CONNECT asked of deliveries.
    pub(crate) terms: Terms,
    /// Made by the first thing that needs it; a client that only publishes never does.
    pub(crate) flow: Option<Box<Flow>>,
    /// What the client may read, unless that is everything.
    pub(crate) reader: Option<Box<Reader>>,
    /// Published when the connection ends without a word.
    pub(crate) will: Option<Box<Will>>,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

/// A connection beside another one of the same client.
pub(crate) struct Further {
    /// The client id with a number behind it.
    pub(crate) claim: Box<str>,
    pub(crate) mode: DeliverMode,
}

/// Who the connection belongs to, known after login.
pub(crate) struct Identity<C> {
    pub(crate) core: Arc<C>,
    /// The number of the client: the same on each of its connections.
    pub(crate) publisher: u64,
    pub(crate) client_id: Arc<str>,
    /// The session ends with the connection.
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    /// It is not the first connection of its client.
    pub(crate) further: OnceLock<Box<Further>>,
    /// What its messages say about it: see [`identity`]. Made when there is the first.
    pub(crate) signature: OnceLock<Box<[u8]>>,
}

impl<C: Core> Identity<C> {
    /// The identifier that no other connection has.
    pub(crate) fn claim(&self) -> &str {
        self.further
            .get()
            .map_or(&self.client_id, |further| &further.claim)
    }

    /// What the queues of the session are named by.
    pub(crate) fn session(&self) -> &str {
        match self.further.get() {
            Some(further) if further.mode == DeliverMode::Fanout => &further.claim,
            _ => &self.client_id,
        }
    }

    /// The session ends with the connection.
    pub(crate) fn clean(&self) -> bool {
        let mode = self.further.get().map(|further| further.mode);
        self.clean || mode == Some(DeliverMode::Fanout)
    }

    /// What its messages say about it; empty if they say nothing.
    pub(crate) fn signature(&self, outlet: &Outlet<C>) -> &[u8] {
        self.signature.get_or_init(|| {
            let facts = identity::Facts {
                client_id: &self.client_id,
                user: self.core.user(),
                vhost: self.core.vhost(),
                peer: outlet.accepted.peer,
            };
            identity::block(&facts, outlet.options.identity.reserved_in(facts.vhost))
        })
    }
}

/// See the module.
pub(crate) struct Outlet<C: Core> {
    pub(crate) bell: Doorbell,
    pub(crate) connection: u64,
    pub(crate) accepted: Accepted,
    pub(crate) connected_at: Time,
    pub(crate) options: Arc<Options>,
    pub(crate) identity: OnceLock<Identity<C>>,
    /// Taken before the session is left, by the connection itself or by its successor, and held
    /// until it has been: the other one waits.
    pub(crate) leaving: Mutex<Leaving>,
    /// The user's permissions have changed.
    told: AtomicBool,
    state: Mutex<Out>,
}

/// What a connection takes out of its out-buffer when its session is left.
#[derive(Default)]
pub(crate) struct Parting {
    pub(crate) flow: Option<Box<Flow>>,
    pub(crate) will: Option<Box<Will>>,
}

/// Whether the session was left already.
pub(crate) enum Leaving {
    /// Not yet.
    Here,
    /// It was; what it left found its claim taken, and waits for the successor here.
    Gone(Option<Box<dyn Leftover>>),
}

impl Out {
    /// The session's flow, made if there is none yet; `None` once somebody else has the session.
    pub(crate) fn own_flow(&mut self) -> Option<&mut Flow> {
        if self.evicted {
            return None;
        }
        let terms = self.terms;
        Some(self.flow.get_or_insert_with(|| Box::new(Flow::new(terms))))
    }
}

impl<C: Core> Outlet<C> {
    pub(crate) fn new(
        connection: u64,
        accepted: Accepted,
        connected_at: Time,
        options: &Arc<Options>,
    ) -> Self {
        Self {
            bell: Doorbell::default(),
            connection,
            accepted,
            connected_at,
            options: Arc::clone(options),
            identity: OnceLock::new(),
            leaving: Mutex::new(Leaving::Here),
            told: AtomicBool::new(false),
            state: Mutex::new(Out {
                buf: Vec::new(),
                version: ProtocolVersion::V4,
                order: None,
                evicted: false,
                blocked: false,
                terms: Terms::default(),
                flow: None,
                reader: None,
                will: None,
                sent_bytes: 0,
                received_bytes: 0,
            }),
        }
    }

    /// What waits exceeds what deliveries may fill by [`ANSWERS_BYTES_MAX`]: the client does not
    /// read the answers to what it sends.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().buf.len() > self.output_bytes_max() + ANSWERS_BYTES_MAX
    }

    /// Bytes that may wait before QoS 0 is dropped and QoS 1 stays in its queue.
    pub(crate) fn output_bytes_max(&self) -> usize {
        usize::try_from(self.options.output_bytes_max).unwrap_or(usize::MAX)
    }

    /// The exchange that topics are routed through.
    pub(crate) fn exchange(&self) -> &str {
        &self.options.exchange
    }

    /// The number of the client, 0 before login.
    pub(crate) fn publisher(&self) -> u64 {
        self.identity.get().map_or(0, |identity| identity.publisher)
    }

    /// Tells whoever listens what happened to this client, once it has logged in.
    pub(crate) fn tell(&self, at: Time, what: impl FnOnce() -> What) {
        let Some(identity) = self.identity.get() else {
            return;
        };
        identity.core.events().tell(|| Event {
            at,
            client: Client {
                client_id: Arc::clone(&identity.client_id),
                user: identity.core.user().into(),
                vhost: identity.core.vhost().into(),
                keep_alive_s: identity.keep_alive_s,
                clean: identity.clean,
                ..self.stranger()
            },
            what: what(),
        });
    }

    /// What is known of a client before it has logged in.
    pub(crate) fn stranger(&self) -> Client {
        Client {
            connection: self.connection,
            protocol: protocol(self.lock().version),
            peer: self.accepted.peer,
            local: self.accepted.local,
            connected_at: self.connected_at,
            client_id: "".into(),
            user: "".into(),
            vhost: "".into(),
            keep_alive_s: 0,
            clean: true,
        }
    }

    /// Whether permissions have changed since this was last asked.
    pub(crate) fn take_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::AcqRel)
    }

    /// Permissions are to be asked for again.
    pub(crate) fn ask_again(&self) {
        self.told.store(true, Ordering::Release);
        self.bell.press_and_ring();
    }

    /// Takes the lock. Nothing of the core is called while it is held, but what reads the retained.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Out> {
        self.state.lock()
    }

    pub(crate) fn order(&self, order: Order) {
        let mut out = self.lock();
        if out.order.is_none() {
            out.order = Some(Box::new(order));
        }
        drop(out);
        self.bell.press_and_ring();
    }
}

/// The name of a version in listings and events.
const fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3 => "MQTT 3-1",
        ProtocolVersion::V4 => "MQTT 3-1-1",
        ProtocolVersion::V5 => "MQTT 5-0",
    }
}

impl<C: Core> Wake for Outlet<C> {
    fn wake(&self) {
        self.bell.ring();
    }
}

/// Wakes the owner though nothing was put into the out-buffer: a watermark moved.
pub(crate) struct Nudge<C: Core>(pub(crate) Arc<Outlet<C>>);

impl<C: Core> Wake for Nudge<C> {
    fn wake(&self) {
        self.0.bell.press_and_ring();
    }
}

impl<C: Core> Owner for Outlet<C> {
    fn evict(&self, turn: &mut Turn) -> Option<Box<dyn Leftover>> {
        let mut leaving = self.leaving.lock();
        let rest = match std::mem::replace(&mut *leaving, Leaving::Gone(None)) {
            Leaving::Gone(rest) => rest,
            Leaving::Here => {
                let parting = {
                    let mut out = self.lock();
                    out.evicted = true;
                    out.order.get_or_insert_with(|| Box::new(Order::Evicted));
                    let will = out.will.take();
                    let published = !self.options.suppress_will_on_takeover;
                    Parting {
                        flow: out.flow.take(),
                        will: will.filter(|_| published),
                    }
                };
                self.tell(turn.now, || What::TakenOver);
                let identity = self.identity.get();
                identity.and_then(|held| session::hand_over(held, self.exchange(), turn, parting))
            }
        };
        drop(leaving);
        self.bell.press_and_ring();
        rest
    }

    fn user(&self) -> &str {
        self.identity
            .get()
            .map_or("", |identity| identity.core.user())
    }

    fn peer(&self) -> SocketAddr {
        self.accepted.peer
    }
}

impl<C: Core> Peer for Outlet<C> {
    fn view(&self) -> PeerView {
        let identity = self.identity.get();
        let out = self.lock();
        let text = |of: fn(&Identity<C>) -> &str| identity.map(of).unwrap_or_default().to_owned();
        PeerView {
            protocol: protocol(out.version),
            peer: self.accepted.peer,
            local: self.accepted.local,
            user: text(|held| held.core.user()),
            vhost: text(|held| held.core.vhost()),
            state: match (&out.order, identity) {
                (Some(_), _) => "closing",
                (None, Some(_)) if out.blocked => "blocked",
                (None, Some(_)) => "running",
                (None, None) => "starting",
            },
            channels: 0,
            frame_max: 0,
            channel_max: 0,
            timeout_s: identity.map_or(0, |held| u32::from(held.keep_alive_s)),
            connected_at: self.connected_at.0,
            received_bytes: out.received_bytes,
            sent_bytes: out.sent_bytes,
            pending_bytes: out.buf.len() as u64,
            auth_mechanism: "none".to_owned(),
            client_id: identity.map(|held| held.client_id.to_string()),
            clean_session: identity.map(Identity::clean),
            unacked: out
                .flow
                .as_ref()
                .map_or(0, |flow| flow.inflight.len() as u64),
            client_properties: leveret_core::field::Table::new(),
        }
    }

    fn permissions_changed(&self, users: &HashSet<Box<str>>) {
        let identity = self.identity.get();
        if identity.is_some_and(|held| users.contains(held.core.user())) {
            self.ask_again();
        }
    }

    fn close(&self, why: &CloseReason) {
        self.order(Order::Close(why.clone()));
    }
}
