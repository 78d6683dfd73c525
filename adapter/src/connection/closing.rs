//! How a connection ends, and what it leaves: the reason that the client is told, its session, its
//! will.

use std::sync::Arc;

use leveret_core::claims::{Leftover, Owner};
use leveret_core::peer::CloseReason;
use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;

use super::{Connection, State};
use crate::outlet::{Identity, Leaving, Order, Parting};
use crate::packet::{connack, disconnect};
use crate::reason_code::ReasonCode;
use crate::session::{self, Left};
use crate::violation::Violation;
use crate::will::Will;

impl<H: Host> Connection<H> {
    /// Closes if others want it: nothing more is read then, and no session is touched that a newer
    /// connection has.
    pub(super) fn look_for_order(&mut self) {
        let order = self.outlet.lock().order.clone();
        if let Some(order) = order {
            self.obey(&order);
        }
    }

    pub(super) fn obey(&mut self, order: &Order) {
        if matches!(self.state, State::Closed { .. }) {
            return;
        }
        let reason = match order {
            // [MQTT-3.1.4-3]
            Order::Evicted => ReasonCode::SessionTakenOver,
            Order::Close(CloseReason::Shutdown | CloseReason::PluginDisabled) => {
                ReasonCode::ServerShuttingDown
            }
            Order::Close(_) => ReasonCode::AdministrativeAction,
            Order::QueueGone => ReasonCode::UnspecifiedError,
            Order::Over => return,
        };
        tracing::info!(peer = %self.outlet.accepted.peer, ?order, "closing MQTT connection");
        self.close(Some(reason));
    }

    /// CONNACK with a failure ([MQTT-3.2.2-7]), then close.
    pub(super) fn refuse(&mut self, reason: ReasonCode) {
        let mut out = self.outlet.lock();
        let version = out.version;
        // A CONNACK without properties always fits.
        let _ = connack::encode(&mut out.buf, version, false, reason, &[]);
        drop(out);
        self.will_due = false;
        self.state = State::OVER;
    }

    /// The peer broke a rule: it is told, where the version can, and closed.
    pub(super) fn violated(&mut self, violation: &Violation) {
        let peer = self.outlet.accepted.peer;
        tracing::warn!(%peer, %violation, "MQTT protocol violation: closing the connection");
        match self.state {
            State::Active(_) => self.close(Some(violation.reason_code())),
            _ => {
                if let Some(version) = violation.connack_version() {
                    self.outlet.lock().version = version;
                    self.refuse(violation.reason_code());
                } else {
                    self.close(None);
                }
            }
        }
    }

    /// Says DISCONNECT with a reason to a 5.0 client ([MQTT-4.13.1-1]), and closes.
    pub(super) fn close(&mut self, reason: Option<ReasonCode>) {
        if let (State::Active(_), Some(reason)) = (&self.state, reason) {
            let mut out = self.outlet.lock();
            if out.version.is_v5() {
                let version = out.version;
                // A DISCONNECT without properties always fits.
                let _ = disconnect::encode(&mut out.buf, version, reason, &[]);
            }
        }
        self.forget_alarms();
        // From now on nothing is delivered here: no PUBLISH follows the DISCONNECT.
        let mut out = self.outlet.lock();
        out.order.get_or_insert_with(|| Box::new(Order::Over));
        drop(out);
        let expiry_ms = match &self.state {
            State::Active(active) => active.expiry_ms,
            State::Closed { expiry_ms } => *expiry_ms,
            State::ExpectConnect { .. } | State::AwaitLogin(_) => Some(0),
        };
        self.state = State::Closed { expiry_ms };
    }

    /// For how long the session outlives the closed connection.
    pub(super) fn leave_expiry(&self) -> Option<u64> {
        match &self.state {
            State::Closed { expiry_ms } => *expiry_ms,
            _ => Some(0),
        }
    }

    /// The stream is gone: the session is left or ended, the will is sent. The last call.
    pub fn handle_close(&mut self, turn: &mut Turn) {
        self.close(None);
        self.node.host.deregister(self.outlet.connection);
        self.settle(turn);
        let Some(identity) = self.outlet.identity.get() else {
            return;
        };
        let mut leaving = self.outlet.leaving.lock();
        if matches!(*leaving, Leaving::Here) {
            let mut out = self.outlet.lock();
            let parting = Parting {
                flow: out.flow.take(),
                will: out.will.take(),
            };
            drop(out);
            let rest = self.leave(identity, turn, parting);
            *leaving = Leaving::Gone(rest);
        }
        drop(leaving);
        identity.core.close(turn);
    }

    /// Leaves or ends the session. What comes back is for a successor that has the claim already.
    pub(super) fn leave(
        &self,
        identity: &Identity<H::Core>,
        turn: &mut Turn,
        mut parting: Parting,
    ) -> Option<Box<dyn Leftover>> {
        let will = parting.will.take().filter(|_| self.will_due);
        let ends = self.started && (identity.clean || self.leave_expiry() == Some(0));
        let exchange = self.outlet.exchange();
        let left = session::leave(identity, exchange, ends, turn, parting);
        let owner = Arc::clone(&self.outlet) as Arc<dyn Owner>;
        let (core, id) = (&identity.core, &identity.client_id);
        if ends {
            left.release();
            left.leave_groups();
            if let Some(will) = will {
                will.publish(&**core, turn, exchange);
            }
            return core.disown(turn, id, &owner, None, None);
        }
        if let Some(will) = will {
            self.send_will(identity, turn, will, &left);
        }
        let rest = (!left.is_in_queues()).then(|| Box::new(left) as Box<dyn Leftover>);
        core.disown(turn, id, &owner, rest, self.leave_expiry())
    }

    /// Publishes the will of a session that lives on, or schedules it.
    pub(super) fn send_will(
        &self,
        identity: &Identity<H::Core>,
        turn: &mut Turn,
        will: Box<Will>,
        left: &Left<H::Core>,
    ) {
        let (core, exchange) = (&identity.core, self.outlet.exchange());
        if will.delay_ms > 0
            && let Some(scheduled) = will.publish_later(core, turn, exchange, self.leave_expiry())
        {
            left.set_scheduled(will, scheduled);
        } else {
            will.publish(&**core, turn, exchange);
        }
    }
}
