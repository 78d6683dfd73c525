//! Dead letters: messages that a queue gives up and publishes to its dead-letter exchange.
//!
//! Queues hand them to the [`Turn`] while they hold their locks; [`Turn::post`] publishes them
//! afterwards. A message leaves the journal of its first queue after it has entered those that
//! take it: a crash in between repeats it, none loses it.
//!
//! A dead letter may go to many queues, and each of them may give it up again. So a turn publishes
//! only some ([`LETTERS_MAX`](crate::limits::LETTERS_MAX)); what else it has is [`Held`] for the
//! core's own turns, and what has expired stays where it is meanwhile.
//!
//! | Deviation from RabbitMQ | Why | Test |
//! |---|---|---|
//! | at most [`DEATHS_MAX`] entries in `x-death`, else dropped | bounds | `a4_deaths_are_bounded` |

mod held;

use std::sync::Arc;

use crate::exchange::{Found, NoWay, Search, borrowed};
use crate::field::{RawTable, Table, Value};
use crate::key::Form;
use crate::limits::DEATHS_MAX;
use crate::message::{AmqpOrigin, Head, Message, MessageRef};
use crate::properties::BasicProperties;
use crate::queue::{Publication, Queue};
use crate::records;
use crate::sink::Loss;
use crate::turn::Turn;
use crate::vhost::VHost;

pub(crate) use held::Held;

/// Why a queue gave a message up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Death {
    /// A consumer rejected it.
    Rejected,
    /// Its time was over.
    Expired,
    /// The queue was full.
    MaxLen,
    /// Too many deliveries of it have failed.
    DeliveryLimit,
}

impl Death {
    /// All reasons; the journal knows them by their place here.
    pub const ALL: [Self; 4] = [
        Self::Rejected,
        Self::Expired,
        Self::MaxLen,
        Self::DeliveryLimit,
    ];

    /// The word in `x-death`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    /// What is counted where there is no dead-letter exchange; a rejected message is no loss.
    pub(crate) fn loss(self) -> Option<Loss> {
        match self {
            Self::Rejected => None,
            Self::Expired => Some(Loss::Expired),
            Self::MaxLen => Some(Loss::Length),
            Self::DeliveryLimit => Some(Loss::DeliveryLimit),
        }
    }
}

/// A message on its way out of a queue.
pub(crate) struct Letter {
    pub(crate) queue: Arc<Queue>,
    /// Unless it is to be read back.
    pub(crate) message: Option<Message>,
    /// Its number there, if the journal has it.
    pub(crate) kept: Option<u64>,
    pub(crate) why: Death,
    pub(crate) exchange: Box<str>,
    pub(crate) key: Option<Box<str>>,
    /// Who has it already.
    pub(crate) takers: Option<Arc<Takers>>,
    /// It was tried before.
    pub(crate) retried: bool,
    /// The queue has never had it: it is one message more, and may be dropped.
    pub(crate) refused: bool,
}

/// Who has taken a dead letter that others have refused.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Takers {
    /// In order.
    queues: Vec<u64>,
    /// It waits at exchanges that delay.
    waits: bool,
}

impl Takers {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && !self.waits
    }

    /// How many queues there are.
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }
}

/// What became of a dead letter.
enum Routed {
    /// All queues that it found have it.
    Taken,
    /// There is no exchange, no queue, or no room in one: nobody has it but these.
    Refused(Takers),
    /// It would add messages, and rests while they are to be few.
    Rests,
    /// It would go round for ever, or its story or its way is too long.
    Endless,
}

impl Turn {
    /// Publishes what queues gave up, as much as a turn may. With no lock held.
    #[inline]
    pub fn post(&mut self) {
        if !self.letters.is_empty() {
            self.post_letters();
        }
    }

    fn post_letters(&mut self) {
        while let Some(letter) = self.letters.pop_front() {
            // Else nobody is there any more whom it could be for.
            if let Some(vhost) = letter.queue.vhost() {
                let may_post = self.may_post() && !vhost.door().letters.has(letter.queue.id());
                let left = match may_post {
                    true => letter.post(self, &vhost),
                    false => Some(letter),
                };
                left.into_iter()
                    .for_each(|letter| vhost.door().hold(self.now, letter, may_post));
                self.count_letter(may_post);
            }
        }
    }

    /// Leaves what queues gave up for another turn. With no lock held.
    fn hold_letters(&mut self) {
        for letter in self.letters.drain(..) {
            if let Some(vhost) = letter.queue.vhost() {
                vhost.door().hold(self.now, letter, false);
            }
        }
    }
}

impl Letter {
    /// Publishes it, or gives it back to rest.
    fn post(self, turn: &mut Turn, vhost: &VHost) -> Option<Self> {
        let queue = Arc::clone(&self.queue);
        let read = || queue.read_back(self.kept?);
        let message = self.message.clone().or_else(read)?;
        let routed = match self.compose(turn, message.clone()) {
            Some(composed) => self.route(turn, vhost, &composed),
            None => Routed::Endless,
        };
        match routed {
            Routed::Rests => return Some(self),
            Routed::Taken => {
                let kept = self.kept.iter();
                kept.for_each(|seq| queue.leave(turn, *seq, self.retried));
            }
            Routed::Refused(takers) => queue.keep_undelivered(turn, &self, message, takers),
            Routed::Endless => queue.lose(self.kept, Some(&message)),
        }
        None
    }

    /// Publishes it to the queues that it finds and that do not have it.
    fn route(&self, turn: &mut Turn, vhost: &VHost, composed: &Composed) -> Routed {
        let before = self.takers.as_deref();
        let mut takers = before.cloned().unwrap_or_default();
        let Some(exchange) = vhost.exchange(&self.exchange) else {
            return Routed::Refused(takers);
        };
        let key = composed.keys.first().map_or(&[][..], |key| &key[..]);
        let message = composed.message(key, turn, &self.exchange);
        let more: Vec<&[u8]> = composed.keys.iter().skip(1).map(|key| &key[..]).collect();
        let search = Search {
            more: &more,
            // It may rest instead.
            kept_back: true,
            waits: takers.waits,
            ..Search::by(key)
        };
        let Found {
            queues,
            mut stops,
            notes,
            _room,
        } = match vhost.resolve(&exchange, &message, &search) {
            Ok(route) => route.found,
            Err(NoWay::Delayed) => return Routed::Refused(takers),
            // As whoever publishes such a message learns: it is not tried for ever.
            Err(NoWay::Far | NoWay::Steps) => return Routed::Endless,
        };
        if takers.waits {
            stops.clear();
        }
        takers.waits |= !stops.is_empty();
        let found = queues.len();
        let mut queues = queues.to_vec();
        queues.retain(|queue| !composed.is_cycle(queue.name()));
        if queues.is_empty() && found > 0 && takers.is_empty() {
            return Routed::Endless;
        }
        if !takers.queues.is_empty() {
            queues.retain(|queue| takers.queues.binary_search(&queue.id()).is_err());
        }
        if queues.len() + stops.len() > 1 && vhost.door().letters_rest(turn.now) {
            return Routed::Rests;
        }
        for stop in &stops {
            vhost.hold_back(stop, &message);
        }
        for note in &notes {
            note.exchange.note(&message, &borrowed(&note.more));
        }
        let refused = !self.offer(turn, &message, &queues, &mut takers);
        let added = takers.queues.len() + stops.len() - before.map_or(0, Takers::len);
        vhost.door().note_added(turn.now, added.saturating_sub(1));
        // As in RabbitMQ, it need not wait for who is not there any more, if others have it.
        if refused || takers.is_empty() {
            Routed::Refused(takers)
        } else {
            Routed::Taken
        }
    }

    /// Says whether all of these queues have it now.
    fn offer(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        queues: &[Arc<Queue>],
        takers: &mut Takers,
    ) -> bool {
        let mut publication = Publication::new(message);
        turn.count_offered(queues.len());
        let mut refused = false;
        for queue in queues {
            publication.rejected = false;
            queue.offer(turn, &mut publication);
            if publication.rejected || queue.is_deleted() {
                refused = true;
            } else {
                takers.queues.push(queue.id());
            }
        }
        takers.queues.sort_unstable();
        !refused
    }

    /// The message as it goes on: with the story of its death, and without its time to live.
    fn compose(&self, turn: &Turn, source: Message) -> Option<Composed> {
        let view = source.view();
        let mut raw = Vec::new();
        view.head.origin.append_basic_properties(&view, &mut raw);
        let properties = BasicProperties::parse(&raw).ok()?;
        let mut key = Vec::new();
        view.append_routing_key(&mut key);
        let mut headers = properties
            .headers
            .map_or_else(Table::new, |headers| headers.to_table());
        let mut keys = vec![key];
        keys.extend(carbon_copies(&headers));
        let deaths = self.deaths(
            turn,
            (&headers, &keys),
            view.exchange,
            properties.expiration,
        )?;
        if let Some(own) = &self.key {
            keys = vec![own.as_bytes().to_vec()];
            headers.remove("CC");
        }
        let (queue, exchange) = (self.queue.name(), view.exchange);
        let facts = [
            ("reason", self.why.reason()),
            ("queue", queue),
            ("exchange", exchange),
        ];
        for (fact, value) in facts {
            let first = format!("x-first-death-{fact}");
            if headers.lookup(&first).is_none() {
                let _ = headers.insert(&first, Value::from(value));
            }
            let last = format!("x-last-death-{fact}");
            headers.remove(&last);
            let _ = headers.insert(&last, Value::from(value));
        }
        headers.remove("x-death");
        let story = deaths.iter().cloned().map(Value::Table).collect();
        // Our own names are far below the limit of 255 bytes.
        let _ = headers.insert("x-death", Value::Array(story));
        let mut encoded = Vec::new();
        headers.encode(&mut encoded).ok()?;
        let properties = BasicProperties {
            headers: Some(RawTable::parse(&encoded).ok()?),
            expiration: None,
            ..properties
        };
        let mut out = Vec::new();
        properties.encode(&mut out).ok()?;
        Some(Composed {
            keys,
            properties: out,
            deaths,
            source,
        })
    }

    /// `x-death` with this death in it, newest first.
    fn deaths(
        &self,
        turn: &Turn,
        (headers, keys): (&Table, &[Vec<u8>]),
        exchange: &str,
        expiration: Option<&[u8]>,
    ) -> Option<Vec<Table>> {
        let mut deaths: Vec<Table> = match headers.lookup("x-death") {
            Some(Value::Array(entries)) => entries
                .iter()
                .filter_map(|entry| match entry {
                    Value::Table(death) => Some(death.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let (queue, reason) = (self.queue.name(), self.why.reason());
        let before = deaths.iter().position(|death| {
            text(death, "queue") == Some(queue) && text(death, "reason") == Some(reason)
        });
        if let Some(place) = before {
            let mut death = deaths.remove(place);
            let count = death.lookup("count").and_then(Value::as_integer);
            death.remove("count");
            let mut newer = records::table([("count", Value::I64(count.unwrap_or(0) + 1))]);
            for (name, value) in death.iter() {
                let _ = newer.insert(&String::from_utf8_lossy(name), value.clone());
            }
            deaths.insert(0, newer);
            return Some(deaths);
        }
        if deaths.len() >= DEATHS_MAX {
            return None;
        }
        let keys = keys
            .iter()
            .map(|key| Value::LongString(key.as_slice().into()));
        let mut death = records::table([
            ("count", Value::I64(1)),
            ("reason", Value::from(reason)),
            ("queue", Value::from(queue)),
            ("time", Value::Timestamp(turn.now.0 / 1_000)),
            ("exchange", Value::from(exchange)),
            ("routing-keys", Value::Array(keys.collect())),
        ]);
        if let Some(expiration) = expiration {
            let text = Value::LongString(expiration.into());
            let _ = death.insert("original-expiration", text);
        }
        deaths.insert(0, death);
        Some(deaths)
    }
}

fn text<'a>(table: &'a Table, name: &str) -> Option<&'a str> {
    table.lookup(name).and_then(Value::as_str)
}

/// The keys of the header `CC`, which a message keeps.
fn carbon_copies(headers: &Table) -> Vec<Vec<u8>> {
    match headers.lookup("CC") {
        Some(Value::Array(keys)) => keys
            .iter()
            .filter_map(|key| match key {
                Value::LongString(key) => Some(key.to_vec()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A dead letter, ready to be published.
struct Composed {
    keys: Vec<Vec<u8>>,
    properties: Vec<u8>,
    deaths: Vec<Table>,
    source: Message,
}

impl Composed {
    fn message<'a>(&'a self, key: &'a [u8], turn: &Turn, exchange: &'a str) -> MessageRef<'a> {
        let view = self.source.view();
        MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                retain: false,
                received: turn.now,
                expires: None,
                ..view.head
            },
            exchange,
            key,
            properties: &self.properties,
            payload: view.payload,
        }
    }

    /// It has been in this queue before, and no consumer's rejection lies between: it would go
    /// round for ever.
    fn is_cycle(&self, queue: &str) -> bool {
        let here = |death: &Table| text(death, "queue") == Some(queue);
        let Some(last) = self.deaths.iter().position(here) else {
            return false;
        };
        self.deaths[..=last]
            .iter()
            .all(|death| text(death, "reason") != Some(Death::Rejected.reason()))
    }
}
