//! `mqtt churn`: connects, subscribes, disconnects in loops.
//!
//! Owns the loops; `sessions` runs them too, once for each session.

use hdrhistogram::Histogram;
use mio::Events;

use super::{Farm, FarmPlan, Turn, Wire};
use crate::clock::now;
use crate::failure::Failure;
use crate::report::{Report, latency_histogram};
use crate::scenario::{Job, Run, broker_pid, describe, mqtt_options};
use crate::usage::snap;

/// # Errors
/// Flags or the system. Connections that the broker refuses are counted.
pub(crate) fn churn(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = mqtt_options(args, args.count("keepalive", 0, 65_535)? as u16)?;
    let pid = broker_pid(args)?;
    let loops = args.size("concurrency", 1, 5_000)?;
    let seconds_max = args.number("seconds", 0.05, 600.0)?;
    let subscribes = args.is_set("subscribe");
    let cycles = match args.size("cycles", 0, 10_000_000)? {
        0 => usize::MAX,
        n => n,
    };
    let run = Run::new();
    let plan = FarmPlan {
        wire: Wire::Mqtt(options),
        client_ids: run.client_ids(),
        fixed_ids: false,
        clean: true,
        expiry_s: 0,
        filters: usize::from(subscribes),
        sub_qos: args.qos("sub-qos")?,
        sources: args.size("sources", 0, crate::sockets::SOURCES_MAX)?,
        run,
    };
    let mut farm = Farm::new(plan, loops)?;
    let begin = snap(pid);
    let done = farm.cycle(cycles, seconds_max)?;
    let end = snap(pid);
    let wall_s = (end.t - begin.t) as f64 / 1e9;

    let more = if subscribes { ", subscribe," } else { "," };
    let what = format!("{loops} loops of connect{more} disconnect");
    let mut report = describe(args, "mqtt churn", what, &["addr"]);
    if farm.failed > 0 {
        let text = format!("{} failed: {}", farm.failed, farm.reason());
        report.blame(Some(text));
    }
    report.put("cycles", done.cycles);
    report.put("failed", farm.failed);
    report.put("window_s", wall_s);
    report.put("cycles_per_s", done.cycles as f64 / wall_s);
    report.put("received_per_s", done.cycles as f64 / wall_s);
    report.histogram("conn_lat", &farm.handshake);
    report.histogram("cycle_lat", &done.latency);
    report.cpu(pid, &begin, &end, done.cycles, 0);
    farm.close_all();
    Ok(report)
}

/// What the loops came to.
pub(super) struct Cycled {
    pub(super) cycles: u64,
    /// From the first packet to the last.
    pub(super) latency: Histogram<u64>,
    /// Until the last cycle was done.
    pub(super) seconds: f64,
}

impl Farm {
    /// Every slot connects and goes again and again, numbered from 0, until so many have, or so
    /// many seconds have passed.
    pub(super) fn cycle(&mut self, cycles: usize, seconds_max: f64) -> Result<Cycled, Failure> {
        let mut events = Events::with_capacity(1_024);
        let mut latency = latency_histogram();
        let t0 = now();
        let (mut done, mut next, mut pending) = (0_u64, 0, 0_usize);
        let mut last = t0;
        let mut idle: Vec<usize> = (0..self.slots.len()).collect();
        while now() - t0 < (seconds_max * 1e9) as u64 && !self.is_hopeless() {
            for i in std::mem::take(&mut idle) {
                if next == cycles {
                    break; // The slot is not needed any more.
                }
                let turn = self.start(i, next);
                next += 1;
                if turn == Turn::Failed {
                    idle.push(i);
                } else {
                    pending += 1;
                }
            }
            if pending == 0 && next == cycles {
                break;
            }
            self.wait(&mut events, if idle.is_empty() { 5 } else { 1 })?;
            for event in events.iter() {
                let i = event.token().0;
                match self.event(event) {
                    Turn::Up => {
                        self.close(i);
                        last = now();
                        latency.saturating_record(last - self.slots[i].t0);
                        done += 1;
                        pending -= 1;
                        idle.push(i);
                    }
                    Turn::Failed | Turn::Dropped => {
                        pending -= 1;
                        idle.push(i);
                    }
                    Turn::Nothing => {}
                }
            }
        }
        Ok(Cycled {
            cycles: done,
            latency,
            seconds: (last - t0) as f64 / 1e9,
        })
    }
}
