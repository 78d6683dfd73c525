//! When a remembered route is stale: epochs that each move with the few routes which a change of
//! the topology may touch.
//!
//! # What is remembered, and what moves
//! A route depends on *parts* of the topology ([`Part`]): the bindings under exactly its key, the
//! filters that share its first words, the bindings of each fanout exchange that it passes. Every
//! part has a counter, found by hash among [`CELLS`] cells of the node; two parts that share a cell
//! only make each other's routes look stale sooner. A change counts the one part that it touches,
//! then the vhost's version:
//!
//! | change | part |
//! |---|---|
//! | binding without wildcards, queue (at the default exchange) | [`Part::Key`] of its key |
//! | filter | [`Part::Stem`] of its words before the first wildcard: none to six |
//! | binding of a fanout or hashing exchange | its [`Part::Fanout`], and [`Part::Fanouts`] |
//! | binding of an exchange of another kind | none: routes through one are not remembered |
//! | policy with an alternate exchange | none: the generation that all routes of a vhost have |
//! | exchange deleted | none: its memos look whether it is |
//!
//! Parts are words of the *dotted* key, whatever the form, and do not name an exchange: a message
//! keeps its key through exchange-to-exchange bindings, so a change anywhere on its way counts a
//! part that it depends on. A slashed filter that fits a slashed key has the same literal bytes
//! before its first wildcard, hence the same words in translation.
//!
//! # Why nobody meets a stale route
//! Who changes something: (1) changes the exchange's table under its lock, (2) counts the parts,
//! (3) counts the version, lets go of the lock, and only then answers. Who makes a route: (a) reads
//! the version, (b) reads the parts of an exchange before (c) it reads that exchange's table. Who
//! uses one: (x) reads the version; if it is not the remembered one, (y) reads the parts, and if
//! their sum is the remembered one, remembers (x). Whether an exchange was deleted is looked up
//! with the parts, and is said before the version is counted.
//!
//! Take a change that has been answered, and a route used after that. Counters only grow, so equal
//! sums mean equal parts. If (b) read the part after (2), then (c) came after (1): reads acquire
//! what counting released. If (b) read it before (2), the sum remembered lacks this change; then
//! the version remembered also was read before (3): by (a), which is before (b), or by an (x) whose
//! (y) came before (2), for otherwise (y) had found another sum. So (x) now reads another version,
//! and (y) another sum: the route is stale. Two changes at once do no harm, since each counts the
//! version after its own parts.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;

use super::ExchangeKind;
use crate::events::Listeners;
use crate::key::Form;

/// Counters of a node: 64 KiB. One change in some thousand makes a route stale that it does not
/// touch.
const CELLS: usize = 8_192;

/// Words of a filter that tell which keys its change may touch: filters that differ only further
/// down make each other's routes stale.
const STEM_WORDS_MAX: usize = 6;

/// Fanout exchanges that one route watches each for itself.
const FANOUTS_WATCHED_MAX: usize = 3;

/// Parts that one route depends on: its stems from none to all words, its key, its fanout
/// exchanges and all of them.
const PARTS_MAX: usize = STEM_WORDS_MAX + 1 + 1 + FANOUTS_WATCHED_MAX + 1;

const _: () = assert!(CELLS.is_power_of_two() && CELLS <= 1 << u16::BITS);

/// What a route may depend on.
#[derive(Clone, Copy, Hash)]
pub(crate) enum Part<'a> {
    /// What stands under exactly this dotted key.
    Key(&'a [u8]),
    /// The filters whose words before the first wildcard are these; their number and their bytes.
    Stem(usize, &'a [u8]),
    /// The bindings of the fanout exchange with this number.
    Fanout(u64),
    /// The bindings of all fanout exchanges.
    Fanouts,
}

/// The counters of all vhosts of a node.
pub(crate) struct Epochs {
    /// Who listens to events is counted where bindings come and go.
    listeners: Arc<Listeners>,
    cells: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Epochs {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Epochs {
    pub(crate) fn new(listeners: Arc<Listeners>) -> Self {
        Self {
            listeners,
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }
}

/// One vhost's view of them.
pub(crate) struct Topology {
    epochs: Arc<Epochs>,
    vhost: u64,
    version: AtomicU64,
    /// Routes of an earlier generation are all stale.
    generation: AtomicU64,
    /// Those of this vhost who listen to events.
    listeners: Listeners,
}

impl Topology {
    /// `vhost` is a number that no other vhost has.
    pub(crate) fn new(epochs: &Arc<Epochs>, vhost: u64) -> Self {
        Self {
            epochs: Arc::clone(epochs),
            vhost,
            version: AtomicU64::new(1),
            generation: AtomicU64::new(1),
            listeners: Listeners::default(),
        }
    }

    /// Those of this vhost who listen to events.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// A binding has come that events may match.
    pub(crate) fn add_listener(&self) {
        self.listeners.add();
        self.epochs.listeners.add();
    }

    /// It has gone.
    pub(crate) fn remove_listener(&self) {
        self.listeners.remove();
        self.epochs.listeners.remove();
    }

    fn cell(&self, part: Part<'_>) -> u16 {
        (self.epochs.hasher.hash_one((self.vhost, part)) as usize & (CELLS - 1)) as u16
    }

    fn read(&self, cell: u16) -> u64 {
        self.epochs.cells[usize::from(cell)].load(Ordering::Acquire)
    }

    /// Something has changed that these parts stand for. Only after it has.
    pub(crate) fn changed(&self, parts: &[Part<'_>]) {
        for part in parts {
            self.epochs.cells[usize::from(self.cell(*part))].fetch_add(1, Ordering::AcqRel);
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// A binding of an exchange has come or gone; `dotted` is its key in dotted form.
    pub(crate) fn rebound(&self, kind: ExchangeKind, exchange: u64, dotted: &[u8]) {
        match kind {
            ExchangeKind::Direct => self.changed(&[Part::Key(dotted)]),
            ExchangeKind::Fanout | ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash => {
                self.changed(&[Part::Fanout(exchange), Part::Fanouts]);
            }
            ExchangeKind::Topic => {
                let part =
                    stem(dotted).map_or(Part::Key(dotted), |(n, words)| Part::Stem(n, words));
                self.changed(&[part]);
            }
            ExchangeKind::Headers
            | ExchangeKind::Random
            | ExchangeKind::LocalRandom
            | ExchangeKind::RecentHistory
            | ExchangeKind::Delayed => {}
        }
    }

    /// Something has changed that may concern every route. Only after it has.
    pub(crate) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed(&[]);
    }
}

/// The first words of a key, from none on, with their number: at most [`STEM_WORDS_MAX`].
fn stems(dotted: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut end = None;
    let all = Form::Dotted.words(dotted).map(move |word| {
        let next = end.map_or(word.len(), |end: usize| end + 1 + word.len());
        end = Some(next);
        &dotted[..next]
    });
    std::iter::once(&dotted[..0])
        .chain(all.take(STEM_WORDS_MAX))
        .enumerate()
}

/// The words of a filter before its first wildcard; `None` of a key without wildcards.
fn stem(filter: &[u8]) -> Option<(usize, &[u8])> {
    let wild = |word: &[u8]| word == b"*" || word == b"#";
    let literal = Form::Dotted.words(filter).position(wild)?;
    stems(filter).nth(literal.min(STEM_WORDS_MAX))
}

/// What a route was made from: whether it still is that costs one load while nothing changes in the
/// vhost, and a load for each part when something has.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    version: u64,
    sum: u64,
    count: u8,
    cells: [u16; PARTS_MAX],
}

impl Stamp {
    /// Whether nothing has changed that the route depends on. `stands` says whether what has no
    /// part is as it was; it is asked when anything has changed.
    pub(crate) fn holds(&mut self, topology: &Topology, stands: impl FnOnce() -> bool) -> bool {
        let version = topology.version.load(Ordering::Acquire);
        if self.version == version {
            return true;
        }
        let cells = &self.cells[..usize::from(self.count)];
        let add = |sum: u64, cell: &u16| sum.wrapping_add(topology.read(*cell));
        let generation = topology.generation.load(Ordering::Acquire);
        if cells.iter().fold(generation, add) != self.sum || !stands() {
            return false;
        }
        self.version = version;
        true
    }
}

/// The stamp of a route that is being made.
pub(crate) struct Watch<'a> {
    topology: &'a Topology,
    stamp: Stamp,
    key: bool,
    stems: bool,
    fanouts: usize,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(topology: &'a Topology) -> Self {
        let stamp = Stamp {
            version: topology.version.load(Ordering::Acquire),
            sum: topology.generation.load(Ordering::Acquire),
            count: 0,
            cells: [0; PARTS_MAX],
        };
        Self {
            topology,
            stamp,
            key: false,
            stems: false,
            fanouts: 0,
        }
    }

    fn add(&mut self, part: Part<'_>) {
        let cell = self.topology.cell(part);
        let stamp = &mut self.stamp;
        stamp.cells[usize::from(stamp.count)] = cell;
        stamp.count += 1;
        stamp.sum = stamp.sum.wrapping_add(self.topology.read(cell));
    }

    /// The route will depend on what stands under its key.
    pub(crate) fn key(&mut self, dotted: &[u8]) {
        if !std::mem::replace(&mut self.key, true) {
            self.add(Part::Key(dotted));
        }
    }

    /// The route will pass this exchange: called before the exchange's bindings are read.
    pub(crate) fn exchange(&mut self, kind: ExchangeKind, exchange: u64, dotted: &[u8]) {
        match kind {
            ExchangeKind::Direct => self.key(dotted),
            ExchangeKind::Topic => {
                self.key(dotted);
                if !std::mem::replace(&mut self.stems, true) {
                    stems(dotted).for_each(|(n, words)| self.add(Part::Stem(n, words)));
                }
            }
            ExchangeKind::Fanout | ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash => {
                self.fanouts += 1;
                if self.fanouts <= FANOUTS_WATCHED_MAX {
                    self.add(Part::Fanout(exchange));
                } else if self.fanouts == FANOUTS_WATCHED_MAX + 1 {
                    self.add(Part::Fanouts);
                }
            }
            ExchangeKind::Headers
            | ExchangeKind::Random
            | ExchangeKind::LocalRandom
            | ExchangeKind::RecentHistory
            | ExchangeKind::Delayed => {}
        }
    }

    pub(crate) fn stamp(self) -> Stamp {
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_whole_words() {
        let of = |key: &'static str| -> Vec<(usize, &str)> {
            let text = |(n, words)| (n, std::str::from_utf8(words).unwrap_or("not text"));
            stems(key.as_bytes()).map(text).collect()
        };
        assert_eq!(of(""), [(0, "")]);
        assert_eq!(of("a"), [(0, ""), (1, "a")]);
        assert_eq!(of(".a."), [(0, ""), (1, ""), (2, ".a"), (3, ".a.")]);
        assert_eq!(of("1.2.3.4.5.6.7.8").last(), Some(&(6, "1.2.3.4.5.6")));
    }

    #[test]
    fn a_filter_counts_the_words_before_its_first_wildcard() {
        for (filter, expected) in [
            ("a.b", None),
            ("", None),
            ("a*.b#", None),
            ("#", Some((0, ""))),
            ("*.a", Some((0, ""))),
            ("a.*", Some((1, "a"))),
            (".#", Some((1, ""))),
            ("a.b.#.c.*", Some((2, "a.b"))),
            ("1.2.3.4.5.6.7.*", Some((6, "1.2.3.4.5.6"))),
        ] {
            let text = |(n, words)| (n, std::str::from_utf8(words).unwrap_or("not text"));
            assert_eq!(stem(filter.as_bytes()).map(text), expected, "{filter}");
        }
    }

    fn stale(
        kind: ExchangeKind,
        exchange: u64,
        key: &str,
        bound: (ExchangeKind, u64, &str),
    ) -> bool {
        let topology = Topology::new(&Arc::default(), 1);
        let mut watch = Watch::new(&topology);
        watch.exchange(kind, exchange, key.as_bytes());
        let mut stamp = watch.stamp();
        assert!(stamp.holds(&topology, || true));
        topology.rebound(bound.0, bound.1, bound.2.as_bytes());
        !stamp.holds(&topology, || true)
    }

    #[test]
    fn a_change_makes_stale_what_it_touches() {
        use ExchangeKind::{Direct, Fanout, Headers, Topic};
        for (kind, key, bound, expected) in [
            (Topic, "a.b.c", (Topic, 1, "a.b.c"), true),
            (Topic, "a.b.c", (Direct, 2, "a.b.c"), true),
            (Topic, "a.b.c", (Topic, 2, "#"), true),
            (Topic, "a.b.c", (Topic, 2, "a.#"), true),
            (Topic, "a.b.c", (Topic, 2, "a.b.c.#"), true),
            (Topic, "a.b.c", (Topic, 2, "a.b.*"), true),
            (Topic, "a.b.c", (Headers, 2, "a.b.c"), false),
            (Direct, "a.b.c", (Direct, 1, "a.b.c"), true),
            (Fanout, "a.b.c", (Fanout, 1, "other"), true),
            (
                Topic,
                "1.2.3.4.5.6.7.8",
                (Topic, 1, "1.2.3.4.5.6.7.*"),
                true,
            ),
            (Topic, "", (Topic, 1, "#"), true),
            (Topic, ".x", (Topic, 1, ".*"), true),
        ] {
            let is_stale = stale(kind, 1, key, bound);
            assert_eq!(is_stale, expected, "{kind:?} {key} by {bound:?}");
        }
    }

    /// Two parts may share a cell, but not often.
    #[test]
    fn a_change_leaves_nearly_all_else_as_it_was() {
        use ExchangeKind::{Direct, Fanout, Topic};
        for bound in ["a.b.d", "a.d.#", "a.b.d.*", "d.#"] {
            let touched = (0..100).filter(|_| stale(Topic, 1, "a.b.c", (Topic, 1, bound)));
            assert!(touched.count() <= 10, "{bound}");
        }
        let by_filter = (0..100).filter(|_| stale(Direct, 1, "a", (Topic, 2, "#")));
        assert!(by_filter.count() <= 10);
        let by_other = (0..100).filter(|_| stale(Fanout, 1, "a", (Fanout, 2, "a")));
        assert!(by_other.count() <= 10);
    }

    #[test]
    fn many_fanout_exchanges_are_watched_together() {
        let topology = Topology::new(&Arc::default(), 1);
        let mut watch = Watch::new(&topology);
        watch.exchange(ExchangeKind::Topic, 1, b"1.2.3.4.5.6.7.8");
        (2..100).for_each(|exchange| watch.exchange(ExchangeKind::Fanout, exchange, b""));
        let mut stamp = watch.stamp();
        assert_eq!(usize::from(stamp.count), PARTS_MAX);
        topology.rebound(ExchangeKind::Fanout, 99, b"");
        assert!(!stamp.holds(&topology, || true));
    }
}
