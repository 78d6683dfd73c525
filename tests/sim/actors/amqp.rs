//! AMQP clients: producers with confirms, consumers of every kind, and a keeper who declares,
//! purges and deletes.

use std::collections::BTreeMap;

use super::{QUEUES, size};
use crate::amqp::{self, Method};
use crate::message::{Id, TOPICS, dotted, payload};
use crate::oracle::{Check, Publication, Target};
use crate::random::Random;
use crate::world::{Action, Incoming, World};

/// Publications that may be unconfirmed at once.
const OPEN_MAX: usize = 8;

/// Steps in which everything is to be declared.
const ROUNDS_MAX: usize = 200;

/// A client that publishes with confirms, and again what was not confirmed.
pub(crate) struct Producer {
    random: Random,
    number: u8,
    pub(super) connection: usize,
    ready: bool,
    published: u32,
    /// The number of the last publication on this channel.
    tag: u64,
    open: BTreeMap<u64, (amqp::Publish, Publication)>,
}

impl Producer {
    pub(super) fn new(seed: u64, number: u8) -> Self {
        Self {
            random: Random::new(seed, 100 + u64::from(number)),
            number,
            connection: 0,
            ready: false,
            published: 0,
            tag: 0,
            open: BTreeMap::new(),
        }
    }

    pub(super) fn open_messages(&self) -> Vec<Id> {
        let open = self.open.values();
        open.map(|(_, publication)| publication.message).collect()
    }

    pub(super) fn act(&mut self, world: &mut World, last: bool) -> Check {
        if !world.is_open(self.connection) {
            self.ready = false;
            self.connection = world.connect(None);
            return world.send(self.connection, vec![Action::Open], amqp::open(true, 0));
        }
        self.read(world, last)?;
        if !self.ready || last {
            return Ok(());
        }
        match self.random.below(100) {
            0..4 => world.cut(self.connection),
            4..6 => world.send(self.connection, vec![Action::Disconnect], amqp::close()),
            6..75 => self.publish(world),
            _ => Ok(()),
        }
    }

    fn read(&mut self, world: &mut World, last: bool) -> Check {
        let methods = if last { 1_000 } else { self.random.below(6) };
        for _ in 0..methods {
            let Some(Incoming::Amqp(method)) = world.read(self.connection) else {
                return Ok(());
            };
            match method {
                Method::Opened => self.resume(world)?,
                Method::Ack { tag, multiple } | Method::Nack { tag, multiple } => {
                    let from = if multiple { 0 } else { tag };
                    self.open.retain(|held, _| !(from..=tag).contains(held));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Publishes again what was not confirmed on the connection before.
    fn resume(&mut self, world: &mut World) -> Check {
        self.ready = true;
        self.tag = 0;
        let open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        for (publish, publication) in open {
            self.send(world, publish, publication)?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        world: &mut World,
        publish: amqp::Publish,
        publication: Publication,
    ) -> Check {
        self.tag += 1;
        let bytes = publish.encode();
        self.open.insert(self.tag, (publish, publication.clone()));
        let action = Action::AmqpPublish(publication);
        world.send(self.connection, vec![action], bytes)
    }

    fn publish(&mut self, world: &mut World) -> Check {
        for _ in 0..1 + self.random.below(4) {
            if self.open.len() >= OPEN_MAX || !world.is_open(self.connection) {
                break;
            }
            let (publish, publication) = self.next();
            self.send(world, publish, publication)?;
        }
        Ok(())
    }

    fn next(&mut self) -> (amqp::Publish, Publication) {
        self.published += 1;
        let message = Id {
            publisher: self.number,
            number: self.published,
        };
        let persistent = self.random.percent(75);
        let direct = self.random.percent(50);
        let (exchange, key) = match direct {
            true => ("", self.random.pick(&QUEUES).0.name.to_owned()),
            false => ("amq.topic", dotted(self.random.pick::<&str>(&TOPICS))),
        };
        // Where a limit drops the first, nothing expires: which of both it was cannot be told.
        let limited = QUEUES
            .iter()
            .any(|(wish, _)| wish.name == key && wish.length_max.is_some());
        let expires = !limited && self.random.percent(15);
        let expiration_ms = expires.then(|| 50 + self.random.below(1_500) as u64);
        let publish = amqp::Publish {
            exchange,
            key: key.clone(),
            persistent,
            expiration_ms,
            payload: payload(message, size(&mut self.random)),
        };
        let publication = Publication {
            message,
            target: if direct {
                Target::Queue(key)
            } else {
                Target::Topic(key)
            },
            persistent,
            ttl_ms: expiration_ms,
        };
        (publish, publication)
    }
}

/// A client that consumes a queue, or fetches from it.
pub(crate) struct Consumer {
    random: Random,
    number: u8,
    prefetch: u16,
    pub(super) connection: usize,
    ready: bool,
    consumers: u32,
    unacked: Vec<u64>,
}

impl Consumer {
    pub(super) fn new(seed: u64, number: u8) -> Self {
        let mut random = Random::new(seed, 100 + u64::from(number));
        Self {
            prefetch: random.below(5) as u16,
            random,
            number,
            connection: 0,
            ready: false,
            consumers: 0,
            unacked: Vec::new(),
        }
    }

    pub(super) fn act(&mut self, world: &mut World) -> Check {
        if !world.is_open(self.connection) {
            (self.ready, self.consumers) = (false, 0);
            self.unacked.clear();
            self.connection = world.connect(None);
            let bytes = amqp::open(false, self.prefetch);
            return world.send(self.connection, vec![Action::Open], bytes);
        }
        for _ in 0..self.random.below(8) {
            match world.read(self.connection) {
                Some(Incoming::Amqp(Method::Opened)) => self.ready = true,
                Some(Incoming::Amqp(Method::Deliver { tag, consumer, .. }))
                    if !consumer.ends_with('!') =>
                {
                    self.unacked.push(tag)
                }
                Some(Incoming::Amqp(Method::GetOk { tag, .. })) => self.unacked.push(tag),
                Some(Incoming::Amqp(Method::Cancel)) => self.consumers -= 1,
                Some(_) => {}
                None => break,
            }
        }
        if !self.ready {
            return Ok(());
        }
        match self.random.below(100) {
            0..4 => world.cut(self.connection),
            4..6 => world.send(self.connection, vec![Action::Disconnect], amqp::close()),
            6..14 => self.get(world),
            14..30 if self.consumers < 3 => self.consume(world),
            _ => self.answer(world),
        }
    }

    fn consume(&mut self, world: &mut World) -> Check {
        let name = self.random.pick(&QUEUES).0.name;
        if world.oracle.queue(name).is_none() {
            return Ok(());
        }
        let no_ack = self.random.percent(20);
        let mark = if no_ack { "!" } else { "" };
        let (number, serial) = (self.number, self.random.below(1_000_000));
        let tag = format!("{number}-{serial}-{name}{mark}");
        self.consumers += 1;
        let bytes = amqp::consume(name, &tag, no_ack);
        let action = Action::Consume {
            queue: name.to_owned(),
            tag,
            no_ack,
            prefetch: if no_ack { 0 } else { self.prefetch.into() },
        };
        world.send(self.connection, vec![action], bytes)
    }

    /// Fetched messages are always acknowledged: whether they must be is not told with them.
    fn get(&mut self, world: &mut World) -> Check {
        let name = self.random.pick(&QUEUES).0.name;
        if world.oracle.queue(name).is_none() {
            return Ok(());
        }
        let action = Action::Get(name.to_owned(), false);
        world.send(self.connection, vec![action], amqp::get(name, false))
    }

    fn answer(&mut self, world: &mut World) -> Check {
        if self.unacked.is_empty() {
            return Ok(());
        }
        let place = match self.random.percent(70) {
            true => 0,
            false => self.random.below(self.unacked.len()),
        };
        let multiple = self.random.percent(25);
        let tag = self.unacked[place];
        match multiple {
            true => drop(self.unacked.drain(..=place)),
            false => drop(self.unacked.remove(place)),
        }
        let (bytes, done) = match self.random.below(10) {
            0 | 1 => (amqp::nack(tag, multiple, true), None),
            2 => (amqp::nack(tag, multiple, false), Some("rejected")),
            _ => (amqp::ack(tag, multiple), Some("acknowledged")),
        };
        let action = Action::Answer(tag, multiple, done);
        world.send(self.connection, vec![action], bytes)
    }
}

/// A client that sees to the queues.
pub(crate) struct Keeper {
    random: Random,
    pub(super) connection: usize,
    ready: bool,
}

impl Keeper {
    pub(super) fn new(seed: u64, number: u8) -> Self {
        Self {
            random: Random::new(seed, 100 + u64::from(number)),
            connection: 0,
            ready: false,
        }
    }

    pub(super) fn act(&mut self, world: &mut World) -> Check {
        if !world.is_open(self.connection) {
            self.ready = false;
            self.connection = world.connect(None);
            return world.send(self.connection, vec![Action::Open], amqp::open(false, 0));
        }
        while let Some(incoming) = world.read(self.connection) {
            self.ready |= matches!(incoming, Incoming::Amqp(Method::Opened));
        }
        // Whoever deletes a queue and does not wait cannot know what there is.
        if !self.ready || world.is_behind(self.connection) {
            return Ok(());
        }
        let missing = QUEUES
            .iter()
            .find(|(wish, _)| world.oracle.queue(wish.name).is_none());
        if let Some((wish, keys)) = missing {
            return declare(world, self.connection, wish, keys);
        }
        let (wish, keys) = self.random.pick(&QUEUES);
        let name = wish.name;
        match self.random.below(100) {
            0..6 => {
                let bytes = amqp::purge(name);
                world.send(self.connection, vec![Action::Purge(name)], bytes)
            }
            6..14 => {
                let bytes = amqp::delete(name);
                world.send(self.connection, vec![Action::Delete(name)], bytes)
            }
            14..20 if !keys.is_empty() => {
                let key = *self.random.pick(keys);
                let bytes = amqp::unbind(name, key);
                let action = Action::Bind(name, key, false);
                world.send(self.connection, vec![action], bytes)
            }
            20..40 => declare(world, self.connection, wish, keys),
            40..44 => world.cut(self.connection),
            _ => Ok(()),
        }
    }
}

/// Declares a queue with its bindings, or says again that it is wanted.
fn declare(
    world: &mut World,
    connection: usize,
    wish: &amqp::Wish,
    keys: &[&'static str],
) -> Check {
    let action = Action::Declare(wish.name);
    world.send(connection, vec![action], amqp::declare(wish))?;
    for key in keys {
        let action = Action::Bind(wish.name, key, true);
        world.send(connection, vec![action], amqp::bind(wish.name, key))?;
    }
    Ok(())
}

/// Has everything declared before anything goes wrong.
pub(crate) fn set_up(world: &mut World) -> Check {
    let mut keeper = Keeper::new(0, 99);
    for _ in 0..ROUNDS_MAX {
        if QUEUES
            .iter()
            .all(|(wish, _)| world.oracle.queue(wish.name).is_some())
        {
            break;
        }
        keeper.act(world)?;
        world.commit(100)?;
        world.end_step()?;
    }
    world.cut(keeper.connection)
}

/// Consumes everything that is there, and acknowledges it.
pub(crate) fn drain(world: &mut World) -> Check {
    let connection = world.connect(None);
    world.send(connection, vec![Action::Open], amqp::open(false, 0))?;
    for queue in world.oracle.lists() {
        let tag = format!("drain-{queue}");
        let bytes = amqp::consume(&queue, &tag, false);
        let action = Action::Consume {
            queue,
            tag,
            no_ack: false,
            prefetch: 0,
        };
        world.send(connection, vec![action], bytes)?;
    }
    world.end_step()?;
    world.check_drained()?;
    let mut last = None;
    while let Some(incoming) = world.read(connection) {
        if let Incoming::Amqp(Method::Deliver { tag, .. }) = incoming {
            last = Some(tag);
        }
    }
    if let Some(tag) = last {
        let action = Action::Answer(tag, true, Some("acknowledged"));
        world.send(connection, vec![action], amqp::ack(tag, true))?;
    }
    world.end_step()
}
