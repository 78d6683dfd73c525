//! What one vhost has dropped since the broker started: how many messages of each reason and QoS,
//! and of each reason, whose the first was since somebody last asked.
//!
//! Counting costs one atomic addition, and takes no lock but for the first of a reason since a
//! report. Nothing here reads a clock: who asks for reports each second logs each second.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::limits::{LOSS_TOPIC_BYTES_MAX, LOSS_WHOSE_BYTES_MAX};
use crate::queue::Losses;
use crate::sink::Loss;

/// QoS 0, 1 and 2; of AMQP's messages transient ones count as 0, persistent ones as 1.
const LEVELS: usize = 3;

const REASONS: usize = Loss::ALL.len();

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    counts: [[AtomicU64; LEVELS]; REASONS],
    /// A bit for each reason with a sample.
    sampled: AtomicU32,
    told: Mutex<[Told; REASONS]>,
}

const _: () = assert!(REASONS <= u32::BITS as usize);

/// What the last report of a reason said, and what the next one is to say.
#[derive(Default)]
struct Told {
    counts: [u64; LEVELS],
    sample: Option<Box<Sample>>,
}

/// One message that was dropped.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Sample {
    whose: Box<str>,
    topic: Box<str>,
}

/// Whose message it was.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// The queue that had it, or was to have it.
    Queue(&'a str),
    /// The MQTT client that published it.
    Client(&'a str),
    /// The user that published it.
    User(&'a str),
}

/// What was dropped for one reason since the last report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LossReport {
    /// Why.
    pub loss: Loss,
    /// How many, by QoS.
    pub counts: [u64; LEVELS],
    /// The queue, client or user of the first of them.
    pub whose: Box<str>,
    /// Its topic or routing key, if somebody had read it; the beginning, if it is long.
    pub topic: Box<str>,
}

impl Ledger {
    /// Messages are dropped; one of them is `whose`, with this key.
    pub(crate) fn count(&self, (loss, qos): (Loss, u8), more: u64, whose: Whose<'_>, key: &[u8]) {
        let Some(place) = loss.place() else { return };
        let level = usize::from(qos).min(LEVELS - 1);
        self.counts[place][level].fetch_add(more, Ordering::Relaxed);
        if more > 0 && self.sampled.load(Ordering::Relaxed) & (1 << place) == 0 {
            self.sample(place, whose, key);
        }
    }

    #[cold]
    fn sample(&self, place: usize, whose: Whose<'_>, key: &[u8]) {
        let mut told = self.told.lock();
        if told[place].sample.is_none() {
            told[place].sample = Some(Box::new(Sample {
                whose: whose.text().into(),
                topic: beginning(&String::from_utf8_lossy(key), LOSS_TOPIC_BYTES_MAX).into(),
            }));
            self.sampled.fetch_or(1 << place, Ordering::Relaxed);
        }
    }

    /// All that was dropped so far.
    pub(crate) fn losses(&self) -> Losses {
        let mut losses = Losses::default();
        for (loss, counts) in Loss::ALL.into_iter().zip(&self.counts) {
            for (qos, count) in (0..).zip(counts) {
                losses.add(loss, qos, count.load(Ordering::Relaxed));
            }
        }
        losses
    }

    /// Whatever was dropped since it was last asked: one report for each reason.
    pub(crate) fn take_reports(&self) -> Vec<LossReport> {
        if self.sampled.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut told = self.told.lock();
        self.sampled.store(0, Ordering::Relaxed);
        let each = Loss::ALL.into_iter().zip(&self.counts);
        each.zip(told.iter_mut())
            .filter_map(|((loss, counts), told)| {
                let sample = told.sample.take()?;
                let now = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
                let before = std::mem::replace(&mut told.counts, now);
                let new = |level: usize| now[level] - before[level];
                Some(LossReport {
                    loss,
                    counts: std::array::from_fn(new),
                    whose: sample.whose,
                    topic: sample.topic,
                })
            })
            .collect()
    }
}

impl Whose<'_> {
    fn text(self) -> String {
        let (what, name) = match self {
            Self::Queue(name) => ("queue", name),
            Self::Client(name) => ("client", name),
            Self::User(name) => ("user", name),
        };
        format!("{what} '{}'", beginning(name, LOSS_WHOSE_BYTES_MAX))
    }
}

/// No more of a text than so many bytes.
fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_tells_what_is_new_and_whose_the_first_was() {
        let ledger = Ledger::default();
        assert!(ledger.take_reports().is_empty());
        let drop_one = |loss, qos, queue, key: &[u8]| {
            ledger.count((loss, qos), 1, Whose::Queue(queue), key);
        };
        drop_one(Loss::Expired, 1, "one", b"a.b");
        drop_one(Loss::Expired, 0, "two", b"c");
        drop_one(Loss::Offline, 0, "three", b"d");
        // No loss.
        drop_one(Loss::NoLocal, 0, "four", b"e");
        let report = |loss, counts, whose: &str, topic: &str| LossReport {
            loss,
            counts,
            whose: whose.into(),
            topic: topic.into(),
        };
        let first = [
            report(Loss::Expired, [1, 1, 0], "queue 'one'", "a.b"),
            report(Loss::Offline, [1, 0, 0], "queue 'three'", "d"),
        ];
        assert_eq!(ledger.take_reports(), first);
        assert!(ledger.take_reports().is_empty());
        ledger.count((Loss::Expired, 2), 3, Whose::Client("me"), b"a/b");
        let second = [report(Loss::Expired, [0, 0, 3], "client 'me'", "a/b")];
        assert_eq!(ledger.take_reports(), second);
        let all: Vec<_> = ledger.losses().by_qos().collect();
        assert_eq!(
            all,
            [
                (Loss::Expired, 0, 1),
                (Loss::Expired, 1, 1),
                (Loss::Expired, 2, 3),
                (Loss::Offline, 0, 1),
            ]
        );
    }

    /// What a report says is bounded, whatever clients call themselves, and is text.
    #[test]
    fn long_names_and_topics_are_cut() {
        let ledger = Ledger::default();
        let long = "ü".repeat(40_000);
        let key = [b"t/\xff/".as_slice(), long.as_bytes()].concat();
        ledger.count((Loss::TooLarge, 0), 1, Whose::Client(&long), &key);
        let reports = ledger.take_reports();
        assert!(reports[0].whose.len() <= LOSS_WHOSE_BYTES_MAX + 10);
        assert!(reports[0].topic.len() <= LOSS_TOPIC_BYTES_MAX);
        assert!(reports[0].topic.starts_with("t/\u{fffd}/ü"));
    }
}
