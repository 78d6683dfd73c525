//! What a start finds, held against what was promised before the crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_core::queue::Queue;

use super::{Binding, Check, Copy, Gone, Held, Oracle, Where};
use super::{Violation, violation};
use crate::message::Id;

/// One queue as a start found it.
pub(crate) struct Found {
    pub(crate) queue: Arc<Queue>,
    /// Binding keys, dotted.
    pub(crate) bindings: BTreeSet<String>,
    /// Its messages with their numbers, in order.
    pub(crate) messages: Vec<(u64, Id)>,
}

impl Oracle {
    /// The broker is there again.
    pub(crate) fn recover(
        &mut self,
        found: Vec<Found>,
        unreleased: &[(String, Vec<u16>)],
        now: u64,
    ) -> Check {
        self.conns.clear();
        self.before_start = self.transmissions;
        self.may_vanish.clear();
        self.recover_leases(now);
        self.recover_received(unreleased)?;
        let mut before = std::mem::take(&mut self.queues);
        let mut deleted = std::mem::take(&mut self.deleted);
        for found in found {
            let id = found.queue.id();
            let was_deleted = deleted.contains_key(&id);
            let Some(mut held) = before.remove(&id).or_else(|| deleted.remove(&id)) else {
                return violation("a queue is there that nobody made", None, Some(id));
            };
            let wrong = if was_deleted && held.sure {
                "a deleted queue is back"
            } else if !held.durable {
                "a transient queue is back"
            } else {
                ""
            };
            if !wrong.is_empty() {
                self.queues.insert(id, held);
                return violation(wrong, None, Some(id));
            }
            if was_deleted {
                // Its messages may have gone before it.
                held.copies.values_mut().for_each(|copy| copy.owed = false);
            }
            let checked = recover_bindings(id, &mut held, &found.bindings)
                .and_then(|()| self.recover_messages(id, &mut held, &found.messages, now));
            held.sure = true;
            self.queues.insert(id, held);
            checked?;
        }
        for (id, held) in before {
            let owed = held
                .copies
                .values()
                .find(|copy| copy.owed && copy.persistent);
            let message = owed.map(|copy| copy.message);
            let lost = held.durable && (held.sure || message.is_some());
            self.queues.insert(id, held);
            if lost {
                return violation("a durable queue is lost", message, Some(id));
            }
            self.queues.remove(&id);
        }
        Ok(())
    }

    fn recover_messages(
        &mut self,
        id: u64,
        held: &mut Held,
        found: &[(u64, Id)],
        now: u64,
    ) -> Check {
        let mut left = std::mem::take(&mut held.copies);
        let mut last = 0;
        held.next_seq = found.last().map_or(0, |(seq, _)| seq + 1);
        for (seq, message) in found {
            let same = |(other, held): &(u64, Id)| (held == message).then_some(*other);
            let numbers: Vec<u64> = found.iter().filter_map(same).collect();
            let what = (*seq, *message);
            let (place, wanted, copy) = self.find(id, held, &mut left, what, &numbers)?;
            // What is back although it was settled has its place by a number that others may have
            // been given meanwhile.
            if wanted && place < last {
                let what = "messages have changed their order in a restart";
                return violation(what, Some(*message), Some(id));
            }
            last = if wanted { place } else { last };
            self.transmissions += 1;
            let place = self.transmissions;
            let copy = Copy {
                place: Where::Ready,
                redelivered: true,
                since: self.step,
                ..copy
            };
            self.counts.recovered += 1;
            held.copies.insert(place, copy);
        }
        for (place, copy) in left {
            let expired = copy.expires.is_some_and(|at| at <= now);
            if copy.owed && copy.persistent && held.durable && !expired {
                let what = "an acknowledged message is lost";
                return violation(what, Some(copy.message), Some(id));
            }
            let gone = Gone {
                message: copy.message,
                seq: copy.seq,
                persistent: copy.persistent,
                expires: copy.expires,
                epoch: self.epoch,
                why: "lost in a crash",
            };
            held.gone.insert(place, gone);
        }
        Ok(())
    }

    /// A QoS 2 publish is not routed again once its PUBREC has left; before, the broker may know of
    /// it or not.
    fn recover_received(&mut self, unreleased: &[(String, Vec<u16>)]) -> Check {
        for (client, received) in &mut self.received {
            let found = unreleased.iter().find(|(known, _)| known == client);
            let found = found.map(|(_, ids)| &ids[..]).unwrap_or_default();
            let lost = received
                .iter()
                .find(|(id, publish)| publish.survives() && !found.contains(id));
            if let Some((id, _)) = lost {
                let what = format!("identifier {id} of {client} is gone after its PUBREC");
                return violation(what, None, None);
            }
            received.retain(|id, _| found.contains(id));
        }
        for (client, mut ids) in std::mem::take(&mut self.forgotten) {
            let found = unreleased.iter().find(|(known, _)| *known == client);
            ids.retain(|id, _| found.is_some_and(|(_, found)| found.contains(id)));
            let received = self.received.entry(client).or_default();
            for (id, publish) in ids {
                received.entry(id).or_insert(publish);
            }
        }
        Ok(())
    }

    /// The copy that a message found is, and its place: one that is wanted, as the flag says, or
    /// one whose settling may have been lost. `numbers` are those of all copies that are found.
    fn find(
        &self,
        id: u64,
        held: &mut Held,
        left: &mut BTreeMap<u64, Copy>,
        (seq, message): (u64, Id),
        numbers: &[u64],
    ) -> Result<(u64, bool, Copy), Violation> {
        let mut same = left
            .iter()
            .filter(|(_, copy)| copy.seq == seq && copy.message == message);
        let kept = same.next().filter(|(_, copy)| copy.persistent);
        let kept = kept.map(|(place, _)| *place);
        if let Some(place) = kept
            && let Some(copy) = left.remove(&place)
        {
            return Ok((place, true, copy));
        }
        // Numbers are given again when nothing was left of those that had them.
        let mut gone = held.gone.iter().rev();
        let gone = gone.find(|(_, gone)| gone.seq == seq && gone.message == message);
        let Some((&place, found)) = gone else {
            let what = "a message is found that was never there";
            return violation(what, Some(message), Some(id));
        };
        let mut copy = Copy {
            message,
            seq,
            place: Where::Ready,
            redelivered: true,
            persistent: found.persistent,
            owed: false,
            expires: found.expires,
            since: self.step,
        };
        if !found.persistent || !self.is_doubtful(found.epoch) {
            // Of one that was published twice, two consumers may have had each the other's copy.
            let mut same = left.iter().filter(|(_, copy)| {
                copy.message == message && copy.persistent && !numbers.contains(&copy.seq)
            });
            let other = same.next().map(|(place, _)| *place);
            let Some(other) = other.and_then(|place| left.remove(&place)) else {
                let what = format!("a message is back that was {}", found.why);
                return violation(what, Some(message), Some(id));
            };
            (copy.owed, copy.persistent) = (other.owed, true);
        }
        held.gone.remove(&place);
        Ok((place, false, copy))
    }
}

fn recover_bindings(id: u64, held: &mut Held, found: &BTreeSet<String>) -> Check {
    for (pattern, binding) in &held.bindings {
        if binding.sure && binding.present != found.contains(pattern) {
            let what = match binding.present {
                true => format!("the binding {pattern} is lost"),
                false => format!("the binding {pattern} is back"),
            };
            return violation(what, None, Some(id));
        }
    }
    let unknown = found
        .iter()
        .find(|pattern| !held.bindings.contains_key(*pattern));
    if let Some(pattern) = unknown {
        return violation(format!("nobody made the binding {pattern}"), None, Some(id));
    }
    let adopt = |pattern: &String| {
        let binding = Binding {
            present: true,
            sure: true,
        };
        (pattern.clone(), binding)
    };
    held.bindings = found.iter().map(adopt).collect();
    Ok(())
}
