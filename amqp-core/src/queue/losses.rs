//! What was dropped, counted by reason.

use crate::sink::Loss;

/// Messages dropped, by reason. Takes memory from the first one on.
#[derive(Clone, Debug, Default)]
pub struct Losses(Option<Box<[u64; Loss::ALL.len()]>>);

impl Losses {
    /// One more, if it is a loss at all ([`Loss::NoLocal`] is none).
    pub(crate) fn count(&mut self, loss: Loss) {
        if let Some(place) = Loss::ALL.iter().position(|known| *known == loss) {
            self.0.get_or_insert_default()[place] += 1;
        }
    }

    /// All that another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let Some(others) = &other.0 else { return };
        let counts = self.0.get_or_insert_default();
        for (count, more) in counts.iter_mut().zip(others.iter()) {
            *count += more;
        }
    }

    /// Each reason with its count, also where that is zero.
    pub fn by_reason(&self) -> impl Iterator<Item = (Loss, u64)> + use<> {
        let counts = self.0.as_deref().copied().unwrap_or_default();
        Loss::ALL.into_iter().zip(counts)
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn of(&self, loss: Loss) -> u64 {
        let mut counts = self.by_reason();
        counts
            .find(|(known, _)| *known == loss)
            .map_or(0, |(_, count)| count)
    }

    /// How many were dropped.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().map(|(_, count)| count).sum()
    }
}
