//! The connection's state machine: bytes in, bytes out, no socket and no clock.
//!
//! ```text
//! ExpectConnect ──CONNECT──▶ AwaitLogin ──accepted──▶ Active ──DISCONNECT, violation──▶ Closed
//!       │                        │                       └──────order of others───────────▲
//!       └── violation, timeout ──┴── refused: CONNACK ────────────────────────────────────┘
//! ```
//!
//! Where CONNECT has named an authentication method, AwaitLogin lasts for the exchange of AUTH
//! packets: see [`auth`].
//!
//! The driver calls the `handle_*` verbs when something happened and the `poll_*` verbs for what is
//! to be done; after [`Connection::is_closed`] only the output is wanted, and
//! [`Connection::handle_close`] is the last call.

mod acks;
mod again;
mod auth;
mod authority;
mod blocked;
mod closing;
mod held;
mod login;
mod rate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use foldhash::fast::RandomState;
use leveret_core::broker::Broker;
use leveret_core::doorbell::Doorbell;
use leveret_core::exchange::Memo;
use leveret_core::login::{Reply, Request, Verdict};
use leveret_core::message::Message;
use leveret_core::peer::{Accepted, Peer};
use leveret_core::queue::{Queue, Settle};
use leveret_core::seam::{Core, Host};
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use crate::codec::{self, FixedHeader, PacketType};
use crate::handle;
use crate::node::Node;
use crate::outlet::Outlet;
use crate::packet::{self, ClientPacket, ProtocolVersion, ping};
use crate::reason::Ending;
use crate::reason_code::ReasonCode;
use crate::violation::Violation;

pub(crate) use acks::{Acks, PendingAck, put_told};
use blocked::Blocked;
pub(crate) use held::Held;
use login::PendingLogin;
pub(crate) use login::granted as granted_expiry;

/// Packets that one call of [`Connection::handle_input`] takes, so that nobody starves; the driver
/// calls it a few times in a turn. One that subscribes or unsubscribes counts for as many as it has
/// filters.
const PACKETS_PER_TURN_MAX: usize = 256;

/// Where the connection stands.
enum State<H: Host> {
    ExpectConnect {
        deadline: Time,
    },
    AwaitLogin(Box<PendingLogin>),
    Active(Box<Active<H::Core>>),
    Closed {
        /// For how long the session outlives the connection; `None` is for ever.
        expiry_ms: Option<u64>,
    },
}

impl<H: Host> State<H> {
    /// Closed without a session.
    const OVER: Self = Self::Closed { expiry_ms: Some(0) };
}

/// What a connection has after login.
pub(crate) struct Active<C: Core> {
    version: ProtocolVersion,
    pub(crate) memo: Memo,
    pub(crate) last_input: Time,
    /// `None`: the session never expires.
    pub(crate) expiry_ms: Option<u64>,
    pub(crate) rare: Option<Box<Rare>>,
    /// A buffer for who it is together with a message's properties.
    pub(crate) joined: Vec<u8>,
    /// Acknowledgements that wait for the journal.
    pub(crate) acks: Option<Box<Acks>>,
    /// Answers that wait until the definitions are on disk.
    pub(crate) held: Option<Box<Held<C>>>,
    /// It has published while an alarm is set.
    blocked: Option<Box<Blocked>>,
}

impl<C: Core> Active<C> {
    /// When more is read, of a client that has published as much as it may.
    fn next_second(&self) -> Option<Time> {
        self.rare.as_ref().and_then(|rare| rare.rate.until)
    }

    fn ends_at(&self) -> Option<Time> {
        self.rare.as_ref().and_then(|rare| rare.ends_at)
    }
}

/// What few connections have, made by the first thing that needs it.
#[derive(Default)]
pub(crate) struct Rare {
    /// The Topic Aliases that the client has set.
    pub(crate) aliases_in: HashMap<NonZeroU16, Arc<str>, RandomState>,
    /// QoS 2 publishes of this connection that are not released yet; counted only where the client
    /// was told a Receive Maximum.
    pub(crate) unreleased: u32,
    /// Its publishes of this second, where the operator bounds them.
    rate: rate::Rate,
    /// When the connection has lasted for as long as it may.
    ends_at: Option<Time>,
    /// Where its re-authentication stands; only where a method was agreed on in CONNECT.
    stage: Option<auth::Stage>,
    /// Subscriptions to ask about, since permissions have changed.
    unasked: Vec<Box<str>>,
}

/// A delivery that the client has acknowledged.
pub(crate) struct Settled {
    pub(crate) queue: Arc<Queue>,
    pub(crate) seq: u64,
    pub(crate) message: Message,
}

/// One MQTT connection.
pub struct Connection<H: Host = Broker> {
    pub(crate) node: Arc<Node<H>>,
    pub(crate) outlet: Arc<Outlet<H::Core>>,
    state: State<H>,
    /// The will is to be published when the connection ends: all ends but a normal DISCONNECT.
    will_due: bool,
    /// The client has sent DISCONNECT.
    left: bool,
    /// The session was started: what CONNECT found is the connection's to end.
    started: bool,
    /// Deliveries that the client acknowledged in this turn, settled in runs.
    settled: Vec<Settled>,
}

impl<H: Host> Connection<H> {
    /// A connection that was accepted at `now`. It is on the broker's list at once, so that it is
    /// told to end with the others even before it has logged in.
    #[must_use]
    pub fn new(node: &Arc<Node<H>>, accepted: Accepted, now: Time) -> Self {
        let connection = node.host.new_connection();
        let outlet = Arc::new(Outlet::new(connection, accepted, now, &node.options));
        node.host
            .register(connection, Arc::clone(&outlet) as Arc<dyn Peer>);
        Self {
            outlet,
            node: Arc::clone(node),
            state: State::ExpectConnect {
                deadline: now.after_ms(node.options.login_timeout_ms),
            },
            will_due: true,
            left: false,
            started: false,
            settled: Vec::new(),
        }
    }

    /// Takes whole packets off `input`; says how many bytes they were. The rest comes again with
    /// more behind it.
    pub fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        self.look_for_order();
        let mut consumed = 0;
        let mut packets = 0;
        while packets < PACKETS_PER_TURN_MAX {
            if !self.wants_input() || self.outlet.lock().evicted {
                break;
            }
            let rest = &input[consumed..];
            if self.must_hold(rest) {
                consumed += self.hold(turn, rest);
                break;
            }
            match self.split(rest) {
                Ok(None) => break,
                Ok(Some((header, header_bytes))) => {
                    let whole = header_bytes + header.remaining_length as usize;
                    packets += self.handle_packet(turn, header, &rest[header_bytes..whole]);
                    consumed += whole;
                    if turn.is_spent() {
                        break;
                    }
                }
                Err(violation) => {
                    self.violated(&violation);
                    consumed = input.len();
                    break;
                }
            }
        }
        self.after_input(turn, consumed);
        consumed
    }

    /// The header of the first packet if it is there as a whole. What it announces is checked
    /// before anything more is read: memory is taken as bytes arrive.
    fn split(&self, input: &[u8]) -> Result<Option<(FixedHeader, usize)>, Violation> {
        let Some((header, header_bytes)) = codec::decode_header(input)? else {
            return Ok(None);
        };
        let options = &self.node.options;
        let bytes_max = match self.state {
            State::Active(_) => options.packet_authenticated_bytes_max,
            _ if header.packet_type != PacketType::Connect && !self.awaits_auth() => {
                // [MQTT-3.1.0-1]
                return Err(Violation::FirstPacketNotConnect {
                    packet: header.packet_type,
                });
            }
            _ => options.packet_unauthenticated_bytes_max,
        };
        let bytes = header.remaining_length;
        // [MQTT-3.2.2-15]
        if bytes > bytes_max {
            return Err(Violation::PacketTooLarge { bytes, bytes_max });
        }
        let whole = input.len() >= header_bytes + bytes as usize;
        Ok(whole.then_some((header, header_bytes)))
    }

    /// Says for how many packets it counts.
    fn handle_packet(&mut self, turn: &mut Turn, header: FixedHeader, body: &[u8]) -> usize {
        let mut weight = 1;
        if self.awaits_auth() {
            self.handle_exchange(turn, header, body);
            return weight;
        }
        let result = match &mut self.state {
            State::ExpectConnect { deadline } => {
                let times = (turn.now, *deadline);
                let outcome = login::connect(&self.node, &self.outlet, header, body, times);
                match outcome {
                    Ok(state) => {
                        self.state = state;
                        return weight;
                    }
                    Err(violation) => Err(violation),
                }
            }
            State::Active(active) => {
                active.last_input = turn.now;
                let version = active.version;
                packet::decode(version, header, body).and_then(|packet| {
                    let filters = packet.filter_count();
                    turn.count_rebound(filters);
                    weight = filters.max(1);
                    self.handle_active(turn, version, packet)
                })
            }
            // [MQTT-3.1.4-6]
            State::AwaitLogin(_) | State::Closed { .. } => Ok(()),
        };
        self.release_held(turn);
        if let Err(violation) = result {
            self.violated(&violation);
        }
        weight
    }

    fn handle_active(
        &mut self,
        turn: &mut Turn,
        version: ProtocolVersion,
        packet: ClientPacket<'_>,
    ) -> Result<(), Violation> {
        let State::Active(active) = &mut self.state else {
            return Ok(());
        };
        let Some(identity) = self.outlet.identity.get() else {
            return Ok(());
        };
        let rate_max = self.node.options.message_rate_max;
        if rate_max > 0 && matches!(packet, ClientPacket::Publish(_)) {
            active
                .rare
                .get_or_insert_default()
                .rate
                .count(rate_max, turn.now);
        }
        let mut context = handle::Context {
            options: &self.node.options,
            outlet: &self.outlet,
            identity,
            active,
            settled: &mut self.settled,
            version,
        };
        let end = match packet {
            ClientPacket::Publish(publish) => {
                handle::publish::handle(&mut context, turn, &publish)?
            }
            ClientPacket::PubAck(ack) => handle::ack::puback(&mut context, &ack),
            // QoS 2 is never sent out, so no PUBREC or PUBCOMP is awaited.
            ClientPacket::PubRec(ack) => handle::ack::pubrec(&mut context, &ack),
            ClientPacket::PubComp(_) => handle::Next::Continue,
            ClientPacket::PubRel(ack) => handle::ack::pubrel(&mut context, &ack),
            ClientPacket::Subscribe(subscribe) => {
                handle::subscribe::handle(&mut context, turn, &subscribe)
            }
            ClientPacket::Unsubscribe(unsubscribe) => {
                handle::unsubscribe::handle(&mut context, turn, &unsubscribe)
            }
            ClientPacket::PingReq => {
                ping::encode_response(&mut self.outlet.lock().buf);
                handle::Next::Continue
            }
            ClientPacket::Disconnect(disconnect) => {
                handle::disconnect::handle(&mut context, &disconnect)?
            }
            ClientPacket::Auth(packet) => {
                auth::reauthenticate(&self.node, &self.outlet, active, &packet)
            }
        };
        match end {
            handle::Next::Continue => {}
            handle::Next::Close(ending) => self.close(Some(ending)),
            handle::Next::Disconnected { with_will } => {
                self.will_due = with_will;
                self.left = true;
                self.close(None);
            }
        }
        Ok(())
    }

    /// What a batch of packets leaves to do: settle in runs, pull for whoever got credit, look at
    /// the journal.
    fn after_input(&mut self, turn: &mut Turn, consumed: usize) {
        self.outlet.lock().received_bytes += consumed as u64;
        self.settle(turn);
        if !matches!(self.state, State::Active(_)) {
            return;
        }
        self.send_acks();
        self.fill(turn);
    }

    /// Settles what the client has acknowledged, one run for each queue in a row.
    fn settle(&mut self, turn: &mut Turn) {
        let Some(identity) = self.outlet.identity.get() else {
            return;
        };
        let mut settled = std::mem::take(&mut self.settled).into_iter().peekable();
        while let Some(first) = settled.next() {
            let queue = first.queue;
            let mut run = vec![(first.seq, first.message)];
            while let Some(next) = settled.next_if(|next| Arc::ptr_eq(&next.queue, &queue)) {
                run.push((next.seq, next.message));
            }
            identity
                .core
                .settle(turn, &queue, run.into_iter(), Settle::Ack);
        }
    }

    /// Gives whoever waited for credit what it waited for.
    fn fill(&mut self, turn: &mut Turn) {
        let starved = {
            let mut out = self.outlet.lock();
            if out.order.is_some() {
                return;
            }
            let bytes_max = self.outlet.output_bytes_max();
            if let Some(identity) = self.outlet.identity.get()
                && out.replay(&*identity.core, &self.outlet.options, turn)
            {
                self.outlet.bell.press_and_ring();
            }
            let room = out.buf.len() < bytes_max;
            out.flow
                .as_mut()
                .map(|flow| flow.take_starved(room))
                .unwrap_or_default()
        };
        for (queue, key) in starved {
            queue.pull(turn, self.outlet.connection, key);
        }
    }

    /// Something was put into the out-buffer, a watermark moved, or somebody wants the connection
    /// closed.
    pub fn handle_wake(&mut self, turn: &mut Turn) {
        self.look_for_order();
        self.reauthorise(turn);
        self.release_held(turn);
        self.send_acks();
        if self.work_off(turn) {
            self.after_input(turn, 0);
        } else {
            self.fill(turn);
        }
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, turn: &mut Turn) {
        let Some(deadline) = self.poll_timeout() else {
            return;
        };
        if deadline > turn.now {
            return;
        }
        if let State::Active(active) = &mut self.state
            && active
                .rare
                .as_mut()
                .is_some_and(|rare| rare.rate.go_on(turn.now))
        {
            // Nobody has counted its silence meanwhile.
            active.last_input = turn.now;
            self.outlet.bell.press_and_ring();
        }
        if let State::Active(active) = &self.state {
            self.send_again(active, turn.now);
        }
        let Some(_) = self.poll_timeout().filter(|next| *next <= turn.now) else {
            return;
        };
        match &self.state {
            State::Active(active) if active.ends_at().is_some_and(|end| end <= turn.now) => {
                let peer = self.outlet.accepted.peer;
                tracing::info!(%peer, "closing MQTT connection (maximum lifetime)");
                let why = "the connection has lasted for as long as it may";
                self.close(Some(Ending::new(ReasonCode::MaximumConnectTime, why)));
            }
            State::Active(_) => {
                // [MQTT-3.2.2-22]
                // [MQTT-3.1.2-22], 3.1.1 [MQTT-3.1.2-24]
                let peer = self.outlet.accepted.peer;
                tracing::info!(%peer, "closing MQTT connection (keepalive timeout)");
                let why = "nothing came for one and a half times the keep alive";
                self.close(Some(Ending::new(ReasonCode::KeepAliveTimeout, why)));
            }
            _ => {
                let peer = self.outlet.accepted.peer;
                tracing::info!(%peer, "closing MQTT connection (login timeout)");
                self.close(None);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::ExpectConnect { deadline } => Some(*deadline),
            State::Active(active) => {
                let silence = self.silence_deadline(active);
                let again = self.again_at(active);
                let others = [active.ends_at(), active.next_second(), again];
                silence
                    .into_iter()
                    .chain(others.into_iter().flatten())
                    .min()
            }
            State::AwaitLogin(pending) => self.awaits_auth().then_some(pending.deadline),
            State::Closed { .. } => None,
        }
    }

    /// When its silence is that of a client that is gone: one and a half times the Keep Alive.
    fn silence_deadline(&self, active: &Active<H::Core>) -> Option<Time> {
        if self.is_paused(active) {
            return None;
        }
        let silence_ms = u64::from(self.outlet.identity.get()?.keep_alive_s) * 1_500;
        (silence_ms > 0).then(|| active.last_input.after_ms(silence_ms))
    }

    /// A question that takes time, asked once.
    pub fn poll_request(&mut self) -> Option<Request> {
        match &mut self.state {
            State::AwaitLogin(pending) => pending.take_request(),
            State::Active(active) => active.stage()?.take_request(),
            _ => None,
        }
    }

    /// The answer to [`Self::poll_request`].
    pub fn handle_reply(&mut self, turn: &mut Turn, reply: Reply) {
        match reply {
            Reply::Login(verdict) => self.finish_login(turn, verdict),
            Reply::Scram(challenge) => self.handle_challenge(challenge),
        }
    }

    fn finish_login(&mut self, turn: &mut Turn, verdict: Verdict) {
        let State::AwaitLogin(_) = &self.state else {
            return;
        };
        let State::AwaitLogin(pending) = std::mem::replace(&mut self.state, State::OVER) else {
            return;
        };
        match login::finish(&self.node, &self.outlet, &pending, verdict, turn) {
            Ok(active) => {
                self.state = State::Active(Box::new(active));
                self.started = true;
                self.release_held(turn);
            }
            Err(ending) => {
                self.refuse(&ending);
                let expiry_ms = pending.expiry_ms;
                self.state = State::Closed { expiry_ms };
            }
        }
    }

    /// Moves what is to be written into `out`.
    pub fn poll_output(&mut self, out: &mut Vec<u8>) {
        let mut shared = self.outlet.lock();
        if shared.buf.is_empty() {
            return;
        }
        shared.sent_bytes += shared.buf.len() as u64;
        let was_full = shared.buf.len() >= self.outlet.output_bytes_max();
        if out.is_empty() {
            std::mem::swap(out, &mut shared.buf);
        } else {
            out.append(&mut shared.buf);
        }
        let flow = shared.flow.as_ref();
        let waits = flow.is_some_and(|flow| flow.is_replay_stalled())
            || was_full && (flow.is_some_and(|flow| flow.waits()) || self.has_held());
        drop(shared);
        if waits {
            // There is room again.
            self.outlet.bell.press_and_ring();
        }
    }

    /// Whether bytes are wanted: not while a login, a commit or the end of an alarm is awaited, nor
    /// while the client does not read what it is answered.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.state {
            State::ExpectConnect { .. } => true,
            State::Active(active) => {
                active.held.is_none()
                    && active.next_second().is_none()
                    && !self.outlet.is_full()
                    && !self.is_ahead(active)
                    && active
                        .blocked
                        .as_ref()
                        .is_none_or(|held| held.wants_input())
            }
            State::AwaitLogin(_) => self.awaits_auth(),
            State::Closed { .. } => false,
        }
    }

    /// Its silence says nothing: what it sends is not handled for reasons of ours.
    fn is_paused(&self, active: &Active<H::Core>) -> bool {
        active.held.is_some()
            || active.next_second().is_some()
            || active.blocked.is_some()
            || self.is_ahead(active)
    }

    /// Whether nothing more is wanted but the output written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether the client has said goodbye: it waits for nothing more.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.left
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.outlet.accepted.peer
    }

    /// Where the driver leaves its waker.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.outlet.bell
    }
}

impl<H: Host> std::fmt::Debug for Connection<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("connection", &self.outlet.connection)
            .field("peer", &self.outlet.accepted.peer)
            .finish_non_exhaustive()
    }
}
