//! What has been sent, received and acknowledged: what the parsers write to.
//!
//! Owns the checks of every message. Never touches a socket.

use hdrhistogram::Histogram;

use super::{Group, Limits, Publisher, Subscriber};
use crate::clock::now;
use crate::report::latency_histogram;
use crate::template::Message;
use crate::track::{Many, One, Seen};

/// Where every message of a group must arrive once.
pub(super) struct Sink {
    group: usize,
    consumers: usize,
    /// Messages that came, each counted once.
    pub(super) good: u64,
    one: Vec<One>,
    many: Vec<Many>,
}

pub(super) struct Ledger {
    pub(super) publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) sinks: Vec<Sink>,
    pub(super) groups: Vec<Group>,
    /// The high 8 bits of our flow numbers.
    pub(super) run: u32,
    pub(super) limits: Limits,
    pub(super) latency: Histogram<u64>,
    pub(super) ack_latency: Histogram<u64>,
    /// Only what was due later is timed.
    pub(super) mark: u64,
    /// When the bytes being parsed were read; 0: not looked at yet.
    pub(super) read_at: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) late: u64,
    pub(super) dup_flagged: u64,
    pub(super) foreign: u64,
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) error: Option<String>,
}

impl Ledger {
    pub(super) fn new(limits: Limits, run: u32) -> Self {
        Self {
            publishers: vec![],
            subscribers: vec![],
            sinks: vec![],
            groups: vec![],
            run,
            limits,
            latency: latency_histogram(),
            ack_latency: latency_histogram(),
            mark: 0,
            read_at: 0,
            received: 0,
            duplicates: 0,
            late: 0,
            dup_flagged: 0,
            foreign: 0,
            acked: 0,
            nacked: 0,
            error: None,
        }
    }

    pub(super) fn add_sink(&mut self, group: usize, consumers: usize) -> usize {
        self.sinks.push(Sink {
            group,
            consumers,
            good: 0,
            one: vec![],
            many: vec![],
        });
        self.sinks.len() - 1
    }

    pub(super) fn sent(&self) -> u64 {
        self.groups.iter().map(|g| g.sent).sum()
    }

    /// What the slowest sink of a group has received.
    pub(super) fn least_good(&self, group: &Group) -> u64 {
        let good = group.sinks.iter().map(|k| self.sinks[*k].good);
        good.min().unwrap_or(group.sent)
    }

    /// Sent, not received by all and not written off.
    pub(super) fn outstanding(&self, group: &Group) -> u64 {
        let settled = self.least_good(group) + group.written_off;
        group.sent.saturating_sub(settled)
    }

    #[inline]
    pub(super) fn message(&mut self, subscriber: usize, m: &Message) {
        let from = &self.subscribers[subscriber];
        let sink = &mut self.sinks[from.sink];
        let group = &self.groups[sink.group];
        self.dup_flagged += u64::from(m.dup);
        let flow = (m.flow & 0xFF_FFFF).wrapping_sub(group.flow_base);
        if m.short || m.flow & 0xFF00_0000 != self.run || flow >= group.flow_count {
            self.foreign += u64::from(!m.empty);
            return;
        }
        self.received += 1;
        let (flow, flows) = (flow as usize, group.flow_count as usize);
        let seen = if sink.consumers == 1 {
            if flow >= sink.one.len() {
                sink.one.resize_with(flows, One::default);
            }
            sink.one[flow].see(m.seq)
        } else {
            if flow >= sink.many.len() {
                sink.many.resize_with(flows, Many::default);
            }
            sink.many[flow].see(from.slot, m.seq)
        };
        match seen {
            Seen::Ok => sink.good += 1,
            Seen::Late => {
                sink.good += 1;
                self.late += 1;
            }
            Seen::Dup => self.duplicates += 1,
        }
        if m.due != 0 && m.due >= self.mark {
            if self.read_at == 0 {
                self.read_at = now();
            }
            self.latency
                .saturating_record(self.read_at.saturating_sub(m.due));
        }
    }

    /// PUBACK or PUBCOMP, or a PUBREC that says no.
    #[inline]
    pub(super) fn mqtt_ack(&mut self, publisher: usize, packet_id: u16) {
        let publisher = &mut self.publishers[publisher];
        publisher.inflight = publisher.inflight.saturating_sub(1);
        self.acked += 1;
        if let Some((id, at)) = publisher.probe
            && id == u64::from(packet_id)
        {
            publisher.probe = None;
            if at >= self.mark {
                self.ack_latency.saturating_record(now().saturating_sub(at));
            }
        }
    }

    /// basic.ack or basic.nack of a publisher's messages.
    pub(super) fn confirm(&mut self, publisher: usize, tag: u64, multiple: bool, nack: bool) {
        let publisher = &mut self.publishers[publisher];
        if let Some(confirms) = &mut publisher.confirms {
            let n = u64::from(confirms.ack(tag, multiple));
            self.acked += n;
            self.nacked += if nack { n } else { 0 };
        }
        if let Some((id, at)) = publisher.probe
            && (tag == id || (tag > id && multiple))
        {
            publisher.probe = None;
            if at >= self.mark {
                self.ack_latency.saturating_record(now().saturating_sub(at));
            }
        }
    }
}
