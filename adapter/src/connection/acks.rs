//! Acknowledgements that wait for the journal, and how far publishing may go ahead of it.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::limits::LEAD_BYTES_MAX;
use leveret_core::seam::{Core, Host};
use leveret_core::watermark::Wake;

use super::{Active, Connection, State};
use crate::codec::PacketType;
use crate::limits::ACKS_WAITING_MAX;
use crate::outlet::{Nudge, Out, roomy};
use crate::packet::ack;
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;

/// Acknowledgements that wait for the journal, in the order of the publishes ([MQTT-4.6.0-2]).
#[derive(Default)]
pub(crate) struct Acks {
    pub(crate) pending: VecDeque<PendingAck>,
    /// What the client is told with those of them that are [`PendingAck::told`].
    pub(crate) texts: VecDeque<Box<str>>,
    /// The journal's number that a wake-up was asked for.
    awaited: u64,
}

/// A PUBACK, PUBREC or PUBCOMP that is not due yet.
pub(crate) struct PendingAck {
    /// `None`: nothing is said.
    pub(crate) packet: Option<PacketType>,
    pub(crate) packet_id: NonZeroU16,
    pub(crate) reason: ReasonCode,
    /// A text goes with it.
    pub(crate) told: bool,
    pub(crate) journaled: u64,
}

/// Appends an acknowledgement with a Reason String.
pub(crate) fn put_told(
    out: &mut Out,
    packet: PacketType,
    packet_id: NonZeroU16,
    code: ReasonCode,
    text: &str,
) {
    let mut properties = Vec::new();
    let (terms, version) = (out.terms, out.version);
    reason::add(&terms, version, packet, 3, &mut properties, (code, text));
    let buf = roomy(&mut out.buf);
    // A Reason String has a limit: it always fits.
    let _ = ack::encode_with_properties(buf, version, packet, packet_id, code, &properties);
}

impl<H: Host> Connection<H> {
    /// Sends the acknowledgements that the journal has passed, in order.
    pub(super) fn send_acks(&mut self) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(identity) = self.outlet.identity.get() else {
            return;
        };
        let Some(acks) = active.acks.as_deref_mut() else {
            return;
        };
        let Some(first) = acks.pending.front() else {
            return;
        };
        if first.journaled > identity.core.journal_durable() {
            if identity.core.journal_failed() {
                // It is not acknowledged, and never will be: the client may try elsewhere.
                self.close(Some(Ending::disk()));
                return;
            }
            let nudge: Arc<dyn Wake> = Arc::new(Nudge(Arc::clone(&self.outlet)));
            let asked = first.journaled <= acks.awaited;
            if asked || identity.core.wait_journal(first.journaled, &nudge) {
                acks.awaited = acks.awaited.max(first.journaled);
                return;
            }
        }
        let durable = identity.core.journal_durable();
        let mut out = self.outlet.lock();
        while let Some(due) = acks.pending.pop_front_if(|next| next.journaled <= durable) {
            let version = out.version;
            let text = due.told.then(|| acks.texts.pop_front()).flatten();
            if let (Some(packet), Some(text)) = (due.packet, &text) {
                put_told(&mut out, packet, due.packet_id, due.reason, text);
            } else if let Some(packet) = due.packet {
                let buf = roomy(&mut out.buf);
                ack::encode(buf, version, packet, due.packet_id, due.reason);
            }
        }
        drop(out);
        if !acks.pending.is_empty() {
            self.outlet.bell.press_and_ring();
        }
    }

    /// So much that it has published is not on disk yet that nothing more is read; the disk wakes
    /// it for the acknowledgements.
    pub(super) fn is_ahead(&self, active: &Active<H::Core>) -> bool {
        let (Some(acks), Some(identity)) = (&active.acks, self.outlet.identity.get()) else {
            return false;
        };
        let last = acks.pending.back().map_or(0, |last| last.journaled);
        let lead = last.saturating_sub(identity.core.journal_durable());
        lead > LEAD_BYTES_MAX || acks.pending.len() >= ACKS_WAITING_MAX
    }
}
