//! MQTT clients: publishers that bring every QoS 1 and 2 publish to its end, and subscribers that
//! come, go, and acknowledge when they like.

use std::collections::BTreeMap;

use super::size;
use crate::message::{FILTERS, Id, TOPICS, dotted, payload};
use crate::mqtt::{self, Packet};
use crate::oracle::{Check, Publication, Target, Welcome};
use crate::parts::Parts;
use crate::random::Random;
use crate::world::{Action, Incoming, World};

/// Publishes that may be open at once.
const OPEN_MAX: usize = 6;

/// What a broker lets be in flight to a client that asks for no less.
const PREFETCH: usize = 10;

/// Seconds of a session that does not expire here, unless the operator wants it.
const LONG_S: u32 = 3_600;

/// Sends CONNECT, and tells what it means.
fn send_connect(
    world: &mut World,
    connection: usize,
    connect: &mqtt::Connect<'_>,
    window: usize,
) -> Check {
    let welcome = Welcome {
        client: connect.client.to_owned(),
        fresh: connect.fresh,
        stays_ms: Some(connect.stays_ms(world.session_ms_max)),
        window,
    };
    let action = Action::Connect(welcome);
    world.send(connection, vec![action], connect.encode())
}

/// A publish that is not at its end.
struct Open {
    publish: mqtt::Publish,
    publication: Publication,
    /// PUBREC was read: PUBREL is due.
    received: bool,
}

/// A client that publishes, with a session that outlives its connections.
pub(crate) struct Publisher {
    random: Random,
    number: u8,
    client: String,
    v5: bool,
    pub(super) connection: usize,
    ready: bool,
    published: u32,
    packet_id: u16,
    open: Vec<Open>,
}

impl Publisher {
    pub(super) fn new(seed: u64, number: u8) -> Self {
        let mut random = Random::new(seed, 100 + u64::from(number));
        Self {
            v5: random.percent(50),
            random,
            number,
            client: format!("p{number:02}"),
            connection: 0,
            ready: false,
            published: 0,
            packet_id: 0,
            open: Vec::new(),
        }
    }

    pub(super) fn open_messages(&self) -> Vec<Id> {
        let open = self.open.iter();
        open.map(|open| open.publication.message).collect()
    }

    pub(super) fn act(&mut self, world: &mut World, last: bool) -> Check {
        if !world.is_open(self.connection) {
            return self.connect(world);
        }
        self.read(world, last)?;
        if !self.ready || last {
            return Ok(());
        }
        match self.random.below(100) {
            0..4 => world.cut(self.connection),
            4..6 => world.send(
                self.connection,
                vec![Action::Disconnect],
                mqtt::disconnect(),
            ),
            // The session is taken over from a connection that is still open.
            6..8 => self.connect(world),
            8..70 => self.publish(world),
            _ => Ok(()),
        }
    }

    fn connect(&mut self, world: &mut World) -> Check {
        self.ready = false;
        self.connection = world.connect(Some(self.v5));
        let connect = mqtt::Connect {
            client: &self.client,
            v5: self.v5,
            fresh: false,
            expiry_s: LONG_S,
            window: PREFETCH as u16,
        };
        send_connect(world, self.connection, &connect, PREFETCH)
    }

    fn read(&mut self, world: &mut World, last: bool) -> Check {
        let packets = if last { 1_000 } else { self.random.below(6) };
        for _ in 0..packets {
            let Some(Incoming::Mqtt(packet)) = world.read(self.connection) else {
                return Ok(());
            };
            match packet {
                Packet::ConnAck { .. } => self.resume(world)?,
                Packet::PubAck { packet_id, .. } | Packet::PubComp { packet_id } => {
                    self.open.retain(|open| open.publish.packet_id != packet_id);
                }
                Packet::PubRec { packet_id, .. } => {
                    let mut open = self.open.iter_mut();
                    let found = open.find(|open| open.publish.packet_id == packet_id);
                    if let Some(open) = found {
                        open.received = true;
                        self.release(world, packet_id)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn release(&mut self, world: &mut World, packet_id: u16) -> Check {
        let bytes = mqtt::acknowledge(6, packet_id);
        world.send(self.connection, vec![Action::PubRel(packet_id)], bytes)
    }

    /// [MQTT-4.4.0-1]: what is not at its end is sent again, in order.
    fn resume(&mut self, world: &mut World) -> Check {
        self.ready = true;
        let (mut actions, mut bytes) = (Vec::new(), Vec::new());
        for open in &mut self.open {
            let packet_id = open.publish.packet_id;
            if open.received {
                actions.push(Action::PubRel(packet_id));
                bytes.extend(mqtt::acknowledge(6, packet_id));
            } else {
                open.publish.dup = true;
                bytes.extend(open.publish.encode());
                let (publish, publication) = (open.publish.clone(), open.publication.clone());
                actions.push(Action::Publish(publish, publication));
            }
        }
        if actions.is_empty() {
            return Ok(());
        }
        world.send(self.connection, actions, bytes)
    }

    fn publish(&mut self, world: &mut World) -> Check {
        let (mut actions, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.random.below(4) {
            if self.open.len() >= OPEN_MAX {
                break;
            }
            let (publish, publication) = self.next();
            bytes.extend(publish.encode());
            actions.push(Action::Publish(publish.clone(), publication.clone()));
            if publish.qos > 0 {
                self.open.push(Open {
                    publish,
                    publication,
                    received: false,
                });
            }
        }
        if actions.is_empty() {
            return Ok(());
        }
        world.send(self.connection, actions, bytes)
    }

    fn next(&mut self) -> (mqtt::Publish, Publication) {
        self.published += 1;
        let message = Id {
            publisher: self.number,
            number: self.published,
        };
        let topic = *self.random.pick(&TOPICS);
        let qos = [0, 1, 1, 2, 2][self.random.below(5)];
        if qos > 0 {
            self.packet_id = loop {
                // Few ids, so that they are used again soon.
                let next = self.packet_id % 12 + 1;
                self.packet_id = next;
                if self.open.iter().all(|open| open.publish.packet_id != next) {
                    break next;
                }
            };
        }
        let expiry_s =
            (self.v5 && self.random.percent(15)).then(|| 1 + self.random.below(2) as u32);
        let publish = mqtt::Publish {
            v5: self.v5,
            qos,
            dup: false,
            packet_id: if qos > 0 { self.packet_id } else { 0 },
            topic,
            expiry_s,
            payload: payload(message, size(&mut self.random)),
        };
        let publication = Publication {
            message,
            target: Target::Topic(dotted(topic)),
            persistent: qos > 0,
            ttl_ms: expiry_s.map(|seconds| u64::from(seconds) * 1_000),
        };
        (publish, publication)
    }
}

/// How long the sessions of a client stay, by choices of their own.
struct Expiry {
    random: Random,
    usual_s: u32,
}

impl Expiry {
    fn new(seed: u64, number: u8) -> Self {
        let mut random = Random::new(seed, 200 + u64::from(number));
        Self {
            usual_s: 1 + random.below(3) as u32,
            random,
        }
    }

    /// Whether a session that begins anew outlives its connection, and for how many seconds one
    /// does.
    fn choose(&mut self) -> (bool, u32) {
        let expiry_s = match self.random.below(20) {
            0 => 0,
            1 => LONG_S,
            2..6 => 1 + self.random.below(3) as u32,
            _ => self.usual_s,
        };
        (self.random.percent(50), expiry_s)
    }
}

/// A client that subscribes.
pub(crate) struct Subscriber {
    random: Random,
    /// How its sessions expire, if they do.
    expiry: Option<Expiry>,
    client: String,
    v5: bool,
    clean: bool,
    window: usize,
    pub(super) connection: usize,
    ready: bool,
    packet_id: u16,
    filters: BTreeMap<&'static str, u8>,
    unacked: Vec<u16>,
}

impl Subscriber {
    pub(super) fn new(seed: u64, number: u8, parts: Parts) -> Self {
        let mut random = Random::new(seed, 100 + u64::from(number));
        Self {
            expiry: parts.expiry.then(|| Expiry::new(seed, number)),
            v5: random.percent(50),
            clean: random.percent(25),
            window: 1 + random.below(6),
            random,
            client: format!("s{number:02}"),
            connection: 0,
            ready: false,
            packet_id: 0,
            filters: BTreeMap::new(),
            unacked: Vec::new(),
        }
    }

    pub(super) fn act(&mut self, world: &mut World) -> Check {
        if !world.is_open(self.connection) {
            return match self.random.percent(40) {
                true => self.connect(world),
                false => Ok(()),
            };
        }
        self.read(world);
        if !self.ready {
            return Ok(());
        }
        let chance = self.random.below(100);
        match chance {
            0..3 => world.cut(self.connection),
            3..5 => world.send(
                self.connection,
                vec![Action::Disconnect],
                mqtt::disconnect(),
            ),
            5..7 => self.connect(world),
            7..17 => self.subscribe(world),
            17..20 => self.unsubscribe(world),
            _ if self.filters.is_empty() => self.subscribe(world),
            _ => self.acknowledge(world),
        }
    }

    fn connect(&mut self, world: &mut World) -> Check {
        // A persistent session is given up now and then.
        let fresh = self.clean || self.random.percent(3);
        if fresh {
            self.filters.clear();
        }
        self.ready = false;
        self.unacked.clear();
        self.connection = world.connect(Some(self.v5));
        let expiry = self.expiry.as_mut().filter(|_| !self.clean);
        let (kept, expiry_s) = expiry.map_or((false, LONG_S), Expiry::choose);
        let connect = mqtt::Connect {
            client: &self.client,
            v5: self.v5,
            fresh,
            expiry_s: if fresh && !kept { 0 } else { expiry_s },
            window: self.window as u16,
        };
        let window = if self.v5 { self.window } else { PREFETCH };
        send_connect(world, self.connection, &connect, window)
    }

    fn read(&mut self, world: &mut World) {
        for _ in 0..self.random.below(8) {
            match world.read(self.connection) {
                Some(Incoming::Mqtt(Packet::ConnAck { present, .. })) => {
                    self.ready = true;
                    if !present {
                        self.filters.clear();
                    }
                }
                Some(Incoming::Mqtt(Packet::Publish { qos, packet_id, .. })) if qos > 0 => {
                    self.unacked.push(packet_id);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn acknowledge(&mut self, world: &mut World) -> Check {
        let (mut actions, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..self.random.below(4) {
            if self.unacked.is_empty() {
                break;
            }
            let packet_id = self.unacked.remove(0);
            actions.push(Action::PubAck(packet_id));
            bytes.extend(mqtt::acknowledge(4, packet_id));
        }
        if actions.is_empty() {
            return Ok(());
        }
        world.send(self.connection, actions, bytes)
    }

    fn subscribe(&mut self, world: &mut World) -> Check {
        let filter = *self.random.pick(&FILTERS);
        let qos = [0, 1, 1, 2][self.random.below(4)];
        self.packet_id += 1;
        self.filters.insert(filter, qos);
        let bytes = mqtt::subscribe(self.v5, self.packet_id, filter, qos);
        let action = Action::Subscribe(self.packet_id, filter, qos);
        world.send(self.connection, vec![action], bytes)
    }

    fn unsubscribe(&mut self, world: &mut World) -> Check {
        let Some(filter) = self.filters.keys().next().copied() else {
            return Ok(());
        };
        self.packet_id += 1;
        self.filters.remove(filter);
        let bytes = mqtt::unsubscribe(self.v5, self.packet_id, filter);
        let action = Action::Unsubscribe(self.packet_id, filter);
        world.send(self.connection, vec![action], bytes)
    }
}
