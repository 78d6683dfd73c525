//! The world of one seed: the broker with its disk, the connections to it, and the time.
//!
//! One thread, no clock. Every step ends when nobody has anything to do any more. What a machine
//! sends is seen by the oracle at once; when the client reads it, if it ever does, is the client's
//! affair.

mod connection;
mod lives;

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::message::{AmqpOrigin, Origin};
use leveret_core::sink::Loss;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_store::journal::JournalFile;

use crate::definitions::SimDefinitions;
use crate::disk::{Crash, SimDisk};
use crate::oracle::{Check, Limits, Oracle, violation};
use crate::parts::Parts;
use crate::random::Random;
use crate::stats::Stats;
use crate::trace::Trace;

pub(crate) use connection::{Action, Incoming};

/// When every world begins, in milliseconds: no special time.
const BEGIN: Time = Time(1_700_000_000_000);

/// What the operator allows sessions if nothing is said.
const DAY_MS: u64 = 86_400_000;

/// Rounds after which a world that does not come to rest is broken.
const ROUNDS_MAX: usize = 2_000;

/// Who has written to the journal.
fn origins() -> [&'static dyn Origin; 3] {
    let [mqtt, signed] = leveret_mqtt::origins();
    [mqtt, signed, &AmqpOrigin]
}

/// One life of the broker.
struct Life {
    broker: Arc<Broker>,
    journal: Arc<JournalFile>,
    mqtt: Arc<leveret_mqtt::Node>,
    amqp: Arc<leveret_amqp::Node>,
    turn: Turn,
}

/// See the module.
pub(crate) struct World {
    life: Option<Life>,
    disk: SimDisk,
    definitions: Arc<SimDefinitions>,
    connections: BTreeMap<usize, connection::Connection>,
    next_connection: usize,
    now: Time,
    segment_bytes: u64,
    random: Random,
    /// For what only some seeds have.
    rare: Random,
    /// Time may leap.
    leaps: bool,
    /// The longest that a session may outlive its connection.
    pub(crate) session_ms_max: u64,
    /// A sync has failed in some life.
    pub(crate) doubted: bool,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
}

impl World {
    /// A world before its first start.
    pub(crate) fn new(seed: u64, parts: Parts, limits: fn(&str) -> Limits, trace: Trace) -> Self {
        let mut random = Random::new(seed, 1);
        let segment_bytes = *random.pick(&[4_096, 8_192, 8_192, 16_384]);
        let mut rare = Random::new(seed, 7);
        let short_ms = parts
            .expiry
            .then(|| *rare.pick(&[DAY_MS, DAY_MS, 1_500, 4_000]));
        Self {
            life: None,
            disk: SimDisk::new(Random::new(seed, 2)),
            definitions: Arc::default(),
            connections: BTreeMap::new(),
            next_connection: 1,
            now: BEGIN,
            segment_bytes,
            random,
            rare,
            leaps: parts.has_leaps(),
            session_ms_max: short_ms.unwrap_or(DAY_MS),
            doubted: false,
            oracle: Oracle::new(limits),
            trace,
            stats: Stats::default(),
        }
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn now_ms(&self) -> u64 {
        self.now.0 - BEGIN.0
    }

    /// Whether the journal still confirms anything.
    pub(crate) fn is_faulty(&self) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| life.journal.fault().is_some())
    }

    /// The next step begins.
    pub(crate) fn begin_step(&mut self, step: u64) {
        self.oracle.step = step;
        self.trace.step = step;
        if let Some(life) = &mut self.life {
            life.turn.begin(self.now);
        }
    }

    /// Nobody has anything to do: everything is held against the model.
    pub(crate) fn end_step(&mut self) -> Check {
        let queues = self.queues();
        self.oracle.look(&queues)?;
        let lists = queues.iter().filter(|queue| !queue.is_direct());
        let waiting: Vec<(u64, usize)> = lists
            .map(|queue| (queue.id(), queue.counts().0 as usize))
            .collect();
        let now = self.now_ms();
        self.oracle.end_of_step(&waiting, now)?;
        self.look_at_losses()
    }

    /// FEATURES M8: nothing is acknowledged and then dropped, but for what a queue's arguments and
    /// the message itself ask for.
    fn look_at_losses(&self) -> Check {
        let vhost = self.life.as_ref().and_then(|life| life.broker.vhost("/"));
        let lost = vhost.into_iter().flat_map(|vhost| vhost.losses().by_qos());
        for (loss, qos, count) in lost {
            let asked_for = match loss {
                Loss::Expired | Loss::Length => true,
                Loss::Unreadable => self.doubted,
                _ => qos == 0,
            };
            if !asked_for {
                let what = format!("{count} messages of QoS {qos} are dropped: {}", loss.name());
                return violation(what, None, None);
            }
        }
        Ok(())
    }

    fn queues(&self) -> Vec<Arc<leveret_core::queue::Queue>> {
        let broker = self.life.as_ref().map(|life| &life.broker);
        let vhost = broker.and_then(|broker| broker.vhost("/"));
        vhost.map(|vhost| vhost.queues()).unwrap_or_default()
    }

    /// Time passes.
    pub(crate) fn advance(&mut self, ms: u64) -> Check {
        self.now = self.now.after_ms(ms);
        let now = self.now_ms();
        self.trace.note(|| format!("time is {now} ms"));
        self.do_what_is_due()?;
        if let Some(life) = &mut self.life {
            for connection in self.connections.values_mut() {
                connection.machine.handle_timeout(&mut life.turn);
            }
        }
        self.settle()
    }

    /// The broker does what is due by now.
    fn do_what_is_due(&mut self) -> Check {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        life.turn.begin(self.now);
        while life
            .broker
            .poll_timeout()
            .is_some_and(|next| next <= self.now)
        {
            life.broker.handle_timeout(&mut life.turn);
        }
        let (queues, now) = (self.queues(), self.now_ms());
        self.oracle.time_passed(&queues, now)
    }

    /// The journal writes and syncs what was appended.
    pub(crate) fn write_journal(&mut self) -> Check {
        let Some(life) = &self.life else {
            return Ok(());
        };
        if life.journal.fault().is_some() {
            return Ok(());
        }
        let epoch = self.oracle.sync_begins();
        match life.journal.step() {
            Ok(some) => {
                self.oracle.sync_done(epoch);
                if some {
                    self.trace.note(|| "the journal is on disk".to_owned());
                }
            }
            Err(_) if self.disk.died().is_some() => return Ok(()),
            Err(why) => {
                self.doubted = true;
                self.stats.faults += 1;
                self.oracle.sync_failed();
                self.trace.note(|| format!("the journal fails: {why}"));
            }
        }
        self.settle()
    }

    /// Some of the definitions that wait are committed.
    pub(crate) fn commit(&mut self, batches: usize) -> Check {
        let batches = batches.min(self.definitions.waiting());
        if batches > 0 {
            self.definitions.commit(batches);
            self.trace
                .note(|| format!("{batches} batches of definitions are on disk"));
        }
        self.settle()
    }

    /// All that is left has expired.
    pub(crate) fn check_drained(&mut self) -> Check {
        let now = self.now_ms();
        self.oracle.is_drained(now)
    }

    /// Nothing happens to the disk any more, and no time passes.
    pub(crate) fn calm(&mut self) {
        self.leaps = false;
        self.disk.calm();
    }

    /// What happened, for the statistics.
    pub(crate) fn summary(&self) -> Stats {
        Stats {
            seeds: 1,
            steps: self.oracle.step,
            disk: self.disk.counts(),
            messages: self.oracle.counts,
            ..self.stats
        }
    }

    /// How the next crash comes.
    pub(crate) fn any_crash(&mut self) -> Crash {
        *self.random.pick(&[Crash::Kill, Crash::Power])
    }
}
