//! The sizes and ages of a stream's messages, segment by segment: what retention decides by.
//!
//! A segment is as many messages as reach `x-stream-max-segment-size-bytes` together. It is a way
//! of counting: the bytes lie in the journal's files, among others'. Owns no message.

use std::collections::VecDeque;

use crate::limits::STREAM_SEGMENTS_MAX;
use crate::time::Time;

/// Messages that follow each other, and are given up together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    /// The offset of the first.
    pub(super) first: u64,
    /// Bytes of all of them.
    bytes: u64,
    /// When the newest came, unless it was found by a restart.
    until: Option<Time>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Segments {
    list: VecDeque<Segment>,
    bytes: u64,
}

/// What a stream is to keep.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retention {
    /// Bytes of a segment that another one follows.
    pub(super) segment_bytes: u64,
    pub(super) bytes_max: Option<u64>,
    pub(super) age_max_ms: Option<u64>,
}

impl Segments {
    /// Bytes of all messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts messages from `first` on that follow all others; says whether they began a segment.
    pub(super) fn push(
        &mut self,
        first: u64,
        bytes: u64,
        received: Option<Time>,
        segment_bytes: u64,
    ) -> bool {
        self.bytes += bytes;
        let unit = self.unit(segment_bytes);
        if let Some(last) = self.list.back_mut().filter(|last| last.bytes < unit) {
            last.bytes += bytes;
            last.until = received.map(|at| last.until.map_or(at, |until| until.max(at)));
            return false;
        }
        self.list.push_back(Segment {
            first,
            bytes,
            until: received,
        });
        if self.list.len() > STREAM_SEGMENTS_MAX {
            self.merge(segment_bytes);
        }
        true
    }

    /// Bytes that one has at least. Were they smaller than this part of all, there would be too
    /// many.
    fn unit(&self, segment_bytes: u64) -> u64 {
        segment_bytes.max(self.bytes / (STREAM_SEGMENTS_MAX as u64 / 4))
    }

    /// Makes one of neighbours that are small together.
    fn merge(&mut self, segment_bytes: u64) {
        let unit = self.unit(segment_bytes).max(1);
        let mut merged: VecDeque<Segment> = VecDeque::new();
        for segment in self.list.drain(..) {
            match merged.back_mut() {
                Some(last) if last.bytes + segment.bytes <= unit => {
                    last.bytes += segment.bytes;
                    last.until = segment.until;
                }
                _ => merged.push_back(segment),
            }
        }
        self.list = merged;
    }

    /// Gives the oldest up, as far as the newest is not concerned; says which offset is the first
    /// then. `received` tells when a message came that a restart found.
    pub(super) fn retain(
        &mut self,
        keep: Retention,
        now: Time,
        received: impl Fn(u64) -> Option<Time>,
    ) -> Option<u64> {
        let mut first = None;
        while let (Some(&oldest), Some(&next)) = (self.list.front(), self.list.get(1)) {
            let too_much = keep.bytes_max.is_some_and(|max| self.bytes > max);
            let too_old = |age_max_ms: u64| {
                let until = self.oldest_until(&received)?;
                Some(until.after_ms(age_max_ms) < now)
            };
            let too_old = !too_much && keep.age_max_ms.and_then(too_old).unwrap_or_default();
            if !too_much && !too_old {
                break;
            }
            first = Some(next.first);
            self.bytes -= oldest.bytes;
            self.list.pop_front();
        }
        first
    }

    /// When the newest of the oldest segment came. If nobody can read that any more, when the next
    /// one came that is known: it is no earlier.
    fn oldest_until(&self, received: impl Fn(u64) -> Option<Time>) -> Option<Time> {
        let mut later = self.list.iter().skip(1);
        self.list.iter().find_map(|segment| {
            let next = later.next().map(|next| next.first);
            let read = || {
                let next = next?;
                received(next - 1).or_else(|| received(next))
            };
            segment.until.or_else(read)
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}
