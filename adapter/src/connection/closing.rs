//! How a connection ends, and what it leaves: the reason that the client is told, its session, its
//! will.

use std::sync::Arc;

use leveret_core::claims::{Leftover, Owner};
use leveret_core::events::What;
use leveret_core::peer::CloseReason;
use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;

use super::{Connection, State};
use crate::codec::PacketType;
use crate::outlet::{Identity, Leaving, Order, Out, Parting};
use crate::packet::{connack, disconnect};
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;
use crate::session::{self, Left};
use crate::violation::Violation;
use crate::will::Will;

/// What the client of a connection that others want closed is told; `None`: it is over already.
fn ending(order: &Order) -> Option<Ending> {
    let (code, text) = match order {
        // [MQTT-3.1.4-3]
        Order::Evicted => (
            ReasonCode::SessionTakenOver,
            "another connection has come with the same client id".into(),
        ),
        Order::Close(CloseReason::Shutdown | CloseReason::PluginDisabled) => (
            ReasonCode::ServerShuttingDown,
            "the broker stops serving MQTT".into(),
        ),
        Order::Close(CloseReason::Administrator(words)) => (
            ReasonCode::AdministrativeAction,
            format!("an administrator closed the connection: {words}").into(),
        ),
        Order::Close(CloseReason::VHostDeleted(vhost)) => (
            ReasonCode::AdministrativeAction,
            format!("virtual host '{vhost}' was deleted").into(),
        ),
        Order::Close(CloseReason::DiskFailed) => (
            ReasonCode::AdministrativeAction,
            "the broker cannot write to its disk".into(),
        ),
        Order::QueueGone => (
            ReasonCode::UnspecifiedError,
            "a queue of the session was deleted".into(),
        ),
        Order::Over(_) => return None,
    };
    Some(Ending { code, text })
}

/// CONNACK with a failure ([MQTT-3.2.2-7]), unless the client takes no packet so large.
pub(super) fn say_refused(out: &mut Out, ending: &Ending) {
    let (terms, version) = (out.terms, out.version);
    let mut properties = Vec::new();
    let told = (ending.code, &*ending.text);
    reason::add(
        &terms,
        version,
        PacketType::ConnAck,
        2,
        &mut properties,
        told,
    );
    if !version.is_v5() || reason::has_room(&terms, 3) {
        // A Reason String has a limit: it always fits.
        let _ = connack::encode(&mut out.buf, version, false, ending.code, &properties);
    }
}

/// DISCONNECT with a reason, which only 5.0 has.
// [MQTT-3.14.0-1], [MQTT-3.14.4-1]
fn say_goodbye(out: &mut Out, ending: &Ending) {
    let (terms, version) = (out.terms, out.version);
    if !version.is_v5() {
        return;
    }
    let mut properties = Vec::new();
    let told = (ending.code, &*ending.text);
    reason::add(
        &terms,
        version,
        PacketType::Disconnect,
        1,
        &mut properties,
        told,
    );
    // A Reason String has a limit: it always fits.
    let _ = disconnect::encode(&mut out.buf, version, ending.code, &properties);
}

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
        let Some(ending) = ending(order) else {
            return;
        };
        tracing::info!(peer = %self.outlet.accepted.peer, ?order, "closing MQTT connection");
        self.close(Some(ending));
    }

    /// CONNACK with a failure ([MQTT-3.2.2-7]), then close.
    pub(super) fn refuse(&mut self, ending: &Ending) {
        say_refused(&mut self.outlet.lock(), ending);
        self.will_due = false;
        self.state = State::OVER;
    }

    /// The peer broke a rule: it is told, where the version can, and closed.
    pub(super) fn violated(&mut self, violation: &Violation) {
        let peer = self.outlet.accepted.peer;
        tracing::warn!(%peer, %violation, "MQTT protocol violation: closing the connection");
        match self.state {
            State::Active(_) => self.close(Some(Ending::from(violation))),
            _ => {
                if let Some(version) = violation.connack_version() {
                    self.outlet.lock().version = version;
                    // What it understands of a later version is not known: nothing but the code.
                    self.refuse(&Ending::new(violation.reason_code(), ""));
                } else {
                    // 3.1.1 [MQTT-3.2.2-6]
                    self.close(None);
                }
            }
        }
    }

    /// Says DISCONNECT with a reason to a 5.0 client ([MQTT-4.13.1-1]), and closes.
    pub(super) fn close(&mut self, ending: Option<Ending>) {
        if let (State::Active(_), Some(ending)) = (&self.state, &ending) {
            say_goodbye(&mut self.outlet.lock(), ending);
        }
        self.forget_alarms();
        // [MQTT-3.14.4-2], [MQTT-4.13.2-1]
        // From now on nothing is delivered here: no PUBLISH follows the DISCONNECT.
        let mut out = self.outlet.lock();
        out.order
            .get_or_insert_with(|| Box::new(Order::Over(ending)));
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
        self.outlet.tell(turn.now, || self.disconnected());
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

    /// Why it is over, for whoever listens.
    fn disconnected(&self) -> What {
        let order = self.outlet.lock().order.clone();
        let ending = match order.as_deref() {
            Some(Order::Over(ending)) => ending.clone(),
            Some(order) => ending(order),
            None => None,
        };
        let (code, reason) = match ending {
            Some(Ending { code, text }) => (code as u8, text.into()),
            None if !self.left => (LOST, "the connection was lost".into()),
            None if self.will_due => (
                ReasonCode::DisconnectWithWillMessage as u8,
                "the client disconnected, and wants its will published".into(),
            ),
            None => (0, "the client disconnected".into()),
        };
        What::Disconnected { code, reason }
    }

    /// Leaves or ends the session. What comes back is for a successor that has the claim already.
    pub(super) fn leave(
        &self,
        identity: &Identity<H::Core>,
        turn: &mut Turn,
        mut parting: Parting,
    ) -> Option<Box<dyn Leftover>> {
        let will = parting.will.take().filter(|_| self.will_due);
        let asked = identity.clean() || self.leave_expiry() == Some(0);
        let over = asked && !self.node.options.is_balanced();
        let ends = self.started && (over || !identity.core.has_user());
        let exchange = self.outlet.exchange();
        let left = session::leave(identity, exchange, ends, turn, parting);
        let owner = Arc::clone(&self.outlet) as Arc<dyn Owner>;
        let (core, id) = (&identity.core, identity.claim());
        // What a further connection leaves is the first one's, or nobody's.
        if ends || identity.further.get().is_some() {
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
    // [MQTT-3.1.2-10], 3.1.1 [MQTT-3.1.2-12]
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

/// What events tell of a connection that ended without a word.
const LOST: u8 = ReasonCode::UnspecifiedError as u8;
