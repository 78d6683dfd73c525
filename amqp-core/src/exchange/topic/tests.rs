//! The trie against a plain reading of the rules, over many small filters and topics.

use std::sync::Arc;

use super::{Bindings, Bound};
use crate::exchange::{End, Exchange, ExchangeKind, ExchangeProperties, Terms};
use crate::field::Table;
use crate::key::{Form, append_dotted, dotted_text};

/// Small, repeatable, and enough to mix words.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn words(&mut self, from: &[&str], separator: &str) -> String {
        let count = 1 + self.roll(5);
        let words: Vec<&str> = (0..count)
            .map(|_| from[self.roll(from.len() as u64) as usize])
            .collect();
        words.join(separator)
    }
}

/// Makes bindings of one exchange to itself, each with an identity of its own.
struct Maker {
    exchange: Arc<Exchange>,
    made: u32,
}

impl Maker {
    fn new() -> Self {
        let properties = ExchangeProperties {
            kind: ExchangeKind::Topic,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        Self {
            exchange: Arc::new(Exchange::new("e", properties)),
            made: 0,
        }
    }

    fn make(&mut self, key: &str, form: Form) -> Bound {
        self.made += 1;
        let terms = Terms {
            key: key.as_bytes(),
            form,
            arguments: b"",
        };
        let end = End::Exchange(&self.exchange);
        Bound::new(&self.exchange, end, &terms, self.made)
    }
}

fn words(bound: &Bound) -> String {
    dotted_text(bound.key(), bound.form())
}

fn insert(bindings: &mut Bindings, bound: &Bound) {
    bindings.insert(words(bound).as_bytes(), bound);
}

fn remove(bindings: &mut Bindings, bound: &Bound) {
    assert!(bindings.remove(words(bound).as_bytes(), bound));
    assert!(!bindings.remove(words(bound).as_bytes(), bound));
}

/// `#` any number of words, `single` one, everything else itself: by trying everything.
fn fits(pattern: &[&str], words: &[&str], single: &str) -> bool {
    match pattern.split_first() {
        None => words.is_empty(),
        Some((&"#", rest)) => (0..=words.len()).any(|skip| fits(rest, &words[skip..], single)),
        Some((word, rest)) => words.split_first().is_some_and(|(first, left)| {
            (*word == single || word == first) && fits(rest, left, single)
        }),
    }
}

fn split(key: &str, separator: char) -> Vec<&str> {
    if key.is_empty() && separator == '.' {
        Vec::new()
    } else {
        key.split(separator).collect()
    }
}

fn dotted(key: &str) -> String {
    let mut out = Vec::new();
    append_dotted(key.as_bytes(), &mut out);
    String::from_utf8(out).expect("ASCII stays ASCII")
}

/// What the module's table says of one binding key and one message's key.
pub(in crate::exchange) fn fits_key(
    (bound, bound_form): (&str, Form),
    (key, form): (&str, Form),
) -> bool {
    match (form, bound_form) {
        (Form::Dotted, Form::Dotted) => fits(&split(bound, '.'), &split(key, '.'), "*"),
        (Form::Slashed, Form::Dotted) => fits(&split(bound, '.'), &split(&dotted(key), '.'), "*"),
        (Form::Slashed, Form::Slashed) => {
            let hidden = key.starts_with('$') && bound.starts_with(['+', '#']);
            !hidden && fits(&split(bound, '/'), &split(key, '/'), "+")
        }
        (Form::Dotted, Form::Slashed) => {
            let hidden = key.starts_with('$') && bound.starts_with(['+', '#']);
            !hidden && fits(&split(&dotted(bound), '.'), &split(key, '.'), "*")
        }
    }
}

fn expected(binding: &Bound, form: Form, key: &str) -> bool {
    let bound = std::str::from_utf8(binding.key()).expect("made of text");
    fits_key((bound, binding.form()), (key, form))
}

/// What was found, as the numbers that the maker gave.
fn found(bindings: &Bindings, form: Form, key: &str) -> Vec<u32> {
    found_and_steps(bindings, form, key).0
}

/// The same, and how many nodes matching has come to.
fn found_and_steps(bindings: &Bindings, form: Form, key: &str) -> (Vec<u32>, u32) {
    let mut found = Vec::new();
    let dots = dotted_text(key.as_bytes(), form);
    let mut left = u32::MAX;
    let keys = (key.as_bytes(), dots.as_bytes());
    bindings.each_match(form, keys, &mut left, &mut |held| {
        found.push(held.identity());
    });
    found.sort_unstable();
    found.dedup();
    (found, u32::MAX - left)
}

/// FEATURES M2, M3, A3: every pair of forms, with wildcards anywhere, and again after half of the
/// bindings went.
#[test]
fn m2_m3_a3_the_trie_finds_what_the_rules_say() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..200 {
        let mut held: Vec<Bound> = Vec::new();
        let mut maker = Maker::new();
        let mut bindings = Bindings::default();
        for _ in 0..30 {
            let (key, form) = if dice.roll(2) == 0 {
                (
                    dice.words(&["a", "b", "*", "#", "", "$x"], "."),
                    Form::Dotted,
                )
            } else {
                (
                    dice.words(&["a", "b", "+", "#", "a.b", "*", "", "$x"], "/"),
                    Form::Slashed,
                )
            };
            let multi = key.split(['.', '/']).filter(|word| *word == "#").count();
            // An empty topic or filter is none ([MQTT-4.7.3-1]).
            if multi > 2 || (key.is_empty() && form == Form::Slashed) {
                continue;
            }
            let new = maker.make(&key, form);
            insert(&mut bindings, &new);
            held.push(new);
        }
        for round in 0..2 {
            for _ in 0..40 {
                let (key, form) = if dice.roll(2) == 0 {
                    (dice.words(&["a", "b", "c", "", "$x"], "."), Form::Dotted)
                } else {
                    (
                        dice.words(&["a", "b", "a.b", "*", "", "$x"], "/"),
                        Form::Slashed,
                    )
                };
                if key.is_empty() && form == Form::Slashed {
                    continue;
                }
                let wanted: Vec<u32> = held
                    .iter()
                    .filter(|held| expected(held, form, &key))
                    .map(Bound::identity)
                    .collect();
                let names = |all: &[u32]| -> Vec<String> {
                    let of = |held: &&Bound| all.contains(&held.identity());
                    let text = |held: &Bound| {
                        format!("{:?} {}", held.form(), String::from_utf8_lossy(held.key()))
                    };
                    held.iter().filter(of).map(text).collect()
                };
                let got = found(&bindings, form, &key);
                assert_eq!(
                    names(&got),
                    names(&wanted),
                    "{form:?} {key:?} in round {round}"
                );
            }
            let gone = held.split_off(held.len() / 2);
            gone.iter().for_each(|bound| remove(&mut bindings, bound));
        }
        held.iter().for_each(|bound| remove(&mut bindings, bound));
        assert!(bindings.len() == 0 && bindings.words.trie.is_empty());
    }
}

/// Filters with two `#` around long parts cost what their words cost, not words times words for
/// each: counted in visits, not in time.
#[test]
fn two_wildcards_visit_each_part_once() {
    let (mut bindings, mut maker) = (Bindings::default(), Maker::new());
    let part = ["a"; 60].join("/");
    for number in 0..50 {
        for key in [
            format!("#/x{number}/#/{part}/b"),
            format!("#/a/#/{part}/b{number}"),
        ] {
            insert(&mut bindings, &maker.make(&key, Form::Slashed));
        }
    }
    let topic = ["a"; 250].join("/");
    assert!(found(&bindings, Form::Slashed, &topic).is_empty());
    let reached = format!("{topic}/b7");
    assert_eq!(found(&bindings, Form::Slashed, &reached).len(), 1);
}

/// FEATURES A3: every filter of up to six words over a literal and both wildcards, with at most
/// two `#`, and keys that fit as many ways as can be: twice the words cost about twice the steps.
#[test]
fn a3_matching_long_keys_costs_what_their_words_cost() {
    let (mut bindings, mut maker) = (Bindings::default(), Maker::new());
    let mut filters = vec![Vec::new()];
    for _ in 0..6 {
        let longer = filters.iter().flat_map(|filter: &Vec<&str>| {
            ["a", "*", "#"].map(|word| [&filter[..], &[word]].concat())
        });
        let few = |filter: &Vec<&str>| filter.iter().filter(|word| **word == "#").count() <= 2;
        filters = longer.filter(few).collect();
        for filter in &filters {
            insert(&mut bindings, &maker.make(&filter.join("."), Form::Dotted));
        }
    }
    let steps = |words: usize| {
        let key = vec!["a"; words].join(".");
        let (found, steps) = found_and_steps(&bindings, Form::Dotted, &key);
        assert!(!found.is_empty());
        steps
    };
    let (short, long, longest) = (steps(32), steps(64), steps(256));
    assert!(long <= short * 5 / 2, "{short}, then {long}");
    assert!(longest <= short * 10, "{short}, then {longest}");
    assert!(long <= 64 * maker.made, "{long}");
}
