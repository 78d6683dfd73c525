//! Delivery with QoS 2, and of what was in flight when the session was left. See
//! [`crate::flow::exact`] for what follows.

use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::message::MessageRef;
use leveret_core::queue::Unacked;
use leveret_core::seam::Core;
use leveret_core::sink::{Delivery, Loss, Outcome};
use leveret_core::time::Time;

use super::{Flags, Sent, encode, wanted};
use crate::flow::{Flow, InFlight, Source};
use crate::outlet::{Out, Outlet, roomy};
use crate::packet::{ProtocolVersion, QoS};
use crate::session::SLOT_QOS1;

impl<C: Core> Outlet<C> {
    /// A delivery of QoS 2: into the out-buffer, or held until it is noted.
    pub(super) fn deliver_exactly_once(
        &self,
        out: &mut Out,
        delivery: &mut Delivery<'_>,
        flags: &Flags,
    ) -> Outcome {
        let Some(flow) = out.flow.as_deref_mut() else {
            return Outcome::Full;
        };
        let (queue, seq) = (delivery.queue, delivery.seq);
        let before = flow.sent_before(queue.id(), seq);
        let (order, packet_id) = match before {
            Some(packet_id) => flow.assign_again(packet_id),
            None => flow.assign_fresh(),
        };
        let sent = Sent {
            qos: QoS::ExactlyOnce,
            // What waits in a queue for a session that comes back was not sent yet.
            dup: before.is_some(),
            retain: flags.retain,
            packet_id: Some(packet_id),
            held: flow.holds(packet_id),
        };
        let buf = &mut out.buf;
        let version = out.version;
        let encoded = put(
            buf,
            version,
            flow,
            delivery.message,
            &sent,
            flags,
            delivery.now,
        );
        if let Err(loss) = encoded {
            if before.is_some() {
                flow.release(packet_id, buf, version);
            }
            return Outcome::Discarded(loss);
        }
        let unacked = Unacked {
            queue: queue.clone(),
            seq,
            message: delivery.share(),
        };
        flow.sent((order, packet_id), QoS::ExactlyOnce, Source::Queue(unacked));
        flow.enter(packet_id, Some((queue.clone(), seq)));
        Outcome::Taken {
            settled: false,
            wake: self.bell.press(),
        }
    }
}

/// Encodes a PUBLISH of QoS 2 to where it belongs.
fn put(
    buf: &mut Vec<u8>,
    version: ProtocolVersion,
    flow: &mut Flow,
    message: &MessageRef<'_>,
    sent: &Sent,
    flags: &Flags,
    now: Time,
) -> Result<(), Loss> {
    let mut held = flow.take_held(sent.held);
    let place = match &mut held {
        Some(held) => held,
        None => roomy(buf),
    };
    let encoded = encode(place, version, flow, message, sent, flags, now);
    flow.put_held(held);
    encoded
}

impl Out {
    /// Bytes that wait for the client, or for the disk.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let exact = self.flow.as_ref().and_then(|flow| flow.exact.as_ref());
        self.buf.len() + exact.map_or(0, |exact| exact.held_bytes())
    }

    /// Sends a retained message for the first time.
    pub(super) fn send_retained(
        &mut self,
        message: &MessageRef<'_>,
        qos: QoS,
        flags: &Flags,
        now: Time,
    ) -> Option<(u64, NonZeroU16)> {
        let flow = self.flow.as_deref_mut()?;
        let ticket = (qos != QoS::AtMostOnce).then(|| flow.assign_fresh());
        let sent = Sent {
            qos,
            dup: false,
            retain: true,
            packet_id: ticket.map(|(_, packet_id)| packet_id),
            held: qos == QoS::ExactlyOnce && flow.terms.noted,
        };
        let (buf, version) = (&mut self.buf, self.version);
        let encoded = if qos == QoS::ExactlyOnce {
            put(buf, version, flow, message, &sent, flags, now)
        } else {
            encode(roomy(buf), version, flow, message, &sent, flags, now)
        };
        let ticket = ticket.filter(|_| encoded.is_ok())?;
        if qos == QoS::ExactlyOnce {
            flow.enter(ticket.1, None);
        }
        Some(ticket)
    }

    /// Sends what was in flight when the session was left, in its order and under its packet ids,
    /// while the window has room. Gives what this client cannot be sent any more.
    pub(super) fn send_again(&mut self, output_bytes_max: usize, now: Time) -> Vec<InFlight> {
        let mut done = Vec::new();
        while let Some(flow) = self.flow.as_deref_mut()
            && flow.outstanding() < usize::from(flow.terms.window)
            && !flow.again.is_empty()
            && self.waiting_bytes() < output_bytes_max
        {
            done.extend(self.send_first_again(now));
        }
        done
    }

    fn send_first_again(&mut self, now: Time) -> Option<InFlight> {
        let flow = self.flow.as_deref_mut()?;
        let next = flow.again.pop_front()?;
        let (message, flags) = match &next.source {
            Source::Queue(unacked) => {
                let slots = flow.slots.iter();
                let mut queues = slots.map(|slot| slot.queue.as_ref());
                let key = queues
                    .position(|queue| queue.is_some_and(|it| Arc::ptr_eq(it, &unacked.queue)));
                let view = unacked.message.view();
                // Whether the client itself has published it was asked when it was sent first.
                let flags = wanted(flow, &view, u64::MAX, key.unwrap_or(SLOT_QOS1));
                (&unacked.message, flags.unwrap_or_default())
            }
            Source::Retained(message, identifier) => (message, Flags::retained(*identifier)),
        };
        let (qos, packet_id) = (next.qos, next.packet_id);
        let ticket = flow.assign_again(packet_id);
        let sent = Sent {
            qos,
            dup: true,
            retain: flags.retain,
            packet_id: Some(packet_id),
            held: qos == QoS::ExactlyOnce && flow.holds(packet_id),
        };
        let view = message.view();
        let (buf, version) = (&mut self.buf, self.version);
        let encoded = if qos == QoS::ExactlyOnce {
            put(buf, version, flow, &view, &sent, &flags, now)
        } else {
            encode(roomy(buf), version, flow, &view, &sent, &flags, now)
        };
        if encoded.is_err() {
            if qos == QoS::ExactlyOnce {
                flow.release(packet_id, buf, version);
            }
            return Some(next);
        }
        if qos == QoS::ExactlyOnce {
            let place = match &next.source {
                Source::Queue(unacked) => Some((unacked.queue.clone(), unacked.seq)),
                Source::Retained(..) => None,
            };
            flow.enter(packet_id, place);
        }
        flow.sent(ticket, qos, next.source);
        None
    }
}
