//! `mqtt pub-sub` and `mqtt latency`: fan-in, fan-out, pairs and shared subscriptions.
//!
//! Owns which publisher has which topics, and who subscribes to what.

use super::fleet::{Fleet, FleetPlan};
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, limits, mqtt_options, share, size};
use crate::args::Args;
use crate::failure::Failure;
use crate::report::Report;
use crate::sockets::descriptors_for;
use crate::template::Extras;

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn mqtt_pub_sub(job: &mut Job<'_>) -> Result<Report, Failure> {
    pub_sub(job, "mqtt pub-sub")
}

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn mqtt_latency(job: &mut Job<'_>) -> Result<Report, Failure> {
    pub_sub(job, "mqtt latency")
}

/// How many of everything.
struct Shape {
    pattern: String,
    pubs: usize,
    subs: usize,
    topics: usize,
    levels: usize,
}

impl Shape {
    fn read(args: &Args) -> Result<Self, Failure> {
        let pattern = args.text("pattern").to_owned();
        if !["pairs", "fan-in", "fan-out", "shared"].contains(&pattern.as_str()) {
            return Err(args.unknown("pattern"));
        }
        let pubs = args.size("pubs", 1, CLIENTS_MAX)?;
        let subs = if pattern == "pairs" {
            pubs
        } else {
            args.size("subs", 0, CLIENTS_MAX)?
        };
        let each = args.size("topics-per-pub", 1, TOPICS_MAX)?;
        let topics = match (args.size("topics", 0, TOPICS_MAX)?, pattern.as_str()) {
            (0, "fan-out") if each == 1 => 1,
            (0, _) => pubs * each,
            (topics, _) => topics,
        };
        if topics > TOPICS_MAX {
            return Err(Failure::argument("too many topics (publishers × topics)"));
        }
        Ok(Self {
            pattern,
            pubs,
            subs,
            topics,
            levels: args.size("topic-levels", 3, 32)?,
        })
    }

    /// How many subscribers each message goes to.
    fn copies(&self) -> u64 {
        match self.pattern.as_str() {
            "fan-in" | "fan-out" => self.subs.max(1) as u64,
            _ => 1,
        }
    }
}

fn pub_sub(job: &mut Job<'_>, command: &str) -> Result<Report, Failure> {
    let args = job.args;
    let mut options = mqtt_options(args, KEEP_ALIVE_S)?;
    let extras = extras(args, options.v5)?;
    options.aliases = extras.aliases;
    let pid = broker_pid(args)?;
    let shape = Shape::read(args)?;
    let (v5, size, run) = (options.v5, size(args)?, Run::new());
    let mut limits = limits(args, shape.copies())?;
    limits.qos = args.qos("qos")?;
    let sub_qos = match args.text("sub-qos") {
        "" => limits.qos,
        _ => args.qos("sub-qos")?,
    };
    if sub_qos > 0 {
        limits.sub_inflight = args.count("sub-inflight", 1, 65_535)? as u32;
    }
    if shape.pattern == "pairs" {
        share(&mut limits, shape.pubs);
    }
    descriptors_for(shape.pubs + shape.subs)?;
    let mut plan = FleetPlan::usual(options, limits.clone(), run, size);
    plan.prefix = run.prefix(shape.levels, '/');
    plan.sub_qos = sub_qos;
    plan.extras = extras;
    plan.clean = args.is_set("clean") && !args.is_set("persistent");
    plan.client_ids = match args.text("client-ids") {
        "" if args.is_set("persistent") => "load-fixed".to_owned(),
        "" => run.client_ids(),
        ids => ids.to_owned(),
    };
    let prefix = plan.prefix.clone();
    let mut fleet = Fleet::new(plan);
    if let Err(why) = gather(&mut fleet, &shape, &prefix, run) {
        fleet.dissolve();
        return Err(why);
    }
    let outcome = fleet.measure(job, pid)?;
    let mut report = describe(args, command, what(&shape, limits.qos, size, v5), DESCRIBED);
    report.put("subs", shape.subs);
    report.put("topics", shape.topics);
    report.put("topic_levels", shape.levels);
    report.put("outstanding", limits.outstanding);
    report.put("granted_qos", fleet.granted_qos);
    if limits.qos > 0 && fleet.granted_window < limits.window {
        report.put("granted_window", fleet.granted_window);
    }
    fleet.engine.report(&mut report, &outcome, pid);
    fleet.dissolve();
    Ok(report)
}

fn extras(args: &Args, v5: bool) -> Result<Extras, Failure> {
    let extras = Extras {
        user_properties: args.size("user-properties", 0, USER_PROPERTIES_MAX)?,
        aliases: args.is_set("aliases"),
    };
    if !v5 && (extras.aliases || extras.user_properties > 0) {
        let text = "--user-properties and --aliases need --mqtt-version 5";
        return Err(Failure::argument(text));
    }
    Ok(extras)
}

/// Opens the clients of the pattern.
fn gather(fleet: &mut Fleet, shape: &Shape, prefix: &str, run: Run) -> Result<(), Failure> {
    if shape.pattern == "pairs" {
        return fleet.pairs(shape.pubs, (shape.topics / shape.pubs).max(1));
    }
    let group = fleet.engine.group();
    let filter = match shape.pattern.as_str() {
        "fan-in" => format!("{prefix}#"),
        "shared" => format!("$share/g{}/{prefix}#", run.tag()),
        _ if shape.topics == 1 => format!("{prefix}000000/000000"),
        _ => format!("{prefix}000000/+"),
    };
    let is_shared = shape.pattern == "shared" && shape.subs > 0;
    let shared = is_shared.then(|| fleet.engine.sink(group, shape.subs));
    for i in 0..shape.subs {
        match shared {
            Some(sink) => fleet.subscriber(i, &filter, sink, i)?,
            None => {
                let sink = fleet.engine.sink(group, 1);
                fleet.subscriber(i, &filter, sink, 0)?;
            }
        }
    }
    for i in 0..shape.pubs {
        fleet.publisher(group, i, &topics_of(i, shape.pubs, shape.topics))?;
    }
    Ok(())
}

/// The topics of publisher i of n, out of t: all are used, and none is left without a publisher.
fn topics_of(i: usize, n: usize, t: usize) -> Vec<usize> {
    if t <= n {
        vec![i % t]
    } else {
        (i..t).step_by(n).collect()
    }
}

fn what(shape: &Shape, qos: u8, size: usize, v5: bool) -> String {
    let Shape {
        pattern,
        pubs,
        subs,
        topics,
        ..
    } = shape;
    let version = if v5 { "5" } else { "3.1.1" };
    format!("{pattern} {pubs} → {subs}, {topics} topics, QoS {qos}, {size} B, MQTT {version}")
}

const CLIENTS_MAX: usize = 10_000;

const USER_PROPERTIES_MAX: usize = 64;

/// Six digits of a topic.
const TOPICS_MAX: usize = 999_999;

const DESCRIBED: &[&str] = &[
    "addr",
    "pattern",
    "pubs",
    "size",
    "qos",
    "mqtt-version",
    "clean",
    "persistent",
    "user-properties",
    "aliases",
    "rate",
    "window",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_dealt_out() {
        let table: [((usize, usize, usize), &[usize]); 4] = [
            ((0, 3, 7), &[0, 3, 6]),
            ((2, 3, 7), &[2, 5]),
            ((5, 6, 2), &[1]),
            ((1, 2, 2), &[1]),
        ];
        for ((i, n, t), expected) in table {
            assert_eq!(topics_of(i, n, t), expected, "{i} of {n}, {t} topics");
        }
    }
}
