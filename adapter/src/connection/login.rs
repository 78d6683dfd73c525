//! From CONNECT to CONNACK: credentials, vhost, login, client id, session. Checks come in
//! RabbitMQ's order.

use std::hash::BuildHasher;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::{Arc, OnceLock};

use leveret_core::events::{Client, Event, What};
use leveret_core::exchange::Memo;
use leveret_core::identity::Reserved;
use leveret_core::key::Form;
use leveret_core::login::{Credentials, Request, Verdict};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::seam::{Core, Host};
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use super::auth::{self, Stage};
use super::authority::read_again;
use super::closing::say_refused;
use super::{Active, Held, Rare, State};
use crate::codec::FixedHeader;
use crate::flow::Terms;
use crate::handle::topic_too_deep;
use crate::node::Node;
use crate::options::Options;
use crate::outlet::{Identity, Outlet};
use crate::packet::connect::{self, Connect};
use crate::packet::{self, ProtocolVersion, QoS, connack};
use crate::property::{self, Property};
use crate::reason::{self, Ending};
use crate::reason_code::ReasonCode;
use crate::session::{self, Wish};
use crate::vhost_choice::{self, Choice, Pinned, Rule};
use crate::violation::Violation;
use crate::will::Will;

/// A CONNECT that waits for the answer about its credentials.
pub(super) struct PendingLogin {
    request: Option<Request>,
    client_id: Arc<str>,
    assigned: bool,
    user: Box<str>,
    vhost: String,
    rule: Rule,
    clean_start: bool,
    /// `None`: never.
    pub(super) expiry_ms: Option<u64>,
    keep_alive_s: u16,
    /// The client is told another Keep Alive than it asked for ([MQTT-3.1.2-21]).
    keep_alive_capped: bool,
    response_information: bool,
    will: Option<Box<Will>>,
    /// Where the exchange stands that CONNECT has asked for; `None` without a method.
    pub(super) stage: Option<Stage>,
    /// What proves the server to the client, once the client has proved itself.
    pub(super) proof: Option<Box<[u8]>>,
    /// By when the exchange must be over.
    pub(super) deadline: Time,
}

impl PendingLogin {
    pub(super) fn take_request(&mut self) -> Option<Request> {
        let of_stage = self.stage.as_mut().and_then(Stage::take_request);
        self.request.take().or(of_stage)
    }

    /// How long the session outlives this connection, which may be a further one.
    fn expiry_of<C>(&self, identity: Option<&Identity<C>>) -> Option<u64>
    where
        C: Core,
    {
        let ends = identity.is_some_and(Identity::clean);
        if ends { Some(0) } else { self.expiry_ms }
    }

    /// The user, once it is known.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// Says who the client is, and by that which vhost it wants.
    pub(super) fn identify<H: Host>(
        &mut self,
        node: &Node<H>,
        outlet: &Outlet<H::Core>,
        name: &str,
    ) -> Result<(), Refused> {
        // A stranger is not told which vhosts there are.
        let choice = choose(node, outlet, name).map_err(|pinned| Refused {
            ending: Ending::new(ReasonCode::NotAuthorized, bad_credentials().text),
            why: pinned.to_string(),
        })?;
        if !node.host.has_vhost(&choice.vhost) {
            let (vhost, rule) = (&choice.vhost, choice.rule);
            return Err(Refused {
                ending: bad_credentials(),
                why: format!("vhost '{vhost}' (chosen by {rule}) does not exist"),
            });
        }
        self.user = choice.user.into();
        self.vhost = choice.vhost;
        self.rule = choice.rule;
        Ok(())
    }
}

/// The user and the vhost that a user name stands for, on the listener that has accepted the
/// client.
pub(super) fn choose<'a, H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    name: &'a str,
) -> Result<Choice<'a>, Pinned> {
    let local_port = outlet.accepted.local.port();
    vhost_choice::choose(
        name,
        outlet.accepted.origin.vhost.as_deref(),
        || node.host.vhost_of_port(local_port),
        &node.options.vhost,
    )
}

/// Why a CONNECT is refused before anybody was asked.
pub(super) struct Refused {
    pub(super) ending: Ending,
    /// The log may say more than a stranger is told.
    pub(super) why: String,
}

impl Refused {
    pub(super) fn new(code: ReasonCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            ending: Ending::new(code, why.clone()),
            why,
        }
    }
}

impl From<Ending> for Refused {
    fn from(ending: Ending) -> Self {
        let why = ending.text.to_string();
        Self { ending, why }
    }
}

/// What whoever has no right to know more is told.
pub(super) fn bad_credentials() -> Ending {
    let code = ReasonCode::BadUserNameOrPassword;
    Ending::new(code, "the login was refused")
}

/// Takes a CONNECT: to AwaitLogin, or to Closed with a CONNACK that says why.
pub(super) fn connect<H: Host>(
    node: &Arc<Node<H>>,
    outlet: &Arc<Outlet<H::Core>>,
    header: FixedHeader,
    body: &[u8],
    (now, deadline): (Time, Time),
) -> Result<State<H>, Violation> {
    let connect = packet::decode_first(header, body)?;
    {
        let (options, asked) = (&node.options, &connect.properties);
        let mut out = outlet.lock();
        out.version = connect.version;
        out.terms = Terms {
            window: options.window(connect.version, asked.receive_maximum.get()),
            topic_alias_max: asked.topic_alias_maximum.min(options.topic_alias_max),
            packet_bytes_max: asked.maximum_packet_size,
            problem_information: asked.request_problem_information,
            exactly_once: options.qos_max == QoS::ExactlyOnce,
            noted: false,
            reserved: Reserved::default(),
        };
    }
    let made = pending(node, outlet, &connect, deadline).and_then(|pending| {
        let terms = outlet.lock().terms;
        let expiry_ms = pending.expiry_ms;
        let properties = connack_properties(node, &terms, &pending, expiry_ms, connect.version);
        let fixed = 2 + property::block_len(&properties);
        if !connect.version.is_v5() || reason::has_room(&terms, fixed) {
            return Ok(pending);
        }
        let why = "CONNACK exceeds the client's maximum packet size";
        Err(Refused::new(ReasonCode::PacketTooLarge, why))
    });
    let begun = made.and_then(|mut pending| {
        let data = connect.properties.authentication_data;
        if pending.stage.is_some() {
            auth::begin(node, outlet, &mut pending, data)?;
        }
        Ok(pending)
    });
    match begun {
        Ok(pending) => Ok(State::AwaitLogin(Box::new(pending))),
        Err(refused) => {
            let peer = outlet.accepted.peer;
            tracing::warn!(%peer, why = refused.why, at = now.0, "MQTT login refused");
            say_refused(&mut outlet.lock(), &refused.ending);
            Ok(State::OVER)
        }
    }
}

// [MQTT-3.1.3-6], [MQTT-3.1.3-7]
fn pending<H: Host>(
    node: &Arc<Node<H>>,
    outlet: &Outlet<H::Core>,
    connect: &Connect<'_>,
    deadline: Time,
) -> Result<PendingLogin, Refused> {
    let options = &node.options;
    let listener = &outlet.accepted.origin.listener;
    check(options, listener, connect)?;
    let assigned = connect.client_id.is_empty();
    let client_id = if assigned {
        node.host.unique_name().into()
    } else {
        connect.client_id.into()
    };
    let keep_alive_s = granted_keep_alive(connect, options.keep_alive_max_s);
    let mut pending = PendingLogin {
        request: None,
        client_id,
        assigned,
        user: Box::default(),
        vhost: String::new(),
        rule: Rule::Default,
        clean_start: connect.clean_start,
        expiry_ms: expiry(connect, options),
        keep_alive_s,
        keep_alive_capped: keep_alive_s != connect.keep_alive_s,
        response_information: connect.properties.request_response_information,
        will: connect
            .will
            .as_ref()
            .map(|will| Box::new(Will::new(will, options.will_delay_max_ms))),
        stage: None,
        proof: None,
        deadline,
    };
    if connect.properties.authentication_method.is_some() {
        pending.stage = Some(Stage::Agreed);
        return Ok(pending);
    }
    let (name, password) = credentials(node, connect)?;
    pending.identify(node, outlet, &name)?;
    pending.request = Some(Request::Login(Credentials {
        user: pending.user.clone(),
        password,
    }));
    Ok(pending)
}

/// The Keep Alive that holds: only a 5.0 client can be told a shorter one than it has.
fn granted_keep_alive(connect: &Connect<'_>, max_s: u16) -> u16 {
    let asked = connect.keep_alive_s;
    let above = max_s > 0 && (asked == 0 || asked > max_s);
    if above && connect.version.is_v5() {
        max_s
    } else {
        asked
    }
}

/// What a CONNECT can be refused for without asking anybody.
// [MQTT-3.1.3-5], [MQTT-3.1.3-8], [MQTT-4.12.0-1]
fn check(options: &Options, listener: &str, connect: &Connect<'_>) -> Result<(), Refused> {
    if !options.versions_on(listener).allows(connect.version as u8) {
        return Err(Refused::new(
            ReasonCode::UnsupportedProtocolVersion,
            format!(
                "protocol level {} is not allowed here",
                connect.version as u8
            ),
        ));
    }
    let method = connect.properties.authentication_method;
    if method.is_some_and(|method| method != auth::METHOD || !options.scram_sha_256) {
        // [MQTT-4.12.0-1]
        return Err(Refused::new(
            ReasonCode::BadAuthenticationMethod,
            "this authentication method is not served",
        ));
    }
    let (bytes, max) = (connect.client_id.len(), options.client_id_bytes_max);
    if bytes > usize::from(max) {
        return Err(Refused::new(
            ReasonCode::ClientIdentifierNotValid,
            format!("a client id of {bytes} bytes, at most {max} are allowed"),
        ));
    }
    if let Some(will) = &connect.will {
        check_will(options, will)?;
    }
    let v5 = connect.version.is_v5();
    if connect.client_id.is_empty() && !v5 && !connect.clean_start {
        // 3.1.1 [MQTT-3.1.3-8]
        return Err(Refused::new(
            ReasonCode::ClientIdentifierNotValid,
            "an empty client id needs a clean session",
        ));
    }
    Ok(())
}

/// What a will can be refused for without asking anybody.
fn check_will(options: &Options, will: &connect::Will<'_>) -> Result<(), Refused> {
    if will.qos > QoS::AtMostOnce && options.qos_max == QoS::AtMostOnce {
        // [MQTT-3.2.2-12]
        let why = "a will of more than QoS 0, which is the maximum";
        return Err(Refused::new(ReasonCode::QoSNotSupported, why));
    }
    if will.topic.starts_with('$') {
        let why = "a will topic may not begin with $";
        return Err(Refused::new(ReasonCode::NotAuthorized, why));
    }
    let too_deep = topic_too_deep(options, will.topic);
    too_deep.map_or(Ok(()), |why| {
        Err(Refused::new(ReasonCode::TopicNameInvalid, why))
    })
}

/// R§4.2: whose credentials count. An empty user name without a password names nobody, as with
/// mosquitto: some clients cannot leave the field out.
fn credentials<H: Host>(
    node: &Node<H>,
    connect: &Connect<'_>,
) -> Result<(String, Box<[u8]>), Refused> {
    let refuse = |why: &str| Err(Refused::new(ReasonCode::BadUserNameOrPassword, why));
    let password = connect.password;
    let names_nobody = password.is_none_or(<[u8]>::is_empty);
    let user_name = connect
        .user_name
        .filter(|name| !(name.is_empty() && names_nobody));
    match (user_name, password) {
        (Some(name), Some(password)) if !password.is_empty() => {
            Ok((name.to_owned(), password.into()))
        }
        (Some(_), _) => refuse("a user name without a password"),
        (None, Some(_)) if connect.user_name.is_none() => refuse("a password without a user name"),
        (None, _) => match &node.options.anonymous_login {
            Some(login) if node.options.allow_anonymous => {
                Ok((login.user.clone(), login.pass.reveal().as_bytes().into()))
            }
            _ => refuse("no credentials, and mqtt.allow_anonymous is off"),
        },
    }
}

/// How long the session outlives its connection ([MQTT-3.1.2-23]; 3.x: clean session or the
/// operator's longest).
fn expiry(connect: &Connect<'_>, options: &Options) -> Option<u64> {
    let max_ms = options.session_expiry_max_ms;
    if options.is_balanced() {
        // Others may use the session: no connection ends it.
        return match expiry_asked(connect, max_ms) {
            Some(0) => max_ms,
            granted => granted,
        };
    }
    expiry_asked(connect, max_ms)
}

fn expiry_asked(connect: &Connect<'_>, max_ms: Option<u64>) -> Option<u64> {
    if !connect.version.is_v5() {
        return if connect.clean_start { Some(0) } else { max_ms };
    }
    granted(connect.properties.session_expiry_interval_s, max_ms)
}

/// What is granted of an asked Session Expiry Interval; 0xFFFFFFFF asks for ever.
pub(crate) fn granted(asked_s: u32, max_ms: Option<u64>) -> Option<u64> {
    let asked = (asked_s != u32::MAX).then(|| u64::from(asked_s) * 1000);
    match (asked, max_ms) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (Some(asked), None) => Some(asked),
        (None, max) => max,
    }
}

/// A login that is refused after its credentials were brought: told in the log and as an event.
fn refuse<H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    pending: &PendingLogin,
    now: Time,
    (reason, why): (ReasonCode, &dyn std::fmt::Display),
) -> Ending {
    let peer = outlet.accepted.peer;
    let (user, vhost) = (&*pending.user, &*pending.vhost);
    tracing::warn!(%peer, user, vhost, rule = %pending.rule, %why, "MQTT login refused");
    node.host.events().tell(|| Event {
        at: now,
        client: Client {
            client_id: Arc::clone(&pending.client_id),
            user: user.into(),
            vhost: vhost.into(),
            keep_alive_s: pending.keep_alive_s,
            ..outlet.stranger()
        },
        what: What::Refused {
            code: reason as u8,
            reason: why.to_string().into(),
        },
    });
    Ending::new(reason, why.to_string())
}

/// Goes on after the credentials were judged: opens the vhost, claims the client id, starts the
/// session, says CONNACK.
// [MQTT-3.1.4-2], [MQTT-3.1.4-5], [MQTT-3.2.0-1]
pub(super) fn finish<H: Host>(
    node: &Arc<Node<H>>,
    outlet: &Arc<Outlet<H::Core>>,
    pending: &PendingLogin,
    verdict: Verdict,
    turn: &mut Turn,
) -> Result<Active<H::Core>, Ending> {
    let (peer, now) = (outlet.accepted.peer, turn.now);
    let refused =
        |reason, why: &dyn std::fmt::Display| refuse(node, outlet, pending, now, (reason, why));
    match verdict {
        Verdict::Accepted => {}
        Verdict::Refused => {
            let ending = bad_credentials();
            return Err(refused(ending.code, &ending.text));
        }
        Verdict::Unavailable => {
            return Err(refused(ReasonCode::ServerBusy, &"too many logins at once"));
        }
    }
    let core = node
        .host
        .open(
            outlet.connection,
            &pending.user,
            &pending.vhost,
            &pending.client_id,
            peer.ip(),
        )
        .map_err(|refusal| {
            // R§4.7: a limit of the vhost or of the user.
            let reason = if refusal.quota {
                ReasonCode::QuotaExceeded
            } else {
                ReasonCode::NotAuthorized
            };
            refused(reason, &refusal)
        })?;
    let exchange = &*node.options.exchange;
    if !core.has_exchange(exchange) {
        let why = format!(
            "mqtt.exchange '{exchange}' is not in vhost '{}'",
            pending.vhost
        );
        return Err(refused(ReasonCode::ImplementationSpecificError, &why));
    }
    {
        let terms = &mut outlet.lock().terms;
        terms.reserved = node.options.identity.reserved_in(&pending.vhost);
        terms.noted = pending.expiry_ms != Some(0);
    }
    if let Some(will) = &pending.will {
        // Asked again when it is published.
        core.may_publish(exchange, will.topic.as_bytes(), Form::Slashed)
            .map_err(|refusal| refused(reason_of(&refusal), &refusal.text))?;
    }
    let (active, present) = start(node, outlet, pending, core, turn)
        .map_err(|refusal| refused(reason_of(&refusal), &refusal.text))?;
    tracing::info!(
        peer = %outlet.accepted.peer, local = %outlet.accepted.local,
        client_id = &*pending.client_id, user = &*pending.user, vhost = &*pending.vhost,
        rule = %pending.rule, session_present = present,
        "accepted MQTT connection",
    );
    outlet.tell(turn.now, || What::Connected {
        session_present: present,
    });
    Ok(active)
}

/// The reason code of a refusal by the core.
pub(crate) fn reason_of(refusal: &Refusal) -> ReasonCode {
    match refusal.code {
        ReplyCode::AccessRefused => ReasonCode::NotAuthorized,
        // A race that was lost: coming again may do.
        ReplyCode::ResourceLocked => ReasonCode::ServerUnavailable,
        ReplyCode::ResourceError => ReasonCode::QuotaExceeded,
        // The session of the client id is another user's.
        ReplyCode::NotAllowed => ReasonCode::ClientIdentifierNotValid,
        _ => ReasonCode::ImplementationSpecificError,
    }
}

/// The number that tells a client's own messages from others', on each of its connections; never
/// the 0 of nobody.
fn publisher(client_id: &str) -> u64 {
    foldhash::fast::FixedState::default().hash_one(client_id) | 1
}

/// Claims the client id and starts its session; says whether there was one.
fn start_session<H: Host>(
    node: &Node<H>,
    outlet: &Arc<Outlet<H::Core>>,
    identity: &Identity<H::Core>,
    pending: &PendingLogin,
    turn: &mut Turn,
) -> Result<bool, Refusal> {
    // Whoever takes the session over in turn waits until this connection has all of it.
    let starting = outlet.leaving.lock();
    let queues = session::queue_names(&pending.client_id);
    let Some(previous) = session::claim(outlet, identity, &queues, turn)? else {
        let mode = node.options.deliver_mode;
        // What it leaves is nobody's: nothing of it needs to be found again.
        outlet.lock().terms.noted = false;
        let joined = session::join(outlet, identity, mode, turn);
        drop(starting);
        // [MQTT-3.2.2-2]
        return joined.map(|joined| joined && !pending.clean_start);
    };
    let wish = Wish {
        queues: &queues,
        clean_start: pending.clean_start,
        expiry_ms: pending.expiry_ms,
    };
    read_again(outlet, identity);
    let present = session::start(outlet, identity, &wish, &previous, turn)?;
    if present && outlet.lock().reader.is_some() {
        // Of what it may not read, the session may have got less than this client asks for.
        outlet.ask_again();
    }
    drop(starting);
    Ok(present)
}

fn start<H: Host>(
    node: &Arc<Node<H>>,
    outlet: &Arc<Outlet<H::Core>>,
    pending: &PendingLogin,
    core: Arc<H::Core>,
    turn: &mut Turn,
) -> Result<(Active<H::Core>, bool), Refusal> {
    let identity = outlet.identity.get_or_init(|| Identity {
        core: Arc::clone(&core),
        publisher: publisher(&pending.client_id),
        client_id: Arc::clone(&pending.client_id),
        clean: pending.expiry_ms == Some(0),
        keep_alive_s: pending.keep_alive_s,
        further: OnceLock::new(),
        signature: OnceLock::new(),
    });
    let present = start_session(node, outlet, identity, pending, turn)?;
    let signed = |will: &Will| Box::new(will.signed(identity.signature(outlet)));
    let will = pending.will.as_deref().map(signed);
    {
        let mut out = outlet.lock();
        // Whoever has taken the session over meanwhile has not seen the will: it is not published.
        if !out.evicted {
            out.will = will;
        }
    }
    let version = outlet.lock().version;
    let mut bytes = greeting(node, outlet, pending, present);
    // [MQTT-4.4.0-1]: what the client has of before is released first of all.
    let released = outlet.lock().flow.as_ref().map_or(0, |flow| {
        let exact = flow.exact.as_ref();
        exact.map_or(0, |exact| exact.say_released(&mut bytes, version))
    });
    let lifetime_s = node.options.connection_lifetime_s;
    let active = Active {
        version,
        memo: Memo::default(),
        last_input: turn.now,
        expiry_ms: pending.expiry_of(Some(identity)),
        joined: Vec::new(),
        rare: (lifetime_s > 0 || pending.stage.is_some()).then(|| {
            let lasts = (lifetime_s > 0).then(|| lifetime_s.saturating_mul(1000));
            Box::new(Rare {
                ends_at: lasts.map(|ms| turn.now.after_ms(ms)),
                // What CONNECT has agreed on holds for the connection.
                stage: pending.stage.as_ref().map(|_| Stage::Agreed),
                ..Rare::default()
            })
        }),
        acks: None,
        blocked: None,
        held: Some(Box::new(Held {
            // A client that is told of its session uses all identifiers that were released.
            journaled: core.release_received(&[]).max(released),
            asked: false,
            core,
            bytes,
            replay: Vec::new(),
            then_close: None,
            awaited: 0,
        })),
    };
    Ok((active, present))
}

/// CONNACK of a login that is accepted.
// [MQTT-3.2.0-2]
fn greeting<H: Host>(
    node: &Node<H>,
    outlet: &Outlet<H::Core>,
    pending: &PendingLogin,
    present: bool,
) -> Vec<u8> {
    let (version, terms) = {
        let out = outlet.lock();
        (out.version, out.terms)
    };
    let expiry_ms = pending.expiry_of(outlet.identity.get());
    let properties = connack_properties(node, &terms, pending, expiry_ms, version);
    let mut bytes = Vec::new();
    let success = ReasonCode::Success;
    // The properties are a few short values: they always fit.
    let _ = connack::encode(&mut bytes, version, present, success, &properties);
    bytes
}

/// R§7.7, without Maximum QoS: clients may publish with QoS 2, unless the operator allows 0 alone.
// [MQTT-3.1.2-28]
fn connack_properties<H: Host>(
    node: &Node<H>,
    terms: &Terms,
    pending: &PendingLogin,
    expiry_ms: Option<u64>,
    version: ProtocolVersion,
) -> Vec<u8> {
    let mut out = Vec::new();
    if !version.is_v5() {
        return out;
    }
    if pending.stage.is_some() {
        // [MQTT-4.12.0-5], and [MQTT-4.12.0-6] else.
        auth::put_properties(
            &mut out,
            Some(pending.proof.as_deref().unwrap_or(&auth::PROOF)),
        );
    }
    let mut put = |property: Property<'_>| {
        // Client ids came in a packet, and the rest are numbers: they fit.
        let _ = property.encode(&mut out);
    };
    let seconds = expiry_ms.map_or(u32::MAX, |ms| {
        u32::try_from(ms / 1000).unwrap_or(u32::MAX - 1)
    });
    put(Property::SessionExpiryInterval(seconds));
    if pending.assigned {
        // [MQTT-3.2.2-16]
        put(Property::AssignedClientIdentifier(&pending.client_id));
    }
    put(Property::TopicAliasMaximum(node.options.topic_alias_max));
    if let Some(bytes) = NonZeroU32::new(node.options.packet_authenticated_bytes_max) {
        put(Property::MaximumPacketSize(bytes));
    }
    if node.options.qos_max == QoS::AtMostOnce {
        // [MQTT-3.2.2-9]
        put(Property::MaximumQoS(false));
    }
    if pending.keep_alive_capped {
        // [MQTT-3.2.2-21]
        put(Property::ServerKeepAlive(pending.keep_alive_s));
    }
    if let Some(max) = NonZeroU16::new(node.options.receive_maximum)
        && max < NonZeroU16::MAX
    {
        put(Property::ReceiveMaximum(max));
    }
    let information = &node.options.response_information;
    if pending.response_information && !information.is_empty() {
        let before = out.len();
        let information = information.replace("{client_id}", &pending.client_id);
        let added = Property::ResponseInformation(&information).encode(&mut out);
        if added.is_err() || !reason::has_room(terms, 2 + property::block_len(&out)) {
            // The client has asked for it, but must do without.
            out.truncate(before);
        }
    }
    out
}
