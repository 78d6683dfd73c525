//! PUBACK, PUBREC and PUBREL from the client. MQTT 5.0 §3.4 to §3.6.

use leveret_core::queue::Unacked;
use leveret_core::seam::Core;

use super::publish::{answer, answer_told};
use super::{Context, Next};
use crate::codec::PacketType;
use crate::connection::{Settled, put_told};
use crate::flow::Received;
use crate::packet::ack::Ack;
use crate::reason_code::ReasonCode;

/// A QoS 1 delivery is done. An id that is not in flight is ignored. A failure settles as well: the
/// client does not want the message again.
// [MQTT-4.4.0-2], [MQTT-4.8.2-6]
pub(crate) fn puback<C: Core>(context: &mut Context<'_, C>, ack: &Ack<'_>) -> Next {
    let done = {
        let mut out = context.outlet.lock();
        out.flow
            .as_mut()
            .and_then(|flow| flow.acknowledged(ack.packet_id))
    };
    if let Some(unacked) = done.and_then(|held| held.unacked) {
        let Unacked {
            queue,
            seq,
            message,
        } = unacked;
        context.settled.push(Settled {
            queue,
            seq,
            message,
        });
    }
    Next::Continue
}

/// Nothing was sent with QoS 2: a 5.0 client is told that the id is unknown.
pub(crate) fn pubrec<C: Core>(context: &mut Context<'_, C>, received: &Ack<'_>) -> Next {
    let reason = ReasonCode::PacketIdentifierNotFound;
    let why = "PUBREC: nothing in flight has this packet identifier";
    let mut out = context.outlet.lock();
    put_told(
        &mut out,
        PacketType::PubRel,
        received.packet_id,
        reason,
        why,
    );
    Next::Continue
}

/// A QoS 2 publish is released: its id may be used again ([MQTT-4.3.3-11]).
pub(crate) fn pubrel<C: Core>(context: &mut Context<'_, C>, released: &Ack<'_>) -> Next {
    let known = {
        let mut out = context.outlet.lock();
        let flow = out.flow.as_mut();
        flow.and_then(|flow| flow.received.remove(&released.packet_id.get()))
    };
    if let (Some(_), Some(rare)) = (&known, &mut context.active.rare) {
        // One of the connection before counted for nothing here.
        rare.unreleased = rare.unreleased.saturating_sub(1);
    }
    let (reason, journaled) = match known {
        Some(Received { place: None, .. }) => (ReasonCode::Success, 0),
        Some(Received { place, .. }) => {
            // Once the client knows, it uses the id again: no restart may bring it back.
            let core = &context.identity.core;
            (ReasonCode::Success, core.release_received(place.as_slice()))
        }
        // The connection before this one may have released it a moment ago.
        None if context.active.expiry_ms != Some(0) => {
            let journaled = context.identity.core.release_received(&[]);
            (ReasonCode::PacketIdentifierNotFound, journaled)
        }
        None => (ReasonCode::PacketIdentifierNotFound, 0),
    };
    let packet_id = released.packet_id;
    let packet = PacketType::PubComp;
    if reason == ReasonCode::Success {
        answer(context, packet, packet_id, reason, journaled);
    } else {
        let why = "PUBREL: nothing that was received has this packet identifier";
        answer_told(context, packet, packet_id, (reason, why), journaled);
    }
    Next::Continue
}
