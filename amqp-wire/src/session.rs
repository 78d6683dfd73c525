//! What the channels of an open connection share: the way into the vhost, the way out to the
//! client, and what a read batch has gathered.
//!
//! Owns the order of answers: an answer that must wait for the disk holds back all input behind
//! it. Never looks into frames.

use std::sync::Arc;

use leveret_core::identity::Reserved;
use leveret_core::journal::Lead;
use leveret_core::link::{Link, RetainedReplay};
use leveret_core::queue::{ArgumentsBudget, Queue, Settle};
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;

use crate::method::ServerMethod;
use crate::options::Options;
use crate::outlet::Outlet;
use crate::outlet::window::Held;

/// An open connection, as its channels see it.
pub(crate) struct Session {
    pub(crate) link: Arc<Link>,
    pub(crate) outlet: Arc<Outlet>,
    /// Rung by watermarks.
    pub(crate) bell: Arc<dyn Wake>,
    /// The negotiated size of a frame in bytes.
    pub(crate) frame_max: u32,
    /// Bytes of unfinished messages on all channels.
    pub(crate) assembling_bytes: usize,
    /// The number of the next consumer.
    pub(crate) next_consumer: u32,
    /// What its consumers keep of their arguments.
    pub(crate) kept_arguments: ArgumentsBudget,
    /// How long a delivery may wait for acknowledgement, in milliseconds; 0 is for ever.
    pub(crate) consumer_timeout_ms: u32,
    /// Headers that publishers cannot set.
    pub(crate) reserved: Reserved,
    /// How far it is ahead of the disk.
    pub(crate) lead: Lead,
    /// It has published, or bound to what publishes by that, while an alarm is set: nothing more is
    /// read until none is.
    pub(crate) met_alarm: bool,
    /// Bytes of answers since the last flush.
    pub(crate) replied_bytes: usize,
    /// An answer that waits for the definitions.
    uncommitted: Option<Uncommitted>,
    /// What a binding asked for: it comes behind the answer and before all further input.
    pub(crate) replay: Option<Box<RetainedReplay>>,
    /// A transaction's end that waits for the journal.
    pub(crate) commit: Option<Commit>,
    /// Publications in open transactions of all channels, and their bytes.
    pub(crate) tx_messages: usize,
    pub(crate) tx_bytes: usize,
    /// Acknowledged in this batch, not yet told to the queues.
    acked: Vec<Held>,
    /// Channels whose consumers may have credit again.
    returned: Vec<u16>,
    /// A channel that keeps more or less to itself than listings say; 0 is none.
    changed: u16,
    /// So do others.
    changed_more: bool,
    /// Channels that have confirms to send.
    pub(crate) confirming: Vec<u16>,
    /// Consumers to pull for: all at once, but for readers of streams that had to wait.
    pulls: Vec<(Arc<Queue>, u64)>,
}

/// A `tx.commit` that is not answered yet.
pub(crate) struct Commit {
    pub(crate) channel: u16,
    /// The record of the journal that it waits for.
    pub(crate) number: u64,
    /// The watermark was asked to wake us.
    pub(crate) is_watched: bool,
}

struct Uncommitted {
    /// Who asked.
    channel: u16,
    /// The record of the definitions that it waits for.
    number: u64,
    answer: Vec<u8>,
}

impl Session {
    pub(crate) fn new(
        link: Arc<Link>,
        outlet: Arc<Outlet>,
        bell: Arc<dyn Wake>,
        frame_max: u32,
        options: &Options,
    ) -> Self {
        let reserved = options.identity.reserved_in(link.vhost().name());
        Self {
            link,
            outlet,
            bell,
            lead: Lead::default(),
            frame_max,
            assembling_bytes: 0,
            next_consumer: 0,
            kept_arguments: ArgumentsBudget::default(),
            consumer_timeout_ms: options.consumer_timeout_ms,
            reserved,
            met_alarm: false,
            replied_bytes: 0,
            uncommitted: None,
            replay: None,
            commit: None,
            tx_messages: 0,
            tx_bytes: 0,
            acked: Vec::new(),
            returned: Vec::new(),
            changed: 0,
            changed_more: false,
            confirming: Vec::new(),
            pulls: Vec::new(),
        }
    }

    /// Whether an alarm is set.
    pub(crate) fn has_alarm(&self) -> bool {
        self.link.broker().alarms().is_set()
    }

    /// So much that was published is not on disk yet that nothing more is read.
    pub(crate) fn is_ahead(&self) -> bool {
        let mark = self.link.journal_mark();
        self.lead.is_too_long(mark.durable()) && !mark.has_failed()
    }

    /// Has the disk wake the connection while it is too far ahead.
    pub(crate) fn wait_for_disk(&mut self) {
        let watermark = self.link.journal_mark();
        if let Some(number) = self.lead.next_wait(watermark.durable()) {
            // If it is durable already, the connection is not ahead any more.
            watermark.wait(number, &self.bell);
        }
    }

    /// Answers the client.
    pub(crate) fn reply(&mut self, channel: u16, method: ServerMethod<'_>) {
        self.replied_bytes += self.outlet.append(|out| method.encode(channel, out));
    }

    /// Answers the client as soon as what it asked for is on disk.
    pub(crate) fn reply_committed(&mut self, channel: u16, method: ServerMethod<'_>) {
        let Some(number) = self.link.uncommitted() else {
            return self.reply(channel, method);
        };
        if !self
            .link
            .broker()
            .definitions()
            .watermark()
            .wait(number, &self.bell)
        {
            return self.reply(channel, method);
        }
        let mut answer = Vec::new();
        method.encode(channel, &mut answer);
        self.uncommitted = Some(Uncommitted {
            channel,
            number,
            answer,
        });
    }

    /// Whether an answer waits for the disk, or a binding for what is retained: nothing may
    /// overtake it.
    pub(crate) fn is_held(&self) -> bool {
        self.uncommitted.is_some() || self.commit.is_some() || self.replay.is_some()
    }

    /// Replays a piece of what is retained, behind the answer to the bind that asked for it.
    pub(crate) fn go_on_replaying(&mut self, turn: &mut Turn) {
        if self.uncommitted.is_some() {
            return;
        }
        if self.replay.is_some() && self.has_alarm() {
            // It fills queues as a publisher does, and waits as one.
            self.met_alarm = true;
            return;
        }
        if let Some(replay) = &mut self.replay {
            if !self.link.replay_retained(turn, replay) {
                self.replay = None;
            }
            // The rest, or the input that has waited for it.
            self.outlet.look_again();
        }
    }

    /// The answer that waits will never be true: the disk has failed.
    pub(crate) fn waits_in_vain(&self) -> bool {
        let definitions = self.link.broker().definitions();
        self.uncommitted.is_some() && definitions.watermark().has_failed()
    }

    /// Nobody is there any more for an answer that waits on this channel.
    pub(crate) fn drop_reply(&mut self, channel: u16) {
        self.uncommitted.take_if(|held| held.channel == channel);
    }

    /// Lets the answer go that waited, if it need not wait any longer.
    pub(crate) fn release_reply(&mut self) {
        let durable = self.link.broker().definitions().watermark().durable();
        if let Some(held) = self.uncommitted.take_if(|held| held.number <= durable) {
            self.replied_bytes += self
                .outlet
                .append(|out| out.extend_from_slice(&held.answer));
        }
    }

    /// Takes acknowledged deliveries out of a channel's window; `false` for an unknown tag. The
    /// queues hear of them at the end of the batch, or before another method.
    pub(crate) fn ack(&mut self, channel: u16, tag: u64, multiple: bool) -> bool {
        let known = self.outlet.take(channel, tag, multiple, &mut self.acked);
        if known {
            self.credit(channel);
        }
        known
    }

    /// The channel's consumers may have credit again.
    pub(crate) fn credit(&mut self, channel: u16) {
        if self.returned.last() != Some(&channel) && !self.returned.contains(&channel) {
            self.returned.push(channel);
        }
    }

    /// Listings are to be told of the channel at the end of the batch.
    #[inline]
    pub(crate) fn change(&mut self, channel: u16) {
        if self.changed == 0 {
            self.changed = channel;
        }
        self.changed_more |= self.changed != channel;
    }

    /// The channel that listings are to be told of, 0 for none, and whether others are as well.
    pub(crate) fn take_changed(&mut self) -> (u16, bool) {
        let more = std::mem::take(&mut self.changed_more);
        (std::mem::take(&mut self.changed), more)
    }

    /// Tells the queues of what was acknowledged.
    pub(crate) fn settle_acked(&mut self, turn: &mut Turn) {
        if !self.acked.is_empty() {
            let mut acked = std::mem::take(&mut self.acked);
            self.settle(turn, &mut acked, Settle::Ack);
            self.acked = acked;
        }
    }

    /// Settles deliveries, queue by queue and in order; `held` is empty afterwards.
    pub(crate) fn settle(&self, turn: &mut Turn, held: &mut Vec<Held>, how: Settle) {
        if held
            .iter()
            .any(|one| !Arc::ptr_eq(&one.queue, &held[0].queue))
        {
            held.sort_by_key(|one| one.queue.id());
        }
        let mut rest = held.drain(..).peekable();
        while let Some(first) = rest.next() {
            let queue = first.queue;
            let more = std::iter::from_fn(|| {
                let next = rest.next_if(|next| Arc::ptr_eq(&next.queue, &queue))?;
                Some((next.seq, next.message))
            });
            let all = std::iter::once((first.seq, first.message)).chain(more);
            self.link.settle(turn, &queue, all, how);
        }
    }

    /// Gives consumers that have credit again what is ready for them.
    pub(crate) fn pull_returned(&mut self, turn: &mut Turn) {
        if self.returned.is_empty() {
            return;
        }
        for channel in self.returned.drain(..) {
            self.outlet.take_starved(Some(channel), &mut self.pulls);
        }
        self.pull(turn);
    }

    /// The same for all consumers, after the out-buffer was flushed.
    pub(crate) fn pull_all(&mut self, turn: &mut Turn) {
        self.outlet.take_starved(None, &mut self.pulls);
        self.pull(turn);
    }

    /// Readers of streams for whom the turn has no time left stay in front of those who have had
    /// some.
    fn pull(&mut self, turn: &mut Turn) {
        let connection = self.link.connection();
        self.pulls.retain(|(queue, key)| {
            let waits = queue.is_stream() && turn.has_scanned();
            if !waits {
                queue.pull(turn, connection, *key);
            }
            waits
        });
        if !self.pulls.is_empty() {
            self.outlet.look_again();
        }
    }
}
