//! SUBSCRIBE: queues, bindings, retained messages. MQTT 5.0 §3.8; R§2.6 has the order of things.

use leveret_core::events::What;
use leveret_core::key::{Form, dotted_text};
use leveret_core::link::BindQueue;
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use super::{Context, Next, topic_too_deep};
use crate::codec::PacketType;
use crate::flow::{Subscription, is_walked};
use crate::limits::{SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_WALKED_MAX};
use crate::options::TopicFilters;
use crate::packet::subscribe::{self, RetainHandling, Subscribe};
use crate::packet::{QoS, suback};
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;
use crate::replay::Replay;
use crate::session;
use crate::topic::{FilterMode, ParsedFilter};

/// The filter rules of a listener.
pub(crate) fn filter_mode(filters: TopicFilters) -> FilterMode {
    match filters {
        TopicFilters::Flexible => FilterMode::Flexible,
        TopicFilters::Strict => FilterMode::Strict,
    }
}

/// Subscribes to every filter in the order of the packet, answers with one code for each
/// ([MQTT-3.8.4-6]), and sends retained messages after the answer.
// [MQTT-2.2.1-6], [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-5], [MQTT-3.8.4-7]
pub(crate) fn handle<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    packet: &Subscribe<'_>,
) -> Next {
    if let Some(end) = too_large(context, PacketType::SubAck, packet.filter_count) {
        return end;
    }
    let mut reasons = Vec::with_capacity(packet.filter_count);
    let mut told = None;
    let mut replay = Vec::new();
    let mut fatal = None;
    let mut refusals = 0;
    for wanted in packet.filters() {
        if let Some(Ending { code, .. }) = &fatal {
            reasons.push(*code);
            continue;
        }
        match subscribe(context, turn, packet, &wanted, &mut replay) {
            Ok(granted) => {
                context.outlet.tell(turn.now, || What::Subscribed {
                    filter: wanted.filter.into(),
                    qos: granted as u8,
                });
                reasons.push(granted);
            }
            Err(refused) => {
                let peer = context.outlet.accepted.peer;
                let (client_id, why) = (&*context.identity.client_id, &refused.why);
                let filter = wanted.filter;
                refusals += 1;
                // Others of the packet are refused for the same or a like reason.
                if refusals == 1 {
                    tracing::warn!(%peer, client_id, filter, why, "subscription refused");
                }
                reasons.push(refused.reason);
                fatal = refused
                    .fatal
                    .then(|| Ending::new(refused.reason, refused.why.clone()));
                told.get_or_insert(refused);
            }
        }
    }
    let told = told.as_ref().map(|first| (first.reason, &*first.why));
    let properties = reason_string(context, PacketType::SubAck, reasons.len(), told);
    // Headers of 8 bytes at most.
    let mut bytes = Vec::with_capacity(8 + properties.len() + reasons.len());
    let (version, packet_id) = (context.version, packet.packet_id);
    // They are fewer than the bytes of the SUBSCRIBE, and the string has a limit: they always fit.
    let _ = suback::encode(&mut bytes, version, packet_id, &reasons, &properties);
    context.hold(bytes, replay, fatal);
    Next::Continue
}

/// Ends the connection of a client that would not take the answer it asks for ([MQTT-3.1.2-24]):
/// nothing is done then.
pub(super) fn too_large<C: Core>(
    context: &Context<'_, C>,
    packet: PacketType,
    filters: usize,
) -> Option<Next> {
    let terms = context.outlet.lock().terms;
    if !context.version.is_v5() || reason::has_room(&terms, 3 + filters) {
        return None;
    }
    let why = format!("{packet} with {filters} reason codes exceeds your maximum packet size");
    Some(Next::Close(Ending::new(ReasonCode::PacketTooLarge, why)))
}

/// The properties of an answer that has one code for each filter: what the first failure is about.
pub(super) fn reason_string<C: Core>(
    context: &Context<'_, C>,
    packet: PacketType,
    codes: usize,
    told: Option<(ReasonCode, &str)>,
) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(told) = told {
        let terms = context.outlet.lock().terms;
        let fixed = 2 + codes;
        reason::add(
            &terms,
            context.version,
            packet,
            fixed,
            &mut properties,
            told,
        );
    }
    properties
}

/// Why a filter was refused, and whether the connection goes with it.
struct Refused {
    reason: ReasonCode,
    why: String,
    fatal: bool,
}

/// A limit of the broker's: the filter is refused, the connection stays.
fn quota(why: String) -> Refused {
    Refused {
        reason: ReasonCode::QuotaExceeded,
        why,
        fatal: false,
    }
}

// [MQTT-3.8.4-3], [MQTT-3.8.4-4]
fn subscribe<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    packet: &Subscribe<'_>,
    wanted: &subscribe::Subscription<'_>,
    replay: &mut Vec<Replay>,
) -> Result<ReasonCode, Refused> {
    let listener = &context.outlet.accepted.origin.listener;
    let filters = context.options.filters_on(listener);
    let parsed =
        ParsedFilter::parse(wanted.filter, filter_mode(filters)).map_err(|violation| Refused {
            reason: violation.reason_code(),
            why: violation.to_string(),
            fatal: false,
        })?;
    if let Some(why) = topic_too_deep(context.options, wanted.filter) {
        return Err(Refused {
            reason: ReasonCode::TopicFilterInvalid,
            why,
            fatal: false,
        });
    }
    let mut options = wanted.options;
    // FEATURES M7: granted at most QoS 1.
    options.qos = options.qos.min(QoS::AtLeastOnce);
    let filter_at = (wanted.filter.len() - parsed.filter.len()) as u32;
    let identifier = packet.subscription_identifier;
    let walked = is_walked(wanted.filter, filter_at);
    let held = held(context, wanted.filter, walked)?;
    let same = held
        .as_ref()
        .is_some_and(|h| h.options == options && h.identifier == identifier);
    if !same {
        let new = Subscription {
            text: wanted.filter.into(),
            filter_at,
            options,
            identifier,
            slot: 0,
            bound_with_options: context.version.is_v5(),
        };
        attach(context, turn, &parsed, new, held.as_ref())
            .map_err(|refusal| refused(context, &refusal))?;
    }
    let wants_retained = match options.retain_handling {
        // [MQTT-3.3.1-9]
        RetainHandling::Send => true,
        // [MQTT-3.3.1-10]
        RetainHandling::SendIfNew => held.is_none(),
        // [MQTT-3.3.1-11]
        RetainHandling::DoNotSend => false,
    };
    // §3.8.4: no retained messages for shared subscriptions.
    if wants_retained && parsed.share.is_none() {
        let found = context.identity.core.retained(parsed.filter);
        replay.extend(found.map(|cursor| Replay {
            cursor,
            qos: options.qos,
            identifier,
        }));
    }
    Ok(match options.qos {
        QoS::AtMostOnce => ReasonCode::Success,
        _ => ReasonCode::GrantedQoS1,
    })
}

/// The session's subscription with this text. Without one, there must be room for another.
fn held<C: Core>(
    context: &Context<'_, C>,
    text: &str,
    walked: bool,
) -> Result<Option<Subscription>, Refused> {
    let out = context.outlet.lock();
    let flow = out.flow.as_ref();
    let Some(all) = flow.map(|flow| &flow.subscriptions) else {
        return Ok(None);
    };
    let held = all.find(text).cloned();
    if held.is_some() {
        return Ok(held);
    }
    let max = match context.options.subscriptions_max {
        0 => SUBSCRIPTIONS_MAX,
        max => SUBSCRIPTIONS_MAX.min(max as usize),
    };
    if all.len() >= max {
        let why = format!("a session has at most {max} subscriptions");
        return Err(quota(why));
    }
    if walked && all.walked() >= SUBSCRIPTIONS_WALKED_MAX {
        let max = SUBSCRIPTIONS_WALKED_MAX;
        let what = "with a wildcard, a dot or a star, or shared";
        return Err(quota(format!(
            "a session has at most {max} subscriptions {what}"
        )));
    }
    Ok(None)
}

/// Makes the queue and its binding; takes the old binding of the same filter away afterwards, so
/// that nothing is missed in between.
fn attach<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    parsed: &ParsedFilter<'_>,
    mut new: Subscription,
    old: Option<&Subscription>,
) -> Result<(), Refusal> {
    let identity = context.identity;
    let shared = parsed
        .share
        .map(|group| session::shared_queue_name(group, parsed.filter));
    let is_shared = shared.is_some();
    let qos = new.options.qos;
    let name = shared.unwrap_or_else(|| session::queue_name(identity.session(), qos));
    let expiry_ms = Some(context.active.expiry_ms);
    let wish = BindQueue {
        queue: &name,
        exchange: context.outlet.exchange(),
        key: parsed.filter.as_bytes(),
        form: Form::Slashed,
        arguments: binding_arguments(identity.claim(), &new),
    };
    let bind = || identity.core.bind(&wish).map(|_| ());
    let target = if is_shared {
        session::Target::group(&name, qos, old.map(|old| old.slot))
    } else {
        session::Target::own(&name, qos)
    };
    new.slot = session::attach(context.outlet, identity, target, expiry_ms, bind, turn)?;
    if is_shared {
        // One binding tells the membership, whatever the options are; the slot delivers with the
        // newest QoS.
        let mut out = context.outlet.lock();
        if let Some(slot) = out
            .flow
            .as_mut()
            .and_then(|flow| flow.slots.get_mut(new.slot as usize))
        {
            slot.qos = qos;
        }
    } else if let Some(old) = old {
        let old_arguments = binding_arguments(identity.claim(), old);
        if old.options.qos != qos || old_arguments != wish.arguments {
            let queue = session::queue_name(identity.session(), old.options.qos);
            identity.core.unbind(&BindQueue {
                queue: &queue,
                arguments: old_arguments,
                ..wish
            })?;
        }
    }
    session::add(context.outlet, new);
    Ok(())
}

/// The arguments that a subscription's binding has; `member` is who has it, in a group.
pub(crate) fn binding_arguments(member: &str, held: &Subscription) -> leveret_core::field::Table {
    if held.share().is_some() {
        return session::member_arguments(member);
    }
    if !held.bound_with_options {
        return leveret_core::field::Table::new();
    }
    let dotted = dotted_text(held.filter().as_bytes(), Form::Slashed);
    session::arguments(held.options, held.identifier, &dotted)
}

fn refused<C: Core>(context: &Context<'_, C>, refusal: &Refusal) -> Refused {
    let denied = refusal.code == ReplyCode::AccessRefused;
    let reason = match refusal.code {
        ReplyCode::AccessRefused => ReasonCode::NotAuthorized,
        ReplyCode::PreconditionFailed => ReasonCode::QuotaExceeded,
        _ => ReasonCode::UnspecifiedError,
    };
    let fatal = !denied || context.options.disconnect_on_unauthorized;
    Refused {
        reason,
        why: refusal.text.to_string(),
        fatal,
    }
}
