//! From a queue to the client: encoding into the out-buffer, on the publisher's thread.

#[cfg(test)]
mod tests;

use std::num::{NonZeroU16, NonZeroU32};

use leveret_core::key::{self, Form};
use leveret_core::message::MessageRef;
use leveret_core::queue::Unacked;
use leveret_core::seam::Core;
use leveret_core::sink::{Delivery, Loss, Outcome, Sink};
use leveret_core::time::Time;

use crate::codec;
use crate::convert;
use crate::flow::{Aliases, Flow, Slot};
use crate::options::Options;
use crate::outlet::{Order, Outlet, roomy};
use crate::packet::publish::{self, OutgoingPublish};
use crate::packet::{ProtocolVersion, QoS};
use crate::property::Property;
use crate::session::SLOT_QOS1;
use crate::topic;

impl<C: Core> Sink for Outlet<C> {
    // [MQTT-4.6.0-5], [MQTT-4.6.0-6]: a queue gives its messages in their order.
    fn deliver(&self, delivery: &mut Delivery<'_>) -> Outcome {
        let mut guard = self.lock();
        let out = &mut *guard;
        let Some(flow) = out.flow.as_deref_mut() else {
            return Outcome::Full;
        };
        if out.order.is_some() {
            return Outcome::Full;
        }
        let room = out.buf.len() < self.output_bytes_max();
        let key = delivery.consumer as usize;
        let Some(slot) = flow.slots.get_mut(key) else {
            return Outcome::Full;
        };
        let message = delivery.message;
        let qos = slot.qos_of(message, &self.options);
        // A list waits as a whole where the operator has set how many are in flight: of one, each
        // is acknowledged before the next is sent.
        let waits = qos != QoS::AtMostOnce
            || (self.options.inflight_max.is_some() && slot.qos != QoS::AtMostOnce);
        if !room || (waits && !flow.has_window()) {
            flow.starved(key);
            return Outcome::Full;
        }
        if let Some(reader) = &out.reader
            && message.exchange == self.exchange()
            && !reader.allows(message.key, message.head.form, &mut flow.scratch)
        {
            return Outcome::Discarded(Loss::Revoked);
        }
        let flags = match wanted(flow, message, self.publisher(), key) {
            Ok(flags) => flags,
            Err(loss) => return Outcome::Discarded(loss),
        };
        if key == SLOT_QOS1 && !delivery.redelivered && !flow.resumed.is_empty() {
            // What was in flight before comes first: whatever did not come is gone.
            flow.resumed.clear();
        }
        let ticket =
            (qos != QoS::AtMostOnce).then(|| flow.assign(delivery.queue.id(), delivery.seq));
        let sent = Sent {
            qos,
            dup: delivery.redelivered && qos != QoS::AtMostOnce,
            retain: flags.retain,
            packet_id: ticket.map(|(_, packet_id)| packet_id),
        };
        let encoded = encode(
            roomy(&mut out.buf),
            out.version,
            flow,
            message,
            &sent,
            &flags,
            delivery.now,
        );
        if let Err(loss) = encoded {
            return Outcome::Discarded(loss);
        }
        if let Some(ticket) = ticket {
            let retry_ms = self.options.retry_ms(out.version);
            hold(flow, ticket, delivery, retry_ms);
        }
        Outcome::Taken {
            settled: ticket.is_none(),
            wake: self.bell.press(),
        }
    }

    fn cancelled(&self, consumer: u64) {
        let gone = {
            let mut out = self.lock();
            let slot = out
                .flow
                .as_mut()
                .and_then(|flow| flow.slots.get_mut(consumer as usize));
            slot.is_some_and(|slot| {
                let gone = slot.queue.take().is_some();
                slot.lost |= gone && consumer as usize <= SLOT_QOS1;
                gone
            })
        };
        if gone {
            // R§2.12: without its queue the session is not what the client believes.
            self.order(Order::QueueGone);
        }
    }
}

/// It is in flight until it is acknowledged; sent again after so long, 0 is never.
#[inline(always)]
fn hold(flow: &mut Flow, ticket: (u64, NonZeroU16), delivery: &mut Delivery<'_>, retry_ms: u64) {
    let unacked = Unacked {
        queue: delivery.queue.clone(),
        seq: delivery.seq,
        message: delivery.share(),
    };
    flow.sent(ticket, Some(unacked));
    if retry_ms > 0 {
        flow.note_sent(ticket.0, retry_ms, delivery.now);
    }
}

impl Slot {
    /// The lower of what was published and what was granted; or what was granted, if the operator
    /// wants that.
    // [MQTT-3.8.4-8], [MQTT-4.8.2-3]
    fn qos_of(&self, message: &MessageRef<'_>, options: &Options) -> QoS {
        if message.head.persistent || options.upgrade_qos {
            self.qos
        } else {
            QoS::AtMostOnce
        }
    }
}

impl Flow {
    fn starved(&mut self, key: usize) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.starved = true;
        }
    }
}

/// What the subscriptions that match say about a delivery.
#[derive(Default)]
pub(crate) struct Flags {
    retain: bool,
    /// Encoded Subscription Identifiers, in `flow.scratch` when encoding.
    identifiers: Vec<NonZeroU32>,
}

impl Flags {
    /// Those of a retained message.
    pub(crate) fn retained(identifier: Option<NonZeroU32>) -> Self {
        Self {
            retain: true,
            identifiers: identifier.into_iter().collect(),
        }
    }

    /// The first identifier.
    pub(crate) fn identifier(&self) -> Option<NonZeroU32> {
        self.identifiers.first().copied()
    }
}

/// Whether the session wants the message, and how. Most sessions have no options that matter, and
/// pay one pass over their subscriptions for messages that could be affected.
// [MQTT-3.3.2-3], [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT-3.3.4-5], [MQTT-3.3.1-12],
// [MQTT-3.3.1-13]
fn wanted(flow: &Flow, message: &MessageRef<'_>, client: u64, key: usize) -> Result<Flags, Loss> {
    let mut flags = Flags::default();
    let own = message.head.publisher == client;
    let asking = flow.subscriptions.asking();
    let asked = asking.identifier > 0
        || (asking.no_local > 0 && own)
        || (asking.retain_as_published > 0 && message.head.retain);
    if !asked {
        return Ok(flags);
    }
    let Ok(text) = std::str::from_utf8(message.key) else {
        return Ok(flags);
    };
    let mut topic = String::new();
    let topic = match message.head.form {
        Form::Slashed => text,
        Form::Dotted => {
            topic::translate::to_topic(text, &mut topic);
            &topic
        }
    };
    let mut matched = 0;
    let mut no_local = 0;
    for held in flow.subscriptions.candidates(topic) {
        // The subscriptions that another queue serves have a copy of their own.
        if held.slot as usize != key || !fits(held.filter(), message.head.form, text) {
            continue;
        }
        matched += 1;
        no_local += usize::from(held.options.no_local && own);
        // [MQTT-3.8.3.1]: as published, where any of them asks for it.
        flags.retain |= held.options.retain_as_published && message.head.retain;
        flags.identifiers.extend(held.identifier);
    }
    // [MQTT-3.8.3-3]
    if matched > 0 && matched == no_local {
        return Err(Loss::NoLocal);
    }
    Ok(flags)
}

fn fits(filter: &str, form: Form, key: &str) -> bool {
    match form {
        Form::Slashed => key::slashed_matches(filter, key),
        Form::Dotted => topic::translate::restore(key, filter, &mut String::new()),
    }
}

/// How a message is sent.
pub(crate) struct Sent {
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<NonZeroU16>,
}

/// Encodes a PUBLISH to the client.
pub(crate) fn encode(
    buf: &mut Vec<u8>,
    version: ProtocolVersion,
    flow: &mut Flow,
    message: &MessageRef<'_>,
    sent: &Sent,
    flags: &Flags,
    now: Time,
) -> Result<(), Loss> {
    match message.head.form {
        Form::Slashed => {
            let topic = std::str::from_utf8(message.key).map_err(|_| Loss::Unaddressable)?;
            encode_as(buf, version, flow, topic, message, sent, flags, now)
        }
        Form::Dotted => {
            let translated = translate(flow, message.key)?;
            let result = encode_as(buf, version, flow, &translated.2, message, sent, flags, now);
            flow.translated = Some(translated);
            result
        }
    }
}

/// The topic of an AMQP key for this session, from the memo if it is the last one again.
fn translate(flow: &mut Flow, key: &[u8]) -> Result<Box<(Vec<u8>, u32, String)>, Loss> {
    let generation = flow.subscriptions.len() as u32;
    let mut memo = flow.translated.take().unwrap_or_default();
    if memo.0 != key || memo.1 != generation || key.is_empty() {
        memo.0.clear();
        memo.0.extend_from_slice(key);
        memo.1 = generation;
        memo.2.clear();
        if let Ok(key) = std::str::from_utf8(key) {
            let mut plain = String::new();
            topic::translate::to_topic(key, &mut plain);
            for held in flow.subscriptions.candidates(&plain) {
                if topic::translate::restore(key, held.filter(), &mut memo.2) {
                    break;
                }
            }
            // Bound by somebody else, or not subscribed to any more.
            if memo.2.is_empty() && !key.starts_with('$') {
                memo.2 = plain;
            }
        }
        let usable =
            codec::check_string(memo.2.as_bytes()).is_ok() && !memo.2.contains(['+', '#', '\0']);
        if !usable {
            memo.2.clear();
        }
    }
    if memo.2.is_empty() {
        flow.translated = Some(memo);
        return Err(Loss::Unaddressable);
    }
    Ok(memo)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one packet, borrowed from three places"
)]
// [MQTT-3.3.1-1], [MQTT-3.3.1-3], [MQTT-4.3.1-1], [MQTT-4.3.2-2]
pub(crate) fn encode_as(
    buf: &mut Vec<u8>,
    version: ProtocolVersion,
    flow: &mut Flow,
    topic: &str,
    message: &MessageRef<'_>,
    sent: &Sent,
    flags: &Flags,
    now: Time,
) -> Result<(), Loss> {
    let mut scratch = std::mem::take(&mut flow.scratch);
    scratch.clear();
    let mut topic_sent = topic;
    let mut new_alias = None;
    if version.is_v5() {
        convert::append_properties(message, flow.terms.reserved, now, &mut scratch);
        for identifier in &flags.identifiers {
            // A Subscription Identifier came in a packet, so it fits into one.
            let _ = Property::SubscriptionIdentifier(*identifier).encode(&mut scratch);
        }
        if let Some(aliases) = flow.aliases.as_deref() {
            match alias(aliases, topic) {
                Alias::Known(number) => {
                    topic_sent = "";
                    let _ = Property::TopicAlias(number).encode(&mut scratch);
                }
                Alias::New(number) => {
                    new_alias = Some(number);
                    let _ = Property::TopicAlias(number).encode(&mut scratch);
                }
                Alias::None => {}
            }
        }
    }
    let outgoing = OutgoingPublish {
        dup: sent.dup,
        qos: sent.qos,
        retain: sent.retain,
        topic: topic_sent,
        packet_id: sent.packet_id,
        properties: &scratch,
        payload: message.payload,
    };
    let result = if fits_client(version, flow, &outgoing) {
        publish::encode(buf, version, &outgoing).map_err(|_| Loss::TooLarge)
    } else {
        // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
        Err(Loss::TooLarge)
    };
    if let (Ok(()), Some(number), Some(aliases)) = (&result, new_alias, flow.aliases.as_deref_mut())
    {
        aliases.topics.insert(topic.into(), number);
    }
    flow.scratch = scratch;
    result
}

fn fits_client(version: ProtocolVersion, flow: &Flow, outgoing: &OutgoingPublish<'_>) -> bool {
    let Some(max) = flow.terms.packet_bytes_max else {
        return true;
    };
    let remaining = publish::encoded_len(version, outgoing);
    let whole = 1 + codec::variable_byte_integer_len(remaining) + remaining;
    whole <= max.get() as usize
}

enum Alias {
    Known(NonZeroU16),
    New(NonZeroU16),
    None,
}

/// The alias for a topic: its own, a new one while there are any, or none ([MQTT-3.1.2-26],
/// [MQTT-3.1.2-27], [MQTT-3.3.2-11]).
fn alias(aliases: &Aliases, topic: &str) -> Alias {
    if let Some(number) = aliases.topics.get(topic) {
        return Alias::Known(*number);
    }
    let next = u16::try_from(aliases.topics.len() + 1)
        .ok()
        .filter(|next| *next <= aliases.max);
    next.and_then(NonZeroU16::new)
        .map_or(Alias::None, Alias::New)
}
