//! The exchange that delays, on a clock that the tests set.

use super::{Publisher, bind, declare, declare_with, link, properties_of, table};
use crate::exchange::kind::ALTERNATE;
use crate::field::{Table, Value, ValueRef};
use crate::key::Form;
use crate::limits;
use crate::link::{DeclareQueue, Link};
use crate::properties::BasicProperties;
use crate::time::Time;
use crate::turn::Turn;

fn delaying(link: &Link, name: &str, kind: &str) {
    let arguments = table(&[("x-delayed-type", Value::from(kind))]);
    declare_with(link, name, "x-delayed-message", arguments).expect("declared");
}

fn publish(publisher: &mut Publisher, link: &Link, exchange: &str, delay: Value) -> u32 {
    let properties = properties_of(&[("x-delay", delay)]);
    let routed = publisher.publish(link, exchange, ("a.b", Form::Dotted), &properties);
    routed.expect("published")
}

fn at(publisher: &mut Publisher, link: &Link, ms: u64) {
    publisher.turn.begin(Time(ms));
    link.broker().handle_timeout(&mut publisher.turn);
}

/// Messages are published at 1 ms.
#[test]
fn a3_a_message_waits_as_long_as_it_says() {
    let link = link();
    let mut publisher = Publisher::default();
    delaying(&link, "later", "topic");
    let queue = declare(&link, "q");
    let got = || queue.losses().total();
    assert!(bind(&link, "q", "later", "a.*", Form::Dotted));
    assert_eq!(publish(&mut publisher, &link, "later", Value::I32(100)), 1);
    assert_eq!(publish(&mut publisher, &link, "later", Value::I64(50)), 1);
    assert_eq!((got(), link.broker().poll_timeout()), (0, Some(Time(51))));
    for (ms, expected) in [(50, 0), (51, 1), (100, 1), (101, 2), (500, 2)] {
        at(&mut publisher, &link, ms);
        assert_eq!(got(), expected, "at {ms}");
    }
    assert_eq!(link.broker().poll_timeout(), None);
}

#[test]
fn a3_what_is_no_delay_goes_at_once() {
    let link = link();
    let mut publisher = Publisher::default();
    delaying(&link, "later", "direct");
    declare(&link, "q");
    assert!(bind(&link, "q", "later", "a.b", Form::Dotted));
    let delays = |delay: &Value| {
        let mut publisher = Publisher::default();
        publish(&mut publisher, &link, "later", delay.clone());
        let waits = link.broker().poll_timeout().is_some();
        at(&mut publisher, &link, u64::MAX);
        waits
    };
    for (delay, expected) in [
        (Value::I32(0), false),
        (Value::I32(-5), false),
        (Value::Void, false),
        (Value::from("soon"), false),
        (Value::I64(4_294_967_296), false),
        (Value::I64(4_294_967_295), true),
        (Value::U8(1), true),
        (Value::from("70"), true),
        (Value::F64(7.9), true),
    ] {
        assert_eq!(delays(&delay), expected, "{delay:?}");
    }
    assert_eq!(publisher.routed(&link, "later", "a.b", Form::Dotted), 1);
    assert_eq!(link.broker().poll_timeout(), None);
}

/// Consumers see the delay as a number below zero, and everything else as it was published.
#[test]
fn a3_a_delayed_message_is_what_it_was() {
    let link = link();
    let mut publisher = Publisher::default();
    delaying(&link, "later", "fanout");
    delaying(&link, "again", "fanout");
    let wish = DeclareQueue {
        name: "q",
        ..DeclareQueue::default()
    };
    link.queue_declare(&mut publisher.turn, &wish)
        .expect("declared");
    // The second on the way does not delay it again.
    link.exchange_bind("again", "later", b"", Table::new())
        .expect("bound");
    assert!(bind(&link, "q", "again", "", Form::Dotted));
    let properties = properties_of(&[("a", Value::from("b")), ("x-delay", Value::I32(100))]);
    let routed = publisher.publish(&link, "later", ("key", Form::Dotted), &properties);
    assert_eq!(routed, Ok(1));
    at(&mut publisher, &link, 101);
    let got = link.get(&mut publisher.turn, "q", true).expect("allowed");
    let message = got.expect("it has come").taken.message;
    let view = message.view();
    assert_eq!((view.exchange, view.key), ("later", &b"key"[..]));
    let headers = BasicProperties::parse(view.properties)
        .expect("legal")
        .headers;
    let headers = headers.expect("there are some");
    assert_eq!(headers.lookup("a"), Some(ValueRef::LongString(b"b")));
    assert_eq!(headers.lookup("x-delay"), Some(ValueRef::I32(-100)));
}

/// It matches when its time has come: what was bound meanwhile gets it, what was deleted does not,
/// and an alternate only what matches nothing then.
#[test]
fn a3_a_delayed_message_matches_when_its_time_has_come() {
    let link = link();
    let mut publisher = Publisher::default();
    let arguments = table(&[
        ("x-delayed-type", Value::from("direct")),
        (ALTERNATE, Value::from("amq.fanout")),
    ]);
    declare_with(&link, "later", "x-delayed-message", arguments).expect("declared");
    let queues = ["q", "spare"].map(|name| declare(&link, name));
    let got = || queues.each_ref().map(|queue| queue.losses().total());
    assert!(bind(&link, "spare", "amq.fanout", "", Form::Dotted));
    for delay in [10, 20, 30] {
        assert_eq!(
            publish(&mut publisher, &link, "later", Value::I32(delay)),
            1
        );
    }
    assert_eq!(got(), [0, 0]);
    at(&mut publisher, &link, 11);
    assert_eq!(got(), [0, 1]);
    assert!(bind(&link, "q", "later", "a.b", Form::Dotted));
    at(&mut publisher, &link, 21);
    assert_eq!(got(), [1, 1]);
    link.exchange_delete("later", false).expect("deleted");
    at(&mut publisher, &link, 31);
    assert_eq!(got(), [1, 1]);
}

/// What waits at an exchange goes with it: from memory, from the journal, and out of the count.
#[test]
fn a3_what_waits_goes_with_its_exchange() {
    let link = link();
    let mut publisher = Publisher::default();
    let queue = declare(&link, "q");
    for name in ["gone", "stays"] {
        delaying(&link, name, "fanout");
        assert!(bind(&link, "q", name, "", Form::Dotted));
    }
    let year = || Value::I64(4_000_000_000);
    for _ in 0..10_000 {
        publish(&mut publisher, &link, "gone", year());
    }
    publish(&mut publisher, &link, "stays", Value::I32(1_000));
    let vhost = link.broker().vhost("/").expect("the default");
    let counts = || {
        let all = link.broker().timers.scheduled().count();
        (vhost.scheduled.count(), all)
    };
    assert_eq!(counts(), (10_001, 10_001));
    link.exchange_delete("gone", false).expect("deleted");
    assert_eq!(counts(), (5_905, 5_905), "a part at a time");
    for ms in 2..10 {
        at(&mut publisher, &link, ms);
    }
    assert_eq!(counts(), (1, 1));
    assert_eq!(link.broker().poll_timeout(), Some(Time(1_001)));
    // One of the same name has nothing of it.
    delaying(&link, "gone", "fanout");
    assert!(bind(&link, "q", "gone", "", Form::Dotted));
    at(&mut publisher, &link, u64::MAX);
    assert_eq!((queue.losses().total(), counts()), (1, (0, 0)));
    assert_eq!(link.broker().poll_timeout(), None);
}

/// A vhost leaves room for others, however much it delays.
#[test]
fn a3_no_vhost_takes_all_that_may_be_delayed() {
    let one = link();
    let broker = one.broker();
    broker.add_vhost("other").expect("made");
    let other = broker.owner_link(&broker.vhost("other").expect("made"));
    let mut publisher = Publisher::default();
    for link in [&one, &other] {
        delaying(link, "later", "fanout");
    }
    let half = limits::SCHEDULED_MAX / 2;
    let vhost = broker.vhost("/").expect("the default");
    vhost.hold_scheduled(half - 1);
    let mut try_publish = |link: &Link| {
        let properties = properties_of(&[("x-delay", Value::I32(100))]);
        publisher.publish(link, "later", ("k", Form::Dotted), &properties)
    };
    assert_eq!(try_publish(&one), Ok(1));
    let refused = try_publish(&one).expect_err("that is half of all");
    assert_eq!(
        (refused.code.number(), &*refused.text),
        (
            506,
            "too many messages are delayed: of 1000000 for the node, a vhost has no more than are \
             free"
        )
    );
    assert_eq!(try_publish(&other), Ok(1), "others still have room");
    one.exchange_delete("later", false).expect("deleted");
    delaying(&one, "later", "fanout");
    assert_eq!(try_publish(&one), Ok(1), "what is deleted counts no more");
}

/// What is kept back for a transaction has its room from when it is routed: no commit and no other
/// thread goes beyond what may be delayed.
#[test]
fn a3_what_is_kept_back_takes_its_room() {
    let link = link();
    delaying(&link, "later", "fanout");
    let vhost = link.vhost();
    let half = limits::SCHEDULED_MAX / 2;
    vhost.hold_scheduled(half - 2);
    let properties = properties_of(&[("x-delay", Value::I32(100))]);
    let message = super::message("later", ("k", Form::Dotted), &properties);
    let mut publisher = Publisher::default();
    let mut keep = || {
        let Publisher { turn, memo } = &mut publisher;
        link.route_kept_back(turn, memo, &message, &[])
    };
    let kept = [keep(), keep()].map(|kept| kept.expect("there is room for two"));
    let refused = keep().expect_err("there is none for more");
    assert_eq!(refused.code.number(), 506);
    assert!(refused.text.starts_with("too many messages are delayed"));
    // One is given up, another one takes its place.
    let [one, two] = kept;
    drop(one);
    let one = keep().expect("there is room again");
    assert!(keep().is_err());
    for kept in [one, two] {
        let published = link.publish_to(&mut Turn::new(), &message, &kept);
        assert_eq!((published.routed, published.rejected), (1, false));
    }
    assert!(keep().is_err(), "both wait");
    assert_eq!(vhost.scheduled.count(), half);
    // Of many who try at the same time none goes beyond it.
    vhost.release_scheduled(60);
    let publish = || {
        let mut publisher = Publisher::default();
        let all = (0..50).map(|_| {
            let sent = publisher.publish(&link, "later", ("k", Form::Dotted), &properties);
            usize::from(sent.is_ok())
        });
        all.sum::<usize>()
    };
    let sent: usize = std::thread::scope(|scope| {
        let threads = [0; 4].map(|_| scope.spawn(publish));
        let sent = threads.map(|thread| thread.join().expect("it ends"));
        sent.iter().sum()
    });
    assert!(sent > 0 && sent <= 60, "{sent} were taken");
    assert_eq!(vhost.scheduled.count(), half - 60 + sent);
}

/// Whoever may not publish leaves nothing to wait.
#[test]
fn a7_only_who_may_publish_delays() {
    let owner = link();
    delaying(&owner, "later", "direct");
    let user = super::user(&owner, "anna", ["", "^other$", ""]);
    let properties = properties_of(&[("x-delay", Value::I32(10))]);
    let mut publisher = Publisher::default();
    let refused = publisher.publish(&user, "later", ("k", Form::Dotted), &properties);
    assert!(refused.is_err() && owner.broker().poll_timeout().is_none());
}

/// A dead-letter exchange may delay: the message is with it, not lost.
#[test]
fn a4_dead_letters_may_wait() {
    let link = link();
    let mut publisher = Publisher::default();
    delaying(&link, "later", "fanout");
    let last = declare(&link, "last");
    assert!(bind(&link, "last", "later", "", Form::Dotted));
    let full = table(&[
        ("x-max-length", Value::I32(0)),
        ("x-dead-letter-exchange", Value::from("later")),
    ]);
    let wish = DeclareQueue {
        name: "full",
        properties: crate::queue::QueueProperties {
            arguments: full,
            ..Default::default()
        },
        ..DeclareQueue::default()
    };
    let declared = link.queue_declare(&mut publisher.turn, &wish);
    let full = declared.expect("declared").queue;
    publisher.turn.begin(Time(1));
    let properties = properties_of(&[("x-delay", Value::I32(10))]);
    let routed = publisher.publish(&link, "", ("full", Form::Dotted), &properties);
    assert_eq!(routed, Ok(1));
    let lost = || (full.losses().total(), last.losses().total());
    assert_eq!(
        (lost(), link.broker().poll_timeout()),
        ((0, 0), Some(Time(11)))
    );
    at(&mut publisher, &link, 11);
    assert_eq!(lost(), (0, 1));
}
