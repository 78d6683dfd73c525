//! AMQP 0-9-1: the few frames a load generator needs, encoded by hand.
//!
//! Owns bytes on the wire (§4.2) and the blocking talk of the set-up. One connection has one
//! channel, number 1.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::failure::Failure;
use crate::mqtt::write;
use crate::sockets;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    pub(crate) timeout: Duration,
}

/// The octet that ends a frame.
pub(crate) const END: u8 = 0xCE;
/// The largest frame, bytes; what is asked for in tune-ok.
pub(crate) const FRAME_MAX: usize = 131_072;

pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
pub(crate) const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, END];

pub(crate) const CONNECTION_START: u32 = method(10, 10);
pub(crate) const CONNECTION_TUNE: u32 = method(10, 30);
pub(crate) const CONNECTION_OPEN_OK: u32 = method(10, 41);
pub(crate) const CONNECTION_CLOSE: u32 = method(10, 50);
pub(crate) const CHANNEL_OPEN_OK: u32 = method(20, 11);
pub(crate) const CHANNEL_CLOSE: u32 = method(20, 40);
pub(crate) const BASIC_CANCEL: u32 = method(60, 30);
pub(crate) const BASIC_DELIVER: u32 = method(60, 60);
pub(crate) const BASIC_ACK: u32 = method(60, 80);
pub(crate) const BASIC_NACK: u32 = method(60, 120);

pub(crate) const fn method(class: u16, number: u16) -> u32 {
    (class as u32) << 16 | number as u32
}

/// Class and method at the start of a method frame's payload; 0 if there are none.
#[inline]
pub(crate) fn method_of(payload: &[u8]) -> u32 {
    payload
        .first_chunk()
        .map_or(0, |id| u32::from_be_bytes(*id))
}

/// A method with its arguments, written field by field.
pub(crate) struct Arguments(pub(crate) Vec<u8>);

impl Arguments {
    pub(crate) fn of(class: u16, number: u16) -> Self {
        Self(method(class, number).to_be_bytes().to_vec())
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string; what does not fit in 255 bytes is cut off.
    pub(crate) fn short(mut self, value: &str) -> Self {
        let bytes = &value.as_bytes()[..value.len().min(255)];
        self.0.push(bytes.len() as u8);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A long string, or a table that is encoded already.
    pub(crate) fn long(mut self, value: &[u8]) -> Self {
        self = self.u32(value.len() as u32);
        self.0.extend_from_slice(value);
        self
    }

    /// As a method frame.
    pub(crate) fn frame(self, channel: u16) -> Vec<u8> {
        frame(1, channel, &self.0)
    }
}

pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(END);
    out
}

pub(crate) fn basic_ack(tag: u64, multiple: bool) -> Vec<u8> {
    Arguments::of(60, 80)
        .u64(tag)
        .u8(u8::from(multiple))
        .frame(1)
}

/// connection.start-ok with PLAIN, and the capabilities that a measured client has.
pub(crate) fn start_ok(options: &Options) -> Vec<u8> {
    let mut capabilities = vec![];
    for name in ["publisher_confirms", "basic.nack", "consumer_cancel_notify"] {
        capabilities.push(name.len() as u8);
        capabilities.extend_from_slice(name.as_bytes());
        capabilities.extend_from_slice(b"t\x01");
    }
    let mut properties = b"\x0ccapabilitiesF".to_vec();
    properties.extend_from_slice(&(capabilities.len() as u32).to_be_bytes());
    properties.extend_from_slice(&capabilities);
    let login = format!("\0{}\0{}", options.user, options.password);
    Arguments::of(10, 11)
        .long(&properties)
        .short("PLAIN")
        .long(login.as_bytes())
        .short("en_US")
        .frame(0)
}

/// connection.tune-ok and connection.open, as the answer to connection.tune.
///
/// # Errors
/// The broker's frame_max is below ours: templates would not fit.
pub(crate) fn tune_ok_and_open(
    options: &Options,
    tune: &[u8],
    heartbeat_s: u16,
) -> Result<Vec<u8>, Failure> {
    let [_, _, _, _, c0, c1, f0, f1, f2, f3, ..] = *tune else {
        return Err(Failure::protocol("short connection.tune"));
    };
    let frame_max = match u32::from_be_bytes([f0, f1, f2, f3]) {
        0 => FRAME_MAX as u32,
        n => n.min(FRAME_MAX as u32),
    };
    if (frame_max as usize) < FRAME_MAX {
        return Err(Failure::Refused(format!(
            "the broker's frame_max {frame_max} is below {FRAME_MAX}"
        )));
    }
    let tune_ok = Arguments::of(10, 31)
        .u16(u16::from_be_bytes([c0, c1]))
        .u32(frame_max)
        .u16(heartbeat_s);
    let mut out = tune_ok.frame(0);
    let open = Arguments::of(10, 40).short(&options.vhost).short("").u8(0);
    out.extend(open.frame(0));
    Ok(out)
}

pub(crate) fn channel_open() -> Vec<u8> {
    Arguments::of(20, 10).short("").frame(1)
}

pub(crate) fn connection_close() -> Vec<u8> {
    Arguments::of(10, 50).u16(200).short("").u32(0).frame(0)
}

/// The text of a channel.close or connection.close.
pub(crate) fn close_text(payload: &[u8]) -> String {
    let code = payload
        .get(4..6)
        .map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
    let length = usize::from(payload.get(6).copied().unwrap_or_default());
    let text = payload.get(7..7 + length).unwrap_or_default();
    format!("{code} {}", String::from_utf8_lossy(text))
}

/// A field table with one entry, the header that [`crate::template::Content`] sets.
pub(crate) fn header(value: &str) -> Vec<u8> {
    let mut table = b"\x04loadS".to_vec();
    table.extend_from_slice(&(value.len() as u32).to_be_bytes());
    table.extend_from_slice(value.as_bytes());
    table
}

/// `queue.bind`.
pub(crate) fn bind(queue: &str, exchange: &str, key: &str, table: &[u8]) -> Arguments {
    let arguments = Arguments::of(50, 20).u16(0).short(queue).short(exchange);
    arguments.short(key).u8(0).long(table)
}

/// `queue.declare` of a queue without arguments.
pub(crate) fn declare(queue: &str, durable: bool) -> Arguments {
    let arguments = Arguments::of(50, 10).u16(0).short(queue);
    arguments.u8(u8::from(durable) << 1).u32(0)
}

/// `queue.delete`.
pub(crate) fn delete(queue: &str) -> Arguments {
    Arguments::of(50, 40).u16(0).short(queue).u8(0)
}

/// A connection with its channel, in blocking mode.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn open(options: &Options) -> Result<Self, Failure> {
        let stream = sockets::dial(options.address, None, options.timeout)?;
        let mut client = Self { stream };
        client.send(PROTOCOL_HEADER)?;
        client.wait(CONNECTION_START, "connection.start")?;
        client.send(&start_ok(options))?;
        let tune = client.wait(CONNECTION_TUNE, "connection.tune")?;
        client.send(&tune_ok_and_open(options, &tune, 0)?)?;
        client.wait(CONNECTION_OPEN_OK, "connection.open-ok")?;
        client.send(&channel_open())?;
        client.wait(CHANNEL_OPEN_OK, "channel.open-ok")?;
        Ok(client)
    }

    pub(crate) fn exchange_declare(
        &mut self,
        name: &str,
        kind: &str,
        durable: bool,
    ) -> Result<(), Failure> {
        let arguments = Arguments::of(40, 10).u16(0).short(name).short(kind);
        let arguments = arguments.u8(u8::from(durable) << 1).u32(0);
        self.call(arguments, 11, "exchange.declare-ok")
    }

    pub(crate) fn queue_declare(
        &mut self,
        name: &str,
        durable: bool,
        queue_type: &str,
        max_priority: u8,
    ) -> Result<(), Failure> {
        let mut table = vec![];
        if !queue_type.is_empty() {
            table.extend_from_slice(b"\x0cx-queue-typeS");
            table.extend_from_slice(&(queue_type.len() as u32).to_be_bytes());
            table.extend_from_slice(queue_type.as_bytes());
        }
        if max_priority > 0 {
            table.extend_from_slice(b"\x0ex-max-priorityB");
            table.push(max_priority);
        }
        let arguments = Arguments::of(50, 10).u16(0).short(name);
        let arguments = arguments.u8(u8::from(durable) << 1).long(&table);
        self.call(arguments, 11, "queue.declare-ok")
    }

    pub(crate) fn queue_bind(
        &mut self,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), Failure> {
        self.call(bind(queue, exchange, key, &[]), 21, "queue.bind-ok")
    }

    /// Binds to a headers exchange, once for each value of the header.
    pub(crate) fn queue_bind_headers(
        &mut self,
        queue: &str,
        exchange: &str,
        values: &[String],
    ) -> Result<(), Failure> {
        for some in values.chunks(256) {
            let binds = some
                .iter()
                .map(|value| bind(queue, exchange, "", &header(value)));
            let frames: Vec<u8> = binds.flat_map(|bind| bind.frame(1)).collect();
            self.send(&frames)?;
            for _ in some {
                self.wait(method(50, 21), "queue.bind-ok")?;
            }
        }
        Ok(())
    }

    pub(crate) fn queue_delete(&mut self, queue: &str) -> Result<(), Failure> {
        self.call(delete(queue), 41, "queue.delete-ok")
    }

    pub(crate) fn exchange_delete(&mut self, exchange: &str) -> Result<(), Failure> {
        let arguments = Arguments::of(40, 20).u16(0).short(exchange).u8(0);
        self.call(arguments, 21, "exchange.delete-ok")
    }

    pub(crate) fn basic_qos(&mut self, prefetch: u16) -> Result<(), Failure> {
        let arguments = Arguments::of(60, 10).u32(0).u16(prefetch).u8(0);
        self.call(arguments, 11, "basic.qos-ok")
    }

    pub(crate) fn basic_consume(&mut self, queue: &str, auto_ack: bool) -> Result<(), Failure> {
        let arguments = Arguments::of(60, 20).u16(0).short(queue).short("c");
        let arguments = arguments.u8(u8::from(auto_ack) << 1).u32(0);
        self.call(arguments, 21, "basic.consume-ok")
    }

    pub(crate) fn confirm_select(&mut self) -> Result<(), Failure> {
        self.call(Arguments::of(85, 10).u8(0), 11, "confirm.select-ok")
    }

    /// A method on channel 1 and its answer, which is of the same class.
    fn call(&mut self, arguments: Arguments, ok: u16, what: &str) -> Result<(), Failure> {
        let class = (method_of(&arguments.0) >> 16) as u16;
        self.send(&arguments.frame(1))?;
        self.wait(method(class, ok), what).map(|_| ())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        write(&mut self.stream, bytes, "write")
    }

    pub(crate) fn wait(&mut self, wanted: u32, what: &str) -> Result<Vec<u8>, Failure> {
        for _ in 0..FRAMES_BEFORE_ANSWER_MAX {
            let (kind, payload) = self.read_frame(what)?;
            if kind != 1 {
                continue;
            }
            match method_of(&payload) {
                m if m == wanted => return Ok(payload),
                CHANNEL_CLOSE | CONNECTION_CLOSE => {
                    return Err(Failure::Refused(format!(
                        "waiting for {what}: closed by the broker: {}",
                        close_text(&payload)
                    )));
                }
                _ => {}
            }
        }
        Err(Failure::protocol(format!("no {what}")))
    }

    fn read_frame(&mut self, what: &str) -> Result<(u8, Vec<u8>), Failure> {
        let mut header = [0_u8; 7];
        sockets::read_exact(&mut self.stream, &mut header, what)?;
        let [kind, _, _, s0, s1, s2, s3] = header;
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        if size > FRAME_MAX {
            return Err(Failure::protocol(format!(
                "a frame of {size} bytes while waiting for {what}"
            )));
        }
        let mut payload = vec![0; size + 1];
        sockets::read_exact(&mut self.stream, &mut payload, what)?;
        if payload.pop() != Some(END) {
            return Err(Failure::protocol("bad frame end"));
        }
        Ok((kind, payload))
    }
}

/// Deliveries may come before an answer; so many frames are skipped.
const FRAMES_BEFORE_ANSWER_MAX: usize = 10_000;
