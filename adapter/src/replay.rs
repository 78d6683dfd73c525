//! Retained messages on their way to a client: for each subscription that is to get them a cursor
//! into the store, moved on as the window and the out-buffer have room; and those that the client
//! has not acknowledged. Holds no message that was not sent.

use std::collections::{HashMap, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use leveret_core::message::Message;
use leveret_core::retained::{Cursor, Piece, Shown};
use leveret_core::seam::Core;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use crate::deliver::{Flags, Sent, encode_as};
use crate::flow::{Flow, Subscription};
use crate::limits::{REPLAY_OUTPUT_BYTES, REPLAY_STEPS};
use crate::options::Options;
use crate::outlet::Out;
use crate::packet::{ProtocolVersion, QoS};

/// The retained messages of one subscription.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) cursor: Cursor,
    /// The highest QoS that they are sent with.
    pub(crate) qos: QoS,
    pub(crate) identifier: Option<NonZeroU32>,
}

/// A retained message that was sent and not acknowledged.
#[derive(Clone, Debug)]
struct Unsettled {
    packet_id: NonZeroU16,
    message: Message,
    qos: QoS,
    identifier: Option<NonZeroU32>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replays {
    /// By filter: a subscription that is made again begins again.
    by_filter: HashMap<Arc<str>, (u64, Replay)>,
    /// Their numbers and filters in the order of the subscriptions; some are over.
    order: VecDeque<(u64, Arc<str>)>,
    number: u64,
    unacked: VecDeque<Unsettled>,
    /// What was in flight when the session was left: it is sent again before anything else.
    again: VecDeque<Unsettled>,
    /// The out-buffer was too full.
    stalled: bool,
}

impl Replays {
    fn is_empty(&self) -> bool {
        self.by_filter.is_empty() && self.unacked.is_empty() && self.again.is_empty()
    }

    pub(crate) fn add(&mut self, new: Replay) {
        let filter = Arc::clone(new.cursor.filter());
        self.number += 1;
        self.order.push_back((self.number, Arc::clone(&filter)));
        self.by_filter.insert(filter, (self.number, new));
        if self.order.len() > 2 * self.by_filter.len() + 16 {
            let running = &self.by_filter;
            self.order.retain(|(number, filter)| {
                running.get(filter).is_some_and(|held| held.0 == *number)
            });
        }
    }

    /// The subscription is over.
    pub(crate) fn stop(&mut self, filter: &str) {
        self.by_filter.remove(filter);
    }

    /// The subscription has other options now.
    pub(crate) fn change(&mut self, held: &Subscription) {
        if let Some((_, replay)) = self.by_filter.get_mut(&*held.text) {
            replay.qos = held.options.qos;
            replay.identifier = held.identifier;
        }
    }

    /// The client has one of them.
    pub(crate) fn acknowledged(&mut self, packet_id: NonZeroU16) {
        let mut all = self.unacked.iter();
        if let Some(place) = all.position(|held| held.packet_id == packet_id) {
            self.unacked.remove(place);
        }
    }

    /// Whether something is to be sent again under this packet id.
    pub(crate) fn holds(&self, packet_id: NonZeroU16) -> bool {
        self.again.iter().any(|held| held.packet_id == packet_id)
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// What the session's next connection goes on with: what QoS 0 was to send is over.
    pub(crate) fn leave(mut self: Box<Self>) -> Option<Box<Self>> {
        self.by_filter
            .retain(|_, (_, replay)| replay.qos != QoS::AtMostOnce);
        self.unacked.append(&mut self.again);
        self.again = std::mem::take(&mut self.unacked);
        (!self.is_empty()).then_some(self)
    }

    /// The number and filter of the one that is sent now.
    fn first(&mut self) -> Option<(u64, Arc<str>)> {
        while let Some((number, filter)) = self.order.front() {
            if self
                .by_filter
                .get(filter)
                .is_some_and(|held| held.0 == *number)
            {
                return Some((*number, Arc::clone(filter)));
            }
            self.order.pop_front();
        }
        None
    }
}

/// Where retained messages are encoded.
struct Desk<'a> {
    buf: &'a mut Vec<u8>,
    version: ProtocolVersion,
    flow: &'a mut Flow,
    /// Bytes that may wait in the out-buffer.
    room: usize,
    /// All have the subscription's QoS.
    upgrade_qos: bool,
    now: Time,
}

impl Desk<'_> {
    fn has_room(&self) -> bool {
        self.buf.is_empty() || self.buf.len() < self.room
    }

    /// 3.1.1 [MQTT-3.3.1-8]: RETAIN is set.
    fn send(&mut self, message: &Message, sent: &Sent, flags: &Flags) -> Shown {
        let view = message.view();
        let Ok(topic) = std::str::from_utf8(view.key) else {
            return Shown::Taken;
        };
        let (version, now) = (self.version, self.now);
        match encode_as(self.buf, version, self.flow, topic, &view, sent, flags, now) {
            Ok(()) => Shown::Taken,
            Err(loss) => Shown::Lost(loss),
        }
    }

    /// Sends again what was in flight when the session was left ([MQTT-4.4.0-1]); says whether that
    /// is all.
    fn send_again(&mut self, replays: &mut Replays) -> bool {
        while let Some(next) = replays.again.front() {
            if !self.flow.has_window() {
                return false;
            }
            if !self.has_room() {
                replays.stalled = true;
                return false;
            }
            let sent = Sent {
                qos: next.qos,
                dup: true,
                retain: true,
                packet_id: Some(next.packet_id),
            };
            let flags = Flags::retained(next.identifier);
            let ticket = self.flow.assign_again(next.packet_id);
            if self.send(&next.message, &sent, &flags) == Shown::Taken {
                self.flow.sent(ticket, None);
                replays.unacked.extend(replays.again.pop_front());
            } else {
                replays.again.pop_front();
            }
        }
        true
    }

    /// Sends a message that a cursor has come to.
    fn show(
        &mut self,
        message: &Message,
        (granted, flags): (QoS, &Flags),
        unacked: &mut VecDeque<Unsettled>,
        stalled: &mut bool,
    ) -> Shown {
        if !self.has_room() {
            *stalled = true;
            return Shown::Unwanted;
        }
        let qos = match message.head().persistent || self.upgrade_qos {
            true => granted,
            false => QoS::AtMostOnce,
        };
        let mut sent = Sent {
            qos,
            dup: false,
            retain: true,
            packet_id: None,
        };
        if qos == QoS::AtMostOnce {
            return self.send(message, &sent, flags);
        }
        if !self.flow.has_window() {
            return Shown::Unwanted;
        }
        let ticket = self.flow.assign_fresh();
        sent.packet_id = Some(ticket.1);
        let shown = self.send(message, &sent, flags);
        if shown == Shown::Taken {
            self.flow.sent(ticket, None);
            unacked.push_back(Unsettled {
                packet_id: ticket.1,
                message: message.clone(),
                qos,
                identifier: flags.identifier(),
            });
        }
        shown
    }
}

impl Out {
    /// Sends retained messages while the window and the out-buffer have room: of that half at most,
    /// so that what is published meanwhile is not dropped for it. Says whether more is to be done
    /// at once, after others.
    ///
    /// The store is locked while the out-buffer is: whoever holds the store never takes an
    /// out-buffer.
    pub(crate) fn replay<C: Core>(&mut self, core: &C, options: &Options, turn: &mut Turn) -> bool {
        let Some(flow) = self.flow.as_deref_mut() else {
            return false;
        };
        let Some(mut replays) = flow.replays.take() else {
            return false;
        };
        let output_bytes_max = usize::try_from(options.output_bytes_max).unwrap_or(usize::MAX);
        let mut desk = Desk {
            buf: &mut self.buf,
            version: self.version,
            flow,
            room: REPLAY_OUTPUT_BYTES.min(output_bytes_max / 2),
            upgrade_qos: options.upgrade_qos,
            now: turn.now,
        };
        let more = go_on(&mut replays, &mut desk, core, &options.exchange, turn);
        if !replays.is_empty() {
            flow.replays = Some(replays);
        }
        more
    }
}

fn go_on<C: Core>(
    replays: &mut Replays,
    desk: &mut Desk<'_>,
    core: &C,
    exchange: &str,
    turn: &mut Turn,
) -> bool {
    replays.stalled = false;
    if !desk.send_again(replays) {
        return false;
    }
    let mut steps = REPLAY_STEPS;
    while let Some((_, filter)) = replays.first() {
        if steps == 0 || turn.is_spent() {
            return true;
        }
        let Some((_, replay)) = replays.by_filter.get_mut(&filter) else {
            continue;
        };
        let flags = Flags::retained(replay.identifier);
        let (unacked, stalled) = (&mut replays.unacked, &mut replays.stalled);
        let wish = (replay.qos, &flags);
        let piece = core.show_retained(turn, exchange, &mut replay.cursor, &mut steps, |message| {
            desk.show(message, wish, unacked, stalled)
        });
        match piece {
            Piece::Last => {
                replays.by_filter.remove(&filter);
            }
            Piece::Spent => return true,
            Piece::Unwanted => return false,
        }
    }
    false
}
