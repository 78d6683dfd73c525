//! PUBLISH: permission, route, acknowledgement. MQTT 5.0 §3.3.

use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::key::Form;
use leveret_core::link::Published;
use leveret_core::message::{Head, MessageRef};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::Core;
use leveret_core::shelf;
use leveret_core::sink::Loss;
use leveret_core::turn::Turn;

use super::{Context, Next, topic_too_deep};
use crate::codec::PacketType;
use crate::connection::{PendingAck, put_told};
use crate::flow::Received;
use crate::identity;
use crate::limits::JOINED_KEPT_BYTES_MAX;
use crate::outlet::roomy;
use crate::packet::publish::Publish;
use crate::packet::{QoS, ack};
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;
use crate::reply;
use crate::violation::Violation;

// [MQTT-4.3.2-5], [MQTT-4.3.3-12], [MQTT-4.5.0-1]
pub(crate) fn handle<C: Core>(
    context: &mut Context<'_, C>,
    turn: &mut Turn,
    publish: &Publish<'_>,
) -> Result<Next, Violation> {
    check_qos(context, publish)?;
    // Of a repetition as well: aliases do not outlast a connection, and it may set one anew.
    let resolved = resolve_alias(context, publish)?;
    if publish.qos == QoS::ExactlyOnce
        && let Some(journaled) = known(context, publish)
    {
        // [MQTT-4.3.3-10]: routed once, acknowledged as often as asked, but not before it is
        // durable.
        acknowledge(context, publish, ReasonCode::Success, journaled);
        return Ok(Next::Continue);
    }
    check_quota(context, publish)?;
    let topic = resolved.as_deref().unwrap_or(publish.topic);
    if let Some((reason, why)) = not_taken(context, topic) {
        drop_it(context, publish, topic, (reason, &why));
        return Ok(Next::Continue);
    }
    // [MQTT-3.3.2-5]: no queue gives it out any later.
    let expires = publish.message_expiry_interval;
    let properties = publish.properties_to_forward();
    let mut joined = std::mem::take(&mut context.active.joined);
    let signature = context.identity.signature(context.outlet);
    let (origin, properties) = identity::sign(signature, properties, &mut joined);
    let message = MessageRef {
        head: Head {
            origin,
            form: Form::Slashed,
            persistent: publish.qos != QoS::AtMostOnce,
            exactly_once: publish.qos == QoS::ExactlyOnce,
            retain: publish.retain,
            publisher: context.identity.publisher,
            received: turn.now,
            expires: expires.map(|seconds| turn.now.after_ms(u64::from(seconds) * 1000)),
        },
        exchange: context.outlet.exchange(),
        key: topic.as_bytes(),
        properties,
        payload: publish.payload,
    };
    let core = &context.identity.core;
    let memo = &mut context.active.memo;
    let answered = reply::queue_of(topic);
    let result = match answered {
        Some(queue) => reply::answer(&**core, turn, memo, &message, queue),
        None => core.publish(turn, memo, &message),
    };
    if joined.capacity() <= JOINED_KEPT_BYTES_MAX {
        context.active.joined = joined;
    }
    match result {
        Ok(published) => {
            taken(context, turn, (publish, topic), published);
            Ok(Next::Continue)
        }
        // Who asks names the queue, and must not close the connection of who answers.
        Err(refusal) if answered.is_some() => {
            lose_untold(context, publish, topic, Loss::Refused);
            fail(context, publish, reason_of(&refusal), &refusal.text);
            Ok(Next::Continue)
        }
        Err(refusal) => Ok(refused(context, (publish, topic), &refusal)),
    }
}

/// A client may publish with any QoS, unless it was told that none but 0 is served: FEATURES M7.
fn check_qos<C: Core>(context: &Context<'_, C>, publish: &Publish<'_>) -> Result<(), Violation> {
    let none = context.options.qos_max == QoS::AtMostOnce;
    if publish.qos == QoS::AtMostOnce || !none {
        return Ok(());
    }
    Err(Violation::PublishQoSNotSupported {
        qos: publish.qos as u8,
    })
}

/// Why nothing is published to a topic, whoever asks.
fn not_taken<C: Core>(context: &Context<'_, C>, topic: &str) -> Option<(ReasonCode, String)> {
    // [MQTT-4.7.2-1]
    if topic.starts_with("$SYS/") || topic.starts_with("$share/") {
        let why = "topics under $SYS and $share are the broker's own";
        return Some((ReasonCode::NotAuthorized, why.to_owned()));
    }
    topic_too_deep(context.options, topic).map(|why| (ReasonCode::TopicNameInvalid, why))
}

/// Answers a publish that nobody gets.
fn drop_it<C: Core>(
    context: &mut Context<'_, C>,
    publish: &Publish<'_>,
    topic: &str,
    (reason, why): (ReasonCode, &str),
) {
    let peer = context.outlet.accepted.peer;
    let client_id = &*context.identity.client_id;
    // Peers decide how often: whoever runs the broker is told by the ledger, once a second.
    tracing::debug!(%peer, client_id, topic, why, "MQTT publish dropped");
    let loss = match reason {
        ReasonCode::NotAuthorized => Loss::Reserved,
        _ => Loss::Unaddressable,
    };
    lose_untold(context, publish, topic, loss);
    // 3.x has no word for it: the client goes on as if it were taken.
    fail(context, publish, reason, why);
}

/// A message is dropped: it counts unless the answer says so, to a client that has it still.
fn lose_untold<C: Core>(context: &Context<'_, C>, publish: &Publish<'_>, topic: &str, loss: Loss) {
    if publish.qos == QoS::AtMostOnce || !context.version.is_v5() {
        let core = &context.identity.core;
        core.count_loss(loss, publish.qos as u8, topic.as_bytes());
    }
}

/// A publish that was routed is answered, unless a full queue has refused it.
fn taken<C: Core>(
    context: &mut Context<'_, C>,
    turn: &Turn,
    (publish, topic): (&Publish<'_>, &str),
    published: Published,
) {
    let is_v5 = context.version.is_v5();
    if published.rejected {
        // R§2.13: only MQTT 5.0 has a word for that; others get none, and publish again when they
        // come back.
        if is_v5 {
            let why = "a queue that the message was routed to is full";
            fail(context, publish, ReasonCode::QuotaExceeded, why);
        }
        if publish.qos == QoS::AtMostOnce {
            lose_untold(context, publish, topic, Loss::Rejected);
        }
        return;
    }
    let reason = match (published.routed, is_v5) {
        // §3.4.2.1: there are no matching subscribers.
        (0, true) => ReasonCode::NoMatchingSubscribers,
        _ => ReasonCode::Success,
    };
    let journaled = remember(context, turn, publish, published.journaled);
    acknowledge(context, publish, reason, journaled);
    if publish.qos == QoS::AtMostOnce && journaled > 0 {
        count_on_disk(context, journaled);
    }
}

/// The journal's number of a QoS 2 publish that was routed before and not released since
/// ([MQTT-4.3.3-10]).
// [MQTT-4.3.3-13]
fn known<C: Core>(context: &Context<'_, C>, publish: &Publish<'_>) -> Option<u64> {
    let packet_id = publish.packet_id?;
    let out = context.outlet.lock();
    let flow = out.flow.as_ref()?;
    let received = flow.received.get(&packet_id.get())?;
    Some(received.journaled)
}

/// Remembers a QoS 2 publish that was routed, until it is released; gives the number that its
/// acknowledgement waits for.
fn remember<C: Core>(
    context: &mut Context<'_, C>,
    turn: &Turn,
    publish: &Publish<'_>,
    mut journaled: u64,
) -> u64 {
    let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) else {
        return journaled;
    };
    let mut place = None;
    if context.active.expiry_ms != Some(0) {
        let has_queues = {
            let out = context.outlet.lock();
            out.flow.as_ref().is_some_and(|flow| flow.has_queues())
        };
        let note = shelf::Received {
            packet_id: packet_id.get(),
            session_ms: context.active.expiry_ms.unwrap_or(u64::MAX),
            has_queues,
        };
        let (at, number) = context.identity.core.receive(turn, note);
        journaled = journaled.max(number);
        place = Some(at);
    }
    let mut out = context.outlet.lock();
    if let Some(flow) = out.own_flow() {
        // There are 65,535 ids: the set is bounded by them.
        let received = Received { journaled, place };
        flow.received.insert(packet_id.get(), received);
        if context.options.receive_maximum < u16::MAX {
            context.active.rare.get_or_insert_default().unreleased += 1;
        }
        return journaled;
    }
    drop(out);
    // A newer connection has the session, without this id: nothing is acknowledged here.
    if let Some(place) = place {
        context.identity.core.release_received(&[place]);
    }
    journaled
}

/// A 5.0 client has no more publishes unfinished than it was told ([MQTT-3.3.4-7]): those that no
/// PUBACK, no PUBCOMP and no failure was sent for.
fn check_quota<C: Core>(context: &Context<'_, C>, publish: &Publish<'_>) -> Result<(), Violation> {
    let max = context.options.receive_maximum;
    if max == u16::MAX || publish.qos == QoS::AtMostOnce || !context.version.is_v5() {
        return Ok(());
    }
    let waiting = context.active.acks.iter().flat_map(|acks| &acks.pending);
    // A PUBREC that waits is of a publish that is not released.
    let finish =
        |ack: &&PendingAck| matches!(ack.packet, Some(PacketType::PubAck | PacketType::PubComp));
    let rare = context.active.rare.as_ref();
    let unreleased = rare.map_or(0, |rare| rare.unreleased);
    let allowed = usize::from(max).saturating_sub(unreleased as usize);
    if waiting.filter(finish).take(allowed).count() < allowed {
        return Ok(());
    }
    Err(Violation::ReceiveMaximumExceeded { max })
}

/// The topic that an alias stands for; sets it if the packet names both (MQTT 5.0 §3.3.2.3.4).
// [MQTT-3.2.2-17], [MQTT-3.3.2-7], [MQTT-3.3.2-12]
fn resolve_alias<C: Core>(
    context: &mut Context<'_, C>,
    publish: &Publish<'_>,
) -> Result<Option<Arc<str>>, Violation> {
    let Some(alias) = publish.topic_alias else {
        return Ok(None);
    };
    let max = context.options.topic_alias_max;
    if alias.get() > max {
        return Err(Violation::TopicAliasAboveMaximum {
            alias: alias.get(),
            max,
        });
    }
    if publish.topic.is_empty() {
        let known = context
            .active
            .rare
            .as_ref()
            .and_then(|held| held.aliases_in.get(&alias));
        return known
            .cloned()
            .map(Some)
            .ok_or(Violation::TopicAliasUnknown { alias: alias.get() });
    }
    let aliases = &mut context.active.rare.get_or_insert_default().aliases_in;
    // Many a client names both each time.
    if aliases
        .get(&alias)
        .is_none_or(|known| **known != *publish.topic)
    {
        aliases.insert(alias, publish.topic.into());
    }
    Ok(None)
}

/// Acknowledges in the order of the publishes ([MQTT-4.6.0-2]), and not before the broker owns the
/// message.
// [MQTT-2.2.1-5], [MQTT-4.6.0-3]
fn acknowledge<C: Core>(
    context: &mut Context<'_, C>,
    publish: &Publish<'_>,
    reason: ReasonCode,
    journaled: u64,
) {
    if let Some(packet_id) = publish.packet_id {
        answer(context, answer_to(publish), packet_id, reason, journaled);
    }
}

// [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8]
fn answer_to(publish: &Publish<'_>) -> PacketType {
    match publish.qos {
        QoS::ExactlyOnce => PacketType::PubRec,
        _ => PacketType::PubAck,
    }
}

/// Answers a PUBLISH that was not taken, if it can be answered.
// [MQTT-4.3.3-9]
fn fail<C: Core>(
    context: &mut Context<'_, C>,
    publish: &Publish<'_>,
    reason: ReasonCode,
    why: &str,
) {
    if let Some(packet_id) = publish.packet_id {
        answer_told(context, answer_to(publish), packet_id, (reason, why), 0);
    }
}

/// A retained message of QoS 0: nobody is told when the disk has it, but it counts for how far the
/// client may be ahead of the disk.
fn count_on_disk<C: Core>(context: &mut Context<'_, C>, journaled: u64) {
    if journaled > context.identity.core.journal_durable() {
        let acks = context.active.acks.get_or_insert_default();
        acks.pending.push_back(PendingAck {
            packet: None,
            packet_id: NonZeroU16::MIN,
            reason: ReasonCode::Success,
            told: false,
            journaled,
        });
    }
}

/// Answers when the journal has the number, behind all answers that wait already.
pub(super) fn answer<C: Core>(
    context: &mut Context<'_, C>,
    packet: PacketType,
    packet_id: NonZeroU16,
    reason: ReasonCode,
    journaled: u64,
) {
    if is_due(context, journaled) {
        let mut out = context.outlet.lock();
        ack::encode(
            roomy(&mut out.buf),
            context.version,
            packet,
            packet_id,
            reason,
        );
    } else {
        context
            .active
            .acks
            .get_or_insert_default()
            .pending
            .push_back(PendingAck {
                packet: Some(packet),
                packet_id,
                reason,
                told: false,
                journaled,
            });
    }
}

/// As [`answer`], with a sentence for the client.
pub(super) fn answer_told<C: Core>(
    context: &mut Context<'_, C>,
    packet: PacketType,
    packet_id: NonZeroU16,
    (reason, why): (ReasonCode, &str),
    journaled: u64,
) {
    if is_due(context, journaled) {
        let mut out = context.outlet.lock();
        put_told(&mut out, packet, packet_id, reason, why);
        return;
    }
    let acks = context.active.acks.get_or_insert_default();
    acks.texts.push_back(reason::beginning(why).into());
    acks.pending.push_back(PendingAck {
        packet: Some(packet),
        packet_id,
        reason,
        told: true,
        journaled,
    });
}

/// Whether an answer need not wait: neither for the journal, nor behind others.
fn is_due<C: Core>(context: &Context<'_, C>, journaled: u64) -> bool {
    context
        .active
        .acks
        .as_ref()
        .is_none_or(|acks| acks.pending.is_empty())
        && (journaled == 0 || journaled <= context.identity.core.journal_durable())
}

fn reason_of(refusal: &Refusal) -> ReasonCode {
    match refusal.code {
        ReplyCode::AccessRefused => ReasonCode::NotAuthorized,
        ReplyCode::ResourceError => ReasonCode::QuotaExceeded,
        _ => ReasonCode::ImplementationSpecificError,
    }
}

/// R§3.2 and §4.5: a refused publish closes the connection, unless the operator wants it answered.
// 3.1.1 [MQTT-3.3.5-2], 3.1.1 [MQTT-4.8.0-2]
fn refused<C: Core>(
    context: &mut Context<'_, C>,
    (publish, topic): (&Publish<'_>, &str),
    refusal: &Refusal,
) -> Next {
    let peer = context.outlet.accepted.peer;
    let client_id = &*context.identity.client_id;
    let denied = refusal.code == ReplyCode::AccessRefused;
    let reason = reason_of(refusal);
    let answered = match reason {
        ReasonCode::NotAuthorized => !context.options.disconnect_on_unauthorized,
        // A limit of the broker's is no reason to lose the connection, where it can be said.
        ReasonCode::QuotaExceeded => context.version.is_v5() || publish.qos == QoS::AtMostOnce,
        _ => false,
    };
    let loss = match reason {
        ReasonCode::NotAuthorized => Loss::Refused,
        ReasonCode::QuotaExceeded if publish.retain => Loss::Retained,
        ReasonCode::QuotaExceeded => Loss::Rejected,
        _ => Loss::Unaddressable,
    };
    if answered || publish.qos == QoS::AtMostOnce {
        lose_untold(context, publish, topic, loss);
    }
    if !answered {
        tracing::warn!(%peer, client_id, %refusal, "MQTT publish refused");
        return Next::Close(Ending::new(reason, String::from(refusal.text.clone())));
    }
    debug_assert!(
        denied || reason == ReasonCode::QuotaExceeded,
        "nothing else is answered"
    );
    tracing::debug!(%peer, client_id, %refusal, "MQTT publish refused");
    fail(context, publish, reason, &refusal.text);
    Next::Continue
}
