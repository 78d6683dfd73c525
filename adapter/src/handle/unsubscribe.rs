//! UNSUBSCRIBE. The queue stays, with what is in it. MQTT 5.0 §3.10.

use leveret_core::events::What;
use leveret_core::key::Form;
use leveret_core::link::BindQueue;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use super::subscribe::{binding_arguments, reason_string, too_large};
use super::{Context, Next};
use crate::codec::PacketType;
use crate::flow::Subscription;
use crate::outlet::{Identity, Outlet};
use crate::packet::unsuback;
use crate::packet::unsubscribe::Unsubscribe;
use crate::reason_code::ReasonCode;
use crate::session;

/// Ends the subscriptions with exactly these filters ([MQTT-3.10.4-1]).
// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6]
pub(crate) fn handle<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    packet: &Unsubscribe<'_>,
) -> Next {
    if let Some(end) = too_large(context, PacketType::UnsubAck, packet.filters().count()) {
        return end;
    }
    let mut reasons = Vec::new();
    let mut told = None;
    for text in packet.filters() {
        let (reason, why) = end_text(context, turn, text);
        if reason == ReasonCode::Success {
            let filter = text;
            context.outlet.tell(turn.now, || What::Unsubscribed {
                filter: filter.into(),
            });
        }
        reasons.push(reason);
        if let Some(why) = why {
            told.get_or_insert((reason, why));
        }
    }
    let told = told.as_ref().map(|(reason, why)| (*reason, &**why));
    let properties = reason_string(context, PacketType::UnsubAck, reasons.len(), told);
    let mut bytes = Vec::new();
    let (version, packet_id) = (context.version, packet.packet_id);
    // They are fewer than the bytes of the UNSUBSCRIBE, and the string has a limit: they fit.
    let _ = unsuback::encode(&mut bytes, version, packet_id, &reasons, &properties);
    context.hold(bytes, Vec::new(), None);
    Next::Continue
}

/// Ends the subscription with this text.
pub(super) fn end_text<C: Core>(
    context: &Context<'_, C>,
    turn: &mut Turn,
    text: &str,
) -> (ReasonCode, Option<Box<str>>) {
    let held = {
        let mut out = context.outlet.lock();
        out.flow.as_mut().and_then(|flow| flow.unsubscribe(text))
    };
    match held {
        None => (ReasonCode::NoSubscriptionExisted, None),
        Some(held) => end(context, turn, held),
    }
}

// [MQTT-3.10.4-2], [MQTT-3.10.4-3]
fn end<C: Core>(
    context: &Context<'_, C>,
    turn: &mut Turn,
    held: Subscription,
) -> (ReasonCode, Option<Box<str>>) {
    let identity = context.identity;
    if held.share().is_some() {
        leave_shared(context.outlet, identity, turn, &held);
        return (ReasonCode::Success, None);
    }
    let queue = session::queue_name(identity.session(), held.options.qos);
    let unbound = identity.core.unbind(&BindQueue {
        queue: &queue,
        exchange: context.outlet.exchange(),
        key: held.filter().as_bytes(),
        form: Form::Slashed,
        arguments: binding_arguments(identity.claim(), &held),
    });
    match unbound {
        Ok(_) => (ReasonCode::Success, None),
        Err(refusal) => {
            // The subscription stands: it is still bound.
            session::add(context.outlet, held);
            let reason = match refusal.code {
                ReplyCode::AccessRefused => ReasonCode::NotAuthorized,
                _ => ReasonCode::UnspecifiedError,
            };
            (reason, Some(refusal.text))
        }
    }
}

/// Gives up the session's part in a group.
fn leave_shared<C: Core>(
    outlet: &Outlet<C>,
    identity: &Identity<C>,
    turn: &mut Turn,
    held: &Subscription,
) {
    let queue = {
        let mut out = outlet.lock();
        let slot = out
            .flow
            .as_mut()
            .and_then(|f| f.slots.get_mut(held.slot as usize));
        slot.and_then(|slot| slot.queue.take())
    };
    // The consumer goes with the membership; what it has in flight stays with it until it is
    // acknowledged.
    if let Some(queue) = queue {
        identity.core.cancel(turn, &queue, u64::from(held.slot));
    }
    session::leave_group(&session::Membership::of(identity, outlet.exchange()), held);
}

/// Ends a subscription that the session has forgotten, whatever its user may do by now.
pub(crate) fn end_own<C: Core>(
    outlet: &Outlet<C>,
    identity: &Identity<C>,
    turn: &mut Turn,
    held: &Subscription,
) {
    if held.share().is_some() {
        leave_shared(outlet, identity, turn, held);
        return;
    }
    identity.core.unbind_own(&BindQueue {
        queue: &session::queue_name(identity.session(), held.options.qos),
        exchange: outlet.exchange(),
        key: held.filter().as_bytes(),
        form: Form::Slashed,
        arguments: binding_arguments(identity.claim(), held),
    });
}
