//! Many connections at once, set up without blocking: held idle, or opened and closed in loops.
//!
//! Owns a slot per connection and its way through the handshake, MQTT or AMQP. What is done with
//! connections that are up is the business of `hold`, `churn`, `sessions` and `returning`.

mod churn;
mod handshake;
mod hold;
mod returning;
mod sessions;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

pub(crate) use churn::churn;
pub(crate) use hold::{hold_amqp, hold_mqtt};
pub(crate) use returning::{reconnect, takeover};
pub(crate) use sessions::sessions;

use crate::clock::now;
use crate::failure::Failure;
use crate::report::latency_histogram;
use crate::scenario::Run;
use crate::sockets::{descriptors_for, dial_nonblocking, source};
use crate::{amqp, mqtt};

/// What the connections of a farm are for.
pub(crate) struct FarmPlan {
    wire: Wire,
    /// What client identifiers begin with.
    client_ids: String,
    /// Client identifiers are of the slot's number alone, so that sessions are found again.
    fixed_ids: bool,
    clean: bool,
    expiry_s: u32,
    /// Subscriptions of each; 0: none.
    filters: usize,
    sub_qos: u8,
    /// Source addresses; 0: the system's choice.
    sources: usize,
    run: Run,
}

/// What is spoken.
enum Wire {
    Mqtt(mqtt::Options),
    Amqp {
        options: amqp::Options,
        heartbeat_s: u16,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    Dialing,
    /// MQTT: CONNECT is out.
    ConnAck,
    /// MQTT: SUBSCRIBE is out.
    SubAck,
    /// AMQP: the protocol header is out.
    Start,
    /// AMQP: connection.start-ok is out.
    Tune,
    /// AMQP: connection.open is out.
    OpenOk,
    /// AMQP: channel.open is out.
    ChannelOpenOk,
    Up,
}

struct Slot {
    stream: Option<mio::net::TcpStream>,
    state: State,
    /// When it was begun.
    t0: u64,
    /// Which connection or session of the scenario it is.
    number: usize,
    /// The start of a packet that is not complete.
    left: Vec<u8>,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    Nothing,
    Up,
    /// It failed while it was being set up.
    Failed,
    /// It was up.
    Dropped,
}

struct Farm {
    plan: FarmPlan,
    poll: Poll,
    slots: Vec<Slot>,
    /// Connections begun so far.
    made: usize,
    handshake: Histogram<u64>,
    /// CONNACKs that told of a session.
    present: u64,
    /// Never came up.
    failed: u64,
    /// Closed by the broker when up.
    dropped: u64,
    /// Answers to signs of life.
    pongs: u64,
    /// The first failure's words.
    reason: Option<String>,
    buffer: Vec<u8>,
}

impl Farm {
    fn new(plan: FarmPlan, slots: usize) -> Result<Self, Failure> {
        descriptors_for(slots)?;
        let slot = |number| Slot {
            stream: None,
            state: State::Closed,
            t0: 0,
            number,
            left: vec![],
        };
        Ok(Self {
            plan,
            poll: Poll::new().map_err(Failure::system("poll"))?,
            slots: (0..slots).map(slot).collect(),
            made: 0,
            handshake: latency_histogram(),
            present: 0,
            failed: 0,
            dropped: 0,
            pongs: 0,
            reason: None,
            buffer: vec![0; 16 * 1_024],
        })
    }

    /// Begins a connection in a closed slot.
    fn start(&mut self, i: usize, number: usize) -> Turn {
        self.made += 1;
        let address = match &self.plan.wire {
            Wire::Mqtt(options) => options.address,
            Wire::Amqp { options, .. } => options.address,
        };
        let from = source(self.made, self.plan.sources);
        let both = Interest::READABLE | Interest::WRITABLE;
        let dialed = dial_nonblocking(address, from).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(i), both)?;
            Ok(stream)
        });
        let slot = &mut self.slots[i];
        slot.t0 = now();
        slot.number = number;
        slot.left.clear();
        slot.state = State::Dialing;
        match dialed {
            Ok(stream) => {
                slot.stream = Some(stream);
                Turn::Nothing
            }
            Err(why) => self.fail(i, &format!("connect: {why}")),
        }
    }

    /// Waits for sockets; at most so many milliseconds.
    fn wait(&mut self, events: &mut Events, ms: u64) -> Result<(), Failure> {
        match self.poll.poll(events, Some(Duration::from_millis(ms))) {
            Err(why) if why.kind() != ErrorKind::Interrupted => Err(Failure::system("poll")(why)),
            _ => Ok(()),
        }
    }

    fn event(&mut self, event: &mio::event::Event) -> Turn {
        let i = event.token().0;
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let Some(stream) = &self.slots[i].stream else {
            return Turn::Nothing;
        };
        if self.slots[i].state == State::Dialing && (event.is_writable() || readable) {
            if let Ok(Some(why)) = stream.take_error() {
                return self.fail(i, &format!("connect: {why}"));
            }
            let (hello, next) = self.hello(i);
            if let Err(why) = self.put(i, &hello) {
                return self.fail(i, &why.to_string());
            }
            self.slots[i].state = next;
        }
        if !readable {
            return Turn::Nothing;
        }
        let turn = self.read(i);
        if !event.is_read_closed() || self.slots[i].stream.is_none() {
            return turn;
        }
        // What came before the end has been read, and no other event will tell of the end.
        match (turn, self.fail(i, "closed by the broker")) {
            (Turn::Nothing, ended) => ended,
            (before, _) => before,
        }
    }

    fn read(&mut self, i: usize) -> Turn {
        let mut turn = Turn::Nothing;
        loop {
            let Some(stream) = self.slots[i].stream.as_mut() else {
                return turn;
            };
            match stream.read(&mut self.buffer) {
                Ok(0) => return self.fail(i, "closed by the broker"),
                Ok(n) => {
                    let mut data = std::mem::take(&mut self.slots[i].left);
                    data.extend_from_slice(&self.buffer[..n]);
                    match self.packets(i, &data) {
                        Ok((used, up)) => {
                            data.drain(..used);
                            if data.len() > LEFT_BYTES_MAX {
                                return self.fail(i, "a packet without end");
                            }
                            self.slots[i].left = data;
                            turn = if up { Turn::Up } else { turn };
                        }
                        Err(why) => return self.fail(i, &why.to_string()),
                    }
                    if n < self.buffer.len() {
                        return turn;
                    }
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => return turn,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return self.fail(i, &format!("read: {why}")),
            }
        }
    }

    /// Writes a small packet; a handshake never fills a socket's buffer.
    fn put(&mut self, i: usize, bytes: &[u8]) -> Result<(), Failure> {
        let Some(stream) = self.slots[i].stream.as_mut() else {
            return Ok(());
        };
        match stream.write(bytes) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(Failure::protocol("a short write of a small packet")),
            Err(why) => Err(Failure::system("write")(why)),
        }
    }

    fn fail(&mut self, i: usize, why: &str) -> Turn {
        let slot = &mut self.slots[i];
        slot.stream = None;
        let was_up = slot.state == State::Up;
        slot.state = State::Closed;
        self.reason.get_or_insert_with(|| why.to_owned());
        if was_up {
            self.dropped += 1;
            return Turn::Dropped;
        }
        self.failed += 1;
        Turn::Failed
    }

    /// Says good-bye, without waiting for anything.
    fn close(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        if let Some(mut stream) = slot.stream.take() {
            let _ = match &self.plan.wire {
                Wire::Mqtt(_) => stream.write(&mqtt::DISCONNECT),
                Wire::Amqp { .. } => stream.write(&amqp::connection_close()),
            };
        }
        slot.state = State::Closed;
    }

    fn close_all(&mut self) {
        for i in 0..self.slots.len() {
            self.close(i);
        }
    }

    /// Whether so much goes wrong that going on makes no sense.
    fn is_hopeless(&self) -> bool {
        self.failed >= FAILURES_MAX
    }

    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
}

/// Failures after which a scenario gives up.
const FAILURES_MAX: u64 = 1_000;

/// No packet of a handshake is longer.
const LEFT_BYTES_MAX: usize = 256 * 1_024;
