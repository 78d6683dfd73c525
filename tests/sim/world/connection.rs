//! Connections: the driver's part, with an oracle that listens on the wire.

use std::collections::VecDeque;

use leveret_core::login::{Reply as LoginReply, Request, Verdict};
use leveret_core::peer::{Accepted, Origin};
use leveret_core::turn::Turn;

use super::{ROUNDS_MAX, World};
use crate::amqp::{self, Method};
use crate::message::dotted;
use crate::mqtt::{self, Packet};
use crate::oracle::{Check, Kind, Publication, Reply, Welcome, violation};

/// What bytes of a client mean.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Connect(Welcome),
    Publish(mqtt::Publish, Publication),
    PubAck(u16),
    PubRel(u16),
    Subscribe(u16, &'static str, u8),
    Unsubscribe(u16, &'static str),
    Disconnect,
    Open,
    Declare(&'static str),
    Bind(&'static str, &'static str, bool),
    Purge(&'static str),
    Delete(&'static str),
    AmqpPublish(Publication),
    Consume {
        queue: String,
        tag: String,
        no_ack: bool,
        prefetch: usize,
    },
    Get(String, bool),
    /// Deliveries are settled for this reason, or given back.
    Answer(u64, bool, Option<&'static str>),
}

/// What a client reads.
#[derive(Clone, Debug)]
pub(crate) enum Incoming {
    Mqtt(Packet),
    Amqp(Method),
}

pub(super) enum Machine {
    Mqtt(Box<leveret_mqtt::Connection>, bool),
    Amqp(Box<leveret_amqp::Connection>, amqp::Reader),
}

macro_rules! either {
    ($machine:expr, $held:ident => $call:expr) => {
        match $machine {
            Machine::Mqtt($held, _) => $call,
            Machine::Amqp($held, _) => $call,
        }
    };
}

impl Machine {
    fn handle_input(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        either!(self, held => held.handle_input(turn, input))
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        either!(self, held => held.handle_timeout(turn));
    }

    pub(super) fn handle_close(&mut self, turn: &mut Turn) {
        either!(self, held => held.handle_close(turn));
    }

    /// Answers what it asks; says whether it asked.
    fn answer(&mut self, turn: &mut Turn) -> bool {
        let Some(Request::Login(_)) = either!(self, held => held.poll_request()) else {
            return false;
        };
        let reply = LoginReply::Login(Verdict::Accepted);
        either!(self, held => held.handle_reply(turn, reply));
        true
    }

    fn wake(&mut self, turn: &mut Turn) -> bool {
        let pressed = either!(self, held => held.doorbell().answer());
        if pressed {
            either!(self, held => held.handle_wake(turn));
        }
        pressed
    }

    fn poll_output(&mut self, out: &mut Vec<u8>) {
        either!(self, held => held.poll_output(out));
    }

    fn wants_input(&self) -> bool {
        either!(self, held => held.wants_input())
    }

    fn is_closed(&self) -> bool {
        either!(self, held => held.is_closed())
    }

    /// Takes what the broker has sent off the wire.
    fn read(&mut self, wire: &mut Vec<u8>) -> Result<Option<Incoming>, String> {
        Ok(match self {
            Self::Mqtt(_, v5) => mqtt::take(*v5, wire)?.map(Incoming::Mqtt),
            Self::Amqp(_, reader) => reader.take(wire)?.map(Incoming::Amqp),
        })
    }
}

/// One connection, with what its client has not read.
pub(super) struct Connection {
    pub(super) machine: Machine,
    input: VecDeque<(Vec<Action>, Vec<u8>)>,
    wire: Vec<u8>,
    inbox: VecDeque<Incoming>,
    /// The broker has agreed to the end: the client closes the stream.
    left: bool,
}

impl World {
    /// A client connects; `None` is AMQP, else whether it speaks MQTT 5.0.
    pub(crate) fn connect(&mut self, v5: Option<bool>) -> usize {
        let id = self.next_connection;
        self.next_connection += 1;
        let (name, port) = match v5 {
            Some(_) => ("mqtt", 1883),
            None => ("amqp", 5672),
        };
        let accepted = Accepted {
            peer: ([127, 0, 0, 1], 40_000).into(),
            local: ([127, 0, 0, 1], port).into(),
            origin: Origin::new(name, None),
        };
        let Some(life) = &self.life else {
            return id;
        };
        let machine = match v5 {
            Some(v5) => {
                let held = leveret_mqtt::Connection::new(&life.mqtt, accepted, self.now);
                Machine::Mqtt(Box::new(held), v5)
            }
            None => {
                let held = leveret_amqp::Connection::new(&life.amqp, accepted, self.now);
                Machine::Amqp(Box::new(held), amqp::Reader::default())
            }
        };
        let connection = Connection {
            machine,
            input: VecDeque::new(),
            wire: Vec::new(),
            inbox: VecDeque::new(),
            left: false,
        };
        self.connections.insert(id, connection);
        self.oracle.opened(id);
        id
    }

    pub(crate) fn is_open(&self, id: usize) -> bool {
        self.connections.contains_key(&id)
    }

    /// Whether the broker has not taken all that the client has sent.
    pub(crate) fn is_behind(&self, id: usize) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|connection| !connection.input.is_empty())
    }

    /// The client reads the next packet or method.
    pub(crate) fn read(&mut self, id: usize) -> Option<Incoming> {
        self.connections.get_mut(&id)?.inbox.pop_front()
    }

    /// The client sends bytes in one piece; the world comes to rest.
    pub(crate) fn send(&mut self, id: usize, actions: Vec<Action>, bytes: Vec<u8>) -> Check {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.input.push_back((actions, bytes));
        }
        self.settle()
    }

    /// The stream ends without a word.
    pub(crate) fn cut(&mut self, id: usize) -> Check {
        self.trace.note(|| format!("c{id} is cut"));
        self.close(id)?;
        self.settle()
    }

    fn close(&mut self, id: usize) -> Check {
        let Some(mut connection) = self.connections.remove(&id) else {
            return Ok(());
        };
        if let Some(life) = &mut self.life {
            connection.machine.handle_close(&mut life.turn);
        }
        for name in self.oracle.own_queues(id) {
            self.oracle.let_vanish(&name);
        }
        let queues = self.queues();
        self.oracle.look(&queues)?;
        let now = self.now_ms();
        self.oracle.closed(id, now)
    }

    /// Drives everybody until nobody has anything to do, or the process has ended.
    pub(crate) fn settle(&mut self) -> Check {
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            let ids: Vec<usize> = self.connections.keys().copied().collect();
            for id in ids {
                busy |= self.drive(id)?;
            }
            if let Some(life) = &mut self.life {
                life.turn.ring();
            }
            if !busy {
                return Ok(());
            }
        }
        violation("the world does not come to rest", None, None)
    }

    /// One round of what a driver does; says whether anything happened.
    fn drive(&mut self, id: usize) -> Result<bool, crate::oracle::Violation> {
        let (Some(life), Some(connection)) = (&mut self.life, self.connections.get_mut(&id)) else {
            return Ok(false);
        };
        let mut busy = connection.machine.wake(&mut life.turn);
        // What it said so far was said before it takes more.
        busy |= self.listen(id)?;
        busy |= self.feed(id)?;
        busy |= self.listen(id)?;
        let closed = |held: &Connection| held.left || held.machine.is_closed();
        if self.connections.get(&id).is_some_and(closed) {
            self.trace.note(|| format!("c{id} is closed"));
            self.close(id)?;
            busy = true;
        }
        Ok(busy)
    }

    /// Gives the machine the next input, and the oracle what it means once it is taken.
    fn feed(&mut self, id: usize) -> Result<bool, crate::oracle::Violation> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(false);
        };
        let Some((actions, bytes)) = connection.input.front_mut() else {
            return Ok(false);
        };
        if !connection.machine.wants_input() {
            return Ok(false);
        }
        let before: Vec<Option<u64>> = actions
            .iter()
            .map(|action| prepare(&mut self.oracle, action))
            .collect();
        let Some(life) = &mut self.life else {
            return Ok(false);
        };
        let taken = connection.machine.handle_input(&mut life.turn, bytes);
        bytes.drain(..taken);
        let asked = connection.machine.answer(&mut life.turn);
        if !bytes.is_empty() {
            return Ok(taken > 0 || asked);
        }
        let Some((actions, _)) = connection.input.pop_front() else {
            return Ok(false);
        };
        let queues = self.queues();
        self.oracle.look(&queues)?;
        for (action, before) in actions.iter().zip(before) {
            self.trace.note(|| format!("c{id} > {}", show(action)));
            self.taken(id, action, before)?;
        }
        Ok(true)
    }

    /// The machine has taken what this means.
    fn taken(&mut self, id: usize, action: &Action, before: Option<u64>) -> Check {
        let now = self.now_ms();
        let oracle = &mut self.oracle;
        match action {
            Action::Connect(welcome) => oracle.connected(id, welcome, now)?,
            Action::Publish(publish, publication) => {
                oracle.mqtt_published(id, publish, publication, now);
            }
            Action::PubAck(packet_id) => {
                oracle.answered(id, (*packet_id).into(), false, Some("acknowledged"));
            }
            Action::PubRel(packet_id) => oracle.released(id, *packet_id),
            Action::Subscribe(packet_id, filter, qos) => {
                oracle.subscribed(id, *packet_id, &dotted(filter), *qos);
            }
            Action::Unsubscribe(packet_id, filter) => {
                oracle.unsubscribed(id, *packet_id, &dotted(filter));
            }
            Action::Disconnect | Action::Open => {}
            Action::Declare(name) => {
                let queue = oracle.queue(name).unwrap_or_default();
                oracle.asked(id, Reply::Declare(queue));
            }
            Action::Bind(name, key, present) => {
                let queue = oracle.queue(name).unwrap_or_default();
                oracle.bound(queue, key, *present);
                oracle.asked(id, Reply::Bind(queue, (*key).to_owned()));
            }
            Action::Purge(_) => {
                oracle.purged(before.unwrap_or_default());
                oracle.asked(id, Reply::Purge);
            }
            Action::Delete(_) => oracle.asked(id, Reply::Delete(before.unwrap_or_default())),
            Action::AmqpPublish(publication) => oracle.amqp_published(id, publication, now),
            Action::Consume {
                tag,
                no_ack,
                prefetch,
                ..
            } => oracle.consuming(id, tag, before.unwrap_or_default(), *no_ack, *prefetch),
            Action::Get(_, no_ack) => {
                let (queue, no_ack) = (before.unwrap_or_default(), *no_ack);
                oracle.asked(id, Reply::Get { queue, no_ack });
            }
            Action::Answer(tag, multiple, done) => oracle.answered(id, *tag, *multiple, *done),
        }
        Ok(())
    }

    /// Reads what the machine has sent.
    fn listen(&mut self, id: usize) -> Result<bool, crate::oracle::Violation> {
        let mut any = false;
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return Ok(any);
            };
            connection.machine.poll_output(&mut connection.wire);
            let read = connection.machine.read(&mut connection.wire);
            let incoming = match read {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return Ok(any),
                Err(why) => return violation(why, None, None),
            };
            connection.inbox.push_back(incoming.clone());
            any = true;
            self.trace.note(|| format!("c{id} < {}", shown(&incoming)));
            match incoming {
                Incoming::Mqtt(packet) => self.heard_mqtt(id, packet)?,
                Incoming::Amqp(method) => self.heard_amqp(id, method)?,
            }
        }
    }

    fn heard_mqtt(&mut self, id: usize, packet: Packet) -> Check {
        let now = self.now_ms();
        let oracle = &mut self.oracle;
        match packet {
            Packet::ConnAck { code: 0, present } => oracle.welcomed(id, present)?,
            Packet::ConnAck { code, .. } => {
                return violation(format!("a CONNECT is refused with {code}"), None, None);
            }
            Packet::Publish {
                message,
                qos,
                dup,
                packet_id,
            } => oracle.mqtt_delivered(id, (message, qos, dup, packet_id), now)?,
            Packet::PubAck { packet_id, reason } if reason < 0x80 => {
                oracle.mqtt_acknowledged(id, Kind::PubAck, packet_id)?;
            }
            Packet::PubRec { packet_id, reason } if reason < 0x80 => {
                oracle.mqtt_acknowledged(id, Kind::PubRec, packet_id)?;
            }
            Packet::SubAck { packet_id, codes } if codes.iter().all(|code| *code < 2) => {
                oracle.subscription_told(id, packet_id);
            }
            Packet::UnsubAck { packet_id } => oracle.subscription_told(id, packet_id),
            Packet::PubComp { .. } | Packet::Disconnect => {}
            other => return violation(format!("unexpected: {other:?}"), None, None),
        }
        Ok(())
    }

    fn heard_amqp(&mut self, id: usize, method: Method) -> Check {
        let now = self.now_ms();
        let oracle = &mut self.oracle;
        match method {
            Method::Deliver {
                consumer,
                tag,
                redelivered,
                message,
            } => oracle.amqp_delivered(id, &consumer, (tag, redelivered, message), now),
            Method::GetOk {
                tag,
                redelivered,
                message,
            } => oracle.got(id, (tag, redelivered, message), now),
            Method::GetEmpty => oracle.told(id, "basic.get-empty"),
            Method::Ack { tag, multiple } => oracle.confirmed(id, tag, multiple, true),
            Method::Nack { tag, multiple } => oracle.confirmed(id, tag, multiple, false),
            Method::Done(name) => oracle.told(id, name),
            Method::Close(why) => violation(format!("unexpected close: {why}"), None, None),
            Method::Closed => {
                let connection = self.connections.get_mut(&id);
                connection.into_iter().for_each(|held| held.left = true);
                Ok(())
            }
            Method::Cancel | Method::Opened | Method::Other => Ok(()),
        }
    }
}

/// What must be known before the machine takes it: which queue a name stands for.
fn prepare(oracle: &mut crate::oracle::Oracle, action: &Action) -> Option<u64> {
    match action {
        Action::Connect(welcome) => {
            for name in oracle.ends_with(welcome) {
                oracle.let_vanish(&name);
            }
            None
        }
        Action::Delete(name) => {
            oracle.let_vanish(name);
            oracle.queue(name)
        }
        Action::Purge(name) => oracle.queue(name),
        Action::Consume { queue, .. } | Action::Get(queue, _) => oracle.queue(queue),
        _ => None,
    }
}

/// An action, for the trace.
fn show(action: &Action) -> String {
    match action {
        Action::Publish(publish, publication) => {
            let (id, qos, packet_id) = (publication.message, publish.qos, publish.packet_id);
            let (dup, topic) = (if publish.dup { " dup" } else { "" }, publish.topic);
            format!("PUBLISH [{id}] {topic} qos{qos} id {packet_id}{dup}")
        }
        Action::AmqpPublish(publication) => {
            let kind = if publication.persistent {
                "persistent"
            } else {
                "transient"
            };
            format!(
                "basic.publish [{}] {kind} {:?}",
                publication.message, publication.target
            )
        }
        Action::Connect(welcome) => {
            let (client, fresh, ms) = (&welcome.client, welcome.fresh, welcome.stays_ms);
            format!("CONNECT {client} fresh {fresh} stays {ms:?} ms")
        }
        other => format!("{other:?}"),
    }
}

fn shown(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Mqtt(Packet::Publish {
            message,
            qos,
            dup,
            packet_id,
        }) => {
            let dup = if *dup { " dup" } else { "" };
            format!("PUBLISH [{message}] qos{qos} id {packet_id}{dup}")
        }
        Incoming::Amqp(Method::Deliver {
            consumer,
            tag,
            redelivered,
            message,
        }) => {
            let again = if *redelivered { " again" } else { "" };
            format!("basic.deliver [{message}] tag {tag} to {consumer}{again}")
        }
        Incoming::Amqp(Method::GetOk {
            tag,
            redelivered,
            message,
        }) => {
            let again = if *redelivered { " again" } else { "" };
            format!("basic.get-ok [{message}] tag {tag}{again}")
        }
        Incoming::Mqtt(packet) => format!("{packet:?}"),
        Incoming::Amqp(method) => format!("{method:?}"),
    }
}
