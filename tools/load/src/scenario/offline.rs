//! `mqtt offline`: queues for an absent QoS 1 subscriber, then drains.
//!
//! Owns the one stored session of the run, and removes it at the end.

use super::steps::{Filling, reading, step_limits};
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, mqtt_options};
use crate::clock::{nap, now};
use crate::engine::{Outcome, Protocol};
use crate::failure::Failure;
use crate::mqtt::{self, Wish, write};
use crate::report::{Report, rss_per};
use crate::template::HEAD;
use crate::usage::{self, Snap};

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn offline(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, KEEP_ALIVE_S)?;
    let pid = broker_pid(args)?;
    let n = args.count("count", 1, 10_000_000)?;
    let size = args.size("size", HEAD, 1 << 20)?;
    let run = Run::new();
    let client_id = format!("{}-s", run.client_ids());
    let granted_qos = leave(&options, &client_id, run)?;
    let before = usage::snap(pid);
    let filling = Filling {
        options: &options,
        run,
        topics: 1,
        retain: false,
        size,
    };
    let (put, window, error) = filling.measure(job, step_limits(args, 1, 0, n)?, pid)?;
    let what = format!("{n} queued, {size} B");
    let flags = &["addr", "count", "size", "mqtt-version"];
    let mut report = describe(args, "mqtt offline", what, flags);
    report.blame(error);
    report.put("granted_qos", granted_qos);
    if u64::from(window) < args.count("window", 1, 32_768)? {
        report.put("granted_window", window);
    }
    report.put("sent", put.sent);
    report.put("offline_publish_per_s", put.sent as f64 / put.window_s);

    let (mut engine, sink) = reading(step_limits(args, 1, 1, 0)?, run, 1, put.sent);
    engine.began = now();
    let (stream, back) = mqtt::open(&options, None, stored(&client_id))?;
    engine.subscriber(stream, Protocol::Mqtt { v5: options.v5 }, sink, 0)?;
    let got = job.measure(&mut engine, pid)?;
    engine.report(&mut report, &got, pid);
    drop(engine);
    report.put("sent", put.sent);
    report.put("sent_per_s", put.sent as f64 / put.window_s);
    report.put("session_present", back.session_present);
    report.put("drain_per_s", got.received as f64 / got.window_s);
    if pid != 0 {
        report_cpu(&mut report, &before, &put, &got, n);
    }
    if got.lost > 0 {
        let text = format!("{} queued messages were not delivered", got.lost);
        report.blame(Some(text));
    }
    // Best effort: the run is over.
    let _ = mqtt::forget(&options, &client_id);
    Ok(report)
}

fn report_cpu(report: &mut Report, before: &Snap, put: &Outcome, got: &Outcome, n: u64) {
    let cpu_s = got.b.broker.cpu_s - put.a.broker.cpu_s;
    report.put("offline_publish_broker_cpu_s", put.broker_cpu_s());
    report.put("drain_broker_cpu_s", got.broker_cpu_s());
    report.put("broker_cpu_s", cpu_s);
    if cpu_s > 0.0 {
        report.put("recv_per_broker_cpu_s", got.received as f64 / cpu_s);
    }
    report.put("rss_per_queued_bytes", rss_per(before, &put.b, n));
}

/// Subscribes and goes; says which QoS was granted.
fn leave(options: &mqtt::Options, client_id: &str, run: Run) -> Result<u8, Failure> {
    let (mut stream, _) = mqtt::open(options, None, stored(client_id))?;
    let filter = format!("{}#", run.topics());
    let granted = mqtt::subscribe_wait(options.v5, &mut stream, &filter, 1)?;
    write(&mut stream, &mqtt::DISCONNECT, "DISCONNECT")?;
    drop(stream);
    // No packet says that the broker has seen it go.
    nap(100_000);
    Ok(granted)
}

fn stored(client_id: &str) -> Wish<'_> {
    Wish {
        client_id,
        clean: false,
        expiry_s: 300,
    }
}
