//! What scenarios of several steps share: one step sends a counted lot or reads a stored one.
//!
//! Owns their limits and the reading of what a broker has stored.

use std::net::TcpStream;

use super::{Job, Run};
use crate::args::Args;
use crate::engine::{Engine, Limits, Outcome, Protocol};
use crate::failure::Failure;
use crate::mqtt::{self, ConnAck, Wish};
use crate::template::Template;

/// Limits of a step that sends so many messages, or of one that reads (0).
pub(super) fn step_limits(
    args: &Args,
    qos: u8,
    sub_qos: u8,
    messages: u64,
) -> Result<Limits, Failure> {
    Ok(Limits {
        qos,
        confirms: false,
        auto_ack: false,
        ack_every: 1,
        prefetch: 0,
        sub_inflight: u32::from(sub_qos) * 10,
        window: args.count("window", 1, 32_768)? as u32,
        outstanding: 0,
        messages,
        seconds: 0.0,
        warmup_s: 0.0,
        rate: 0.0,
        sample: 64,
        coalesce_us: 200,
        stall_ms: 2_000,
        drain_s: args.number("drain", 0.1, 60.0)?,
        hard_s: args.number("max-seconds", 1.0, 600.0)?,
    })
}

/// One publisher sends so many messages on so many topics to whoever stores them.
pub(super) struct Filling<'a> {
    pub(super) options: &'a mqtt::Options,
    pub(super) run: Run,
    pub(super) topics: usize,
    pub(super) retain: bool,
    pub(super) size: usize,
}

impl Filling<'_> {
    /// The outcome, the window that was granted, and what ended it before its time.
    pub(super) fn measure(
        &self,
        job: &mut Job<'_>,
        limits: Limits,
        pid: u32,
    ) -> Result<(Outcome, u32, Option<String>), Failure> {
        let (v5, qos, window) = (self.options.v5, limits.qos, limits.window);
        let prefix = self.run.topics();
        let template = Template::mqtt(v5, &prefix, qos, self.retain, self.size);
        let mut engine = Engine::new(limits, Some(template), self.run.0);
        let client_id = format!("{}-p", self.run.client_ids());
        let (stream, granted) = open_clean(self.options, &client_id)?;
        let group = engine.group();
        let window = window.min(granted.receive_max);
        let topics: Vec<usize> = (0..self.topics).collect();
        engine.publisher(stream, Protocol::Mqtt { v5 }, group, &topics, window)?;
        let outcome = job.measure(&mut engine, pid)?;
        Ok((outcome, window, engine.error()))
    }
}

/// An engine whose flows were filled by an earlier step: one group, one sink.
pub(super) fn reading(limits: Limits, run: Run, flows: u32, messages: u64) -> (Engine, usize) {
    let mut engine = Engine::new(limits, None, run.0);
    let group = engine.group();
    engine.preset_flows(group, flows, messages);
    let sink = engine.sink(group, 1);
    (engine, sink)
}

/// A connection with a clean session.
pub(super) fn open_clean(
    options: &mqtt::Options,
    client_id: &str,
) -> Result<(TcpStream, ConnAck), Failure> {
    let wish = Wish {
        client_id,
        clean: true,
        expiry_s: 0,
    };
    mqtt::open(options, None, wish)
}
