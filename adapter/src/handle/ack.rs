//! PUBACK, PUBREC, PUBREL and PUBCOMP from the client. MQTT 5.0 §3.4 to §3.7.

use leveret_core::queue::{Settle, Unacked};
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use super::publish::{answer, answer_told};
use super::{Context, Next};
use crate::codec::PacketType;
use crate::connection::{Settled, put_told};
use crate::flow::exact::Step;
use crate::flow::{Received, Source};
use crate::packet::QoS;
use crate::packet::ack::Ack;
use crate::reason_code::ReasonCode;

/// A QoS 1 delivery is done. An id that is not in flight is ignored. R§2.10: after a failure the
/// message is given up, it is not sent again.
// [MQTT-4.4.0-2], [MQTT-4.8.2-6]
pub(crate) fn puback<C: Core>(context: &mut Context<'_, C>, ack: &Ack<'_>) -> Next {
    let done = {
        let mut out = context.outlet.lock();
        let flow = out.flow.as_mut();
        flow.and_then(|flow| flow.acknowledged(ack.packet_id, QoS::AtLeastOnce))
    };
    if let Some(held) = done {
        let failed = ack.reason.is_failure();
        let how = if failed { Settle::Reject } else { Settle::Ack };
        settle(context, held.source, how);
    }
    Next::Continue
}

fn settle<C: Core>(context: &mut Context<'_, C>, source: Source, how: Settle) {
    if let Source::Queue(unacked) = source {
        context.settled.push(Settled::new(unacked, how));
    }
}

/// The client has a QoS 2 message, or does not want it: see [`crate::flow::exact`].
pub(crate) fn pubrec<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    received: &Ack<'_>,
) -> Next {
    let packet_id = received.packet_id;
    let step = {
        let mut out = context.outlet.lock();
        let flow = out.flow.as_mut();
        flow.map_or(Step::Unknown, |flow| {
            flow.received(packet_id, received.reason.is_failure())
        })
    };
    match step {
        Step::Received(source) => {
            // [MQTT-4.3.3-4]: but the client forgets the identifier once it is released, so that
            // no restart may bring the message back.
            let number = match source {
                Source::Queue(Unacked {
                    queue,
                    seq,
                    message,
                }) => {
                    let core = &context.identity.core;
                    core.settle_surely(turn, &queue, (seq, message))
                }
                Source::Retained(..) => 0,
            };
            {
                let mut out = context.outlet.lock();
                out.flow.iter_mut().for_each(|flow| flow.settled(number));
            }
            let success = ReasonCode::Success;
            answer(context, PacketType::PubRel, packet_id, success, number);
        }
        Step::Again(number) => {
            let success = ReasonCode::Success;
            answer(context, PacketType::PubRel, packet_id, success, number);
        }
        Step::Refused(source, place) => {
            if let Some(source) = source {
                settle(context, source, Settle::Reject);
            }
            context.identity.core.complete_sent(place.as_slice());
        }
        Step::Unknown => {
            let reason = ReasonCode::PacketIdentifierNotFound;
            let why = "PUBREC: nothing in flight has this packet identifier";
            let mut out = context.outlet.lock();
            put_told(&mut out, PacketType::PubRel, packet_id, reason, why);
        }
    }
    Next::Continue
}

/// A QoS 2 delivery is done: its identifier may be used again. One that is not known is ignored.
pub(crate) fn pubcomp<C: Core>(context: &mut Context<'_, C>, completed: &Ack<'_>) -> Next {
    let place = {
        let mut out = context.outlet.lock();
        let flow = out.flow.as_mut();
        flow.and_then(|flow| flow.completed(completed.packet_id))
    };
    if let Some(place) = place {
        context.identity.core.complete_sent(&[place]);
    }
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
