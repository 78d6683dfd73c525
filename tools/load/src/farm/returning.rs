//! `mqtt takeover` and `mqtt reconnect`: persistent sessions that come back, while their connection
//! is up or after it was lost.
//!
//! Owns their pace, and the count of sessions that were not there. Removes them at the end.

use mio::Events;

use super::{Farm, FarmPlan, State, Turn, Wire};
use crate::args::Args;
use crate::clock::{nap, now};
use crate::failure::Failure;
use crate::report::Report;
use crate::scenario::{Job, Run, broker_pid, describe, mqtt_options};
use crate::usage::{Snap, snap};

/// Connections that may wait for the broker to close them.
const LINGERING_MAX: usize = 1_024;

/// # Errors
/// Flags or the system. Connections that the broker refuses are counted.
pub(crate) fn takeover(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let ids = args.size("ids", 1, LINGERING_MAX / 2)?;
    let mut visit = Visit::begin(args, ids)?;
    let pace = Pace::read(args)?;
    visit.farm.plan.filters = 0;
    let begin = snap(visit.pid);
    let done = visit.farm.take_over(&pace, ids)?;
    let end = snap(visit.pid);

    let what = format!("{} CONNECTs a second by {ids} client ids", pace.rate);
    let mut report = describe(args, "mqtt takeover", what, &["addr", "ids"]);
    let left = visit
        .farm
        .slots
        .iter()
        .filter(|slot| slot.state != State::Closed);
    let left = left.count();
    report.put("evicted", visit.farm.dropped);
    report.put("left_up", left);
    if left != ids {
        let text = format!("{left} connections are up where {ids} should be");
        report.blame(Some(text));
    }
    visit.end(&mut report, &done, [&begin, &end])?;
    Ok(report)
}

/// # Errors
/// Flags or the system. Connections that the broker refuses are counted.
pub(crate) fn reconnect(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let sessions = args.size("sessions", 1, 200_000)?;
    let mut visit = Visit::begin(args, sessions)?;
    let pace = Pace::read(args)?;
    visit.farm.plan.filters = 0;
    let begin = snap(visit.pid);
    let done = visit.farm.reconnect(&pace)?;
    let end = snap(visit.pid);

    let what = format!("{} reconnects a second of {sessions} sessions", pace.rate);
    let mut report = describe(args, "mqtt reconnect", what, &["addr", "sessions"]);
    if visit.farm.dropped > 0 {
        let text = format!(
            "{} connections were closed by the broker",
            visit.farm.dropped
        );
        report.blame(Some(text));
    }
    visit.end(&mut report, &done, [&begin, &end])?;
    Ok(report)
}

/// How fast, how long.
struct Pace {
    /// A second.
    rate: f64,
    seconds: f64,
}

impl Pace {
    fn read(args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            rate: args.number("rate", 1.0, 100_000.0)?,
            seconds: args.number("seconds", 0.05, 600.0)?,
        })
    }

    /// When the nth is due, if at all.
    fn due(&self, n: u64, t0: u64) -> Option<u64> {
        let after = n as f64 / self.rate;
        (after < self.seconds).then_some(t0 + (after * 1e9) as u64)
    }
}

/// What the coming back came to.
struct Done {
    /// Connections that came up.
    returned: u64,
    /// From the first to the last.
    seconds: f64,
}

/// The sessions, connected once each; what they cost before anything happens.
struct Visit {
    farm: Farm,
    pid: u32,
    sessions: usize,
    settle_us: u64,
    /// With every session connected.
    before: Snap,
}

impl Visit {
    fn begin(args: &Args, sessions: usize) -> Result<Self, Failure> {
        let pid = broker_pid(args)?;
        let settle_us = (args.number("settle", 0.0, 60.0)? * 1e6) as u64;
        let run = Run::new();
        let plan = FarmPlan {
            wire: Wire::Mqtt(mqtt_options(args, 60)?),
            client_ids: run.client_ids(),
            fixed_ids: true,
            clean: false,
            expiry_s: 3_600,
            filters: 1,
            sub_qos: args.qos("qos")?,
            sources: args.size("sources", 0, crate::sockets::SOURCES_MAX)?,
            run,
        };
        let mut farm = Farm::new(plan, sessions.max(LINGERING_MAX))?;
        let up = farm.bring_up(sessions)?;
        if up < sessions {
            let text = format!("{up} of {sessions} sessions made: {}", farm.reason());
            return Err(Failure::Refused(text));
        }
        nap(settle_us);
        Ok(Self {
            before: snap(pid),
            farm,
            pid,
            sessions,
            settle_us,
        })
    }

    /// Says what came of it, and removes the sessions.
    fn end(mut self, report: &mut Report, done: &Done, of: [&Snap; 2]) -> Result<(), Failure> {
        let farm = &mut self.farm;
        let fresh = done.returned.saturating_sub(farm.present);
        if farm.failed > 0 || fresh > 0 {
            let text = format!("{} failed, {fresh} without their session", farm.failed);
            report.blame(Some(format!("{text}: {}", farm.reason())));
        }
        report.put("returned", done.returned);
        report.put("failed", farm.failed);
        report.put("sessions_present", farm.present);
        report.put(
            "returned_per_s",
            done.returned as f64 / done.seconds.max(1e-9),
        );
        report.put("window_s", done.seconds);
        report.histogram("conn_lat", &farm.handshake);
        report.cpu(self.pid, of[0], of[1], done.returned, 0);
        if self.pid != 0 {
            nap(self.settle_us);
            report.put("broker_rss_before_kb", self.before.broker.rss_kb);
            report.put("broker_rss_after_kb", snap(self.pid).broker.rss_kb);
        }
        farm.close_all();
        farm.plan.clean = true;
        farm.plan.expiry_s = 0;
        let removed = farm.bring_up(self.sessions)?;
        report.put("removed", removed);
        farm.close_all();
        Ok(())
    }
}

impl Farm {
    /// Connects the first so many slots, a few at a time; says how many came up.
    fn bring_up(&mut self, count: usize) -> Result<usize, Failure> {
        let mut events = Events::with_capacity(1_024);
        let (mut next, mut pending, mut up) = (0, 0, 0);
        let mut last = now();
        while (next < count || pending > 0) && now() - last < STALL_NS && !self.is_hopeless() {
            while next < count && pending < SETTING_UP_MAX {
                pending += usize::from(self.start(next, next) != Turn::Failed);
                next += 1;
            }
            self.wait(&mut events, 1)?;
            for event in events.iter() {
                match self.event(event) {
                    Turn::Up => {
                        up += 1;
                        pending -= 1;
                        last = now();
                    }
                    Turn::Failed => pending -= 1,
                    Turn::Dropped | Turn::Nothing => {}
                }
            }
        }
        self.present = 0;
        self.handshake.reset();
        Ok(up)
    }

    /// New connections with the ids of those that are up, in turn, each in the next closed slot.
    fn take_over(&mut self, pace: &Pace, ids: usize) -> Result<Done, Failure> {
        let slots = self.slots.len();
        let mut at = ids;
        self.return_at(pace, |farm, n| {
            let busy = farm.slots[at].state != State::Closed;
            let number = usize::try_from(n).unwrap_or_default() % ids;
            let slot = at;
            at = (at + 1) % slots;
            if busy {
                return farm.note("connections with successors were not closed in time");
            }
            farm.start(slot, number)
        })
    }

    /// Each session in turn loses its connection and connects again.
    fn reconnect(&mut self, pace: &Pace) -> Result<Done, Failure> {
        let sessions = self.slots.iter().filter(|slot| slot.state == State::Up);
        let sessions = sessions.count();
        self.return_at(pace, |farm, n| {
            let slot = usize::try_from(n).unwrap_or_default() % sessions;
            if farm.slots[slot].state != State::Up {
                return farm.note("sessions were not up again when their turn came");
            }
            farm.slots[slot].stream = None;
            farm.slots[slot].state = State::Closed;
            farm.start(slot, slot)
        })
    }

    /// Counts a failure that leaves the slot as it is.
    fn note(&mut self, why: &str) -> Turn {
        self.failed += 1;
        self.reason.get_or_insert_with(|| why.to_owned());
        Turn::Failed
    }

    /// Has them come at the pace, and waits for those that are on their way.
    fn return_at(
        &mut self,
        pace: &Pace,
        mut come: impl FnMut(&mut Self, u64) -> Turn,
    ) -> Result<Done, Failure> {
        let mut events = Events::with_capacity(1_024);
        let t0 = now();
        let (mut begun, mut ended, mut returned, mut last) = (0_u64, 0_u64, 0_u64, t0);
        while !self.is_hopeless() {
            let t = now();
            let mut next = pace.due(begun, t0);
            while next.is_some_and(|due| due <= t) {
                ended += u64::from(come(self, begun) != Turn::Nothing);
                begun += 1;
                next = pace.due(begun, t0);
            }
            if next.is_none() && (ended == begun || t - last > STALL_NS) {
                break;
            }
            self.wait(&mut events, 1)?;
            for event in events.iter() {
                match self.event(event) {
                    Turn::Up => {
                        returned += 1;
                        ended += 1;
                        last = now();
                    }
                    Turn::Failed => ended += 1,
                    Turn::Dropped | Turn::Nothing => {}
                }
            }
        }
        self.await_evictions(&mut events)?;
        Ok(Done {
            returned,
            seconds: (last - t0) as f64 / 1e9,
        })
    }

    /// Takes the ends of connections that others took over, until none comes any more.
    fn await_evictions(&mut self, events: &mut Events) -> Result<(), Failure> {
        let mut last = now();
        while now() - last < QUIET_NS {
            self.wait(events, 5)?;
            for event in events.iter() {
                if self.event(event) == Turn::Dropped {
                    last = now();
                }
            }
        }
        Ok(())
    }
}

/// Connections being set up at once.
const SETTING_UP_MAX: usize = 256;
/// So long without one that came up is a failure.
const STALL_NS: u64 = 10_000_000_000;
/// So long without one that was closed is the end.
const QUIET_NS: u64 = 300_000_000;
