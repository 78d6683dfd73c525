//! The measuring loop: one thread, one edge-triggered poll, no allocation and no look at the clock
//! per message.
//!
//! Owns who publishes to whom. Publishers belong to a group; every message of a group must reach
//! each of the group's sinks once. A sink is one subscriber, or several that share (a shared
//! subscription, consumers of one queue). Never opens connections: they come ready made.

mod connection;
mod course;
mod ledger;
mod outcome;
mod parse_amqp;
mod parse_mqtt;
mod pump;

use std::net::TcpStream;

use crate::failure::Failure;
use crate::template::{self, ROUTE, Template};
use crate::track::Confirms;

use connection::Connection;
pub(crate) use course::{Tick, Wish};
use ledger::Ledger;
pub(crate) use outcome::Outcome;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Mqtt { v5: bool },
    Amqp,
}

/// How much, how long, how fast.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// QoS of MQTT publishers.
    pub(crate) qos: u8,
    /// AMQP publishers want confirms.
    pub(crate) confirms: bool,
    /// AMQP consumers do not acknowledge.
    pub(crate) auto_ack: bool,
    /// AMQP consumers acknowledge every so many.
    pub(crate) ack_every: u32,
    /// AMQP consumers' prefetch; 0: none.
    pub(crate) prefetch: u32,
    /// MQTT subscribers of QoS 1 or 2; else 0.
    pub(crate) sub_inflight: u32,
    /// Unacknowledged messages per publisher.
    pub(crate) window: u32,
    /// Sent but not yet received, per group; 0: no limit.
    pub(crate) outstanding: u64,
    /// In all; 0: until the time is up.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) warmup_s: f64,
    /// Messages a second over all publishers; 0: flat out.
    pub(crate) rate: f64,
    /// A time stamp in 1 of so many.
    pub(crate) sample: u32,
    pub(crate) coalesce_us: u64,
    pub(crate) stall_ms: u64,
    pub(crate) drain_s: f64,
    /// The whole run, come what may.
    pub(crate) hard_s: f64,
}

/// Sequence numbers of one publisher on one topic.
struct Flow {
    id: u32,
    seq: u32,
    route: [u8; ROUTE],
}

struct Publisher {
    connection: usize,
    group: usize,
    flows: Vec<Flow>,
    next_flow: usize,
    packet_id: u16,
    inflight: u32,
    window: u32,
    confirms: Option<Confirms>,
    quota: u64,
    sent: u64,
    owed: u64,
    /// When it last sent.
    fed: u64,
    sample_in: u32,
    /// Packet identifier or delivery tag whose acknowledgement is timed, and when it was sent.
    probe: Option<(u64, u64)>,
}

struct Subscriber {
    sink: usize,
    /// Its place among those that share the sink.
    slot: usize,
    connection: usize,
    unacked: u32,
    last_tag: u64,
}

#[derive(Default)]
struct Group {
    publishers: Vec<usize>,
    sinks: Vec<usize>,
    flow_base: u32,
    flow_count: u32,
    sent: u64,
    written_off: u64,
    /// Whose turn it is.
    turn: usize,
    fed: u64,
    seen_good: u64,
    seen_at: u64,
}

/// One run.
pub(crate) struct Engine {
    connections: Vec<Connection>,
    ledger: Ledger,
    template: Option<Template>,
    /// Nothing is published here: the groups' `sent` was set from an earlier run.
    preset: bool,
    /// When the measured work began, if before `run`; else 0.
    pub(crate) began: u64,
}

/// The other end of a connection, for words and ledgers.
#[derive(Clone, Copy)]
enum Owner {
    Publisher(usize),
    Subscriber(usize),
}

impl Engine {
    /// `run` names the run: only its low 8 bits go into the flows' numbers.
    pub(crate) fn new(limits: Limits, template: Option<Template>, run: u32) -> Self {
        Self {
            connections: vec![],
            ledger: Ledger::new(limits, (run & 255) << 24),
            template,
            preset: false,
            began: 0,
        }
    }

    /// A new group; groups must be filled in the order they were made.
    pub(crate) fn group(&mut self) -> usize {
        let groups = &mut self.ledger.groups;
        let flow_base = groups.last().map_or(0, |g| g.flow_base + g.flow_count);
        groups.push(Group {
            flow_base,
            ..Group::default()
        });
        groups.len() - 1
    }

    /// Flows that were filled by an earlier run, with so many messages in all.
    pub(crate) fn preset_flows(&mut self, group: usize, flows: u32, messages: u64) {
        let group = &mut self.ledger.groups[group];
        group.flow_count = flows;
        group.sent = messages;
        self.preset = true;
    }

    /// A publisher that goes round its topics.
    ///
    /// # Errors
    /// Too many flows, or the system refuses the socket.
    pub(crate) fn publisher(
        &mut self,
        stream: TcpStream,
        protocol: Protocol,
        group: usize,
        topics: &[usize],
        window: u32,
    ) -> Result<(), Failure> {
        let me = self.ledger.publishers.len();
        let connection = self.connection(stream, protocol, Owner::Publisher(me))?;
        assert_eq!(group + 1, self.ledger.groups.len(), "groups in order");
        let run = self.ledger.run;
        let filled = &mut self.ledger.groups[group];
        if filled.flow_base as usize + filled.flow_count as usize + topics.len() >= FLOWS_MAX {
            return Err(Failure::argument("too many flows (publishers × topics)"));
        }
        let separator = if protocol == Protocol::Amqp {
            b'.'
        } else {
            b'/'
        };
        let mut flows = Vec::with_capacity(topics.len());
        let aliases = self.template.as_ref().is_some_and(|held| held.aliases);
        for (number, topic) in (1_usize..).zip(topics) {
            flows.push(Flow {
                id: run | (filled.flow_base + filled.flow_count),
                seq: 0,
                route: match aliases {
                    true => template::alias(number as u16),
                    false => template::route(group, *topic, separator),
                },
            });
            filled.flow_count += 1;
        }
        filled.publishers.push(me);
        let confirmed = protocol == Protocol::Amqp && self.ledger.limits.confirms;
        self.ledger.publishers.push(Publisher {
            connection,
            group,
            flows,
            next_flow: 0,
            packet_id: 1,
            inflight: 0,
            window,
            confirms: confirmed.then(|| Confirms::new(window)),
            quota: u64::MAX,
            sent: 0,
            owed: 0,
            fed: 0,
            sample_in: 0,
            probe: None,
        });
        Ok(())
    }

    /// A sink of so many consumers.
    pub(crate) fn sink(&mut self, group: usize, consumers: usize) -> usize {
        let sink = self.ledger.add_sink(group, consumers);
        self.ledger.groups[group].sinks.push(sink);
        sink
    }

    /// A consumer of a sink, at its place among those that share it.
    ///
    /// # Errors
    /// The system refuses the socket.
    pub(crate) fn subscriber(
        &mut self,
        stream: TcpStream,
        protocol: Protocol,
        sink: usize,
        slot: usize,
    ) -> Result<(), Failure> {
        let me = self.ledger.subscribers.len();
        let connection = self.connection(stream, protocol, Owner::Subscriber(me))?;
        self.ledger.subscribers.push(Subscriber {
            sink,
            slot,
            connection,
            unacked: 0,
            last_tag: 0,
        });
        Ok(())
    }

    /// What ended the run before its time.
    pub(crate) fn error(&self) -> Option<String> {
        self.ledger.error.clone()
    }

    /// Messages that came twice.
    pub(crate) fn duplicates(&self) -> u64 {
        self.ledger.duplicates
    }

    /// Messages that came after later ones of their flow.
    pub(crate) fn order_violations(&self) -> u64 {
        self.ledger.late
    }

    fn connection(
        &mut self,
        stream: TcpStream,
        protocol: Protocol,
        owner: Owner,
    ) -> Result<usize, Failure> {
        self.connections
            .push(Connection::new(stream, protocol, owner)?);
        Ok(self.connections.len() - 1)
    }
}

/// Flow numbers have 24 bits.
const FLOWS_MAX: usize = 1 << 24;
