//! Publisher confirms: which publications of a channel were acknowledged, and which wait.
//!
//! Owns the numbering; an acknowledgement leaves when the journal's watermark has passed what it
//! stands for, and never before an earlier one. RabbitMQ's class confirm.

use std::collections::VecDeque;

use leveret_core::refusal::Refusal;

use super::Channel;
use crate::deliver;
use crate::limits::CONFIRMS_PER_CHANNEL_MAX;
use crate::method::{BasicNack, ConfirmSelect, ConfirmSelectOk, ServerMethod};
use crate::session::Session;

/// The confirms of one channel.
#[derive(Default)]
pub(super) struct Confirms {
    /// The number of the last publication; the first is 1.
    published: u64,
    /// The number of the last acknowledged publication.
    acked: u64,
    /// Runs of publications that wait, by rising number.
    waiting: VecDeque<Run>,
    /// What the watermark was asked to wake us for.
    woken_at: u64,
}

/// Publications up to `last` wait for the journal's record `seq`; one that needs an earlier
/// record than its predecessor waits for it all the same.
struct Run {
    last: u64,
    seq: u64,
}

impl Confirms {
    fn add(&mut self, seq: u64) {
        self.published += 1;
        match self.waiting.back_mut() {
            Some(run) if run.seq >= seq => run.last = self.published,
            _ => self.waiting.push_back(Run {
                last: self.published,
                seq,
            }),
        }
    }

    /// The last publication that may be acknowledged now, and whether that stands for several.
    fn take(&mut self, durable: u64) -> Option<(u64, bool)> {
        let mut last = None;
        while let Some(run) = self.waiting.pop_front_if(|run| run.seq <= durable) {
            last = Some(run.last);
        }
        Some(self.pass(last?))
    }

    /// All that wait will not be acknowledged: the last, and whether that stands for several.
    fn give_up(&mut self) -> (u64, bool) {
        self.waiting.clear();
        self.pass(self.published)
    }

    fn pass(&mut self, last: u64) -> (u64, bool) {
        let multiple = last - self.acked > 1;
        self.acked = last;
        (last, multiple)
    }
}

impl Channel {
    /// `confirm.select`: numbering begins with the next publication.
    pub(super) fn confirm_select(
        &mut self,
        session: &mut Session,
        method: ConfirmSelect,
    ) -> Result<(), Refusal> {
        self.confirms.get_or_insert_default();
        if !method.no_wait {
            session.reply(self.id, ServerMethod::ConfirmSelectOk(ConfirmSelectOk {}));
        }
        Ok(())
    }

    /// Numbers a publication whose queues are done when the journal has `seq`.
    #[inline]
    pub(super) fn published(&mut self, session: &mut Session, seq: u64) {
        session.lead.note(seq);
        let Some(confirms) = &mut self.confirms else {
            return;
        };
        if confirms.waiting.is_empty() {
            session.confirming.push(self.id);
        }
        confirms.add(seq);
    }

    /// So many publications wait for the journal that no more are read.
    pub(crate) fn confirms_full(&self) -> bool {
        let waiting = self
            .confirms
            .as_ref()
            .map_or(0, |confirms| confirms.waiting.len());
        waiting >= CONFIRMS_PER_CHANNEL_MAX
    }

    /// Acknowledges what is durable; says whether anything is left to wait for.
    pub(crate) fn flush_confirms(&mut self, session: &mut Session) -> bool {
        let Some(confirms) = &mut self.confirms else {
            return false;
        };
        let watermark = session.link.journal_mark();
        loop {
            if let Some((tag, multiple)) = confirms.take(watermark.durable()) {
                let id = self.id;
                session.replied_bytes += session
                    .outlet
                    .append(|out| deliver::ack(out, id, tag, multiple));
            }
            let Some(run) = confirms.waiting.front() else {
                return false;
            };
            if watermark.has_failed() {
                // The disk may have them or not: nobody will ever know more.
                let (tag, multiple) = confirms.give_up();
                let (channel, requeue) = (self.id, false);
                let nack = BasicNack {
                    delivery_tag: tag,
                    multiple,
                    requeue,
                };
                session.reply(channel, ServerMethod::BasicNack(nack));
                return false;
            }
            // One wake-up at a time: it comes for the first that waits.
            if confirms.woken_at >= run.seq && confirms.woken_at > watermark.durable() {
                return true;
            }
            if watermark.wait(run.seq, &session.bell) {
                confirms.woken_at = run.seq;
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_in_order_and_in_runs() {
        // (records that publications wait for, (durable, acknowledged) in turn)
        type Row = (&'static [u64], &'static [(u64, Option<(u64, bool)>)]);
        let rows: &[Row] = &[
            (&[0], &[(0, Some((1, false))), (0, None)]),
            (&[0, 0, 0], &[(0, Some((3, true)))]),
            (
                &[5, 6],
                &[(4, None), (5, Some((1, false))), (6, Some((2, false)))],
            ),
            (
                &[5, 0, 6],
                &[(0, None), (5, Some((2, true))), (9, Some((3, false)))],
            ),
            (
                &[0, 7, 0, 3],
                &[(0, Some((1, false))), (6, None), (7, Some((4, true)))],
            ),
        ];
        for (seqs, steps) in rows {
            let mut confirms = Confirms::default();
            seqs.iter().for_each(|seq| confirms.add(*seq));
            for (durable, expected) in *steps {
                assert_eq!(confirms.take(*durable), *expected, "{seqs:?} at {durable}");
            }
        }
    }
}
