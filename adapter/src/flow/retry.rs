//! Deliveries that a client of MQTT 3.1 does not acknowledge are sent again.
//!
//! What is sent in a row waits together, so that a connection has one deadline and a few groups of
//! numbers, however much is in flight. Acknowledgements say nothing here: a group of which nothing
//! is in flight any more is forgotten when its time comes. MQTT 3.1 §4.1; 3.1.1 §4.4 permits it,
//! 5.0 does not ([MQTT-4.4.0-1]).

use std::collections::VecDeque;
use std::ops::Range;

use leveret_core::time::Time;

use super::Flow;
use crate::deliver::{Flags, Sent, encode};
use crate::outlet::{Out, roomy};
use crate::packet::QoS;

/// Groups are closed after this part of the interval: nothing waits longer than one and an eighth.
const GROUPS_PER_INTERVAL: u64 = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Retry {
    /// The first that is due comes first.
    groups: VecDeque<Group>,
}

/// Deliveries by their order, which has no gaps when they are sent first.
struct Group {
    orders: Range<u64>,
    /// Nothing is added from then on.
    closes: Time,
    due: Time,
}

impl Retry {
    fn note(&mut self, orders: Range<u64>, interval_ms: u64, now: Time) {
        let due = now.after_ms(interval_ms);
        if let Some(last) = self.groups.back_mut()
            && last.orders.end == orders.start
            && now < last.closes
        {
            (last.orders.end, last.due) = (orders.end, due);
            return;
        }
        self.groups.push_back(Group {
            orders,
            closes: now.after_ms(interval_ms / GROUPS_PER_INTERVAL),
            due,
        });
    }

    fn take_due(&mut self, now: Time) -> Option<Range<u64>> {
        let first = self.groups.pop_front_if(|group| group.due <= now)?;
        Some(first.orders)
    }
}

impl Flow {
    /// A delivery was sent that is to be sent again unless it is acknowledged.
    pub(crate) fn note_sent(&mut self, order: u64, interval_ms: u64, now: Time) {
        let retry = self.retry.get_or_insert_default();
        if self.inflight.len() == 1 {
            // Of all that was sent before nothing is in flight, and nobody looks at its time.
            retry.groups.clear();
        }
        retry.note(order..order + 1, interval_ms, now);
    }

    /// When something is to be sent again.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        let first = self.retry.as_ref()?.groups.front()?;
        (!self.inflight.is_empty()).then_some(first.due)
    }
}

impl Out {
    /// Sends again what was not acknowledged in time, with DUP and the same packet id.
    pub(crate) fn send_again(&mut self, output_bytes_max: usize, interval_ms: u64, now: Time) {
        let Some(flow) = self.flow.as_deref_mut() else {
            return;
        };
        let Some(mut retry) = flow.retry.take() else {
            return;
        };
        while let Some(orders) = retry.take_due(now) {
            let first = flow
                .inflight
                .partition_point(|held| held.order < orders.start);
            let mut place = first;
            while let Some(held) = flow.inflight.get(place)
                && held.order < orders.end
            {
                place += 1;
                // A retained message is not kept; and who does not read has it before it already.
                let Some(unacked) = &held.unacked else {
                    continue;
                };
                if self.buf.len() >= output_bytes_max {
                    continue;
                }
                let message = unacked.message.clone();
                let sent = Sent {
                    qos: QoS::AtLeastOnce,
                    dup: true,
                    retain: false,
                    packet_id: Some(held.packet_id),
                };
                let buf = roomy(&mut self.buf);
                let (flags, view) = (Flags::default(), message.view());
                // It was encoded before.
                let _ = encode(buf, self.version, flow, &view, &sent, &flags, now);
            }
            if place > first {
                retry.note(orders, interval_ms, now);
            }
        }
        flow.retry = Some(retry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that acknowledges in time leaves nothing behind, however long it stays.
    #[test]
    fn m16_what_is_acknowledged_is_forgotten() {
        let mut flow = Flow::new(crate::flow::Terms {
            window: 10,
            ..Default::default()
        });
        for minute in 0..1_000 {
            let ticket = flow.assign_fresh();
            flow.sent(ticket, None);
            flow.note_sent(ticket.0, 20_000, Time(minute * 60_000));
            assert_eq!(flow.retry_at(), Some(Time(minute * 60_000 + 20_000)));
            assert!(flow.acknowledged(ticket.1).is_some());
            assert_eq!(flow.retry_at(), None);
        }
        let groups = flow.retry.map(|retry| retry.groups.len());
        assert_eq!(groups, Some(1));
    }

    /// However much is sent, few groups wait; each is due an interval after its last.
    #[test]
    fn m16_what_is_sent_in_a_row_waits_together() {
        let mut retry = Retry::default();
        for order in 0..10_000 {
            retry.note(order..order + 1, 20_000, Time(order * 10));
        }
        assert!(retry.groups.len() <= 41, "{}", retry.groups.len());
        assert_eq!(retry.take_due(Time(20_000)), None);
        // The first was sent at 0, the last of its group before 2,500.
        assert_eq!(retry.take_due(Time(22_490)), Some(0..250));
        assert_eq!(retry.take_due(Time(22_490)), None);
        // One that is sent again waits by itself: its numbers are not the next.
        retry.note(0..250, 20_000, Time(100_000));
        retry.note(10_000..10_001, 20_000, Time(100_000));
        let last = retry.groups.iter().rev().take(2);
        let last: Vec<_> = last.map(|group| group.orders.clone()).collect();
        assert_eq!(last, [10_000..10_001, 0..250]);
    }
}
