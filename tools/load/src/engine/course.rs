//! A run from its first message to its last: warm up, measure, drain.
//!
//! Owns the loop and its times. Never looks into a packet.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::pump::Schedule;
use super::{Engine, Limits, Outcome, Protocol};
use crate::clock::{Ticker, nap, now, tight_timers};
use crate::failure::Failure;
use crate::usage::{self, Snap};
use crate::{amqp, mqtt};

/// Where a run stands, ten times a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) t: u64,
    /// When measuring began; 0 before.
    pub(crate) mark: u64,
    /// Since the first message, warm-up included.
    pub(crate) sent: u64,
    /// Since the first message, warm-up included.
    pub(crate) received: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    GoOn,
    /// Send no more; what is under way is still waited for.
    Stop,
}

/// Times and counts of the run that is going on.
pub(super) struct Course {
    pub(super) pid: u32,
    /// The broker's process tree.
    pids: Vec<u32>,
    limits: Limits,
    begin: u64,
    pub(super) a: Snap,
    measuring: bool,
    pub(super) mark: u64,
    pub(super) sent_at_mark: u64,
    pub(super) received_at_mark: u64,
    /// When the sending stopped; 0 before.
    pub(super) stop: u64,
    pub(super) sent_at_stop: u64,
    pub(super) received_at_stop: u64,
    pub(super) last_progress: u64,
    last_received: u64,
    last_tick: u64,
    work_at_tick: u64,
    /// How long the broker can go on without us.
    nap_us: u64,
    in_flight_cap: f64,
    wish: Wish,
    /// Open loop: messages that were due so far.
    due: u64,
    pub(super) stalls: u64,
    pub(super) timed_out: bool,
    pub(super) rss_peak_kb: u64,
}

struct Io {
    poll: Poll,
    events: Events,
    ticker: Option<Ticker>,
    buffer: Vec<u8>,
    /// Connections with more to read.
    again: Vec<usize>,
    now_again: Vec<usize>,
}

impl Engine {
    /// Runs to the end. `tick` is called ten times a second, never per message.
    ///
    /// # Errors
    /// The system refuses what the loop needs.
    pub(crate) fn run(
        &mut self,
        pid: u32,
        tick: &mut dyn FnMut(&Tick) -> Wish,
    ) -> Result<Outcome, Failure> {
        tight_timers();
        self.share_out();
        let rate = self.ledger.limits.rate;
        let mut io = Io::new(&mut self.connections, rate).map_err(Failure::system("poll"))?;
        let mut course = Course::begin(self, pid);
        loop {
            let t = now();
            self.advance(&mut course, t);
            if self.is_over(&mut course, t) {
                break;
            }
            if course.stop == 0 {
                self.feed(&mut course, t);
            }
            if t - course.last_tick > TICK_NS {
                self.tick(&mut course, t, tick);
            }
            let bytes = self.exchange(&mut io);
            if course.nap_us >= 10 && io.again.is_empty() && bytes < 32 * 1_024 {
                nap(course.nap_us);
            }
        }
        self.finish();
        Ok(self.outcome(course))
    }

    /// Each publisher's part of the messages.
    fn share_out(&mut self) {
        let messages = self.ledger.limits.messages;
        let n = self.ledger.publishers.len() as u64;
        if messages == 0 || n == 0 {
            return;
        }
        for (i, publisher) in (0_u64..).zip(&mut self.ledger.publishers) {
            publisher.quota = messages / n + u64::from(i < messages % n);
        }
    }

    /// From warming up to measuring to draining.
    fn advance(&mut self, course: &mut Course, t: u64) {
        if self.ledger.received != course.last_received {
            course.last_received = self.ledger.received;
            course.last_progress = t;
        }
        if !course.measuring && t - course.begin >= ns(course.limits.warmup_s) {
            course.measuring = true;
            course.a = usage::snap(course.pid);
            course.mark = course.a.t;
            self.ledger.mark = course.mark;
            course.sent_at_mark = self.ledger.sent();
            course.received_at_mark = self.ledger.received;
        }
        if course.stop == 0 {
            let seconds = course.limits.seconds;
            let passed = t.saturating_sub(course.mark);
            let time_up = course.measuring && seconds > 0.0 && passed >= ns(seconds);
            if self.preset || time_up || course.wish == Wish::Stop || self.quota_done() {
                course.stop = t.max(course.mark + 1);
                course.sent_at_stop = self.ledger.sent();
                course.received_at_stop = self.ledger.received;
                course.last_progress = t;
            }
        }
    }

    fn is_over(&self, course: &mut Course, t: u64) -> bool {
        if self.ledger.error.is_some() {
            return true;
        }
        if t - course.begin > ns(course.limits.hard_s) {
            course.timed_out = true;
            return true;
        }
        if course.stop == 0 {
            return false;
        }
        if self.all_in() {
            return true;
        }
        let over = t.saturating_sub(course.last_progress) > ns(course.limits.drain_s);
        if over {
            course.timed_out = !self.flushed() || self.preset;
        }
        over
    }

    fn feed(&mut self, course: &mut Course, t: u64) {
        let rate = course.limits.rate;
        if rate == 0.0 {
            self.pump_all(t);
            return;
        }
        // Open loop: what is due is due, whatever the broker does.
        let publishers = self.ledger.publishers.len();
        let schedule = Schedule {
            t0: course.begin,
            step_ns: 1e9 / rate,
            publishers: publishers as u64,
        };
        let messages = match course.limits.messages {
            0 => u64::MAX,
            n => n,
        };
        let due_at = |n: u64| schedule.t0 + (n as f64 * schedule.step_ns) as u64;
        while publishers > 0 && course.due < messages && due_at(course.due) <= t {
            let turn = (course.due % schedule.publishers) as usize;
            self.ledger.publishers[turn].owed += 1;
            course.due += 1;
        }
        for i in 0..publishers {
            if self.ledger.publishers[i].owed > 0 {
                self.pump_publisher(i, usize::MAX, t, Some(schedule));
            }
        }
    }

    fn tick(&mut self, course: &mut Course, t: u64, tick: &mut dyn FnMut(&Tick) -> Wish) {
        let limits = &course.limits;
        let work = self.ledger.received.max(self.ledger.acked);
        let done = work - course.work_at_tick;
        if limits.rate == 0.0 && course.last_tick != 0 && done > 0 {
            // How long the broker can go on without us: an eighth of the time that what may be in
            // flight lasts it.
            let us = (t - course.last_tick) as f64 / 1e3;
            let lasts = us * course.in_flight_cap / done as f64;
            course.nap_us = (lasts / 8.0).min(limits.coalesce_us as f64) as u64;
        }
        course.work_at_tick = work;
        course.last_tick = t;
        if !course.pids.is_empty() {
            course.rss_peak_kb = course.rss_peak_kb.max(usage::rss_kb(&course.pids));
        }
        if course.stop == 0 && limits.outstanding > 0 && limits.rate == 0.0 {
            course.stalls += self.write_off(t);
        }
        let wish = tick(&Tick {
            t,
            mark: if course.measuring { course.mark } else { 0 },
            sent: self.ledger.sent(),
            received: self.ledger.received,
        });
        if wish == Wish::Stop {
            course.wish = wish;
        }
    }

    /// Waits for sockets and serves them; says how many bytes came.
    fn exchange(&mut self, io: &mut Io) -> usize {
        let wait = if io.again.is_empty() {
            IDLE_WAIT
        } else {
            Duration::ZERO
        };
        if let Err(why) = io.poll.poll(&mut io.events, Some(wait)) {
            if why.kind() != ErrorKind::Interrupted {
                self.ledger.error = Some(format!("poll: {why}"));
            }
            return usize::MAX;
        }
        let mut bytes = 0;
        std::mem::swap(&mut io.again, &mut io.now_again);
        io.again.clear();
        let (buffer, again) = (&mut io.buffer, &mut io.again);
        for event in &io.events {
            let i = event.token().0;
            let Some(connection) = self.connections.get_mut(i) else {
                if let Some(ticker) = &io.ticker {
                    ticker.read();
                }
                continue;
            };
            if event.is_writable() {
                connection.writable = true;
                connection.flush(&mut self.ledger.error);
            }
            let closed = event.is_read_closed();
            let readable = event.is_readable() || closed || event.is_error();
            if readable && !io.now_again.contains(&i) {
                bytes += connection.read(buffer, &mut self.ledger, i, again, closed);
            }
        }
        for i in io.now_again.drain(..) {
            bytes += self.connections[i].read(buffer, &mut self.ledger, i, again, true);
        }
        bytes
    }

    /// Acknowledges what is left and says good-bye, without waiting for anything.
    fn finish(&mut self) {
        for subscriber in &mut self.ledger.subscribers {
            if subscriber.unacked > 0 {
                let connection = &mut self.connections[subscriber.connection];
                let ack = amqp::basic_ack(subscriber.last_tag, true);
                connection.out.extend(ack);
                subscriber.unacked = 0;
                connection.flush(&mut None);
            }
        }
        for connection in &mut self.connections {
            let is_mqtt = matches!(connection.protocol, Protocol::Mqtt { .. });
            if connection.open && connection.out.is_empty() && is_mqtt {
                connection.write(&mqtt::DISCONNECT, &mut None);
            }
        }
    }

    fn quota_done(&self) -> bool {
        self.ledger.publishers.iter().all(|p| p.sent >= p.quota)
    }

    fn all_in(&self) -> bool {
        let ledger = &self.ledger;
        ledger.groups.iter().all(|g| ledger.least_good(g) >= g.sent) && self.flushed()
    }

    fn flushed(&self) -> bool {
        self.ledger.publishers.iter().all(|p| {
            let confirmed = p.confirms.as_ref().is_none_or(|c| c.open == 0);
            p.inflight == 0 && confirmed && self.connections[p.connection].out.is_empty()
        })
    }
}

impl Course {
    fn begin(engine: &mut Engine, pid: u32) -> Self {
        let limits = engine.ledger.limits.clone();
        let pids = if pid != 0 { usage::tree(pid) } else { vec![] };
        let mut a = usage::snap(pid);
        if engine.began != 0 {
            a.t = engine.began;
        }
        let measuring = limits.warmup_s <= 0.0 || engine.preset;
        let begin = now();
        engine.ledger.mark = if measuring { a.t } else { u64::MAX };
        for group in &mut engine.ledger.groups {
            group.seen_at = begin;
        }
        Self {
            pid,
            pids,
            limits,
            begin,
            a,
            measuring,
            mark: a.t,
            sent_at_mark: 0,
            received_at_mark: 0,
            stop: 0,
            sent_at_stop: 0,
            received_at_stop: 0,
            last_progress: begin,
            last_received: 0,
            last_tick: 0,
            work_at_tick: 0,
            nap_us: 0,
            in_flight_cap: engine.in_flight_cap(),
            wish: Wish::GoOn,
            due: 0,
            stalls: 0,
            timed_out: false,
            rss_peak_kb: 0,
        }
    }
}

impl Io {
    fn new(connections: &mut [Connection], rate: f64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        for (i, connection) in connections.iter_mut().enumerate() {
            let registry = poll.registry();
            registry.register(&mut connection.stream, Token(i), both)?;
        }
        let mut ticker = None;
        if rate > 0.0 {
            let period_ns = ((1e9 / rate) as u64).clamp(50_000, 10_000_000);
            let made = Ticker::new(period_ns)?;
            let mut source = SourceFd(&made.fd());
            let token = Token(connections.len());
            poll.registry()
                .register(&mut source, token, Interest::READABLE)?;
            ticker = Some(made);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1_024),
            ticker,
            buffer: vec![0; READ_BYTES],
            again: vec![],
            now_again: vec![],
        })
    }
}

fn ns(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

const TICK_NS: u64 = 100_000_000;
const READ_BYTES: usize = 256 * 1_024;
const IDLE_WAIT: Duration = Duration::from_millis(2);
