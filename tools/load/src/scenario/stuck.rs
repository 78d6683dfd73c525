//! `mqtt stuck`: what one subscriber that stops reading costs the others, and itself.
//!
//! Owns the stuck subscribers. They match everything that is published, read nothing while the
//! pairs run, and then all that the broker still has for them.

use std::net::TcpStream;

use super::steps::reading;
use super::table::Pairs;
use super::{Job, KEEP_ALIVE_S, Run, broker_pid, describe, mqtt_options};
use crate::args::Args;
use crate::engine::{Limits, Outcome, Protocol};
use crate::failure::Failure;
use crate::mqtt::{self, Wish};
use crate::report::Report;
use crate::sockets::descriptors_for;

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn stuck(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, KEEP_ALIVE_S)?;
    let pid = broker_pid(args)?;
    let run = Run::new();
    let pairs = Pairs::read(args, options.clone(), run)?;
    let subscriptions = stuck_qos(args)?;
    descriptors_for(2 * pairs.pubs + subscriptions.len())?;
    let (pubs, qos) = (pairs.pubs, pairs.limits.qos);
    let what = format!("{pubs} pairs, QoS {qos}, {} stuck", subscriptions.len());
    let mut report = describe(args, "mqtt stuck", what, DESCRIBED);

    let before = pairs.measure(job, &mut report, pid)?;
    let mut stuck = vec![];
    for qos in subscriptions {
        stuck.push((qos, subscribe(&options, run, qos)?));
    }
    let during = pairs.measure(job, &mut report, pid)?;
    report_rates(&mut report, &before, &during, pid);
    for (qos, stream) in stuck {
        let reading = Reading {
            run,
            qos,
            flows: pubs as u32,
            due: during.sent_in_all,
            v5: options.v5,
        };
        reading.report(job, &mut report, &pairs.limits, stream)?;
    }
    Ok(report)
}

/// The QoS of each stuck subscriber.
fn stuck_qos(args: &Args) -> Result<Vec<u8>, Failure> {
    let text = match args.text("stuck-qos") {
        "" => args.text("qos"),
        text => text,
    };
    let mut found = vec![];
    for word in text.split(',') {
        match word {
            "0" | "1" | "2" => found.push(word.as_bytes()[0] - b'0'),
            _ => return Err(args.unknown("stuck-qos")),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn subscribe(options: &mqtt::Options, run: Run, qos: u8) -> Result<TcpStream, Failure> {
    let wish = Wish {
        client_id: &format!("{}-stuck{qos}", run.client_ids()),
        clean: true,
        expiry_s: 0,
    };
    let (mut stream, _) = mqtt::open(options, None, wish)?;
    let filter = format!("{}#", run.topics());
    mqtt::subscribe_wait(options.v5, &mut stream, &filter, qos)?;
    Ok(stream)
}

fn report_rates(report: &mut Report, before: &Outcome, during: &Outcome, pid: u32) {
    let (one, other) = (before.received_per_s(), during.received_per_s());
    report.put("before_received_per_s", one);
    report.put("during_received_per_s", other);
    report.put("during_over_before", other / one);
    if pid == 0 {
        return;
    }
    if let (Some(one), Some(other)) = (before.received_per_cpu_s(), during.received_per_cpu_s()) {
        report.put("before_recv_per_broker_cpu_s", one);
        report.put("during_recv_per_broker_cpu_s", other);
    }
    report.put("broker_rss_before_kb", before.b.broker.rss_kb);
    report.put("broker_rss_peak_kb", during.rss_peak_kb);
}

/// Reads what the broker still has for a stuck subscriber.
struct Reading {
    run: Run,
    qos: u8,
    flows: u32,
    /// Messages that it should have got.
    due: u64,
    v5: bool,
}

impl Reading {
    fn report(
        &self,
        job: &mut Job<'_>,
        report: &mut Report,
        limits: &Limits,
        stream: TcpStream,
    ) -> Result<(), Failure> {
        let limits = Limits {
            outstanding: 0,
            hard_s: READING_S_MAX,
            ..limits.clone()
        };
        let (mut engine, sink) = reading(limits, self.run, self.flows, self.due);
        engine.subscriber(stream, Protocol::Mqtt { v5: self.v5 }, sink, 0)?;
        let outcome = job.measure(&mut engine, 0)?;
        let name = |what| format!("stuck_q{}_{what}", self.qos);
        report.put(&name("due"), self.due);
        report.put(&name("received"), outcome.received);
        report.put(&name("lost"), outcome.lost);
        report.put(&name("duplicates"), engine.duplicates());
        // A broker may close a subscriber that does not read; that is an answer, not a fault.
        report.put(&name("closed"), engine.error().is_some());
        Ok(())
    }
}

/// What is stored for a stuck subscriber may take long to read.
const READING_S_MAX: f64 = 300.0;

const DESCRIBED: &[&str] = &["addr", "pubs", "size", "qos", "stuck-qos", "mqtt-version"];
