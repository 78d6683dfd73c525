//! Enhanced authentication: the exchange that a client asks for by naming a method in CONNECT, and
//! its repetition while the connection is used. OASIS MQTT 5.0 §4.12; the messages are those of
//! SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! ```text
//!             CONNECT or AUTH 0x19 without data
//!                         │ AUTH 0x18, no data
//!                         ▼
//!              ┌──── Invited ◀──────────────── Agreed ◀──────────────┐
//!   AUTH 0x18: │ client first      CONNECT or   │ (at first: CONNECT;│
//!              ▼                   AUTH 0x19    │  then CONNACK 0x00 │
//!            Asked ◀─── with client first ──────┘  or AUTH 0x00)     │
//!              │ the backend's challenge: AUTH 0x18, server first    │
//!              ▼                                                     │
//!          Challenged ──── AUTH 0x18: client last, and it is right ──┘
//!
//!   anything else: CONNACK 0x82, 0x86 or 0x95 before the login, DISCONNECT 0x82, 0x87 or 0x95
//!   after it, and closed
//! ```
//!
//! Owns the order of the messages and the method's name; must never know a key. The same stages
//! serve a login and a re-authentication: what differs is what success and failure are told by.

use std::sync::Arc;

use leveret_core::login::scram::{ClientFirst, Malformed};
use leveret_core::login::{Challenge, Judge, Opening, Request, Verdict};
use leveret_core::seam::{Core, Host};
use leveret_core::turn::Turn;

use super::closing::say_refused;
use super::login::{PendingLogin, Refused, bad_credentials, choose};
use super::{Active, Connection, State};
use crate::codec::{FixedHeader, PacketType};
use crate::handle::Next;
use crate::limits::SCRAM_PROOF_BYTES;
use crate::node::Node;
use crate::outlet::{Out, Outlet};
use crate::packet::auth::{self, Auth};
use crate::packet::{self, ClientPacket, ProtocolVersion};
use crate::property::{self, Property};
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;

/// The one method that is served.
pub(super) const METHOD: &str = "SCRAM-SHA-256";

/// Where an exchange stands.
#[derive(Default)]
pub(crate) enum Stage {
    /// Nothing is under way.
    #[default]
    Agreed,
    /// The client's first message is awaited.
    Invited,
    /// The backend's challenge is awaited; the request is there until somebody takes it.
    Asked(Option<Request>),
    /// The client's last message is awaited.
    Challenged(Box<dyn Judge>),
}

/// What an AUTH of the client comes to.
enum Step {
    /// An answer is on its way, or will be when the backend has answered.
    Wait,
    /// The client has proved itself, and this proves the server.
    Proved(Box<[u8]>),
}

impl Stage {
    /// What the backend is to be asked.
    pub(super) fn take_request(&mut self) -> Option<Request> {
        match self {
            Self::Asked(request) => request.take(),
            _ => None,
        }
    }

    /// Whether it is the client's turn.
    fn awaits_client(&self) -> bool {
        matches!(self, Self::Invited | Self::Challenged(_))
    }
}

/// The properties that an AUTH or a CONNACK of an exchange has: the method ([MQTT-4.12.0-5]), and
/// the message if there is one. Never a Reason String or User Property ([MQTT-3.15.2-2],
/// [MQTT-3.15.2-3]).
pub(super) fn put_properties(out: &mut Vec<u8>, data: Option<&[u8]>) {
    // Our own texts are far below the limit of 65,535 bytes.
    let _ = Property::AuthenticationMethod(METHOD).encode(out);
    if let Some(data) = data {
        let _ = Property::AuthenticationData(data).encode(out);
    }
}

/// What CONNACK is measured with before the proof is known.
pub(super) const PROOF: [u8; SCRAM_PROOF_BYTES] = [0; SCRAM_PROOF_BYTES];

/// Appends an AUTH ([MQTT-4.12.0-2], [MQTT-3.15.2-1]), unless the client takes none so large.
fn say(out: &mut Out, code: ReasonCode, data: Option<&[u8]>) -> Result<(), Ending> {
    let mut properties = Vec::new();
    put_properties(&mut properties, data);
    let bytes = 1 + property::block_len(&properties);
    let fits = reason::has_room(&out.terms, bytes)
        && auth::encode(&mut out.buf, code, &properties).is_ok();
    fits.then_some(()).ok_or_else(|| {
        let why = "AUTH exceeds the client's maximum packet size";
        Ending::new(ReasonCode::PacketTooLarge, why)
    })
}

fn protocol_error(why: &'static str) -> Ending {
    Ending::new(ReasonCode::ProtocolError, why)
}

/// The name in the client's first message.
fn name_of(message: &[u8]) -> Result<String, String> {
    let first = ClientFirst::parse(message).map_err(|why| why.to_string())?;
    Ok(first.name.into_owned())
}

/// Begins the exchange of a CONNECT with a method: with the client's first message, or by asking
/// for it.
pub(super) fn begin<H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    pending: &mut PendingLogin,
    data: Option<&[u8]>,
) -> Result<(), Refused> {
    let Some(message) = data else {
        pending.stage = Some(Stage::Invited);
        let code = ReasonCode::ContinueAuthentication;
        return Ok(say(&mut outlet.lock(), code, None)?);
    };
    open(node, outlet, pending, message)
}

/// The client's first message: it says who the client is, and by that which vhost it wants.
fn open<H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    pending: &mut PendingLogin,
    message: &[u8],
) -> Result<(), Refused> {
    let code = ReasonCode::BadUserNameOrPassword;
    let name = name_of(message).map_err(|why| Refused::new(code, why))?;
    pending.identify(node, outlet, &name)?;
    pending.stage = Some(Stage::Asked(Some(Request::Scram(Opening {
        user: pending.user().into(),
        message: message.into(),
    }))));
    Ok(())
}

impl<H: Host> Connection<H> {
    /// A packet of a client whose exchange is under way before its login. [MQTT-3.1.2-30]: AUTH or
    /// DISCONNECT, and no other.
    pub(super) fn handle_exchange(&mut self, turn: &mut Turn, header: FixedHeader, body: &[u8]) {
        let packet = match header.packet_type {
            PacketType::Auth | PacketType::Disconnect => {
                packet::decode(ProtocolVersion::V5, header, body)
            }
            _ => {
                let why = "only AUTH and DISCONNECT may be sent before CONNACK";
                return self.refuse_exchange(&protocol_error(why));
            }
        };
        let step = match packet {
            Ok(ClientPacket::Auth(auth)) => self.step(&auth),
            // It has given up: nobody waits for an answer.
            Ok(_) => return self.close(None),
            Err(violation) => Err(Ending::from(&violation)),
        };
        match step {
            Ok(Step::Wait) => {}
            Ok(Step::Proved(proof)) => {
                if let State::AwaitLogin(pending) = &mut self.state {
                    pending.proof = Some(proof);
                }
                self.finish_login(turn, Verdict::Accepted);
            }
            // [MQTT-4.12.0-4]
            Err(ending) => self.refuse_exchange(&ending),
        }
    }

    /// One AUTH before the login.
    fn step(&mut self, auth: &Auth<'_>) -> Result<Step, Ending> {
        let State::AwaitLogin(pending) = &mut self.state else {
            return Ok(Step::Wait);
        };
        // [MQTT-4.12.0-3], [MQTT-4.12.0-5]
        if auth.reason != ReasonCode::ContinueAuthentication {
            return Err(protocol_error("AUTH: the exchange is continued with 0x18"));
        }
        if auth.method != METHOD {
            return Err(protocol_error(
                "AUTH: another method than CONNECT has named",
            ));
        }
        let data = auth.data.unwrap_or_default();
        let stage = pending.stage.as_mut().map(std::mem::take);
        let refused = match stage {
            Some(Stage::Invited) => match open(&self.node, &self.outlet, pending, data) {
                Ok(()) => return Ok(Step::Wait),
                Err(refused) => refused,
            },
            Some(Stage::Challenged(judge)) => match judge.judge(data) {
                Some(proof) => return Ok(Step::Proved(proof)),
                None => Refused::from(bad_credentials()),
            },
            _ => protocol_error("AUTH: no message of the client is awaited").into(),
        };
        let (peer, user, why) = (self.outlet.accepted.peer, pending.user(), &*refused.why);
        tracing::warn!(%peer, user, why, "MQTT login refused");
        Err(refused.ending)
    }

    /// The backend's challenge, or why there is none.
    pub(super) fn handle_challenge(&mut self, challenge: Result<Challenge, Malformed>) {
        let stage = match &mut self.state {
            State::AwaitLogin(pending) => pending.stage.as_mut(),
            State::Active(active) => active.stage(),
            _ => None,
        };
        let Some(stage @ Stage::Asked(_)) = stage else {
            return;
        };
        let said = match challenge {
            Ok(Challenge { message, judge }) => {
                *stage = Stage::Challenged(judge);
                let code = ReasonCode::ContinueAuthentication;
                say(&mut self.outlet.lock(), code, Some(&message))
            }
            Err(why) => Err(Ending::new(
                ReasonCode::BadUserNameOrPassword,
                why.to_string(),
            )),
        };
        if let Err(ending) = said {
            self.fail_exchange(ending);
        }
    }

    fn fail_exchange(&mut self, ending: Ending) {
        if let State::Active(_) = &self.state {
            self.close(Some(of_disconnect(ending)));
        } else {
            self.refuse_exchange(&ending);
        }
    }

    fn refuse_exchange(&mut self, ending: &Ending) {
        say_refused(&mut self.outlet.lock(), ending);
        self.will_due = false;
        self.state = State::OVER;
    }

    /// Whether the connection waits for an AUTH of its client before the login.
    pub(super) fn awaits_auth(&self) -> bool {
        match &self.state {
            State::AwaitLogin(pending) => pending.stage.as_ref().is_some_and(Stage::awaits_client),
            _ => false,
        }
    }
}

/// What a client is told that has lost its right to be here: DISCONNECT has no code for a login.
fn of_disconnect(ending: Ending) -> Ending {
    match ending.code {
        ReasonCode::BadUserNameOrPassword => Ending::new(ReasonCode::NotAuthorized, ending.text),
        _ => ending,
    }
}

impl<C: Core> Active<C> {
    /// The stage of its re-authentication, where a method was agreed on.
    pub(super) fn stage(&mut self) -> Option<&mut Stage> {
        self.rare.as_mut()?.stage.as_mut()
    }
}

/// AUTH of a client that is logged in: it proves itself again, while everything else goes on.
pub(super) fn reauthenticate<H: Host>(
    node: &Node<H>,
    outlet: &Arc<Outlet<H::Core>>,
    active: &mut Active<H::Core>,
    auth: &Auth<'_>,
) -> Next {
    match restep(node, outlet, active, auth) {
        Ok(()) => Next::Continue,
        // [MQTT-4.12.1-2]
        Err(ending) => {
            let (peer, why) = (outlet.accepted.peer, &*ending.text);
            tracing::warn!(%peer, why, "MQTT re-authentication failed: closing the connection");
            Next::Close(of_disconnect(ending))
        }
    }
}

fn restep<H: Host>(
    node: &Node<H>,
    outlet: &Arc<Outlet<H::Core>>,
    active: &mut Active<H::Core>,
    auth: &Auth<'_>,
) -> Result<(), Ending> {
    let Some(stage) = active.stage() else {
        // [MQTT-4.12.0-6], [MQTT-4.12.0-7]
        let why = "AUTH: no authentication method was agreed on in CONNECT";
        return Err(protocol_error(why));
    };
    // [MQTT-4.12.1-1]
    if auth.method != METHOD {
        return Err(protocol_error(
            "AUTH: another method than CONNECT has named",
        ));
    }
    let data = auth.data.unwrap_or_default();
    let begins = auth.reason == ReasonCode::ReAuthenticate;
    *stage = match (std::mem::take(stage), begins) {
        (Stage::Agreed, true) if auth.data.is_none() => {
            say(&mut outlet.lock(), ReasonCode::ContinueAuthentication, None)?;
            Stage::Invited
        }
        (Stage::Agreed, true) | (Stage::Invited, false) => {
            Stage::Asked(Some(again(node, outlet, data)?))
        }
        (Stage::Challenged(judge), false) => {
            let proof = judge.judge(data).ok_or_else(bad_credentials)?;
            let peer = outlet.accepted.peer;
            tracing::info!(%peer, "MQTT client re-authenticated");
            say(&mut outlet.lock(), ReasonCode::Success, Some(&proof))?;
            Stage::Agreed
        }
        (_, true) => return Err(protocol_error("AUTH 0x19: an exchange is under way")),
        (_, false) => return Err(protocol_error("AUTH: no message of the client is awaited")),
    };
    Ok(())
}

/// Who is there already proves to be the same user of the same vhost, and nobody else.
fn again<H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    message: &[u8],
) -> Result<Request, Ending> {
    let bad = |why| Ending::new(ReasonCode::BadUserNameOrPassword, why);
    let name = name_of(message).map_err(bad)?;
    let choice = choose(node, outlet, &name);
    let core = outlet.identity.get().map(|identity| &identity.core);
    match (choice, core) {
        (Ok(choice), Some(core)) if choice.user == core.user() && choice.vhost == core.vhost() => {
            Ok(Request::Scram(Opening {
                user: choice.user.into(),
                message: message.into(),
            }))
        }
        _ => {
            let why = "AUTH 0x19: another user than the one who is connected";
            Err(Ending::new(ReasonCode::NotAuthorized, why))
        }
    }
}
