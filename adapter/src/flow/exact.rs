//! QoS 2 towards the client: what is between PUBLISH and PUBCOMP. MQTT 5.0 §4.3.3, as the sender.
//!
//! ```text
//!        on disk            PUBREC             settled on disk              PUBCOMP
//! Held ───────────▶ Sent ───────────▶ Received ────────────────▶ Released ───────────▶ done
//!        PUBLISH     │                                PUBREL
//!                    └─ PUBREC of 0x80 and above: the message is rejected ───────────▶ done
//! ```
//! What is held or sent lies with all that is in flight, the message with it; from PUBREC on there
//! is the packet identifier alone. A session that outlives its connection notes each identifier in
//! the journal before the PUBLISH leaves: see [`leveret_core::shelf::Sent`]. Lives under the
//! out-buffer's lock; must never call the core.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::queue::Queue;
use leveret_core::shelf::{Place, Resumed};
use leveret_core::time::Time;

use super::retry::Retry;
use super::{Flow, InFlight, Source};
use crate::codec::PacketType;
use crate::packet::{ProtocolVersion, QoS, ack};
use crate::reason_code::ReasonCode;

/// Where a packet identifier is noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Note {
    /// Nowhere: the session ends with its connection.
    Needless,
    /// Not yet: its PUBLISH is held.
    Due,
    /// Here.
    At(Place),
}

/// A delivery that is to be noted.
#[derive(Clone)]
pub(crate) struct Unnoted {
    pub(crate) packet_id: NonZeroU16,
    /// Where the message is, and its number there; `None` if it was retained.
    pub(crate) message: Option<(Arc<Queue>, u64)>,
}

/// A packet identifier that the client is to release.
#[derive(Clone, Copy)]
struct Release {
    /// They have numbers in their order, without gaps.
    number: u64,
    packet_id: NonZeroU16,
}

/// What follows from a PUBREC.
pub(crate) enum Step {
    /// Nothing that was sent has this identifier.
    Unknown,
    /// The client has the message: it is settled, then comes PUBREL.
    Received(Source),
    /// PUBREL is said again, when the journal has this number.
    Again(u64),
    /// The client does not want it.
    Refused(Option<Source>, Option<Place>),
}

/// What can be done for the packets that are held.
pub(crate) enum Held {
    /// There are none, or they wait for what the connection has asked for.
    Nothing,
    /// These are to be noted: [`Flow::noted`] takes the answer.
    Note(Vec<Unnoted>),
    /// They leave when the journal has this number.
    Wait(u64),
    /// They are in the out-buffer.
    Sent,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Exact {
    /// The packet identifiers of all of them.
    ids: HashMap<NonZeroU16, Note>,
    /// Those whose PUBREC has come, in that order ([MQTT-4.6.0-4]).
    released: VecDeque<Release>,
    /// The number of the next of them.
    next_release: u64,
    /// Those from here on have no time yet at which PUBREL is sent again.
    untimed: u64,
    retry: Retry,
    /// Those that were sent before the broker was started again, by queue and number.
    resumed: HashMap<(u64, u64), NonZeroU16>,
    /// Packets that are held, and which of them are to be noted.
    fresh: Vec<u8>,
    unnoted: Vec<Unnoted>,
    /// Packets that leave when the journal has [`Self::number`].
    noted: Vec<u8>,
    noting: bool,
    /// The journal's number at which all notes and settlings are on disk.
    number: u64,
    /// The number that a wake-up was asked for.
    awaited: u64,
}

impl Exact {
    /// What a restart has found of a session.
    pub(crate) fn recalled(found: &[Resumed]) -> Self {
        let mut exact = Self::default();
        for resumed in found {
            let Some(packet_id) = NonZeroU16::new(resumed.sent.note.packet_id) else {
                continue;
            };
            exact.ids.insert(packet_id, Note::At(resumed.place));
            if resumed.waits {
                let key = (resumed.sent.queue, resumed.sent.seq);
                exact.resumed.insert(key, packet_id);
            } else {
                exact.push_release(packet_id);
            }
        }
        exact
    }

    /// Whether a packet identifier is taken.
    pub(super) fn has(&self, packet_id: NonZeroU16) -> bool {
        self.ids.contains_key(&packet_id)
    }

    /// How many wait for PUBCOMP.
    pub(super) fn released(&self) -> usize {
        self.released.len()
    }

    /// Bytes of packets that are held.
    fn held_bytes(&self) -> usize {
        self.fresh.len() + self.noted.len()
    }

    /// Nothing is between PUBLISH and PUBCOMP.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Where all of them are noted.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.ids.values().filter_map(|note| match note {
            Note::At(place) => Some(*place),
            Note::Needless | Note::Due => None,
        })
    }

    /// PUBREL of all whose PUBREC has come, for a client that comes back ([MQTT-4.4.0-1]); gives
    /// the number at which they may leave.
    pub(crate) fn say_released(&self, out: &mut Vec<u8>, version: ProtocolVersion) -> u64 {
        for release in &self.released {
            pubrel(out, version, release.packet_id);
        }
        self.number
    }

    fn push_release(&mut self, packet_id: NonZeroU16) {
        let number = self.next_release;
        self.next_release += 1;
        self.released.push_back(Release { number, packet_id });
    }

    fn release_of(&self, packet_id: NonZeroU16) -> Option<usize> {
        let mut released = self.released.iter();
        released.position(|release| release.packet_id == packet_id)
    }

    /// Whether a PUBLISH may not have left yet.
    pub(super) fn may_hold(&self, packet_id: NonZeroU16) -> bool {
        !self.noted.is_empty() || self.is_unsent(packet_id)
    }

    /// Whether a delivery was never sent: nothing is to be kept of it.
    fn is_unsent(&self, packet_id: NonZeroU16) -> bool {
        self.ids.get(&packet_id) == Some(&Note::Due)
    }

    /// When PUBREL is sent again.
    pub(super) fn retry_at(&self) -> Option<Time> {
        self.retry.due().filter(|_| !self.released.is_empty())
    }

    /// Sends PUBREL again where it is due; the journal is at `durable`.
    pub(super) fn release_again(
        &mut self,
        out: &mut Vec<u8>,
        version: ProtocolVersion,
        (bytes_max, durable): (usize, u64),
        (interval_ms, now): (u64, Time),
    ) {
        while let Some(numbers) = self.retry.take_due(now) {
            let first = self
                .released
                .partition_point(|release| release.number < numbers.start);
            let due = self.released.iter().skip(first);
            let mut due = due
                .take_while(|release| release.number < numbers.end)
                .peekable();
            let any = due.peek().is_some();
            for release in due {
                // What is not on disk yet was not released before; and who does not read has it.
                if self.number <= durable && out.len() < bytes_max {
                    pubrel(out, version, release.packet_id);
                }
            }
            if any {
                self.retry.note(numbers, interval_ms, now);
            }
        }
    }

    fn forget(&mut self, packet_id: NonZeroU16) -> Option<Place> {
        match self.ids.remove(&packet_id)? {
            Note::At(place) => Some(place),
            Note::Needless | Note::Due => None,
        }
    }
}

fn pubrel(out: &mut Vec<u8>, version: ProtocolVersion, packet_id: NonZeroU16) {
    let success = ReasonCode::Success;
    ack::encode(out, version, PacketType::PubRel, packet_id, success);
}

impl Flow {
    /// Its QoS 2 part, made if there is none yet.
    pub(crate) fn exact(&mut self) -> &mut Exact {
        self.exact.get_or_insert_default()
    }

    /// The packet identifier under which a message was sent before the broker was started again.
    pub(crate) fn sent_before(&mut self, queue: u64, seq: u64) -> Option<NonZeroU16> {
        let exact = self.exact.as_deref_mut()?;
        exact.resumed.remove(&(queue, seq))
    }

    /// Whether a PUBLISH is held: not if it is noted on disk, from the connection before.
    pub(crate) fn holds(&self, packet_id: NonZeroU16) -> bool {
        let note = self
            .exact
            .as_ref()
            .and_then(|exact| exact.ids.get(&packet_id));
        self.terms.noted && !matches!(note, Some(Note::At(_)))
    }

    /// Where packets go that are held, to append one; [`Self::put_held`] takes it back.
    pub(crate) fn take_held(&mut self, holds: bool) -> Option<Vec<u8>> {
        holds.then(|| std::mem::take(&mut self.exact().fresh))
    }

    pub(crate) fn put_held(&mut self, packets: Option<Vec<u8>>) {
        if let Some(packets) = packets {
            self.exact().fresh = packets;
        }
    }

    /// A PUBLISH is held, or in the out-buffer, with a packet id that nothing has ([MQTT-4.3.3-1]).
    pub(crate) fn enter(&mut self, packet_id: NonZeroU16, message: Option<(Arc<Queue>, u64)>) {
        let noted = self.terms.noted;
        let exact = self.exact();
        let new = if noted { Note::Due } else { Note::Needless };
        let note = *exact.ids.entry(packet_id).or_insert(new);
        if note == Note::Due {
            exact.unnoted.push(Unnoted { packet_id, message });
        }
    }

    /// What was sent before and does not come again will not come any more: the client may have it,
    /// and is to release the identifier.
    pub(crate) fn release_lost(&mut self, out: &mut Vec<u8>, version: ProtocolVersion) {
        let Some(exact) = self.exact.as_deref_mut() else {
            return;
        };
        let lost = std::mem::take(&mut exact.resumed).into_values();
        for packet_id in lost {
            exact.push_release(packet_id);
            pubrel(out, version, packet_id);
        }
    }

    /// The same for one that cannot be sent to this client any more.
    pub(crate) fn release(
        &mut self,
        packet_id: NonZeroU16,
        out: &mut Vec<u8>,
        version: ProtocolVersion,
    ) {
        self.exact().push_release(packet_id);
        pubrel(out, version, packet_id);
    }

    /// PUBREC has come: PUBLISH is over ([MQTT-4.3.3-3], [MQTT-4.3.3-6]).
    pub(crate) fn received(&mut self, packet_id: NonZeroU16, refused: bool) -> Step {
        let Some(exact) = self.exact.as_deref_mut() else {
            return Step::Unknown;
        };
        if exact.is_unsent(packet_id) {
            return Step::Unknown;
        }
        if let Some(at) = exact.release_of(packet_id) {
            if !refused {
                return Step::Again(exact.number);
            }
            exact.released.remove(at);
            return Step::Refused(None, exact.forget(packet_id));
        }
        let Some(done) = self.acknowledged(packet_id, QoS::ExactlyOnce) else {
            return Step::Unknown;
        };
        let exact = self.exact();
        if refused {
            return Step::Refused(Some(done.source), exact.forget(packet_id));
        }
        exact.push_release(packet_id);
        Step::Received(done.source)
    }

    /// A message is settled for good at this number.
    pub(crate) fn settled(&mut self, number: u64) {
        let exact = self.exact();
        exact.number = exact.number.max(number);
    }

    /// PUBCOMP has come ([MQTT-4.3.3-5]): the identifier is free again. Gives where it was noted.
    pub(crate) fn completed(&mut self, packet_id: NonZeroU16) -> Option<Place> {
        let exact = self.exact.as_deref_mut()?;
        let at = exact.release_of(packet_id)?;
        exact.released.remove(at);
        exact.forget(packet_id)
    }

    /// Lets packets go that were held, if the journal is at `durable` by now.
    pub(crate) fn let_go(&mut self, out: &mut Vec<u8>, durable: u64) -> Held {
        let Some(exact) = self.exact.as_deref_mut() else {
            return Held::Nothing;
        };
        if !exact.noted.is_empty() {
            if exact.noting {
                return Held::Nothing;
            }
            if exact.number > durable {
                let asked = exact.awaited >= exact.number;
                exact.awaited = exact.number;
                return if asked {
                    Held::Nothing
                } else {
                    Held::Wait(exact.number)
                };
            }
            out.append(&mut exact.noted);
            return Held::Sent;
        }
        if exact.fresh.is_empty() {
            return Held::Nothing;
        }
        std::mem::swap(&mut exact.fresh, &mut exact.noted);
        exact.noting = true;
        Held::Note(std::mem::take(&mut exact.unnoted))
    }

    /// What was to be noted lies in these places, for sure at this number.
    pub(crate) fn noted(&mut self, notes: &[(NonZeroU16, Place)], number: u64) {
        let exact = self.exact();
        exact.noting = false;
        exact.number = exact.number.max(number);
        for (packet_id, place) in notes {
            exact.ids.insert(*packet_id, Note::At(*place));
        }
    }

    /// The journal was not asked after all: it has the number.
    pub(crate) fn not_awaited(&mut self) {
        self.exact().awaited = 0;
    }

    /// What the session keeps of it without a connection: no packets, they were not sent.
    pub(crate) fn leave_exact(&mut self) -> Option<Box<Exact>> {
        let mut exact = self.exact.take()?;
        let Exact {
            fresh,
            unnoted,
            noted,
            ..
        } = &mut *exact;
        (*fresh, *unnoted, *noted) = Default::default();
        (exact.noting, exact.awaited) = (false, 0);
        (exact.retry, exact.untimed) = Default::default();
        (!exact.is_empty()).then_some(exact)
    }

    /// Bytes of packets that are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.exact.as_ref().map_or(0, |exact| exact.held_bytes())
    }

    /// PUBREL is sent again after so long, of all that were released since this was called last.
    pub(crate) fn time_releases(&mut self, interval_ms: u64, now: Time) {
        let Some(exact) = self.exact.as_deref_mut().filter(|_| interval_ms > 0) else {
            return;
        };
        let first = exact.released.front().map(|release| release.number);
        let untimed = std::mem::replace(&mut exact.untimed, exact.next_release);
        if first.is_some_and(|first| first >= untimed) {
            exact.retry.clear();
        }
        if untimed < exact.next_release {
            exact
                .retry
                .note(untimed..exact.next_release, interval_ms, now);
        }
    }

    /// Whether a delivery stays with the session that is left, instead of going back to its queue:
    /// QoS 2 is finished with this client whatever becomes of the message meanwhile
    /// ([MQTT-4.3.3-7], [MQTT-4.8.2-4]), and nothing else has a retained message.
    pub(crate) fn stays(&mut self, held: &InFlight) -> bool {
        if held.qos != QoS::ExactlyOnce {
            return matches!(held.source, Source::Retained(..));
        }
        let exact = self.exact();
        let unsent = exact.is_unsent(held.packet_id);
        if unsent && matches!(held.source, Source::Queue(_)) {
            exact.forget(held.packet_id);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Terms;

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).expect("not 0")
    }

    fn flow(noted: bool) -> Flow {
        Flow::new(Terms {
            window: 10,
            noted,
            ..Terms::default()
        })
    }

    /// [MQTT-4.3.3-1]: an identifier is not given again from PUBLISH to PUBCOMP.
    #[test]
    fn identifiers_are_in_use_until_pubcomp() {
        let mut flow = flow(false);
        let ticket = flow.assign_fresh();
        flow.enter(ticket.1, None);
        flow.exact().push_release(ticket.1);
        for _ in 1..65_535 {
            assert_ne!(flow.assign_fresh().1, ticket.1);
        }
        assert_eq!(flow.assign_fresh().1, id(2), "1 waits for PUBCOMP");
        assert_eq!(flow.completed(id(1)), None);
        assert!(flow.exact().is_empty());
        assert!(matches!(flow.received(id(1), false), Step::Unknown));
    }

    /// A PUBLISH that the disk does not know of is not sent.
    #[test]
    fn packets_are_held_until_they_are_noted() {
        let (mut flow, mut out) = (flow(true), Vec::new());
        let held = flow.take_held(flow.holds(id(1)));
        flow.put_held(held.map(|_| b"first".to_vec()));
        flow.enter(id(1), None);
        assert!(matches!(flow.received(id(1), false), Step::Unknown));
        let Held::Note(unnoted) = flow.let_go(&mut out, 7) else {
            panic!("nothing is to be noted");
        };
        assert_eq!(unnoted.len(), 1);
        // Another one comes meanwhile, and waits for the next time.
        let held = flow.take_held(flow.holds(id(2)));
        flow.put_held(held.map(|_| b"second".to_vec()));
        flow.enter(id(2), None);
        assert!(matches!(flow.let_go(&mut out, 7), Held::Nothing));
        flow.noted(&[(id(1), Place::default())], 8);
        assert!(matches!(flow.let_go(&mut out, 7), Held::Wait(8)));
        assert!(matches!(flow.let_go(&mut out, 7), Held::Nothing));
        assert!(matches!(flow.let_go(&mut out, 8), Held::Sent));
        assert_eq!(out, b"first");
        assert!(!flow.holds(id(1)), "it is noted");
        assert!(matches!(flow.let_go(&mut out, 8), Held::Note(_)));
    }
}
