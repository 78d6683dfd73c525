//! What an alarm of the broker does to a connection that publishes: it is not read any further
//! until the alarm is cleared.
//!
//! Owns when a connection is blocked and what its client is told. RabbitMQ's extension of class
//! connection: blocked, unblocked.
//!
//! ```text
//! running ──publishes while an alarm is set──▶ blocked: nothing is read, heartbeats are sent
//!    ▲                                            │
//!    └───────────── no alarm is set ──────────────┘
//! ```

use super::Connection;
use crate::method::{ConnectionBlocked, ConnectionUnblocked, ServerMethod};
use crate::outlet::Stage;

impl Connection {
    /// Blocks a connection that has published while an alarm is set, and lets it go on when none
    /// is. A client that only consumes never gets here.
    pub(super) fn look_at_alarms(&mut self) {
        let Some(session) = self.session.as_deref_mut() else {
            return;
        };
        if !session.met_alarm {
            return;
        }
        let alarms = self.node.broker.alarms();
        // Asked each time: an alarm that was cleared may be set again before this one looks.
        let waits = alarms.wait(self.id, &self.bell);
        let told = self.capabilities.connection_blocked;
        if waits && !self.blocked {
            self.blocked = true;
            self.outlet.tell(|facts| facts.state = Stage::Blocked);
            if told {
                let reason = alarms.reason().unwrap_or_default();
                session.reply(
                    0,
                    ServerMethod::ConnectionBlocked(ConnectionBlocked { reason }),
                );
            }
        }
        if waits {
            return;
        }
        session.met_alarm = false;
        if session.replay.is_some() {
            self.outlet.look_again();
        }
        if std::mem::take(&mut self.blocked) {
            self.outlet.tell(|facts| facts.state = Stage::Running);
            // Nobody has listened for it meanwhile.
            self.heart.received(self.now);
            if told {
                session.reply(0, ServerMethod::ConnectionUnblocked(ConnectionUnblocked {}));
            }
        }
    }

    /// The connection ends: it waits for no alarm.
    pub(super) fn forget_alarms(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.node.broker.alarms().leave(self.id);
        }
    }
}
