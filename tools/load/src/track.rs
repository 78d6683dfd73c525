//! Sequence checks: what was lost, repeated or out of order, per flow (one publisher, one topic).
//!
//! Owns what has been seen. Never keeps more than ranges, bits and a window of flags.

use std::collections::BTreeMap;

#[derive(PartialEq, Debug)]
pub(crate) enum Seen {
    Ok,
    /// New, but after a later one: an order violation.
    Late,
    Dup,
}

/// One consumer gets the whole flow: the next number, and the ranges that were jumped over.
#[derive(Default)]
pub(crate) struct One {
    next: u32,
    /// Start to end, exclusive.
    missing: BTreeMap<u32, u32>,
}

impl One {
    #[inline]
    pub(crate) fn see(&mut self, seq: u32) -> Seen {
        if seq == self.next {
            self.next += 1;
            return Seen::Ok;
        }
        self.slow(seq)
    }

    #[cold]
    fn slow(&mut self, seq: u32) -> Seen {
        if seq > self.next {
            self.missing.insert(self.next, seq);
            self.next = seq + 1;
            return Seen::Ok;
        }
        match self
            .missing
            .range(..=seq)
            .next_back()
            .map(|(a, b)| (*a, *b))
        {
            Some((a, b)) if seq < b => {
                self.missing.remove(&a);
                if a < seq {
                    self.missing.insert(a, seq);
                }
                if seq + 1 < b {
                    self.missing.insert(seq + 1, b);
                }
                Seen::Late
            }
            _ => Seen::Dup,
        }
    }
}

/// Several consumers share the flow: a bit per number, and each consumer's own last number.
#[derive(Default)]
pub(crate) struct Many {
    bits: Vec<u64>,
    /// Per consumer: last number + 1.
    last: Vec<u32>,
}

impl Many {
    #[inline]
    pub(crate) fn see(&mut self, consumer: usize, seq: u32) -> Seen {
        let (w, m) = (seq as usize >> 6, 1u64 << (seq & 63));
        if w >= self.bits.len() {
            self.bits.resize((w + 1).next_power_of_two(), 0);
        }
        if consumer >= self.last.len() {
            self.last.resize(consumer + 1, 0);
        }
        if self.bits[w] & m != 0 {
            return Seen::Dup;
        }
        self.bits[w] |= m;
        if seq < self.last[consumer] {
            return Seen::Late;
        }
        self.last[consumer] = seq + 1;
        Seen::Ok
    }
}

/// Publisher confirms (AMQP): which delivery tags are still open. Amortised O(1).
pub(crate) struct Confirms {
    ring: Vec<bool>,
    /// The lowest tag that may be open.
    base: u64,
    next: u64,
    pub(crate) open: u32,
}

impl Confirms {
    pub(crate) fn new(window: u32) -> Self {
        Self {
            ring: vec![false; (window as usize * 2).next_power_of_two()],
            base: 1,
            next: 1,
            open: 0,
        }
    }

    /// Room before a tag would land on one that is still open.
    pub(crate) fn room(&self) -> u64 {
        self.ring.len() as u64 - (self.next - self.base)
    }

    #[inline]
    pub(crate) fn sent(&mut self, n: u64) {
        let mask = self.ring.len() as u64 - 1;
        for t in self.next..self.next + n {
            self.ring[(t & mask) as usize] = true;
        }
        self.next += n;
        self.open += n as u32;
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many tags this acknowledgement closes.
    pub(crate) fn ack(&mut self, tag: u64, multiple: bool) -> u32 {
        let mask = self.ring.len() as u64 - 1;
        let before = self.open;
        if tag >= self.next {
            return 0;
        }
        if multiple || tag == 0 {
            let end = if tag == 0 { self.next } else { tag + 1 };
            while self.base < end {
                let s = &mut self.ring[(self.base & mask) as usize];
                self.open -= *s as u32;
                *s = false;
                self.base += 1;
            }
        } else if tag >= self.base {
            let s = &mut self.ring[(tag & mask) as usize];
            self.open -= *s as u32;
            *s = false;
        }
        while self.base < self.next && !self.ring[(self.base & mask) as usize] {
            self.base += 1;
        }
        before - self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one() {
        let mut o = One::default();
        for s in [0, 1, 2] {
            assert_eq!(o.see(s), Seen::Ok);
        }
        assert_eq!(o.see(1), Seen::Dup);
        assert_eq!(o.see(10), Seen::Ok); // 3..10 missing
        assert_eq!(o.see(5), Seen::Late);
        assert_eq!(o.see(5), Seen::Dup);
        assert_eq!(o.see(3), Seen::Late);
        assert_eq!(o.see(9), Seen::Late);
        assert_eq!(o.see(11), Seen::Ok);
        assert_eq!(o.missing.iter().map(|(a, b)| b - a).sum::<u32>(), 4); // 4, 6, 7, 8
    }

    #[test]
    fn many() {
        let mut m = Many::default();
        assert_eq!(m.see(0, 0), Seen::Ok);
        assert_eq!(m.see(1, 1), Seen::Ok);
        assert_eq!(m.see(0, 3), Seen::Ok);
        assert_eq!(m.see(1, 2), Seen::Ok);
        assert_eq!(m.see(1, 3), Seen::Dup);
        assert_eq!(m.see(0, 1000), Seen::Ok);
        assert_eq!(m.see(0, 999), Seen::Late);
    }

    #[test]
    fn confirms() {
        let mut c = Confirms::new(4);
        c.sent(4);
        assert_eq!(c.ack(2, false), 1);
        assert_eq!(c.ack(2, false), 0);
        assert_eq!(c.room(), 4);
        assert_eq!(c.ack(3, true), 2);
        assert_eq!((c.open, c.room()), (1, 7));
        assert_eq!(c.ack(9, false), 0);
        c.sent(3);
        assert_eq!(c.ack(0, true), 4);
        assert_eq!(c.open, 0);
    }
}
