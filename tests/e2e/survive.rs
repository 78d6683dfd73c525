//! What MQTT clients find after the program was killed: retained messages, QoS 2 identifiers,
//! delayed wills, and how long their sessions still live.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leveret_core::broker::Broker;
use leveret_core::definitions::Definitions;
use leveret_core::field::{Table, Value};
use leveret_core::journal::{Durability, Journal};
use leveret_core::link::DeclareQueue;
use leveret_core::message::AmqpOrigin;
use leveret_core::options::Options;
use leveret_core::queue::QueueProperties;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_store::data_dir::DataDir;
use leveret_store::definitions::DefinitionsFile;
use leveret_store::disk::Files;
use leveret_store::journal::{self, JournalFile};
use rustix::process::Signal;

use crate::packet::{
    CONNACK, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE,
};
use crate::program::Program;

/// A client that says byte for byte what it is told to.
pub(crate) struct Raw(TcpStream);

/// A packet: its first byte, and what is behind the length.
type Packet = (u8, Vec<u8>);

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// What CONNECT says beside the client's identifier.
#[derive(Clone, Copy, Default)]
pub(crate) struct Connect<'a> {
    pub(crate) clean_start: bool,
    pub(crate) session_s: u32,
    /// Topic and delay.
    pub(crate) will: Option<(&'a str, u32)>,
}

impl Connect<'_> {
    const SESSION: Self = Self {
        clean_start: false,
        session_s: 3_600,
        will: None,
    };
}

impl Raw {
    /// Connects; says whether there was a session.
    pub(crate) fn connect(program: &Program, client_id: &str, wish: Connect<'_>) -> (Self, bool) {
        let stream = TcpStream::connect(program.address("MQTT")).expect("it listens");
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).expect("can be set");
        let mut client = Self(stream);
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        let will = if wish.will.is_some() { 4 } else { 0 };
        body.extend_from_slice(&[5, (u8::from(wish.clean_start) * 2) | will, 0, 0, 5, 0x11]);
        body.extend_from_slice(&wish.session_s.to_be_bytes());
        text(&mut body, client_id.as_bytes());
        if let Some((topic, delay_s)) = wish.will {
            body.extend_from_slice(&[5, 0x18]);
            body.extend_from_slice(&delay_s.to_be_bytes());
            text(&mut body, topic.as_bytes());
            text(&mut body, b"gone");
        }
        client.send(CONNECT, &body);
        let connack = client.expect(CONNACK);
        assert_eq!(connack[1], 0, "{client_id} is accepted");
        (client, connack[0] == 1)
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        assert!(body.len() < 128, "one byte of length");
        let mut packet = vec![first, body.len() as u8];
        packet.extend_from_slice(body);
        self.0.write_all(&packet).expect("it reads");
    }

    fn next(&mut self) -> Packet {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a packet");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).expect("a packet");
        (head[0], body)
    }

    fn expect(&mut self, kind: u8) -> Vec<u8> {
        let (first, body) = self.next();
        assert_eq!(first & 0xf0, kind, "{body:?}");
        body
    }

    /// Publishes, and waits for what says that the broker has it.
    pub(crate) fn publish(&mut self, flags: u8, topic: &str, id: u16, payload: &str) {
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        let qos = flags >> 1 & 3;
        if qos > 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        body.push(0);
        body.extend_from_slice(payload.as_bytes());
        self.send(PUBLISH | flags, &body);
        let answer = [None, Some(PUBACK), Some(PUBREC)][usize::from(qos)];
        if let Some(answer) = answer {
            assert_eq!(self.expect(answer)[..2], id.to_be_bytes());
        }
    }

    pub(crate) fn release(&mut self, id: u16) {
        self.send(PUBREL, &id.to_be_bytes());
        assert_eq!(self.expect(PUBCOMP)[..2], id.to_be_bytes());
    }

    pub(crate) fn subscribe(&mut self, filter: &str) {
        let mut body = vec![0, 1, 0];
        text(&mut body, filter.as_bytes());
        body.push(1);
        self.send(SUBSCRIBE, &body);
        self.expect(SUBACK);
    }

    /// Leaves, with the will published when it is due (MQTT 5.0 §3.14.2.1).
    pub(crate) fn leave_with_will(mut self) {
        self.send(DISCONNECT, &[4]);
        let mut end = Vec::new();
        self.0.read_to_end(&mut end).expect("it is closed");
    }

    /// The topic of the next message that was not sent before.
    fn fresh_topic(&mut self) -> String {
        loop {
            let (flags, topic, _) = self.message();
            if flags & DUP == 0 {
                return topic;
            }
        }
    }

    /// The next message: QoS and flags, topic, payload. It is acknowledged.
    pub(crate) fn message(&mut self) -> (u8, String, String) {
        let (first, body) = self.next();
        assert_eq!(first & 0xf0, PUBLISH, "{body:?}");
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..topic_end].to_vec()).expect("is text");
        let mut at = topic_end;
        if first & 6 > 0 {
            self.send(PUBACK, &body[at..at + 2]);
            at += 2;
        }
        let properties = usize::from(body[at]);
        let payload = String::from_utf8(body[at + 1 + properties..].to_vec());
        (first & 0xf, topic, payload.expect("is text"))
    }
}

fn again(program: Program, directory: &Path) -> Program {
    program.stop(Signal::KILL);
    Program::start(directory)
}

pub(crate) const RETAIN: u8 = 1;
pub(crate) const QOS1: u8 = 2;
pub(crate) const QOS2: u8 = 4;
pub(crate) const DUP: u8 = 8;

/// FEATURES M10: what was retained, replaced and cleared before kill -9 is so after it.
#[test]
fn m10_retained_messages_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a data directory");
    let mut program = Program::start(directory.path());
    for life in 0..3 {
        let (mut client, _) = Raw::connect(&program, "p", Connect::default());
        client.publish(RETAIN | QOS1, "r/a", 1, "one");
        client.publish(RETAIN | QOS1, "r/b", 2, "cleared");
        client.publish(RETAIN, "r/c", 0, "once");
        client.publish(RETAIN | QOS1, "r/a", 3, &format!("two {life}"));
        client.publish(RETAIN | QOS1, "r/b", 4, "");
        program = again(program, directory.path());
        let (mut client, _) = Raw::connect(&program, "s", Connect::default());
        client.subscribe("r/#");
        client.publish(0, "r/end", 0, "end");
        let expected = [
            (QOS1 | RETAIN, "r/a", format!("two {life}")),
            (RETAIN, "r/c", "once".to_owned()),
            (0, "r/end", "end".to_owned()),
        ];
        for (flags, topic, payload) in expected {
            assert_eq!(client.message(), (flags, topic.to_owned(), payload));
        }
    }
}

/// FEATURES M7: a QoS 2 publish is routed once, though the broker is killed after each step, and
/// its identifier is free when PUBCOMP says so ([MQTT-4.3.3-10], [MQTT-4.3.3-11]).
#[test]
fn m7_qos_2_is_routed_once_across_kills() {
    let directory = tempfile::tempdir().expect("a data directory");
    let program = Program::start(directory.path());
    let (mut subscriber, _) = Raw::connect(&program, "s", Connect::SESSION);
    subscriber.subscribe("q");
    let (mut client, _) = Raw::connect(&program, "p", Connect::SESSION);
    client.publish(QOS2, "q", 7, "first");

    let program = again(program, directory.path());
    let (mut client, present) = Raw::connect(&program, "p", Connect::SESSION);
    assert!(present, "the identifier is a session's");
    client.publish(QOS2 | DUP, "q", 7, "first");
    client.release(7);

    let program = again(program, directory.path());
    let (mut client, _) = Raw::connect(&program, "p", Connect::SESSION);
    client.publish(QOS2, "q", 7, "second");

    let program = again(program, directory.path());
    // A clean start frees it ([MQTT-3.1.2-4]).
    let anew = Connect {
        clean_start: true,
        ..Connect::SESSION
    };
    let (mut client, _) = Raw::connect(&program, "p", anew);
    client.publish(QOS2, "q", 7, "third");

    let program = again(program, directory.path());
    let (mut subscriber, present) = Raw::connect(&program, "s", Connect::SESSION);
    assert!(present);
    for expected in ["first", "second", "third"] {
        assert_eq!(subscriber.message().2, expected);
    }
    let (mut client, _) = Raw::connect(&program, "p", Connect::SESSION);
    client.release(7);
    client.publish(QOS1, "q", 1, "end");
    assert_eq!(subscriber.message().2, "end");
}

/// FEATURES M11: a delayed will that a kill has come before is published when it is due, or at once
/// when its session ends, and not if its client returns ([MQTT-3.1.3-9]).
#[test]
fn m11_delayed_wills_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a data directory");
    let program = Program::start(directory.path());
    let (mut subscriber, _) = Raw::connect(&program, "s", Connect::SESSION);
    subscriber.subscribe("will/+");
    for (client_id, topic, delay_s) in [
        ("due", "will/due", 1),
        ("ends", "will/ends", 3_600),
        ("returns", "will/returns", 3_600),
    ] {
        let wish = Connect {
            will: Some((topic, delay_s)),
            ..Connect::SESSION
        };
        let (client, _) = Raw::connect(&program, client_id, wish);
        // What follows is behind it in the journal.
        client.leave_with_will();
    }
    let (mut fence, _) = Raw::connect(&program, "f", Connect::default());
    fence.publish(QOS1, "will/fence", 1, "fence");
    assert_eq!(subscriber.fresh_topic(), "will/fence");

    let program = again(program, directory.path());
    let (mut subscriber, _) = Raw::connect(&program, "s", Connect::SESSION);
    let (_returned, _) = Raw::connect(&program, "returns", Connect::SESSION);
    let anew = Connect {
        clean_start: true,
        ..Connect::SESSION
    };
    let (_ended, _) = Raw::connect(&program, "ends", anew);
    let mut seen = [subscriber.fresh_topic(), subscriber.fresh_topic()];
    seen.sort();
    assert_eq!(seen, ["will/due", "will/ends"]);
    // What is acknowledged now lies behind what was called off.
    let (mut fence, _) = Raw::connect(&program, "f", Connect::default());
    fence.publish(QOS1, "will/fence", 1, "fence");
    assert_eq!(subscriber.fresh_topic(), "will/fence");

    let program = again(program, directory.path());
    let (mut subscriber, _) = Raw::connect(&program, "s", Connect::SESSION);
    let (_returned, _) = Raw::connect(&program, "returns", anew);
    let (mut fence, _) = Raw::connect(&program, "f", Connect::default());
    fence.publish(QOS1, "will/fence", 1, "fence");
    assert_eq!(
        subscriber.fresh_topic(),
        "will/fence",
        "called off for good"
    );
}

/// A broker over what is in this directory, at this time.
pub(crate) fn broker_at(directory: &DataDir, now: Time) -> (Arc<Broker>, Arc<JournalFile>) {
    broker_with(directory, now, Options::default())
}

fn broker_with(
    directory: &DataDir,
    now: Time,
    options: Options,
) -> (Arc<Broker>, Arc<JournalFile>) {
    let definitions = Arc::new(DefinitionsFile::open(directory).expect("it opens"));
    let disk = Arc::new(Files::open(&directory.path().join("journal")).expect("it opens"));
    let mark = Arc::clone(definitions.watermark());
    let files = journal::Options::default();
    let journal = JournalFile::open(disk, &files, &[&AmqpOrigin], mark).expect("it opens");
    let journal = Arc::new(journal);
    let definitions = definitions as Arc<dyn Definitions>;
    let kept = Arc::clone(&journal) as Arc<dyn Journal>;
    let broker = Broker::open(options, definitions, kept, now, || "hash".to_owned());
    (broker.expect("it opens"), journal)
}

/// FEATURES M6: the time that a session's queue has to live goes on while the broker is down; a
/// queue that was in use gets all of it.
#[test]
fn m6_time_to_live_goes_on_across_a_restart() {
    const BEGIN: Time = Time(1_700_000_000_000);
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(temporary.path()).expect("a data directory");
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let (broker, journal) = broker_at(&directory, turn.now);
    let link = broker.owner_link(&broker.vhost("/").expect("it is there"));
    let mut arguments = Table::new();
    let inserted = arguments.insert("x-expires", Value::I64(100_000));
    inserted.expect("a short name");
    let properties = QueueProperties {
        durable: true,
        journaled: true,
        arguments,
        ..QueueProperties::default()
    };
    let wish = DeclareQueue {
        name: "left",
        passive: false,
        exclusive: false,
        properties,
        session: None,
    };
    link.queue_declare(&mut turn, &wish).expect("may be");
    drop((link, broker));
    drop(journal);

    for (after_ms, is_there) in [(60_000, true), (99_000, true), (101_000, false)] {
        turn.now = BEGIN.after_ms(after_ms);
        let (broker, journal) = broker_at(&directory, turn.now);
        broker.handle_timeout(&mut turn);
        let found = broker.vhost("/").and_then(|vhost| vhost.queue("left"));
        assert_eq!(found.is_some(), is_there, "after {after_ms} ms");
        drop((broker, journal, found));
    }
}

/// FEATURES D1: each virtual host waits for what its own durability says.
#[test]
fn d1_durability_is_of_the_node_and_of_each_vhost() {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(temporary.path()).expect("a data directory");
    let options = Options {
        durability: Durability::Interval,
        vhost_durability: [("safe".to_owned(), Durability::Group)].into(),
        ..Options::default()
    };
    let (broker, journal) = broker_with(&directory, Time(1_700_000_000_000), options);
    broker.add_vhost("safe").expect("a new vhost");
    for (vhost, waits_for) in [("/", journal.written()), ("safe", journal.watermark())] {
        let link = broker.owner_link(&broker.vhost(vhost).expect("it is there"));
        assert!(Arc::ptr_eq(link.journal_mark(), waits_for), "{vhost}");
    }
}
