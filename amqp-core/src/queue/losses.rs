//! What was dropped, counted by reason and QoS: of each queue here, of the whole vhost in its
//! [`crate::ledger`].

use smallvec::SmallVec;

use super::{Queue, State};
use crate::ledger::Whose;
use crate::message::MessageRef;
use crate::sink::Loss;

/// Messages dropped, by reason and QoS. Takes memory from the first one on.
#[derive(Clone, Debug, Default)]
pub struct Losses(Option<Box<SmallVec<[Tally; 2]>>>);

/// Most queues lose messages for one reason, if any.
#[derive(Clone, Copy, Debug)]
struct Tally {
    loss: Loss,
    qos: u8,
    count: u64,
}

const _: () = assert!(size_of::<Tally>() == 16);

impl Losses {
    /// More of them, if it is a loss at all ([`Loss::NoLocal`] is none).
    pub(crate) fn add(&mut self, loss: Loss, qos: u8, more: u64) {
        if more == 0 || loss.place().is_none() {
            return;
        }
        let tallies = self.0.get_or_insert_default();
        let mut known = tallies.iter_mut();
        match known.find(|held| (held.loss, held.qos) == (loss, qos)) {
            Some(held) => held.count += more,
            None => tallies.push(Tally {
                loss,
                qos,
                count: more,
            }),
        }
    }

    /// Reason, QoS and count of all that there are, in order.
    pub fn by_qos(&self) -> impl Iterator<Item = (Loss, u8, u64)> + use<> {
        let mut tallies = self.0.as_deref().cloned().unwrap_or_default();
        tallies.sort_unstable_by_key(|held| (held.loss.place(), held.qos));
        let each = tallies.into_iter();
        each.map(|held| (held.loss, held.qos, held.count))
    }

    /// Each reason with its count, also where that is zero.
    pub fn by_reason(&self) -> impl Iterator<Item = (Loss, u64)> + use<> {
        Loss::ALL.map(|loss| (loss, self.of(loss))).into_iter()
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn of(&self, loss: Loss) -> u64 {
        let held = self.0.iter().flat_map(|tallies| tallies.iter());
        held.filter(|held| held.loss == loss)
            .map(|held| held.count)
            .sum()
    }

    /// How many were dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        let held = self.0.iter().flat_map(|tallies| tallies.iter());
        held.map(|held| held.count).sum()
    }
}

impl Queue {
    /// A message of this queue, or on its way to it, is dropped.
    pub(super) fn count_loss(&self, state: &mut State, loss: Loss, message: &MessageRef<'_>) {
        self.count_losses(state, loss, message.head.qos(), 1, message.key);
    }

    /// The same of messages that nobody reads: the journal had them, so they were to last.
    pub(super) fn count_unread(&self, state: &mut State, loss: Loss, more: u64) {
        self.count_losses(state, loss, 1, more, &[]);
    }

    pub(super) fn count_losses(
        &self,
        state: &mut State,
        loss: Loss,
        qos: u8,
        more: u64,
        key: &[u8],
    ) {
        // A list that keeps none gives with QoS 0, whatever was published.
        let qos = if self.direct { 0 } else { qos };
        state.losses.add(loss, qos, more);
        if let Some(door) = &self.door {
            let whose = Whose::Queue(&self.name);
            door.ledger.count((loss, qos), more, whose, key);
        }
    }
}
