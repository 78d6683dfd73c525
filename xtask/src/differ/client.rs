//! One connection as its client sees it: channels, content that is still incomplete, confirms.
//!
//! Owns what is known of the server's state, and turns frames into lines of a transcript. Answers
//! closes unless told not to; sends nothing else by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;

use super::method::{self, Argument, Method};
use super::names::Names;
use super::text;
use super::value::{self, Value};
use super::wire::{self, Arrival, Frame, Header, Wire};

/// Server properties that name the product.
const PRODUCT: &[&str] = &[
    "cluster_name",
    "copyright",
    "information",
    "platform",
    "product",
    "version",
];

/// Something that arrived.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) channel: u16,
    /// The method's name, or what else it is.
    pub(super) name: String,
    /// All of it, as a transcript shows it.
    pub(super) line: String,
    /// The tag of a confirm: neighbours are sorted by it.
    pub(super) confirm: Option<u64>,
}

/// The state of a channel.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) open: bool,
    /// Whether confirms were selected.
    pub(super) confirming: bool,
    published: u64,
    unconfirmed: BTreeSet<u64>,
    content: Option<Content>,
}

/// Content whose frames are still arriving.
struct Content {
    name: &'static str,
    line: String,
    header: Option<Header>,
    body: Vec<u8>,
}

/// One connection.
pub(super) struct Client {
    pub(super) wire: Wire,
    pub(super) channels: BTreeMap<u16, Channel>,
    /// Whether closes are left unanswered.
    manual: bool,
    /// Whether the end of the stream was told.
    pub(super) ended: bool,
    /// Whether either side has begun to close.
    pub(super) closing: bool,
    /// What a frame may hold, its head and end included.
    pub(super) frame_max: usize,
}

impl Client {
    pub(super) fn connect(port: u16, manual: bool) -> Result<Self> {
        Ok(Self {
            wire: Wire::connect(port)?,
            channels: BTreeMap::new(),
            manual,
            ended: false,
            closing: false,
            frame_max: FRAME_MAX,
        })
    }

    pub(super) fn channel(&mut self, number: u16) -> &mut Channel {
        self.channels.entry(number).or_default()
    }

    pub(super) fn send(
        &mut self,
        channel: u16,
        method: &Method,
        values: &[Argument],
    ) -> Result<()> {
        let payload = method.encode(values)?;
        self.wire
            .send(&wire::frame(wire::METHOD, channel, &payload));
        match method.name {
            "connection.close" => self.closing = true,
            "basic.publish" => self.channel(channel).count_publish(),
            _ => {}
        }
        Ok(())
    }

    /// What has arrived; waits a tick at most.
    pub(super) fn receive(&mut self, names: &mut Names) -> Vec<Event> {
        if self.ended {
            return Vec::new();
        }
        match self.wire.receive() {
            Arrival::Nothing => Vec::new(),
            Arrival::Closed => {
                self.ended = true;
                vec![event(0, "closed", "closed".to_owned())]
            }
            Arrival::Odd(octets) => {
                let line = format!("octets {}", text::show(&octets));
                vec![event(0, "octets", line)]
            }
            Arrival::Frame(frame) => self.take(frame, names),
        }
    }

    fn take(&mut self, frame: Frame, names: &mut Names) -> Vec<Event> {
        let Frame {
            kind,
            channel,
            payload,
        } = frame;
        let one = match kind {
            wire::METHOD => return self.take_method(channel, &payload, names),
            wire::HEADER => self.take_header(channel, &payload, names),
            wire::BODY => self.take_body(channel, &payload, names),
            wire::HEARTBEAT => None,
            kind => Some(odd(channel, &format!("frame of type {kind}"), &payload)),
        };
        one.into_iter().collect()
    }

    fn take_method(&mut self, channel: u16, payload: &[u8], names: &mut Names) -> Vec<Event> {
        let Some(([a, b, c, d], octets)) = payload.split_first_chunk::<4>() else {
            return vec![odd(channel, "short method", payload)];
        };
        let (class, id) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let Some(method) = method::by_number(class, id) else {
            return vec![odd(channel, &format!("method {class}.{id}"), octets)];
        };
        let Ok(values) = method.decode(octets) else {
            return vec![odd(channel, &format!("malformed {}", method.name), octets)];
        };
        let line = show_method(method, &values, names);
        if method.content {
            self.channel(channel).content = Some(Content {
                name: method.name,
                line,
                header: None,
                body: Vec::new(),
            });
            return Vec::new();
        }
        self.react(channel, method);
        if let ("basic.ack" | "basic.nack", [Argument::Number(tag), Argument::Bit(multiple), ..]) =
            (method.name, values.as_slice())
        {
            return self
                .channel(channel)
                .confirm(channel, method, *tag, *multiple);
        }
        vec![event(channel, method.name, line)]
    }

    /// What a client owes the server, and what it learns.
    fn react(&mut self, channel: u16, method: &Method) {
        let answer = match method.name {
            "channel.open-ok" => {
                *self.channel(channel) = Channel {
                    open: true,
                    ..Channel::default()
                };
                return;
            }
            "channel.close-ok" => {
                self.channel(channel).open = false;
                return;
            }
            "connection.close-ok" => {
                self.closing = true;
                return;
            }
            "channel.close" => "channel.close-ok",
            "connection.close" => "connection.close-ok",
            _ => return,
        };
        if method.name == "connection.close" {
            self.closing = true;
        }
        if !self.manual
            && let Some(answer) = method::by_name(answer)
            && self.send(channel, answer, &[]).is_ok()
        {
            self.channel(channel).open = false;
        }
    }

    fn take_header(&mut self, channel: u16, payload: &[u8], names: &mut Names) -> Option<Event> {
        let Ok(header) = Header::decode(payload) else {
            return Some(odd(channel, "malformed header", payload));
        };
        match &mut self.channel(channel).content {
            Some(content) if content.header.is_none() => content.header = Some(header),
            _ => return Some(odd(channel, "header", payload)),
        }
        self.channel(channel).whole(channel, names)
    }

    fn take_body(&mut self, channel: u16, payload: &[u8], names: &mut Names) -> Option<Event> {
        match &mut self.channel(channel).content {
            Some(content) if content.header.is_some() => content.body.extend(payload),
            _ => return Some(odd(channel, "body", payload)),
        }
        self.channel(channel).whole(channel, names)
    }
}

impl Channel {
    /// Counts a message that the server will confirm.
    fn count_publish(&mut self) {
        if self.confirming {
            self.published += 1;
            self.unconfirmed.insert(self.published);
        }
    }

    /// One event for each tag that is covered: a server may join confirms at will.
    fn confirm(&mut self, channel: u16, method: &Method, tag: u64, multiple: bool) -> Vec<Event> {
        let covered: Vec<u64> = self
            .unconfirmed
            .iter()
            .copied()
            .filter(|known| *known == tag || (multiple && (tag == 0 || *known < tag)))
            .collect();
        if covered.is_empty() {
            let line = format!("{} {tag} (confirms nothing)", method.name);
            return vec![event(channel, method.name, line)];
        }
        let events = covered.iter().map(|tag| {
            self.unconfirmed.remove(tag);
            Event {
                confirm: Some(*tag),
                ..event(
                    channel,
                    method.name,
                    format!("{} {tag} (confirm)", method.name),
                )
            }
        });
        events.collect()
    }

    /// The event of content once all of it is there.
    fn whole(&mut self, channel: u16, names: &mut Names) -> Option<Event> {
        let content = self.content.as_ref()?;
        let size = content.header.as_ref()?.size;
        if (content.body.len() as u64) < size {
            return None;
        }
        let content = self.content.take()?;
        let header = content.header?;
        let mut line = format!("{} |", content.line);
        for (at, value) in &header.properties {
            let (name, _) = wire::PROPERTIES[*at];
            let _ = write!(line, " {name}={}", show_argument(value, names));
        }
        if header.class != 60 || header.weight != 0 {
            let _ = write!(line, " class={} weight={}", header.class, header.weight);
        }
        let body = names.page(&content.body);
        let _ = write!(line, " body={}", text::show(&body));
        Some(event(channel, content.name, line))
    }
}

fn event(channel: u16, name: &str, line: String) -> Event {
    Event {
        channel,
        name: name.to_owned(),
        line,
        confirm: None,
    }
}

fn odd(channel: u16, what: &str, octets: &[u8]) -> Event {
    event(channel, "odd", format!("({what}) {}", text::show(octets)))
}

fn show_method(method: &Method, values: &[Argument], names: &mut Names) -> String {
    let mut line = method.name.to_owned();
    for ((name, _), value) in method.arguments().zip(values) {
        let value = match value {
            Argument::Table(table) if name == "server-properties" => {
                &Argument::Table(without_product(table))
            }
            value => value,
        };
        let _ = write!(line, " {name}={}", show_argument(value, names));
    }
    line
}

fn without_product(table: &value::Table) -> value::Table {
    let fields = table.iter().map(|(key, value)| {
        let named = PRODUCT.iter().any(|name| name.as_bytes() == key);
        match value {
            Value::Text(letter, _) if named => {
                (key.clone(), Value::Text(*letter, b"<server>".to_vec()))
            }
            value => (key.clone(), value.clone()),
        }
    });
    fields.collect()
}

fn show_argument(value: &Argument, names: &mut Names) -> String {
    match value {
        Argument::Number(number) => number.to_string(),
        Argument::Bit(bit) => bit.to_string(),
        Argument::Text(octets) => text::show(&names.page(octets)),
        Argument::Table(table) => {
            let table = value::map_texts(table, &mut |octets| names.page(octets));
            value::show_table(&table)
        }
    }
}

/// What RabbitMQ offers; a client that negotiates less says so.
const FRAME_MAX: usize = 131_072;
