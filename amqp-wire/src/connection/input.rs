//! Frames to those who handle them: the connection itself or one of its channels.
//!
//! Owns the opening and closing of channels; what a channel does is its own. AMQP 0-9-1 §2.2.4,
//! classes connection and channel.

use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::{Connection, Phase};
use crate::channel::{Channel, decode_method, not_open};
use crate::failure::Failure;
use crate::frame::{Frame, FrameError, FrameKind};
use crate::method::{
    ChannelCloseOk, ChannelOpen, ChannelOpenOk, ClientMethod, ConnectionCloseOk, MethodError,
    MethodId, ServerMethod,
};

impl Connection {
    /// Handles a frame; says how many bytes of the input behind it were taken too.
    pub(super) fn handle_frame(
        &mut self,
        turn: &mut Turn,
        frame: &Frame<'_>,
        rest: &[u8],
    ) -> usize {
        if let Phase::Closing { .. } = self.phase {
            self.handle_closing_frame(frame);
            return 0;
        }
        let handled = if frame.channel == 0 {
            self.handle_connection_frame(turn, frame).map(|()| 0)
        } else if self.phase == Phase::Open {
            self.handle_channel_frame(turn, frame, rest)
        } else {
            Err(Failure::unexpected_frame(frame))
        };
        handled.unwrap_or_else(|failure| {
            self.fail(turn, frame.channel, &failure);
            0
        })
    }

    /// The input cannot be cut into frames any more.
    pub(super) fn handle_bad_frame(&mut self, turn: &mut Turn, error: FrameError, input: &[u8]) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            self.fail(turn, 0, &Failure::bad_frame(error, input));
        }
        if let Phase::Closing { deaf } = &mut self.phase {
            *deaf = true;
        }
    }

    fn handle_connection_frame(
        &mut self,
        turn: &mut Turn,
        frame: &Frame<'_>,
    ) -> Result<(), Failure> {
        match frame.kind {
            FrameKind::Heartbeat if frame.payload.is_empty() => return Ok(()),
            FrameKind::Heartbeat => return Err(Failure::unknown_frame(frame)),
            FrameKind::Method => {}
            _ => return Err(Failure::unexpected_frame(frame)),
        }
        let method = decode_method(frame).map_err(|failure| self.of_server(frame, failure))?;
        match (self.phase, method) {
            (Phase::ExpectStartOk, ClientMethod::ConnectionStartOk(method)) => {
                self.handle_start_ok(turn, &method)
            }
            (Phase::ExpectTuneOk, ClientMethod::ConnectionTuneOk(method)) => {
                self.handle_tune_ok(method)
            }
            (Phase::ExpectOpen, ClientMethod::ConnectionOpen(method)) => self.handle_open(&method),
            (_, ClientMethod::ConnectionClose(method)) => {
                self.handle_close_method(turn, &method);
                Ok(())
            }
            (Phase::Open, ClientMethod::ConnectionUpdateSecret(method)) => {
                self.handle_update_secret(&method)
            }
            (phase, method) => Err(unexpected_method(phase, method.id())),
        }
    }

    /// What only a server sends has no place in any state of the connection.
    fn of_server(&self, frame: &Frame<'_>, failure: Failure) -> Failure {
        match ClientMethod::decode(frame.payload) {
            Err(MethodError::WrongDirection { id }) => unexpected_method(self.phase, id),
            _ => failure,
        }
    }

    fn handle_channel_frame(
        &mut self,
        turn: &mut Turn,
        frame: &Frame<'_>,
        rest: &[u8],
    ) -> Result<usize, Failure> {
        let Some(session) = self.session.as_deref_mut() else {
            return Err(Failure::unexpected_frame(frame));
        };
        let Some(channel) = self.channels.get_mut(&frame.channel) else {
            return self.open_channel(frame).map(|()| 0);
        };
        if channel.closing {
            self.handle_closing_channel(frame);
            return Ok(0);
        }
        if frame.kind == FrameKind::Method
            && let Some(id) = frame.payload.first_chunk()
        {
            if !channel.is_assembling() && *id == ChannelOpen::ID.to_be_bytes() {
                let text = "second 'channel.open' seen";
                return Err(Failure::new(ReplyCode::ChannelError, text, ChannelOpen::ID));
            }
            if !channel.is_assembling() && *id == CLOSE {
                decode_method(frame)?;
                channel.end(session, turn);
                self.channels.remove(&frame.channel);
                session.link.channel_close();
                let answer = ServerMethod::ChannelCloseOk(ChannelCloseOk {});
                session.reply(frame.channel, answer);
                return Ok(0);
            }
        }
        channel.handle_frame(session, turn, frame, rest)
    }

    /// The first frame on a channel.
    fn open_channel(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        if frame.kind == FrameKind::Heartbeat {
            return Err(Failure::unexpected_frame(frame));
        }
        if frame.kind != FrameKind::Method {
            return Err(Failure::no_method());
        }
        let method = decode_method(frame)?;
        let ClientMethod::ChannelOpen(_) = method else {
            return Err(not_open(method.id()));
        };
        let (open, max) = (self.channels.len(), self.channel_max);
        // RabbitMQ: how many there are counts, not which number one has; 0 is no limit.
        if max > 0 && open >= usize::from(max) {
            let text = format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({max})"
            );
            return Err(Failure::new(ReplyCode::NotAllowed, text, ChannelOpen::ID));
        }
        if let Some(session) = &self.session {
            let place = session.link.channel_open();
            place.map_err(|refusal| Failure::of(ChannelOpen::ID, refusal))?;
        }
        self.channels
            .insert(frame.channel, Box::new(Channel::new(frame.channel)));
        self.outlet.add_channel(frame.channel);
        if let Some(session) = &mut self.session {
            let answer = ServerMethod::ChannelOpenOk(ChannelOpenOk::default());
            session.reply(frame.channel, answer);
        }
        Ok(())
    }

    /// A channel that the server closed hears nothing but the client's consent.
    // AMQP 0-9-1, channel.close: after sending it, any received methods except close and
    // close-ok must be discarded.
    fn handle_closing_channel(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match ClientMethod::decode(frame.payload) {
            Ok(ClientMethod::ChannelCloseOk(_)) => {
                self.channels.remove(&frame.channel);
                if let Some(session) = &self.session {
                    session.link.channel_close();
                }
            }
            Ok(ClientMethod::ChannelClose(_)) => {
                if let Some(session) = &mut self.session {
                    let answer = ServerMethod::ChannelCloseOk(ChannelCloseOk {});
                    session.reply(frame.channel, answer);
                }
            }
            _ => {}
        }
    }

    /// After `connection.close`, only the client's consent matters, or its own wish to close.
    // AMQP 0-9-1, connection.close: after sending it, any received methods except close and
    // close-ok must be discarded.
    fn handle_closing_frame(&mut self, frame: &Frame<'_>) {
        if frame.channel != 0 || frame.kind != FrameKind::Method {
            return;
        }
        match ClientMethod::decode(frame.payload) {
            Ok(ClientMethod::ConnectionCloseOk(_)) => self.phase = Phase::Closed,
            Ok(ClientMethod::ConnectionClose(_)) => {
                let answer = ServerMethod::ConnectionCloseOk(ConnectionCloseOk {});
                self.outlet.append(|out| answer.encode(0, out));
                self.phase = Phase::Closed;
            }
            _ => return,
        }
        self.deadline = None;
    }
}

fn unexpected_method(phase: Phase, method: MethodId) -> Failure {
    let state = match phase {
        Phase::ExpectStartOk => "starting",
        Phase::ExpectTuneOk => "tuning",
        Phase::ExpectOpen => "opening",
        _ => "running",
    };
    let text = format!("unexpected method in connection state {state}");
    Failure::new(ReplyCode::ChannelError, text, method)
}

/// The ids that begin a `channel.close`.
const CLOSE: [u8; 4] = crate::method::ChannelClose::ID.to_be_bytes();
