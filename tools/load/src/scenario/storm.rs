//! `mqtt storm`: pairs run flat out while other connections subscribe to many filters.
//!
//! Owns the three phases (before, during, after) and their slices of a tenth of a second. The
//! subscribing has a thread of its own: it never waits for the pairs' loop, nor they for it.

use std::thread::JoinHandle;

use super::fleet::{Fleet, FleetPlan};
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, limits, mqtt_options, share, size};
use crate::args::Args;
use crate::binder::{Binder, BinderPlan, Bound};
use crate::engine::{Limits, Tick, Wish};
use crate::failure::Failure;
use crate::mqtt;
use crate::report::Report;
use crate::sockets::descriptors_for;

/// # Errors
/// Flags, the system, or a broker that refuses connections. Filters that it refuses are counted.
pub(crate) fn storm(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, KEEP_ALIVE_S)?;
    let pid = broker_pid(args)?;
    let pubs = args.size("pubs", 1, 5_000)?;
    let size = size(args)?;
    let run = Run::new();
    let plan = binder_plan(args, &options, run)?;
    let (filters, connections) = (plan.filters, plan.connections);
    let mut phases = Phases::new(args)?;
    let limits = storm_limits(args, pubs, &phases)?;
    descriptors_for(2 * pubs + connections)?;
    let mut fleet = Fleet::new(FleetPlan::usual(options, limits.clone(), run, size));
    fleet.pairs(pubs, 1)?;
    phases.binder = Some(Binder::open(plan)?);
    let outcome = job.measure_until(&mut fleet.engine, pid, &mut |tick| phases.judge(tick))?;
    let found = phases.finish()?;

    let qos = limits.qos;
    let what = format!("{pubs} pairs, {filters} filters over {connections} connections, QoS {qos}");
    let mut report = describe(args, "mqtt storm", what, DESCRIBED);
    report.put("outstanding", limits.outstanding);
    fleet.engine.report(&mut report, &outcome, pid);
    found.report(&mut report, filters);
    fleet.dissolve();
    Ok(report)
}

fn binder_plan(args: &Args, options: &mqtt::Options, run: Run) -> Result<BinderPlan, Failure> {
    Ok(BinderPlan {
        options: options.clone(),
        connections: args.size("conns", 1, 5_000)?,
        client_ids: run.client_ids(),
        prefix: run.topics(),
        filters: args.size("subscribes", 1, FILTERS_MAX)?,
        wildcard_every: args.size("wildcard-every", 0, FILTERS_MAX)?,
        per_packet: args.size("per-packet", 1, 10_000)?,
        qos: 0,
        seconds_max: args.number("max-seconds", 1.0, 600.0)?,
    })
}

/// The phases say when it is over, not the time.
fn storm_limits(args: &Args, pubs: usize, phases: &Phases) -> Result<Limits, Failure> {
    let mut limits = limits(args, 1)?;
    limits.qos = args.qos("qos")?;
    if limits.qos > 0 {
        limits.sub_inflight = args.count("sub-inflight", 1, 65_535)? as u32;
    }
    share(&mut limits, pubs);
    limits.messages = 0;
    limits.seconds = 0.0;
    let longest = phases.before_s + phases.after_s + args.number("max-seconds", 1.0, 600.0)?;
    limits.hard_s = limits.warmup_s + longest + limits.drain_s + 10.0;
    Ok(limits)
}

type Storming = JoinHandle<Result<(Bound, Box<Binder>), Failure>>;

/// What is going on.
enum Phase {
    Before,
    During(Storming),
    After(Result<(Bound, Box<Binder>), Failure>),
    Over,
}

struct Phases {
    phase: Phase,
    /// Until the storm begins.
    binder: Option<Binder>,
    before_s: f64,
    after_s: f64,
    /// When the phase began and what was received then.
    began: Option<Tick>,
    last: Option<Tick>,
    found: Found,
}

/// Deliveries a second in each phase.
#[derive(Default)]
struct Found {
    before: f64,
    during: f64,
    after: f64,
    /// Of the slices of a tenth of a second.
    during_min: f64,
    during_slices: u64,
    bound: Bound,
}

impl Phases {
    fn new(args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            phase: Phase::Before,
            binder: None,
            before_s: args.number("before", 0.1, 60.0)?,
            after_s: args.number("after", 0.1, 60.0)?,
            began: None,
            last: None,
            found: Found {
                during_min: f64::INFINITY,
                ..Found::default()
            },
        })
    }

    fn judge(&mut self, tick: &Tick) -> Result<Wish, Failure> {
        if tick.mark == 0 {
            return Ok(Wish::GoOn); // The pairs are warming up.
        }
        let began = *self.began.get_or_insert(*tick);
        let last = self.last.replace(*tick).unwrap_or(began);
        let passed_s = seconds(&began, tick);
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Before if passed_s >= self.before_s => {
                self.found.before = rate(&began, tick);
                self.phase = Phase::During(self.start()?);
                self.began = Some(*tick);
            }
            Phase::During(storming) => {
                let slice = rate(&last, tick);
                self.found.during_min = self.found.during_min.min(slice);
                self.found.during_slices += 1;
                if !storming.is_finished() {
                    self.phase = Phase::During(storming);
                    return Ok(Wish::GoOn);
                }
                self.found.during = rate(&began, tick);
                self.phase = Phase::After(joined(storming));
                self.began = Some(*tick);
            }
            Phase::After(bound) if passed_s >= self.after_s => {
                self.found.after = rate(&began, tick);
                self.phase = Phase::After(bound);
                return Ok(Wish::Stop);
            }
            same => self.phase = same,
        }
        Ok(Wish::GoOn)
    }

    fn start(&mut self) -> Result<Storming, Failure> {
        let Some(mut binder) = self.binder.take() else {
            return Err(Failure::argument("the storm has begun before"));
        };
        let work = move || binder.bind().map(|bound| (bound, Box::new(binder)));
        std::thread::Builder::new()
            .name("storm".into())
            .spawn(work)
            .map_err(Failure::system("thread"))
    }

    /// What was found; waits for a storm that the end of the run has cut off.
    fn finish(self) -> Result<Found, Failure> {
        let mut found = self.found;
        let ended = match self.phase {
            Phase::During(storming) => joined(storming),
            Phase::After(bound) => bound,
            Phase::Before | Phase::Over => return Ok(found),
        };
        (found.bound, _) = ended?;
        Ok(found)
    }
}

impl Found {
    fn report(&self, report: &mut Report, filters: usize) {
        let Self { bound, .. } = self;
        report.put("subscribes", filters);
        report.put("subscribed", bound.granted);
        report.put("refused", bound.refused);
        report.put("subscribe_s", bound.seconds);
        let rate = bound.granted as f64 / bound.seconds;
        report.put("subscribes_per_s", rate);
        report.put("before_received_per_s", self.before);
        report.put("during_received_per_s", self.during);
        report.put("during_min_received_per_s", self.during_min);
        report.put("during_slices", self.during_slices);
        report.put("after_received_per_s", self.after);
        report.put("during_over_before", self.during / self.before);
        report.put("during_min_over_before", self.during_min / self.before);
        report.put("after_over_before", self.after / self.before);
        if bound.refused > 0 {
            report.blame(Some(format!("{} filters were refused", bound.refused)));
        } else if bound.granted < filters as u64 {
            let text = format!("only {} of {filters} were subscribed", bound.granted);
            report.blame(Some(text));
        }
    }
}

fn joined(storming: Storming) -> Result<(Bound, Box<Binder>), Failure> {
    storming
        .join()
        .unwrap_or_else(|_| Err(Failure::protocol("the subscribing thread has panicked")))
}

fn seconds(from: &Tick, to: &Tick) -> f64 {
    to.t.saturating_sub(from.t) as f64 / 1e9
}

fn rate(from: &Tick, to: &Tick) -> f64 {
    (to.received - from.received) as f64 / seconds(from, to)
}

/// Seven digits of a filter.
const FILTERS_MAX: usize = 9_999_999;

const DESCRIBED: &[&str] = &[
    "addr",
    "pubs",
    "size",
    "qos",
    "mqtt-version",
    "conns",
    "per-packet",
    "wildcard-every",
];
