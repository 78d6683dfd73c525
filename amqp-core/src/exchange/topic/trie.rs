//! Keys with wildcards in a trie of words: what a look-up costs depends on the words of the key and
//! on how many branches fit it, not on how many bindings there are.
//!
//! The depth of a match is bounded by [`crate::limits::BINDING_WORDS_MAX`], its width by
//! [`crate::limits::MULTI_WILDCARDS_MAX`].

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::exchange::Bound;
use crate::exchange::set::{BindingSet, shrink};
use crate::key::Form;

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
    leaves: BindingSet,
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
            leaves: BindingSet::Empty,
        }
    }
}

struct Edge {
    from: u32,
    word: Box<[u8]>,
    to: u32,
}

/// All literal edges in one table, all nodes in one list with free places reused.
pub(super) struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    edges: HashTable<Edge>,
    hasher: RandomState,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
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
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Bound)) {
        let each = |node: &Node| node.leaves.for_each(&mut visit);
        self.nodes.iter().for_each(each);
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

    pub(super) fn insert(&mut self, key: &[u8], form: Form, bound: &Bound) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(NONE));
        }
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
        self.nodes[node as usize].leaves.insert((), bound.clone());
    }

    /// Takes a binding out; says whether it was there.
    pub(super) fn remove(&mut self, key: &[u8], form: Form, bound: &Bound) -> bool {
        if self.nodes.is_empty() {
            return false;
        }
        let words: SmallVec<[&[u8]; 16]> = form.words(key).collect();
        let mut node = ROOT;
        for word in &words {
            let Some(next) = self.child(node, word, form) else {
                return false;
            };
            node = next;
        }
        let removed = self.nodes[node as usize].leaves.remove(bound);
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
        let root = &self.nodes[ROOT as usize];
        if root.children == 0 && root.leaves.is_empty() {
            // What a million filters took is given back with the last of them.
            *self = Self::default();
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
                let hasher = &self.hasher;
                shrink(&mut self.edges, |edge| {
                    hash_edge(hasher, edge.from, &edge.word)
                });
            }
        }
    }

    /// Visits the leaves that fit `words`, and takes a step off for each node that it comes to: a
    /// look-up or two. With none left it ends early. Depth is bounded by the longest binding key
    /// ([`crate::limits::BINDING_WORDS_MAX`]).
    pub(super) fn walk(&self, words: &[&[u8]], steps: &mut u32, visit: &mut impl FnMut(&Bound)) {
        if self.is_empty() {
            return;
        }
        let mut walk = Walk {
            trie: self,
            earliest: HashMap::default(),
            steps,
            visit,
        };
        walk.step(ROOT, words, 0);
    }
}

/// A key on its way through the trie.
struct Walk<'a, V> {
    trie: &'a Trie,
    /// Whatever a second `#` can reach it reaches from the earliest place at which it is met: how
    /// many words were left there. Later ones add nothing.
    earliest: HashMap<u32, usize, RandomState>,
    steps: &'a mut u32,
    visit: &'a mut V,
}

impl<V: FnMut(&Bound)> Walk<'_, V> {
    /// `multi` counts the `#` on the way.
    fn step(&mut self, node: u32, words: &[&[u8]], multi: u32) {
        let Some(steps) = self.steps.checked_sub(1) else {
            return;
        };
        *self.steps = steps;
        let trie = self.trie;
        let here = &trie.nodes[node as usize];
        let left = words.len() as u32;
        if left < here.shortest || left > here.longest {
            return;
        }
        if here.multi != NONE {
            self.skip(here.multi, words, multi + 1);
        }
        match words.split_first() {
            None => here.leaves.for_each(&mut *self.visit),
            Some((word, rest)) => {
                if here.single != NONE {
                    self.step(here.single, rest, multi);
                }
                if here.children > 0
                    && let Some(next) = trie.literal(node, word)
                {
                    self.step(next, rest, multi);
                }
            }
        }
    }

    /// Lets the `#` at `node` take as many words as leave enough for what follows it.
    fn skip(&mut self, node: u32, words: &[&[u8]], multi: u32) {
        let here = &self.trie.nodes[node as usize];
        if multi > 1 {
            let known = self.earliest.entry(node).or_insert(usize::MAX);
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
            self.step(node, &words[skipped..], multi);
        }
    }
}
