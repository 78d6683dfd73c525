//! An answer that waits until the definitions are on disk.

use std::sync::Arc;

use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;
use leveret_core::watermark::Wake;

use super::{Connection, State};
use crate::outlet::Nudge;
use crate::reason::Ending;
use crate::replay::Replay;

/// An answer that waits for a commit, and what follows it.
pub(crate) struct Held<C> {
    pub(crate) core: Arc<C>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) replay: Vec<Replay>,
    pub(crate) then_close: Option<Ending>,
    /// The record that a wake-up was asked for.
    pub(crate) awaited: u64,
    /// The journal's number that it waits for as well.
    pub(crate) journaled: u64,
    /// The journal was asked to wake the connection for that.
    pub(crate) asked: bool,
}

impl<H: Host> Connection<H> {
    /// Sends an answer that waited for the definitions, if they are durable now.
    pub(super) fn release_held(&mut self, turn: &mut Turn) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(held) = &mut active.held else {
            return;
        };
        if let Some(number) = held.core.uncommitted() {
            if held.core.commits_failed() {
                self.close(Some(Ending::disk()));
                return;
            }
            let nudge: Arc<dyn Wake> = Arc::new(Nudge(Arc::clone(&self.outlet)));
            if number <= held.awaited || held.core.wait_committed(number, &nudge) {
                held.awaited = held.awaited.max(number);
                return;
            }
        }
        if held.journaled > held.core.journal_durable() {
            if held.core.journal_failed() {
                self.close(Some(Ending::disk()));
                return;
            }
            let nudge: Arc<dyn Wake> = Arc::new(Nudge(Arc::clone(&self.outlet)));
            if held.asked || held.core.wait_journal(held.journaled, &nudge) {
                held.asked = true;
                return;
            }
        }
        let Some(held) = active.held.take() else {
            return;
        };
        let mut out = self.outlet.lock();
        out.buf.extend_from_slice(&held.bytes);
        if let Some(flow) = out.flow.as_mut() {
            flow.add_replays(held.replay);
            // Everything that was attached gets its first messages now, after the answer.
            for slot in &mut flow.slots {
                slot.starved |= std::mem::take(&mut slot.fresh);
            }
        }
        drop(out);
        match held.then_close {
            Some(reason) => self.close(Some(reason)),
            None => self.fill(turn),
        }
    }
}
