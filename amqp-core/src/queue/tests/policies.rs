//! FEATURES A6: policies take effect at once, on queues that are there and on new ones; limits.

use std::sync::Arc;

use super::restart::Paper;
use super::rig::{Rig, long, text};
use crate::field::{Table, Value};
use crate::key::Form;
use crate::link::BindQueue;
use crate::policy::{PolicyWish, Scope};
use crate::queue::{Queue, QueueKind, Settle};
use crate::quota::{Limited, Limits};
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::sink::Loss;
use crate::vhost::Metadata;

fn table(entries: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    for (name, value) in entries {
        table.insert(name, value.clone()).expect("a short name");
    }
    table
}

pub(super) fn set(rig: &mut Rig, scope: Scope, pattern: &str, definition: &[(&str, Value)]) {
    let wish = PolicyWish {
        name: "p",
        pattern,
        apply_to: "all",
        priority: 0,
        definition: table(definition),
    };
    let broker = Arc::clone(&rig.broker);
    let set = broker.set_policy(&mut rig.turn, "/", scope, wish);
    set.expect("is fine");
    rig.turn.ring();
}

fn clear(rig: &mut Rig, scope: Scope) {
    let broker = Arc::clone(&rig.broker);
    let cleared = broker.clear_policy(&mut rig.turn, "/", scope, "p");
    cleared.expect("it is there");
    rig.turn.ring();
}

fn names(queue: &Queue) -> (Option<String>, Option<String>) {
    let applied = queue.view().applied;
    let name = |policy: Option<Arc<crate::policy::Policy>>| policy.map(|p| p.name().to_owned());
    (name(applied.policy), name(applied.operator))
}

#[test]
fn a6_lengths_apply_to_what_waits() {
    let mut rig = Rig::new();
    rig.declare("dead", &[]);
    let queue = rig.declare("q", &[]);
    let other = rig.declare("other", &[]);
    for body in ["1", "2", "3", "4"] {
        rig.publish("", "q", body.as_bytes());
        rig.publish("", "other", body.as_bytes());
    }
    set(&mut rig, Scope::Ordinary, "^q$", &[("max-length", long(2))]);
    assert_eq!(queue.view().ready, 2);
    assert_eq!(queue.losses().of(Loss::Length), 2);
    assert_eq!(other.view().ready, 4, "its name does not match");
    assert_eq!(names(&queue), (Some("p".to_owned()), None));
    assert_eq!(names(&other), (None, None));
    let dead_lettered = [
        ("max-length", long(1)),
        ("dead-letter-exchange", text("")),
        ("dead-letter-routing-key", text("dead")),
    ];
    set(&mut rig, Scope::Ordinary, "^q$", &dead_lettered);
    let got = rig.get("dead").expect("it is there");
    assert_eq!((&*got.body, &*got.deaths()[0].1), ("3", "maxlen"));
    clear(&mut rig, Scope::Ordinary);
    for _ in 0..5 {
        rig.publish("", "q", b"m");
    }
    assert_eq!(queue.view().ready, 6, "there is no limit any more");
    set(
        &mut rig,
        Scope::Operator,
        "",
        &[("max-length-bytes", long(3))],
    );
    assert_eq!(queue.view().ready_bytes, 3);
}

#[test]
fn a6_full_queues_that_reject_keep_what_they_have() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[]);
    for _ in 0..3 {
        rig.publish("", "q", b"m");
    }
    let full = [
        ("max-length", long(1)),
        ("overflow", text("reject-publish")),
    ];
    set(&mut rig, Scope::Ordinary, "", &full);
    assert_eq!(queue.view().ready, 3);
    assert!(rig.publish("", "q", b"m").rejected);
    clear(&mut rig, Scope::Ordinary);
    assert!(!rig.publish("", "q", b"m").rejected);
}

#[test]
fn a6_time_to_live_applies_to_what_waits() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[]);
    rig.publish("", "q", b"old");
    rig.pass(1_000);
    rig.publish("", "q", b"new");
    set(&mut rig, Scope::Ordinary, "", &[("message-ttl", long(500))]);
    assert_eq!(queue.view().ready, 1, "the old one's time is over");
    rig.pass(400);
    assert_eq!(queue.view().ready, 1);
    rig.pass(100);
    assert_eq!(queue.view().ready, 0, "the timer was set");
    rig.publish("", "q", b"newer");
    set(&mut rig, Scope::Operator, "", &[("message-ttl", long(50))]);
    rig.pass(49);
    assert_eq!(queue.view().ready, 1);
    rig.pass(1);
    assert_eq!(queue.view().ready, 0, "the shorter time counts");
    rig.publish("", "q", b"kept");
    clear(&mut rig, Scope::Ordinary);
    clear(&mut rig, Scope::Operator);
    rig.pass(10_000);
    assert_eq!(queue.view().ready, 1);
}

#[test]
fn a6_expiry_counts_from_the_policy() {
    let mut rig = Rig::new();
    rig.declare("q", &[("x-expires", long(60_000))]);
    rig.declare("kept", &[]);
    rig.pass(50_000);
    set(
        &mut rig,
        Scope::Ordinary,
        "^q$",
        &[("expires", long(1_000))],
    );
    let vhost = rig.broker.vhost("/").expect("is there");
    rig.pass(999);
    assert!(vhost.queue("q").is_some(), "it has all its time");
    rig.pass(1);
    assert!(vhost.queue("q").is_none());
    rig.declare("q", &[]);
    rig.pass(500);
    clear(&mut rig, Scope::Ordinary);
    rig.pass(100_000);
    assert!(vhost.queue("q").is_some() && vhost.queue("kept").is_some());
}

#[test]
fn a6_delivery_limits_apply() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[("x-queue-type", text("quorum"))]);
    set(
        &mut rig,
        Scope::Operator,
        "",
        &[("delivery-limit", long(1))],
    );
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Failed);
    rig.settle(&reader, Settle::Failed);
    assert_eq!(queue.losses().of(Loss::DeliveryLimit), 1);
}

#[test]
fn a6_streams_give_up_what_a_policy_does_not_keep() {
    let mut rig = Rig::new();
    let arguments = [
        ("x-queue-type", text("stream")),
        ("x-stream-max-segment-size-bytes", long(100)),
    ];
    let queue = rig.declare("log", &arguments);
    for _ in 0..20 {
        rig.publish("", "log", &[b'm'; 100]);
    }
    assert_eq!(queue.view().ready, 20);
    let bytes = [("max-length-bytes", long(500))];
    set(&mut rig, Scope::Ordinary, "^log$", &bytes);
    let kept = queue.view().ready;
    assert!((1..10).contains(&kept), "{kept} are kept");
}

#[test]
fn a6_new_queues_get_their_policy() {
    let mut rig = Rig::new();
    set(&mut rig, Scope::Ordinary, "^q", &[("max-length", long(3))]);
    set(&mut rig, Scope::Operator, "^q", &[("max-length", long(1))]);
    let queue = rig.declare("q", &[("x-max-length", long(2))]);
    let own = || Some("p".to_owned());
    assert_eq!(names(&queue), (own(), own()));
    for _ in 0..3 {
        rig.publish("", "q", b"m");
    }
    assert_eq!(queue.view().ready, 1, "nobody exceeds the operator");
    let definition = queue.view().applied.definition();
    assert_eq!(definition.lookup("max-length"), Some(&long(1)));
    let again = rig.declare("q", &[("x-max-length", long(2))]);
    assert_eq!(again.view().arguments, table(&[("x-max-length", long(2))]));
}

/// 100,000 queues of sessions have one set of terms, with policies as without.
#[test]
fn a6_queues_alike_share_their_terms() {
    let mut rig = Rig::new();
    let one = rig.declare("one", &[]);
    let two = rig.declare("two", &[]);
    let short = rig.declare("short", &[("x-max-length", long(1))]);
    set(&mut rig, Scope::Ordinary, "", &[("max-length", long(9))]);
    let given = |queue: &Queue| queue.state.lock().given.clone().expect("has a policy");
    assert!(Arc::ptr_eq(&given(&one), &given(&two)));
    let three = rig.declare("three", &[]);
    assert!(Arc::ptr_eq(&given(&one), &given(&three)));
    assert!(!Arc::ptr_eq(&given(&one), &given(&short)));
    clear(&mut rig, Scope::Ordinary);
    assert!(one.state.lock().given.is_none(), "nothing is kept for it");
}

#[test]
fn a6_exchanges_have_policies() {
    let mut rig = Rig::new();
    let queue = rig.declare("q", &[]);
    let bind = BindQueue {
        queue: "q",
        exchange: "amq.fanout",
        key: b"",
        form: Form::Dotted,
        arguments: Table::new(),
    };
    rig.link.queue_bind(&bind).expect("both are there");
    let alternate = [("alternate-exchange", text("amq.fanout"))];
    rig.publish("amq.topic", "q", b"lost");
    set(&mut rig, Scope::Ordinary, "^amq.t", &alternate);
    rig.publish("amq.topic", "q", b"found");
    rig.publish("amq.direct", "q", b"lost");
    let bodies = |rig: &mut Rig| rig.get("q").map(|got| got.body);
    assert_eq!(bodies(&mut rig).as_deref(), Some("found"));
    assert_eq!(queue.view().ready, 0);
    let vhost = rig.broker.vhost("/").expect("is there");
    assert!(vhost.policies_of_exchange("amq.topic").policy.is_some());
    assert!(vhost.policies_of_exchange("amq.direct").policy.is_none());
    clear(&mut rig, Scope::Ordinary);
    rig.publish("amq.topic", "q", b"lost");
    assert_eq!(queue.view().ready, 0);
}

fn limits(of: Limited, name: &str, max: i64) -> Limits {
    Limits::read(of, &table(&[(name, long(max))])).expect("is fine")
}

fn open(rig: &Rig, number: u64) -> Result<Arc<crate::link::Link>, Refusal> {
    let address = [127, 0, 0, 1].into();
    rig.broker.open_vhost(number, "guest", "/", None, address)
}

#[test]
fn o2_connections_of_a_vhost_are_limited() {
    let mut rig = Rig::new();
    let max = |max| limits(Limited::VHost, "max-connections", max);
    rig.broker.set_vhost_limits("/", max(2)).expect("is there");
    let second = open(&rig, 2).expect("there is room");
    let third = open(&rig, 3).expect_err("there is none");
    assert_eq!(third.code, ReplyCode::NotAllowed);
    assert_eq!(
        &*third.text,
        "access to vhost '/' refused for user 'guest': connection limit (2) is reached"
    );
    assert!(third.quota);
    second.close(&mut rig.turn);
    let third = open(&rig, 3).expect("there is room again");
    drop(third);
    drop(second);
    rig.broker.set_vhost_limits("/", max(0)).expect("is there");
    assert!(open(&rig, 4).is_err(), "0 allows nothing");
    rig.broker.set_vhost_limits("/", max(-1)).expect("is there");
    assert!(open(&rig, 4).is_ok(), "-1 allows everything");
}

#[test]
fn o2_connections_and_channels_of_a_user_are_limited() {
    let rig = Rig::new();
    let update = |max: Limits| rig.broker.update_user_limits("guest", |held| *held = max);
    update(limits(Limited::User, "max-connections", 1)).expect("is there");
    let refused = open(&rig, 2).expect_err("the rig has one");
    assert_eq!(
        &*refused.text,
        "connection refused for user 'guest': user connection limit (1) is reached"
    );
    update(limits(Limited::User, "max-channels", 2)).expect("is there");
    let other = open(&rig, 2).expect("there is no limit any more");
    rig.link.channel_open().expect("the first");
    other.channel_open().expect("the second");
    let refused = rig.link.channel_open().expect_err("over all connections");
    assert_eq!(refused.code, ReplyCode::NotAllowed);
    assert_eq!(
        &*refused.text,
        "number of channels opened for user 'guest' has reached the maximum allowed user limit \
         of 2"
    );
    drop(other);
    rig.link
        .channel_open()
        .expect("a connection's channels go with it");
    rig.link.channel_close();
    rig.link.channel_open().expect("one was closed");
}

#[test]
fn o2_queues_of_a_vhost_are_limited() {
    let mut rig = Rig::new();
    let max = limits(Limited::VHost, "max-queues", 1);
    rig.broker.set_vhost_limits("/", max).expect("is there");
    rig.declare("one", &[]);
    rig.declare("one", &[]);
    let refused = rig.try_declare("two", &[]).expect_err("there is no room");
    assert_eq!(refused.code, ReplyCode::PreconditionFailed);
    assert_eq!(
        &*refused.text,
        "cannot declare queue 'two' in vhost '/': queue limit in vhost '/' (1) is reached"
    );
}

#[test]
fn o2_a_vhost_chooses_the_kind_of_queue() {
    let mut rig = Rig::new();
    let choose = |kind| {
        let changed = rig
            .broker
            .update_vhost("/", |held| held.default_queue_type = kind);
        changed.expect("is there");
    };
    choose(Some(QueueKind::Quorum));
    let queue = rig.declare("q", &[]);
    assert_eq!(queue.kind(), QueueKind::Quorum);
    let told = queue.view().arguments;
    assert_eq!(told, table(&[("x-queue-type", text("quorum"))]));
    rig.declare("q", &[]);
    let classic = rig.declare("c", &[("x-queue-type", text("classic"))]);
    assert_eq!(classic.kind(), QueueKind::Classic);
}

#[test]
fn o2_protected_vhosts_are_not_deleted() {
    let mut rig = Rig::new();
    let broker = Arc::clone(&rig.broker);
    let metadata = Metadata {
        protected: true,
        ..Metadata::default()
    };
    broker.add_vhost_with("v", metadata).expect("is new");
    let refused = broker.delete_vhost(&mut rig.turn, "v");
    assert_eq!(
        &*refused.expect_err("is protected").text,
        "Refusing to delete virtual host 'v' because it is protected from deletion"
    );
    let lift = broker.update_vhost("v", |held| held.protected = false);
    lift.expect("is there");
    let deleted = broker.delete_vhost(&mut rig.turn, "v");
    deleted.expect("is not protected any more");
}

/// FEATURES A6, D1: policies, limits and what is said about vhosts survive a restart.
#[test]
fn a6_a_restart_keeps_all() {
    let paper = Arc::new(Paper::default());
    let mut rig = Rig::over(Arc::clone(&paper) as _, Arc::clone(&paper) as _);
    set(&mut rig, Scope::Ordinary, "^q", &[("max-length", long(3))]);
    set(
        &mut rig,
        Scope::Operator,
        "",
        &[("message-ttl", long(9_000))],
    );
    rig.declare("q", &[]);
    let broker = Arc::clone(&rig.broker);
    let max = limits(Limited::VHost, "max-queues", 7);
    broker.set_vhost_limits("/", max.clone()).expect("is there");
    let of_user = limits(Limited::User, "max-channels", -1);
    let update = broker.update_user_limits("guest", |held| *held = of_user.clone());
    update.expect("is there");
    let metadata = Metadata {
        description: "for tests".into(),
        tags: vec!["a".into(), "b".into()],
        default_queue_type: Some(QueueKind::Stream),
        protected: true,
    };
    let update = broker.update_vhost("/", |held| *held = metadata.clone());
    update.expect("is there");

    let again = Rig::over(Arc::clone(&paper) as _, Arc::clone(&paper) as _);
    let vhost = again.broker.vhost("/").expect("is there");
    let queue = vhost.queue("q").expect("is there");
    assert_eq!(names(&queue), (Some("p".to_owned()), Some("p".to_owned())));
    let state = queue.state.lock();
    assert_eq!(state.terms().max_length, Some(3));
    assert_eq!(state.terms().message_ttl_ms, Some(9_000));
    drop(state);
    assert_eq!(vhost.limits(), max);
    assert_eq!(vhost.metadata(), metadata);
    let user = again.broker.user("guest").expect("is there");
    assert_eq!(user.limits, of_user);
}
