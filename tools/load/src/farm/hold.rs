//! `mqtt connect` and `amqp connect`: opens connections at a rate and holds them idle.
//!
//! Owns the measuring of what an idle connection costs.

use mio::Events;

use super::{Farm, FarmPlan, State, Turn, Wire};
use crate::args::Args;
use crate::clock::now;
use crate::failure::Failure;
use crate::report::{Report, cpu_between, rss_per};
use crate::scenario::{Job, Run, amqp_options, broker_pid, describe, mqtt_options};
use crate::usage::{Snap, snap};
use crate::{amqp, mqtt};

/// # Errors
/// Flags or the system. Connections that the broker refuses are counted.
pub(crate) fn hold_mqtt(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let keep_alive_s = args.count("keepalive", 0, 65_535)? as u16;
    let run = Run::new();
    let subscribes = args.is_set("subscribe");
    let plan = FarmPlan {
        wire: Wire::Mqtt(mqtt_options(args, keep_alive_s)?),
        client_ids: run.client_ids(),
        fixed_ids: false,
        clean: true,
        expiry_s: 0,
        filters: usize::from(subscribes),
        sub_qos: args.qos("sub-qos")?,
        sources: args.size("sources", 0, crate::sockets::SOURCES_MAX)?,
        run,
    };
    let more = if subscribes {
        ", one subscription each"
    } else {
        ""
    };
    hold(args, "mqtt connect", plan, keep_alive_s, more)
}

/// # Errors
/// Flags or the system. Connections that the broker refuses are counted.
pub(crate) fn hold_amqp(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let heartbeat_s = args.count("keepalive", 0, 65_535)? as u16;
    let run = Run::new();
    let plan = FarmPlan {
        wire: Wire::Amqp {
            options: amqp_options(args)?,
            heartbeat_s,
        },
        client_ids: run.client_ids(),
        fixed_ids: false,
        clean: true,
        expiry_s: 0,
        filters: 0,
        sub_qos: 0,
        sources: args.size("sources", 0, crate::sockets::SOURCES_MAX)?,
        run,
    };
    hold(
        args,
        "amqp connect",
        plan,
        heartbeat_s,
        ", one channel each",
    )
}

/// How many, how fast, how long.
struct Wanted {
    connections: usize,
    rate: f64,
    concurrency: usize,
    settle_s: f64,
    hold_s: f64,
    seconds_max: f64,
}

impl Wanted {
    fn read(args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            connections: args.size("conns", 1, 200_000)?,
            rate: args.number("rate", 0.0, 1e6)?,
            concurrency: args.size("concurrency", 1, 10_000)?,
            settle_s: args.number("settle", 0.0, 60.0)?,
            hold_s: args.number("hold", 0.0, 600.0)?,
            seconds_max: args.number("max-seconds", 1.0, 600.0)?,
        })
    }
}

/// What the setting up came to.
struct SetUp {
    up: usize,
    /// Until the last one was up.
    seconds: f64,
    error: Option<String>,
}

/// What the holding came to.
struct Held {
    up: usize,
    pings: u64,
    settled: Snap,
    end: Snap,
}

fn hold(
    args: &Args,
    command: &str,
    plan: FarmPlan,
    keep_alive_s: u16,
    more: &str,
) -> Result<Report, Failure> {
    let pid = broker_pid(args)?;
    let wanted = Wanted::read(args)?;
    let n = wanted.connections;
    let mut farm = Farm::new(plan, n)?;
    let mut events = Events::with_capacity(1_024);
    let begin = snap(pid);
    let set_up = farm.set_up(&wanted, &mut events)?;
    let ready = snap(pid);
    let held = farm.hold(&wanted, &mut events, (set_up.up, keep_alive_s), pid)?;

    let rate = wanted.rate;
    let what = format!(
        "{n} connections at {rate}/s, held {} s{more}",
        wanted.hold_s
    );
    let address = if command.starts_with("amqp") {
        "amqp-addr"
    } else {
        "addr"
    };
    let mut report = describe(args, command, what, &[address]);
    report.put("conns", n);
    report.blame(set_up.error);
    if held.up < n {
        let text = format!("{} of {n} failed: {}", n - held.up, farm.reason());
        report.blame(Some(text));
    }
    report.put("connected", held.up);
    report.put("failed", farm.failed);
    report.put("dropped", farm.dropped);
    report.put("setup_s", set_up.seconds);
    let seconds = set_up.seconds.max(1e-9);
    report.put("connects_per_s", farm.handshake.len() as f64 / seconds);
    report.histogram("conn_lat", &farm.handshake);
    report.put("pings", held.pings);
    report.put("pongs", farm.pongs);
    report.cpu(pid, &begin, &ready, 0, held.up as u64);
    if pid != 0 {
        let cpu_s = cpu_between(&begin, &ready).max(0.01);
        report.put("connects_per_broker_cpu_s", held.up as f64 / cpu_s);
        let idle_s = (held.end.t - held.settled.t) as f64 / 1e9;
        if idle_s > 0.1 {
            let share = cpu_between(&held.settled, &held.end) / idle_s;
            report.put("idle_cpu_pct", share * 100.0);
        }
        report.put("broker_rss_now_kb", held.end.broker.rss_kb);
        report.put("broker_rss_hwm_kb", held.end.broker.hwm_kb);
        let each = rss_per(&begin, &held.end, held.up as u64);
        report.put("rss_per_conn_bytes", each);
    }
    farm.close_all();
    Ok(report)
}

impl Farm {
    fn set_up(&mut self, wanted: &Wanted, events: &mut Events) -> Result<SetUp, Failure> {
        let n = wanted.connections;
        let t0 = now();
        let (mut started, mut pending, mut up, mut last_up) = (0, 0, 0, t0);
        let mut error = None;
        while (started < n || pending > 0) && !self.is_hopeless() {
            let t = now();
            if t - t0 > (wanted.seconds_max * 1e9) as u64 {
                error = Some(format!("only {up} of {n} connected within --max-seconds"));
                break;
            }
            let due = |i: usize| match wanted.rate {
                0.0 => t0,
                rate => t0 + (i as f64 * 1e9 / rate) as u64,
            };
            while started < n && pending < wanted.concurrency && due(started) <= t {
                if self.start(started, started) != Turn::Failed {
                    pending += 1;
                }
                started += 1;
            }
            self.wait(events, 1)?;
            for event in events.iter() {
                match self.event(event) {
                    Turn::Up => {
                        up += 1;
                        pending -= 1;
                        last_up = now();
                    }
                    Turn::Failed => pending -= 1,
                    Turn::Dropped => up -= 1,
                    Turn::Nothing => {}
                }
            }
        }
        Ok(SetUp {
            up,
            seconds: (last_up - t0) as f64 / 1e9,
            error,
        })
    }

    /// Idle: only signs of life, spread evenly.
    fn hold(
        &mut self,
        wanted: &Wanted,
        events: &mut Events,
        (mut up, keep_alive_s): (usize, u16),
        pid: u32,
    ) -> Result<Held, Failure> {
        let n = self.slots.len();
        let t0 = now();
        let settled_at = t0 + (wanted.settle_s * 1e9) as u64;
        let end = settled_at + (wanted.hold_s * 1e9) as u64;
        let ping: &[u8] = match self.plan.wire {
            Wire::Mqtt(_) => &mqtt::PINGREQ,
            Wire::Amqp { .. } => &amqp::HEARTBEAT,
        };
        let per_s = match keep_alive_s {
            0 => 0.0,
            s => n as f64 / (f64::from(s) / 2.0),
        };
        let (mut pings, mut turn) = (0_u64, 0);
        let mut settled = None;
        loop {
            let t = now();
            if settled.is_none() && t >= settled_at {
                settled = Some(snap(pid));
            }
            if t >= end {
                break;
            }
            while (pings as f64) < (t - t0) as f64 / 1e9 * per_s {
                if self.slots[turn].state == State::Up && self.put(turn, ping).is_err() {
                    self.fail(turn, "write");
                    up -= 1;
                }
                pings += 1;
                turn = (turn + 1) % n;
            }
            self.wait(events, 5)?;
            for event in events.iter() {
                match self.event(event) {
                    Turn::Dropped => up -= 1,
                    Turn::Up => up += 1,
                    Turn::Failed | Turn::Nothing => {}
                }
            }
        }
        let end = snap(pid);
        Ok(Held {
            up,
            pings,
            settled: settled.unwrap_or(end),
            end,
        })
    }
}
