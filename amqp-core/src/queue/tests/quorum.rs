//! FEATURES A4: what quorum queues do otherwise than classic ones.

use std::sync::Arc;

use super::rig::{Reader, Rig, text};
use super::tape::Tape;
use crate::field::Value;
use crate::queue::Settle;

fn quorum(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let kind = ("x-queue-type", text("quorum"));
    std::iter::once(kind).chain(more.iter().cloned()).collect()
}

fn publish_all(rig: &mut Rig) {
    for (priority, body) in [
        (None, "none"),
        (Some(0), "0"),
        (Some(31), "31"),
        (Some(5), "5"),
        (Some(200), "200"),
        (Some(4), "4"),
        (Some(3), "3"),
        (None, "none again"),
    ] {
        rig.publish_with("", "q", body.as_bytes(), |properties| {
            properties.priority = priority;
        });
    }
}

const IN_ORDER: [&str; 8] = ["31", "200", "5", "none", "4", "none again", "3", "0"];

/// RabbitMQ 4.3: 0 to 31, the highest first, and 4 without one.
#[test]
fn a4_quorum_queues_have_priorities() {
    let mut rig = Rig::new();
    rig.declare("q", &quorum(&[]));
    publish_all(&mut rig);
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: Vec<_> = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, IN_ORDER);
    // What comes back goes to its place.
    publish_all(&mut rig);
    let reader = rig.consume("q", |_| {});
    assert_eq!(reader.bodies(), IN_ORDER);
    rig.cancel(&reader);
    rig.settle(&reader, Settle::Requeue);
    assert_eq!(rig.consume("q", |_| {}).bodies(), IN_ORDER);
}

/// They are found again, and nothing is read before somebody asks.
#[test]
fn a4_priorities_of_quorum_queues_survive_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &quorum(&[]));
        publish_all(&mut rig);
    }
    let before = tape.reads.lock().len();
    let mut rig = Tape::rig(&tape);
    let shelves = tape.reads.lock().len() - before;
    assert_eq!(shelves, 0, "no body is read");
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: Vec<_> = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, IN_ORDER);
}

/// What has expired goes from the head, also while a lower priority waits in memory and the head is
/// on disk.
#[test]
fn a4_a_lower_priority_keeps_no_expired_ones() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &quorum(&[]));
        for _ in 0..5 {
            rig.publish_with("", "q", b"m", |properties| {
                properties.expiration = Some(b"8000");
            });
        }
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    rig.publish_with("", "q", b"low", |properties| properties.priority = Some(2));
    rig.pass(7_999);
    assert_eq!(queue.view().ready, 6);
    rig.pass(2);
    assert_eq!(queue.view().ready, 1);
    assert_eq!(rig.get("q").map(|got| got.body), Some("low".to_owned()));
}

/// A queue with a single active consumer, and consumers of it.
fn single(rig: &mut Rig, kind: &str) {
    let arguments = [
        ("x-queue-type", text(kind)),
        ("x-single-active-consumer", Value::Bool(true)),
    ];
    rig.declare("q", &arguments);
}

fn join(rig: &mut Rig, priority: i32) -> Arc<Reader> {
    rig.consume("q", |consumer| consumer.priority = priority)
}

fn active(rig: &Rig) -> i32 {
    let queue = rig.link.vhost().queue("q").expect("declared");
    let views = queue.consumers();
    let active: Vec<_> = views.iter().filter(|view| view.active).collect();
    assert_eq!(active.len(), 1);
    active[0].priority
}

/// RabbitMQ 4: the one with the highest priority, as soon as nothing is out.
#[test]
fn a4_a_higher_priority_takes_over_in_quorum_queues() {
    let mut rig = Rig::new();
    single(&mut rig, "quorum");
    let low = join(&mut rig, 0);
    let high = join(&mut rig, 1);
    assert_eq!(active(&rig), 1, "nothing was out");
    rig.publish("", "q", b"one");
    assert_eq!((low.bodies().len(), high.bodies().len()), (0, 1));
    // It has something out: it gets nothing more, nor does anybody else.
    let higher = join(&mut rig, 2);
    let equal = join(&mut rig, 2);
    rig.publish("", "q", b"two");
    assert_eq!((active(&rig), high.bodies().len()), (1, 1));
    assert!(higher.bodies().is_empty());
    rig.settle(&high, Settle::Ack);
    assert_eq!((active(&rig), higher.bodies()), (2, vec!["two".into()]));
    assert!(equal.bodies().is_empty());
}

/// Also for what others have had: the active one may have nothing.
#[test]
fn a4_who_takes_over_waits_for_all_that_is_out() {
    let mut rig = Rig::new();
    single(&mut rig, "quorum");
    let gone = join(&mut rig, 0);
    rig.publish("", "q", b"one");
    let low = join(&mut rig, 0);
    rig.cancel(&gone);
    join(&mut rig, 1);
    assert_eq!((active(&rig), low.bodies().len()), (0, 0));
    rig.settle(&gone, Settle::Ack);
    assert_eq!(active(&rig), 1);
}

/// What is put back goes to the one that takes over.
#[test]
fn a4_who_takes_over_gets_what_is_put_back() {
    let mut rig = Rig::new();
    single(&mut rig, "quorum");
    let low = join(&mut rig, 0);
    rig.publish("", "q", b"one");
    let high = join(&mut rig, 3);
    rig.settle(&low, Settle::Requeue);
    assert_eq!((active(&rig), high.bodies()), (3, vec!["one".into()]));
    assert!(low.bodies().is_empty());
}

/// Who was to take over leaves: the active one goes on.
#[test]
fn a4_the_active_one_goes_on_when_the_higher_one_leaves() {
    let mut rig = Rig::new();
    single(&mut rig, "quorum");
    let low = join(&mut rig, 0);
    rig.publish("", "q", b"one");
    let high = join(&mut rig, 1);
    rig.publish("", "q", b"two");
    assert_eq!(low.bodies(), ["one"]);
    rig.cancel(&high);
    assert_eq!((active(&rig), low.bodies().len()), (0, 2));
    let higher = join(&mut rig, 2);
    rig.cancel(&low);
    rig.publish("", "q", b"three");
    assert_eq!((active(&rig), higher.bodies().len()), (2, 1));
}

/// Who was to take over leaves: of the others the highest does.
#[test]
fn a4_the_next_higher_one_takes_over() {
    let mut rig = Rig::new();
    single(&mut rig, "quorum");
    let low = join(&mut rig, 0);
    rig.publish("", "q", b"one");
    let [middle, high] = [1, 2].map(|priority| join(&mut rig, priority));
    rig.cancel(&high);
    rig.publish("", "q", b"two");
    assert_eq!((active(&rig), low.bodies().len()), (0, 1));
    rig.settle(&low, Settle::Ack);
    assert_eq!((active(&rig), middle.bodies()), (1, vec!["two".into()]));
}

/// A classic queue has its first consumer until that leaves.
#[test]
fn a4_nobody_takes_over_in_classic_queues() {
    let mut rig = Rig::new();
    single(&mut rig, "classic");
    let low = join(&mut rig, 0);
    let high = join(&mut rig, 1);
    rig.publish("", "q", b"one");
    assert_eq!((low.bodies().len(), high.bodies().len()), (1, 0));
    rig.settle(&low, Settle::Ack);
    assert_eq!(active(&rig), 0);
}
