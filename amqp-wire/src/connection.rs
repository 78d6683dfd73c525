//! One AMQP 0-9-1 connection: bytes in, bytes out, and everything between.
//!
//! Owns the phases of a connection and the table of its channels; never reads a socket or a clock.
//! AMQP 0-9-1 §2.2.4 and class connection:
//!
//! ```text
//! connection = open-connection *use-connection close-connection
//! open-connection = C:protocol-header S:START C:START-OK *challenge S:TUNE C:TUNE-OK
//!                   C:OPEN S:OPEN-OK
//! close-connection = C:CLOSE S:CLOSE-OK / S:CLOSE C:CLOSE-OK
//!
//! ExpectHeader ──header──▶ ExpectStartOk ──start-ok──▶ AwaitLogin ──accepted──▶ ExpectTuneOk
//!      │ wrong                                             │ refused               │ tune-ok
//!      ▼                                                   ▼                       ▼
//!   Closed ◀──close-ok, or no patience── Closing      Silent ──3 s──▶ Closed   ExpectOpen
//!                                           ▲                                      │ open
//!                                           └────────── any failure ─────────── Open ◀┘
//! ```

mod blocked;
mod closing;
mod handshake;
mod input;
mod secret;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use leveret_core::doorbell::Doorbell;
use leveret_core::login::{Reply, Request};
use leveret_core::peer::{Accepted, CloseReason, Peer};
use leveret_core::reply_code::ReplyCode;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;

use crate::channel::{Channel, look_at_commit};
use crate::failure::Failure;
use crate::frame;
use crate::heartbeat::Heartbeat;
use crate::limits::{FRAMES_PER_CALL_MAX, REPLY_BYTES_MAX};
use crate::method::MethodId;
use crate::node::Node;
use crate::outlet::overdue::Patience;
use crate::outlet::{Bell, Outlet, Seen};
use crate::session::Session;

/// The machine of one connection.
///
/// The driver gives it input, time and wake-ups, and takes its output; see the methods.
pub struct Connection {
    node: Arc<Node>,
    outlet: Arc<Outlet>,
    bell: Arc<dyn Wake>,
    id: u64,
    phase: Phase,
    /// When a phase that may not last ends.
    deadline: Option<Time>,
    /// The time of the last call.
    now: Time,
    heart: Heartbeat,
    frame_max: u32,
    channel_max: u16,
    /// Bytes of input that were offered and not taken.
    left_over: usize,
    user: Box<str>,
    mechanism: &'static str,
    capabilities: Capabilities,
    request: Option<Box<Request>>,
    /// Not before this has a delivery waited too long.
    overdue_at: Time,
    session: Option<Box<Session>>,
    channels: HashMap<u16, Box<Channel>, RandomState>,
    /// It has published while an alarm is set, and waits.
    blocked: bool,
    /// Why it ends, for the log.
    why: Option<Box<str>>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    ExpectHeader,
    ExpectStartOk,
    AwaitLogin,
    ExpectTuneOk,
    ExpectOpen,
    Open,
    /// `connection.close` was sent; `deaf` when the input cannot be cut into frames any more.
    Closing {
        deaf: bool,
    },
    /// A refused client that cannot be told: nothing is said until the deadline.
    Silent,
    Closed,
}

/// What a client can do, of those things that change what the server does.
#[derive(Clone, Copy, Debug, Default)]
struct Capabilities {
    authentication_failure_close: bool,
    consumer_cancel_notify: bool,
    connection_blocked: bool,
}

impl Connection {
    /// The machine of a stream that was accepted at `now`; puts it on the broker's list.
    #[must_use]
    pub fn new(node: &Arc<Node>, accepted: Accepted, now: Time) -> Self {
        let outlet = Outlet::new(accepted, now);
        let id = node.broker.new_connection();
        node.broker
            .register(id, Arc::clone(&outlet) as Arc<dyn Peer>);
        let connection = Self {
            node: Arc::clone(node),
            bell: Arc::new(Bell(Arc::clone(&outlet))),
            outlet,
            id,
            phase: Phase::ExpectHeader,
            deadline: Some(now.after_ms(node.options.handshake_timeout_ms)),
            now,
            heart: Heartbeat::default(),
            frame_max: node.options.initial_frame_max,
            channel_max: node.options.channel_max,
            left_over: 0,
            user: Box::default(),
            mechanism: "",
            capabilities: Capabilities::default(),
            request: None,
            overdue_at: Time(u64::MAX),
            session: None,
            channels: HashMap::default(),
            blocked: false,
            why: None,
        };
        tracing::info!(
            connection = id,
            peer = %connection.outlet.accepted().peer,
            listener = &*connection.outlet.accepted().origin.listener,
            "accepted AMQP connection"
        );
        connection
    }

    /// Takes whole frames off `input`, at most [`FRAMES_PER_CALL_MAX`]; says how many bytes that
    /// were. The rest is to be offered again, with more behind it or when the connection wants
    /// input again.
    pub fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        self.now = turn.now;
        let new_bytes = input.len().saturating_sub(self.left_over);
        if new_bytes > 0 {
            self.outlet
                .tell(|facts| facts.received_bytes += new_bytes as u64);
        }
        let mut taken = 0;
        for _ in 0..FRAMES_PER_CALL_MAX {
            if !self.wants_input() {
                break;
            }
            match self.step(turn, &input[taken..]) {
                0 => break,
                bytes => taken += bytes,
            }
            if turn.is_spent() {
                break;
            }
        }
        if taken > 0 || new_bytes > 0 {
            // Also what waited to be worked off is a sign of life.
            self.heart.received(turn.now);
        }
        self.left_over = input.len() - taken;
        self.finish_batch(turn);
        taken
    }

    /// One frame, or one whole message.
    fn step(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        match self.phase {
            Phase::ExpectHeader => return self.handle_header(input),
            Phase::Closed | Phase::Silent | Phase::Closing { deaf: true } => return input.len(),
            _ => {}
        }
        match frame::decode(input, self.frame_max) {
            Ok(None) => 0,
            Ok(Some((frame, taken))) => taken + self.handle_frame(turn, &frame, &input[taken..]),
            Err(error) => {
                self.handle_bad_frame(turn, error, input);
                input.len()
            }
        }
    }

    /// Something was pressed at the doorbell: deliveries to flush, a watermark, room in the
    /// out-buffer, a queue that is gone, or the broker's wish that the connection end.
    pub fn handle_wake(&mut self, turn: &mut Turn) {
        self.now = turn.now;
        if let Some(session) = &mut self.session {
            session.release_reply();
        }
        self.finish_batch(turn);
    }

    /// What a batch of input or a wake-up leaves to do.
    fn finish_batch(&mut self, turn: &mut Turn) {
        let mut seen = self.look();
        if seen.timeouts {
            seen.overdue_at = self.retime();
        }
        // Not with the output alone: there is none while the peer does not read.
        self.overdue_at = seen.overdue_at;
        if let Some(session) = self.session.as_deref_mut() {
            session.settle_acked(turn);
            let notify = self.capabilities.consumer_cancel_notify;
            for key in seen.cancelled {
                if let Some(channel) = self.channels.get_mut(&channel_of(key)) {
                    channel.cancelled(session, key, notify);
                }
            }
            if seen.permissions {
                let channels = self.channels.values_mut();
                channels.for_each(|channel| channel.reauthorise(session, turn, notify));
            }
            let mut confirming = std::mem::take(&mut session.confirming);
            confirming.retain(|id| {
                let channel = self.channels.get_mut(id);
                channel.is_some_and(|channel| channel.flush_confirms(session))
            });
            session.confirming = confirming;
            session.wait_for_disk();
            session.go_on_replaying(turn);
            session.pull_returned(turn);
            if seen.room {
                session.pull_all(turn);
            }
            if let Some((channel, failure)) = look_at_commit(session) {
                self.fail(turn, channel, &failure);
            }
        }
        self.look_at_alarms();
        let session = self.session.as_ref();
        if session.is_some_and(|session| session.waits_in_vain()) {
            self.close(turn, &CloseReason::DiskFailed);
        }
        if let Some(why) = seen.close {
            self.close(turn, &why);
        }
    }

    /// Tells others what changed in a batch, and asks what they want.
    fn look(&mut self) -> Seen {
        let Some(session) = self.session.as_deref_mut() else {
            return self.outlet.look(false, std::iter::empty());
        };
        // A queue's end is told behind the answer to whoever asked for it.
        let is_held = session.is_held();
        let (changed, more) = session.take_changed();
        let one = self.channels.get_key_value(&changed).filter(|_| !more);
        let all = more.then(|| self.channels.iter());
        let told = one.into_iter().chain(all.into_iter().flatten());
        let told = told.map(|(id, channel)| (*id, channel.counts()));
        self.outlet.look(is_held, told)
    }

    /// The time that [`Self::poll_timeout`] named has come, or passed, or not: it looks.
    pub fn handle_timeout(&mut self, turn: &mut Turn) {
        self.now = turn.now;
        if self.deadline.is_some_and(|at| at <= turn.now) {
            self.handle_deadline(turn);
        }
        if self.overdue_at <= turn.now {
            self.handle_overdue(turn);
        }
        if !self.is_beating() {
            return;
        }
        // Input that is not read because of a slow disk or an alarm is not the peer's silence. A
        // peer that does not read its answers is another matter.
        if self.session.as_ref().is_some_and(|session| {
            session.is_held()
                || session.met_alarm
                || session.is_ahead()
                || self.are_confirms_full(session)
        }) {
            self.heart.received(turn.now);
        }
        if self.heart.is_dead(turn.now) {
            let silence_s = self.heart.silence_s();
            self.end(
                turn,
                format!("missed heartbeats from client: {silence_s} s of silence"),
            );
        } else if self.heart.is_due(turn.now) {
            self.outlet.append(frame::heartbeat);
            self.heart.sent(turn.now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let beat = if self.is_beating() {
            self.heart.next()
        } else {
            None
        };
        let overdue = (self.overdue_at < Time(u64::MAX)).then_some(self.overdue_at);
        [self.deadline, beat, overdue].into_iter().flatten().min()
    }

    fn is_beating(&self) -> bool {
        matches!(self.phase, Phase::ExpectOpen | Phase::Open)
    }

    /// A question for somebody who may wait; its answer goes to [`Self::handle_reply`].
    pub fn poll_request(&mut self) -> Option<Request> {
        self.request.take().map(|request| *request)
    }

    /// The answer to what [`Self::poll_request`] asked.
    pub fn handle_reply(&mut self, turn: &mut Turn, reply: Reply) {
        self.now = turn.now;
        // It asks nothing else.
        let Reply::Login(verdict) = reply else { return };
        if self.phase == Phase::AwaitLogin {
            self.handle_verdict(turn, verdict);
        }
    }

    /// Moves all pending bytes to the end of `out`.
    pub fn poll_output(&mut self, out: &mut Vec<u8>) {
        let (moved, overdue_at) = self.outlet.poll_output(out);
        self.overdue_at = overdue_at;
        if moved > 0 {
            self.heart.sent(self.now);
        }
        if let Some(session) = &mut self.session {
            session.replied_bytes = 0;
        }
    }

    /// `false` while input must wait: for a login, for a disk, for an alarm to clear, or because
    /// the client does not read the answers to what it asked.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::AwaitLogin | Phase::Closed => false,
            Phase::Open => self.session.as_ref().is_some_and(|session| {
                !session.is_held()
                    && !session.met_alarm
                    && session.replied_bytes < REPLY_BYTES_MAX
                    && !session.is_ahead()
                    && !self.are_confirms_full(session)
            }),
            _ => true,
        }
    }

    /// Has all deliveries wait as long as their queues say now; says when the first is late.
    fn retime(&mut self) -> Time {
        let mut patience = Patience::new(self.node.options.consumer_timeout_ms);
        for (id, channel) in &mut self.channels {
            if channel.tx_retime(&mut patience) {
                // They may come back among others, and be due before those in front.
                self.outlet.watch_all(*id);
            }
        }
        self.outlet.retime(&mut patience)
    }

    /// Closes the channels with a delivery that was not acknowledged in time.
    fn handle_overdue(&mut self, turn: &mut Turn) {
        for (channel, timeout_ms) in self.outlet.overdue(turn.now) {
            let text = format!(
                "delivery acknowledgement on channel {channel} timed out. Timeout value used: \
                 {timeout_ms} ms. This timeout value can be configured, see consumers doc guide \
                 to learn more"
            );
            let code = ReplyCode::PreconditionFailed;
            let failure = Failure::new(code, text, MethodId::default());
            self.fail(turn, channel, &failure);
        }
        self.finish_batch(turn);
    }

    fn are_confirms_full(&self, session: &Session) -> bool {
        let full = |id| {
            self.channels
                .get(id)
                .is_some_and(|channel| channel.confirms_full())
        };
        session.confirming.iter().any(full)
    }

    /// Nothing more is wanted: the driver flushes what [`Self::poll_output`] gives and shuts the
    /// stream down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The stream is gone or was shut. Called once, as the last.
    pub fn handle_close(&mut self, turn: &mut Turn) {
        self.now = turn.now;
        let before = std::mem::replace(&mut self.phase, Phase::Closed);
        self.release(turn);
        self.node.broker.deregister(self.id);
        let why = self.why.take().unwrap_or_else(|| match before {
            Phase::Closed => "closed".into(),
            _ => "client closed the stream without connection.close".into(),
        });
        tracing::info!(
            connection = self.id,
            peer = %self.outlet.accepted().peer,
            user = &*self.user,
            reason = &*why,
            "closed AMQP connection"
        );
    }

    /// Where the driver registers its waker, and whose answer says that
    /// [`Self::handle_wake`] has something to do.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        self.outlet.doorbell()
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.outlet.accepted().peer
    }

    fn peer_ip(&self) -> IpAddr {
        self.outlet.accepted().peer.ip()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

/// The channel of a consumer's key.
fn channel_of(key: u64) -> u16 {
    // The upper half was made from a u16.
    (key >> 32) as u16
}
