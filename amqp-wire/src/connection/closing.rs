//! The ends of channels and connections, whoever wants them.
//!
//! Owns what is given back to the vhost and what the client is told, in that order: who hears
//! that a connection is closed finds its exclusive queues gone. AMQP 0-9-1, `connection.close`
//! and `channel.close`.

use leveret_core::peer::CloseReason;
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::{Connection, Phase};
use crate::channel::pull_for;
use crate::failure::Failure;
use crate::limits::{CLOSE_OK_WAIT_MS, STREAM_LEFT_MS};
use crate::method::{ChannelClose, ConnectionClose, ConnectionCloseOk, MethodId, ServerMethod};
use crate::outlet::Stage;

impl Connection {
    /// A frame on `channel` failed: the channel or the connection is closed.
    pub(super) fn fail(&mut self, turn: &mut Turn, channel: u16, failure: &Failure) {
        tracing::warn!(
            connection = self.id,
            peer = %self.outlet.accepted().peer,
            user = &*self.user,
            channel,
            method = %failure.method,
            "{}",
            failure.refusal
        );
        // AMQP 0-9-1 §1.2: a soft error on channel 0 has nothing smaller to close.
        if channel == 0 || !failure.is_soft() || !self.fail_channel(turn, channel, failure) {
            self.fail_connection(turn, failure);
        }
    }

    /// `false` if there is no such channel.
    fn fail_channel(&mut self, turn: &mut Turn, id: u16, failure: &Failure) -> bool {
        let (Some(session), Some(channel)) =
            (self.session.as_deref_mut(), self.channels.get_mut(&id))
        else {
            return false;
        };
        channel.end(session, turn);
        channel.closing = true;
        let refusal = &failure.refusal;
        let method = ChannelClose {
            reply_code: refusal.code.number(),
            reply_text: &refusal.code.text(&refusal.text),
            class_id: failure.method.class,
            method_id: failure.method.method,
        };
        session.reply(id, ServerMethod::ChannelClose(method));
        true
    }

    /// Closes the connection and waits for the client's consent.
    pub(super) fn fail_connection(&mut self, turn: &mut Turn, failure: &Failure) {
        self.release(turn);
        let refusal = &failure.refusal;
        let text = refusal.code.text(&refusal.text);
        let method = ConnectionClose {
            reply_code: refusal.code.number(),
            reply_text: &text,
            class_id: failure.method.class,
            method_id: failure.method.method,
        };
        self.outlet
            .append(|out| ServerMethod::ConnectionClose(method).encode(0, out));
        self.phase = Phase::Closing { deaf: false };
        self.deadline = Some(self.now.after_ms(CLOSE_OK_WAIT_MS));
        self.why.get_or_insert_with(|| text.into());
    }

    /// The client closes the connection.
    pub(super) fn handle_close_method(&mut self, turn: &mut Turn, method: &ConnectionClose<'_>) {
        let was_open = self.phase == Phase::Open;
        self.release(turn);
        let answer = ServerMethod::ConnectionCloseOk(ConnectionCloseOk {});
        self.outlet.append(|out| answer.encode(0, out));
        if !was_open {
            return self.end(turn, "client closed before connection.open");
        }
        // The stream is the client's to close: one that finds it closed may take that for an
        // error.
        self.phase = Phase::Closing { deaf: true };
        self.deadline = Some(self.now.after_ms(STREAM_LEFT_MS));
        self.why.get_or_insert_with(|| {
            format!("client: {} {}", method.reply_code, method.reply_text).into()
        });
    }

    /// The broker wants the connection to end.
    pub(super) fn close(&mut self, turn: &mut Turn, why: &CloseReason) {
        let text: Box<str> = match why {
            CloseReason::Shutdown => {
                "broker forced connection closure with reason 'shutdown'".into()
            }
            CloseReason::Administrator(text) => text.clone(),
            CloseReason::VHostDeleted(vhost) => format!("vhost '{vhost}' is deleted").into(),
            CloseReason::PluginDisabled => "the listener's plugin was disabled".into(),
            CloseReason::DiskFailed => "definitions cannot be written any more".into(),
        };
        match self.phase {
            Phase::Closing { deaf: false } | Phase::Closed => {}
            Phase::Closing { deaf: true } => self.end(turn, text),
            // Nothing was agreed on yet, or nothing may be said.
            Phase::ExpectHeader | Phase::Silent => self.end(turn, text),
            _ => {
                let code = match why {
                    CloseReason::DiskFailed => ReplyCode::InternalError,
                    _ => ReplyCode::ConnectionForced,
                };
                self.fail_connection(turn, &Failure::new(code, text, MethodId::default()));
            }
        }
    }

    /// Something that may not last has lasted too long.
    pub(super) fn handle_deadline(&mut self, turn: &mut Turn) {
        self.deadline = None;
        let why = match self.phase {
            Phase::Closed | Phase::Open => return,
            Phase::Closing { .. } => "no connection.close-ok from client",
            Phase::Silent => "login refused",
            _ => {
                tracing::warn!(
                    connection = self.id,
                    peer = %self.outlet.accepted().peer,
                    phase = ?self.phase,
                    "handshake timeout"
                );
                "handshake timeout"
            }
        };
        self.end(turn, why);
    }

    /// The connection is over; what is in the out-buffer is still sent.
    pub(super) fn end(&mut self, turn: &mut Turn, why: impl Into<Box<str>>) {
        self.release(turn);
        self.phase = Phase::Closed;
        self.deadline = None;
        self.why.get_or_insert_with(|| why.into());
    }

    /// Gives back everything that the connection has in its vhost.
    pub(super) fn release(&mut self, turn: &mut Turn) {
        self.request = None;
        self.forget_alarms();
        self.outlet.tell(|facts| facts.state = Stage::Closing);
        let Some(mut session) = self.session.take() else {
            return;
        };
        // None of its channels may get what another one gives back.
        let mut successors = Vec::new();
        for channel in self.channels.values_mut() {
            successors.append(&mut channel.stop_consuming(&mut session, turn));
        }
        for (_, mut channel) in self.channels.drain() {
            channel.give_all_back(&mut session, turn);
        }
        pull_for(turn, successors);
        session.link.close(turn);
    }
}
