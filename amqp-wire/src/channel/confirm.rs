//! Publisher confirms: which publications of a channel were acknowledged, and which wait.
//!
//! Owns the numbering; an acknowledgement leaves when the journal's watermark has passed what it
//! stands for, and never before an earlier one. RabbitMQ's class confirm.

use std::collections::VecDeque;

use leveret_core::link::Published;
use leveret_core::message::MessageRef;
use leveret_core::refusal::Refusal;
use leveret_core::sink::Loss;

use super::Channel;
use crate::deliver;
use crate::limits::CONFIRMS_PER_CHANNEL_MAX;
use crate::method::{BasicNack, ConfirmSelect, ConfirmSelectOk, ServerMethod};
use crate::outlet::Outlet;
use crate::session::Session;

/// The confirms of one channel.
#[derive(Default)]
pub(super) struct Confirms {
    /// The number of the last publication; the first is 1.
    published: u64,
    /// The number of the last publication that was answered.
    answered: u64,
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
    /// Queues have refused them.
    rejected: bool,
}

/// What a publisher is told: of the publication with this number, or of all up to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Verdict {
    last: u64,
    multiple: bool,
    rejected: bool,
}

impl Confirms {
    #[inline]
    fn add(&mut self, seq: u64, rejected: bool) {
        self.published += 1;
        match self.waiting.back_mut() {
            Some(run) if run.seq >= seq && run.rejected == rejected => run.last = self.published,
            back => {
                // Whoever comes behind a record waits for it.
                let seq = back.map_or(seq, |run| run.seq.max(seq));
                self.waiting.push_back(Run {
                    last: self.published,
                    seq,
                    rejected,
                });
            }
        }
    }

    /// What can be said now of those that wait longest. Never of accepted and rejected ones
    /// together: a publication is told with those before it that had the same luck.
    fn take(&mut self, durable: u64) -> Option<Verdict> {
        let first = self.waiting.pop_front_if(|run| run.seq <= durable)?;
        let mut last = first.last;
        while let Some(run) = self
            .waiting
            .pop_front_if(|run| run.seq <= durable && run.rejected == first.rejected)
        {
            last = run.last;
        }
        Some(self.pass(last, first.rejected))
    }

    /// All that wait will not be acknowledged.
    fn give_up(&mut self) -> Verdict {
        self.waiting.clear();
        self.pass(self.published, true)
    }

    /// How many were neither acknowledged nor rejected.
    pub(super) fn unanswered(&self) -> u32 {
        u32::try_from(self.published - self.answered).unwrap_or(u32::MAX)
    }

    fn pass(&mut self, last: u64, rejected: bool) -> Verdict {
        let multiple = last - self.answered > 1;
        self.answered = last;
        Verdict {
            last,
            multiple,
            rejected,
        }
    }
}

impl Channel {
    /// `confirm.select`: numbering begins with the next publication.
    pub(super) fn confirm_select(
        &mut self,
        session: &mut Session,
        method: ConfirmSelect,
    ) -> Result<(), Refusal> {
        if self.tx.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(Refusal::precondition(text));
        }
        self.confirms.get_or_insert_default();
        session
            .outlet
            .tell_of(self.id, |listed| listed.confirm = true);
        if !method.no_wait {
            session.reply(self.id, ServerMethod::ConfirmSelectOk(ConfirmSelectOk {}));
        }
        Ok(())
    }

    /// Numbers a publication whose queues are done when the journal has its record.
    #[inline]
    pub(super) fn published(
        &mut self,
        session: &mut Session,
        published: Published,
        message: &MessageRef<'_>,
    ) {
        session.lead.note(published.journaled);
        let Some(confirms) = &mut self.confirms else {
            if published.rejected {
                let head = &message.head;
                session
                    .link
                    .count_loss(Loss::Rejected, head.qos(), message.key);
            }
            return;
        };
        if confirms.waiting.is_empty() {
            session.confirming.push(self.id);
        }
        confirms.add(published.journaled, published.rejected);
        session.change(self.id);
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
            while let Some(verdict) = confirms.take(watermark.durable()) {
                let left = confirms.unanswered();
                session.replied_bytes += tell(&session.outlet, self.id, verdict, left);
            }
            let Some(run) = confirms.waiting.front() else {
                return false;
            };
            if watermark.has_failed() {
                // The disk may have them or not: nobody will ever know more.
                let verdict = confirms.give_up();
                session.replied_bytes += tell(&session.outlet, self.id, verdict, 0);
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

/// Tells a publisher, who has so many left; says how many bytes that took.
fn tell(outlet: &Outlet, channel: u16, verdict: Verdict, left: u32) -> usize {
    let Verdict { last, multiple, .. } = verdict;
    if !verdict.rejected {
        let ack = |out: &mut Vec<u8>| deliver::ack(out, channel, last, multiple);
        return outlet.append_confirm(channel, left, ack);
    }
    let nack = BasicNack {
        delivery_tag: last,
        multiple,
        requeue: false,
    };
    outlet.append_confirm(channel, left, |out| {
        ServerMethod::BasicNack(nack).encode(channel, out);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said at a time: `+5*` acknowledges all up to 5, `-6` rejects the sixth alone.
    fn said(confirms: &mut Confirms, durable: u64) -> String {
        let mut text = String::new();
        while let Some(verdict) = confirms.take(durable) {
            let sign = if verdict.rejected { '-' } else { '+' };
            let star = if verdict.multiple { "*" } else { "" };
            text += &format!("{sign}{}{star} ", verdict.last);
        }
        text.trim_end().to_owned()
    }

    #[test]
    fn acknowledged_in_order_and_in_runs() {
        // (records that publications wait for, (durable, said) in turn)
        type Row = (&'static [u64], &'static [(u64, &'static str)]);
        let rows: &[Row] = &[
            (&[0], &[(0, "+1"), (0, "")]),
            (&[0, 0, 0], &[(0, "+3*")]),
            (&[5, 6], &[(4, ""), (5, "+1"), (6, "+2")]),
            (&[5, 0, 6], &[(0, ""), (5, "+2*"), (9, "+3")]),
            (&[0, 7, 0, 3], &[(0, "+1"), (6, ""), (7, "+4*")]),
        ];
        for (seqs, steps) in rows {
            let mut confirms = Confirms::default();
            seqs.iter().for_each(|seq| confirms.add(*seq, false));
            for (durable, expected) in *steps {
                assert_eq!(
                    said(&mut confirms, *durable),
                    *expected,
                    "{seqs:?} at {durable}"
                );
            }
        }
    }

    const ACK: bool = false;
    const NACK: bool = true;

    /// FEATURES A5: no acknowledgement of several stands for one that was rejected.
    #[test]
    fn a5_rejected_publications_are_told_apart() {
        // (record and whether it was rejected, (durable, said) in turn)
        type Row = (&'static [(u64, bool)], &'static [(u64, &'static str)]);
        let rows: &[Row] = &[
            (&[(0, NACK)], &[(0, "-1")]),
            (&[(0, ACK), (0, NACK), (0, ACK)], &[(0, "+1 -2 +3")]),
            (
                &[(0, ACK), (0, ACK), (0, NACK), (0, NACK), (0, ACK)],
                &[(0, "+2* -4* +5")],
            ),
            // One that was rejected waits for those before it, and those behind it for them too.
            (
                &[(5, ACK), (0, NACK), (0, ACK), (7, ACK)],
                &[(4, ""), (5, "+1 -2 +3"), (7, "+4")],
            ),
            (&[(5, ACK), (6, NACK), (5, ACK)], &[(5, "+1"), (6, "-2 +3")]),
        ];
        for (publications, steps) in rows {
            let mut confirms = Confirms::default();
            for (seq, rejected) in *publications {
                confirms.add(*seq, *rejected);
            }
            for (durable, expected) in *steps {
                let found = said(&mut confirms, *durable);
                assert_eq!(found, *expected, "{publications:?} at {durable}");
            }
        }
    }
}
