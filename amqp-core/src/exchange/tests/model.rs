//! A vhost of every kind of exchange against a list of bindings and a plain reading of the rules:
//! what is bound, unbound, deleted and made again at random, and who gets what is published in
//! between, through memos and caches that remember.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Dice, Publisher, declare, declare_exchange, link, wish};
use crate::exchange::topic::tests::fits_key;
use crate::field::{RawTable, Table, Value};
use crate::key::{Form, dotted_text};
use crate::link::{BindQueue, Link};
use crate::properties::BasicProperties;
use crate::queue::Queue;

const EXCHANGES: [(&str, &str); 7] = [
    ("d", "direct"),
    ("f", "fanout"),
    ("f2", "fanout"),
    ("h", "headers"),
    ("t", "topic"),
    ("t2", "topic"),
    ("t3", "topic"),
];
const QUEUES: [&str; 6] = ["a", "a.b", "q2", "q3", "q4", "q5"];
const DOTTED: [&str; 10] = [
    "a", "a.b", "b.a", "a.*", "#", "*.b", "a.#", "", "$x.a", "a.b.*",
];
const SLASHED: [&str; 11] = [
    "a", "a/b", "+/a", "#", "a/#", "a.b", "a/*", "+/b", "$x/a", "a.b/+", "+/a.b",
];
const KEYS: [&str; 7] = ["a", "a.b", "b.a", "a.b.c", "", "$x.a", "b"];
const TOPICS: [&str; 8] = ["a", "a/b", "b/a", "a.b", "a/*", "$x/a", "a.b/c", "x/a.b"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum To {
    Queue(usize),
    Exchange(usize),
}

#[derive(Clone, Debug, PartialEq)]
struct Bound {
    from: usize,
    to: To,
    key: &'static str,
    form: Form,
    arguments: Table,
}

/// What a message has for headers.
type Headers = [Option<u8>; 2];

const NAMES: [&str; 2] = ["one", "two"];

fn match_arguments(dice: &mut Dice) -> Table {
    let mut table = Table::new();
    let mut insert = |name: &str, value| table.insert(name, value).expect("a short name");
    insert("x-match", Value::from(dice.pick(&["all", "any"])));
    for name in NAMES {
        if dice.roll(2) == 0 {
            insert(name, Value::U8(dice.roll(2) as u8));
        }
    }
    table
}

fn headers_fit(arguments: &Table, headers: Headers) -> bool {
    let wanted = NAMES.iter().zip(headers).filter_map(|(name, held)| {
        let wanted = arguments.lookup(name)?.as_integer();
        Some(held.map(i64::from) == wanted)
    });
    let wanted: Vec<bool> = wanted.collect();
    if arguments.lookup("x-match") == Some(&Value::from("any")) {
        wanted.contains(&true)
    } else {
        !wanted.contains(&false)
    }
}

fn properties(headers: Headers) -> Vec<u8> {
    let mut table = Table::new();
    for (name, value) in NAMES.iter().zip(headers) {
        if let Some(value) = value {
            table.insert(name, Value::U8(value)).expect("a short name");
        }
    }
    let mut encoded = Vec::new();
    table.encode(&mut encoded).expect("a small table");
    let headers = Some(RawTable::parse(&encoded).expect("just encoded"));
    let mut out = Vec::new();
    let properties = BasicProperties {
        headers,
        ..BasicProperties::default()
    };
    properties.encode(&mut out).expect("small properties");
    out
}

struct Model {
    link: Arc<Link>,
    dice: Dice,
    queues: Vec<Arc<Queue>>,
    bound: Vec<Bound>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let link = link();
        for (name, kind) in EXCHANGES {
            declare_exchange(&link, name, kind);
        }
        let queues = QUEUES.iter().map(|name| declare(&link, name)).collect();
        Self {
            link,
            dice: Dice(seed),
            queues,
            bound: Vec::new(),
        }
    }

    /// A binding that may or may not be there.
    fn some_binding(&mut self) -> Bound {
        let dice = &mut self.dice;
        let from = dice.roll(EXCHANGES.len());
        let to = match dice.roll(4) {
            0 => To::Exchange(dice.roll(EXCHANGES.len())),
            _ => To::Queue(dice.roll(QUEUES.len())),
        };
        let slashed = matches!(to, To::Queue(_)) && dice.roll(2) == 0;
        let (key, form) = if slashed {
            (dice.pick(&SLASHED), Form::Slashed)
        } else {
            (dice.pick(&DOTTED), Form::Dotted)
        };
        let arguments = match EXCHANGES[from].1 {
            "headers" => match_arguments(dice),
            _ => Table::new(),
        };
        Bound {
            from,
            to,
            key,
            form,
            arguments,
        }
    }

    fn bind(&mut self) {
        let new = self.some_binding();
        let (from, known) = (EXCHANGES[new.from].0, self.bound.contains(&new));
        let arguments = new.arguments.clone();
        match new.to {
            To::Queue(to) => {
                let wish = BindQueue {
                    arguments,
                    ..wish(QUEUES[to], from, new.key, new.form)
                };
                let made = self.link.queue_bind(&wish).expect("can be bound");
                assert_eq!(made.created, !known, "{new:?}");
            }
            To::Exchange(to) => {
                let (to, key) = (EXCHANGES[to].0, new.key.as_bytes());
                let made = self.link.exchange_bind(to, from, key, arguments);
                made.expect("can be bound");
            }
        }
        if !known {
            self.bound.push(new);
        }
    }

    fn unbind(&mut self) {
        let old = if self.bound.is_empty() || self.dice.roll(4) == 0 {
            self.some_binding()
        } else {
            let place = self.dice.roll(self.bound.len());
            self.bound[place].clone()
        };
        self.bound.retain(|held| *held != old);
        let from = EXCHANGES[old.from].0;
        match old.to {
            To::Queue(to) => {
                let wish = BindQueue {
                    arguments: old.arguments.clone(),
                    ..wish(QUEUES[to], from, old.key, old.form)
                };
                let left = self.link.queue_unbind(&wish).expect("can be unbound");
                let held = self.bound.iter().filter(|held| held.to == old.to);
                assert_eq!(left, held.count(), "{old:?}");
            }
            To::Exchange(to) => {
                let (to, key) = (EXCHANGES[to].0, old.key.as_bytes());
                let gone = self.link.exchange_unbind(to, from, key, &old.arguments);
                gone.expect("can be unbound");
            }
        }
    }

    fn renew_queue(&mut self) {
        let place = self.dice.roll(QUEUES.len());
        let deleted = self.link.queue_delete(QUEUES[place], false, false);
        deleted.expect("can be deleted");
        self.bound.retain(|held| held.to != To::Queue(place));
        self.queues[place] = declare(&self.link, QUEUES[place]);
    }

    fn renew_exchange(&mut self) {
        let place = self.dice.roll(EXCHANGES.len());
        let (name, kind) = EXCHANGES[place];
        let deleted = self.link.exchange_delete(name, false);
        deleted.expect("can be deleted");
        let ends = |held: &Bound| held.to != To::Exchange(place) && held.from != place;
        self.bound.retain(ends);
        declare_exchange(&self.link, name, kind);
    }

    /// The queues that the rules name.
    fn expected(
        &self,
        exchange: usize,
        key: &str,
        form: Form,
        headers: Headers,
    ) -> BTreeSet<usize> {
        let dotted = dotted_text(key.as_bytes(), form);
        let fits = |held: &&Bound| match EXCHANGES[held.from].1 {
            "direct" => dotted_text(held.key.as_bytes(), held.form) == dotted,
            "fanout" => true,
            "headers" => headers_fit(&held.arguments, headers),
            _ => fits_key((held.key, held.form), (key, form)),
        };
        let (mut found, mut visited, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![exchange]);
        while let Some(exchange) = todo.pop() {
            if !visited.insert(exchange) {
                continue;
            }
            let from = self.bound.iter().filter(|held| held.from == exchange);
            for held in from.filter(fits) {
                match held.to {
                    To::Queue(to) => {
                        found.insert(to);
                    }
                    To::Exchange(to) => todo.push(to),
                }
            }
        }
        found
    }

    fn lost(&self) -> Vec<u64> {
        self.queues
            .iter()
            .map(|queue| queue.losses().total())
            .collect()
    }

    fn publish(&mut self, publisher: &mut Publisher) {
        let dice = &mut self.dice;
        let (key, form) = if dice.roll(2) == 0 {
            (dice.pick(&KEYS), Form::Dotted)
        } else {
            (dice.pick(&TOPICS), Form::Slashed)
        };
        let headers = [(); 2].map(|()| (dice.roll(2) == 0).then(|| dice.roll(2) as u8));
        let place = dice.roll(EXCHANGES.len() + 1);
        let (exchange, expected) = if place == EXCHANGES.len() {
            let dotted = dotted_text(key.as_bytes(), form);
            let named = QUEUES.iter().position(|name| *name == dotted);
            ("", named.into_iter().collect())
        } else {
            let expected = self.expected(place, key, form, headers);
            (EXCHANGES[place].0, expected)
        };
        let before = self.lost();
        let routed = publisher.publish(&self.link, exchange, (key, form), &properties(headers));
        let counts = before.iter().zip(self.lost()).enumerate();
        let got: BTreeSet<usize> = counts
            .filter_map(|(place, (before, after))| (after > *before).then_some(place))
            .collect();
        let told = format!(
            "{exchange:?} {key:?} {form:?} {headers:?} in {:?}",
            self.bound
        );
        assert_eq!(got, expected, "{told}");
        assert_eq!(routed.ok(), Some(expected.len() as u32), "{told}");
    }
}

/// FEATURES A3, M2, M3, D1: every kind of exchange, with each other, through everything that may
/// change.
#[test]
fn a3_m2_m3_who_gets_a_message_is_who_is_bound() {
    for seed in 1..=40 {
        let mut model = Model::new(0x9E37_79B9_7F4A_7C15 ^ seed);
        // Two connections of one worker, and one of another.
        let mut publishers = [(); 3].map(|()| Publisher::default());
        for _ in 0..600 {
            match model.dice.roll(20) {
                0..5 => model.bind(),
                5..8 => model.unbind(),
                8 if model.dice.roll(4) == 0 => model.renew_queue(),
                9 if model.dice.roll(8) == 0 => model.renew_exchange(),
                _ => {
                    let who = model.dice.roll(publishers.len());
                    model.publish(&mut publishers[who]);
                }
            }
        }
        for name in QUEUES {
            let deleted = model.link.queue_delete(name, false, false);
            deleted.expect("can be deleted");
        }
        for (name, _) in EXCHANGES {
            let exchange = model.link.vhost().exchange(name).expect("it is there");
            let leads_to_queues = exchange
                .bindings()
                .filter(|held| held.view().destination_kind == "queue");
            assert_eq!(leads_to_queues.count(), 0, "{name}");
        }
    }
}
