//! FEATURES A4: dead letters of a queue that is to lose none, while somebody does not take them.

use std::sync::Arc;

use super::policies;
use super::rig::{Rig, long, text};
use super::tape::Tape;
use crate::field::{Table, Value};
use crate::key::Form;
use crate::limits::{LETTERS_MAX, SCHEDULED_MAX, TAKERS_MAX, UNDELIVERED_AGAIN_MS};
use crate::link::{BindQueue, DeclareExchange};
use crate::policy::Scope;
use crate::queue::Settle;
use crate::sink::Loss;

/// A queue that dead-letters at least once, to `exchange` under `dead`.
fn surely(exchange: &str, more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut arguments = vec![
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    arguments.extend(more.iter().cloned());
    arguments
}

fn bind(rig: &mut Rig, queue: &str) {
    let wish = BindQueue {
        queue,
        exchange: "amq.fanout",
        key: b"",
        form: Form::Dotted,
        arguments: Table::new(),
    };
    rig.link.queue_bind(&wish).expect("may be bound");
}

/// The headers of a message that is to wait.
fn delay(ms: i64) -> Vec<u8> {
    let mut headers = Table::new();
    headers.insert("x-delay", long(ms)).expect("a short name");
    let mut encoded = Vec::new();
    headers.encode(&mut encoded).expect("it is short");
    encoded
}

/// `amq.fanout` leads to an exchange that delays.
fn delays_behind_fanout(rig: &Rig) {
    let mut arguments = Table::new();
    let kind = arguments.insert("x-delayed-type", text("fanout"));
    kind.expect("a short name");
    let later = DeclareExchange {
        name: "later",
        kind: "x-delayed-message",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments,
    };
    rig.link.exchange_declare(&later).expect("may be declared");
    let bound = rig
        .link
        .exchange_bind("later", "amq.fanout", b"", Table::new());
    bound.expect("may be bound");
}

fn reject_all(rig: &mut Rig, queue: &str) {
    let reader = rig.consume(queue, |_| {});
    rig.settle(&reader, Settle::Reject);
    rig.cancel(&reader);
}

/// However many wait, all of them arrive.
#[test]
fn a4_any_number_of_dead_letters_waits() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &surely("", &[]));
    let count = 10_500;
    for _ in 0..count {
        rig.publish("", "q", b"m");
    }
    reject_all(&mut rig, "q");
    assert_eq!((queue.view().ready, queue.losses().total()), (0, 0));
    let dead = rig.declare("dead", &[]);
    rig.pass(2 * UNDELIVERED_AGAIN_MS);
    assert_eq!((dead.view().ready, queue.losses().total()), (count, 0));
}

/// Those that nobody takes are tried again each second, and keep no others from expiring.
#[test]
fn a4_dead_letters_that_wait_rest() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &surely("", &[("x-message-ttl", long(10))]));
    let count = 2 * LETTERS_MAX as u64 + 10;
    for _ in 0..count {
        rig.publish("", "q", b"m");
    }
    rig.pass(50);
    assert_eq!(queue.view().ready, 0);
    let until = rig.turn.now.after_ms(UNDELIVERED_AGAIN_MS * 10);
    let mut rings = 0;
    while let Some(at) = rig.broker.poll_timeout().filter(|at| *at <= until) {
        rig.turn.now = at.max(rig.turn.now);
        rig.broker.handle_timeout(&mut rig.turn);
        rings += 1;
        assert!(rings < 100, "it is busy for nothing");
    }
    rig.turn.now = until;
    let dead = rig.declare("dead", &[]);
    rig.pass(2 * UNDELIVERED_AGAIN_MS);
    assert_eq!((dead.view().ready, queue.losses().total()), (count, 0));
}

/// One queue refuses a dead letter: those that have it do not get it again.
#[test]
fn a4_dead_letters_are_tried_again_where_they_were_refused() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(1)),
        ("x-overflow", text("reject-publish")),
    ];
    rig.declare("full", &full);
    rig.publish("", "full", b"first");
    let roomy = rig.declare("roomy", &[]);
    bind(&mut rig, "full");
    bind(&mut rig, "roomy");
    let queue = rig.declare("q", &surely("amq.fanout", &[]));
    rig.publish("", "q", b"m");
    reject_all(&mut rig, "q");
    rig.pass(5 * UNDELIVERED_AGAIN_MS);
    assert_eq!(roomy.view().ready, 1, "it has it once");
    assert_eq!(rig.get("full").expect("it was full").body, "first");
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert_eq!(rig.get("full").expect("there is room").body, "m");
    rig.pass(5 * UNDELIVERED_AGAIN_MS);
    assert_eq!(roomy.view().ready, 1);
    assert_eq!(queue.losses().total(), 0);
}

/// If very many have it, who they are is not remembered.
#[test]
fn a4_takers_of_dead_letters_are_bounded() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(0)),
        ("x-overflow", text("reject-publish")),
    ];
    rig.declare("full", &full);
    bind(&mut rig, "full");
    let count = TAKERS_MAX + 1;
    let takers: Vec<_> = (0..count)
        .map(|number| {
            let name = format!("taker {number}");
            let queue = rig.declare(&name, &[]);
            bind(&mut rig, &name);
            queue
        })
        .collect();
    rig.declare("q", &surely("amq.fanout", &[]));
    rig.publish("", "q", b"m");
    reject_all(&mut rig, "q");
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert!(takers.iter().all(|queue| queue.view().ready == 2));
}

/// Some have it, and others cannot be found for a while: it is tried again where it is missing.
#[test]
fn a4_dead_letters_that_cannot_be_delayed_wait() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(1)),
        ("x-overflow", text("reject-publish")),
    ];
    rig.declare("full", &full);
    rig.publish("", "full", b"first");
    let roomy = rig.declare("roomy", &[]);
    bind(&mut rig, "full");
    bind(&mut rig, "roomy");
    let queue = rig.declare("q", &surely("amq.fanout", &[]));
    rig.publish_raw("", "q", b"m", &delay(10_000));
    reject_all(&mut rig, "q");
    assert_eq!(roomy.view().ready, 1);
    delays_behind_fanout(&rig);
    let vhost = Arc::clone(rig.link.vhost());
    let half = SCHEDULED_MAX / 2;
    vhost.hold_scheduled(half);
    rig.pass(2 * UNDELIVERED_AGAIN_MS);
    assert_eq!((roomy.view().ready, vhost.scheduled.count()), (1, half));
    assert_eq!(queue.losses().total(), 0);
    vhost.release_scheduled(1);
    rig.pass(UNDELIVERED_AGAIN_MS + 100);
    assert_eq!(
        vhost.scheduled.count(),
        half,
        "it waits where it is delayed"
    );
    vhost.hold_scheduled(1);
    assert_eq!(rig.get("full").expect("it was full").body, "first");
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert_eq!(rig.get("full").expect("there is room").body, "m");
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert_eq!((roomy.view().ready, queue.losses().total()), (1, 0));
}

/// A way that is too long for any message is not sought for ever.
#[test]
fn a4_dead_letters_whose_way_is_too_long_are_lost() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    for number in 0..3_000_u32 {
        let dice = number.wrapping_mul(2_654_435_761);
        let middle = (0..20).map(|bit| ["a", "*"][(dice >> bit & 1) as usize]);
        let middle: Vec<_> = middle.collect();
        let key = format!("#.{}.#.b{number}", middle.join("."));
        let wish = BindQueue {
            queue: "dead",
            exchange: "amq.topic",
            key: key.as_bytes(),
            form: Form::Dotted,
            arguments: Table::new(),
        };
        rig.link.queue_bind(&wish).expect("may be bound");
    }
    let key = vec!["a"; 127].join(".");
    let arguments = surely("amq.topic", &[("x-dead-letter-routing-key", text(&key))]);
    let queue = rig.declare("q", &arguments);
    for _ in 0..3 {
        rig.publish("", "q", b"m");
    }
    reject_all(&mut rig, "q");
    assert_eq!(queue.losses().of(Loss::DeadLetter), 3);
    rig.pass(5 * UNDELIVERED_AGAIN_MS);
    assert_eq!(queue.losses().of(Loss::DeadLetter), 3);
}

/// If the queue has no dead-letter exchange any more, what waits for it is lost, and counted.
#[test]
fn a4_dead_letters_that_wait_go_with_the_exchange() {
    let mut rig = Rig::new();
    let mut arguments = surely("", &[]);
    arguments.retain(|(name, _)| !name.starts_with("x-dead-letter-exchange"));
    arguments.retain(|(name, _)| !name.starts_with("x-dead-letter-routing-key"));
    let to = |exchange| [("dead-letter-exchange", text(exchange))];
    policies::set(&mut rig, Scope::Ordinary, "^q$", &to("nobody"));
    let queue = rig.declare("q", &arguments);
    rig.publish("", "q", b"1");
    rig.publish("", "q", b"2");
    reject_all(&mut rig, "q");
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert_eq!(queue.losses().total(), 0);
    policies::set(&mut rig, Scope::Ordinary, "^other$", &to("nobody"));
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert_eq!(queue.losses().of(Loss::DeadLetter), 2);
}

/// At most once: what one queue has taken is no loss.
#[test]
fn a4_a_dead_letter_that_one_takes_is_not_lost() {
    let mut rig = Rig::new();
    let full = [
        ("x-max-length", long(0)),
        ("x-overflow", text("reject-publish")),
    ];
    rig.declare("full", &full);
    let roomy = rig.declare("roomy", &[]);
    bind(&mut rig, "full");
    bind(&mut rig, "roomy");
    let queue = rig.declare("q", &[("x-dead-letter-exchange", text("amq.fanout"))]);
    rig.publish("", "q", b"m");
    reject_all(&mut rig, "q");
    rig.pass(5 * UNDELIVERED_AGAIN_MS);
    assert_eq!(roomy.view().ready, 1);
    assert_eq!(queue.losses().of(Loss::DeadLetter), 0);
}

/// RabbitMQ: those that wait are part of the queue's length.
#[test]
fn a4_dead_letters_that_wait_take_room() {
    let mut rig = Rig::new();
    rig.declare("q", &surely("", &[("x-max-length", long(2))]));
    rig.publish("", "q", b"1");
    rig.publish("", "q", b"2");
    reject_all(&mut rig, "q");
    assert!(rig.publish("", "q", b"3").rejected);
    rig.declare("dead", &[]);
    rig.pass(UNDELIVERED_AGAIN_MS);
    assert!(!rig.publish("", "q", b"3").rejected);
}

/// A restart does not give them back to those who rejected them.
#[test]
fn a4_dead_letters_wait_across_a_restart() {
    let tape = Arc::new(Tape::default());
    {
        let mut rig = Tape::rig(&tape);
        rig.declare("q", &surely("", &[]));
        for body in [b"1", b"2", b"3"] {
            rig.publish("", "q", body);
        }
        let reader = rig.consume_some("q", 1, |_| {});
        rig.settle(&reader, Settle::Reject);
        rig.cancel(&reader);
    }
    let mut rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert_eq!((queue.view().ready, queue.view().ready_bytes), (2, 2));
    let reader = rig.consume("q", |_| {});
    assert_eq!(reader.bodies(), ["2", "3"]);
    rig.settle(&reader, Settle::Ack);
    rig.declare("dead", &[]);
    rig.pass(UNDELIVERED_AGAIN_MS);
    let got = rig.get("dead").expect("it came");
    assert_eq!(got.body, "1");
    assert_eq!(got.deaths(), [("q".into(), "rejected".into(), 1)]);
    assert!(tape.kept(queue.id()).is_empty());
}

/// What waits on disk is read back, and is none of the queue's messages.
#[test]
fn a4_dead_letters_wait_on_disk() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = rig.declare("q", &surely("", &[("x-message-ttl", long(10))]));
    for body in [b"1", b"2", b"3"] {
        rig.publish("", "q", body);
    }
    rig.pass(10);
    queue.purge();
    tape.lose(queue.id(), 1);
    rig.declare("dead", &[]);
    rig.pass(UNDELIVERED_AGAIN_MS);
    let dead: Vec<_> = std::iter::from_fn(|| rig.get("dead")).collect();
    let bodies: Vec<_> = dead.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, ["1", "3"]);
    assert_eq!(queue.losses().of(Loss::Unreadable), 1);
    assert!(tape.kept(queue.id()).is_empty());
}
