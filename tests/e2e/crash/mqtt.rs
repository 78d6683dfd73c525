//! MQTT 3.1.1 clients with persistent sessions, who do after each kill what the specification asks
//! of them: what was not acknowledged is sent again with DUP, in order, and PUBREL goes on.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::oracle::{Oracle, Way};
use crate::packet::{
    CONNACK, CONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE,
};

const DUP: u8 = 8;

/// Publishes that are under way at once.
const WINDOW: usize = 24;

/// Deliveries that a subscriber does not acknowledge at first.
const LEFT_MAX: usize = 5;

/// A connection. An error is its end: the broker was killed.
struct Wire(TcpStream);

impl Wire {
    /// Connects, and says whether there was a session.
    fn open(address: &str, client_id: &str) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        let mut wire = Self(stream);
        let mut body = b"\0\x04MQTT\x04\0\0\0".to_vec();
        put_text(&mut body, client_id);
        wire.send(CONNECT, &body)?;
        let (first, body) = wire.next()?;
        assert_eq!((first, body[1]), (CONNACK, 0), "{client_id} is accepted");
        Ok((wire, body[0] == 1))
    }

    fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        assert!(body.len() < 128, "one byte of length");
        let mut packet = vec![first, body.len() as u8];
        packet.extend_from_slice(body);
        self.0.write_all(&packet)
    }

    fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).map_err(not_silence)?;
        assert!(head[1] < 128, "one byte of length");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).map_err(not_silence)?;
        Ok((head[0], body))
    }
}

/// A broker that is there and says nothing is no killed one.
fn not_silence(why: io::Error) -> io::Error {
    let silent = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&why.kind());
    assert!(!silent, "the broker does not answer");
    why
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn number(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// What is under way.
struct Flight {
    message: String,
    /// PUBREC has come.
    released: bool,
    /// In the order in which it was sent first.
    order: u64,
}

/// A client that publishes with QoS 1 or 2.
pub(super) struct Publisher {
    client_id: String,
    way: Way,
    next: u64,
    flights: BTreeMap<u16, Flight>,
    oracle: Oracle,
}

impl Publisher {
    pub(super) fn new(client_id: &str, way: Way, oracle: &Oracle) -> Self {
        Self {
            client_id: client_id.to_owned(),
            way,
            next: 0,
            flights: BTreeMap::new(),
            oracle: oracle.clone(),
        }
    }

    /// Publishes until the broker is killed.
    pub(super) fn run(mut self, address: &str) -> Self {
        let ended: io::Result<()> = self.serve(address, true);
        assert!(ended.is_err(), "it publishes for ever");
        self
    }

    /// Ends what is under way, and publishes nothing more.
    pub(super) fn finish(mut self, address: &str) {
        self.serve(address, false).expect("nobody kills it");
    }

    fn serve(&mut self, address: &str, fresh: bool) -> io::Result<()> {
        let (mut wire, present) = Wire::open(address, &self.client_id)?;
        if !present {
            // Nothing of it was left: a PUBREL was done whose PUBCOMP was lost.
            self.flights.retain(|_, flight| !flight.released);
        }
        self.send_again(&mut wire, present)?;
        loop {
            while fresh && self.flights.len() < WINDOW {
                self.publish(&mut wire)?;
            }
            if self.flights.is_empty() {
                return Ok(());
            }
            let (first, body) = wire.next()?;
            let id = number(&body);
            let flight = self.flights.get_mut(&id).expect("it is under way");
            match (first, self.way) {
                (PUBACK, Way::Qos1) => {
                    self.oracle.acknowledged(&flight.message);
                    self.flights.remove(&id);
                }
                (PUBREC, Way::Qos2) => {
                    if !std::mem::replace(&mut flight.released, true) {
                        self.oracle.acknowledged(&flight.message);
                    }
                    wire.send(PUBREL, &id.to_be_bytes())?;
                }
                (PUBCOMP, Way::Qos2) => {
                    assert!(flight.released);
                    self.flights.remove(&id);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    fn send_again(&mut self, wire: &mut Wire, present: bool) -> io::Result<()> {
        let mut ids: Vec<u16> = self.flights.keys().copied().collect();
        ids.sort_by_key(|id| self.flights[id].order);
        for id in ids {
            let flight = &self.flights[&id];
            if flight.released {
                wire.send(PUBREL, &id.to_be_bytes())?;
            } else {
                self.send(wire, id, if present { DUP } else { 0 })?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, wire: &mut Wire) -> io::Result<()> {
        let mut ids = 1..=u16::MAX;
        let id = ids.find(|id| !self.flights.contains_key(id));
        let id = id.expect("the window is smaller");
        let flight = Flight {
            message: format!("{}:{}", self.client_id, self.next),
            released: false,
            order: self.next,
        };
        self.next += 1;
        self.flights.insert(id, flight);
        self.send(wire, id, 0)
    }

    fn send(&self, wire: &mut Wire, id: u16, dup: u8) -> io::Result<()> {
        let message = &self.flights[&id].message;
        let qos = if self.way == Way::Qos1 { 2 } else { 4 };
        let mut body = Vec::new();
        put_text(&mut body, &format!("crash/{}", self.client_id));
        body.extend_from_slice(&id.to_be_bytes());
        body.extend_from_slice(message.as_bytes());
        self.oracle.sent(self.way, message);
        wire.send(PUBLISH | qos | dup, &body)
    }
}

/// A client that gets everything with QoS 1 and acknowledges most of it.
pub(super) struct Subscriber {
    pub(super) queue: &'static str,
    pub(super) oracle: Oracle,
}

impl Subscriber {
    /// Subscribes; from then on the broker keeps everything for it.
    pub(super) fn subscribe(&self, address: &str) {
        let (mut wire, _) = Wire::open(address, self.queue).expect("it listens");
        let mut body = vec![0, 1];
        put_text(&mut body, "crash/#");
        body.push(1);
        wire.send(SUBSCRIBE, &body).expect("it reads");
        let (first, body) = wire.next().expect("it answers");
        assert_eq!((first, body[2]), (SUBACK, 1));
    }

    /// Takes deliveries until the broker is killed, or until this message.
    pub(super) fn run(&self, address: &str, last: Option<&str>) {
        let ended = self.serve(address, last);
        assert!(ended.is_err() || last.is_some(), "it never ends");
    }

    fn serve(&self, address: &str, last: Option<&str>) -> io::Result<()> {
        let (mut wire, present) = Wire::open(address, self.queue)?;
        assert!(present, "it has subscribed");
        let mut left = Vec::new();
        let mut count = 0;
        loop {
            let (first, body) = wire.next()?;
            assert_eq!(first & 0xf6, PUBLISH | 2, "QoS 1");
            let at = 2 + usize::from(number(&body));
            let id = number(&body[at..]);
            let message = std::str::from_utf8(&body[at + 2..]).expect("is text");
            if last == Some(message) {
                return wire.send(PUBACK, &id.to_be_bytes());
            }
            self.oracle.delivered(self.queue, message, first & DUP > 0);
            count += 1;
            if count % 4 == 0 && left.len() < LEFT_MAX && last.is_none() {
                left.push(id);
            } else {
                wire.send(PUBACK, &id.to_be_bytes())?;
            }
        }
    }
}
