//! Nobody meets a stale route: publishers that remember, while others bind, unbind and delete.
//! After a bind has returned, every publish reaches its queue; after an unbind, none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{Publisher, bind, declare, declare_exchange, link, unbind};
use crate::field::Table;
use crate::key::Form;
use crate::link::Link;

/// Queues that come and go in one round.
const QUEUES: u32 = 24;

const ROUNDS: u32 = 12;

/// The path from the exchange that is published to, under `a.b.c`, to a queue.
#[derive(Clone, Copy)]
struct Path {
    exchange: &'static str,
    key: &'static str,
    form: Form,
}

const PATHS: [Path; 6] = [
    Path {
        exchange: "first",
        key: "a.b.c",
        form: Form::Dotted,
    },
    Path {
        exchange: "first",
        key: "a/+/c",
        form: Form::Slashed,
    },
    Path {
        exchange: "first",
        key: "#",
        form: Form::Dotted,
    },
    // Through exchange-to-exchange bindings.
    Path {
        exchange: "second",
        key: "a/b/c",
        form: Form::Slashed,
    },
    Path {
        exchange: "direct",
        key: "a.b.c",
        form: Form::Dotted,
    },
    Path {
        exchange: "fanout",
        key: "",
        form: Form::Dotted,
    },
];

fn connected() -> Arc<Link> {
    let link = link();
    for (name, kind) in [
        ("first", "topic"),
        ("second", "topic"),
        ("direct", "direct"),
        ("fanout", "fanout"),
    ] {
        declare_exchange(&link, name, kind);
    }
    for (to, from) in [
        ("second", "first"),
        ("direct", "second"),
        ("fanout", "direct"),
    ] {
        let bound = link.exchange_bind(to, from, b"a.b.c", Table::new());
        bound.expect("exchanges can be bound");
    }
    link
}

/// What a publisher may count on at this moment.
#[derive(Default)]
struct Bounds {
    at_least: AtomicU32,
    at_most: AtomicU32,
    /// Even while nothing is taken away, odd while nothing is added.
    phase: AtomicU32,
    over: AtomicBool,
    /// Publications so far: changes are not made faster than somebody could meet them.
    published: AtomicU32,
}

/// Whoever ends, well or not, ends the others.
struct Ends<'a>(&'a Bounds);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

fn publish(link: &Link, bounds: &Bounds) {
    let _ends = Ends(bounds);
    let mut publisher = Publisher::default();
    while !bounds.over.load(Ordering::Acquire) {
        let phase = bounds.phase.load(Ordering::Acquire);
        let (least, most) = (
            bounds.at_least.load(Ordering::Acquire),
            bounds.at_most.load(Ordering::Acquire),
        );
        let routed = publisher.routed(link, "first", "a.b.c", Form::Dotted);
        bounds.published.fetch_add(1, Ordering::AcqRel);
        // What was read belongs to a phase only if that is not over.
        if bounds.phase.load(Ordering::Acquire) != phase {
            continue;
        }
        match phase % 2 {
            0 => assert!(routed >= least, "{routed} of {least} that are bound"),
            _ => assert!(routed <= most, "{routed}, with {most} that are bound"),
        }
    }
}

/// Waits until something was published twice from now on: then one of them began after now.
fn let_publish(bounds: &Bounds) {
    let from = bounds.published.load(Ordering::Acquire);
    let enough = || bounds.published.load(Ordering::Acquire) >= from + 2;
    while !enough() && !bounds.over.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

fn change(link: &Link, bounds: &Bounds) {
    let _ends = Ends(bounds);
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    let path = |place: usize, round: u32| PATHS[(place + round as usize) % PATHS.len()];
    for round in 0..ROUNDS {
        bounds.phase.store(2 * round, Ordering::Release);
        for (place, name) in names.iter().enumerate() {
            let Path {
                exchange,
                key,
                form,
            } = path(place, round);
            declare(link, name);
            let_publish(bounds);
            assert!(bind(link, name, exchange, key, form));
            bounds.at_least.fetch_add(1, Ordering::AcqRel);
            let_publish(bounds);
        }
        bounds.at_most.store(QUEUES, Ordering::Release);
        bounds.phase.store(2 * round + 1, Ordering::Release);
        for (place, name) in names.iter().enumerate() {
            let Path {
                exchange,
                key,
                form,
            } = path(place, round);
            let_publish(bounds);
            if place % 3 == 0 {
                assert_eq!(unbind(link, name, exchange, key, form), 0);
            } else {
                let deleted = link.queue_delete(name, false, false);
                deleted.expect("the queue can be deleted");
            }
            bounds.at_most.fetch_sub(1, Ordering::AcqRel);
            let_publish(bounds);
        }
        bounds.at_least.store(0, Ordering::Release);
    }
}

/// Three publishers remember the same route while it grows and shrinks.
#[test]
fn after_a_bind_every_publish_reaches_the_queue() {
    let (link, bounds) = (connected(), Bounds::default());
    let (link, bounds) = (&*link, &bounds);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(move || publish(link, bounds));
        }
        scope.spawn(move || change(link, bounds));
    });
}

/// What each change of the topology does to a route that is remembered: an exchange on the way or
/// the first one deleted, and made again.
#[test]
fn deleted_exchanges_lead_nowhere() {
    for gone in ["first", "second", "direct", "fanout"] {
        let link = connected();
        declare(&link, "q");
        assert!(bind(&link, "q", "fanout", "", Form::Dotted));
        let mut publisher = Publisher::default();
        let mut routed = || publisher.publish(&link, "first", ("a.b.c", Form::Dotted), &[0, 0]);
        assert_eq!(routed().ok(), Some(1));
        assert_eq!(routed().ok(), Some(1));
        link.exchange_delete(gone, false).expect("can be deleted");
        let expected = (gone != "first").then_some(0);
        for _ in 0..2 {
            assert_eq!(routed().ok(), expected, "without {gone}");
        }
        declare_exchange(&link, gone, "topic");
        assert_eq!(routed().ok(), Some(0), "with another {gone}");
    }
}

/// Who is told that an exchange is deleted can be sure that nobody publishes to it: whatever was
/// remembered, or was being looked up at that moment.
#[test]
fn after_a_deletion_nobody_publishes() {
    let (link, bounds) = (link(), Bounds::default());
    let (link, bounds) = (&*link, &bounds);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ends = Ends(bounds);
            for round in 0..200 {
                declare_exchange(link, "e", "topic");
                bounds.phase.store(2 * round, Ordering::Release);
                let_publish(bounds);
                link.exchange_delete("e", false).expect("can be deleted");
                bounds.phase.store(2 * round + 1, Ordering::Release);
                let_publish(bounds);
            }
        });
        scope.spawn(move || {
            let _ends = Ends(bounds);
            let mut publisher = Publisher::default();
            while !bounds.over.load(Ordering::Acquire) {
                let phase = bounds.phase.load(Ordering::Acquire);
                let published = publisher.publish(link, "e", ("k", Form::Dotted), &[0, 0]);
                bounds.published.fetch_add(1, Ordering::AcqRel);
                let gone = phase % 2 == 1 && phase == bounds.phase.load(Ordering::Acquire);
                // The next round makes the exchange again before it says so.
                assert!(!gone || published.is_err() || link.vhost().exchange("e").is_some());
            }
        });
    });
}

/// Two who make the same binding at once make one.
#[test]
fn equal_binds_at_once_make_one_binding() {
    let link = connected();
    for round in 0..200 {
        let name = format!("q{round}");
        let queue = declare(&link, &name);
        let made: usize = std::thread::scope(|scope| {
            let (link, name) = (&*link, &*name);
            let tries = [(); 3].map(|()| {
                scope.spawn(move || {
                    let created = bind(link, name, "first", "a.b.c", Form::Dotted);
                    let mut publisher = Publisher::default();
                    let routed = publisher.routed(link, "first", "a.b.c", Form::Dotted);
                    assert_eq!(routed, round + 1, "who is told that it is there reaches it");
                    usize::from(created)
                })
            });
            tries
                .map(|tried| tried.join().expect("no panic"))
                .iter()
                .sum()
        });
        assert_eq!((made, queue.binding_count()), (1, 1));
    }
}
