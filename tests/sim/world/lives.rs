//! Ends and beginnings of the broker: what a crash leaves, and what the next start makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::definitions::Definitions;
use leveret_core::journal::Journal;
use leveret_core::key::Form;
use leveret_core::options::Options as CoreOptions;
use leveret_core::queue::Queue;
use leveret_core::turn::Turn;
use leveret_store::disk::Disk;
use leveret_store::journal::{JournalFile, Options};

use super::{Life, World, origins};
use crate::disk::{Crash, Operation, SimDisk};
use crate::message::{Id, dotted, read_payload};
use crate::oracle::{Check, Found, violation};

/// Starts that may fail one after the other.
const STARTS_MAX: usize = 20;

impl World {
    /// The process ends, or the power; the next one is started.
    pub(crate) fn crash(&mut self, crash: Crash) -> Check {
        let written = self.disk.died() == Some(Operation::Sync);
        let died = self.disk.died();
        self.trace.note(|| format!("CRASH: {crash:?}, in {died:?}"));
        match crash {
            Crash::Kill => self.stats.kills += 1,
            Crash::Power => self.stats.power_cuts += 1,
        }
        if crash == Crash::Kill && written {
            // All of the batch was written before its first sync.
            let epoch = self.oracle.epoch;
            self.oracle.sync_done(epoch);
        }
        let waiting = self.definitions.waiting();
        self.end_life();
        self.disk = self.disk.after(crash);
        let batches = self.random.below(waiting + 1);
        self.definitions = Arc::new(self.definitions.after_crash(batches));
        self.start(crash)
    }

    /// The broker is stopped in order, and started again.
    pub(crate) fn restart(&mut self) -> Check {
        self.trace.note(|| "RESTART in order".to_owned());
        self.stats.restarts += 1;
        let open: Vec<usize> = self.connections.keys().copied().collect();
        for id in open {
            self.cut(id)?;
        }
        self.end_step()?;
        let waiting = self.definitions.waiting();
        self.commit(waiting)?;
        self.write_journal()?;
        if self.disk.died().is_some() {
            return self.crash(Crash::Kill);
        }
        self.end_life();
        self.disk = self.disk.after(Crash::Kill);
        self.definitions = Arc::new(self.definitions.after_crash(0));
        self.start(Crash::Kill)
    }

    /// Nothing that happens now is heard of: only what one holds of the other is let go.
    fn end_life(&mut self) {
        let Some(mut life) = self.life.take() else {
            return;
        };
        for (_, mut connection) in std::mem::take(&mut self.connections) {
            connection.machine.handle_close(&mut life.turn);
        }
        life.broker.stop();
        life.turn.ring();
    }

    /// Starts the broker, however often it takes, and after whatever time.
    pub(crate) fn start(&mut self, crash: Crash) -> Check {
        if self.leaps && self.rare.percent(15) {
            let ms = self.rare.below(3_000) as u64;
            self.now = self.now.after_ms(ms);
            self.trace.note(|| format!("START {ms} ms later"));
            self.start_now(crash)?;
            return self.do_what_is_due();
        }
        self.start_now(crash)
    }

    fn start_now(&mut self, crash: Crash) -> Check {
        for _ in 0..STARTS_MAX {
            let before = self.disk.copy();
            match self.open_journal() {
                Ok(journal) => return self.open_broker(journal, &before),
                Err(why) => {
                    self.trace.note(|| format!("the start fails: {why}"));
                    self.stats.failed_starts += 1;
                    self.disk.set_full(false);
                    self.disk = self.disk.after(crash);
                }
            }
        }
        violation("the broker does not start any more", None, None)
    }

    fn options(&self) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            ..Options::default()
        }
    }

    fn open_journal(&self) -> Result<JournalFile, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.handle());
        let after = Arc::clone(self.definitions.watermark());
        let opened = JournalFile::open_by_hand(disk, &self.options(), &origins(), after);
        opened.map_err(|why| why.to_string())
    }

    fn open_broker(&mut self, journal: JournalFile, before: &SimDisk) -> Check {
        let journal = Arc::new(journal);
        let broker = Broker::open(
            CoreOptions::default(),
            Arc::clone(&self.definitions) as Arc<dyn Definitions>,
            Arc::clone(&journal) as Arc<dyn Journal>,
            self.now,
            || "hash".to_owned(),
        );
        let broker = match broker {
            Ok(broker) => broker,
            Err(why) => return violation(format!("the broker does not start: {why}"), None, None),
        };
        let mut turn = Turn::new();
        turn.begin(self.now);
        self.life = Some(Life {
            mqtt: leveret_mqtt::Node::new(
                Arc::clone(&broker),
                leveret_mqtt::options::Options {
                    session_expiry_max_ms: Some(self.session_ms_max),
                    ..leveret_mqtt::options::Options::default()
                },
            ),
            amqp: leveret_amqp::Node::new(
                Arc::clone(&broker),
                leveret_amqp::options::Options::default(),
            ),
            broker,
            journal,
            turn,
        });
        let found = self.found(before)?;
        let messages: usize = found.iter().map(|found| found.messages.len()).sum();
        let queues = found.len();
        self.trace
            .note(|| format!("START: {queues} queues, {messages} messages are found"));
        for found in &found {
            let name = found.queue.name();
            self.trace.note(|| {
                let ids = found.messages.iter();
                let ids: Vec<String> = ids.map(|(_, id)| format!("[{id}]")).collect();
                format!("found in {name}: {}", ids.join(" "))
            });
        }
        let now = self.now_ms();
        let vhosts = self.life.as_ref().map(|life| life.broker.vhosts());
        let vhosts = vhosts.into_iter().flatten();
        let mut unreleased: Vec<_> = vhosts.flat_map(|vhost| vhost.unreleased()).collect();
        unreleased
            .iter_mut()
            .for_each(|(_, ids)| ids.sort_unstable());
        unreleased.sort();
        for (client, ids) in &unreleased {
            self.trace
                .note(|| format!("found of {client}: identifiers {ids:?}"));
        }
        self.oracle.recover(found, &unreleased, now)?;
        if !self.doubted
            && let Some(name) = self
                .disk
                .names()
                .iter()
                .find(|name| !name.ends_with(".log"))
        {
            return violation(format!("{name}: a crash alone damages nothing"), None, None);
        }
        Ok(())
    }

    /// What a second reader finds on the disk as it was before the start.
    fn found(&self, before: &SimDisk) -> Result<Vec<Found>, crate::oracle::Violation> {
        let peek = JournalFile::open_by_hand(
            Arc::new(before.handle()),
            &self.options(),
            &origins(),
            Arc::default(),
        );
        let peek = match peek {
            Ok(peek) => peek,
            Err(why) => return violation(format!("opens once, not twice: {why}"), None, None),
        };
        let found = self.queues().into_iter().map(|queue| {
            let mut messages = Vec::new();
            for stretch in peek.recovered(queue.id()) {
                for (seq, message) in peek.fetch(queue.id(), stretch.first..stretch.end()) {
                    messages.push((seq, read(message.view().payload)?));
                }
            }
            let bindings = bindings(&queue);
            Ok(Found {
                queue,
                bindings,
                messages,
            })
        });
        found.collect()
    }
}

fn read(payload: &[u8]) -> Result<Id, crate::oracle::Violation> {
    match read_payload(payload) {
        Some(id) => Ok(id),
        None => violation("a message is found that nobody published", None, None),
    }
}

/// The keys of a queue's bindings, dotted.
fn bindings(queue: &Arc<Queue>) -> BTreeSet<String> {
    let pattern = |binding: leveret_core::exchange::Binding| {
        let key = String::from_utf8_lossy(&binding.key).into_owned();
        match binding.form {
            Form::Slashed => dotted(&key),
            Form::Dotted => key,
        }
    };
    queue.bindings().map(pattern).collect()
}
