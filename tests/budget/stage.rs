//! Publishers and subscribers of one path, and what a round of theirs costs the broker.

use std::fmt;

use crate::rig::{Client, Rig};
use crate::wire::Calls;

/// What one round cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) allocations: u64,
    /// Reads and writes of the publishers' sockets.
    pub(crate) publishers: Calls,
    /// Reads and writes of the subscribers' sockets.
    pub(crate) subscribers: Calls,
    /// Wake-ups of tasks.
    pub(crate) wakes: u64,
}

/// What one round moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Messages {
    /// To subscribers.
    pub(crate) delivered: u64,
    /// Acknowledged to their publishers.
    pub(crate) confirmed: u64,
}

impl fmt::Display for Counts {
    /// The cells of a table's row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = |calls: Calls| format!("{} + {}", calls.reads, calls.writes);
        let (publishers, subscribers) = (calls(self.publishers), calls(self.subscribers));
        let Self {
            allocations, wakes, ..
        } = self;
        write!(f, "{allocations} | {publishers} | {subscribers} | {wakes}")
    }
}

/// A broker with the clients of one path.
pub(crate) struct Stage {
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// What each publisher writes in a round, as one segment.
    batch: Vec<u8>,
    _rig: Rig,
}

/// Rounds before any is counted: memos, windows and lists have found their size.
const ROUNDS_WARM: usize = 8;

/// Rounds that are counted; the dearest tells.
const ROUNDS: usize = 8;

impl Stage {
    pub(crate) fn new(
        rig: Rig,
        publishers: Vec<Client>,
        subscribers: Vec<Client>,
        batch: Vec<u8>,
    ) -> Self {
        Self {
            publishers,
            subscribers,
            batch,
            _rig: rig,
        }
    }

    /// The dearest of some rounds, each of which must deliver and acknowledge so many messages.
    ///
    /// # Errors
    /// What a round did instead.
    pub(crate) fn play(&mut self, expected: Messages) -> Result<Counts, String> {
        let mut dearest = Counts::default();
        for round in 0..ROUNDS_WARM + ROUNDS {
            let before = self.messages();
            let counts = self.round();
            let after = self.messages();
            let moved = Messages {
                delivered: after.delivered - before.delivered,
                confirmed: after.confirmed - before.confirmed,
            };
            if moved != expected {
                return Err(format!("round {round}: {moved:?}, expected {expected:?}"));
            }
            if round >= ROUNDS_WARM {
                dearest = dearest.max(counts);
            }
        }
        Ok(dearest)
    }

    /// Every publisher writes; then all tasks run until nothing is left to do.
    fn round(&mut self) -> Counts {
        let before = self.tally();
        let info = allocation_counter::measure(|| {
            for publisher in &self.publishers {
                publisher.write(&self.batch);
            }
            while self.turn() {}
        });
        let after = self.tally();
        Counts {
            allocations: info.count_total,
            publishers: after.publishers.since(before.publishers),
            subscribers: after.subscribers.since(before.subscribers),
            wakes: after.wakes - before.wakes,
        }
    }

    /// Polls every task once that has a reason; publishers first, as they have something to read.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        for client in self.publishers.iter_mut().chain(&mut self.subscribers) {
            moved |= client.turn();
        }
        moved
    }

    fn messages(&self) -> Messages {
        Messages {
            delivered: self.subscribers.iter().map(Client::delivered).sum(),
            confirmed: self.publishers.iter().map(Client::confirmed).sum(),
        }
    }

    fn tally(&self) -> Counts {
        let sum = |clients: &[Client]| clients.iter().map(Client::calls).sum();
        let all = self.publishers.iter().chain(&self.subscribers);
        Counts {
            allocations: 0,
            publishers: sum(&self.publishers),
            subscribers: sum(&self.subscribers),
            wakes: all.map(Client::wakes).sum(),
        }
    }
}

impl Counts {
    fn max(self, other: Self) -> Self {
        Self {
            allocations: self.allocations.max(other.allocations),
            publishers: self.publishers.max(other.publishers),
            subscribers: self.subscribers.max(other.subscribers),
            wakes: self.wakes.max(other.wakes),
        }
    }

    /// Allocations may become fewer; the other counts are what they are.
    pub(crate) fn keeps(self, budget: Self) -> bool {
        let allocations = budget.allocations;
        self.allocations <= allocations
            && Self {
                allocations,
                ..self
            } == budget
    }
}
