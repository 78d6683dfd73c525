//! FEATURES A4: dead letters that multiply, or are many, leave time for others.

use std::sync::Arc;

use super::rig::{Rig, long, text};
use super::tape::Tape;
use crate::alarms::Resource;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::limits::{
    LETTERS_ADDED_MANY_MAX, LETTERS_ADDED_MAX, LETTERS_HELD_BYTES_MAX, LETTERS_HELD_MAX,
    LETTERS_MAX, LETTERS_REST_MS,
};
use crate::link::BindQueue;
use crate::queue::{Queue, Settle};
use crate::sink::Loss;
use crate::time::Time;

fn to(exchange: &str, more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let exchange = ("x-dead-letter-exchange", text(exchange));
    let key = ("x-dead-letter-routing-key", text("dead"));
    [exchange, key].into_iter().chain(more.to_vec()).collect()
}

/// A queue behind `amq.fanout`.
fn fan(rig: &mut Rig, name: &str, arguments: &[(&str, Value)]) -> Arc<Queue> {
    let queue = rig.declare(name, arguments);
    let wish = BindQueue {
        queue: name,
        exchange: "amq.fanout",
        key: b"",
        form: Form::Dotted,
        arguments: Table::new(),
    };
    rig.link.queue_bind(&wish).expect("may be bound");
    queue
}

/// How many dead letters wait in lines.
fn lined_up(rig: &Rig) -> usize {
    rig.link.vhost().door().letters.len()
}

/// The turn of another connection.
fn next_turn(rig: &mut Rig) {
    rig.turn.ring();
    rig.turn.begin(rig.turn.now);
}

/// Seven queues that give everything up at once, to each other: a message takes each of the 720
/// ways through them, in 1,957 dead letters.
#[test]
fn a4_dead_letters_that_multiply_leave_time_for_others() {
    let mut rig = Rig::new();
    let at_once = [
        ("x-message-ttl", long(0)),
        ("x-dead-letter-exchange", text("amq.fanout")),
    ];
    let queues: Vec<_> = (0..7)
        .map(|number| fan(&mut rig, &format!("q{number}"), &at_once))
        .collect();
    let other = rig.declare("other", &[]);
    next_turn(&mut rig);
    rig.publish("", "q0", b"m");
    assert!(rig.turn.is_spent());
    assert!(rig.turn.offered() <= 7 * LETTERS_MAX + 1, "and no more");
    next_turn(&mut rig);
    rig.publish("", "other", b"m");
    assert!(!rig.turn.is_spent());
    assert_eq!(other.view().ready, 1);
    let lost = || -> u64 {
        let of = |queue: &Arc<Queue>| queue.losses().of(Loss::DeadLetter);
        queues.iter().map(of).sum()
    };
    assert!(lost() < 720);
    rig.pass(50);
    assert_eq!(lost(), 720, "each way has come to its end");
    assert!(queues.iter().all(|queue| queue.view().ready == 0));
}

/// However many are rejected at once: those of one queue arrive in order, and those of another do
/// not wait for them.
#[test]
fn a4_rejected_messages_wait_in_a_line_for_each_queue() {
    let mut rig = Rig::new();
    let dead = rig.declare("dead", &[]);
    let queue = rig.declare("q", &to("", &[]));
    rig.declare("other", &to("", &[]));
    let count = 2 * LETTERS_MAX as u64 + 10;
    for number in 0..count {
        rig.publish("", "q", number.to_string().as_bytes());
    }
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    assert!(rig.turn.is_spent());
    assert_eq!(dead.view().ready, LETTERS_MAX as u64);
    next_turn(&mut rig);
    rig.publish("", "other", b"other");
    let another = rig.consume("other", |_| {});
    rig.settle(&another, Settle::Reject);
    next_turn(&mut rig);
    rig.publish("", "q", b"last");
    rig.settle(&reader, Settle::Reject);
    assert!(rig.turn.is_spent(), "who rejects more waits for the others");
    assert_eq!(dead.view().ready, LETTERS_MAX as u64 + 1);
    rig.pass(5);
    let bodies = std::iter::from_fn(|| rig.get("dead")).map(|got| got.body);
    let bodies: Vec<_> = bodies.filter(|body| body != "other").collect();
    let mut expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    expected.push("last".to_owned());
    assert_eq!(bodies, expected);
    assert_eq!(queue.losses().total(), 0);
}

/// What waits is nobody's if the queue's vhost goes, or the broker stops.
#[test]
fn a4_dead_letters_that_wait_go_with_the_broker() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    let queue = rig.declare("q", &to("", &[]));
    for _ in 0..LETTERS_MAX + 10 {
        rig.publish("", "q", b"m");
    }
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    assert_eq!(lined_up(&rig), 10);
    let held = Arc::strong_count(&queue);
    rig.broker.stop();
    assert_eq!(lined_up(&rig), 0);
    assert_eq!(Arc::strong_count(&queue), held - 10);
    next_turn(&mut rig);
    rig.pass(50);
}

/// A fetch does not look behind any number of messages that have expired.
#[test]
fn a4_a_fetch_hands_on_some_dead_letters() {
    let mut rig = Rig::new();
    let dead = rig.declare("dead", &[]);
    rig.declare("q", &to("", &[]));
    let count = (LETTERS_HELD_MAX + 3 * LETTERS_MAX) as u64;
    for _ in 0..count {
        rig.publish_with("", "q", b"m", |properties| {
            properties.expiration = Some(b"10");
        });
    }
    rig.publish("", "q", b"for ever");
    // Nobody has looked at the time yet.
    rig.turn.now = rig.turn.now.after_ms(10);
    assert!(rig.get("q").is_none());
    let held = lined_up(&rig);
    assert!((LETTERS_HELD_MAX..LETTERS_HELD_MAX + LETTERS_MAX).contains(&held));
    rig.pass(50);
    assert_eq!(dead.view().ready, count);
    assert_eq!(rig.get("q").expect("it is there").body, "for ever");
}

/// While an alarm is set, dead letters that go to many queues are few; those that go to one are
/// not, for they add nothing, and what goes nowhere is not kept waiting either.
#[test]
fn a4_dead_letters_multiply_slowly_while_an_alarm_is_set() {
    let mut rig = Rig::new();
    let copies: Vec<_> = (0..5)
        .map(|number| fan(&mut rig, &format!("copy{number}"), &[]))
        .collect();
    let dead = rig.declare("dead", &[]);
    let many = rig.declare("many", &to("amq.fanout", &[("x-message-ttl", long(5))]));
    rig.declare("one", &to("", &[("x-message-ttl", long(10))]));
    let nowhere = rig.declare("nowhere", &[("x-message-ttl", long(10))]);
    for _ in 0..100 {
        rig.publish("", "many", b"m");
        rig.publish("", "one", b"m");
        rig.publish("", "nowhere", b"m");
    }
    rig.broker.alarms().set(Resource::Memory, true);
    rig.pass(5);
    let few = (LETTERS_ADDED_MAX / 4) as u64;
    assert_eq!(copies[4].view().ready, few);
    let left = many.view().ready + lined_up(&rig) as u64;
    assert_eq!(left, 100 - few);
    rig.pass(6);
    assert_eq!((dead.view().ready, nowhere.view().ready), (100, 0));
    let mut looks = 0;
    let until = rig.turn.now.after_ms(LETTERS_REST_MS - 6);
    while let Some(at) = rig.broker.poll_timeout().filter(|at| *at < until) {
        rig.turn.now = Time(at.0.max(rig.turn.now.0));
        rig.broker.handle_timeout(&mut rig.turn);
        looks += 1;
    }
    assert!(looks < 10, "{looks} looks for nothing");
    assert_eq!(copies[4].view().ready, few);
    rig.pass(LETTERS_REST_MS);
    assert_eq!(copies[4].view().ready, 2 * few);
    rig.broker.alarms().set(Resource::Memory, false);
    rig.pass(LETTERS_REST_MS);
    assert!(copies.iter().all(|copy| copy.view().ready == 100));
    assert_eq!(many.losses().total(), 0);
}

/// However many dead letters of one queue wait while an alarm is set: other queues go on, whether
/// they dead-letter to one queue or not at all, and those that wait are worked off.
#[test]
fn a4_dead_letters_that_rest_hold_up_no_other_queue() {
    let mut rig = Rig::new();
    let copies = [fan(&mut rig, "copy1", &[]), fan(&mut rig, "copy2", &[])];
    rig.declare("many", &to("amq.fanout", &[]));
    rig.broker.alarms().set(Resource::Disk, true);
    let count = LETTERS_HELD_MAX + 3 * LETTERS_MAX;
    for _ in 0..count {
        rig.publish("", "many", b"m");
    }
    let reader = rig.consume("many", |_| {});
    rig.settle(&reader, Settle::Reject);
    rig.turn.ring();
    rig.pass(50);
    assert_eq!(copies[0].view().ready, LETTERS_ADDED_MAX as u64);
    let dead = rig.declare("dead", &[]);
    for (name, arguments) in [("plain", vec![]), ("other", to("", &[]))] {
        rig.declare(name, &arguments);
        for (body, ttl) in [(&b"short"[..], Some(&b"10"[..])), (b"long", None)] {
            for _ in 0..2 {
                rig.publish_with("", name, body, |properties| properties.expiration = ttl);
            }
        }
        // Nobody has looked at the time yet.
        rig.turn.begin(rig.turn.now.after_ms(10));
        assert_eq!(rig.get(name).expect("it lasts").body, "long");
        assert_eq!(rig.consume(name, |_| {}).bodies(), ["long"]);
    }
    rig.turn.ring();
    rig.pass(5);
    assert_eq!(dead.view().ready, 2);
    // As many again in each rest while many wait.
    let before = copies[0].view().ready;
    rig.pass(10 * LETTERS_REST_MS);
    let more = copies[0].view().ready - before;
    assert!(
        more >= 9 * LETTERS_ADDED_MANY_MAX as u64,
        "{more} are worked off"
    );
}

/// What is on disk stays there when it is rejected, and is read on its turn: in order, once.
#[test]
fn a4_rejected_messages_do_not_come_into_memory() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let copies = [fan(&mut rig, "copy1", &[]), fan(&mut rig, "copy2", &[])];
    let queue = rig.declare("q", &to("amq.fanout", &[]));
    let size = LETTERS_HELD_BYTES_MAX as usize / 32;
    let count = 80;
    for number in 0..count {
        rig.publish("", "q", &vec![number; size]);
    }
    rig.broker.alarms().set(Resource::Disk, true);
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let few = LETTERS_ADDED_MAX;
    assert_eq!(lined_up(&rig), usize::from(count) - few);
    let bytes = rig.link.vhost().door().letters.bytes();
    assert!(bytes > LETTERS_HELD_BYTES_MAX / 2 && bytes <= LETTERS_HELD_BYTES_MAX);
    // One of them is lost meanwhile.
    tape.lose(queue.id(), 70);
    rig.broker.alarms().set(Resource::Disk, false);
    rig.pass(LETTERS_REST_MS);
    for copy in &copies {
        let got = std::iter::from_fn(|| rig.get(copy.name()));
        let got: Vec<u8> = got.map(|got| got.body.as_bytes()[0]).collect();
        let expected: Vec<u8> = (0..count).filter(|number| *number != 70).collect();
        assert_eq!(got, expected);
    }
    assert_eq!(queue.losses().of(Loss::Unreadable), 1);
    assert!(tape.kept(queue.id()).is_empty());
}

/// Who rejects all that it gets does not get it faster than it is dead-lettered.
#[test]
fn a4_a_queue_with_many_dead_letters_gives_no_more() {
    let mut rig = Rig::new();
    let copies = [fan(&mut rig, "copy1", &[]), fan(&mut rig, "copy2", &[])];
    let queue = rig.declare("q", &to("amq.fanout", &[]));
    rig.broker.alarms().set(Resource::Memory, true);
    let count = LETTERS_HELD_MAX + 3 * LETTERS_MAX;
    for number in 0..count {
        rig.publish("", "q", number.to_string().as_bytes());
    }
    let prefetch = 1_000;
    let reader = rig.consume_some("q", prefetch, |_| {});
    while !reader.got().is_empty() {
        rig.settle(&reader, Settle::Reject);
        next_turn(&mut rig);
        rig.credit(&reader, prefetch);
    }
    assert!(lined_up(&rig) < LETTERS_HELD_MAX + prefetch as usize);
    assert!(queue.view().ready > LETTERS_MAX as u64);
    assert!(rig.get("q").is_none(), "nor is more fetched");
    rig.publish("", "q", b"last");
    rig.broker.alarms().set(Resource::Memory, false);
    rig.pass(2 * LETTERS_REST_MS);
    rig.credit(&reader, 2 * count as u64);
    assert_eq!(queue.view().ready, 0);
    let got = reader.bodies();
    assert_eq!(got.last().map(String::as_str), Some("last"));
    let all = copies[0].view().ready as usize + got.len();
    assert_eq!((all, queue.losses().total()), (count + 1, 0));
}

/// Full queues that refuse each other's dead letters: they are bounded in memory, those beyond are
/// lost and counted, and no alarm keeps them there.
#[test]
fn a4_dead_letters_of_refused_messages_are_bounded() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(1)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("amq.fanout")),
    ];
    let count = 24;
    let queues: Vec<_> = (0..count)
        .map(|number| fan(&mut rig, &format!("q{number}"), &full))
        .collect();
    rig.publish("amq.fanout", "", b"first");
    rig.broker.alarms().set(Resource::Memory, true);
    let body = vec![0; LETTERS_HELD_BYTES_MAX as usize / 400];
    let (mut most, mut looks) = (0, 0);
    for _ in 0..3 {
        next_turn(&mut rig);
        rig.publish("amq.fanout", "", &body);
    }
    while let Some(at) = rig.broker.poll_timeout() {
        most = most.max(rig.link.vhost().door().letters.bytes());
        rig.turn.now = at.max(rig.turn.now);
        rig.broker.handle_timeout(&mut rig.turn);
        looks += 1;
        assert!(looks < 50, "they come to an end");
    }
    assert_eq!(lined_up(&rig), 0);
    assert!(most > LETTERS_HELD_BYTES_MAX / 2 && most <= LETTERS_HELD_BYTES_MAX);
    let of = |queue: &Arc<Queue>| queue.losses().of(Loss::DeadLetter);
    assert!(queues.iter().all(|queue| of(queue) > 0));
    // What a turn publishes goes to the other queues, and once more what had room then.
    let lost: u64 = queues.iter().map(of).sum();
    assert!(lost < 2 * count * LETTERS_MAX as u64, "{lost} are lost");
    assert!(queues.iter().all(|queue| queue.view().ready == 1));
}
