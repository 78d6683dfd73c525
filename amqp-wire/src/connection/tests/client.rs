//! The client: it encodes methods, feeds the machine, and writes down what comes back, a line for
//! each method and its content.

use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::definitions::{Definitions, Volatile};
use leveret_core::field::{RawTable, Table, Value};
use leveret_core::journal::{Journal, MemoryJournal};
use leveret_core::login::{Reply, Request, Verdict};
use leveret_core::options::Options as CoreOptions;
use leveret_core::peer::{Accepted, Origin};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use crate::connection::Connection;
use crate::content::{self, ContentHeader};
use crate::frame::{self, FrameKind};
use crate::method::*;
use crate::node::Node;
use crate::options::Options;

pub(super) const FRAME_MAX: u32 = 131_072;
/// What a client can do.
const CAPABILITIES: [&str; 3] = [
    "authentication_failure_close",
    "consumer_cancel_notify",
    "connection.blocked",
];

pub(super) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A node with nothing but defaults.
pub(super) fn node() -> Arc<Node> {
    node_over(
        Arc::new(Volatile::default()),
        Arc::new(MemoryJournal::default()),
    )
}

pub(super) fn node_over(definitions: Arc<dyn Definitions>, journal: Arc<dyn Journal>) -> Arc<Node> {
    let options = CoreOptions {
        max_message_size_bytes: 1_000_000,
        ..CoreOptions::default()
    };
    let broker = Broker::open(options, definitions, journal, Time(1), || "x".to_owned());
    Node::new(broker.expect("nothing to load"), Options::default())
}

pub(super) struct Client {
    pub(super) node: Arc<Node>,
    pub(super) machine: Connection,
    pub(super) turn: Turn,
    pub(super) verdict: Verdict,
    /// Bytes that the machine has not taken yet.
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
    /// A method that waits for its content.
    pending: Option<(String, Option<u64>, Vec<u8>)>,
    /// The headers of the last message that had any.
    pub(super) headers: Table,
    /// The reply-to of the last message that had one.
    pub(super) reply_to: String,
}

impl Client {
    /// A stream that was just accepted.
    pub(super) fn accepted(node: &Arc<Node>) -> Self {
        Self::accepted_from(node, "127.0.0.1:40000")
    }

    pub(super) fn accepted_from(node: &Arc<Node>, peer: &str) -> Self {
        let accepted = Accepted {
            peer: peer.parse().expect("an address"),
            local: "127.0.0.1:5672".parse().expect("an address"),
            origin: Origin::new("amqp", None),
        };
        let mut turn = Turn::new();
        turn.now = Time(1_000);
        Self {
            node: Arc::clone(node),
            machine: Connection::new(node, accepted, Time(1_000)),
            turn,
            verdict: Verdict::Accepted,
            input: Vec::new(),
            output: Vec::new(),
            pending: None,
            headers: Table::new(),
            reply_to: String::new(),
        }
    }

    /// A connection that is open, with channel 1.
    pub(super) fn open(node: &Arc<Node>) -> Self {
        let mut client = Self::accepted(node);
        let mut bytes = Vec::new();
        handshake(&mut bytes);
        client.feed(&bytes);
        assert_eq!(
            client.lines(),
            [
                "0 connection.start",
                "0 connection.tune 2047 131072 60",
                "0 connection.open-ok",
                "1 channel.open-ok"
            ]
        );
        client
    }

    /// Gives the machine more bytes, and what it needs to get on with them.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            let taken = self.machine.handle_input(&mut self.turn, &self.input);
            self.input.drain(..taken);
            let request = self.machine.poll_request();
            if let Some(Request::Login(_)) = request {
                self.machine
                    .handle_reply(&mut self.turn, Reply::Login(self.verdict));
            } else if taken == 0 {
                break;
            }
            self.flush();
        }
        self.flush();
        self.turn.ring();
    }

    /// Gives an open machine more bytes, and takes nothing of what it has to say.
    pub(super) fn feed_unread(&mut self, bytes: &[u8]) {
        let taken = self.machine.handle_input(&mut self.turn, bytes);
        assert_eq!(taken, bytes.len());
        while self.machine.doorbell().answer() {
            self.machine.handle_wake(&mut self.turn);
        }
        self.turn.ring();
    }

    fn flush(&mut self) {
        self.machine.poll_output(&mut self.output);
        if self.machine.doorbell().answer() {
            self.machine.handle_wake(&mut self.turn);
            self.machine.poll_output(&mut self.output);
        }
    }

    pub(super) fn send(&mut self, channel: u16, method: ClientMethod<'_>) {
        let mut bytes = Vec::new();
        method.encode(channel, &mut bytes);
        self.feed(&bytes);
    }

    /// Sends a method and says what comes back.
    pub(super) fn ask(&mut self, channel: u16, method: ClientMethod<'_>) -> Vec<String> {
        self.send(channel, method);
        self.lines()
    }

    pub(super) fn publish(&mut self, exchange: &str, key: &str, body: &str) {
        let mut bytes = Vec::new();
        publish(
            &mut bytes,
            exchange,
            key,
            &BasicProperties::default(),
            body.as_bytes(),
        );
        self.feed(&bytes);
    }

    /// Time passes, and the machine looks at it.
    pub(super) fn wait_until(&mut self, now: Time) -> Vec<String> {
        self.turn.now = now;
        self.machine.handle_timeout(&mut self.turn);
        self.lines()
    }

    pub(super) fn get(&mut self, queue: &str, no_ack: bool) -> Vec<String> {
        let method = BasicGet {
            queue,
            no_ack,
            ..BasicGet::default()
        };
        self.ask(1, ClientMethod::BasicGet(method))
    }

    pub(super) fn declare(&mut self, queue: &str) {
        let method = QueueDeclare {
            queue,
            ..QueueDeclare::default()
        };
        let expected = format!("1 queue.declare-ok {queue} ");
        let lines = self.ask(1, ClientMethod::QueueDeclare(method));
        assert!(
            lines.len() == 1 && lines[0].starts_with(&expected),
            "{lines:?}"
        );
    }

    pub(super) fn consume(&mut self, queue: &str, no_ack: bool) -> Vec<String> {
        self.ask(1, consume(queue, "c", no_ack))
    }

    pub(super) fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        let method = QueueBind {
            queue,
            exchange,
            routing_key,
            ..QueueBind::default()
        };
        assert_eq!(
            self.ask(1, ClientMethod::QueueBind(method)),
            ["1 queue.bind-ok"]
        );
    }

    pub(super) fn ack(&mut self, delivery_tag: u64, multiple: bool) -> Vec<String> {
        self.ask(
            1,
            ClientMethod::BasicAck(BasicAck {
                delivery_tag,
                multiple,
            }),
        )
    }

    /// What came since the last time, with what others put there.
    pub(super) fn lines(&mut self) -> Vec<String> {
        self.flush();
        self.flush();
        let output = std::mem::take(&mut self.output);
        let mut rest = &*output;
        let mut lines = Vec::new();
        if let Some(after) = rest.strip_prefix(HEADER) {
            lines.push("header".to_owned());
            rest = after;
        }
        while let Some((frame, taken)) = frame::decode(rest, 0).expect("legal frames") {
            rest = &rest[taken..];
            self.read(frame, &mut lines);
        }
        assert!(rest.is_empty(), "half a frame: {rest:02x?}");
        lines
    }

    fn read(&mut self, frame: frame::Frame<'_>, lines: &mut Vec<String>) {
        let channel = frame.channel;
        match frame.kind {
            FrameKind::Heartbeat => lines.push("heartbeat".to_owned()),
            FrameKind::Method => {
                let method = ServerMethod::decode(frame.payload).expect("a method of a server");
                let line = format!("{channel} {}{}", method.name(), arguments(&method));
                if has_content(&method) {
                    self.pending = Some((line, None, Vec::new()));
                } else {
                    lines.push(line);
                }
            }
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).expect("a content header");
                let properties = BasicProperties::parse(header.properties).expect("properties");
                let (line, size, _) = self.pending.as_mut().expect("a method before it");
                *size = Some(header.body_size);
                if let Some(mode) = properties.delivery_mode {
                    *line += &format!(" mode={mode}");
                }
                if let Some(headers) = properties.headers {
                    *line += &format!(" headers={}", headers.entries().count());
                    self.headers = headers.to_table();
                }
                if let Some(name) = properties.reply_to {
                    self.reply_to = String::from_utf8_lossy(name).into_owned();
                }
            }
            FrameKind::Body => {
                let (_, _, body) = self.pending.as_mut().expect("a method before it");
                body.extend_from_slice(frame.payload);
            }
        }
        if self
            .pending
            .as_ref()
            .is_some_and(|(_, size, body)| *size == Some(body.len() as u64))
            && let Some((line, _, body)) = self.pending.take()
        {
            let text = String::from_utf8_lossy(&body);
            lines.push(if text.len() > 100 {
                format!("{line} ({} bytes)", text.len())
            } else {
                format!("{line} {text}")
            });
        }
    }

    /// The stream ends.
    pub(super) fn hang_up(mut self) {
        self.machine.handle_close(&mut self.turn);
        self.turn.ring();
    }
}

fn has_content(method: &ServerMethod<'_>) -> bool {
    matches!(
        method,
        ServerMethod::BasicDeliver(_) | ServerMethod::BasicReturn(_) | ServerMethod::BasicGetOk(_)
    )
}

fn arguments(method: &ServerMethod<'_>) -> String {
    let again = |redelivered| if redelivered { " again" } else { "" };
    match method {
        ServerMethod::ConnectionTune(m) => {
            format!(" {} {} {}", m.channel_max, m.frame_max, m.heartbeat)
        }
        ServerMethod::ConnectionClose(ConnectionClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        })
        | ServerMethod::ChannelClose(ChannelClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        }) => {
            format!(" {reply_code} {class_id}.{method_id} {reply_text}")
        }
        ServerMethod::ConnectionBlocked(m) => format!(" {}", m.reason),
        ServerMethod::QueueDeclareOk(m) => {
            format!(" {} {} {}", m.queue, m.message_count, m.consumer_count)
        }
        ServerMethod::QueuePurgeOk(m) => format!(" {}", m.message_count),
        ServerMethod::QueueDeleteOk(m) => format!(" {}", m.message_count),
        ServerMethod::BasicConsumeOk(m) => format!(" {}", m.consumer_tag),
        ServerMethod::BasicCancel(m) => format!(" {}", m.consumer_tag),
        ServerMethod::BasicCancelOk(m) => format!(" {}", m.consumer_tag),
        ServerMethod::BasicAck(m) => {
            format!(
                " {}{}",
                m.delivery_tag,
                if m.multiple { " multiple" } else { "" }
            )
        }
        ServerMethod::BasicNack(m) => {
            format!(
                " {}{}",
                m.delivery_tag,
                if m.multiple { " multiple" } else { "" }
            )
        }
        ServerMethod::BasicReturn(m) => {
            format!(
                " {} {} '{}' {}",
                m.reply_code, m.reply_text, m.exchange, m.routing_key
            )
        }
        ServerMethod::BasicDeliver(m) => format!(
            " {} {}{} '{}' {}",
            m.consumer_tag,
            m.delivery_tag,
            again(m.redelivered),
            m.exchange,
            m.routing_key
        ),
        ServerMethod::BasicGetOk(m) => format!(
            " {}{} '{}' {} left={}",
            m.delivery_tag,
            again(m.redelivered),
            m.exchange,
            m.routing_key,
            m.message_count
        ),
        _ => String::new(),
    }
}

pub(super) fn consume<'a>(queue: &'a str, consumer_tag: &'a str, no_ack: bool) -> ClientMethod<'a> {
    ClientMethod::BasicConsume(BasicConsume {
        queue,
        consumer_tag,
        no_ack,
        ..BasicConsume::default()
    })
}

pub(super) fn qos(prefetch_count: u16, global: bool) -> ClientMethod<'static> {
    ClientMethod::BasicQos(BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global,
    })
}

/// Everything up to channel.open on channel 1.
pub(super) fn handshake(out: &mut Vec<u8>) {
    handshake_as(out, &CAPABILITIES);
}

/// The same of a client that can do these things.
pub(super) fn handshake_as(out: &mut Vec<u8>, capabilities: &[&str]) {
    out.extend_from_slice(HEADER);
    start_ok_as(out, "PLAIN", b"\0guest\0guest", capabilities);
    tune_ok(out, FRAME_MAX);
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(open).encode(0, out);
    ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, out);
}

pub(super) fn start_ok(out: &mut Vec<u8>, mechanism: &str, response: &[u8]) {
    start_ok_as(out, mechanism, response, &CAPABILITIES);
}

fn start_ok_as(out: &mut Vec<u8>, mechanism: &str, response: &[u8], names: &[&str]) {
    let mut capabilities = Table::new();
    for name in names {
        capabilities.insert(name, Value::Bool(true)).expect("short");
    }
    let mut properties = Table::new();
    properties
        .insert("capabilities", Value::Table(capabilities))
        .expect("short");
    let mut bytes = Vec::new();
    properties.encode(&mut bytes).expect("short");
    let method = ConnectionStartOk {
        client_properties: RawTable::parse(&bytes).expect("legal"),
        mechanism,
        response: LongString(response),
        locale: "en_US",
    };
    ClientMethod::ConnectionStartOk(method).encode(0, out);
}

pub(super) fn tune_ok(out: &mut Vec<u8>, frame_max: u32) {
    let method = ConnectionTuneOk {
        channel_max: 2047,
        frame_max,
        heartbeat: 60,
    };
    ClientMethod::ConnectionTuneOk(method).encode(0, out);
}

/// A publication on channel 1.
pub(super) fn publish(
    out: &mut Vec<u8>,
    exchange: &str,
    routing_key: &str,
    properties: &BasicProperties<'_>,
    body: &[u8],
) {
    let method = BasicPublish {
        exchange,
        routing_key,
        ..BasicPublish::default()
    };
    publish_as(out, method, properties, body);
}

pub(super) fn publish_as(
    out: &mut Vec<u8>,
    method: BasicPublish<'_>,
    properties: &BasicProperties<'_>,
    body: &[u8],
) {
    ClientMethod::BasicPublish(method).encode(1, out);
    let mut encoded = Vec::new();
    properties.encode(&mut encoded).expect("short");
    content::encode(out, 1, &encoded, body, FRAME_MAX);
}
