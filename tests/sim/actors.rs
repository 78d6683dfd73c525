//! The clients: each does what a correct client may do, by choices of its own.

mod amqp;
mod mqtt;

use crate::amqp::Wish;
use crate::message::Id;
use crate::oracle::{Check, Limits};
use crate::parts::Parts;
use crate::random::Random;
use crate::world::World;

pub(crate) use amqp::{drain, set_up};

/// The queues that AMQP clients share, and the keys that lead to them.
pub(crate) const QUEUES: [(Wish, &[&str]); 5] = [
    (queue("kept", true, None, None), &["#"]),
    (queue("some", true, None, None), &["a.*", "b.c"]),
    (queue("brief", true, Some(900), None), &["a.#"]),
    (queue("few", true, None, Some(4)), &[]),
    (queue("passing", false, None, None), &["#"]),
];

const fn queue(
    name: &'static str,
    durable: bool,
    ttl_ms: Option<u32>,
    length_max: Option<u32>,
) -> Wish {
    Wish {
        name,
        durable,
        ttl_ms,
        length_max,
    }
}

/// The limits of a queue, by its name.
pub(crate) fn limits(name: &str) -> Limits {
    let known = QUEUES.iter().find(|(wish, _)| wish.name == name);
    known.map_or((None, None), |(wish, _)| {
        let ttl_ms = wish.ttl_ms.map(u64::from);
        (ttl_ms, wish.length_max.map(|max| max as usize))
    })
}

/// One client.
pub(crate) enum Actor {
    Publisher(mqtt::Publisher),
    Subscriber(mqtt::Subscriber),
    Producer(amqp::Producer),
    Consumer(amqp::Consumer),
    Keeper(amqp::Keeper),
}

/// The clients of a seed.
pub(crate) fn cast(seed: u64, parts: Parts) -> Vec<Actor> {
    let mut random = Random::new(seed, 3);
    let mut actors = Vec::new();
    let number = |actors: &Vec<Actor>| actors.len() as u8;
    for _ in 0..1 + random.below(2) {
        let number = number(&actors);
        actors.push(Actor::Publisher(mqtt::Publisher::new(seed, number)));
    }
    for _ in 0..1 + random.below(3) {
        let number = number(&actors);
        actors.push(Actor::Subscriber(mqtt::Subscriber::new(
            seed, number, parts,
        )));
    }
    for _ in 0..1 + random.below(2) {
        let number = number(&actors);
        actors.push(Actor::Producer(amqp::Producer::new(seed, number)));
    }
    for _ in 0..1 + random.below(3) {
        let number = number(&actors);
        actors.push(Actor::Consumer(amqp::Consumer::new(seed, number)));
    }
    actors.push(Actor::Keeper(amqp::Keeper::new(seed, number(&actors))));
    actors
}

impl Actor {
    /// Does something. `last`: no new messages, no mischief; what is open is brought to its end.
    pub(crate) fn act(&mut self, world: &mut World, last: bool) -> Check {
        match self {
            Self::Publisher(held) => held.act(world, last),
            Self::Subscriber(held) if !last => held.act(world),
            Self::Producer(held) => held.act(world, last),
            Self::Consumer(held) if !last => held.act(world),
            Self::Keeper(held) if !last => held.act(world),
            _ => Ok(()),
        }
    }

    /// Its connection, for who wants to cut it.
    pub(crate) fn connection(&self) -> usize {
        match self {
            Self::Publisher(held) => held.connection,
            Self::Subscriber(held) => held.connection,
            Self::Producer(held) => held.connection,
            Self::Consumer(held) => held.connection,
            Self::Keeper(held) => held.connection,
        }
    }

    /// Messages that it has published and that were not acknowledged.
    pub(crate) fn open_messages(&self) -> Vec<Id> {
        match self {
            Self::Publisher(held) => held.open_messages(),
            Self::Producer(held) => held.open_messages(),
            _ => Vec::new(),
        }
    }
}

/// Bytes of a payload: mostly few, sometimes more than a segment likes.
fn size(random: &mut Random) -> usize {
    match random.below(20) {
        0 => 3_000,
        1..=4 => 700,
        _ => random.below(120),
    }
}
