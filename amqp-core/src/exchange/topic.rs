//! The topic exchange: exact keys in a map, keys with wildcards in a trie of words.
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
//! dotted key serves both columns. Only keys that are not plain pay for a second look-up under
//! their levels. Each leaf says from which look-ups it may be found.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::Binding;
use crate::key::{self, Form};

/// Found by a dotted message.
const DOTTED: u8 = 1;
/// Found by a slashed message under its translation, for dotted bindings.
const TRANSLATED: u8 = 2;
/// Found by a plain slashed message under its translation, for slashed bindings.
const PLAIN: u8 = 4;
/// Found by a slashed message that is not plain, under its own levels.
const LEVELS: u8 = 8;

#[derive(Clone)]
struct Leaf {
    binding: Arc<Binding>,
    found_by: u8,
    /// A slashed binding that begins with a wildcard: not for keys that begin with `$`
    /// ([MQTT-4.7.2-1]).
    not_for_dollar: bool,
}

/// Where a binding stands: words or a whole key, and from which look-ups it is found there.
struct Place {
    key: Box<[u8]>,
    separator: Form,
    wild: bool,
    found_by: u8,
}

/// The bindings of one topic exchange.
#[derive(Default)]
pub(super) struct Bindings {
    exact: HashMap<Box<[u8]>, SmallVec<[Leaf; 1]>, RandomState>,
    trie: Trie,
    count: usize,
}

fn places(binding: &Binding) -> SmallVec<[Place; 2]> {
    let is_wild = |key: &[u8], form: Form| {
        form.words(key)
            .any(|word| word == b"#" || word == form.single_wildcard())
    };
    let mut places = SmallVec::new();
    match binding.form {
        Form::Dotted => places.push(Place {
            key: binding.key.clone(),
            separator: Form::Dotted,
            wild: is_wild(&binding.key, Form::Dotted),
            found_by: DOTTED | TRANSLATED,
        }),
        Form::Slashed => {
            let mut dotted = Vec::with_capacity(binding.key.len());
            key::append_dotted(&binding.key, &mut dotted);
            let wild = is_wild(&binding.key, Form::Slashed);
            if key::is_plain(&binding.key) {
                let found_by = DOTTED | PLAIN | if wild { LEVELS } else { 0 };
                let key = dotted.into();
                places.push(Place {
                    key,
                    separator: Form::Dotted,
                    wild,
                    found_by,
                });
            } else {
                places.push(Place {
                    key: binding.key.clone(),
                    separator: Form::Slashed,
                    wild,
                    // A plain message cannot fit it: some level has a dot or a star.
                    found_by: LEVELS,
                });
                let wild = is_wild(&dotted, Form::Dotted);
                let (key, found_by) = (dotted.into(), DOTTED);
                places.push(Place {
                    key,
                    separator: Form::Dotted,
                    wild,
                    found_by,
                });
            }
        }
    }
    places
}

impl Bindings {
    pub(super) fn insert(&mut self, binding: &Arc<Binding>) {
        self.count += 1;
        let first = Form::Slashed.words(&binding.key).next().unwrap_or_default();
        let not_for_dollar = binding.form == Form::Slashed && (first == b"+" || first == b"#");
        for place in places(binding) {
            let leaf = Leaf {
                binding: Arc::clone(binding),
                found_by: place.found_by,
                not_for_dollar,
            };
            if place.wild {
                self.trie.insert(&place.key, place.separator, leaf);
            } else {
                self.exact.entry(place.key).or_default().push(leaf);
            }
        }
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>) {
        let mut removed = false;
        for place in places(binding) {
            if place.wild {
                removed |= self.trie.remove(&place.key, place.separator, binding);
            } else if let Some(leaves) = self.exact.get_mut(&place.key) {
                let before = leaves.len();
                leaves.retain(|leaf| !Arc::ptr_eq(&leaf.binding, binding));
                removed |= leaves.len() < before;
                if leaves.is_empty() {
                    self.exact.remove(&place.key);
                }
            }
        }
        self.count -= usize::from(removed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn all(&self) -> Vec<Arc<Binding>> {
        // Every binding stands once under a look-up that dotted messages use.
        let exact = self.exact.values().flatten();
        exact
            .chain(self.trie.leaves())
            .filter(|leaf| leaf.found_by & DOTTED != 0)
            .map(|leaf| Arc::clone(&leaf.binding))
            .collect()
    }

    /// Calls `found` for every binding that fits. `dotted` is the key's dotted form.
    pub(super) fn each_match(
        &self,
        form: Form,
        key: &[u8],
        dotted: &[u8],
        found: &mut dyn FnMut(&Arc<Binding>),
    ) {
        match form {
            Form::Dotted => self.look_up(dotted, Form::Dotted, DOTTED, found),
            Form::Slashed if key::is_plain(key) => {
                self.look_up(dotted, Form::Dotted, TRANSLATED | PLAIN, found);
            }
            Form::Slashed => {
                self.look_up(dotted, Form::Dotted, TRANSLATED, found);
                self.look_up(key, Form::Slashed, LEVELS, found);
            }
        }
    }

    fn look_up(&self, key: &[u8], form: Form, by: u8, found: &mut dyn FnMut(&Arc<Binding>)) {
        let dollar = key.first() == Some(&b'$');
        let mut visit = |leaf: &Leaf| {
            if leaf.found_by & by != 0 && !(dollar && leaf.not_for_dollar) {
                found(&leaf.binding);
            }
        };
        if let Some(leaves) = self.exact.get(key) {
            leaves.iter().for_each(&mut visit);
        }
        if !self.trie.is_empty() {
            let words: SmallVec<[&[u8]; 16]> = form.words(key).collect();
            self.trie.walk(&words, &mut visit);
        }
    }
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// A node: its wildcard children stand in it, its literal children in the edge table.
struct Node {
    single: u32,
    multi: u32,
    parent: u32,
    children: u32,
    /// Words that a key needs from here to reach some leaf: at least, and at most. They only grow
    /// apart while the node lives.
    shortest: u32,
    longest: u32,
    leaves: SmallVec<[Leaf; 1]>,
}

impl Node {
    fn new(parent: u32) -> Self {
        Self {
            single: NONE,
            multi: NONE,
            parent,
            children: 0,
            shortest: u32::MAX,
            longest: 0,
            leaves: SmallVec::new(),
        }
    }
}

struct Edge {
    from: u32,
    word: Box<[u8]>,
    to: u32,
}

/// All literal edges in one table, all nodes in one list with free places reused.
struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: HashTable<Edge>,
    hasher: RandomState,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(NONE)],
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: RandomState::default(),
        }
    }
}

fn hash_edge(hasher: &RandomState, from: u32, word: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    from.hash(&mut state);
    state.write(word);
    state.finish()
}

impl Trie {
    fn is_empty(&self) -> bool {
        self.nodes.len() == self.free.len() + 1
    }

    fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().flat_map(|node| &node.leaves)
    }

    fn literal(&self, from: u32, word: &[u8]) -> Option<u32> {
        let hash = hash_edge(&self.hasher, from, word);
        let edge = self
            .edges
            .find(hash, |edge| edge.from == from && *edge.word == *word)?;
        Some(edge.to)
    }

    fn child(&self, from: u32, word: &[u8], form: Form) -> Option<u32> {
        let node = &self.nodes[from as usize];
        if word == b"#" {
            (node.multi != NONE).then_some(node.multi)
        } else if word == form.single_wildcard() {
            (node.single != NONE).then_some(node.single)
        } else {
            self.literal(from, word)
        }
    }

    fn add_child(&mut self, from: u32, word: &[u8], form: Form) -> u32 {
        let to = match self.free.pop() {
            Some(to) => {
                self.nodes[to as usize] = Node::new(from);
                to
            }
            None => {
                self.nodes.push(Node::new(from));
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = &mut self.nodes[from as usize];
        parent.children += 1;
        if word == b"#" {
            parent.multi = to;
        } else if word == form.single_wildcard() {
            parent.single = to;
        } else {
            let hash = hash_edge(&self.hasher, from, word);
            let hasher = &self.hasher;
            self.edges.insert_unique(
                hash,
                Edge {
                    from,
                    word: word.into(),
                    to,
                },
                |edge| hash_edge(hasher, edge.from, &edge.word),
            );
        }
        to
    }

    fn insert(&mut self, key: &[u8], form: Form, leaf: Leaf) {
        let words: SmallVec<[&[u8]; 16]> = form.words(key).collect();
        let multi = words.iter().filter(|word| **word == b"#").count();
        let mut needed = (words.len() - multi) as u32;
        let mut multi_left = multi;
        let mut node = ROOT;
        for depth in 0..=words.len() {
            let here = &mut self.nodes[node as usize];
            here.shortest = here.shortest.min(needed);
            let longest = if multi_left > 0 { u32::MAX } else { needed };
            here.longest = here.longest.max(longest);
            let Some(word) = words.get(depth) else { break };
            if *word == b"#" {
                multi_left -= 1;
            } else {
                needed -= 1;
            }
            node = match self.child(node, word, form) {
                Some(next) => next,
                None => self.add_child(node, word, form),
            };
        }
        self.nodes[node as usize].leaves.push(leaf);
    }

    fn remove(&mut self, key: &[u8], form: Form, binding: &Arc<Binding>) -> bool {
        let words: Vec<&[u8]> = form.words(key).collect();
        let mut node = ROOT;
        for word in &words {
            let Some(next) = self.child(node, word, form) else {
                return false;
            };
            node = next;
        }
        let leaves = &mut self.nodes[node as usize].leaves;
        let before = leaves.len();
        leaves.retain(|leaf| !Arc::ptr_eq(&leaf.binding, binding));
        let removed = leaves.len() < before;
        for word in words.iter().rev() {
            let here = &self.nodes[node as usize];
            if here.children > 0 || !here.leaves.is_empty() {
                break;
            }
            let parent = here.parent;
            self.unlink(parent, word, form);
            self.free.push(node);
            node = parent;
        }
        removed
    }

    fn unlink(&mut self, from: u32, word: &[u8], form: Form) {
        let parent = &mut self.nodes[from as usize];
        parent.children -= 1;
        if word == b"#" {
            parent.multi = NONE;
        } else if word == form.single_wildcard() {
            parent.single = NONE;
        } else {
            let hash = hash_edge(&self.hasher, from, word);
            let same = |edge: &Edge| edge.from == from && *edge.word == *word;
            if let Ok(entry) = self.edges.find_entry(hash, same) {
                entry.remove();
            }
        }
    }

    /// Visits the leaves that fit `words`. Depth is bounded by the longest binding key
    /// ([`crate::limits::BINDING_WORDS_MAX`]).
    fn walk(&self, words: &[&[u8]], visit: &mut impl FnMut(&Leaf)) {
        self.step(ROOT, words, 0, &mut HashMap::default(), visit);
    }

    /// `multi` counts the `#` on the way. Whatever a second `#` can reach it reaches from the
    /// earliest place at which it is met: `earliest` remembers how many words were left there, and
    /// later ones add nothing.
    fn step(
        &self,
        node: u32,
        words: &[&[u8]],
        multi: u32,
        earliest: &mut HashMap<u32, usize, RandomState>,
        visit: &mut impl FnMut(&Leaf),
    ) {
        let here = &self.nodes[node as usize];
        let left = words.len() as u32;
        if left < here.shortest || left > here.longest {
            return;
        }
        if here.multi != NONE {
            self.skip(here.multi, words, multi + 1, earliest, visit);
        }
        match words.split_first() {
            None => here.leaves.iter().for_each(visit),
            Some((word, rest)) => {
                if here.single != NONE {
                    self.step(here.single, rest, multi, earliest, visit);
                }
                if here.children > 0
                    && let Some(next) = self.literal(node, word)
                {
                    self.step(next, rest, multi, earliest, visit);
                }
            }
        }
    }

    /// Lets the `#` at `node` take as many words as leave enough for what follows it.
    fn skip(
        &self,
        node: u32,
        words: &[&[u8]],
        multi: u32,
        earliest: &mut HashMap<u32, usize, RandomState>,
        visit: &mut impl FnMut(&Leaf),
    ) {
        let here = &self.nodes[node as usize];
        if multi > 1 {
            let known = earliest.entry(node).or_insert(usize::MAX);
            if *known != usize::MAX {
                return;
            }
            *known = words.len();
        }
        let Some(most) = words.len().checked_sub(here.shortest as usize) else {
            return;
        };
        let fewest = words.len().saturating_sub(here.longest as usize);
        for skipped in fewest..=most {
            self.step(node, &words[skipped..], multi, earliest, visit);
        }
    }
}

#[cfg(test)]
mod tests;
