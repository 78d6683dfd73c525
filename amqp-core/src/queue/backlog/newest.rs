//! The other end of a list: queues that give the newest message first take from there.

use super::{Backlog, Cold, Pager, Rest, body_bytes};
use crate::queue::Entry;

impl Backlog {
    /// Takes the last; reads it back if it must. `lost` counts what could not be read.
    pub(in crate::queue) fn pop_back(
        &mut self,
        pager: &dyn Pager,
        lost: &mut u64,
    ) -> Option<Entry> {
        loop {
            let last = self.last();
            let back = self.back.last_entry();
            if let Some(back) = back.filter(|back| last.is_none_or(|last| *back.key() > last)) {
                let entry = back.remove();
                self.bytes -= body_bytes(&entry);
                return Some(entry);
            }
            last?;
            if let Some(entry) = self.pop_last(pager, lost) {
                self.bytes -= body_bytes(&entry);
                return Some(entry);
            }
        }
    }

    /// The number of the last one, but for those that came back.
    fn last(&self) -> Option<u64> {
        let rest = self.rest.as_ref();
        let fresh = rest.and_then(|rest| rest.fresh.back());
        let cold = || Some(rest?.cold.back()?.end() - 1);
        let head = || self.head.back().map(Entry::seq);
        fresh.map(Entry::seq).or_else(cold).or_else(head)
    }

    /// Takes that one, or brings it into memory.
    fn pop_last(&mut self, pager: &dyn Pager, lost: &mut u64) -> Option<Entry> {
        let Some(rest) = &mut self.rest else {
            return self.head.pop_back();
        };
        let mut taken = rest.fresh.pop_back();
        if taken.is_none() {
            taken = rest.unfold_last(pager, lost, &mut self.bytes);
        }
        if rest.fresh.is_empty() && rest.cold.is_empty() {
            // The head can be paged out again.
            self.rest = None;
        }
        taken
    }
}

impl Rest {
    /// Takes the last of the cold ones, or brings those that lie there with it into memory.
    fn unfold_last(
        &mut self,
        pager: &dyn Pager,
        lost: &mut u64,
        all_bytes: &mut u64,
    ) -> Option<Entry> {
        match self.cold.pop_back()? {
            Cold::Held(entry) => {
                self.cold_messages -= 1;
                self.cold_bytes -= body_bytes(&entry);
                return Some(entry);
            }
            Cold::Paged(piece) => {
                self.cold_messages -= piece.count();
                self.cold_bytes -= piece.bytes();
                *all_bytes -= piece.bytes();
                let found = pager.fetch(&piece);
                *lost += (piece.count() - found.len()) as u64;
                for (seq, message) in found {
                    let entry = Entry::new(message, seq, piece.redelivered);
                    *all_bytes += body_bytes(&entry);
                    self.fresh.push_back(entry);
                }
            }
        }
        None
    }
}
