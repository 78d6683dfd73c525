//! The scenarios: who publishes, who consumes, and what is reported.
//!
//! Owns what they share: addresses and limits from flags, names of a run, the head of a report.

mod amqp_pub_sub;
mod bridge;
mod fleet;
mod mqtt_pub_sub;
mod offline;
mod queues;
mod retained;
mod steps;
mod storm;
mod stuck;
mod table;

use std::time::Duration;

pub(crate) use amqp_pub_sub::amqp_pub_sub;
pub(crate) use bridge::bridge;
pub(crate) use mqtt_pub_sub::{mqtt_latency, mqtt_pub_sub};
pub(crate) use offline::offline;
pub(crate) use queues::{queue_churn, queues};
pub(crate) use retained::retained;
pub(crate) use storm::storm;
pub(crate) use stuck::stuck;
pub(crate) use table::table;

use crate::args::Args;
use crate::engine::{Engine, Limits, Outcome, Tick, Wish};
use crate::failure::Failure;
use crate::progress::{Pace, Progress};
use crate::report::Report;
use crate::template::HEAD;
use crate::{amqp, clock, mqtt, sockets, usage};

/// What a scenario is given.
pub(crate) struct Job<'a> {
    pub(crate) args: &'a Args,
    pub(crate) progress: &'a mut dyn FnMut(&Progress),
}

impl Job<'_> {
    /// Runs an engine and tells how it goes.
    fn measure(&mut self, engine: &mut Engine, pid: u32) -> Result<Outcome, Failure> {
        self.measure_until(engine, pid, &mut |_| Ok(Wish::GoOn))
    }

    /// The same, until `judge` wishes for the end. What fails in it ends the run.
    fn measure_until(
        &mut self,
        engine: &mut Engine,
        pid: u32,
        judge: &mut dyn FnMut(&Tick) -> Result<Wish, Failure>,
    ) -> Result<Outcome, Failure> {
        let mut pace = Pace::default();
        let mut failed = None;
        let outcome = engine.run(pid, &mut |tick| {
            if let Some(progress) = pace.tell(tick) {
                (self.progress)(&progress);
            }
            judge(tick).unwrap_or_else(|why| {
                failed = Some(why);
                Wish::Stop
            })
        })?;
        failed.map_or(Ok(outcome), Err)
    }
}

/// The names of one run: nothing an earlier run left behind can be taken for its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run(pub(crate) u32);

impl Run {
    pub(crate) fn new() -> Self {
        Self((clock::now() / 1_000) as u32 ^ std::process::id() << 16)
    }

    /// Six digits that stand in topics and queue names.
    pub(crate) fn tag(self) -> String {
        format!("{:06x}", self.0 & 0xFF_FFFF)
    }

    /// What topics begin with if the whole is to have so many levels, at least 3.
    pub(crate) fn prefix(self, levels: usize, separator: char) -> String {
        let tag = self.tag();
        if levels < 4 {
            return format!("b-{tag}{separator}");
        }
        let mut prefix = format!("b{separator}{tag}{separator}");
        for level in 4..levels {
            prefix.push_str(&format!("level{level}{separator}"));
        }
        prefix
    }

    /// What MQTT topics begin with.
    fn topics(self) -> String {
        self.prefix(LEVELS, '/')
    }

    /// What client identifiers begin with.
    pub(crate) fn client_ids(self) -> String {
        format!("load-{:08x}", self.0)
    }
}

pub(crate) fn mqtt_options(args: &Args, keep_alive_s: u16) -> Result<mqtt::Options, Failure> {
    Ok(mqtt::Options {
        address: sockets::address(args.text("addr"), args.reach)?,
        v5: match args.text("mqtt-version") {
            "4" | "3.1.1" => false,
            "5" => true,
            _ => return Err(args.unknown("mqtt-version")),
        },
        aliases: false,
        user: args.text("user").into(),
        password: args.text("pass").into(),
        keep_alive_s,
        timeout: timeout(args)?,
    })
}

pub(crate) fn amqp_options(args: &Args) -> Result<amqp::Options, Failure> {
    Ok(amqp::Options {
        address: sockets::address(args.text("amqp-addr"), args.reach)?,
        user: args.text("amqp-user").into(),
        password: args.text("amqp-pass").into(),
        vhost: args.text("vhost").into(),
        timeout: timeout(args)?,
    })
}

fn timeout(args: &Args) -> Result<Duration, Failure> {
    Ok(Duration::from_secs_f64(args.number("timeout", 0.1, 60.0)?))
}

/// The broker's process; 0 if it is not to be looked at.
///
/// # Errors
/// It is not there, or listens on none of the addresses: another process's CPU and memory in the
/// result would go unnoticed.
pub(crate) fn broker_pid(args: &Args) -> Result<u32, Failure> {
    let pid = args.count("broker-pid", 0, u32::MAX.into())? as u32;
    if pid == 0 {
        return Ok(0);
    }
    if usage::tree(pid).is_empty() {
        return Err(Failure::argument(format!("no process {pid}")));
    }
    for name in ["addr", "amqp-addr"] {
        if !args.has(name) {
            continue;
        }
        let address = sockets::address(args.text(name), args.reach)?;
        if !usage::listens(pid, address.port()) {
            return Err(Failure::argument(format!(
                "process {pid} and its children do not listen on {address}"
            )));
        }
    }
    Ok(pid)
}

/// Payload bytes.
fn size(args: &Args) -> Result<usize, Failure> {
    args.size("size", HEAD, PAYLOAD_BYTES_MAX)
}

/// What the LOAD flags say, for messages of which each goes to so many subscribers.
fn limits(args: &Args, copies: u64) -> Result<Limits, Failure> {
    let rate = args.number("rate", 0.0, 1e8)?;
    let messages = args.count("messages", 0, 1_000_000_000)?;
    let seconds = args.number("seconds", 0.05, 600.0)?;
    let warmup_s = args.number("warmup", 0.0, 60.0)?;
    let drain_s = args.number("drain", 0.1, 60.0)?;
    let counted = messages > 0;
    let longest = if counted { seconds.max(60.0) } else { seconds };
    Ok(Limits {
        qos: 0,
        confirms: false,
        auto_ack: false,
        ack_every: 1,
        prefetch: 0,
        sub_inflight: 0,
        window: args.count("window", 1, 32_768)? as u32,
        outstanding: match args.text("outstanding") {
            "auto" if rate > 0.0 => 0,
            "auto" => outstanding(size(args)? as u64, copies),
            _ => args.count("outstanding", 0, 100_000_000)?,
        },
        messages,
        seconds: if counted { 0.0 } else { seconds },
        warmup_s: if counted { 0.0 } else { warmup_s },
        rate,
        sample: match args.text("sample") {
            "auto" if rate > 0.0 => 1,
            "auto" => 64,
            _ => args.count("sample", 1, 1_000_000)? as u32,
        },
        coalesce_us: args.count("coalesce-us", 0, 100_000)?,
        stall_ms: args.count("stall-ms", 50, 60_000)?,
        drain_s,
        hard_s: warmup_s + longest + drain_s + 10.0,
    })
}

/// How many messages may be sent and not yet received by all of so many subscribers.
///
/// At least 64, and up to 512 subscribers no more than 32,768 deliveries. Beyond those, 64 messages
/// would be 8 a refill, and subscribers would read single messages: there it is 256, unless all of
/// them at once would pass 64 MiB.
fn outstanding(size: u64, copies: u64) -> u64 {
    let by_size = (16 << 20) / size;
    let by_copies = if copies <= 512 {
        (32_768 / copies).clamp(64, 4_096)
    } else {
        ((64 << 20) / (size * copies)).clamp(16, 256)
    };
    by_size.clamp(16, by_copies)
}

/// What several groups may have outstanding together, for each.
fn share(limits: &mut Limits, groups: usize) {
    if limits.outstanding > 0 {
        limits.outstanding = (limits.outstanding / groups as u64).max(16);
    }
}

/// The AMQP consumers' and publishers' part of the limits.
fn amqp_limits(args: &Args, limits: &mut Limits) -> Result<(), Failure> {
    limits.prefetch = args.count("prefetch", 0, 65_535)? as u32;
    limits.auto_ack = args.is_set("auto-ack");
    limits.ack_every = args.count("ack-every", 1, 1_000_000)? as u32;
    let waits = limits.prefetch > 0 && limits.ack_every > limits.prefetch;
    if waits && !limits.auto_ack {
        return Err(Failure::argument(
            "--ack-every above --prefetch would wait for ever",
        ));
    }
    Ok(())
}

/// The head of a report: the command, what it does, and the flags that made it so.
pub(crate) fn describe(args: &Args, command: &str, what: String, flags: &[&str]) -> Report {
    let mut report = Report::default();
    report.put("cmd", command);
    report.put("what", what);
    if !args.text("label").is_empty() {
        report.put("label", args.text("label"));
    }
    for name in flags {
        match args.text(name).parse::<i64>() {
            Ok(n) => report.put(name, n),
            Err(_) => report.put(name, args.text(name)),
        }
    }
    report
}

const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Levels of a topic unless --topic-levels says otherwise: b, run, group, topic.
const LEVELS: usize = 4;

/// So long that no broker asks for a sign of life within a run.
const KEEP_ALIVE_S: u16 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_fits_size_and_fan_out() {
        let table = [
            ((64, 1), 4_096),
            ((4_096, 1), 4_096),
            ((1 << 20, 1), 16),
            ((64, 50), 655),
            ((64, 512), 64),
            ((64, 1_000), 256),
            ((4_096, 1_000), 16),
            ((64, 10_000), 104),
        ];
        for ((size, copies), expected) in table {
            assert_eq!(outstanding(size, copies), expected, "{size} × {copies}");
        }
    }

    #[test]
    fn prefixes_have_their_levels() {
        for levels in 3..=32 {
            let topic = Run(7).prefix(levels, '/') + "000000/000000";
            assert_eq!(topic.split('/').count(), levels, "{topic}");
        }
        assert_eq!(Run(7).prefix(5, '.'), "b.000007.level4.");
    }
}
