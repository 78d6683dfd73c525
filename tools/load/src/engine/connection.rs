//! One connection of a run: bytes in, bytes out.
//!
//! Owns the socket and what is left of a packet between two reads. Packets themselves are read in
//! `parse_mqtt` and `parse_amqp`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::ledger::Ledger;
use super::{Owner, Protocol};
use crate::failure::Failure;
use crate::sockets;
use crate::template::Message;

pub(super) struct Connection {
    pub(super) stream: mio::net::TcpStream,
    pub(super) protocol: Protocol,
    pub(super) owner: Owner,
    pub(super) open: bool,
    pub(super) writable: bool,
    pub(super) out: Vec<u8>,
    /// How much of `out` is written.
    out_at: usize,
    /// The start of a packet whose head is not complete.
    left: Vec<u8>,
    /// Bytes of a packet that need not be looked at.
    pub(super) skip: usize,
    /// The message that ends with them.
    pub(super) pending: Option<Message>,
    /// AMQP: the delivery in progress.
    pub(super) delivery: Delivery,
}

#[derive(Default)]
pub(super) struct Delivery {
    pub(super) tag: u64,
    /// Body bytes to come.
    pub(super) body: u64,
    /// The next body frame is its first.
    pub(super) first: bool,
    pub(super) message: Message,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        protocol: Protocol,
        owner: Owner,
    ) -> Result<Self, Failure> {
        Ok(Self {
            stream: sockets::into_mio(stream)?,
            protocol,
            owner,
            open: true,
            writable: true,
            out: vec![],
            out_at: 0,
            left: vec![],
            skip: 0,
            pending: None,
            delivery: Delivery::default(),
        })
    }

    /// Writes at once; what the socket does not take is kept for `flush`.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8], error: &mut Option<String>) {
        match self.stream.write(bytes) {
            Ok(n) if n == bytes.len() => {}
            Ok(n) => {
                self.out.extend_from_slice(&bytes[n..]);
                self.writable = false;
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                self.out.extend_from_slice(bytes);
                self.writable = false;
            }
            Err(why) => self.lost(error, &format!("write: {why}")),
        }
    }

    pub(super) fn flush(&mut self, error: &mut Option<String>) {
        while self.out_at < self.out.len() && self.writable {
            match self.stream.write(&self.out[self.out_at..]) {
                Ok(n) => self.out_at += n,
                Err(why) if why.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => {
                    self.lost(error, &format!("write: {why}"));
                    return;
                }
            }
        }
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        } else if self.out_at > 1 << 16 {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
    }

    /// Reads until the socket is empty (a short read says so), four buffers at most, then
    /// acknowledges in one write. Says how many bytes came.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        ledger: &mut Ledger,
        me: usize,
        again: &mut Vec<usize>,
        closed: bool,
    ) -> usize {
        let mut total = 0;
        for round in 0.. {
            if !self.open {
                break;
            }
            if round == READS_MAX {
                again.push(me);
                break;
            }
            let left = self.left.len();
            buffer[..left].copy_from_slice(&self.left);
            match self.stream.read(&mut buffer[left..]) {
                Ok(0) => {
                    self.lost(&mut ledger.error, "closed by the broker");
                    break;
                }
                Ok(n) => {
                    total += n;
                    let end = left + n;
                    self.parse(&buffer[..end], buffer.len() / 2, ledger);
                    if end < buffer.len() && !closed {
                        break;
                    }
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => {
                    self.lost(&mut ledger.error, &format!("read: {why}"));
                    break;
                }
            }
        }
        if !self.out.is_empty() {
            self.flush(&mut ledger.error);
        }
        total
    }

    /// The rest of a packet whose head was read before; says how many bytes of `data` that is.
    #[inline]
    pub(super) fn skipped(&mut self, data: &[u8]) -> (usize, Option<Message>) {
        let n = self.skip.min(data.len());
        if n == 0 {
            return (0, None);
        }
        self.skip -= n;
        let ended = if self.skip == 0 {
            self.pending.take()
        } else {
            None
        };
        (n, ended)
    }

    #[inline]
    fn parse(&mut self, data: &[u8], left_max: usize, ledger: &mut Ledger) {
        ledger.read_at = 0;
        let parsed = match self.protocol {
            Protocol::Mqtt { v5 } => self.parse_mqtt(data, ledger, v5),
            Protocol::Amqp => self.parse_amqp(data, ledger),
        };
        match parsed {
            Ok(used) => {
                self.left.clear();
                self.left.extend_from_slice(&data[used..]);
                if self.left.len() > left_max {
                    self.lost(&mut ledger.error, "a packet header that does not end");
                }
            }
            Err(why) => self.lost(&mut ledger.error, &why.to_string()),
        }
    }

    fn lost(&mut self, error: &mut Option<String>, why: &str) {
        self.open = false;
        self.writable = false;
        let who = match self.owner {
            Owner::Publisher(i) => format!("publisher {i}"),
            Owner::Subscriber(i) => format!("subscriber {i}"),
        };
        error.get_or_insert(format!("{who}: {why}"));
    }
}

/// Reads of one connection before it is another's turn.
const READS_MAX: usize = 4;
