//! The topic exchange: exact keys in a table, keys with wildcards in a trie of words.
//!
//! Keys and bindings come in two forms ([`Form`]), and which meets which decides how they are
//! compared:
//!
//! | message \ binding | dotted (AMQP) | slashed (adapter) |
//! |---|---|---|
//! | dotted | words of both | message's words, binding translated |
//! | slashed | message translated, binding's words | levels of both, nothing translated |
//!
//! For a *plain* slashed key (no `.`, no `*`) translation loses nothing, and one look-up under the
//! dotted key serves both columns. Every binding stands under its words on one board. A slashed one
//! that is not plain stands under its levels on a second board as well, which only messages that
//! are not plain are looked up on. [`found_by`] says from which look-ups a binding may be found
//! under its words.

mod trie;

use smallvec::SmallVec;

use self::trie::Trie;
use super::Bound;
use super::exact::Exact;
use crate::key::{self, Form};

/// Found by a dotted message.
const DOTTED: u8 = 1;
/// Found by a slashed message under its translation, for dotted bindings.
const TRANSLATED: u8 = 2;
/// Found by a plain slashed message under its translation, for slashed bindings.
const PLAIN: u8 = 4;
/// Found by a slashed message that is not plain, under its own levels.
const LEVELS: u8 = 8;
/// A slashed binding that begins with a wildcard: not for keys that begin with `$`
/// ([MQTT-4.7.2-1]).
const NOT_FOR_DOLLAR: u8 = 16;

/// From which look-ups a binding with this key is found under its words.
pub(super) fn found_by(key: &[u8], form: Form) -> u8 {
    if form == Form::Dotted {
        return DOTTED | TRANSLATED;
    }
    let first = form.words(key).next().unwrap_or_default();
    let hidden = if first == b"+" || first == b"#" {
        NOT_FOR_DOLLAR
    } else {
        0
    };
    // A plain message cannot fit a binding that is not plain: some level has a dot or a star. And
    // only with wildcards does a plain binding fit a message that is not.
    let plain = match (key::is_plain(key), is_wild(key, form)) {
        (false, _) => 0,
        (true, false) => PLAIN,
        (true, true) => PLAIN | LEVELS,
    };
    DOTTED | plain | hidden
}

fn is_wild(key: &[u8], form: Form) -> bool {
    form.words(key)
        .any(|word| word == b"#" || word == form.single_wildcard())
}

/// Whether a binding stands under its levels too.
fn has_levels(bound: &Bound) -> bool {
    bound.form() == Form::Slashed && !key::is_plain(bound.key())
}

/// Bindings under keys of one kind.
#[derive(Default)]
struct Board {
    exact: Exact,
    trie: Trie,
}

impl Board {
    fn insert(&mut self, key: &[u8], form: Form, bound: &Bound) {
        if is_wild(key, form) {
            self.trie.insert(key, form, bound);
        } else {
            self.exact.insert(key, bound);
        }
    }

    fn remove(&mut self, key: &[u8], form: Form, bound: &Bound) -> bool {
        if is_wild(key, form) {
            self.trie.remove(key, form, bound)
        } else {
            self.exact.remove(key, bound)
        }
    }
}

/// The bindings of one topic exchange.
#[derive(Default)]
pub(super) struct Bindings {
    words: Board,
    /// Those that lose something in translation, as they were given.
    levels: Option<Box<Board>>,
    count: usize,
}

impl Bindings {
    /// `dotted` is the binding's key in dotted form.
    pub(super) fn insert(&mut self, dotted: &[u8], bound: &Bound) {
        self.count += 1;
        self.words.insert(dotted, Form::Dotted, bound);
        if has_levels(bound) {
            let levels = self.levels.get_or_insert_with(|| {
                Box::new(Board {
                    exact: Exact::of_levels(),
                    trie: Trie::default(),
                })
            });
            levels.insert(bound.key(), Form::Slashed, bound);
        }
    }

    /// Takes a binding out; says whether it was there.
    pub(super) fn remove(&mut self, dotted: &[u8], bound: &Bound) -> bool {
        let removed = self.words.remove(dotted, Form::Dotted, bound);
        if let Some(levels) = &mut self.levels
            && has_levels(bound)
        {
            levels.remove(bound.key(), Form::Slashed, bound);
        }
        self.count -= usize::from(removed);
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        self.words.exact.for_each(&mut visit);
        self.words.trie.for_each(visit);
    }

    /// Calls `found` for every binding that fits, as far as `steps` allow. `dotted` is the key's
    /// dotted form.
    pub(super) fn each_match(
        &self,
        form: Form,
        (key, dotted): (&[u8], &[u8]),
        steps: &mut u32,
        found: &mut dyn FnMut(&Bound),
    ) {
        let by = match form {
            Form::Dotted => DOTTED,
            Form::Slashed if key::is_plain(key) => TRANSLATED | PLAIN,
            Form::Slashed => TRANSLATED,
        };
        let dollar = key.first() == Some(&b'$');
        let hidden = |bound: &Bound| dollar && bound.found_by() & NOT_FOR_DOLLAR != 0;
        let mut visit = |bound: &Bound| {
            if bound.found_by() & by != 0 && !hidden(bound) {
                found(bound);
            }
        };
        if let Some(bindings) = self.words.exact.find(dotted) {
            bindings.for_each(&mut visit);
        }
        if !self.words.trie.is_empty() {
            let words: SmallVec<[&[u8]; 16]> = Form::Dotted.words(dotted).collect();
            self.words.trie.walk(&words, steps, &mut visit);
        }
        if by == TRANSLATED {
            self.each_by_levels(key, steps, &mut |bound| {
                if !hidden(bound) {
                    found(bound);
                }
            });
        }
    }

    /// Calls `found` for the slashed bindings that fit a key that is not plain.
    fn each_by_levels(&self, key: &[u8], steps: &mut u32, found: &mut dyn FnMut(&Bound)) {
        let words: SmallVec<[&[u8]; 16]> = Form::Slashed.words(key).collect();
        self.words.trie.walk(&words, steps, &mut |bound: &Bound| {
            if bound.found_by() & LEVELS != 0 {
                found(bound);
            }
        });
        let Some(levels) = &self.levels else { return };
        if let Some(bindings) = levels.exact.find(key) {
            bindings.for_each(&mut *found);
        }
        levels
            .trie
            .walk(&words, steps, &mut |bound: &Bound| found(bound));
    }
}

#[cfg(test)]
pub(super) mod tests;
