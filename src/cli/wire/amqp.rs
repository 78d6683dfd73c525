//! An AMQP 0-9-1 client with one channel.
//!
//! Owns the handshake, publishing with confirms, and one consumer. What it publishes and consumes
//! is told once.

mod frames;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use leveret_amqp::content;
use leveret_amqp::frame;
use leveret_amqp::method::*;
use leveret_core::field::{RawTable, Table, Value};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;
use leveret_management::protocol::Failure;

use self::frames::{Event, Frames};
use super::inbox::{Feed, Inbox, Input, spawn};
use super::url::Target;
use super::{CONNECT_MS_MAX, Extras, Happened, Message, Wire, broken, lost, socket, unfit};

/// What is published, and how.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Publishing {
    pub(in crate::cli) exchange: String,
    pub(in crate::cli) routing_key: String,
    pub(in crate::cli) persistent: bool,
    /// The broker confirms.
    pub(in crate::cli) confirms: bool,
    /// What no queue gets is refused.
    pub(in crate::cli) mandatory: bool,
    pub(in crate::cli) window: usize,
    pub(in crate::cli) extras: Extras,
}

/// What is consumed.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Consuming {
    /// A queue that is there; else one is made, and gone with the connection.
    pub(in crate::cli) queue: Option<String>,
    pub(in crate::cli) exchange: String,
    /// Binding keys of a queue that is made.
    pub(in crate::cli) keys: Vec<String>,
    /// Messages are acknowledged, not just taken.
    pub(in crate::cli) acknowledge: bool,
    pub(in crate::cli) prefetch: u16,
}

/// A client that is connected.
pub(in crate::cli) struct Client {
    stream: TcpStream,
    inbox: Inbox<Event>,
    frame_max: u32,
    publishing: Publishing,
    acknowledge: bool,
    /// Messages published so far: the tag of the last one.
    published: u64,
    unconfirmed: BTreeSet<u64>,
    /// Texts for messages that came back, oldest first; their confirms follow.
    returned: Vec<String>,
    heartbeat_ms: u64,
    beat_due: Time,
}

impl Client {
    /// Connects, logs in and opens the channel.
    ///
    /// # Errors
    /// 69: the broker is not there or refuses.
    pub(in crate::cli) fn connect(
        target: &Target,
        publishing: Publishing,
        heartbeat_s: u16,
    ) -> Result<Self, Failure> {
        let stream = socket::dial(target)?;
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        let limited = stream
            .set_read_timeout(Some(limit))
            .and_then(|()| stream.set_write_timeout(Some(limit)));
        limited.map_err(|why| lost(why.to_string()))?;
        let mut frames = Frames::new(stream.try_clone().map_err(|why| lost(why.to_string()))?);
        let mut hand = Handshake {
            stream: &stream,
            frames: &mut frames,
        };
        let (frame_max, heartbeat_s) = hand.log_in(target, heartbeat_s)?;
        hand.call(ClientMethod::ChannelOpen(ChannelOpen::default()), 1)?;
        let inbox = Inbox::new();
        let mut client = Self {
            stream,
            inbox,
            frame_max,
            publishing,
            acknowledge: false,
            published: 0,
            unconfirmed: BTreeSet::new(),
            returned: Vec::new(),
            heartbeat_ms: u64::from(heartbeat_s) * 1_000,
            beat_due: Time(u64::MAX),
        };
        client.sent();
        client.listen(frames)?;
        if client.publishing.confirms {
            client.call(ClientMethod::ConfirmSelect(ConfirmSelect::default()))?;
        }
        Ok(client)
    }

    /// Hands the frames to a thread of their own. Two heartbeats may be missing (§4.2.7).
    fn listen(&self, mut frames: Frames) -> Result<(), Failure> {
        let silence = (self.heartbeat_ms > 0).then(|| Duration::from_millis(2 * self.heartbeat_ms));
        self.stream
            .set_read_timeout(silence)
            .map_err(|why| lost(why.to_string()))?;
        let sender = self.inbox.sender();
        spawn("frames", move || {
            loop {
                let event = frames.next();
                let ended = event.is_err();
                if sender.send(Input::Wire(event)).is_err() || ended {
                    return;
                }
            }
        })
    }

    /// Consumes.
    ///
    /// # Errors
    /// 69: the broker refuses, or is gone.
    pub(in crate::cli) fn consume(&mut self, consuming: &Consuming) -> Result<(), Failure> {
        self.acknowledge = consuming.acknowledge;
        self.call(ClientMethod::BasicQos(BasicQos {
            prefetch_count: consuming.prefetch,
            ..BasicQos::default()
        }))?;
        let queue = match &consuming.queue {
            Some(queue) => queue.clone(),
            None => self.make_queue(consuming)?,
        };
        self.call(ClientMethod::BasicConsume(BasicConsume {
            queue: &queue,
            no_ack: !consuming.acknowledge,
            ..BasicConsume::default()
        }))?;
        Ok(())
    }

    fn make_queue(&mut self, consuming: &Consuming) -> Result<String, Failure> {
        let queue = self.call(ClientMethod::QueueDeclare(QueueDeclare {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclare::default()
        }))?;
        for key in &consuming.keys {
            self.call(ClientMethod::QueueBind(QueueBind {
                queue: &queue,
                exchange: &consuming.exchange,
                routing_key: key,
                ..QueueBind::default()
            }))?;
        }
        Ok(queue)
    }

    /// A method and its answer, with the name that the answer has.
    fn call(&mut self, method: ClientMethod<'_>) -> Result<String, Failure> {
        let mut out = Vec::new();
        method.encode(1, &mut out);
        self.send(&out)?;
        let until = self.now().after_ms(CONNECT_MS_MAX);
        let mut early = Vec::new();
        loop {
            match self.inbox.next(Some(until)) {
                Some(Input::Wire(event)) => match event? {
                    Event::Done(name) => {
                        self.inbox.put_back(early);
                        return Ok(name);
                    }
                    Event::Closed(why) => return Err(refused(&why)),
                    Event::Beat => {}
                    other => early.push(Input::Wire(Ok(other))),
                },
                Some(other) => early.push(other),
                None => return Err(lost("the broker does not answer")),
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
        if self.heartbeat_ms > 0 {
            self.beat_due = self.now().after_ms(self.heartbeat_ms / 2);
        }
    }

    fn handle(&mut self, event: Event) -> Result<Option<Happened>, Failure> {
        match event {
            Event::Delivered(message) => return Ok(Some(Happened::Message(message))),
            Event::Returned(why) => self.returned.push(why),
            Event::Confirmed {
                tag,
                multiple,
                taken,
            } => return Ok(Some(self.confirmed(tag, multiple, taken))),
            Event::Cancelled => return Err(lost("the queue is gone")),
            Event::Closed(why) => return Err(refused(&why)),
            Event::Beat | Event::Done(_) => {}
        }
        Ok(None)
    }

    fn confirmed(&mut self, tag: u64, multiple: bool, taken: bool) -> Happened {
        if multiple {
            self.unconfirmed = self.unconfirmed.split_off(&tag.saturating_add(1));
        } else {
            self.unconfirmed.remove(&tag);
        }
        if !taken {
            return Happened::Refused("the broker does not take the message".to_owned());
        }
        if self.returned.is_empty() {
            return Happened::Progress;
        }
        Happened::Refused(self.returned.remove(0))
    }
}

impl Wire for Client {
    fn publish(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let Publishing {
            exchange,
            routing_key,
            persistent,
            mandatory,
            extras,
            ..
        } = &self.publishing;
        let mut out = Vec::new();
        ClientMethod::BasicPublish(BasicPublish {
            exchange,
            routing_key,
            mandatory: *mandatory,
            ..BasicPublish::default()
        })
        .encode(1, &mut out);
        let properties = properties(extras, *persistent)?;
        content::encode(&mut out, 1, &properties, payload, self.frame_max);
        self.published += 1;
        if self.publishing.confirms {
            self.unconfirmed.insert(self.published);
        }
        self.send(&out)
    }

    fn window(&self) -> usize {
        self.publishing.window
    }

    fn unsettled(&self) -> usize {
        self.unconfirmed.len()
    }

    fn settle(&mut self, message: &Message) -> Result<(), Failure> {
        if !self.acknowledge {
            return Ok(());
        }
        let mut out = Vec::new();
        ClientMethod::BasicAck(BasicAck {
            delivery_tag: message.id,
            multiple: false,
        })
        .encode(1, &mut out);
        self.send(&out)
    }

    fn clear_retained(&mut self, _: &str) -> Result<(), Failure> {
        Err(unfit("AMQP retains nothing"))
    }

    fn wait(&mut self, until: Option<Time>) -> Result<Happened, Failure> {
        loop {
            if self.now() >= self.beat_due {
                let mut beat = Vec::new();
                frame::heartbeat(&mut beat);
                self.send(&beat)?;
            }
            let due = self.beat_due.min(until.unwrap_or(Time(u64::MAX)));
            match self.inbox.next((due != Time(u64::MAX)).then_some(due)) {
                Some(Input::Wire(event)) => {
                    if let Some(happened) = self.handle(event?)? {
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

    /// Waits for close-ok: what was published without confirms has arrived then.
    fn close(&mut self) -> Result<(), Failure> {
        let mut out = Vec::new();
        ClientMethod::ConnectionClose(ConnectionClose {
            reply_code: 200,
            reply_text: "",
            ..ConnectionClose::default()
        })
        .encode(0, &mut out);
        self.send(&out)?;
        let until = self.now().after_ms(CONNECT_MS_MAX);
        loop {
            match self.inbox.next(Some(until)) {
                Some(Input::Wire(Ok(Event::Done(_)))) => return Ok(()),
                Some(Input::Wire(Ok(Event::Closed(why)))) => return Err(refused(&why)),
                Some(Input::Wire(Err(why))) => return Err(why),
                Some(_) => {}
                None => return Err(lost("the broker does not answer")),
            }
        }
    }
}

/// The talk before the channel is open.
struct Handshake<'a> {
    stream: &'a TcpStream,
    frames: &'a mut Frames,
}

impl Handshake<'_> {
    /// Gives frame-max and heartbeat.
    fn log_in(&mut self, target: &Target, heartbeat_s: u16) -> Result<(u32, u16), Failure> {
        self.write(b"AMQP\0\0\x09\x01")?;
        self.frames.next_method(|method| match method {
            ServerMethod::ConnectionStart(_) => Some(()),
            _ => None,
        })?;
        let user = target.user.as_deref().unwrap_or("guest");
        let password = target.password.as_deref().unwrap_or("guest");
        let response = format!("\0{user}\0{password}");
        let properties = client_properties()?;
        self.send(ClientMethod::ConnectionStartOk(ConnectionStartOk {
            client_properties: RawTable::parse(&properties)
                .map_err(|why| broken(why.to_string()))?,
            mechanism: "PLAIN",
            response: LongString(response.as_bytes()),
            locale: "en_US",
        }))?;
        let tune = self.frames.next_method(|method| match method {
            ServerMethod::ConnectionTune(tune) => Some(*tune),
            _ => None,
        })?;
        let frame_max = match tune.frame_max {
            0 => FRAME_BYTES_MAX,
            theirs => theirs.min(FRAME_BYTES_MAX),
        };
        let heartbeat_s = match (tune.heartbeat, heartbeat_s) {
            (0, ours) => ours,
            (_, 0) => 0,
            (theirs, ours) => theirs.min(ours),
        };
        self.send(ClientMethod::ConnectionTuneOk(ConnectionTuneOk {
            channel_max: tune.channel_max,
            frame_max,
            heartbeat: heartbeat_s,
        }))?;
        let open = ConnectionOpen {
            virtual_host: &target.vhost,
            ..ConnectionOpen::default()
        };
        self.call(ClientMethod::ConnectionOpen(open), 0)?;
        Ok((frame_max, heartbeat_s))
    }

    fn call(&mut self, method: ClientMethod<'_>, channel: u16) -> Result<(), Failure> {
        let mut out = Vec::new();
        method.encode(channel, &mut out);
        self.write(&out)?;
        self.frames.next_method(|method| match method {
            ServerMethod::ConnectionOpenOk(_) | ServerMethod::ChannelOpenOk(_) => Some(()),
            _ => None,
        })
    }

    fn send(&mut self, method: ClientMethod<'_>) -> Result<(), Failure> {
        let mut out = Vec::new();
        method.encode(0, &mut out);
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream
            .write_all(bytes)
            .map_err(|why| lost(format!("the connection is lost: {why}")))
    }
}

fn refused(why: &str) -> Failure {
    lost(format!(
        "the broker closed the channel or the connection: {why}"
    ))
}

fn client_properties() -> Result<Vec<u8>, Failure> {
    let mut capabilities = Table::new();
    let mut properties = Table::new();
    let text = |text: &str| Value::LongString(text.as_bytes().into());
    let built = [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ]
    .into_iter()
    .try_for_each(|name| capabilities.insert(name, Value::Bool(true)))
    .and_then(|()| properties.insert("product", text("leveret")))
    .and_then(|()| properties.insert("version", text(env!("CARGO_PKG_VERSION"))))
    .and_then(|()| properties.insert("capabilities", Value::Table(capabilities)));
    let mut out = Vec::new();
    built
        .and_then(|()| properties.encode(&mut out))
        .map_err(|why| broken(why.to_string()))?;
    Ok(out)
}

/// The content header's properties: what MQTT 5.0 says of a message, in AMQP's fields.
fn properties(extras: &Extras, persistent: bool) -> Result<Vec<u8>, Failure> {
    let expiration = extras.expiry_s.map(|s| (u64::from(s) * 1_000).to_string());
    // The last value of a name counts, as it does in a table.
    let headers: BTreeMap<_, _> = extras.user.iter().map(|(n, v)| (n, v)).collect();
    let mut table = Table::new();
    for (name, value) in headers {
        let value = Value::LongString(value.as_bytes().into());
        table
            .insert(name, value)
            .map_err(|why| unfit(why.to_string()))?;
    }
    let mut raw = Vec::new();
    table
        .encode(&mut raw)
        .map_err(|why| unfit(why.to_string()))?;
    let headers = RawTable::parse(&raw).map_err(|why| unfit(why.to_string()))?;
    let properties = BasicProperties {
        content_type: extras.content_type.as_deref().map(str::as_bytes),
        headers: (!table.is_empty()).then_some(headers),
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        correlation_id: extras.correlation_data.as_deref(),
        reply_to: extras.response_topic.as_deref().map(str::as_bytes),
        expiration: expiration.as_deref().map(str::as_bytes),
        ..BasicProperties::default()
    };
    let mut out = Vec::new();
    properties
        .encode(&mut out)
        .map_err(|why| unfit(why.to_string()))?;
    Ok(out)
}

/// The largest frame that is asked for, in bytes.
const FRAME_BYTES_MAX: u32 = 131_072;
