//! Messages of one list that lie on disk and are read back at once: numbers that follow each
//! other, or nearly so.

use std::collections::VecDeque;
use std::ops::Range;

use crate::journal::Stretch;

/// See the module.
pub(in crate::queue) struct Piece {
    first: u64,
    /// How far each is behind the first; empty if there is no gap between them.
    behind: VecDeque<u32>,
    count: u32,
    /// Bytes of all their bodies.
    bytes: u64,
    /// Bytes of all their parts: what is read at once.
    part_bytes: u64,
    /// They were delivered before.
    pub(super) redelivered: bool,
}

impl Piece {
    /// What a restart found.
    pub(super) fn restored(stretch: &Stretch) -> Self {
        Self {
            first: stretch.first,
            behind: VecDeque::new(),
            count: stretch.count,
            bytes: stretch.bytes,
            part_bytes: stretch.part_bytes,
            redelivered: true,
        }
    }

    /// Nothing yet; what begins there comes first.
    pub(super) fn at(first: u64, redelivered: bool) -> Self {
        Self {
            first,
            behind: VecDeque::new(),
            count: 0,
            bytes: 0,
            part_bytes: 0,
            redelivered,
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One behind the last.
    pub(super) fn end(&self) -> u64 {
        match self.behind.back() {
            Some(last) => self.first + u64::from(*last) + 1,
            None => self.first + u64::from(self.count),
        }
    }

    /// Takes messages behind its end, if there is room for them. `stretch`: with no gap among them.
    pub(super) fn extend(&mut self, stretch: &Stretch) -> bool {
        let span = stretch.end().checked_sub(self.first).map(u32::try_from);
        let room = self.count == 0
            || (self.count + stretch.count <= Stretch::COUNT_MAX
                && self.part_bytes + stretch.part_bytes <= Stretch::BYTES_MAX);
        if stretch.first < self.end() || !room || !matches!(span, Some(Ok(_))) {
            return false;
        }
        if stretch.first > self.end() && self.behind.is_empty() {
            self.behind.extend(0..self.count);
        }
        if stretch.first > self.end() || !self.behind.is_empty() {
            let from = (stretch.first - self.first) as u32;
            self.behind.extend(from..from + stretch.count);
        }
        self.count += stretch.count;
        self.bytes += stretch.bytes;
        self.part_bytes += stretch.part_bytes;
        true
    }

    /// The numbers, in order.
    pub(in crate::queue) fn seqs(&self) -> impl Iterator<Item = u64> {
        let near = if self.behind.is_empty() {
            self.count
        } else {
            0
        };
        let far = self.behind.iter().copied();
        (0..near)
            .chain(far)
            .map(|behind| self.first + u64::from(behind))
    }

    /// The numbers, if there is no gap between them.
    pub(in crate::queue) fn range(&self) -> Option<Range<u64>> {
        self.behind.is_empty().then(|| self.first..self.end())
    }

    /// The numbers, as ranges without gaps.
    pub(in crate::queue) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut whole = self.range();
        let mut behind = self.behind.iter().copied().peekable();
        std::iter::from_fn(move || {
            if let Some(range) = whole.take() {
                return Some(range);
            }
            let from = behind.next()?;
            let mut end = from + 1;
            while behind.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(self.first + u64::from(from)..self.first + u64::from(end))
        })
    }

    /// Drops the first; gives its number, and about how many bytes it has.
    pub(super) fn drop_first(&mut self) -> (u64, u64) {
        let seq = self.first;
        let count = u64::from(self.count.max(1));
        let bytes = self.bytes / count;
        self.part_bytes -= self.part_bytes / count;
        self.count -= 1;
        self.bytes -= bytes;
        if self.behind.is_empty() {
            self.first += 1;
        } else {
            self.behind.pop_front();
            let step = self.behind.front().copied().unwrap_or_default();
            self.first += u64::from(step);
            self.behind.iter_mut().for_each(|behind| *behind -= step);
        }
        (seq, bytes)
    }
}
