//! Who may send how much, now.
//!
//! Owns windows and refills. Patches templates; encodes and allocates nothing per message.

use super::connection::Connection;
use super::{Engine, Limits, Publisher};
use crate::template::{HEAD, Template};

/// An open loop: when it began, nanoseconds from message to message, publishers.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    pub(super) t0: u64,
    pub(super) step_ns: f64,
    pub(super) publishers: u64,
}

impl Schedule {
    /// When a publisher's n-th message is due.
    fn due(&self, publisher: usize, n: u64) -> u64 {
        let before = n as f64 * self.publishers as f64 + publisher as f64;
        self.t0 + (before * self.step_ns) as u64
    }
}

impl Engine {
    /// Flat out: every group up to its limit.
    pub(super) fn pump_all(&mut self, t: u64) {
        let limit = self.ledger.limits.outstanding;
        for index in 0..self.ledger.groups.len() {
            let group = &self.ledger.groups[index];
            let n = group.publishers.len();
            if n == 0 {
                continue;
            }
            let mut credit = usize::MAX;
            if limit > 0 {
                let free = limit.saturating_sub(self.ledger.outstanding(group));
                // Refill by the eighth, so that a fast generator does not feed the broker one
                // message at a time.
                if free == 0 || (free < limit / 8 && t < group.fed + PATIENCE_NS) {
                    continue;
                }
                credit = free as usize;
            }
            let share = if limit > 0 {
                (credit / n).max(1)
            } else {
                4_096
            };
            let start = group.turn;
            let mut i = 0;
            while i < n && credit > 0 {
                let publisher = self.ledger.groups[index].publishers[(start + i) % n];
                credit -= self.pump_publisher(publisher, share.min(credit), t, None);
                i += 1;
            }
            let group = &mut self.ledger.groups[index];
            group.turn = (start + i) % n;
            group.fed = t;
        }
    }

    /// Sends up to `max` messages of one publisher; says how many.
    pub(super) fn pump_publisher(
        &mut self,
        index: usize,
        max: usize,
        t: u64,
        schedule: Option<Schedule>,
    ) -> usize {
        let Some(template) = self.template.as_mut() else {
            return 0;
        };
        let ledger = &mut self.ledger;
        let publisher = &mut ledger.publishers[index];
        let connection = &mut self.connections[publisher.connection];
        let mut done = 0;
        while done < max && can_take(connection) {
            let wanted = (max - done).min(template.copies);
            let n = publisher.may_send(wanted, template, t, schedule.is_some());
            if n == 0 {
                break;
            }
            publisher.patch(index, n, template, &ledger.limits, t, schedule);
            publisher.sent += n as u64;
            publisher.fed = t;
            if schedule.is_some() {
                publisher.owed -= n as u64;
            }
            match &mut publisher.confirms {
                Some(confirms) => confirms.sent(n as u64),
                None if template.packet_id.is_some() => publisher.inflight += n as u32,
                None => {}
            }
            done += n;
            let bytes = &template.buffer[..n * template.stride];
            connection.write(bytes, &mut ledger.error);
        }
        let group = publisher.group;
        ledger.groups[group].sent += done as u64;
        done
    }

    /// Groups that wait for messages that do not come: count them as gone and go on. Says how many
    /// groups that were.
    pub(super) fn write_off(&mut self, t: u64) -> u64 {
        let limit = self.ledger.limits.outstanding;
        let patience_ns = self.ledger.limits.stall_ms * 1_000_000;
        let mut stalls = 0;
        for index in 0..self.ledger.groups.len() {
            let group = &self.ledger.groups[index];
            let sinks = group.sinks.iter();
            let good: u64 = sinks.map(|k| self.ledger.sinks[*k].good).sum();
            let least = self.ledger.least_good(group);
            let out = self.ledger.outstanding(group);
            let blocked = limit.saturating_sub(out) < (limit / 8).max(1);
            let group = &mut self.ledger.groups[index];
            let missing = group.sent.saturating_sub(least);
            group.written_off = group.written_off.min(missing);
            if good != group.seen_good || !blocked {
                group.seen_good = good;
                group.seen_at = t;
            } else if t.saturating_sub(group.seen_at) > patience_ns {
                group.written_off += out;
                group.seen_at = t;
                stalls += 1;
            }
        }
        stalls
    }

    /// The least that may be in flight anywhere on the way.
    pub(super) fn in_flight_cap(&self) -> f64 {
        let limits = &self.ledger.limits;
        let groups = &self.ledger.groups;
        let sinks = groups.iter().map(|g| g.sinks.len()).max();
        let copies = sinks.unwrap_or(1).max(1) as f64;
        let subscribers = self.ledger.subscribers.len().max(1) as f64;
        let mut cap = f64::INFINITY;
        if limits.outstanding > 0 {
            cap = cap.min(limits.outstanding as f64 * groups.len() as f64 * copies);
        }
        let publishers = &self.ledger.publishers;
        if !publishers.is_empty() && (limits.qos > 0 || limits.confirms) {
            let windows: f64 = publishers.iter().map(|p| f64::from(p.window)).sum();
            cap = cap.min(windows * copies);
        }
        if limits.sub_inflight > 0 {
            cap = cap.min(f64::from(limits.sub_inflight) * subscribers);
        }
        if limits.prefetch > 0 && !limits.auto_ack {
            cap = cap.min(f64::from((limits.prefetch / 2).max(1)) * subscribers);
        }
        cap
    }
}

impl Publisher {
    /// How many of `wanted` messages quota and windows allow now.
    #[inline]
    fn may_send(&self, wanted: usize, template: &Template, t: u64, scheduled: bool) -> usize {
        let quota = usize::try_from(self.quota - self.sent).unwrap_or(usize::MAX);
        let free = match &self.confirms {
            Some(confirms) => {
                let window = u64::from(self.window.saturating_sub(confirms.open));
                window.min(confirms.room()) as usize
            }
            None if template.packet_id.is_some() => {
                self.window.saturating_sub(self.inflight) as usize
            }
            None => usize::MAX,
        };
        let n = wanted.min(quota);
        if scheduled {
            return n.min(self.owed as usize).min(free);
        }
        if free == 0 || (free < self.window as usize / 8 && t < self.fed + PATIENCE_NS) {
            return 0;
        }
        n.min(free)
    }

    /// Makes the template's first n copies this publisher's next n messages.
    #[inline]
    fn patch(
        &mut self,
        index: usize,
        n: usize,
        template: &mut Template,
        limits: &Limits,
        t: u64,
        schedule: Option<Schedule>,
    ) {
        let flows = self.flows.len();
        let copies = template.buffer.chunks_exact_mut(template.stride);
        for (i, bytes) in copies.take(n).enumerate() {
            let flow = &mut self.flows[self.next_flow];
            self.next_flow = if self.next_flow + 1 == flows {
                0
            } else {
                self.next_flow + 1
            };
            let route = &flow.route[..template.route_bytes];
            bytes[template.route..template.route + route.len()].copy_from_slice(route);
            let mut due = 0;
            if self.sample_in == 0 {
                self.sample_in = limits.sample;
                due = schedule.map_or(t, |s| s.due(index, self.sent + i as u64));
                if self.probe.is_none() {
                    self.probe = match (&self.confirms, template.packet_id) {
                        (Some(confirms), _) => Some((confirms.next() + i as u64, due)),
                        (None, Some(_)) => Some((u64::from(self.packet_id), due)),
                        _ => None,
                    };
                }
            }
            self.sample_in -= 1;
            if let Some(at) = template.packet_id {
                bytes[at..at + 2].copy_from_slice(&self.packet_id.to_be_bytes());
                self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            }
            let head = &mut bytes[template.head..template.head + HEAD];
            head[0..4].copy_from_slice(&flow.id.to_be_bytes());
            head[4..8].copy_from_slice(&flow.seq.to_be_bytes());
            head[8..16].copy_from_slice(&due.to_be_bytes());
            flow.seq = flow.seq.wrapping_add(1);
        }
    }
}

#[inline]
fn can_take(connection: &Connection) -> bool {
    connection.writable && connection.out.is_empty() && connection.open
}

/// How long a refill waits for an eighth of its window before it makes do with less: a broker
/// without TCP_NODELAY may be holding its acknowledgements back until our side sends something
/// (Nagle's algorithm against delayed ACKs).
const PATIENCE_NS: u64 = 2_000_000;
