//! What clients of a broker that is killed again and again saw: what they sent, what was
//! acknowledged to them, what came back; and what of that may not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures_lite::future::or;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::broker::within;

/// How a message was published.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Way {
    Amqp,
    Qos1,
    Qos2,
}

/// What is known of one message.
#[derive(Debug, Default)]
struct Known {
    way: Option<Way>,
    /// How often it was sent before it was acknowledged.
    sends: u32,
    acknowledged: bool,
}

/// How often a message came out of a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    fresh: u32,
    /// With the mark that says that it may have been delivered before.
    marked: u32,
}

#[derive(Default)]
struct Seen {
    messages: BTreeMap<String, Known>,
    /// By queue and message.
    copies: BTreeMap<(&'static str, String), Copies>,
    /// Acknowledgements until the broker is killed.
    left: Option<(u64, Pid)>,
}

/// Shared by all clients.
#[derive(Clone)]
pub(super) struct Oracle(Arc<Mutex<Seen>>, Arc<watch::Sender<bool>>);

impl Oracle {
    pub(super) fn new() -> Self {
        Self(Arc::default(), Arc::new(watch::Sender::new(false)))
    }

    /// A broker runs.
    pub(super) fn revived(&self) {
        self.1.send_replace(false);
    }

    /// The process is killed at the acknowledgement of this number from now on.
    pub(super) fn kill_after(&self, acknowledgements: u64, pid: Pid) {
        self.0.lock().left = Some((acknowledgements, pid));
    }

    /// What a client waits for, or nothing when the broker was killed: a library may wait for its
    /// answer for ever.
    pub(super) async fn unless_killed<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut killed = self.1.subscribe();
        let killed = async {
            // The sender is this oracle's own.
            let _ = killed.wait_for(|killed| *killed).await;
            None
        };
        within(or(async { Some(answer.await) }, killed)).await
    }

    pub(super) fn sent(&self, way: Way, message: &str) {
        let mut seen = self.0.lock();
        let known = seen.messages.entry(message.to_owned()).or_default();
        known.way = Some(way);
        known.sends += 1;
    }

    pub(super) fn acknowledged(&self, message: &str) {
        let mut seen = self.0.lock();
        let known = seen.messages.get_mut(message).expect("it was sent");
        known.acknowledged = true;
        if let Some((left, pid)) = &mut seen.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                kill_process(*pid, Signal::KILL).expect("it runs");
                seen.left = None;
                self.1.send_replace(true);
            }
        }
    }

    pub(super) fn delivered(&self, queue: &'static str, message: &str, marked: bool) {
        let mut seen = self.0.lock();
        assert!(seen.messages.contains_key(message), "{message} was sent");
        let copies = seen.copies.entry((queue, message.to_owned())).or_default();
        if marked {
            copies.marked += 1;
        } else {
            copies.fresh += 1;
        }
    }

    /// What it came to. Of `audit` every message was taken exactly once, at the end.
    pub(super) fn summary(&self, queues: &[&'static str], audit: &'static str) -> Summary {
        let seen = self.0.lock();
        let mut summary = Summary::default();
        let none = Copies::default();
        for (message, known) in &seen.messages {
            let way = known.way.expect("it was sent");
            *summary.published.entry(way).or_insert(0) += 1;
            if known.acknowledged {
                *summary.acknowledged.entry(way).or_insert(0) += 1;
            }
            for queue in queues {
                let key = (*queue, message.clone());
                let copies = seen.copies.get(&key).copied().unwrap_or(none);
                summary.delivered += u64::from(copies.fresh + copies.marked);
                let again = u64::from((copies.fresh + copies.marked).saturating_sub(1));
                let unmarked = u64::from(copies.fresh.saturating_sub(known.sends));
                summary.duplicates_unmarked += unmarked;
                summary.duplicates_marked += again - unmarked;
                if known.acknowledged && copies.fresh + copies.marked == 0 {
                    summary.lost.insert(format!("{message} of {queue}"));
                }
            }
            let key = (audit, message.clone());
            let copies = seen.copies.get(&key).copied().unwrap_or(none);
            let routed = copies.fresh + copies.marked;
            let more = u64::from(routed.saturating_sub(1));
            match way {
                Way::Amqp => summary.amqp_routed_twice += more,
                Way::Qos1 => summary.qos1_resent_routed_twice += more,
                Way::Qos2 if known.sends == 1 => summary.qos2_routed_after_pubrec += more,
                Way::Qos2 => summary.qos2_routed_before_pubrec += more,
            }
            if routed > known.sends {
                summary.routed_beyond_sends += 1;
            }
        }
        summary
    }
}

/// Figures of a run.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) kills: u64,
    pub(super) kills_in_recovery: u64,
    published: BTreeMap<Way, u64>,
    pub(super) acknowledged: BTreeMap<Way, u64>,
    delivered: u64,
    duplicates_marked: u64,
    pub(super) duplicates_unmarked: u64,
    amqp_routed_twice: u64,
    qos1_resent_routed_twice: u64,
    pub(super) qos2_routed_before_pubrec: u64,
    pub(super) qos2_routed_after_pubrec: u64,
    routed_beyond_sends: u64,
    pub(super) lost: BTreeSet<String>,
}

impl Summary {
    pub(super) fn assert_sound(&self) {
        assert!(self.lost.is_empty(), "lost: {:?}", self.lost);
        assert_eq!(self.duplicates_unmarked, 0, "{self}");
        assert_eq!(self.qos2_routed_after_pubrec, 0, "{self}");
        assert_eq!(self.amqp_routed_twice, 0, "{self}");
        assert_eq!(self.routed_beyond_sends, 0, "{self}");
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |counts: &BTreeMap<Way, u64>| {
            let of = |way| counts.get(&way).copied().unwrap_or_default();
            format!(
                "AMQP {}, QoS 1 {}, QoS 2 {}",
                of(Way::Amqp),
                of(Way::Qos1),
                of(Way::Qos2)
            )
        };
        let rows = [
            ("kills", self.kills.to_string()),
            ("kills during recovery", self.kills_in_recovery.to_string()),
            ("published", all(&self.published)),
            ("acknowledged", all(&self.acknowledged)),
            ("delivered", self.delivered.to_string()),
            ("duplicates, flagged", self.duplicates_marked.to_string()),
            (
                "duplicates, unflagged",
                self.duplicates_unmarked.to_string(),
            ),
            (
                "QoS 1 resent and routed again",
                self.qos1_resent_routed_twice.to_string(),
            ),
            (
                "QoS 2 resent before PUBREC and routed again",
                self.qos2_routed_before_pubrec.to_string(),
            ),
            (
                "QoS 2 routed again after PUBREC",
                self.qos2_routed_after_pubrec.to_string(),
            ),
            ("lost after acknowledgement", self.lost.len().to_string()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<45} {value}")?;
        }
        Ok(())
    }
}
