//! Frames on a socket, and content headers.
//!
//! Owns one connection's octets. Sends whatever it is told, well formed or not; never answers by
//! itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::method::{Argument, Kind};
use super::octets::Reader;
use super::value;

/// The octet that ends every frame.
pub(super) const FRAME_END: u8 = 0xCE;
/// The frame types.
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
/// Type, channel and size before the payload, and the end behind it.
pub(super) const FRAME_OVERHEAD: usize = 8;
const FRAME_HEAD: usize = 7;

/// How long one attempt to read waits.
const READ_TICK: Duration = Duration::from_millis(2);
/// A server that takes nothing for so long is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// One frame as it came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: Vec<u8>,
}

/// What a look at the socket found.
#[derive(Debug)]
pub(super) enum Arrival {
    Frame(Frame),
    /// Octets that are no frame: a protocol header.
    Odd(Vec<u8>),
    Nothing,
    Closed,
}

/// One TCP connection.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

impl Wire {
    pub(super) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TICK))?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            ended: false,
        })
    }

    /// Sends octets. A connection that the server has closed takes them silently: that it closed
    /// is found by reading.
    pub(super) fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// The next frame if it is there, or comes within a tick.
    pub(super) fn receive(&mut self) -> Arrival {
        if let Some(arrival) = self.buffered() {
            return arrival;
        }
        if self.ended {
            return Arrival::Closed;
        }
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.buffer.extend(&chunk[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => self.ended = true,
            },
        }
        match self.buffered() {
            Some(arrival) => arrival,
            None if self.ended => Arrival::Closed,
            None => Arrival::Nothing,
        }
    }

    fn buffered(&mut self) -> Option<Arrival> {
        if self.buffer.starts_with(b"AMQP") {
            let length = self.buffer.len().min(8);
            return Some(Arrival::Odd(self.buffer.drain(..length).collect()));
        }
        let (head, rest) = self.buffer.split_first_chunk::<FRAME_HEAD>()?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let payload = rest.get(..size)?.to_vec();
        if *rest.get(size)? != FRAME_END {
            return Some(Arrival::Odd(std::mem::take(&mut self.buffer)));
        }
        let frame = Frame {
            kind: head[0],
            channel: u16::from_be_bytes([head[1], head[2]]),
            payload,
        };
        self.buffer.drain(..size + FRAME_OVERHEAD);
        Some(Arrival::Frame(frame))
    }
}

/// A frame's octets.
pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    raw_frame(kind, channel, size, payload, &[FRAME_END])
}

/// A frame's octets, with a size and an end that need not be right.
pub(super) fn raw_frame(kind: u8, channel: u16, size: u32, payload: &[u8], end: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend(channel.to_be_bytes());
    octets.extend(size.to_be_bytes());
    octets.extend(payload);
    octets.extend(end);
    octets
}

/// The properties of class basic, in the order of their flags from bit 15 on.
pub(super) const PROPERTIES: &[(&str, Kind)] = &[
    ("content-type", Kind::ShortString),
    ("content-encoding", Kind::ShortString),
    ("headers", Kind::Table),
    ("delivery-mode", Kind::Octet),
    ("priority", Kind::Octet),
    ("correlation-id", Kind::ShortString),
    ("reply-to", Kind::ShortString),
    ("expiration", Kind::ShortString),
    ("message-id", Kind::ShortString),
    ("timestamp", Kind::LongLong),
    ("type", Kind::ShortString),
    ("user-id", Kind::ShortString),
    ("app-id", Kind::ShortString),
    ("cluster-id", Kind::ShortString),
];

/// What precedes a body.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) class: u16,
    pub(super) weight: u16,
    pub(super) size: u64,
    /// Positions in [`PROPERTIES`] and their values.
    pub(super) properties: Vec<(usize, Argument)>,
}

impl Header {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.extend(self.class.to_be_bytes());
        out.extend(self.weight.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        let mut flags = 0_u16;
        let mut values = Vec::new();
        for (at, value) in &self.properties {
            flags |= 1 << (15 - at);
            match (PROPERTIES[*at].1, value) {
                (Kind::Octet, Argument::Number(number)) => values.push(u8::try_from(*number)?),
                (Kind::LongLong, Argument::Number(number)) => values.extend(number.to_be_bytes()),
                (Kind::ShortString, Argument::Text(text)) => {
                    values.push(u8::try_from(text.len())?);
                    values.extend(text);
                }
                (Kind::Table, Argument::Table(table)) => value::encode_table(&mut values, table)?,
                (kind, value) => bail!("{value:?} is no {kind:?}"),
            }
        }
        out.extend(flags.to_be_bytes());
        out.extend(values);
        Ok(out)
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(octets);
        let (class, weight, size) = (reader.short()?, reader.short()?, reader.long_long()?);
        let flags = reader.short()?;
        let mut properties = Vec::new();
        for (at, (_, kind)) in PROPERTIES.iter().enumerate() {
            if flags & (1 << (15 - at)) == 0 {
                continue;
            }
            let value = match kind {
                Kind::Octet => Argument::Number(reader.octet()?.into()),
                Kind::LongLong => Argument::Number(reader.long_long()?),
                Kind::Table => Argument::Table(value::decode_table(&mut reader)?),
                _ => Argument::Text(reader.short_string()?.to_vec()),
            };
            properties.push((at, value));
        }
        if !reader.is_empty() {
            bail!("{} octets too many", reader.rest().len());
        }
        Ok(Self {
            class,
            weight,
            size,
            properties,
        })
    }
}
