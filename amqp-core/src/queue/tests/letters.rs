//! FEATURES A4: dead letters that multiply, or are many, leave time for others.

use std::sync::Arc;

use super::rig::{Rig, long, text};
use crate::alarms::Resource;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::limits::{LETTERS_ADDED_MAX, LETTERS_HELD_MAX, LETTERS_MAX, LETTERS_REST_MS};
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
/// not, for they add nothing.
#[test]
fn a4_dead_letters_multiply_slowly_while_an_alarm_is_set() {
    let mut rig = Rig::new();
    let copies: Vec<_> = (0..5)
        .map(|number| fan(&mut rig, &format!("copy{number}"), &[]))
        .collect();
    let dead = rig.declare("dead", &[]);
    let many = rig.declare("many", &to("amq.fanout", &[("x-message-ttl", long(10))]));
    rig.declare("one", &to("", &[("x-message-ttl", long(5))]));
    for _ in 0..100 {
        rig.publish("", "many", b"m");
        rig.publish("", "one", b"m");
    }
    rig.broker.alarms().set(Resource::Memory, true);
    rig.pass(10);
    assert_eq!(dead.view().ready, 100);
    let few = (LETTERS_ADDED_MAX / 4) as u64;
    assert_eq!(copies[4].view().ready, few);
    let left = many.view().ready + lined_up(&rig) as u64;
    assert_eq!(left, 100 - few);
    let mut looks = 0;
    let until = rig.turn.now.after_ms(LETTERS_REST_MS);
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
