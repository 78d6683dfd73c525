//! Plays a script against one server and writes down what arrives.
//!
//! Owns the connections of one run. Reads after each step until its answer has come, and, where
//! something else may follow, until nothing has come for a while: deliveries and confirms have no
//! other end.

mod act;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::client::{Client, Event};
use super::clock;
use super::method;
use super::names::Names;
use super::peer::Peer;
use super::script::Script;
use super::step::{Step, Target};

/// How long an answer may take. Quorum queues take their time on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take to close the socket after `close-ok`.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The run of one script against one server.
pub(super) struct Player<'a> {
    peer: &'a Peer,
    /// For how long nothing must have come before all is taken to be there.
    quiet: Duration,
    manual: bool,
    names: Names,
    clients: BTreeMap<char, Client>,
    /// How each connection was asked for, so that it can be made again.
    wishes: BTreeMap<char, Step>,
    /// The highest channel in use.
    channel_top: u16,
    /// Whether there has been a consumer.
    consumed: bool,
    /// What has arrived and is not in the transcript yet.
    pending: Vec<(char, Event)>,
}

/// Plays a script; the transcript's lines.
///
/// # Errors
/// A step is not written as it should be, or no connection can be made.
pub(super) fn play(
    script: &Script,
    number: usize,
    peer: &Peer,
    quiet: Duration,
) -> Result<Vec<String>> {
    let mut player = Player {
        peer,
        quiet: peer.quiet(quiet),
        manual: script.manual,
        names: Names::new(number),
        clients: BTreeMap::new(),
        wishes: BTreeMap::new(),
        channel_top: 1,
        consumed: false,
        pending: Vec::new(),
    };
    let mut transcript = Vec::new();
    for (at, line) in script.steps.iter().enumerate() {
        transcript.push(format!("> {line}"));
        let lasts = script.steps.get(at + 1).is_some_and(|next| waits(next));
        player
            .step(line, script.bare, lasts)
            .with_context(|| line.clone())?;
        if !lasts {
            player.write_down(&mut transcript);
        }
    }
    player.end();
    Ok(transcript)
}

/// Looks at a script without playing it.
///
/// # Errors
/// A step is not written as it should be.
pub(super) fn check(script: &Script) -> Result<()> {
    for line in &script.steps {
        let step = Step::parse(line).with_context(|| line.clone())?;
        if step.verb.contains('.') && method::by_name(&step.verb).is_none() {
            bail!("{line}: there is no such method");
        }
    }
    Ok(())
}

/// Whether a step only waits for what an earlier one has caused.
fn waits(line: &str) -> bool {
    line.starts_with("wait ") || line.starts_with("settle ")
}

impl Player<'_> {
    fn step(&mut self, line: &str, bare: bool, lasts: bool) -> Result<()> {
        let mut step = Step::parse(line)?;
        let target = step.target;
        if let Some(channel) = target.channel {
            self.channel_top = self.channel_top.max(channel);
        }
        let calm = self.act(&mut step, bare)?;
        step.done()?;
        if !calm && !lasts {
            self.settle(self.quiet);
        }
        Ok(())
    }

    /// Reads from all connections until nothing has come for as long as `quiet`.
    fn settle(&mut self, quiet: Duration) {
        let mut last = clock::now();
        let begin = last;
        loop {
            if self.receive() {
                last = clock::now();
            }
            let closing = |client: &Client| client.closing && !client.ended;
            if self.clients.values().any(closing) && begin.elapsed() < END_LIMIT {
                continue;
            }
            if last.elapsed() >= quiet {
                return;
            }
            if self.clients.values().all(|client| client.ended) {
                return;
            }
        }
    }

    /// Reads what is there; whether anything was.
    fn receive(&mut self) -> bool {
        let before = self.pending.len();
        for (connection, client) in &mut self.clients {
            let mut left = BURST_MAX;
            loop {
                let events = client.receive(&mut self.names);
                left -= 1;
                let nothing = events.is_empty();
                let events = events.into_iter().map(|event| (*connection, event));
                self.pending.extend(events);
                if nothing || left == 0 {
                    break;
                }
            }
        }
        self.pending.len() > before
    }

    /// Reads until `found` is content with what is pending, or the limit is over.
    fn wait(&mut self, limit: Duration, found: impl Fn(&[(char, Event)]) -> bool) -> bool {
        let begin = clock::now();
        loop {
            if found(&self.pending) {
                return true;
            }
            if begin.elapsed() >= limit {
                return false;
            }
            self.receive();
        }
    }

    /// Waits for an answer on a channel, or for what comes in its stead; whether it came.
    fn wait_answer(&mut self, target: Target, channel: u16, answers: &str) -> bool {
        let since = self.pending.len();
        let answered = self.wait(ANSWER_LIMIT, |pending| {
            pending[since..].iter().any(|(connection, event)| {
                let name = event.name.as_str();
                *connection == target.connection
                    && (["closed", "connection.close", "octets"].contains(&name)
                        || (event.channel == channel
                            && (name == "channel.close"
                                || answers.split_whitespace().any(|answer| answer == name))))
            })
        });
        if !answered {
            self.remark(target.connection, channel, "(no answer)");
            return false;
        }
        // What refused leaves more to read than its answer.
        let expected = |(_, event): &(char, Event)| {
            answers
                .split_whitespace()
                .any(|answer| answer == event.name)
        };
        self.pending[since..].iter().any(expected)
    }

    fn remark(&mut self, connection: char, channel: u16, line: &str) {
        let event = Event {
            channel,
            name: "remark".to_owned(),
            line: line.to_owned(),
            confirm: None,
        };
        self.pending.push((connection, event));
    }

    /// Moves what is pending to the transcript, channel by channel.
    fn write_down(&mut self, transcript: &mut Vec<String>) {
        let mut events = std::mem::take(&mut self.pending);
        events.sort_by_key(|(connection, event)| (*connection, event.channel));
        for run in events.chunk_by_mut(|(left, one), (right, other)| {
            let confirms = one.confirm.is_some() && other.confirm.is_some();
            left == right && one.channel == other.channel && confirms
        }) {
            run.sort_by_key(|(_, event)| event.confirm);
        }
        for (connection, event) in events {
            let place = match (connection, event.channel, event.name.as_str()) {
                ('a', _, "closed" | "octets") | ('a', 1, _) => String::new(),
                (connection, _, "closed" | "octets") => format!("@{connection} "),
                ('a', channel, _) => format!("@{channel} "),
                (connection, channel, _) => format!("@{connection}{channel} "),
            };
            transcript.push(format!("  < {place}{}", event.line));
        }
    }

    /// Closes what is open, so that the server has nothing left of this run's.
    fn end(mut self) {
        for connection in self.clients.keys().copied().collect::<Vec<_>>() {
            let _ = self.close(connection);
        }
    }
}

/// How many frames of one connection are read before the next one is looked at.
const BURST_MAX: usize = 256;
