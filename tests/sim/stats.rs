//! What happened in all seeds together.

use std::fmt;

use crate::disk;
use crate::oracle::Counts;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) restarts: u64,
    pub(crate) failed_starts: u64,
    pub(crate) faults: u64,
    pub(crate) disk: disk::Counts,
    pub(crate) messages: Counts,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.seeds, other.seeds),
            (&mut self.steps, other.steps),
            (&mut self.kills, other.kills),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.restarts, other.restarts),
            (&mut self.failed_starts, other.failed_starts),
            (&mut self.faults, other.faults),
            (&mut self.disk.operations, other.disk.operations),
            (&mut self.disk.torn, other.disk.torn),
            (&mut self.disk.failed_syncs, other.disk.failed_syncs),
            (&mut self.disk.full, other.disk.full),
            (&mut self.disk.lost_sectors, other.disk.lost_sectors),
            (&mut self.disk.undone_removals, other.disk.undone_removals),
            (&mut self.messages.published, other.messages.published),
            (&mut self.messages.acknowledged, other.messages.acknowledged),
            (&mut self.messages.delivered, other.messages.delivered),
            (&mut self.messages.redelivered, other.messages.redelivered),
            (&mut self.messages.settled, other.messages.settled),
            (&mut self.messages.recovered, other.messages.recovered),
            (&mut self.messages.expired, other.messages.expired),
            (&mut self.messages.dropped, other.messages.dropped),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, messages, .. } = self;
        writeln!(f, "{} seeds, {} steps", self.seeds, self.steps)?;
        writeln!(
            f,
            "lives: {} killed, {} without power, {} stopped in order, {} starts failed",
            self.kills, self.power_cuts, self.restarts, self.failed_starts
        )?;
        writeln!(
            f,
            "disk: {} operations, {} torn, {} syncs failed, {} times full, {} sectors lost, \
             {} removals undone",
            disk.operations,
            disk.torn,
            disk.failed_syncs,
            disk.full,
            disk.lost_sectors,
            disk.undone_removals
        )?;
        write!(
            f,
            "messages: {} published, {} acknowledged, {} delivered ({} again), {} settled, \
             {} recovered, {} expired, {} dropped by limits",
            messages.published,
            messages.acknowledged,
            messages.delivered,
            messages.redelivered,
            messages.settled,
            messages.recovered,
            messages.expired,
            messages.dropped
        )
    }
}
