//! The one driver loop: a future that runs one connection's machine over one stream.
//!
//! Owns reading, writing, the connection's timer and its end; never knows a protocol. Works in
//! batches: all there is to read, then everything that follows from it, then one write. An idle
//! connection has no buffer: what is read goes to a buffer of the worker, only an incomplete frame
//! or an unwritten rest stays with the connection. This is the only place that awaits a socket on
//! behalf of a machine.
//!
//! ```text
//! Open --machine closed--> Finishing --all written, shut--> Draining --end, limit--> Over
//!   '------------- end of stream, error, panic, time is up -----------------------> Over
//! ```

mod ration;
mod worker;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use leveret_core::login::Reply;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use crate::clock::Clock;
use crate::crew;
use crate::login::Authenticator;
use crate::machine::Machine;
use crate::transport::Transport;

use ration::BINDINGS_FREE;
use worker::Worker;

/// How often one turn reads, handles and writes before others have theirs; a machine takes a
/// bounded number of packets each time.
pub const ROUNDS_MAX: usize = 4;

/// How far away a deadline is, in milliseconds, that need not be kept to the millisecond.
pub const DISTANT_MS: u64 = 20_000;

/// What such a deadline is rounded up to, in milliseconds.
pub const DISTANT_GRAIN_MS: u64 = 1_000;

/// Bytes of a frame that is not complete: the largest of either protocol, 256 MiB of MQTT, with its
/// header. Machines have lower limits, and close; beyond this one the machine is wrong.
pub const CARRY_BYTES_MAX: usize = 256 * 1_024 * 1_024 + 16;

/// Time for what is to be sent when the machine has closed, in milliseconds.
pub const FINISH_MS: u64 = 5_000;

/// Time that a peer has to read the last words and to close its side, in milliseconds.
pub const DRAIN_MS: u64 = 1_000;

/// Bytes that are read and thrown away for that.
pub const DRAIN_BYTES_MAX: usize = 1_024 * 1_024;

/// What all connections share.
#[derive(Debug)]
pub struct Surroundings {
    /// The clock.
    pub clock: Clock,
    /// Who answers the machines' requests.
    pub authenticator: Arc<Authenticator>,
}

/// Runs one machine over one stream, until both are done.
pub struct Driver<M: Machine, S> {
    machine: M,
    stream: S,
    surroundings: Arc<Surroundings>,
    /// An idle connection has none.
    aside: Option<Box<Aside>>,
    /// Made when a machine first has a deadline.
    alarm: Option<Pin<Box<Sleep>>>,
    /// When the alarm rings; the end of time if it is not set.
    armed: Time,
    phase: Phase,
    /// The carry may hold a whole frame.
    again: bool,
    /// The stream may hold bytes back that it has taken.
    flush: bool,
    /// The machine has been told that this is the end.
    told: bool,
    /// It has made more bindings than this thread can afford: nothing is read for a while.
    rests: bool,
    /// Bindings made since it last rested.
    bindings: u8,
}

/// What a connection has only while something is under way.
#[derive(Default)]
struct Aside {
    /// An incomplete frame, or input that the machine did not want yet.
    carry: Vec<u8>,
    /// What the stream did not take at once.
    output: Vec<u8>,
    /// How much of it the stream has taken since.
    written: usize,
    login: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    /// When Finishing and Draining end at the latest.
    until: Time,
    /// Bytes that Draining may still read.
    left_bytes: usize,
    /// When resting ends.
    rest: Time,
}

impl Aside {
    fn is_empty(&self) -> bool {
        self.carry.is_empty() && self.output.is_empty() && self.login.is_none()
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Open,
    Finishing,
    Draining,
    Over,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    /// The machine got something.
    Some,
    /// Nothing is there.
    None,
    /// The machine wants nothing.
    Unwanted,
    /// The peer has closed its side, or the stream is broken.
    End,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wrote {
    /// There was nothing.
    Nothing,
    /// All of it, at once.
    All,
    /// All, with what an earlier turn could not write: the machine has room again.
    Resumed,
    /// The stream takes no more now.
    Blocked,
}

impl<M: Machine, S: AsyncRead + AsyncWrite + Unpin> Driver<M, S> {
    /// A driver for a stream that nothing was read from yet.
    pub fn new(machine: M, stream: S, surroundings: Arc<Surroundings>) -> Self {
        Self {
            machine,
            stream,
            surroundings,
            aside: None,
            alarm: None,
            armed: NEVER,
            phase: Phase::Open,
            again: false,
            flush: false,
            told: false,
            rests: false,
            bindings: 0,
        }
    }

    /// Whether it can go on on another thread: not while it closes or somebody is asked for it.
    pub(crate) fn may_depart(&self) -> bool {
        let asked = |aside: &Aside| aside.login.is_some();
        self.phase == Phase::Open && !self.aside.as_deref().is_some_and(asked)
    }

    fn advance(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Poll<()> {
        if self.armed <= worker.turn.now {
            self.armed = NEVER;
        }
        if self.phase == Phase::Open {
            let served = self.serve(cx, worker);
            self.put_aside();
            ready!(served);
        }
        if self.phase == Phase::Finishing {
            ready!(self.finish(cx, &mut worker.turn));
        }
        if self.phase == Phase::Draining {
            ready!(self.drain(cx, worker));
        }
        Poll::Ready(())
    }

    /// Gives back what only this turn needed.
    fn put_aside(&mut self) {
        let idle = self.aside.as_ref().is_some_and(|aside| aside.is_empty());
        if idle && !self.rests && self.phase == Phase::Open {
            self.aside = None;
        }
    }

    /// One turn of an open connection. Ready when it is no longer open.
    fn serve(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Poll<()> {
        self.machine.doorbell().register(cx.waker());
        self.poll_login(cx, &mut worker.turn);
        self.answer(&mut worker.turn);
        self.look_whether_rested(worker.turn.now);
        for _ in 0..ROUNDS_MAX {
            let rested = self.rests;
            let read = self.read(cx, worker);
            self.pay_for_bindings(worker);
            let turn = &mut worker.turn;
            if !rested {
                self.look_at_clock(turn);
            }
            self.ask(cx, turn);
            // What the input put into the connection's own out-buffer is taken along: no wake-up.
            self.answer(turn);
            let wrote = self.write(cx);
            let broken = read == Read::End || wrote.is_err();
            if broken && !self.machine.is_closed() {
                self.tell(turn);
                self.phase = Phase::Over;
                return Poll::Ready(());
            }
            if self.machine.is_closed() {
                let aside = self.aside.get_or_insert_default();
                aside.login = None;
                aside.until = turn.now.after_ms(FINISH_MS);
                self.phase = Phase::Finishing;
                return Poll::Ready(());
            }
            let resumed = wrote.is_ok_and(|wrote| wrote == Wrote::Resumed);
            if resumed {
                self.machine.handle_wake(turn);
            }
            // Room may have come for what was not wanted, and nobody wakes for that.
            let nothing = match read {
                Read::None => true,
                Read::Unwanted => self.rests || !self.machine.wants_input(),
                Read::Some | Read::End => false,
            };
            if !self.answer(turn) && !resumed && nothing {
                self.arm(cx, turn.now);
                return Poll::Pending;
            }
            if turn.is_spent() {
                break;
            }
        }
        // There is more, but others come first.
        if worker.turn.is_late() {
            come_back_after_events(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        self.arm(cx, worker.turn.now);
        Poll::Pending
    }

    /// Tells the machine that its time has come, unless what was just read has put that off: input
    /// that waited for this thread was in time.
    fn look_at_clock(&mut self, turn: &mut Turn) {
        let due = |at: Time| at <= turn.now;
        if self.machine.poll_timeout().is_some_and(due) {
            self.machine.handle_timeout(turn);
        }
    }

    /// Has it rest that makes bindings which this thread cannot afford beside its deliveries.
    fn pay_for_bindings(&mut self, worker: &mut Worker) {
        let Worker { turn, ration, .. } = worker;
        let made = turn.take_rebound();
        if made == 0 {
            return;
        }
        let until = ration.take(turn.now, made);
        let free = usize::from(BINDINGS_FREE - self.bindings);
        if made < free {
            self.bindings += made as u8;
            return;
        }
        self.bindings = 0;
        if let Some(until) = until {
            self.rests = true;
            self.aside.get_or_insert_default().rest = until;
        }
    }

    fn look_whether_rested(&mut self, now: Time) {
        let rest = self.aside.as_ref().map(|aside| aside.rest);
        self.rests &= rest.is_some_and(|rest| rest > now);
    }

    /// Looks at what others have left at the doorbell, and says whether there was anything.
    fn answer(&mut self, turn: &mut Turn) -> bool {
        let pressed = self.machine.doorbell().answer();
        if pressed {
            self.machine.handle_wake(turn);
        }
        pressed
    }

    fn poll_login(&mut self, cx: &mut Context<'_>, turn: &mut Turn) {
        let Some(aside) = &mut self.aside else { return };
        let Some(login) = &mut aside.login else {
            return;
        };
        if let Poll::Ready(reply) = login.as_mut().poll(cx) {
            aside.login = None;
            self.machine.handle_reply(turn, reply);
        }
    }

    /// Has the machine's question answered, now or when it is known.
    fn ask(&mut self, cx: &mut Context<'_>, turn: &mut Turn) {
        if self
            .aside
            .as_ref()
            .is_some_and(|aside| aside.login.is_some())
        {
            return;
        }
        let Some(request) = self.machine.poll_request() else {
            return;
        };
        let authenticator = &self.surroundings.authenticator;
        if let Some(reply) = authenticator.answer_now(&request) {
            self.machine.handle_reply(turn, reply);
        } else {
            let login = Box::pin(Arc::clone(authenticator).answer(request));
            self.aside.get_or_insert_default().login = Some(login);
            self.poll_login(cx, turn);
        }
    }

    /// Reads once, unless the machine has something left over or wants nothing.
    fn read(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Read {
        // A peer that does not read its deliveries may still have acknowledgements to send: only
        // the machine knows when it has answered enough.
        if self.rests || !self.machine.wants_input() {
            return Read::Unwanted;
        }
        if self.again {
            return self.hand_over_carry(&mut worker.turn);
        }
        let kept = self.carry().len();
        if kept > CARRY_COPIED_BYTES_MAX {
            return self.read_behind_carry(cx, worker);
        }
        // A short carry goes in front of the new bytes, in the worker's buffer.
        let Worker { turn, buffer, .. } = worker;
        let (front, back) = buffer.split_at_mut(kept);
        let mut read = ReadBuf::new(back);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Pending => return Read::None,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
            Poll::Ready(_) => return Read::End,
        }
        let end = kept + read.filled().len();
        front.copy_from_slice(self.carry());
        let used = self.machine.handle_input(turn, &buffer[..end]);
        debug_assert!(used <= end, "a machine takes no more than there is");
        if used < end || kept > 0 {
            self.aside.get_or_insert_default().carry = buffer[used..end].to_vec();
        }
        self.look_again(used);
        Read::Some
    }

    fn carry(&self) -> &[u8] {
        self.aside.as_ref().map_or(&[], |aside| &aside.carry)
    }

    /// The part of a long frame that is there stays where it is and grows as bytes arrive.
    fn read_behind_carry(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Read {
        let mut read = ReadBuf::new(&mut worker.buffer);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Pending => return Read::None,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
            Poll::Ready(_) => return Read::End,
        }
        if self.carry().len() + read.filled().len() > CARRY_BYTES_MAX {
            let peer = self.machine.peer();
            tracing::error!(%peer, "a machine waits for more than any frame has");
            return Read::End;
        }
        let aside = self.aside.get_or_insert_default();
        aside.carry.extend_from_slice(read.filled());
        self.hand_over_carry(&mut worker.turn)
    }

    fn hand_over_carry(&mut self, turn: &mut Turn) -> Read {
        let aside = self.aside.get_or_insert_default();
        let used = self.machine.handle_input(turn, &aside.carry);
        debug_assert!(
            used <= aside.carry.len(),
            "a machine takes no more than there is"
        );
        if used > 0 {
            // A new one, so that a long frame's memory goes with it.
            aside.carry = aside.carry[used..].to_vec();
        }
        self.look_again(used);
        Read::Some
    }

    /// The rest is an incomplete frame only if the machine wanted more and took nothing.
    fn look_again(&mut self, used: usize) {
        self.again = !self.carry().is_empty() && (used > 0 || !self.machine.wants_input());
    }

    /// Writes what is left of earlier turns, then what the machine has: one write where possible.
    /// While something is left, the machine keeps the rest, under its own limit.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Wrote> {
        let mut outcome = Wrote::All;
        loop {
            let (mut output, mut written) = self.take_unwritten();
            if output.is_empty() {
                self.machine.poll_output(&mut output);
            } else {
                outcome = Wrote::Resumed;
            }
            if output.is_empty() {
                let nothing = if outcome == Wrote::Resumed {
                    outcome
                } else {
                    Wrote::Nothing
                };
                return self.flush(cx, nothing);
            }
            while written < output.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &output[written..]) {
                    Poll::Pending => {
                        let aside = self.aside.get_or_insert_default();
                        (aside.output, aside.written) = (output, written);
                        return Ok(Wrote::Blocked);
                    }
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(taken) => written += taken?,
                }
            }
            self.flush = true;
            if outcome == Wrote::All {
                return self.flush(cx, outcome);
            }
        }
    }

    /// What is left of earlier turns, and how much of that is written.
    fn take_unwritten(&mut self) -> (Vec<u8>, usize) {
        let Some(aside) = &mut self.aside else {
            return (Vec::new(), 0);
        };
        let written = std::mem::take(&mut aside.written);
        (std::mem::take(&mut aside.output), written)
    }

    fn flush(&mut self, cx: &mut Context<'_>, outcome: Wrote) -> io::Result<Wrote> {
        if !self.flush {
            return Ok(outcome);
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending if outcome != Wrote::Resumed => Ok(Wrote::Blocked),
            // The next round flushes again.
            Poll::Pending => Ok(outcome),
            Poll::Ready(done) => {
                self.flush = false;
                done.map(|()| outcome)
            }
        }
    }

    /// Sends the last words and shuts the sending side.
    fn finish(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Poll<()> {
        while !self.told {
            match self.write(cx) {
                Ok(Wrote::Nothing) => self.tell(turn),
                Ok(Wrote::All | Wrote::Resumed) => {}
                Ok(Wrote::Blocked) => return self.wait(cx, turn),
                Err(_) => {
                    self.tell(turn);
                    self.phase = Phase::Over;
                    return Poll::Ready(());
                }
            }
        }
        if self.machine.is_left() {
            self.phase = Phase::Over;
            return Poll::Ready(());
        }
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => self.wait(cx, turn),
            Poll::Ready(Ok(())) => {
                let aside = self.aside.get_or_insert_default();
                aside.until = turn.now.after_ms(DRAIN_MS);
                aside.left_bytes = DRAIN_BYTES_MAX;
                self.phase = Phase::Draining;
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) => {
                self.phase = Phase::Over;
                Poll::Ready(())
            }
        }
    }

    /// Reads until the peer has closed its side: a socket that is closed with unread input makes
    /// the system send a reset, which destroys the last words on their way.
    fn drain(&mut self, cx: &mut Context<'_>, worker: &mut Worker) -> Poll<()> {
        loop {
            let left_bytes = &mut self.aside.get_or_insert_default().left_bytes;
            let mut read = ReadBuf::new(&mut worker.buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if (1..*left_bytes).contains(&read.filled().len()) => {
                    *left_bytes -= read.filled().len();
                }
                Poll::Ready(_) => {
                    self.phase = Phase::Over;
                    return Poll::Ready(());
                }
                Poll::Pending => return self.wait(cx, &mut worker.turn),
            }
        }
    }

    /// Waits for the stream, but not for ever.
    fn wait(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> Poll<()> {
        let until = self.aside.get_or_insert_default().until;
        if turn.now < until {
            self.arm_at(cx, until);
            return Poll::Pending;
        }
        self.tell(turn);
        self.phase = Phase::Over;
        Poll::Ready(())
    }

    /// Sets the alarm for the machine's next deadline, or for the end of its rest.
    fn arm(&mut self, cx: &mut Context<'_>, now: Time) {
        if let Some(aside) = self.aside.as_ref().filter(|_| self.rests) {
            return self.arm_at(cx, aside.rest);
        }
        match self.machine.poll_timeout() {
            Some(at) if at <= now => cx.waker().wake_by_ref(),
            // Those of idle connections ring together: waking up costs more than what it is for.
            Some(at) if at.since_ms(now) >= DISTANT_MS => {
                self.arm_at(cx, Time(at.0.next_multiple_of(DISTANT_GRAIN_MS)));
            }
            Some(at) => self.arm_at(cx, at),
            None => {}
        }
    }

    /// Sets the alarm, unless it rings early enough: then that is the time to set it anew. So a
    /// deadline that moves with every packet does not touch the timer.
    fn arm_at(&mut self, cx: &mut Context<'_>, at: Time) {
        if self.armed <= at {
            return;
        }
        let moment = self.surroundings.clock.instant(at);
        let alarm = match &mut self.alarm {
            Some(alarm) => {
                alarm.as_mut().reset(moment);
                alarm
            }
            none => none.insert(Box::pin(sleep_until(moment))),
        };
        self.armed = at;
        if alarm.as_mut().poll(cx).is_ready() {
            self.armed = NEVER;
            cx.waker().wake_by_ref();
        }
    }
}

impl<M: Machine, S: Transport> Driver<M, S> {
    /// Leaves this thread's runtime: nothing of it is kept.
    pub(crate) fn depart(&mut self) -> io::Result<()> {
        self.alarm = None;
        self.armed = NEVER;
        self.stream.depart()
    }

    /// Joins this thread's runtime; the next poll goes on.
    pub(crate) fn arrive(&mut self) -> io::Result<()> {
        self.stream.arrive()
    }
}

impl<M: Machine, S> Driver<M, S> {
    /// Tells the machine, once, that this is the end.
    fn tell(&mut self, turn: &mut Turn) {
        if !std::mem::replace(&mut self.told, true) {
            if let Some(aside) = &mut self.aside {
                aside.login = None;
            }
            self.machine.handle_close(turn);
        }
    }

    /// The machine's state is unknown now, but the broker must still forget it.
    fn bury(&mut self, turn: &mut Turn) {
        let peer = self.machine.peer();
        tracing::error!(%peer, "a connection panicked; it is closed, others go on");
        self.phase = Phase::Over;
        if panic::catch_unwind(AssertUnwindSafe(|| self.tell(turn))).is_err() {
            tracing::error!(%peer, "the connection panicked again while it closed");
        }
    }
}

impl<M: Machine, S: AsyncRead + AsyncWrite + Unpin> Future for Driver<M, S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut worker = Worker::take();
        worker.begin(this.surroundings.clock);
        let advanced = panic::catch_unwind(AssertUnwindSafe(|| this.advance(cx, &mut worker)));
        let polled = advanced.unwrap_or_else(|_| {
            this.bury(&mut worker.turn);
            worker.turn.ring();
            worker.forget_turn();
            Poll::Ready(())
        });
        let Worker { turn, ration, .. } = &mut *worker;
        turn.ring();
        ration.count_deliveries(turn.now, turn.offered(), crew::is_busy);
        worker.put_back();
        polled
    }
}

impl<M: Machine, S> Drop for Driver<M, S> {
    /// A task that the runtime drops has lost its stream like any other.
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let mut turn = Turn::new();
        turn.now = self.surroundings.clock.now();
        if panic::catch_unwind(AssertUnwindSafe(|| self.tell(&mut turn))).is_err() {
            let peer = self.machine.peer();
            tracing::error!(%peer, "a connection panicked while it was dropped");
        }
        turn.ring();
    }
}

impl<M: Machine, S> std::fmt::Debug for Driver<M, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("peer", &self.machine.peer())
            .finish_non_exhaustive()
    }
}

/// Has the task polled again when the thread has looked for events: those who wait longest are not
/// known to it yet.
fn come_back_after_events(cx: &mut Context<'_>) {
    // What it does when it is polled is all of it.
    let _ = pin!(yield_now()).poll(cx);
}

const NEVER: Time = Time(u64::MAX);

/// A carry up to this is copied in front of what is read next, which is cheaper than moving what is
/// read behind it; it must leave room in the worker's buffer.
const CARRY_COPIED_BYTES_MAX: usize = 4 * 1_024;

const _: () = assert!(CARRY_COPIED_BYTES_MAX < worker::BUFFER_BYTES / 2);
