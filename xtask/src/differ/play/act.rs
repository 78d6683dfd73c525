//! What the verbs of a script do.
//!
//! Owns the opening of connections and channels that a script takes for granted.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::client::Client;
use super::super::clock;
use super::super::method::{self, Argument, Kind, Method};
use super::super::step::{Given, Step, Target};
use super::super::value::{self, Table, Value};
use super::super::wire::{self, Header, PROPERTIES};
use super::Player;

/// How long `wait` waits.
const WAIT_LIMIT: Duration = Duration::from_secs(8);

/// Methods after whose answer nothing else can be expected to come.
const CALM: &[&str] = &[
    "basic.get",
    "basic.qos",
    "channel.open",
    "confirm.select",
    "exchange.bind",
    "exchange.declare",
    "exchange.delete",
    "exchange.unbind",
    "queue.bind",
    "queue.declare",
    "queue.purge",
    "queue.unbind",
    "tx.select",
];

impl Player<'_> {
    /// Does a step; whether nothing but its answer can follow.
    pub(super) fn act(&mut self, step: &mut Step, bare: bool) -> Result<bool> {
        let connection = step.target.connection;
        match step.verb.as_str() {
            "connect" => self.connect_step(step)?,
            "tcp" | "hello" => {
                let client = Client::connect(self.peer.port(), self.manual)?;
                self.clients.insert(connection, client);
                if step.verb == "hello" {
                    self.hello(step.target)?;
                }
            }
            "drop" => {
                self.clients.remove(&connection);
                // The server notices by itself.
                clock::pause(self.quiet);
            }
            "close" => self.close(connection)?,
            "sleep" => clock::pause(duration(step)?),
            "settle" => {
                let time = duration(step)?;
                self.settle(time);
                return Ok(true);
            }
            "wait" => return self.wait_step(step).map(|()| false),
            "ctl" => {
                let words = step.words.pop().map(|(words, _)| words).unwrap_or_default();
                let words = self.names.wire(words.as_bytes());
                let line = self.peer.ctl(&String::from_utf8(words)?)?;
                self.remark('a', 0, &line);
            }
            "protocol" => {
                let octets = bytes(&first_word(step)?)?;
                let client = self.client(connection)?;
                client.wire.send(b"AMQP");
                client.wire.send(&octets);
            }
            "raw" => {
                let (word, _) = step.words.pop().context("what is sent raw?")?;
                let octets = bytes(&word)?;
                self.client(connection)?.wire.send(&octets);
            }
            "frame" => self.frame_step(step, bare)?,
            "publish" => self.publish_step(step, bare)?,
            "header" => {
                let channel = self.ready(step.target, bare)?;
                let header = self.header(step)?;
                let payload = header.encode()?;
                let frame = wire::frame(wire::HEADER, channel, &payload);
                self.client(connection)?.wire.send(&frame);
            }
            "body" => {
                let channel = self.ready(step.target, bare)?;
                let word = first_word(step)?;
                let frame = wire::frame(wire::BODY, channel, word.as_bytes());
                self.client(connection)?.wire.send(&frame);
            }
            "send" => {
                step.verb = first_word(step)?;
                self.method_step(step, bare, false)?;
            }
            _ => return self.method_step(step, bare, true),
        }
        Ok(false)
    }

    /// Sends a method; with `answered` its answer is awaited.
    fn method_step(&mut self, step: &mut Step, bare: bool, answered: bool) -> Result<bool> {
        let Some(method) = method::by_name(&step.verb) else {
            bail!("no step is called {}", step.verb);
        };
        let mut target = step.target;
        if method.class == 10 && !target.explicit {
            target.channel = Some(0);
        }
        let own = method.name == "channel.open" || method.class == 10;
        target.as_is |= own;
        let channel = self.ready(target, bare)?;
        let values = self.arguments(step, method)?;
        let client = self.client(target.connection)?;
        client.send(channel, method, &values)?;
        if method.name == "confirm.select" && !client.channel(channel).confirming {
            client.channel(channel).confirming = true;
        }
        let nowait = method.arguments().position(|(name, _)| name == "nowait");
        let nowait = nowait.is_some_and(|at| values.get(at) == Some(&Argument::Bit(true)));
        if !answered || nowait || method.reply.is_empty() {
            return Ok(false);
        }
        let expected = self.wait_answer(target, channel, method.reply);
        Ok(expected && CALM.contains(&method.name) && !self.consumes())
    }

    /// Whether messages may come unasked.
    fn consumes(&self) -> bool {
        self.clients
            .values()
            .any(|client| client.channels.values().any(|channel| channel.confirming))
            || self.consumed
    }

    /// The channel of a step, with all open that it takes for granted.
    fn ready(&mut self, target: Target, bare: bool) -> Result<u16> {
        let channel = target.channel.unwrap_or_else(|| {
            self.channel_top += 1;
            self.channel_top
        });
        if bare {
            return Ok(channel);
        }
        self.connected(target.connection)?;
        if target.as_is {
            return Ok(channel);
        }
        let client = self.client(target.connection)?;
        if channel != 0 && !client.channel(channel).open {
            let method = method::by_name("channel.open").context("it is in the table")?;
            client.send(channel, method, &[Argument::Text(Vec::new())])?;
            let before = self.pending.len();
            if self.wait_answer(target, channel, "channel.open-ok") {
                self.pending.truncate(before);
            }
        }
        Ok(channel)
    }

    /// Makes a connection that is not there, as it was asked for last.
    fn connected(&mut self, connection: char) -> Result<()> {
        let ready = |client: &Client| !client.ended && !client.closing;
        if self.clients.get(&connection).is_some_and(ready) {
            return Ok(());
        }
        let wish = self.wishes.remove(&connection);
        let mut step = match wish {
            Some(step) => step,
            None => Step::parse(&format!("@{connection} connect"))?,
        };
        let before = self.pending.len();
        if self.connect(&mut step)? {
            self.pending.truncate(before);
        }
        self.wishes.insert(connection, step);
        Ok(())
    }

    fn connect_step(&mut self, step: &mut Step) -> Result<()> {
        let mut wish = step.clone();
        step.words.clear();
        if self.connect(&mut wish)? {
            self.pending.pop();
            self.remark(step.target.connection, 0, "connected");
        }
        self.wishes.insert(step.target.connection, wish);
        Ok(())
    }

    /// Goes through the handshake; whether the connection is open. All that comes is pending.
    fn connect(&mut self, step: &mut Step) -> Result<bool> {
        let target = step.target;
        let client = Client::connect(self.peer.port(), self.manual)?;
        self.clients.insert(target.connection, client);
        Ok(self.shake_hands(step)?.is_some())
    }

    /// The protocol header, and the server's first words, which are told if they are others.
    fn hello(&mut self, target: Target) -> Result<bool> {
        let begin = self.pending.len();
        self.client(target.connection)?
            .wire
            .send(b"AMQP\x00\x00\x09\x01");
        let greeted = self.wait_answer(target, 0, "connection.start");
        if greeted {
            self.pending.truncate(begin);
        }
        Ok(greeted)
    }

    fn shake_hands(&mut self, step: &mut Step) -> Result<Option<()>> {
        let target = step.target;
        let wish = Wish::take(step, &self.names)?;
        if !self.hello(target)? {
            return Ok(None);
        }
        let begin = self.pending.len();
        self.tell(target, "connection.start-ok", &wish.start_ok)?;
        if !self.wait_answer(target, 0, "connection.tune") {
            return Ok(None);
        }
        self.pending.truncate(begin);
        self.tell(target, "connection.tune-ok", &wish.tune_ok)?;
        self.tell(target, "connection.open", &wish.open)?;
        if let Some(Argument::Number(frame_max)) = wish.tune_ok.get(1) {
            let frame_max = usize::try_from(*frame_max)?;
            self.client(target.connection)?.frame_max = frame_max.max(1024);
        }
        Ok(self
            .wait_answer(target, 0, "connection.open-ok")
            .then_some(()))
    }

    fn tell(&mut self, target: Target, name: &str, values: &[Argument]) -> Result<()> {
        let method = method::by_name(name).context("it is in the table")?;
        self.client(target.connection)?.send(0, method, values)
    }

    /// Closes a connection in an orderly way, and says nothing of it.
    pub(super) fn close(&mut self, connection: char) -> Result<()> {
        let Some(client) = self.clients.get_mut(&connection) else {
            return Ok(());
        };
        if !client.ended && !client.closing {
            let values = [
                Argument::Number(200),
                Argument::Text(Vec::new()),
                Argument::Number(0),
                Argument::Number(0),
            ];
            let method = method::by_name("connection.close").context("it is in the table")?;
            client.send(0, method, &values)?;
            let before = self.pending.len();
            let gone = |(at, event): &(char, super::Event)| {
                *at == connection && ["closed", "connection.close-ok"].contains(&&*event.name)
            };
            self.wait(WAIT_LIMIT, |pending| pending[before..].iter().any(gone));
            self.pending.retain(|(at, event)| {
                *at != connection
                    || !["closed", "connection.close-ok"].contains(&event.name.as_str())
            });
        }
        self.clients.remove(&connection);
        Ok(())
    }

    /// `wait 2 basic.deliver`, `wait closed`.
    fn wait_step(&mut self, step: &mut Step) -> Result<()> {
        let first = first_word(step)?;
        let (count, name) = match first.parse::<usize>() {
            Ok(count) => (count, first_word(step)?),
            Err(_) => (1, first),
        };
        let found = self.wait(WAIT_LIMIT, |pending| {
            pending
                .iter()
                .filter(|(_, event)| event.name == name)
                .count()
                >= count
        });
        if !found {
            self.remark('a', 0, "(waited in vain)");
        }
        Ok(())
    }

    /// `frame type=8 channel=1 size=5 end=00 hex=… | text=…`: whatever is not said is right.
    fn frame_step(&mut self, step: &mut Step, bare: bool) -> Result<()> {
        let mut target = step.target;
        let given = step.take_number("channel")?;
        if let Some(channel) = given {
            target.channel = Some(u16::try_from(channel)?);
            target.as_is = true;
        }
        let channel = self.ready(target, bare)?;
        let kind = step.take_number("type")?.unwrap_or(1);
        let mut payload = match (step.take_word("hex")?, step.take_word("text")?) {
            (Some(hex), _) => unhex(&String::from_utf8(hex)?)?,
            (None, Some(text)) => text,
            (None, None) => Vec::new(),
        };
        if let Some(length) = step.take_number("fill")? {
            payload.resize(payload.len() + usize::try_from(length)?, b'x');
        }
        let size = step.take_number("size")?.map(u32::try_from).transpose()?;
        let size = size.unwrap_or(u32::try_from(payload.len())?);
        let end = match step.take_word("end")? {
            Some(hex) => unhex(&String::from_utf8(hex)?)?,
            None => vec![wire::FRAME_END],
        };
        let octets = wire::raw_frame(u8::try_from(kind)?, channel, size, &payload, &end);
        self.client(target.connection)?.wire.send(&octets);
        Ok(())
    }

    /// A whole message: method, header, body frames.
    fn publish_step(&mut self, step: &mut Step, bare: bool) -> Result<()> {
        let channel = self.ready(step.target, bare)?;
        let body = match step.take_number("fill")? {
            Some(length) => vec![b'x'; usize::try_from(length)?],
            None => step.take_word("body")?.unwrap_or_else(|| b"m".to_vec()),
        };
        let body = self.names.wire(&body);
        let mut header = self.header(step)?;
        header.size = body.len() as u64;
        let method = method::by_name("basic.publish").context("it is in the table")?;
        let values = self.arguments(step, method)?;
        let client = self.client(step.target.connection)?;
        let piece = client.frame_max - wire::FRAME_OVERHEAD;
        client.send(channel, method, &values)?;
        let header = header.encode()?;
        client
            .wire
            .send(&wire::frame(wire::HEADER, channel, &header));
        for piece in body.chunks(piece) {
            client.wire.send(&wire::frame(wire::BODY, channel, piece));
        }
        Ok(())
    }

    /// The properties of a step, and `class`, `weight` and `size` if they are said.
    fn header(&mut self, step: &mut Step) -> Result<Header> {
        let mut properties = Vec::new();
        for (at, (name, kind)) in PROPERTIES.iter().enumerate() {
            if let Some(given) = step.take(name) {
                properties.push((at, self.argument(name, *kind, given)?));
            }
        }
        Ok(Header {
            class: u16::try_from(step.take_number("class")?.unwrap_or(60))?,
            weight: u16::try_from(step.take_number("weight")?.unwrap_or(0))?,
            size: step.take_number("size")?.unwrap_or(0),
            properties,
        })
    }

    fn arguments(&mut self, step: &mut Step, method: &Method) -> Result<Vec<Argument>> {
        let mut values = Vec::new();
        for (name, kind) in method.arguments() {
            values.push(match step.take(name) {
                Some(given) => self.argument(name, kind, given)?,
                None => method::default(kind),
            });
        }
        if step.verb == "basic.consume" {
            self.consumed = true;
        }
        Ok(values)
    }

    fn argument(&self, name: &str, kind: Kind, given: Option<Given>) -> Result<Argument> {
        Ok(match (kind, given) {
            (Kind::Bit, None) => Argument::Bit(true),
            (Kind::Bit, Some(Given::Word(word))) => Argument::Bit(word == b"true"),
            (Kind::Table, Some(Given::Table(table))) => {
                Argument::Table(value::map_texts(&table, &mut |octets| {
                    self.names.wire(octets)
                }))
            }
            (Kind::ShortString | Kind::LongString, Some(Given::Word(word))) => {
                Argument::Text(self.names.wire(&word))
            }
            (Kind::Octet | Kind::Short | Kind::Long | Kind::LongLong, Some(Given::Word(word))) => {
                let word = String::from_utf8(word)?;
                Argument::Number(word.parse().with_context(|| format!("{name}={word}"))?)
            }
            (kind, _) => bail!("{name} is a {kind:?}"),
        })
    }

    fn client(&mut self, connection: char) -> Result<&mut Client> {
        self.clients
            .get_mut(&connection)
            .with_context(|| format!("there is no connection {connection}"))
    }
}

/// What a connection says in its handshake.
struct Wish {
    start_ok: Vec<Argument>,
    tune_ok: Vec<Argument>,
    open: Vec<Argument>,
}

impl Wish {
    /// Reads a `connect` step, and leaves it as it was, for the next time.
    fn take(step: &mut Step, names: &super::Names) -> Result<Self> {
        let line = |step: &Step, name: &str| {
            let word = step.words.iter().find(|(known, _)| known == name);
            match word {
                Some((_, Some(Given::Word(word)))) => Some(names.wire(word)),
                _ => None,
            }
        };
        let word = |name: &str, default: &str| {
            line(step, name).unwrap_or_else(|| default.as_bytes().to_vec())
        };
        let number = |name: &str, default: &str| -> Result<Argument> {
            let word = String::from_utf8(word(name, default))?;
            Ok(Argument::Number(word.parse().context("a number")?))
        };
        let plain = [
            &b"\0"[..],
            &word("user", "guest"),
            b"\0",
            &word("password", "guest"),
        ];
        let response = line(step, "response").unwrap_or_else(|| plain.concat());
        let capabilities = step.words.iter().find(|(name, _)| name == "capabilities");
        let capabilities = match capabilities {
            Some((_, Some(Given::Table(table)))) => table.clone(),
            _ => capabilities_default(),
        };
        let properties = vec![(b"capabilities".to_vec(), Value::Table(capabilities))];
        let wish = Self {
            start_ok: vec![
                Argument::Table(properties),
                Argument::Text(word("mechanism", "PLAIN")),
                Argument::Text(response),
                Argument::Text(word("locale", "en_US")),
            ],
            tune_ok: vec![
                number("channel-max", "2047")?,
                number("frame-max", "131072")?,
                number("heartbeat", "0")?,
            ],
            open: vec![
                Argument::Text(word("vhost", "/")),
                Argument::Text(Vec::new()),
                Argument::Bit(false),
            ],
        };
        Ok(wish)
    }
}

/// What clients announce today.
fn capabilities_default() -> Table {
    let names = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ];
    let fields = names
        .iter()
        .map(|name| (name.as_bytes().to_vec(), Value::Plain(b't', vec![1])));
    fields.collect()
}

fn first_word(step: &mut Step) -> Result<String> {
    if step.words.is_empty() {
        bail!("{} takes a word", step.verb);
    }
    Ok(step.words.remove(0).0)
}

/// `150ms`.
fn duration(step: &mut Step) -> Result<Duration> {
    let word = first_word(step)?;
    let number = word.strip_suffix("ms").context("a time is written 150ms")?;
    Ok(Duration::from_millis(number.parse()?))
}

/// Octets as text in quotes, or in hexadecimal.
fn bytes(word: &str) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    let mut source = super::super::text::Source::new(word);
    while !source.is_empty() {
        if source.is_quoted() {
            octets.extend(source.word("")?);
        } else {
            octets.extend(unhex(&String::from_utf8(source.word("")?)?)?);
        }
    }
    Ok(octets)
}

fn unhex(word: &str) -> Result<Vec<u8>> {
    if !word.len().is_multiple_of(2) {
        bail!("{word} has an odd number of digits");
    }
    let digits = word.as_bytes().chunks(2);
    digits
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
