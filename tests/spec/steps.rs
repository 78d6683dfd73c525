//! The step language: runs one row against a [`World`], and tells which step went wrong.
//!
//! | step | |
//! |---|---|
//! | `a> PACKET ; PACKET` | client `a` sends packets in one piece; CONNECT opens its connection |
//! | `a< PACKET`, `a< hex 30 00` | the next packet that `a` has received is this, or these bytes |
//! | `a< packets 3` | `a` has received three packets more, whatever is in them |
//! | `a< nothing` | `a` has received nothing (more) |
//! | `a! open peer=1.2.3.4 port=1 vhost=v listener=l` | a listener accepts `a` |
//! | `a! cut`, `a! closed`, `a! alive` | `a` vanishes; the broker has, or has not, closed it |
//! | `+1500ms`, `+3s`, `+2h` | time passes |
//! | `queues`, `bindings q`, `retained`, `peers`, `losses` | lists; `= ` steps are all its lines |
//! | `get q` | the same of a message |
//! | others | what an AMQP client or an administrator does, see [`crate::amqp`] |
//!
//! Before a client or time moves, everything that was received must have been expected. CONNACK is
//! compared with its properties only where the step has some, and Reason Strings only where it has
//! one; `rs=none` is that there is none.

use crate::amqp;
use crate::packets;
use crate::text;
use crate::verbs::AnyWorld as World;

/// What is wrong with a row.
pub(crate) struct Failure {
    /// The place of the step in the row.
    pub(crate) step: usize,
    /// What was got and expected.
    pub(crate) why: String,
}

/// Runs the steps.
pub(crate) fn run(world: &mut World, steps: &[String]) -> Result<(), Failure> {
    let mut run = Run {
        world,
        shown: Vec::new(),
        closed: Vec::new(),
    };
    for (step, text) in steps.iter().enumerate() {
        let text = text::expand(text);
        run.step(&text).map_err(|why| Failure { step, why })?;
    }
    let step = steps.len() - 1;
    run.all_taken().map_err(|why| Failure { step, why })
}

struct Run<'w> {
    world: &'w mut World,
    /// Lines of the last listing that no step has named yet.
    shown: Vec<String>,
    /// Clients that are known to be closed.
    closed: Vec<String>,
}

impl Run<'_> {
    fn step(&mut self, text: &str) -> Result<(), String> {
        if let Some(line) = text.strip_prefix("= ") {
            return self.line(line);
        }
        if let Some((name, what)) = said(text, "< ") {
            return self.expect(name, what);
        }
        if let Some((name, "closed" | "alive")) = said(text, "! ") {
            let open = self.world.is_open(name);
            self.closed.push(name.to_owned());
            let wanted = text.ends_with("alive");
            return match open == wanted {
                true => Ok(()),
                false => Err(format!("open: {open}; expected: {wanted}")),
            };
        }
        self.all_taken()?;
        if let Some((name, what)) = said(text, "> ") {
            self.send(name, what);
        } else if let Some(time) = text.strip_prefix('+') {
            self.world.advance(milliseconds(time));
        } else if let Some((name, what)) = said(text, "! ") {
            match what.split_once(' ').unwrap_or((what, "")) {
                ("open", words) => self.world.open(name, words),
                ("cut", _) => {
                    self.world.cut(name);
                    self.closed.push(name.to_owned());
                }
                _ => return Err(format!("{what:?} is nothing that a client does")),
            }
        } else {
            self.shown = amqp::run(self.world, text);
        }
        Ok(())
    }

    fn send(&mut self, name: &str, what: &str) {
        let connects = what.starts_with("CONNECT");
        if connects && !self.world.is_open(name) {
            self.world.open(name, "");
        }
        if connects {
            let version = packets::connect_version(what);
            self.world.speak(name, version);
        }
        self.closed.retain(|closed| closed != name);
        let version = self.world.version(name);
        let packets = what.split(" ; ");
        let bytes: Vec<u8> = packets
            .flat_map(|packet| packets::encode(version, packet))
            .collect();
        self.world.feed(name, &bytes);
    }

    fn expect(&mut self, name: &str, what: &str) -> Result<(), String> {
        let version = self.world.version(name);
        let received = self.world.received(name);
        if let Some(count) = what.strip_prefix("packets ") {
            for _ in 0..text::number::<usize>(count) {
                let next = packets::show(version, received);
                let (bytes, _) = next.ok_or("got: fewer packets")?;
                received.drain(..bytes.len());
            }
            return Ok(());
        }
        let Some((bytes, got)) = packets::show(version, received) else {
            return match what {
                "nothing" => Ok(()),
                _ => Err("got: nothing".to_owned()),
            };
        };
        let raw = what.strip_prefix("hex ").map(text::hex);
        let right = match &raw {
            Some(raw) => bytes == *raw,
            None if what.starts_with("CONNACK") && what.split(' ').count() == 3 => {
                let head: Vec<&str> = got.split(' ').take(3).collect();
                head.join(" ") == what
            }
            None if what.ends_with(" rs=none") => format!("{got} rs=none") == what,
            None if got.starts_with("PUBLISH") || what.contains(" rs=") => got == what,
            None => without_reason(&got) == what,
        };
        if right {
            received.drain(..bytes.len());
            return Ok(());
        }
        let bytes: String = bytes.iter().take(64).map(|b| format!("{b:02x} ")).collect();
        Err(format!("got: {got}\n    bytes: {bytes}"))
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.shown.is_empty() {
            return Err("got: no (more) lines".to_owned());
        }
        let got = self.shown.remove(0);
        match got == line {
            true => Ok(()),
            false => Err(format!("got: {got}")),
        }
    }

    fn all_taken(&mut self) -> Result<(), String> {
        if let Some(line) = self.shown.first() {
            return Err(format!("one line more was shown: {line}"));
        }
        if let Some(name) = self.world.with_output().first() {
            let version = self.world.version(name);
            let received = self.world.received(name);
            let got = packets::show(version, received).map(|(_, got)| got);
            return Err(format!(
                "before: {name} also got {}",
                got.unwrap_or_default()
            ));
        }
        for name in self.world.names() {
            if !self.world.is_open(&name) && !self.closed.contains(&name) {
                return Err(format!("before: {name} was closed"));
            }
        }
        Ok(())
    }
}

/// What a packet says but its Reason String.
fn without_reason(got: &str) -> String {
    let words = got.split(' ').filter(|word| !word.starts_with("rs="));
    words.collect::<Vec<_>>().join(" ")
}

/// A client's name in front of a mark, and what is behind it.
fn said<'t>(text: &'t str, mark: &str) -> Option<(&'t str, &'t str)> {
    text.split_once(mark)
        .filter(|(name, _)| !name.contains(' '))
}

fn milliseconds(time: &str) -> u64 {
    let digits = time.find(|letter: char| !letter.is_ascii_digit());
    let (amount, unit) = time.split_at(digits.expect("a unit"));
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => panic!("{other:?} is no unit of time"),
    };
    text::number::<u64>(amount) * factor
}
