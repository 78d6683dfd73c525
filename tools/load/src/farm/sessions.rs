//! `mqtt sessions`: makes many persistent sessions, looks at what they weigh, and removes them.
//!
//! Owns their client identifiers. Never keeps more connections than `--concurrency`.

use super::churn::Cycled;
use super::{Farm, FarmPlan, Wire};
use crate::args::Args;
use crate::clock::nap;
use crate::failure::Failure;
use crate::report::{Report, cpu_between, rss_per};
use crate::scenario::{Job, Run, broker_pid, describe, mqtt_options};
use crate::usage::snap;

/// # Errors
/// Flags or the system. Sessions that the broker refuses are counted.
pub(crate) fn sessions(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let pid = broker_pid(args)?;
    let count = args.size("count", 1, 10_000_000)?;
    let filters = args.size("filters", 0, 1_000)?;
    let qos = args.qos("qos")?;
    let settle_s = args.number("settle", 0.0, 60.0)?;
    let seconds_max = args.number("max-seconds", 1.0, 3_600.0)?;
    let concurrency = args.size("concurrency", 1, 5_000)?;
    let run = Run::new();
    let mut farm = Farm::new(plan(args, run, Some(filters))?, concurrency)?;
    let begin = snap(pid);
    let made = farm.cycle(count, seconds_max)?;
    let ready = snap(pid);
    // Nothing says when a broker has taken the last of them off.
    nap((settle_s * 1e6) as u64);
    let settled = snap(pid);

    let what = format!("{count} persistent sessions of {filters} filters, QoS {qos}");
    let flags = &["addr", "count", "filters", "qos", "mqtt-version"];
    let mut report = describe(args, "mqtt sessions", what, flags);
    if made.cycles < count as u64 {
        let text = format!("only {} of {count} made: {}", made.cycles, farm.reason());
        report.blame(Some(text));
    }
    report.put("sessions", made.cycles);
    report.put("failed", farm.failed);
    report.put("setup_s", made.seconds);
    let per_s = |done: &Cycled| done.cycles as f64 / done.seconds.max(1e-9);
    report.put("sessions_per_s", per_s(&made));
    report.histogram("conn_lat", &farm.handshake);
    report.histogram("session_lat", &made.latency);
    report.cpu(pid, &begin, &ready, 0, made.cycles);
    if pid != 0 {
        let cpu_s = cpu_between(&begin, &ready).max(0.01);
        report.put("sessions_per_broker_cpu_s", made.cycles as f64 / cpu_s);
        report.put("broker_rss_now_kb", settled.broker.rss_kb);
        let each = rss_per(&begin, &settled, made.cycles);
        report.put("rss_per_session_bytes", each);
    }
    farm.close_all();
    drop(farm);
    if args.is_set("keep") {
        return Ok(report);
    }
    let mut farm = Farm::new(plan(args, run, None)?, concurrency)?;
    let removed = farm.cycle(count, seconds_max)?;
    report.put("removed", removed.cycles);
    report.put("remove_s", removed.seconds);
    report.put("removed_per_s", per_s(&removed));
    if pid != 0 {
        nap((settle_s * 1e6) as u64);
        report.put("broker_rss_removed_kb", snap(pid).broker.rss_kb);
    }
    if removed.cycles < count as u64 {
        let text = format!("only {} of {count} removed", removed.cycles);
        report.blame(Some(format!("{text}: {}", farm.reason())));
    }
    farm.close_all();
    Ok(report)
}

/// Sessions that stay, with filters; or their removal, with none.
fn plan(args: &Args, run: Run, filters: Option<usize>) -> Result<FarmPlan, Failure> {
    let expiry_s = args.count("expiry", 1, u32::MAX.into())? as u32;
    let client_ids = match args.text("client-ids") {
        "" => run.client_ids(),
        ids => ids.to_owned(),
    };
    Ok(FarmPlan {
        wire: Wire::Mqtt(mqtt_options(args, 60)?),
        client_ids,
        fixed_ids: true,
        clean: filters.is_none(),
        expiry_s: if filters.is_some() { expiry_s } else { 0 },
        filters: filters.unwrap_or_default(),
        sub_qos: args.qos("qos")?,
        sources: args.size("sources", 0, crate::sockets::SOURCES_MAX)?,
        run,
    })
}
