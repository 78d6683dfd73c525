//! What a start finds, held against what was promised before the crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_core::queue::Queue;

use super::{Binding, Check, Copy, EXACTLY_ONCE_ACROSS_CRASHES, Gone, Held, Oracle, Where};
use super::{Violation, violation};
use crate::message::Id;

/// One queue as a start found it.
pub(crate) struct Found {
    pub(crate) queue: Arc<Queue>,
    /// Binding keys, dotted.
    pub(crate) bindings: BTreeSet<String>,
    /// Its messages in order.
    pub(crate) messages: Vec<Id>,
}

impl Oracle {
    /// The broker is there again.
    pub(crate) fn recover(&mut self, found: Vec<Found>, now: u64) -> Check {
        self.conns.clear();
        self.may_vanish.clear();
        for received in self.received.values_mut() {
            received.retain(|_, publish| EXACTLY_ONCE_ACROSS_CRASHES && publish.survives());
        }
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

    fn recover_messages(&mut self, id: u64, held: &mut Held, found: &[Id], now: u64) -> Check {
        let mut left = std::mem::take(&mut held.copies);
        let mut last = 0;
        for message in found {
            let (place, copy, alone) = self.find(id, held, &mut left, *message)?;
            if alone && place < last {
                let what = "messages have changed their order in a restart";
                return violation(what, Some(*message), Some(id));
            }
            if alone {
                last = place;
            }
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
                persistent: copy.persistent,
                expires: copy.expires,
                epoch: self.epoch,
                why: "lost in a crash",
            };
            held.gone.insert(place, gone);
        }
        Ok(())
    }

    /// The copy that a message found is: one that is wanted, the promised first, or one whose
    /// settling may have been lost. The flag: there is no other of the same message.
    fn find(
        &self,
        id: u64,
        held: &mut Held,
        left: &mut BTreeMap<u64, Copy>,
        message: Id,
    ) -> Result<(u64, Copy, bool), Violation> {
        let same = left.iter().filter(|(_, copy)| copy.message == message);
        let gone = held.gone.iter().filter(|(_, gone)| gone.message == message);
        let alone = same.clone().count() + gone.clone().count() == 1
            && held.copies.values().all(|copy| copy.message != message);
        let kept = same.filter(|(_, copy)| copy.persistent);
        let best = kept.max_by_key(|(place, copy)| (copy.owed, std::cmp::Reverse(**place)));
        if let Some((&place, _)) = best
            && let Some(copy) = left.remove(&place)
        {
            return Ok((place, copy, alone));
        }
        let doubtful = gone.clone().filter(|(_, gone)| gone.persistent);
        let mut doubtful = doubtful.filter(|(_, gone)| self.is_doubtful(gone.epoch));
        let Some((&place, found)) = doubtful.next() else {
            let what = match gone.clone().next() {
                Some((_, gone)) => format!("a message is back that was {}", gone.why),
                None => "a message is found that was never there".to_owned(),
            };
            return violation(what, Some(message), Some(id));
        };
        let expires = found.expires;
        held.gone.remove(&place);
        let copy = Copy {
            message,
            place: Where::Ready,
            redelivered: true,
            persistent: true,
            owed: false,
            expires,
            since: self.step,
        };
        Ok((place, copy, alone))
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
