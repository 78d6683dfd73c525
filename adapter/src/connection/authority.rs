//! The user's permissions have changed: what the client has by them is asked for again, in the
//! connection's own turn and a bounded piece at a time.

use leveret_core::key::Form;
use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;

use super::{Connection, State};
use crate::flow::Flow;
use crate::handle::unsubscribe::end_own;
use crate::limits::REAUTHORISED_PER_TURN;
use crate::outlet::{Identity, Outlet};
use crate::reason::Ending;
use crate::reason_code::ReasonCode;

/// Sets what deliveries are filtered by.
pub(super) fn read_again<C: Core>(outlet: &Outlet<C>, identity: &Identity<C>) {
    let reader = identity.core.reader(outlet.exchange());
    let restricted = reader.is_restricted().then(|| Box::new(reader));
    outlet.lock().reader = restricted;
}

impl<H: Host> Connection<H> {
    /// Asks again, if somebody has said that it must, or has not come to the end.
    pub(super) fn reauthorise(&mut self, turn: &mut Turn) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let told = self.outlet.take_told();
        let Some(identity) = self.outlet.identity.get() else {
            return;
        };
        if told {
            read_again(&self.outlet, identity);
            let all = {
                let out = self.outlet.lock();
                let subscriptions = out.flow.as_ref().map(|flow| flow.subscriptions.iter());
                let texts = subscriptions.into_iter().flatten();
                texts.map(|held| held.text.clone()).collect()
            };
            active.rare.get_or_insert_default().unasked = all;
            if let Err(why) = may_consume(&self.outlet, identity) {
                let (peer, client_id) = (self.outlet.accepted.peer, &*identity.client_id);
                tracing::warn!(%peer, client_id, %why, "closing MQTT connection");
                self.close(Some(Ending::new(
                    ReasonCode::NotAuthorized,
                    why.into_string(),
                )));
                return;
            }
        }
        let Some(rare) = active.rare.as_mut() else {
            return;
        };
        for _ in 0..REAUTHORISED_PER_TURN {
            let Some(text) = rare.unasked.pop() else {
                rare.unasked = Vec::new();
                return;
            };
            ask(&self.outlet, identity, turn, &text);
        }
        self.outlet.bell.press_and_ring();
    }
}

/// Whether all queues that are consumed may still be.
fn may_consume<C: Core>(outlet: &Outlet<C>, identity: &Identity<C>) -> Result<(), Box<str>> {
    let queues: Vec<_> = {
        let out = outlet.lock();
        let slots = |flow: &Flow| {
            flow.slots
                .iter()
                .filter_map(|slot| slot.queue.clone())
                .collect()
        };
        out.flow.as_deref().map(slots).unwrap_or_default()
    };
    for queue in queues {
        let asked = identity.core.may_consume(queue.name());
        asked.map_err(|refusal| refusal.text)?;
    }
    Ok(())
}

/// Ends a subscription to what may not be read any more.
fn ask<C: Core>(outlet: &Outlet<C>, identity: &Identity<C>, turn: &mut Turn, text: &str) {
    let held = {
        let out = outlet.lock();
        let flow = out.flow.as_ref();
        flow.and_then(|flow| flow.subscriptions.find(text).cloned())
    };
    let Some(held) = held else { return };
    let (core, exchange) = (&identity.core, outlet.exchange());
    let key = held.filter().as_bytes();
    let Err(refusal) = core.may_bind_from(exchange, key, Form::Slashed) else {
        return;
    };
    let (peer, client_id) = (outlet.accepted.peer, &*identity.client_id);
    tracing::info!(%peer, client_id, filter = text, why = %refusal.text, "subscription ended");
    if let Some(flow) = outlet.lock().flow.as_mut() {
        flow.unsubscribe(text);
    }
    end_own(outlet, identity, turn, &held);
}
