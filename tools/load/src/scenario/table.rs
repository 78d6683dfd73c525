//! `mqtt table`: what a full routing table costs those who do not use it.
//!
//! Owns the two runs, against the empty table and against the full one, on the same topics.

use super::fleet::{Fleet, FleetPlan};
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, limits, mqtt_options, share, size};
use crate::args::Args;
use crate::binder::{Binder, BinderPlan, Bound};
use crate::engine::{Limits, Outcome};
use crate::failure::Failure;
use crate::mqtt;
use crate::report::{Report, rss_per};
use crate::sockets::descriptors_for;
use crate::usage;

/// # Errors
/// Flags, the system, or a broker that refuses connections. Filters that it refuses are counted.
pub(crate) fn table(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, KEEP_ALIVE_S)?;
    let pid = broker_pid(args)?;
    let run = Run::new();
    let pairs = Pairs::read(args, options.clone(), run)?;
    let bindings = args.size("bindings", 1, 9_999_999)?;
    let wildcards = args.size("wildcards", 0, bindings)?;
    let plan = BinderPlan {
        connections: args.size("conns", 1, 5_000)?,
        client_ids: run.client_ids(),
        prefix: run.topics(),
        filters: bindings,
        wildcard_every: bindings.checked_div(wildcards).unwrap_or(0),
        per_packet: args.size("per-packet", 1, 10_000)?,
        qos: 0,
        seconds_max: args.number("max-seconds", 1.0, 3_600.0)?,
        options,
    };
    let connections = plan.connections;
    descriptors_for(2 * pairs.pubs + connections)?;
    let pubs = pairs.pubs;
    let what = format!("{pubs} pairs, {bindings} bindings over {connections} connections");
    let mut report = describe(args, "mqtt table", what, DESCRIBED);

    let empty = pairs.measure(job, &mut report, pid)?;
    let before = usage::snap(pid);
    let mut binder = Binder::open(plan)?;
    let bound = binder.bind()?;
    let after = usage::snap(pid);
    report.put("bindings", bindings);
    report.put("wildcards", wildcards);
    report_bound(&mut report, &bound, bindings);
    if pid != 0 {
        let grown = rss_per(&before, &after, bound.granted);
        report.put("rss_per_binding_bytes", grown);
    }
    let full = pairs.measure(job, &mut report, pid)?;
    drop(binder);
    report_cost(&mut report, &empty, &full);
    Ok(report)
}

fn report_bound(report: &mut Report, bound: &Bound, bindings: usize) {
    report.put("bound", bound.granted);
    report.put("refused", bound.refused);
    report.put("bind_s", bound.seconds);
    report.put("binds_per_s", bound.granted as f64 / bound.seconds);
    if bound.granted < bindings as u64 {
        let text = format!("only {} of {bindings} were bound", bound.granted);
        report.blame(Some(text));
    }
}

fn report_cost(report: &mut Report, empty: &Outcome, full: &Outcome) {
    let (one, other) = (empty.received_per_s(), full.received_per_s());
    report.put("empty_received_per_s", one);
    report.put("full_received_per_s", other);
    report.put("rate_ratio", one / other);
    if let (Some(one), Some(other)) = (empty.received_per_cpu_s(), full.received_per_cpu_s()) {
        report.put("empty_recv_per_broker_cpu_s", one);
        report.put("full_recv_per_broker_cpu_s", other);
        report.put("cost_ratio", one / other);
    }
}

/// Pairs that are opened for each run anew, on the same topics.
pub(super) struct Pairs {
    options: mqtt::Options,
    run: Run,
    pub(super) pubs: usize,
    pub(super) size: usize,
    pub(super) limits: Limits,
}

impl Pairs {
    /// What the PAIRS and LOAD flags say.
    pub(super) fn read(args: &Args, options: mqtt::Options, run: Run) -> Result<Self, Failure> {
        let pubs = args.size("pubs", 1, 5_000)?;
        let mut limits = limits(args, 1)?;
        limits.qos = args.qos("qos")?;
        if limits.qos > 0 {
            limits.sub_inflight = args.count("sub-inflight", 1, 65_535)? as u32;
        }
        share(&mut limits, pubs);
        Ok(Self {
            options,
            run,
            pubs,
            size: size(args)?,
            limits,
        })
    }

    /// One run. What was sent, received and went wrong is added to the report.
    pub(super) fn measure(
        &self,
        job: &mut Job<'_>,
        report: &mut Report,
        pid: u32,
    ) -> Result<Outcome, Failure> {
        let (options, limits) = (self.options.clone(), self.limits.clone());
        let mut fleet = Fleet::new(FleetPlan::usual(options, limits, self.run, self.size));
        fleet.pairs(self.pubs, 1)?;
        let outcome = fleet.measure(job, pid)?;
        let sums = [
            ("sent", outcome.sent as i64),
            ("received", outcome.received as i64),
            ("lost", outcome.lost),
            ("duplicates", fleet.engine.duplicates() as i64),
            ("order_violations", fleet.engine.order_violations() as i64),
            ("stalls", outcome.stalls as i64),
        ];
        for (name, n) in sums {
            report.put(name, report.count(name) + n);
        }
        report.blame(fleet.engine.error());
        if outcome.timed_out {
            let text = "timed out before everything was acknowledged";
            report.blame(Some(text.into()));
        }
        fleet.dissolve();
        Ok(outcome)
    }
}

const DESCRIBED: &[&str] = &[
    "addr",
    "pubs",
    "size",
    "qos",
    "mqtt-version",
    "conns",
    "per-packet",
];
