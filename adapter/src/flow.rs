//! Outbound flow of one session: what is in flight, under which packet ids, how much more may be,
//! and which subscriptions it serves. Lives under the out-buffer's lock.

mod retry;
mod subscriptions;

use std::collections::{HashMap, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use foldhash::fast::RandomState;
use leveret_core::identity::Reserved;
use leveret_core::queue::{Queue, Unacked};
use leveret_core::shelf::Place;

use crate::packet::QoS;
use crate::replay::{Replay, Replays};

use retry::Retry;
pub(crate) use subscriptions::{Subscription, Subscriptions, is_walked};

/// Packet ids there are.
const PACKET_IDS: u64 = 65_535;

/// A consumer of the session; its key is its place.
pub(crate) struct Slot {
    /// Where it consumes, `None` once it was cancelled.
    pub(crate) queue: Option<Arc<Queue>>,
    /// The highest QoS it delivers with.
    pub(crate) qos: QoS,
    /// It had no credit when something came: it must be pulled.
    pub(crate) starved: bool,
    /// It was attached, and the answer that says so has not left yet: it is pulled after that.
    pub(crate) fresh: bool,
    /// It serves one shared subscription.
    pub(crate) shared: bool,
    /// Its queue was the session's own, and was deleted under it.
    pub(crate) lost: bool,
}

/// A delivery that the client has not acknowledged.
pub(crate) struct InFlight {
    order: u64,
    pub(crate) packet_id: NonZeroU16,
    /// `None` for a retained message: no queue waits for it.
    pub(crate) unacked: Option<Unacked>,
}

/// Outbound topic aliases: set once for each topic, never taken back.
#[derive(Default)]
pub(crate) struct Aliases {
    pub(crate) max: u16,
    pub(crate) topics: HashMap<Box<str>, NonZeroU16, RandomState>,
}

/// What CONNECT asked of deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// Deliveries that may be in flight.
    pub(crate) window: u16,
    /// Topic aliases that may be set; 0: none.
    pub(crate) topic_alias_max: u16,
    /// Bytes of the largest packet that the client takes.
    pub(crate) packet_bytes_max: Option<NonZeroU32>,
    /// Headers of AMQP that are no user properties: the broker has set them.
    pub(crate) reserved: Reserved,
    /// Reason Strings are welcome in all packets.
    pub(crate) problem_information: bool,
}

/// A QoS 2 publish that was routed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// The journal's number that its PUBREC waits for.
    pub(crate) journaled: u64,
    /// Where a restart finds it, if the session outlives its connection.
    pub(crate) place: Option<Place>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Flow {
    pub(crate) terms: Terms,
    next_order: u64,
    /// How many in flight have another packet id than their order gives, since they had it before.
    displaced: usize,
    pub(crate) inflight: VecDeque<InFlight>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) subscriptions: Subscriptions,
    /// Retained messages that are to be sent, or were and are not acknowledged.
    pub(crate) replays: Option<Box<Replays>>,
    /// Packet ids of messages that were in flight when the session was left, by queue and number.
    pub(crate) resumed: HashMap<(u64, u64), NonZeroU16>,
    /// QoS 2 publishes that were routed and not released yet.
    pub(crate) received: HashMap<u16, Received>,
    pub(crate) aliases: Option<Box<Aliases>>,
    /// The last AMQP key and the topic it became; empty topic: it has none.
    pub(crate) translated: Option<Box<(Vec<u8>, u32, String)>>,
    pub(crate) scratch: Vec<u8>,
    /// When what is in flight is sent again, of versions where it is.
    retry: Option<Box<Retry>>,
}

/// The packet id that the delivery with this number gets unless it is taken.
fn packet_id_of(order: u64) -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add((order % PACKET_IDS) as u16)
}

impl Flow {
    pub(crate) fn new(terms: Terms) -> Self {
        let aliases = || {
            Box::new(Aliases {
                max: terms.topic_alias_max,
                topics: HashMap::default(),
            })
        };
        Self {
            terms,
            aliases: (terms.topic_alias_max > 0).then(aliases),
            ..Self::default()
        }
    }

    /// Remembers a subscription, in place of one with the same text.
    pub(crate) fn subscribe(&mut self, new: Subscription) {
        self.translated = None;
        if let Some(replays) = &mut self.replays {
            replays.change(&new);
        }
        self.subscriptions.put(new);
    }

    /// Forgets the subscription with this text.
    pub(crate) fn unsubscribe(&mut self, text: &str) -> Option<Subscription> {
        self.translated = None;
        if let Some(replays) = &mut self.replays {
            replays.stop(text);
        }
        self.subscriptions.remove(text)
    }

    /// Whether another QoS 1 delivery may leave.
    // [MQTT-3.3.4-9], [MQTT-3.3.4-10], [MQTT-4.9.0-1], [MQTT-4.9.0-2], [MQTT-4.9.0-3]: QoS 0 and
    // answers need none.
    pub(crate) fn has_window(&self) -> bool {
        self.inflight.len() < usize::from(self.terms.window)
    }

    /// The next packet id that is not in flight. The window is at most 65,535, so there is one.
    // [MQTT-2.2.1-4], [MQTT-4.3.2-1]
    fn next_packet_id(&mut self) -> (u64, NonZeroU16) {
        loop {
            let order = self.next_order;
            self.next_order += 1;
            let packet_id = packet_id_of(order);
            // Ids are given in order: but for those of a former connection, only after a whole
            // round can one be in flight still.
            let wrapped = self
                .inflight
                .front()
                .is_some_and(|oldest| order - oldest.order >= PACKET_IDS);
            let scan = wrapped || self.displaced > 0;
            let taken = (scan && self.inflight.iter().any(|held| held.packet_id == packet_id))
                || (!self.resumed.is_empty()
                    && self.resumed.values().any(|held| *held == packet_id))
                || (self.replays.as_ref()).is_some_and(|replays| replays.holds(packet_id));
            if !taken {
                return (order, packet_id);
            }
        }
    }

    /// Gives a delivery its packet id: the one it had before if it was in flight when the session
    /// was left ([MQTT-4.4.0-1]).
    pub(crate) fn assign(&mut self, queue: u64, seq: u64) -> (u64, NonZeroU16) {
        if !self.resumed.is_empty()
            && let Some(packet_id) = self.resumed.remove(&(queue, seq))
        {
            return self.assign_again(packet_id);
        }
        self.next_packet_id()
    }

    /// A packet id for a message without a queue.
    pub(crate) fn assign_fresh(&mut self) -> (u64, NonZeroU16) {
        self.next_packet_id()
    }

    /// For a message that had this packet id before.
    pub(crate) fn assign_again(&mut self, packet_id: NonZeroU16) -> (u64, NonZeroU16) {
        let order = self.next_order;
        self.next_order += 1;
        (order, packet_id)
    }

    /// Retained messages are to follow.
    pub(crate) fn add_replays(&mut self, new: Vec<Replay>) {
        if !new.is_empty() {
            let replays = self.replays.get_or_insert_default();
            new.into_iter().for_each(|replay| replays.add(replay));
        }
    }

    // [MQTT-4.3.2-3]
    pub(crate) fn sent(&mut self, (order, packet_id): (u64, NonZeroU16), unacked: Option<Unacked>) {
        self.displaced += usize::from(packet_id != packet_id_of(order));
        self.inflight.push_back(InFlight {
            order,
            packet_id,
            unacked,
        });
    }

    /// Takes what the client acknowledges out of flight; `None` for an id that is not.
    pub(crate) fn acknowledged(&mut self, packet_id: NonZeroU16) -> Option<InFlight> {
        let place = if self.inflight.front()?.packet_id == packet_id {
            0
        } else {
            let mut all = self.inflight.iter();
            all.position(|held| held.packet_id == packet_id)?
        };
        let done = self.inflight.remove(place)?;
        self.displaced -= usize::from(done.packet_id != packet_id_of(done.order));
        if done.unacked.is_none()
            && let Some(replays) = &mut self.replays
        {
            replays.acknowledged(packet_id);
        }
        Some(done)
    }

    /// Whether somebody waits for room in a full out-buffer.
    pub(crate) fn waits(&self) -> bool {
        self.slots.iter().any(|slot| slot.starved)
    }

    /// Whether retained messages wait for an empty one.
    pub(crate) fn is_replay_stalled(&self) -> bool {
        (self.replays.as_ref()).is_some_and(|replays| replays.is_stalled())
    }

    /// The consumers that must be pulled, if there is credit for them.
    pub(crate) fn take_starved(&mut self, room: bool) -> Vec<(Arc<Queue>, u64)> {
        if !room {
            return Vec::new();
        }
        let window = self.has_window();
        let mut starved = Vec::new();
        for (key, slot) in self.slots.iter_mut().enumerate() {
            let credit = window || slot.qos == QoS::AtMostOnce;
            if slot.starved && credit {
                slot.starved = false;
                starved.extend(slot.queue.clone().map(|queue| (queue, key as u64)));
            }
        }
        starved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-2.2.1-3]: an id that is in flight is not given again.
    #[test]
    fn packet_ids_in_flight_are_not_given_again() {
        let mut flow = Flow::new(Terms {
            window: u16::MAX,
            ..Terms::default()
        });
        let first = flow.assign_fresh();
        assert_eq!(first.1.get(), 1);
        flow.sent(first, None);
        for _ in 0..PACKET_IDS - 1 {
            let assigned = flow.assign_fresh();
            assert_ne!(assigned.1.get(), 1);
        }
        assert_eq!(flow.assign_fresh().1.get(), 2, "1 is still in flight");
        assert!(flow.acknowledged(NonZeroU16::MIN).is_some());
        assert!(flow.acknowledged(NonZeroU16::MIN).is_none());
    }
}
