//! An MQTT client: 3.1, 3.1.1 and 5.0.
//!
//! Owns the packets of one connection after another thread has cut them, packet identifiers, the
//! handshakes of QoS 1 and 2 and the keep alive. What it subscribes and publishes is told once.

mod packet;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::num::NonZeroU16;
use std::time::Duration;

use leveret_core::time::Time;
use leveret_management::protocol::Failure;
use leveret_mqtt::codec::{PacketType, Reader};
use leveret_mqtt::packet::connect::{Connect, ConnectProperties, Will};
use leveret_mqtt::packet::publish::{OutgoingPublish, encode as encode_publish};
use leveret_mqtt::packet::subscribe::{Subscription, SubscriptionOptions};
use leveret_mqtt::packet::{ProtocolVersion, QoS, ack, disconnect, ping, subscribe, unsubscribe};
use leveret_mqtt::property::{Properties, PropertySet};
use leveret_mqtt::reason_code::ReasonCode;

use self::packet::{Granted, Packet, Welcome};
use super::inbox::{Feed, Inbox, Input, spawn};
use super::property::{Blocks, with_length};
use super::reader::Buffered;
use super::url::Target;
use super::{CONNECT_MS_MAX, Happened, Message, Wire, broken, lost, socket, unfit};

/// The session that is asked for.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Options {
    pub(in crate::cli) version: ProtocolVersion,
    pub(in crate::cli) client_id: String,
    pub(in crate::cli) clean: bool,
    pub(in crate::cli) keep_alive_s: u16,
    pub(in crate::cli) session_expiry_s: Option<u32>,
    pub(in crate::cli) will: Option<Testament>,
    pub(in crate::cli) blocks: Blocks,
    /// Says on standard output what is sent and received.
    pub(in crate::cli) debug: bool,
    pub(in crate::cli) publish: Publishing,
}

/// A will.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Testament {
    pub(in crate::cli) topic: String,
    pub(in crate::cli) payload: Vec<u8>,
    pub(in crate::cli) qos: QoS,
    pub(in crate::cli) retain: bool,
}

/// How messages are published.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Publishing {
    pub(in crate::cli) topic: String,
    pub(in crate::cli) qos: QoS,
    pub(in crate::cli) retain: bool,
    /// Messages that may wait for their acknowledgement.
    pub(in crate::cli) window: usize,
}

/// A client that is connected.
pub(in crate::cli) struct Client {
    stream: TcpStream,
    inbox: Inbox<Packet>,
    options: Options,
    welcome: Welcome,
    keep_alive_ms: u64,
    last_id: u16,
    /// What was published and is not acknowledged.
    unsettled: HashSet<NonZeroU16>,
    /// QoS 2 messages that came and were not released: a repetition is the same message.
    received: HashSet<NonZeroU16>,
    aliases: HashMap<u16, String>,
    ping_due: Time,
    /// When the answer to a PINGREQ is overdue.
    pong_due: Option<Time>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// 69: the broker is not there or refuses; 65: something is too long for MQTT.
    pub(in crate::cli) fn connect(target: &Target, options: Options) -> Result<Self, Failure> {
        let mut stream = socket::dial(target)?;
        let connect = connect_packet(target, &options)?;
        let handshake = Duration::from_millis(CONNECT_MS_MAX);
        let limited = stream
            .set_read_timeout(Some(handshake))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_LIMIT)));
        limited.map_err(|why| lost(why.to_string()))?;
        debug(&options, "sending CONNECT");
        stream
            .write_all(&connect)
            .map_err(|why| lost(format!("the connection is lost: {why}")))?;
        let readable = stream.try_clone().map_err(|why| lost(why.to_string()))?;
        let mut buffer = Buffered::new(readable);
        let welcome = match packet::next(&mut buffer, options.version)? {
            Packet::ConnAck(welcome) => welcome,
            other => return Err(broken(format!("{} instead of CONNACK", other.name()))),
        };
        debug(&options, &format!("received CONNACK ({})", welcome.code));
        if let Some(why) = &welcome.refusal {
            return Err(lost(format!("the broker refused the connection: {why}")));
        }
        buffer
            .stream()
            .set_read_timeout(None)
            .map_err(|why| lost(why.to_string()))?;
        let inbox = Inbox::new();
        let (sender, version) = (inbox.sender(), options.version);
        spawn("packets", move || {
            loop {
                let packet = packet::next(&mut buffer, version);
                let ended = packet.is_err();
                if sender.send(Input::Wire(packet)).is_err() || ended {
                    return;
                }
            }
        })?;
        let keep_alive_s = welcome.keep_alive_s.unwrap_or(options.keep_alive_s);
        let mut client = Self {
            stream,
            inbox,
            welcome,
            keep_alive_ms: u64::from(keep_alive_s) * 1_000,
            last_id: 0,
            unsettled: HashSet::new(),
            received: HashSet::new(),
            aliases: HashMap::new(),
            ping_due: Time(u64::MAX),
            pong_due: None,
            options,
        };
        client.sent();
        Ok(client)
    }

    /// Subscribes, and gives what was granted for each filter.
    ///
    /// # Errors
    /// 69: the broker is gone; 65: a filter is too long.
    pub(in crate::cli) fn subscribe(
        &mut self,
        filters: &[String],
        options: SubscriptionOptions,
    ) -> Result<Vec<Granted>, Failure> {
        let id = self.next_id();
        let asked: Vec<_> = filters
            .iter()
            .map(|filter| Subscription { filter, options })
            .collect();
        let mut out = Vec::new();
        let block = &self.options.blocks.subscribe;
        subscribe::encode(&mut out, self.options.version, id, block, &asked)
            .map_err(|why| unfit(why.to_string()))?;
        self.debug(&format!(
            "sending SUBSCRIBE (Mid: {id}, Topics: {})",
            filters.len()
        ));
        self.send(&out)?;
        let granted = self.answer(|packet| match packet {
            Packet::SubAck(of, granted) if *of == id => Some(std::mem::take(granted)),
            _ => None,
        })?;
        self.debug("received SUBACK");
        if self.options.debug {
            let codes: Vec<_> = granted.iter().map(|one| one.code.to_string()).collect();
            println!("Subscribed (mid: {id}): {}", codes.join(", "));
        }
        Ok(granted)
    }

    /// Unsubscribes.
    ///
    /// # Errors
    /// 69: the broker is gone; 65: a filter is too long.
    pub(in crate::cli) fn unsubscribe(&mut self, filters: &[String]) -> Result<(), Failure> {
        let id = self.next_id();
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        let mut out = Vec::new();
        let block = &self.options.blocks.unsubscribe;
        unsubscribe::encode(&mut out, self.options.version, id, block, &filters)
            .map_err(|why| unfit(why.to_string()))?;
        self.debug(&format!(
            "sending UNSUBSCRIBE (Mid: {id}, Topics: {})",
            filters.len()
        ));
        self.send(&out)?;
        self.answer(|packet| match packet {
            Packet::UnsubAck(of) if *of == id => Some(()),
            _ => None,
        })?;
        self.debug("received UNSUBACK");
        Ok(())
    }

    /// Waits for the answer to a request. Messages that come before it, of a session that goes on,
    /// are kept in order.
    fn answer<T>(&mut self, pick: impl Fn(&mut Packet) -> Option<T>) -> Result<T, Failure> {
        let until = self.now().after_ms(CONNECT_MS_MAX);
        let mut early = Vec::new();
        loop {
            match self.inbox.next(Some(until)) {
                Some(Input::Wire(packet)) => {
                    let mut packet = packet?;
                    if let Some(answer) = pick(&mut packet) {
                        self.inbox.put_back(early);
                        return Ok(answer);
                    }
                    if let Packet::Disconnect(why) = &packet {
                        return Err(lost(format!("the broker ended the connection: {why}")));
                    }
                    if early.len() >= EARLY_MAX {
                        return Err(broken("the broker sends messages and no answer"));
                    }
                    early.push(Input::Wire(Ok(packet)));
                }
                Some(other) => early.push(other),
                None => return Err(lost("the broker does not answer")),
            }
        }
    }

    fn next_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.unsettled.contains(&id)
            {
                return id;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream
            .write_all(bytes)
            .map_err(|why| lost(format!("the connection is lost: {why}")))?;
        self.sent();
        Ok(())
    }

    fn sent(&mut self) {
        if self.keep_alive_ms > 0 {
            self.ping_due = self.now().after_ms(self.keep_alive_ms);
        }
    }

    fn acknowledge(&mut self, packet: PacketType, id: NonZeroU16) -> Result<(), Failure> {
        let mut out = Vec::new();
        let version = self.options.version;
        ack::encode(&mut out, version, packet, id, ReasonCode::Success);
        self.debug(&format!("sending {packet} (m{id}, rc0)"));
        self.send(&out)
    }

    fn debug(&self, text: &str) {
        debug(&self.options, text);
    }

    /// Sends PINGREQ when it is time.
    fn keep_alive(&mut self) -> Result<(), Failure> {
        let now = self.now();
        if self.pong_due.is_some_and(|due| now >= due) {
            return Err(lost("the broker does not answer"));
        }
        if now >= self.ping_due {
            self.debug("sending PINGREQ");
            self.send(&ping::PINGREQ)?;
            let due = self.now().after_ms(self.keep_alive_ms);
            self.pong_due.get_or_insert(due);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) -> Result<Option<Happened>, Failure> {
        match packet {
            Packet::Publish(message) => return self.publish_came(message),
            Packet::PubRel(id) => {
                self.received.remove(&id);
                self.acknowledge(PacketType::PubComp, id)?;
            }
            Packet::PubRec(id) => {
                self.debug(&format!("received PUBREC (Mid: {id})"));
                self.acknowledge(PacketType::PubRel, id)?;
            }
            Packet::Settled(name, id, refused) => {
                self.debug(&format!("received {name} (Mid: {id})"));
                self.unsettled.remove(&id);
                return Ok(Some(match refused {
                    Some(why) => Happened::Refused(why),
                    None => Happened::Progress,
                }));
            }
            Packet::PingResp => self.pong_due = None,
            Packet::Disconnect(why) => {
                return Err(lost(format!("the broker ended the connection: {why}")));
            }
            Packet::SubAck(..) | Packet::UnsubAck(_) => {}
            other => return Err(broken(format!("an unexpected {}", other.name()))),
        }
        Ok(None)
    }

    fn publish_came(&mut self, mut message: Message) -> Result<Option<Happened>, Failure> {
        if let Some(alias) = message.extras.topic_alias {
            if message.topic.is_empty() {
                let known = self.aliases.get(&alias).cloned();
                message.topic = known.ok_or_else(|| broken("an alias that was never set"))?;
            } else {
                self.aliases.insert(alias, message.topic.clone());
            }
        }
        self.debug(&format!(
            "received PUBLISH (d0, q{}, r{}, m{}, '{}', ... ({} bytes))",
            message.qos,
            u8::from(message.retain),
            message.id,
            message.topic,
            message.payload.len()
        ));
        let id = u16::try_from(message.id).ok().and_then(NonZeroU16::new);
        if let (2, Some(id)) = (message.qos, id)
            && !self.received.insert(id)
        {
            self.acknowledge(PacketType::PubRec, id)?;
            return Ok(None);
        }
        Ok(Some(Happened::Message(message)))
    }

    fn put_publish(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        properties: &[u8],
        payload: &[u8],
    ) -> Result<(), Failure> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.next_id());
        let publish = OutgoingPublish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload,
        };
        let mut out = Vec::new();
        encode_publish(&mut out, self.options.version, &publish)
            .map_err(|why| unfit(why.to_string()))?;
        if let Some(most) = self.welcome.packet_bytes_max
            && out.len() > most as usize
        {
            let text = format!("a packet of {} bytes; the broker takes {most}", out.len());
            return Err(unfit(text));
        }
        let id = packet_id.map_or(0, NonZeroU16::get);
        self.debug(&format!(
            "sending PUBLISH (d0, q{}, r{}, m{id}, '{topic}', ... ({} bytes))",
            qos as u8,
            u8::from(retain),
            payload.len()
        ));
        self.unsettled.extend(packet_id);
        self.send(&out)
    }
}

impl Wire for Client {
    fn publish(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let Publishing {
            topic, qos, retain, ..
        } = self.options.publish.clone();
        // MQTT 5.0 §3.2.2.3.4
        if qos as u8 > self.welcome.qos_max {
            let text = format!("the broker takes at most QoS {}", self.welcome.qos_max);
            return Err(lost(text));
        }
        let block = self.options.blocks.publish.clone();
        self.put_publish(&topic, qos, retain, &block, payload)
    }

    fn window(&self) -> usize {
        let asked = self.options.publish.window;
        // MQTT 5.0 §3.3.4
        asked.min(self.welcome.receive_maximum.into())
    }

    fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    fn settle(&mut self, message: &Message) -> Result<(), Failure> {
        let id = u16::try_from(message.id).ok().and_then(NonZeroU16::new);
        match (message.qos, id) {
            (1, Some(id)) => self.acknowledge(PacketType::PubAck, id),
            (2, Some(id)) => self.acknowledge(PacketType::PubRec, id),
            _ => Ok(()),
        }
    }

    fn clear_retained(&mut self, topic: &str) -> Result<(), Failure> {
        self.put_publish(topic, QoS::AtLeastOnce, true, &[], &[])
    }

    fn wait(&mut self, until: Option<Time>) -> Result<Happened, Failure> {
        loop {
            self.keep_alive()?;
            let mut due = self.ping_due.min(self.pong_due.unwrap_or(Time(u64::MAX)));
            due = due.min(until.unwrap_or(Time(u64::MAX)));
            let due = (due != Time(u64::MAX)).then_some(due);
            match self.inbox.next(due) {
                Some(Input::Wire(packet)) => {
                    if let Some(happened) = self.handle(packet?)? {
                        return Ok(happened);
                    }
                }
                Some(Input::Line(line)) => return Ok(Happened::Line(line)),
                Some(Input::LinesEnded) => return Ok(Happened::LinesEnded),
                Some(Input::Stop) => return Ok(Happened::Stop),
                None if until.is_some_and(|until| self.now() >= until) => {
                    return Ok(Happened::TimedOut);
                }
                None => {}
            }
        }
    }

    fn now(&self) -> Time {
        self.inbox.clock.now()
    }

    fn inbox(&self) -> Feed {
        self.inbox.feed()
    }

    fn close(&mut self) -> Result<(), Failure> {
        let mut out = Vec::new();
        let block = &self.options.blocks.disconnect;
        disconnect::encode(&mut out, self.options.version, ReasonCode::Success, block)
            .map_err(|why| unfit(why.to_string()))?;
        self.debug("sending DISCONNECT");
        self.send(&out)
    }
}

fn connect_packet(target: &Target, options: &Options) -> Result<Vec<u8>, Failure> {
    let mut blocks = options.blocks.clone();
    if let Some(seconds) = options.session_expiry_s {
        blocks.expire_session_after(seconds);
    }
    let (connect, will) = (with_length(&blocks.connect), with_length(&blocks.will));
    let read = |bytes, set| {
        Properties::decode(&mut Reader::new(bytes), set, |_| ())
            .map_err(|why| unfit(why.to_string()))
    };
    let properties = ConnectProperties {
        all: read(&connect, PropertySet::Connect)?,
        ..ConnectProperties::default()
    };
    let will_properties = read(&will, PropertySet::Will)?;
    let packet = Connect {
        version: options.version,
        clean_start: options.clean,
        keep_alive_s: options.keep_alive_s,
        client_id: &options.client_id,
        will: options.will.as_ref().map(|will| Will {
            topic: &will.topic,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            delay_interval_s: 0,
            properties: will_properties,
        }),
        user_name: target.user.as_deref(),
        password: target.password.as_deref().map(str::as_bytes),
        properties,
    };
    let mut out = Vec::new();
    packet
        .encode(&mut out)
        .map_err(|why| unfit(why.to_string()))?;
    Ok(out)
}

/// A line in the manner of mosquitto's clients.
fn debug(options: &Options, text: &str) {
    if options.debug {
        let id = match options.client_id.as_str() {
            "" => "(null)",
            id => id,
        };
        println!("Client {id} {text}");
    }
}

/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// Messages that may come before the answer to a SUBSCRIBE.
const EARLY_MAX: usize = 10_000;
