//! What an alarm of the broker does to a connection that publishes: its packets are held back until
//! the alarm is cleared.
//!
//! Owns the order: nothing overtakes a PUBLISH that is held but what has no place in the order of
//! publishes, PINGREQ and the acknowledgements of deliveries. So a client that waits is not taken
//! for dead by itself, and what it consumes can be drained. A client that never publishes never
//! gets here.
//!
//! ```text
//! running ──PUBLISH while an alarm is set──▶ waiting: packets are held, up to HELD_BYTES_MAX
//!    ▲                                          │ no alarm is set
//!    └──── all held packets are handled ──── working off: nothing is read
//! ```

use std::sync::Arc;

use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;

use super::{Connection, PACKETS_PER_TURN_MAX, State};
use crate::codec::{self, PacketType};
use crate::limits::HELD_BYTES_MAX;
use crate::outlet::Nudge;
use crate::packet;

/// What a blocked connection has; nothing else is read before it is gone.
#[derive(Default)]
pub(super) struct Blocked {
    /// Whole packets, in their order.
    held: Vec<u8>,
    /// How much of that has been handled.
    done: usize,
    /// An alarm is set.
    waits: bool,
    /// Nothing more is held: the next packet has no room, or the client has said goodbye.
    full: bool,
}

impl Blocked {
    pub(super) fn wants_input(&self) -> bool {
        self.waits && !self.full
    }

    fn left(&self) -> &[u8] {
        &self.held[self.done..]
    }
}

/// A packet that may overtake publishes.
fn overtakes(packet: PacketType) -> bool {
    matches!(
        packet,
        PacketType::PingReq | PacketType::PubAck | PacketType::PubRec | PacketType::PubComp
    )
}

impl<H: Host> Connection<H> {
    /// Whether what begins with `input` is to be held back: one load for a PUBLISH, as long as no
    /// alarm is set.
    #[inline]
    pub(super) fn must_hold(&self, input: &[u8]) -> bool {
        let State::Active(active) = &self.state else {
            return false;
        };
        let publishes = || {
            input
                .first()
                .is_some_and(|first| first >> 4 == PacketType::Publish as u8)
        };
        active.blocked.is_some() || (publishes() && self.is_alarmed())
    }

    fn is_alarmed(&self) -> bool {
        let identity = self.outlet.identity.get();
        identity.is_some_and(|identity| identity.core.alarms().is_set())
    }

    /// Holds packets back, as far as there is room, and handles those that may overtake them. Says
    /// how many bytes were taken.
    pub(super) fn hold(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        let mut taken = 0;
        while let State::Active(active) = &mut self.state {
            let blocked = active.blocked.get_or_insert_default();
            let rest = &input[taken..];
            let (header, header_bytes) = match codec::decode_header(rest) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => {
                    // Its turn comes behind what is held.
                    blocked.full = true;
                    break;
                }
            };
            let whole = header_bytes + header.remaining_length as usize;
            let body = rest.get(header_bytes..whole);
            if overtakes(header.packet_type) {
                let Some(body) = body else {
                    blocked.full = whole > HELD_BYTES_MAX;
                    break;
                };
                if packet::decode(active.version, header, body).is_ok() {
                    self.handle_packet(turn, header, body);
                    taken += whole;
                    continue;
                }
            }
            // Checked before memory is taken, here and by whoever reads on.
            blocked.full = blocked.left().len() + whole > HELD_BYTES_MAX;
            if blocked.full || body.is_none() {
                break;
            }
            blocked.held.extend_from_slice(&rest[..whole]);
            taken += whole;
            if header.packet_type == PacketType::Disconnect {
                // The stream ends behind it, and must not be seen to before its turn comes.
                blocked.full = true;
                break;
            }
        }
        self.wait_for_alarms();
        taken
    }

    /// Has the connection woken when no alarm is set, at once if none is.
    fn wait_for_alarms(&mut self) {
        let (State::Active(active), Some(identity)) = (&mut self.state, self.outlet.identity.get())
        else {
            return;
        };
        let Some(blocked) = &mut active.blocked else {
            return;
        };
        let nudge: Arc<dyn Wake> = Arc::new(Nudge(Arc::clone(&self.outlet)));
        let alarms = identity.core.alarms();
        if !alarms.wait(self.outlet.connection, &nudge) {
            self.outlet.bell.press_and_ring();
        }
        if !std::mem::replace(&mut blocked.waits, true) {
            self.outlet.lock().blocked = true;
            let peer = self.outlet.accepted.peer;
            let reason = alarms.reason();
            tracing::debug!(%peer, reason, "MQTT publisher is blocked");
        }
    }

    /// Handles what was held back, if no alarm is set any more; says whether anything was.
    pub(super) fn work_off(&mut self, turn: &mut Turn) -> bool {
        let State::Active(active) = &mut self.state else {
            return false;
        };
        if active.blocked.is_none() {
            return false;
        }
        if self.is_alarmed() {
            self.wait_for_alarms();
            return false;
        }
        let State::Active(active) = &mut self.state else {
            return false;
        };
        let Some(mut blocked) = active.blocked.take() else {
            return false;
        };
        if std::mem::take(&mut blocked.waits) {
            // Nobody has counted its silence meanwhile.
            active.last_input = turn.now;
            self.outlet.lock().blocked = false;
        }
        let alarmed = self.handle_held(turn, &mut blocked);
        if let State::Active(active) = &mut self.state
            && !blocked.left().is_empty()
        {
            blocked.held.drain(..blocked.done);
            (blocked.done, blocked.full) = (0, false);
            active.blocked = Some(blocked);
            if alarmed {
                self.wait_for_alarms();
            }
        }
        true
    }

    /// Handles held packets while there is no reason to stop; whoever removes the reason wakes the
    /// connection. Says whether the reason is an alarm.
    fn handle_held(&mut self, turn: &mut Turn, blocked: &mut Blocked) -> bool {
        let mut packets = 0;
        while !blocked.left().is_empty() {
            if !self.wants_input() || self.outlet.lock().evicted {
                return false;
            }
            if self.must_hold(blocked.left()) {
                return true;
            }
            if packets >= PACKETS_PER_TURN_MAX || turn.is_spent() {
                self.outlet.bell.press_and_ring();
                return false;
            }
            match self.split(blocked.left()) {
                Ok(Some((header, header_bytes))) => {
                    let whole = header_bytes + header.remaining_length as usize;
                    let body = &blocked.left()[header_bytes..whole];
                    packets += self.handle_packet(turn, header, body);
                    blocked.done += whole;
                }
                Ok(None) => {
                    debug_assert!(false, "only whole packets are held");
                    return false;
                }
                Err(violation) => {
                    self.violated(&violation);
                    return false;
                }
            }
        }
        false
    }

    /// Whether held packets wait for room in the out-buffer: nobody else wakes the connection for
    /// it.
    pub(super) fn has_held(&self) -> bool {
        matches!(&self.state, State::Active(active)
            if active.blocked.as_ref().is_some_and(|blocked| !blocked.waits))
    }

    /// The connection closes: it waits for nothing, and what it holds was never acknowledged.
    pub(super) fn forget_alarms(&mut self) {
        let (State::Active(active), Some(identity)) = (&mut self.state, self.outlet.identity.get())
        else {
            return;
        };
        let Some(blocked) = active.blocked.take() else {
            return;
        };
        identity.core.alarms().leave(self.outlet.connection);
        let peer = self.outlet.accepted.peer;
        let bytes = blocked.left().len();
        if bytes > 0 {
            tracing::info!(%peer, bytes, "connection ended with publishes that an alarm held back");
        }
    }
}
