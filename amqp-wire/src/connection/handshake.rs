//! From the first byte to `connection.open-ok`: protocol header, login, tuning, vhost.
//!
//! Owns what the server says of itself and what it agrees to; whether a login is right is decided
//! elsewhere. AMQP 0-9-1 §4.2.2 and §2.2.4.

use leveret_core::field::{RawTable, Table, Value, ValueRef};
use leveret_core::login::{Credentials, Request, Verdict};
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::{Capabilities, Connection, Phase};
use crate::failure::Failure;
use crate::limits::{FRAME_MIN_BYTES, REFUSED_SILENCE_MS};
use crate::method::{
    ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionStartOk, ConnectionTune,
    ConnectionTuneOk, LongString, MethodId, ServerMethod,
};
use crate::options::Mechanism;
use crate::outlet::Stage;
use crate::session::Session;

impl Connection {
    /// The protocol header; says how many bytes were taken.
    pub(super) fn handle_header(&mut self, input: &[u8]) -> usize {
        let known = HEADERS.iter().any(|header| input.starts_with(header));
        if known {
            self.start();
            return HEADER.len();
        }
        if HEADERS.iter().any(|header| header.starts_with(input)) {
            return 0;
        }
        // AMQP 0-9-1 §4.2.2: the server answers what it does not speak with the header of what
        // it does, and closes.
        tracing::warn!(
            connection = self.id,
            peer = %self.outlet.accepted().peer,
            first_bytes = ?&input[..input.len().min(HEADER.len())],
            "no AMQP 0-9-1 protocol header"
        );
        self.outlet.append(|out| out.extend_from_slice(&HEADER));
        self.phase = Phase::Closed;
        self.deadline = None;
        self.why = Some("no AMQP 0-9-1 protocol header".into());
        input.len()
    }

    fn start(&mut self) {
        let names: Vec<_> = self
            .node
            .options
            .mechanisms
            .iter()
            .map(|held| held.name())
            .collect();
        let mechanisms = names.join(" ");
        let properties = server_properties();
        let method = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: RawTable::parse(&properties).unwrap_or_default(),
            mechanisms: LongString(mechanisms.as_bytes()),
            locales: LongString(b"en_US"),
        };
        self.outlet
            .append(|out| ServerMethod::ConnectionStart(method).encode(0, out));
        self.phase = Phase::ExpectStartOk;
    }

    pub(super) fn handle_start_ok(
        &mut self,
        turn: &mut Turn,
        method: &ConnectionStartOk<'_>,
    ) -> Result<(), Failure> {
        self.capabilities = Capabilities::of(method.client_properties);
        let invalid = |text| Failure::new(ReplyCode::CommandInvalid, text, ConnectionStartOk::ID);
        let name = method.mechanism;
        let mechanism = Mechanism::named(name);
        let Some(mechanism) = mechanism.filter(|held| self.node.options.mechanisms.contains(held))
        else {
            let known = mechanism.is_some() || name == EXTERNAL;
            let which = if known { "invalid" } else { "unknown" };
            let text = format!("{which} authentication mechanism '{name}'");
            return Err(invalid(text));
        };
        self.mechanism = mechanism.name();
        self.outlet.tell(|facts| {
            facts.mechanism = mechanism.name();
            facts.client_properties = method.client_properties.to_table();
        });
        let malformed = || {
            let text = format!("response to {name} is malformed");
            Failure::new(ReplyCode::SyntaxError, text, ConnectionStartOk::ID)
        };
        let credentials = match mechanism {
            Mechanism::Plain => plain(method.response.0).ok_or_else(malformed)?,
            Mechanism::AmqPlain => amq_plain(method.response.0).ok_or_else(malformed)?,
            Mechanism::Anonymous => {
                let Some(login) = &self.node.options.anonymous_login else {
                    self.refuse_login(turn, "anonymous logins are switched off");
                    return Ok(());
                };
                Credentials {
                    user: login.user.as_str().into(),
                    password: login.pass.reveal().as_bytes().into(),
                }
            }
        };
        self.user.clone_from(&credentials.user);
        self.request = Some(Box::new(Request::Login(credentials)));
        self.phase = Phase::AwaitLogin;
        Ok(())
    }

    pub(super) fn handle_verdict(&mut self, turn: &mut Turn, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => {}
            Verdict::Refused => return self.refuse_login(turn, "invalid credentials"),
            Verdict::Unavailable => return self.refuse_login(turn, "too many logins at once"),
        }
        if let Err(refusal) = self.node.broker.check_loopback(&self.user, self.peer_ip()) {
            return self.refuse_login(turn, &refusal.text);
        }
        tracing::info!(
            connection = self.id,
            peer = %self.outlet.accepted().peer,
            user = &*self.user,
            mechanism = self.mechanism,
            "user authenticated"
        );
        self.outlet.tell(|facts| facts.user.clone_from(&self.user));
        let options = &self.node.options;
        let method = ConnectionTune {
            channel_max: options.channel_max,
            frame_max: options.frame_max,
            heartbeat: options.heartbeat_s,
        };
        self.outlet
            .append(|out| ServerMethod::ConnectionTune(method).encode(0, out));
        self.phase = Phase::ExpectTuneOk;
    }

    /// The client may not come in. Why stands in the log alone.
    fn refuse_login(&mut self, turn: &mut Turn, why: &str) {
        tracing::warn!(
            connection = self.id,
            peer = %self.outlet.accepted().peer,
            user = &*self.user,
            mechanism = self.mechanism,
            reason = why,
            "login refused"
        );
        self.why = Some("login refused".into());
        if self.capabilities.authentication_failure_close {
            let text = format!(
                "Login was refused using authentication mechanism {}. For details see the broker \
                 logfile.",
                self.mechanism
            );
            let code = ReplyCode::AccessRefused;
            self.fail_connection(turn, &Failure::new(code, text, MethodId::default()));
            return;
        }
        // AMQP 0-9-1 has no word for it: such a client only finds the stream closed, late enough
        // that guessing is slow.
        self.phase = Phase::Silent;
        self.deadline = Some(self.now.after_ms(REFUSED_SILENCE_MS));
    }

    pub(super) fn handle_tune_ok(&mut self, method: ConnectionTuneOk) -> Result<(), Failure> {
        let options = &self.node.options;
        check_tuned(
            "frame_max",
            method.frame_max,
            FRAME_MIN_BYTES,
            options.frame_max,
        )?;
        let channel_max = u32::from(method.channel_max);
        check_tuned("channel_max", channel_max, 1, options.channel_max.into())?;
        self.frame_max = method.frame_max;
        self.channel_max = method.channel_max;
        self.heart.start(method.heartbeat, self.now);
        self.outlet.set_frame_max(method.frame_max);
        self.outlet.tell(|facts| {
            facts.channel_max = method.channel_max;
            facts.heartbeat_s = method.heartbeat;
        });
        self.phase = Phase::ExpectOpen;
        Ok(())
    }

    pub(super) fn handle_open(&mut self, method: &ConnectionOpen<'_>) -> Result<(), Failure> {
        let vhost = method.virtual_host;
        let broker = &self.node.broker;
        let link = broker
            .open_vhost(self.id, &self.user, vhost, None, self.peer_ip())
            .map_err(|refusal| Failure::of(ConnectionOpen::ID, refusal))?;
        let (outlet, bell) = (self.outlet.clone(), self.bell.clone());
        let options = &self.node.options;
        let mut session = Session::new(link, outlet, bell, self.frame_max, options);
        session.reply(
            0,
            ServerMethod::ConnectionOpenOk(ConnectionOpenOk::default()),
        );
        self.session = Some(Box::new(session));
        self.outlet.tell(|facts| {
            facts.vhost = vhost.into();
            facts.state = Stage::Running;
        });
        self.phase = Phase::Open;
        self.deadline = None;
        tracing::info!(
            connection = self.id,
            user = &*self.user,
            vhost,
            "opened vhost"
        );
        Ok(())
    }
}

impl Capabilities {
    fn of(client_properties: RawTable<'_>) -> Self {
        let Some(ValueRef::Table(said)) = client_properties.lookup("capabilities") else {
            return Self::default();
        };
        let can = |name| said.lookup(name) == Some(ValueRef::Bool(true));
        Self {
            authentication_failure_close: can("authentication_failure_close"),
            consumer_cancel_notify: can("consumer_cancel_notify"),
            connection_blocked: can("connection.blocked"),
        }
    }
}

/// What the server says of itself: only what is true.
fn server_properties() -> Vec<u8> {
    let mut capabilities = Table::new();
    for name in CAPABILITIES {
        // Our own names are far below the limit of 255 bytes.
        let _ = capabilities.insert(name, Value::Bool(true));
    }
    let mut properties = Table::new();
    let _ = properties.insert("capabilities", Value::Table(capabilities));
    for (name, text) in PROPERTIES {
        let _ = properties.insert(name, text.into());
    }
    let mut bytes = Vec::new();
    // Two levels of short texts always fit.
    let _ = properties.encode(&mut bytes);
    bytes
}

/// RFC 4616: an identity to act as, which RabbitMQ ignores too, the user and the password.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    credentials(user, password)
}

/// A field table without its length, with `LOGIN` and `PASSWORD` in it.
fn amq_plain(response: &[u8]) -> Option<Credentials> {
    let table = RawTable::parse(response).ok()?;
    match (table.lookup("LOGIN")?, table.lookup("PASSWORD")?) {
        (ValueRef::LongString(user), ValueRef::LongString(password)) => credentials(user, password),
        _ => None,
    }
}

fn credentials(user: &[u8], password: &[u8]) -> Option<Credentials> {
    Some(Credentials {
        user: std::str::from_utf8(user).ok()?.into(),
        password: password.into(),
    })
}

/// Whether the client's value is one that was offered; 0 is no limit, which it may have only where
/// the server has none.
fn check_tuned(what: &str, value: u32, min: u32, max: u32) -> Result<(), Failure> {
    let text = if value > 0 && value < min {
        format!("negotiated {what} = {value} is lower than the minimum allowed value ({min})")
    } else if max > 0 && (value == 0 || value > max) {
        format!("negotiated {what} = {value} is higher than the maximum allowed value ({max})")
    } else {
        return Ok(());
    };
    Err(Failure::new(
        ReplyCode::NotAllowed,
        text,
        ConnectionTune::ID,
    ))
}

/// The mechanism of client certificates: a name that is known, and never offered without TLS.
const EXTERNAL: &str = "EXTERNAL";

/// AMQP 0-9-1 §4.2.2.
const HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The headers that are taken: the specification's, and that of 0-9 clients as RabbitMQ does.
const HEADERS: [[u8; 8]; 2] = [HEADER, *b"AMQP\x01\x01\x00\x09"];

/// What clients may rely on.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// The rest of the server-properties.
///
/// `product` and `version` are what clients decide by: kombu, and with it Celery, takes any other
/// product to change a running consumer's window by basic.qos, which RabbitMQ never did.
const PROPERTIES: [(&str, &str); 7] = [
    ("cluster_name", "leveret"),
    ("copyright", "The Leveret authors"),
    ("information", "Licensed under MIT or Apache-2.0"),
    ("platform", "Rust"),
    ("product", "RabbitMQ"),
    ("version", "4.3.0"),
    ("leveret_version", env!("CARGO_PKG_VERSION")),
];
