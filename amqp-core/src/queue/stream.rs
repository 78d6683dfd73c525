//! Streams: queues that keep what they give. Every reader has a place of its own, and only
//! retention takes messages away.
//!
//! ```text
//! publishers ──► log ──► readers at its end, once the journal has what they get
//!                 └────► readers far behind: a piece of the journal at a time, read without lock
//! ```
//! A message's offset is its number in the journal, and nobody sees it before it is as durable as
//! its publisher's confirm says: else a crash could give an offset that a reader has seen to
//! another message. Readers without credit, or with something to read, are blocked; all others wait
//! at the end of what is committed.

mod log;
mod reader;
mod segments;

use std::sync::{Arc, Weak};

use log::Log;
use reader::Start;
pub use reader::StreamReader;
pub(crate) use reader::unknown;
use segments::Retention;

use super::dispatch::Publication;
use super::{Consumer, Queue, State};
use crate::journal::{Slot, Stretch};
use crate::key::Form;
use crate::limits::{
    STREAM_PIECE_BYTES_MAX, STREAM_PIECE_MESSAGES_MAX, STREAM_SEGMENT_BYTES, STREAM_SWEPT_AT_ONCE,
    STREAM_SWEPT_LATER, STREAM_TAIL_BYTES,
};
use crate::message::{AmqpOrigin, Head, Message, MessageRef};
use crate::refusal::Refusal;
use crate::sink::{Delivery, Outcome, Sink};
use crate::time::Time;
use crate::turn::Turn;
use crate::watermark::{Wake, Watermark};

/// What a stream has beside a queue's consumers.
#[derive(Default)]
pub(super) struct Stream {
    log: Log,
    /// No reader that waits at the end is before this.
    served: u64,
    /// The journal will say when the next message is committed.
    awaits: bool,
    blank: Blank,
}

/// A message without anything in it: what a delivery holds until it is settled. Nothing goes back
/// to a stream, so nobody needs the message itself by then.
struct Blank(Message);

impl Default for Blank {
    fn default() -> Self {
        let nothing = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                persistent: false,
                retain: false,
                exactly_once: false,
                publisher: 0,
                received: Time(0),
                expires: None,
            },
            exchange: "",
            key: &[],
            properties: &[],
            payload: &[],
        };
        Self(nothing.to_message(&mut Vec::new()))
    }
}

impl Stream {
    /// How many messages are kept.
    pub(super) fn len(&self) -> u64 {
        self.log.len()
    }

    /// Their bytes, as retention counts them.
    pub(super) fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// How many are on disk only.
    pub(super) fn paged(&self) -> u64 {
        self.log.len() - self.log.held() as u64
    }
}

/// Where a reader is after it was served.
enum Served {
    /// It has all that is committed.
    AtEnd,
    /// It has no credit, or no room.
    Full,
    /// What follows is on disk.
    Behind,
    /// It has left out so much that others come first.
    Spent,
}

/// Tells a stream that something is committed.
struct Bell(Weak<Queue>);

impl Wake for Bell {
    fn wake(&self) {
        if let Some(queue) = self.0.upgrade() {
            queue.call_readers();
        }
    }
}

impl State {
    /// What a stream is to keep.
    fn retention(&self) -> Retention {
        let terms = self.terms();
        Retention {
            segment_bytes: terms.segment_bytes.unwrap_or(STREAM_SEGMENT_BYTES),
            bytes_max: terms.max_length_bytes,
            age_max_ms: terms.max_age_ms,
        }
    }
}

impl Queue {
    /// Takes a message for all readers, those that are there and those that will come.
    pub(super) fn append(self: &Arc<Self>, turn: &mut Turn, what: &mut Publication<'_>) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let keep = state.retention();
        let Some(stream) = &mut state.stream else {
            return;
        };
        let message = what.share(turn);
        let number = self.keep_in_stream(stream.log.next(), what);
        if stream.log.push(message, number, keep.segment_bytes) {
            stream.log.retain(keep, turn.now, |offset| {
                let found = self.fetch_one(offset)?;
                Some(found.head().received)
            });
        }
        stream.log.look(self.as_ref(), self.marked());
        self.sweep(&mut state, turn.now, STREAM_SWEPT_AT_ONCE);
        let committed = self.serve_waiting(&mut state, turn);
        let awaited = self.await_commit(&mut state, committed);
        drop(state);
        self.wait_for(awaited);
    }

    /// Writes a message to the journal, whatever its delivery mode: all of it, so that those who
    /// read many find them side by side. Gives the number that readers wait for.
    fn keep_in_stream(&self, seq: u64, what: &mut Publication<'_>) -> u64 {
        let Some(door) = self.door.as_ref().filter(|_| self.journaled()) else {
            return 0;
        };
        let slot = Slot {
            queue: self.id,
            seq,
            after: self.record(),
            durability: door.durability,
        };
        let appended = door.journal.publish(slot, what.message, None);
        what.body = what.body.or(appended.body);
        what.journaled = what.journaled.max(appended.number);
        appended.number
    }

    pub(super) fn fetch_one(&self, offset: u64) -> Option<Message> {
        let journal = &self.door.as_ref()?.journal;
        let (_, message) = journal.fetch(self.id, offset..offset + 1).pop()?;
        Some(message)
    }

    /// The mark that commits messages.
    fn mark(&self) -> Option<&Arc<Watermark>> {
        self.door.as_ref().map(|door| door.mark())
    }

    fn marked(&self) -> u64 {
        self.mark().map_or(0, |mark| mark.durable())
    }

    fn committed(&self, log: &Log) -> u64 {
        log.committed(self.marked())
    }

    /// Tells the journal of messages that were given up: a few at a time, so that nobody waits.
    fn sweep(self: &Arc<Self>, state: &mut State, now: Time, most: u64) {
        let Some(stream) = state.stream.as_mut().filter(|held| !held.log.is_swept()) else {
            return;
        };
        let gone: Vec<u64> = stream.log.sweep(most).collect();
        let left = !stream.log.is_swept();
        self.forget(&gone);
        if left {
            self.arm(state, now.after_ms(1));
        }
    }

    /// Its terms have changed: what is not to be kept any more goes.
    pub(super) fn retain_in_stream(self: &Arc<Self>, state: &mut State, now: Time) {
        let keep = state.retention();
        if let Some(stream) = &mut state.stream {
            stream.log.retain(keep, now, |offset| {
                let found = self.fetch_one(offset)?;
                Some(found.head().received)
            });
        }
        self.sweep(state, now, STREAM_SWEPT_LATER);
    }

    /// A timer has rung: what was given up is settled, also while nobody publishes.
    pub(super) fn ring_stream(self: &Arc<Self>, state: &mut State, now: Time) {
        self.sweep(state, now, STREAM_SWEPT_LATER);
    }

    /// Hands what is committed to the readers that wait for it; says up to where that is.
    fn serve_waiting(self: &Arc<Self>, state: &mut State, turn: &mut Turn) -> u64 {
        let State {
            consumers,
            stream: Some(stream),
            delivered,
            ..
        } = state
        else {
            return 0;
        };
        let committed = self.committed(&stream.log);
        // Mostly the journal is behind, and will tell.
        if std::mem::replace(&mut stream.served, committed) == committed {
            return committed;
        }
        for _ in 0..consumers.open() {
            let Some(place) = consumers.next_open() else {
                break;
            };
            let Some(consumer) = consumers.at_mut(place) else {
                break;
            };
            let reach = consumer.stream.as_ref().map_or(0, |reader| reader.next);
            if reach >= committed {
                continue;
            }
            // One by one they would never have left out much.
            let skips = consumer
                .stream
                .as_ref()
                .is_some_and(|reader| reader.skips());
            let served = if skips && turn.has_scanned() {
                Served::Spent
            } else {
                self.serve(stream, committed, consumer, turn, delivered)
            };
            match served {
                Served::AtEnd => continue,
                Served::Full => {}
                Served::Behind | Served::Spent => consumer.sink.again(consumer.key),
            }
            consumers.block(place);
        }
        committed
    }

    /// Gives a reader what is in memory for it, as far as it has credit.
    fn serve(
        self: &Arc<Self>,
        stream: &Stream,
        committed: u64,
        consumer: &mut Consumer,
        turn: &mut Turn,
        delivered: &mut u64,
    ) -> Served {
        let Some(reader) = &mut consumer.stream else {
            return Served::Full;
        };
        let log = &stream.log;
        let mut skipped = false;
        loop {
            reader.next = reader.next.max(log.first());
            if reader.next >= committed {
                return Served::AtEnd;
            }
            if skipped && turn.has_scanned() {
                return Served::Spent;
            }
            let (offset, message) = match log.recent(reader.next) {
                Some(recent) => (reader.next, recent.clone()),
                None => match reader.read_ahead() {
                    Some(found) => found,
                    // The rest of it cannot be read.
                    None if reader.next < reader.read_to => {
                        reader.next = reader.read_to;
                        continue;
                    }
                    None => return Served::Behind,
                },
            };
            let view = message.view();
            if reader.wants(&view) {
                let mut delivery = Delivery {
                    consumer: consumer.key,
                    queue: self,
                    seq: offset,
                    redelivered: false,
                    failures: 0,
                    offset: Some(offset),
                    now: turn.now,
                    message: &view,
                    held: &mut Some(stream.blank.0.clone()),
                    scratch: &mut turn.scratch,
                };
                match consumer.sink.deliver(&mut delivery) {
                    Outcome::Full => return Served::Full,
                    Outcome::Discarded(_) => {}
                    Outcome::Taken { wake, .. } => {
                        *delivered += 1;
                        if wake {
                            turn.owe(&consumer.sink);
                        }
                    }
                }
            } else {
                skipped = true;
                turn.count_scanned(1);
            }
            reader.next = offset + 1;
        }
    }

    /// The reader has credit again, or is new, or has more to read: it gets what there is. What is
    /// on disk is read without the lock, a bounded part of it in each turn of its connection.
    pub(super) fn pull_reader(self: &Arc<Self>, turn: &mut Turn, connection: u64, key: u64) {
        let mut state = self.state.lock();
        let awaited = loop {
            state.consumers.hold(connection, key);
            let State {
                deleted: false,
                consumers,
                stream: Some(stream),
                delivered,
                ..
            } = &mut *state
            else {
                break None;
            };
            let Some(consumer) = consumers.find_mut(connection, key) else {
                break None;
            };
            let committed = self.committed(&stream.log);
            match self.serve(stream, committed, consumer, turn, delivered) {
                Served::Full => break None,
                Served::AtEnd => {
                    consumers.unblock(connection, key);
                    break self.await_commit(&mut state, committed);
                }
                Served::Behind if !turn.has_scanned() => {}
                Served::Behind | Served::Spent => {
                    consumer.sink.again(key);
                    break None;
                }
            }
            let (Some(reader), Some(door)) = (&consumer.stream, &self.door) else {
                break None;
            };
            let from = reader.next;
            let most = if reader.skips() {
                STREAM_PIECE_MESSAGES_MAX
            } else {
                // More than it may have unacknowledged would wait in memory.
                u64::from(consumer.prefetch).clamp(1, STREAM_PIECE_MESSAGES_MAX)
            };
            let wanted = from..stream.log.tail_first().min(from + most);
            drop(state);
            let (found, end) = door
                .journal
                .fetch_some(self.id, wanted, STREAM_PIECE_BYTES_MAX);
            turn.count_scanned(cost(&found));
            state = self.state.lock();
            let consumer = state.consumers.find_mut(connection, key);
            if let Some(reader) = consumer.and_then(|consumer| consumer.stream.as_mut())
                && reader.next == from
            {
                reader.piece = found.into();
                reader.read_to = end.max(from + 1);
            }
        };
        drop(state);
        self.wait_for(awaited);
    }

    /// Has the journal tell when there is more for the readers that wait at the end: gives the
    /// number to wait for without the lock. `committed` is how far they were looked at: the mark
    /// may have risen since, and would not rise again.
    fn await_commit(&self, state: &mut State, committed: u64) -> Option<u64> {
        let stream = state.stream.as_mut().filter(|stream| !stream.awaits)?;
        if state.consumers.open() == 0 || self.mark()?.has_failed() {
            return None;
        }
        let number = stream.log.number(committed)?;
        stream.awaits = true;
        Some(number)
    }

    fn wait_for(self: &Arc<Self>, number: Option<u64>) {
        let (Some(number), Some(mark)) = (number, self.mark()) else {
            return;
        };
        let bell: Arc<dyn Wake> = Arc::new(Bell(Arc::downgrade(self)));
        if !mark.wait(number, &bell) {
            bell.wake();
        }
    }

    /// Something is committed: readers that wait for it are called, and pull on their own threads.
    fn call_readers(self: &Arc<Self>) {
        let mut called: Vec<(Arc<dyn Sink>, u64)> = Vec::new();
        let mut state = self.state.lock();
        let mut committed = 0;
        if let State {
            consumers,
            stream: Some(stream),
            ..
        } = &mut *state
        {
            stream.awaits = false;
            committed = self.committed(&stream.log);
            stream.served = committed;
            for _ in 0..consumers.open() {
                let Some(place) = consumers.next_open() else {
                    break;
                };
                let Some(consumer) = consumers.at(place) else {
                    break;
                };
                let reader = consumer.stream.as_ref();
                if reader.is_some_and(|reader| reader.next < committed) {
                    called.push((Arc::clone(&consumer.sink), consumer.key));
                    consumers.block(place);
                }
            }
        }
        let awaited = self.await_commit(&mut state, committed);
        drop(state);
        for (sink, key) in called {
            sink.again(key);
        }
        self.wait_for(awaited);
    }
}

/// What reading a piece takes of a turn.
fn cost(piece: &[(u64, Message)]) -> u64 {
    let units = |(_, message): &(u64, Message)| 1 + log::bytes(message) / SCANNED_BYTES;
    piece.iter().map(units).sum::<u64>().max(1)
}

/// Bytes of a message that cost as much as another message.
const SCANNED_BYTES: u64 = 256;

impl Queue {
    /// Whether a consumer may read this stream, in RabbitMQ's order and words.
    pub(super) fn check_reader(&self, consumer: &Consumer, vhost: &str) -> Result<(), Refusal> {
        let name = self.name();
        if consumer.priority != 0 {
            let kind = super::QueueKind::Stream;
            return Err(unknown("x-priority", name, vhost, kind));
        }
        if consumer.prefetch == 0 {
            return Err(Refusal::precondition(format!(
                "consumer prefetch count is not set for stream queue '{name}' in vhost '{vhost}'"
            )));
        }
        if consumer.no_ack {
            return Err(Refusal::not_implemented(format!(
                "automatic acknowledgement not supported by stream queue '{name}' in vhost \
                 '{vhost}'"
            )));
        }
        if consumer.limited {
            return Err(Refusal::not_implemented(format!(
                "queue '{name}' in vhost '{vhost}' does not support global qos"
            )));
        }
        Ok(())
    }

    /// Finds the place where a reader begins. Without the lock where the disk is asked.
    pub(super) fn begin_reader(&self, reader: &mut StreamReader) {
        let (first, next, tail_first, sought) = {
            let state = self.state.lock();
            let Some(stream) = &state.stream else {
                return;
            };
            let log = &stream.log;
            let sought = match reader.start {
                Start::At(at) => log.seek(at),
                _ => None,
            };
            (log.first(), log.next(), log.tail_first(), sought)
        };
        reader.next = match reader.start {
            Start::First => first,
            Start::Last => next.saturating_sub(1).max(first),
            Start::Next => next,
            Start::Offset(offset) => offset.max(first),
            Start::At(at) => {
                let found = sought.unwrap_or_else(|| self.search(at, first, tail_first));
                // What comes from now on is for it in any case.
                reader.since = (found < next).then_some(at);
                found
            }
        };
    }

    /// The first message on disk that came at this time or later, or one before it where some
    /// cannot be read.
    fn search(&self, at: Time, mut from: u64, mut to: u64) -> u64 {
        while from < to {
            let middle = from + (to - from) / 2;
            match self.fetch_one(middle) {
                Some(message) if message.head().received < at => from = middle + 1,
                _ => to = middle,
            }
        }
        from
    }

    /// What the journal had of a stream when the broker started.
    pub(super) fn restore_stream(state: &mut State, messages: &[Stretch]) {
        let segment_bytes = state.retention().segment_bytes;
        if let Some(stream) = &mut state.stream {
            stream.log = Log::restored(messages, segment_bytes);
        }
    }

    /// Leaves what is in memory to the journal; says how many messages that were.
    pub(super) fn page_out_stream(&self, state: &mut State) -> usize {
        let (stream, durable) = (state.stream.as_mut(), self.marked());
        let keep = STREAM_TAIL_BYTES / 64;
        stream.map_or(0, |stream| stream.log.leave(self, durable, keep))
    }
}

#[cfg(test)]
mod tests;
