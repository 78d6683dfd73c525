//! Where everything arrives: packets, lines of standard input, signals.
//!
//! Owns the one queue and the threads that fill it. It is bounded: who fills it faster than the
//! command works waits, and with it the socket or the pipe.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use leveret_core::time::Time;
use leveret_management::protocol::{Code, Failure};
use leveret_net::clock::Clock;

use crate::signals::StopSignals;

/// One arrival. `E` is what the broker sends.
pub(super) enum Input<E> {
    /// From the broker; after a failure nothing comes any more.
    Wire(Result<E, Failure>),
    Line(Vec<u8>),
    LinesEnded,
    Stop,
}

/// The queue, from its end.
pub(super) struct Inbox<E> {
    sender: SyncSender<Input<E>>,
    receiver: Receiver<Input<E>>,
    /// What was taken too early.
    early: RefCell<VecDeque<Input<E>>>,
    pub(super) clock: Clock,
}

/// The same queue for lines and signals.
pub(in crate::cli) struct Feed {
    line: Box<dyn Fn(Option<Vec<u8>>) -> bool + Send>,
    stop: Box<dyn Fn() + Send>,
}

impl<E: Send + 'static> Inbox<E> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = sync_channel(INPUTS_MAX);
        Self {
            sender,
            receiver,
            early: RefCell::default(),
            clock: Clock::start(),
        }
    }

    pub(super) fn sender(&self) -> SyncSender<Input<E>> {
        self.sender.clone()
    }

    /// Makes these the next arrivals.
    pub(super) fn put_back(&self, early: Vec<Input<E>>) {
        self.early.borrow_mut().extend(early);
    }

    /// The next arrival; `None` when it is `until` before there is one.
    pub(super) fn next(&self, until: Option<Time>) -> Option<Input<E>> {
        if let Some(input) = self.early.borrow_mut().pop_front() {
            return Some(input);
        }
        let Some(until) = until else {
            // This end holds a sender, so the channel is never closed.
            return self.receiver.recv().ok();
        };
        let left = Duration::from_millis(until.since_ms(self.clock.now()));
        // It is never closed: this end holds a sender.
        self.receiver.recv_timeout(left).ok()
    }

    pub(super) fn feed(&self) -> Feed {
        let (lines, stops) = (self.sender.clone(), self.sender.clone());
        Feed {
            line: Box::new(move |line| {
                lines
                    .send(line.map_or(Input::LinesEnded, Input::Line))
                    .is_ok()
            }),
            stop: Box::new(move || {
                // Nobody is left to be stopped if it fails.
                let _ = stops.send(Input::Stop);
            }),
        }
    }
}

impl Feed {
    /// Reads standard input line by line, in a thread of its own.
    ///
    /// # Errors
    /// The system has no thread.
    pub(in crate::cli) fn lines(self) -> Result<(), Failure> {
        spawn("lines", move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut line = Vec::new();
                match std::io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                if !(self.line)(Some(line)) {
                    return;
                }
            }
            (self.line)(None);
        })
    }

    /// Makes SIGTERM and SIGINT arrive here, in a thread of its own.
    ///
    /// # Errors
    /// The system has no thread.
    pub(in crate::cli) fn signals(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Failure::new(Code::Software, why.to_string()))?;
        // Before the thread runs: a signal that comes now must not end the program unheard.
        let signals = {
            let _inside = runtime.enter();
            StopSignals::listen()
        };
        let mut signals = signals.map_err(|why| Failure::new(Code::Software, why.to_string()))?;
        spawn("signals", move || {
            runtime.block_on(signals.next());
            (self.stop)();
        })
    }
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(|_| ())
        .map_err(|why| Failure::new(Code::Software, format!("no thread: {why}")))
}

/// Arrivals that may wait.
const INPUTS_MAX: usize = 64;

/// The longest line that is one message, in bytes: what an MQTT packet holds at most. A longer one
/// becomes several.
const LINE_BYTES_MAX: u64 = 268_435_455;
