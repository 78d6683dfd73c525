//! Retained messages on their way to a client: for each subscription that is to get them a cursor
//! into the store, moved on as the window and the out-buffer have room. Holds no message: those
//! that were sent are in flight as others are.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use leveret_core::message::Message;
use leveret_core::retained::{Cursor, Piece, Shown};
use leveret_core::seam::Core;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use crate::deliver::{Flags, Sent, put, sending_qos};
use crate::flow::{Flow, Source, Subscription};
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

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replays {
    /// By filter: a subscription that is made again begins again.
    by_filter: HashMap<Arc<str>, (u64, Replay)>,
    /// Their numbers and filters in the order of the subscriptions; some are over.
    order: VecDeque<(u64, Arc<str>)>,
    number: u64,
    /// The out-buffer was too full.
    stalled: bool,
}

impl Replays {
    fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
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

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// What the session's next connection goes on with: what QoS 0 was to send is over.
    pub(crate) fn leave(mut self: Box<Self>) -> Option<Box<Self>> {
        self.by_filter
            .retain(|_, (_, replay)| replay.qos != QoS::AtMostOnce);
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
    /// When a delivery is sent again; 0 is never.
    retry_ms: u64,
    now: Time,
}

impl Desk<'_> {
    fn has_room(&self) -> bool {
        let waiting = self.buf.len() + self.flow.held_bytes();
        waiting == 0 || waiting < self.room
    }

    /// 3.1.1 [MQTT-3.3.1-8]: RETAIN is set.
    fn send(&mut self, message: &Message, sent: &Sent, flags: &Flags) -> Shown {
        let view = message.view();
        match put(
            self.buf,
            self.version,
            self.flow,
            &view,
            sent,
            flags,
            self.now,
        ) {
            Ok(()) => Shown::Taken,
            Err(loss) => Shown::Lost(loss),
        }
    }

    /// Sends a message that a cursor has come to.
    fn show(
        &mut self,
        message: &Message,
        (granted, flags): (QoS, &Flags),
        stalled: &mut bool,
    ) -> Shown {
        if !self.has_room() {
            *stalled = true;
            return Shown::Unwanted;
        }
        let qos = sending_qos(message.head(), self.upgrade_qos).min(granted);
        let mut sent = Sent {
            qos,
            dup: false,
            retain: true,
            packet_id: None,
            held: qos == QoS::ExactlyOnce && self.flow.terms.noted,
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
            if qos == QoS::ExactlyOnce {
                self.flow.enter(ticket.1, None);
            }
            let source = Source::Retained(message.clone(), flags.identifier());
            self.flow.sent(ticket, qos, source);
            self.flow.note_sent(ticket.0, self.retry_ms, self.now);
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
            retry_ms: options.retry_ms(self.version),
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
    // What was in flight before comes first ([MQTT-4.4.0-1]).
    if !desk.flow.again.is_empty() {
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
        let stalled = &mut replays.stalled;
        let wish = (replay.qos, &flags);
        let piece = core.show_retained(turn, exchange, &mut replay.cursor, &mut steps, |message| {
            desk.show(message, wish, stalled)
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
