//! Delivery with QoS 2, and of what was in flight when the session was left. See
//! [`crate::flow::exact`] for what follows.

use std::sync::Arc;

use leveret_core::message::MessageRef;
use leveret_core::seam::Core;
use leveret_core::sink::{Delivery, Loss, Outcome};
use leveret_core::time::Time;

use super::{Flags, Sent, encode, hold, wanted};
use crate::flow::{Flow, InFlight, Source};
use crate::options::Options;
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
            // [MQTT-4.3.3-2]: what waits in a queue for a session that comes back was not sent yet.
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
        flow.enter(packet_id, Some((queue.clone(), seq)));
        let retry_ms = self.options.retry_ms(version);
        hold(flow, (order, packet_id), sent.qos, delivery, retry_ms);
        Outcome::Taken {
            settled: false,
            wake: self.bell.press(),
        }
    }
}

/// Encodes a PUBLISH to where it belongs: one of QoS 2 may be held.
pub(crate) fn put(
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
        self.buf.len() + self.flow.as_ref().map_or(0, |flow| flow.held_bytes())
    }

    /// Sends what was in flight when the session was left, in its order and under its packet ids,
    /// while the window has room. Gives what this client cannot be sent any more, and why.
    #[must_use]
    pub(crate) fn resume(&mut self, options: &Options, now: Time) -> Vec<(InFlight, Loss)> {
        let bytes_max = usize::try_from(options.output_bytes_max).unwrap_or(usize::MAX);
        let mut lost = Vec::new();
        while let Some(flow) = self.flow.as_deref_mut()
            && !flow.again.is_empty()
            && flow.outstanding() < usize::from(flow.terms.window)
            && self.waiting_bytes() < bytes_max
        {
            lost.extend(self.resume_first(options, now));
        }
        lost
    }

    fn resume_first(&mut self, options: &Options, now: Time) -> Option<(InFlight, Loss)> {
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
                let whom = (u64::MAX, key.unwrap_or(SLOT_QOS1));
                let flags = wanted(flow, &view, whom, options.upgrade_qos);
                (&unacked.message, flags.unwrap_or_default())
            }
            Source::Retained(message, identifier) => (message, Flags::retained(*identifier)),
        };
        let (qos, packet_id) = (next.qos, next.packet_id);
        let exactly_once = qos == QoS::ExactlyOnce;
        let ticket = flow.assign_again(packet_id);
        let sent = Sent {
            qos,
            dup: true,
            retain: flags.retain,
            packet_id: Some(packet_id),
            held: exactly_once && flow.holds(packet_id),
        };
        let view = message.view();
        let (buf, version) = (&mut self.buf, self.version);
        let may_read = self.reader.as_ref().is_none_or(|reader| {
            view.exchange != options.exchange
                || reader.allows(view.key, view.head.form, &mut flow.scratch)
        });
        let encoded = match may_read {
            true => put(buf, version, flow, &view, &sent, &flags, now),
            false => Err(Loss::Revoked),
        };
        if let Err(loss) = encoded {
            if exactly_once {
                flow.release(packet_id, buf, version);
            }
            return Some((next, loss));
        }
        if exactly_once {
            let place = match &next.source {
                Source::Queue(unacked) => Some((unacked.queue.clone(), unacked.seq)),
                Source::Retained(..) => None,
            };
            flow.enter(packet_id, place);
        }
        flow.sent(ticket, qos, next.source);
        flow.note_sent(ticket.0, options.retry_ms(version), now);
        None
    }
}
