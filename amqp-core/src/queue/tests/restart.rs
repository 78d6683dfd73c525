//! FEATURES A4, D1: what of a queue's life is in the journal, and what comes of it after a restart.

use std::sync::Arc;

use super::rig::{long, text};
use super::tape::Tape;
use crate::queue::Settle;

/// FEATURES D1: a crash at any moment repeats a dead letter at most.
#[test]
fn d1_dead_letters_enter_before_they_leave() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let dead = rig.declare("dead", &[]).id();
    let to_dead = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    let queue = rig.declare("q", &to_dead).id();
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let expected = [("publish", queue), ("publish", dead), ("settle", queue)];
    assert_eq!(*tape.story.lock(), expected);
}

/// FEATURES A4: priorities are found again.
#[test]
fn a4_priorities_survive_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &[("x-max-priority", long(9))]);
        for priority in [1, 3, 3, 2, 1] {
            rig.publish_with("", "q", &[b'0' + priority], |properties| {
                properties.priority = Some(priority);
            });
        }
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert_eq!((queue.view().ready, queue.view().ready_bytes), (5, 5));
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: String = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, "33211");
    assert!(seen.iter().all(|got| got.redelivered));
}

/// FEATURES A4: nobody need touch a queue for its messages to expire.
#[test]
fn a4_messages_expire_after_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &[("x-message-ttl", long(500))]);
        rig.publish("", "q", b"m");
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    rig.pass(499);
    assert_eq!(queue.view().ready, 1);
    rig.pass(1);
    assert_eq!(queue.view().ready, 0);
    assert!(tape.kept(queue.id()).is_empty());
}

/// FEATURES A4: a quorum queue keeps every message, whatever its delivery mode says.
#[test]
fn a4_quorum_queues_keep_transient_messages() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        tape.slow_down();
        for (name, kind) in [("q", "quorum"), ("c", "classic")] {
            rig.declare(name, &[("x-queue-type", text(kind))]);
            let published = rig.publish_with("", name, b"m", |properties| {
                properties.delivery_mode = Some(1);
            });
            assert_eq!(published.journaled > 0, name == "q");
        }
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert!(rig.get("c").is_none());
    assert_eq!(rig.get("q").expect("it was confirmed").body, "m");
    assert!(tape.kept(queue.id()).is_empty());
}
