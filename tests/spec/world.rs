//! One broker in memory with its clients: no socket, no clock, no thread.
//!
//! Bytes go in by [`Verbs::feed`], time moves by [`Verbs::advance`], and after each the world is
//! driven until nobody has anything to do: what [`Verbs::received`] shows is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_auth::scram::{Scram, Verifier};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::identity::IdentityHeaders;
use leveret_core::journal::MemoryJournal;
use leveret_core::link::Link;
use leveret_core::login::{Opening, Reply, Request, Verdict};
use leveret_core::options::{AnonymousLogin, Options as CoreOptions, Secret};
use leveret_core::peer::{Accepted, Origin};
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_core::user::User;
use leveret_mqtt::options::{DeliverMode, OfListener, Options, ProtocolVersions, TopicFilters};
use leveret_mqtt::packet::{ProtocolVersion, QoS};
use leveret_mqtt::{Connection, Node};
use parking_lot::Mutex;
use serde_json::Value;

use crate::verbs::Verbs;

/// When every world begins, in milliseconds: no special time.
pub(crate) const BEGIN: Time = Time(1_700_000_000_000);

/// Rounds after which a world that does not come to rest is broken.
const ROUNDS_MAX: usize = 10_000;

/// One end of a connection, as a test's client has it.
struct Client {
    connection: Option<Connection<Broker>>,
    version: ProtocolVersion,
    input: Vec<u8>,
    received: Vec<u8>,
}

/// See the module.
pub(crate) struct World {
    broker: Arc<Broker>,
    node: Arc<Node>,
    turn: Turn,
    clients: BTreeMap<String, Client>,
    passwords: BTreeMap<String, String>,
    /// How many bytes come at once.
    chunk: usize,
}

impl World {
    /// A new broker; `options` override the defaults of core and adapter by their field names.
    pub(crate) fn new(options: &Value, chunk: usize) -> Self {
        let (core, mqtt) = read_options(options);
        let definitions = Arc::new(Volatile::default());
        let journal = Arc::new(MemoryJournal::default());
        let broker = Broker::open(core, definitions, journal, BEGIN, || "hash".to_owned());
        let broker = broker.expect("nothing can fail in memory");
        let mut turn = Turn::new();
        turn.now = BEGIN;
        Self {
            node: Node::new(Arc::clone(&broker), mqtt),
            broker,
            turn,
            clients: BTreeMap::new(),
            passwords: BTreeMap::from([("guest".to_owned(), "guest".to_owned())]),
            chunk,
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let client = self.clients.get_mut(name);
        client.unwrap_or_else(|| panic!("no client is called {name:?}"))
    }
}

impl Verbs for World {
    fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    fn owner(&mut self, vhost: &str) -> (Arc<Link>, &mut Turn) {
        let vhost = self.broker.vhost(vhost).expect("the vhost is there");
        (self.broker.owner_link(&vhost), &mut self.turn)
    }

    fn add_user(&mut self, name: &str, password: &str) {
        self.passwords.insert(name.to_owned(), password.to_owned());
        let made = self.broker.put_user(name, User::default());
        made.expect("a user name");
    }

    fn is_open(&self, name: &str) -> bool {
        let client = self.clients.get(name);
        client.is_some_and(|client| client.connection.is_some())
    }

    fn names(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    fn open(&mut self, name: &str, words: &str) {
        let accepted = accepted(words);
        let connection = Connection::new(&self.node, accepted, self.turn.now);
        let client = Client {
            connection: Some(connection),
            version: ProtocolVersion::V4,
            input: Vec::new(),
            received: Vec::new(),
        };
        self.clients.insert(name.to_owned(), client);
    }

    fn speak(&mut self, name: &str, version: ProtocolVersion) {
        self.client(name).version = version;
    }

    fn version(&mut self, name: &str) -> ProtocolVersion {
        self.client(name).version
    }

    fn feed(&mut self, name: &str, bytes: &[u8]) {
        for piece in bytes.chunks(self.chunk) {
            self.client(name).input.extend_from_slice(piece);
            self.settle();
        }
    }

    fn cut(&mut self, name: &str) {
        let connection = self.client(name).connection.take();
        if let Some(mut connection) = connection {
            connection.handle_close(&mut self.turn);
        }
        self.settle();
    }

    fn received(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.client(name).received
    }

    fn with_output(&self) -> Vec<String> {
        let waiting = self.clients.iter().filter(|(_, c)| !c.received.is_empty());
        waiting.map(|(name, _)| name.clone()).collect()
    }

    fn advance(&mut self, ms: u64) {
        let end = self.turn.now.after_ms(ms);
        for _ in 0..ROUNDS_MAX {
            let deadlines = self.clients.values().filter_map(|client| {
                let connection = client.connection.as_ref()?;
                connection.poll_timeout()
            });
            let next = deadlines.chain(self.broker.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.turn.now = end;
                return;
            };
            self.turn.now = next.max(self.turn.now);
            self.broker.handle_timeout(&mut self.turn);
            for client in self.clients.values_mut() {
                if let Some(connection) = &mut client.connection {
                    connection.handle_timeout(&mut self.turn);
                }
            }
            self.settle();
        }
        panic!("timeouts without end");
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for client in self.clients.values_mut() {
                busy |= client.drive(&mut self.turn, &self.passwords);
            }
            self.turn.ring();
            if !busy {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}

impl Client {
    /// One round of what a driver does for a connection; says whether anything happened.
    fn drive(&mut self, turn: &mut Turn, passwords: &BTreeMap<String, String>) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let mut busy = false;
        if connection.doorbell().answer() {
            connection.handle_wake(turn);
            busy = true;
        }
        if !self.input.is_empty() && connection.wants_input() {
            let taken = connection.handle_input(turn, &self.input);
            self.input.drain(..taken);
            busy |= taken > 0;
        }
        while let Some(request) = connection.poll_request() {
            connection.handle_reply(turn, answer(&request, passwords));
            busy = true;
        }
        let before = self.received.len();
        connection.poll_output(&mut self.received);
        busy |= self.received.len() > before;
        if connection.is_closed() {
            connection.handle_close(turn);
            self.connection = None;
            self.input.clear();
            busy = true;
        }
        busy
    }
}

fn read_versions(levels: &Value) -> ProtocolVersions {
    let has = |level: u64| {
        let levels = levels.as_array().expect("a list");
        levels.iter().any(|held| held.as_u64() == Some(level))
    };
    ProtocolVersions {
        v3: has(3),
        v4: has(4),
        v5: has(5),
    }
}

fn read_listener(own: &Value) -> OfListener {
    OfListener {
        protocol_versions: own.get("protocol_versions").map(read_versions),
        topic_filters: own.get("topic_filters").map(|word| match word.as_str() {
            Some("strict") => TopicFilters::Strict,
            _ => TopicFilters::Flexible,
        }),
    }
}

/// What the login backend would say.
pub(crate) fn answer(request: &Request, passwords: &BTreeMap<String, String>) -> Reply {
    match request {
        Request::Login(credentials) => {
            let known = passwords.get(&*credentials.user);
            Reply::Login(match known {
                _ if &*credentials.user == "busy" => Verdict::Unavailable,
                Some(password) if password.as_bytes() == &*credentials.password => {
                    Verdict::Accepted
                }
                _ => Verdict::Refused,
            })
        }
        Request::Scram(Opening { user, message }) => {
            let stored = passwords.get(&**user).map(|password| verifier(password));
            let scram = Scram::new([7; 32]);
            Reply::Scram(scram.open(user, stored.as_deref(), message, NONCE))
        }
    }
}

/// The server's part of the nonce in RFC 7677 §3: each time the same, so that rows have bytes.
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// Its salt.
const SALT: [u8; 16] = [
    0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81,
];

/// What is stored of a password, made once for all rows.
fn verifier(password: &str) -> String {
    static MADE: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock();
    let make = || {
        let verifier = Verifier::with(password.as_bytes(), &SALT, 4_096);
        verifier.expect("a password").to_string()
    };
    made.entry(password.to_owned()).or_insert_with(make).clone()
}

/// Who is accepted where: `peer=1.2.3.4 port=1883 vhost=v listener=mqtt`.
pub(crate) fn accepted(words: &str) -> Accepted {
    let (mut peer, mut port, mut vhost) = ("127.0.0.1", "1883", None::<&str>);
    let mut listener = "mqtt";
    for each in words.split_whitespace() {
        match each.split_once('=') {
            Some(("peer", value)) => peer = value,
            Some(("port", value)) => port = value,
            Some(("vhost", value)) => vhost = Some(value),
            Some(("listener", value)) => listener = value,
            _ => panic!("{each:?} is nothing of a listener"),
        }
    }
    let peer = match peer.contains(':') {
        true => format!("[{peer}]:50000"),
        false => format!("{peer}:50000"),
    };
    Accepted {
        peer: peer.parse().expect("an address"),
        local: format!("127.0.0.1:{port}").parse().expect("a port"),
        origin: Origin::new(listener, vhost),
    }
}

/// The defaults, overridden by the names of fields.
pub(crate) fn read_options(overrides: &Value) -> (CoreOptions, Options) {
    let mut core = CoreOptions::default();
    // Rows that are not about them say nothing of these headers.
    let mut mqtt = Options {
        identity: IdentityHeaders::off(),
        ..Options::default()
    };
    for (name, value) in overrides.as_object().into_iter().flatten() {
        let number = || value.as_u64().expect("a number");
        let text = || value.as_str().expect("a text");
        let yes = || value.as_bool().expect("true or false");
        match name.as_str() {
            "allow_anonymous" => mqtt.allow_anonymous = yes(),
            "anonymous_login" => {
                let login = value.as_str().and_then(|both| both.split_once(':'));
                mqtt.anonymous_login = login.map(|(user, pass)| AnonymousLogin {
                    user: user.to_owned(),
                    pass: Secret::new(pass),
                });
            }
            "vhost" => mqtt.vhost = text().to_owned(),
            "exchange" => mqtt.exchange = text().to_owned(),
            "session_expiry_max_ms" => mqtt.session_expiry_max_ms = value.as_u64(),
            "prefetch" => mqtt.prefetch = number() as u16,
            "qos_max" => mqtt.qos_max = QoS::from_bits(number() as u8).expect("a QoS"),
            "topic_filters" if text() == "strict" => mqtt.topic_filters = TopicFilters::Strict,
            "disconnect_on_unauthorized" => mqtt.disconnect_on_unauthorized = yes(),
            "login_timeout_ms" => mqtt.login_timeout_ms = number(),
            "packet_authenticated_bytes_max" => {
                mqtt.packet_authenticated_bytes_max = number() as u32;
            }
            "identity_headers" => mqtt.identity.on = yes(),
            "identity_annotation" => mqtt.identity.annotation = yes(),
            "topic_alias_max" => mqtt.topic_alias_max = number() as u16,
            "keep_alive_max_s" => mqtt.keep_alive_max_s = number() as u16,
            "receive_maximum" => mqtt.receive_maximum = number() as u16,
            "response_information" => mqtt.response_information = text().to_owned(),
            "connection_lifetime_s" => mqtt.connection_lifetime_s = number(),
            "client_id_bytes_max" => mqtt.client_id_bytes_max = number() as u16,
            "topic_depth_max" => mqtt.topic_depth_max = number() as u16,
            "subscriptions_max" => mqtt.subscriptions_max = number() as u32,
            "message_rate_max" => mqtt.message_rate_max = number() as u32,
            "will_delay_max_ms" => mqtt.will_delay_max_ms = value.as_u64(),
            "suppress_will_on_takeover" => mqtt.suppress_will_on_takeover = yes(),
            "client_ids_bound" => mqtt.client_ids_bound = yes(),
            "scram_sha_256" => mqtt.scram_sha_256 = yes(),
            "multiple_sessions" => mqtt.multiple_sessions = yes(),
            "deliver_mode" if text() == "balance" => mqtt.deliver_mode = DeliverMode::Balance,
            "output_bytes_max" => mqtt.output_bytes_max = number(),
            "protocol_versions" => mqtt.protocol_versions = read_versions(value),
            "listeners" => {
                let listeners = value.as_object().expect("listeners by name");
                let read = |(name, own): (&String, &Value)| (name.clone(), read_listener(own));
                mqtt.listeners = listeners.iter().map(read).collect();
            }
            other => assert!(
                read_core(other, value, &mut core)
                    || read_waiting(other, value, &mut core, &mut mqtt),
                "no option is called {other:?}"
            ),
        }
    }
    (core, mqtt)
}

/// Options of the core; `false`: it is none of them.
fn read_core(name: &str, value: &Value, core: &mut CoreOptions) -> bool {
    let number = || value.as_u64().expect("a number");
    match name {
        "loopback_users" => {
            let names = value.as_array().expect("a list").iter();
            core.loopback_users = names
                .map(|name| name.as_str().expect("a name").into())
                .collect();
        }
        "retained_messages_max" => core.retained_messages_max = number() as usize,
        "retained_bytes_max" => core.retained_bytes_max = number(),
        "retained_rate_max" => core.retained_rate_max = number() as u32,
        _ => return false,
    }
    true
}

/// Options about what is in flight, and what waits; `false`: it is none of them.
fn read_waiting(name: &str, value: &Value, core: &mut CoreOptions, mqtt: &mut Options) -> bool {
    let number = || value.as_u64().expect("a number");
    let yes = || value.as_bool().expect("true or false");
    match name {
        "online_max" => core.session_caps.online_max = Some(number()),
        "offline_max" => core.session_caps.offline_max = Some(number()),
        "lifo" => core.session_caps.lifo = yes(),
        "reject" => core.session_caps.reject = yes(),
        "inflight_max" => mqtt.inflight_max = Some(number() as u16),
        "client_receive_max" => mqtt.client_receive_max = number() as u16,
        "upgrade_qos" => mqtt.upgrade_qos = yes(),
        "retry_interval_s" => mqtt.retry_interval_s = number() as u16,
        "retry_v4" => mqtt.retry_v4 = yes(),
        _ => return false,
    }
    true
}
