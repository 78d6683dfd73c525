//! `mqtt retained`: sets retained messages, then reads them with a wildcard.
//!
//! Owns the retained messages of the run, and clears them at the end.

use super::steps::{Filling, open_clean, reading, step_limits};
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, mqtt_options};
use crate::clock::now;
use crate::engine::Protocol;
use crate::failure::Failure;
use crate::mqtt::{self, write};
use crate::report::Report;
use crate::template::{HEAD, route};
use crate::usage::{self, Snap};

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn retained(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, KEEP_ALIVE_S)?;
    let pid = broker_pid(args)?;
    let n = args.size("count", 1, 999_999)?;
    let size = args.size("size", HEAD, 1 << 20)?;
    let qos = args.qos("qos")?;
    let run = Run::new();
    let before = usage::snap(pid);
    let filling = Filling {
        options: &options,
        run,
        topics: n,
        retain: true,
        size,
    };
    let limits = step_limits(args, qos, 0, n as u64)?;
    let (set, _, error) = filling.measure(job, limits, pid)?;
    let what = format!("{n} retained, {size} B, QoS {qos}");
    let flags = &["addr", "count", "size", "qos", "mqtt-version"];
    let mut report = describe(args, "mqtt retained", what, flags);
    report.blame(error);
    report.put("set", set.sent);
    report.put("set_per_s", set.sent as f64 / set.window_s);
    if pid != 0 {
        report.put("set_broker_cpu_s", set.broker_cpu_s());
        let grown = crate::report::rss_per(&before, &set.b, n as u64);
        report.put("rss_per_retained_bytes", grown);
        report.put("broker_rss_set_kb", set.b.broker.rss_kb);
    }
    read_back(job, &mut report, &options, run, n)?;
    if !args.is_set("keep") {
        // Best effort: the run is over.
        let _ = clear(&options, run, n);
    }
    Ok(report)
}

/// What the reading came to, over all repetitions.
#[derive(Default)]
struct Readings {
    rates: Vec<f64>,
    received: u64,
    lost: i64,
    duplicates: u64,
    cpu_s: f64,
}

fn read_back(
    job: &mut Job<'_>,
    report: &mut Report,
    options: &mqtt::Options,
    run: Run,
    n: usize,
) -> Result<(), Failure> {
    let pid = broker_pid(job.args)?;
    let mut all = Readings::default();
    for i in 0..job.args.count("repeat", 1, 100)? {
        if report.error().is_some() {
            break;
        }
        let received = read_once(job, report, &mut all, (options, run, n), i)?;
        if received == 0 {
            break; // Such subscriptions are not served at all: do not wait again.
        }
    }
    all.rates.sort_by(f64::total_cmp);
    let middle = all.rates.get(all.rates.len() / 2).copied().unwrap_or(0.0);
    report.put("received", all.received);
    report.put("lost", all.lost);
    report.put("duplicates", all.duplicates);
    report.put("deliver_per_s", middle);
    report.put("received_per_s", middle);
    if pid != 0 {
        report.put("broker_cpu_s", all.cpu_s);
        if all.cpu_s > 0.0 {
            report.put("recv_per_broker_cpu_s", all.received as f64 / all.cpu_s);
        }
        let now: Snap = usage::snap(pid);
        report.put("broker_rss_now_kb", now.broker.rss_kb);
        report.put("broker_rss_hwm_kb", now.broker.hwm_kb);
    }
    if all.lost > 0 {
        report.blame(Some(format!(
            "{} retained messages were not delivered",
            all.lost
        )));
    }
    Ok(())
}

fn read_once(
    job: &mut Job<'_>,
    report: &mut Report,
    all: &mut Readings,
    (options, run, n): (&mqtt::Options, Run, usize),
    i: u64,
) -> Result<u64, Failure> {
    let pid = broker_pid(job.args)?;
    let qos = job.args.qos("sub-qos")?;
    let limits = step_limits(job.args, 0, qos, 0)?;
    let (mut engine, sink) = reading(limits, run, n as u32, n as u64);
    let (mut stream, _) = open_clean(options, &format!("{}-s{i}", run.client_ids()))?;
    let filter = format!("{}#", run.topics());
    engine.began = now();
    let packet = mqtt::subscribe(options.v5, 1, &[filter], qos);
    write(&mut stream, &packet, "SUBSCRIBE")?;
    let protocol = Protocol::Mqtt { v5: options.v5 };
    engine.subscriber(stream, protocol, sink, 0)?;
    let outcome = job.measure(&mut engine, pid)?;
    all.received += outcome.received;
    all.lost += outcome.lost;
    all.duplicates += engine.duplicates();
    all.cpu_s += outcome.broker_cpu_s();
    all.rates.push(if outcome.received == 0 {
        0.0
    } else {
        outcome.received as f64 / outcome.window_s
    });
    report.blame(engine.error());
    Ok(outcome.received)
}

/// Clears them with empty retained messages, and waits until the broker has read them all.
fn clear(options: &mqtt::Options, run: Run, n: usize) -> Result<(), Failure> {
    let (mut stream, _) = open_clean(options, &format!("{}-c", run.client_ids()))?;
    let prefix = run.topics();
    let mut packets = vec![];
    let properties = options.v5.then_some(&[][..]);
    for topic in 0..n {
        let route = route(0, topic, b'/');
        let name = format!("{prefix}{}", String::from_utf8_lossy(&route));
        packets.extend(mqtt::publish(properties, &name, 0, true, b""));
    }
    packets.extend(mqtt::PINGREQ);
    write(&mut stream, &packets, "PUBLISH")?;
    mqtt::read_packet(&mut stream, "PINGRESP")?;
    write(&mut stream, &mqtt::DISCONNECT, "DISCONNECT")
}
