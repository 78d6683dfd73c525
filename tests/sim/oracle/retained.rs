//! Retained messages: which one each topic has, what a crash may have left of that, and what a
//! subscription is owed of them.

use std::collections::BTreeMap;

use super::{Check, Oracle, violation};
use crate::message::{Id, dotted, matches};
use crate::mqtt::{self, Handling};

/// The message of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    message: Id,
    qos: u8,
    expires: Option<u64>,
}

/// What a publish with RETAIN has made of a topic; `None`: it has no message.
#[derive(Clone, Debug)]
struct Version {
    kept: Option<Kept>,
    /// The transmission that brought it.
    place: u64,
    epoch: u64,
    /// Its publisher was told that the broker has it.
    owed: bool,
}

/// All topics, each with what it had since the disk was sure of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Retained(BTreeMap<String, Vec<Version>>);

/// A retained message that a subscriber is to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    kept: Kept,
    /// The SUBSCRIBE that asked for it, until SUBACK has left.
    asked: Option<u16>,
}

/// What no queue waits for: neither a queue nor a place in one.
const NOWHERE: (u64, u64) = (u64::MAX, u64::MAX);

impl Kept {
    fn has_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Retained {
    pub(super) fn acknowledged(&mut self, place: u64) {
        let all = self.0.values_mut().flatten();
        all.filter(|version| version.place == place)
            .for_each(|version| version.owed = true);
    }

    /// What a filter finds, in the order of the topics.
    fn matching(&self, filter: &str, now: u64) -> Vec<Kept> {
        let pattern = dotted(filter);
        let found = self.0.iter();
        let found = found.filter(|(topic, _)| matches(&pattern, &dotted(topic)));
        let kept = found.filter_map(|(_, versions)| versions.last()?.kept);
        kept.filter(|kept| !kept.has_expired(now)).collect()
    }
}

impl Oracle {
    /// A publish with RETAIN was taken.
    pub(super) fn retain(
        &mut self,
        topic: &str,
        message: Option<(Id, u8)>,
        expires: Option<u64>,
        place: u64,
    ) {
        let kept = message.map(|(message, qos)| Kept {
            message,
            qos,
            expires,
        });
        let version = Version {
            kept,
            place,
            epoch: self.epoch,
            owed: false,
        };
        let versions = self.retained.0.entry(topic.to_owned()).or_default();
        versions.push(version);
    }

    /// A SUBSCRIBE was taken; `known`: the session had the filter already.
    pub(super) fn owe_retained(
        &mut self,
        conn: usize,
        subscribe: &mqtt::Subscribe,
        known: bool,
        now: u64,
    ) {
        let wanted = match subscribe.handling {
            Handling::Send => true,
            Handling::SendIfNew => !known,
            Handling::DoNotSend => false,
        };
        if !wanted {
            return;
        }
        let found = self.retained.matching(subscribe.filter, now);
        let owed = found.into_iter().map(|kept| Owed {
            kept: Kept {
                qos: kept.qos.min(subscribe.qos).min(1),
                ..kept
            },
            asked: Some(subscribe.packet_id),
        });
        self.conn(conn).retained.extend(owed);
    }

    /// SUBACK has left.
    pub(super) fn retained_may_follow(&mut self, conn: usize, packet_id: u16) {
        for owed in &mut self.conn(conn).retained {
            owed.asked = owed.asked.filter(|asked| *asked != packet_id);
        }
    }

    /// A PUBLISH with RETAIN has left for a subscriber: the next that it is owed.
    pub(crate) fn retained_delivered(
        &mut self,
        conn: usize,
        (message, qos, dup, packet_id): (Id, u8, bool, u16),
        now: u64,
    ) -> Check {
        self.counts.retained += 1;
        let owed = &mut self.conn(conn).retained;
        let is_over = |owed: &mut Owed| owed.kept.message != message && owed.kept.has_expired(now);
        while owed.pop_front_if(is_over).is_some() {}
        let what = match owed.pop_front() {
            None => "a retained message comes that nobody asked for",
            Some(next) if next.kept.message != message => "a retained message comes out of turn",
            Some(next) if next.kept.has_expired(now) => "an expired retained message comes",
            Some(next) if next.asked.is_some() => "a retained message comes before SUBACK",
            Some(next) if next.kept.qos != qos || dup => {
                "a retained message comes with a wrong QoS or DUP"
            }
            Some(_) if qos == 0 => return Ok(()),
            Some(_) => return self.in_flight(conn, packet_id, message, NOWHERE),
        };
        violation(what, Some(message), None)
    }

    /// Nobody has anything to do any more: nothing waits that the window has room for.
    pub(super) fn has_sent_retained(&self, now: u64) -> Check {
        for conn in self.conns.values().filter(|conn| conn.client.is_some()) {
            for owed in &conn.retained {
                let full = owed.kept.qos > 0 && conn.unacked.len() >= conn.window;
                if full || owed.asked.is_some() {
                    break;
                }
                if !owed.kept.has_expired(now) {
                    let what = "a retained message is not sent";
                    return violation(what, Some(owed.kept.message), None);
                }
            }
        }
        Ok(())
    }

    /// What the disk has of each topic after a crash, held against what it must have.
    pub(super) fn recover_retained(&mut self, found: &BTreeMap<String, Id>, now: u64) -> Check {
        let mut topics = std::mem::take(&mut self.retained.0);
        for topic in found.keys() {
            topics.entry(topic.clone()).or_default();
        }
        for (topic, versions) in topics {
            let there = found.get(&topic).copied();
            let is_sure = |held: &Version| held.owed || !self.is_doubtful(held.epoch);
            let sure = versions.iter().rposition(is_sure);
            let begins = Version {
                kept: None,
                place: 0,
                epoch: self.epoch,
                owed: false,
            };
            let allowed = match sure {
                Some(sure) => versions[sure..].to_vec(),
                None => std::iter::once(begins).chain(versions.clone()).collect(),
            };
            let fits = |held: &&Version| {
                let message = held.kept.map(|kept| kept.message);
                let is_over = held.kept.is_some_and(|kept| kept.has_expired(now));
                message == there || (is_over && there.is_none())
            };
            let Some(version) = allowed.iter().rev().find(fits) else {
                let known = versions.iter().any(|held| fits(&held));
                let what = match (there, known) {
                    (None, _) => format!("the retained message of {topic} is lost"),
                    (_, true) => format!("a former retained message of {topic} is back"),
                    (_, false) => format!("{topic} never had this retained message"),
                };
                let last = versions.last().and_then(|last| last.kept);
                return violation(what, there.or(last.map(|kept| kept.message)), None);
            };
            let epoch = self.epoch;
            let version = Version {
                epoch,
                ..version.clone()
            };
            self.retained.0.insert(topic, vec![version]);
        }
        Ok(())
    }
}
