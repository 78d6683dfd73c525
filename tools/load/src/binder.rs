//! Many subscriptions over few connections: what fills a broker's routing table.
//!
//! Owns the filters, none of which matches what a run publishes, though they share its prefix. Each
//! connection has one SUBSCRIBE in flight; bytes of a packet and connections are bounded.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::clock::now;
use crate::failure::Failure;
use crate::mqtt::{self, Wish, suback_codes, variable_byte_integer};
use crate::sockets;

/// Which filters, and how they go out.
#[derive(Clone, Debug)]
pub(crate) struct BinderPlan {
    pub(crate) options: mqtt::Options,
    pub(crate) connections: usize,
    /// What client identifiers begin with.
    pub(crate) client_ids: String,
    /// What the run's topics begin with.
    pub(crate) prefix: String,
    pub(crate) filters: usize,
    /// One filter in so many has a wildcard; 0: none.
    pub(crate) wildcard_every: usize,
    /// Filters in a SUBSCRIBE, if its bytes allow.
    pub(crate) per_packet: usize,
    pub(crate) qos: u8,
    /// Seconds for all of them.
    pub(crate) seconds_max: f64,
}

/// What the subscribing came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) granted: u64,
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
    /// The time was up before all were asked for.
    pub(crate) gave_up: bool,
}

/// Connections that subscribe; the subscriptions last as long as it does.
pub(crate) struct Binder {
    plan: BinderPlan,
    poll: Poll,
    events: Events,
    slots: Vec<Slot>,
    /// Filters asked for so far.
    asked: usize,
}

struct Slot {
    stream: mio::net::TcpStream,
    out: Vec<u8>,
    out_at: usize,
    input: Vec<u8>,
    packet_id: u16,
    waiting: bool,
}

impl Binder {
    /// Opens the connections; nothing is subscribed yet.
    pub(crate) fn open(plan: BinderPlan) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("poll"))?;
        let mut slots = Vec::with_capacity(plan.connections);
        for i in 0..plan.connections {
            let wish = Wish {
                client_id: &format!("{}-b{i}", plan.client_ids),
                clean: true,
                expiry_s: 0,
            };
            let (stream, _) = mqtt::open(&plan.options, None, wish)?;
            let mut stream = sockets::into_mio(stream)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(i), both)
                .map_err(Failure::system("poll"))?;
            slots.push(Slot {
                stream,
                out: vec![],
                out_at: 0,
                input: vec![],
                packet_id: 0,
                waiting: false,
            });
        }
        Ok(Self {
            plan,
            poll,
            events: Events::with_capacity(256),
            slots,
            asked: 0,
        })
    }

    /// Makes all the subscriptions.
    ///
    /// # Errors
    /// The broker closes a connection or sends what has no place there. What it refuses with a
    /// return code is counted.
    pub(crate) fn bind(&mut self) -> Result<Bound, Failure> {
        let mut bound = Bound::default();
        let begin = now();
        for i in 0..self.slots.len() {
            self.ask(i)?;
        }
        while self.slots.iter().any(|slot| slot.waiting) {
            bound.seconds = (now() - begin) as f64 / 1e9;
            if bound.seconds > self.plan.seconds_max {
                bound.gave_up = true;
                return Ok(bound);
            }
            match self.poll.poll(&mut self.events, Some(POLL_MAX)) {
                Err(why) if why.kind() != ErrorKind::Interrupted => {
                    return Err(Failure::system("poll")(why));
                }
                Err(_) => continue,
                Ok(()) => {}
            }
            let ready: Vec<usize> = self.events.iter().map(|e| e.token().0).collect();
            for i in ready {
                self.slots[i].flush()?;
                if self.answered(i, &mut bound)? {
                    self.ask(i)?;
                }
            }
        }
        bound.seconds = (now() - begin) as f64 / 1e9;
        Ok(bound)
    }

    /// Sends the next packet of a connection, if there are filters left.
    fn ask(&mut self, i: usize) -> Result<(), Failure> {
        let mut filters = vec![];
        let mut bytes = PACKET_OVERHEAD_BYTES;
        while filters.len() < self.plan.per_packet && self.asked < self.plan.filters {
            let filter = self.plan.filter(self.asked);
            bytes += filter.len() + 3;
            if bytes > PACKET_BYTES_MAX {
                break;
            }
            filters.push(filter);
            self.asked += 1;
        }
        let slot = &mut self.slots[i];
        slot.waiting = !filters.is_empty();
        if !slot.waiting {
            return Ok(());
        }
        slot.packet_id = slot.packet_id.checked_add(1).unwrap_or(1);
        let plan = &self.plan;
        let packet = mqtt::subscribe(plan.options.v5, slot.packet_id, &filters, plan.qos);
        slot.out.extend(packet);
        slot.flush()
    }

    /// Reads what a connection has; whether it may send again.
    fn answered(&mut self, i: usize, bound: &mut Bound) -> Result<bool, Failure> {
        let v5 = self.plan.options.v5;
        let slot = &mut self.slots[i];
        slot.fill()?;
        let mut at = 0;
        let mut answered = false;
        while slot.input.len() - at >= 2 {
            let Some((length, n)) = variable_byte_integer(&slot.input[at + 1..])? else {
                break;
            };
            let end = at + 1 + n + length;
            if end - at > PACKET_BYTES_MAX + PACKET_OVERHEAD_BYTES {
                return Err(Failure::protocol(format!("a packet of {} bytes", end - at)));
            }
            let Some(body) = slot.input.get(at + 1 + n..end) else {
                break;
            };
            match slot.input[at] >> 4 {
                9 => {
                    let codes = suback_codes(v5, body);
                    let refused = codes.iter().filter(|code| **code >= 0x80).count();
                    bound.refused += refused as u64;
                    bound.granted += (codes.len() - refused) as u64;
                    slot.waiting = false;
                    answered = true;
                }
                14 => return Err(Failure::Refused("the broker sent DISCONNECT".into())),
                kind => return Err(Failure::protocol(format!("unexpected packet type {kind}"))),
            }
            at = end;
        }
        slot.input.drain(..at);
        Ok(answered)
    }
}

impl BinderPlan {
    /// The n-th filter: `PREFIXx0000001/exact`, or with a wildcard in one of two places.
    fn filter(&self, n: usize) -> String {
        let prefix = &self.prefix;
        let every = self.wildcard_every;
        if every == 0 || n % every != every - 1 {
            return format!("{prefix}x{n:07}/exact");
        }
        if (n / every).is_multiple_of(2) {
            format!("{prefix}+/x{n:07}")
        } else {
            format!("{prefix}x{n:07}/#")
        }
    }
}

impl Slot {
    fn flush(&mut self) -> Result<(), Failure> {
        while self.out_at < self.out.len() {
            match self.stream.write(&self.out[self.out_at..]) {
                Ok(n) => self.out_at += n,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(Failure::system("SUBSCRIBE")(why)),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let mut buffer = [0_u8; 16 * 1_024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Failure::Refused("closed by the broker".into())),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(Failure::system("waiting for SUBACK")(why)),
            }
        }
    }
}

/// The largest SUBSCRIBE, bytes: some brokers take no more of any packet.
const PACKET_BYTES_MAX: usize = 65_535;

/// Fixed header, packet identifier and no properties.
const PACKET_OVERHEAD_BYTES: usize = 16;

const POLL_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_distinct_and_mixed() {
        let plan = BinderPlan {
            options: mqtt::Options {
                aliases: false,
                address: ([127, 0, 0, 1], 1).into(),
                v5: false,
                user: String::new(),
                password: String::new(),
                keep_alive_s: 0,
                timeout: POLL_MAX,
            },
            connections: 1,
            client_ids: String::new(),
            prefix: "b/0/".into(),
            filters: 8,
            wildcard_every: 2,
            per_packet: 1,
            qos: 0,
            seconds_max: 1.0,
        };
        let table = [
            (0, "b/0/x0000000/exact"),
            (1, "b/0/+/x0000001"),
            (2, "b/0/x0000002/exact"),
            (3, "b/0/x0000003/#"),
        ];
        for (n, filter) in table {
            assert_eq!(plan.filter(n), filter);
        }
    }
}
