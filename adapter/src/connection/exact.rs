//! QoS 2 deliveries on their way to the disk and to the client: see [`crate::flow::exact`].

use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::seam::{Core, Host};
use leveret_core::shelf::{Place, Received, Sent};
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;

use super::{Connection, State};
use crate::flow::exact::{Held, Unnoted};
use crate::outlet::Nudge;
use crate::reason::Ending;

impl<H: Host> Connection<H> {
    /// Notes what is held, and sends what is noted: each batch while the one before is on its way
    /// to the disk.
    pub(super) fn send_exact(&mut self, turn: &Turn) {
        let Some(identity) = self.outlet.identity.get() else {
            return;
        };
        let core = &identity.core;
        loop {
            let held = {
                let mut out = self.outlet.lock();
                let out = &mut *out;
                let Some(flow) = out.flow.as_deref_mut() else {
                    return;
                };
                flow.let_go(&mut out.buf, core.journal_durable())
            };
            match held {
                Held::Nothing => return,
                Held::Note(unnoted) => self.note(turn, &unnoted),
                // Whoever has no room because of it may have some now.
                Held::Sent => self.outlet.bell.press_and_ring(),
                Held::Wait(number) => {
                    if core.journal_failed() {
                        // It is not sent, and never will be: the client may try elsewhere.
                        return self.close(Some(Ending::disk()));
                    }
                    let nudge: Arc<dyn Wake> = Arc::new(Nudge(Arc::clone(&self.outlet)));
                    if core.wait_journal(number, &nudge) {
                        return;
                    }
                    let mut out = self.outlet.lock();
                    out.flow.iter_mut().for_each(|flow| flow.not_awaited());
                }
            }
        }
    }

    fn note(&self, turn: &Turn, unnoted: &[Unnoted]) {
        let (State::Active(active), Some(identity)) = (&self.state, self.outlet.identity.get())
        else {
            return;
        };
        let has_queues = {
            let out = self.outlet.lock();
            out.flow.as_ref().is_some_and(|flow| flow.has_queues())
        };
        let (mut places, mut last) = (Vec::with_capacity(unnoted.len()), 0);
        for Unnoted { packet_id, message } in unnoted {
            let (queue, seq) = match message {
                Some((queue, seq)) => (Some(&**queue), *seq),
                None => (None, 0),
            };
            let sent = Sent {
                note: Received {
                    packet_id: packet_id.get(),
                    session_ms: active.expiry_ms.unwrap_or(u64::MAX),
                    has_queues,
                },
                queue: queue.map_or(Sent::NO_QUEUE, |queue| queue.id()),
                seq,
            };
            let (place, number) = identity.core.note_sent(turn, queue, sent);
            places.push((*packet_id, place));
            last = last.max(number);
        }
        let mut out = self.outlet.lock();
        if let Some(flow) = out.own_flow() {
            return flow.noted(&places, last);
        }
        drop(out);
        // A newer connection has the session, and these were not sent.
        let places: Vec<Place> = places
            .iter()
            .map(|(_, place): &(NonZeroU16, _)| *place)
            .collect();
        identity.core.complete_sent(&places);
    }
}
