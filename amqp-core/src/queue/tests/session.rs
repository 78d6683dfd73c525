//! FEATURES M9: whose session a queue is a part of, and that a restart knows it.

use std::sync::Arc;

use super::rig::{Rig, long};
use super::tape::Tape;
use crate::field::Table;
use crate::link::{DeclareQueue, Link};
use crate::queue::{IdPlace, Queue, QueueProperties};
use crate::turn::Turn;
use crate::user::User;

/// Where `mqtt-subscription-<client id>qos1` has it.
const PLACE: IdPlace = IdPlace {
    before: 18,
    behind: 4,
};

fn declare(link: &Link, name: &str, session: Option<IdPlace>) -> Arc<Queue> {
    let wish = DeclareQueue {
        name,
        properties: QueueProperties {
            durable: true,
            journaled: true,
            ..QueueProperties::default()
        },
        session,
        ..DeclareQueue::default()
    };
    let declared = link.queue_declare(&mut Turn::new(), &wish);
    declared.expect("may be declared").queue
}

fn owner(queue: &Queue) -> Option<String> {
    Some(queue.session()?.user.to_string())
}

#[test]
fn m9_a_restart_knows_whose_a_session_is() {
    let tape = Arc::new(Tape::default());
    let (one, two) = ("mqtt-subscription-déqos1", "mqtt-subscription-qos0");
    {
        let rig = Tape::rig(&tape);
        let queue = declare(&rig.link, one, Some(PLACE));
        declare(&rig.link, two, Some(PLACE));
        declare(&rig.link, "other", None);
        assert_eq!(owner(&queue).as_deref(), Some("guest"));
        assert!(queue.view().arguments.is_empty(), "no listing shows it");
    }
    let rig = Tape::rig(&tape);
    let vhost = rig.broker.vhost("/").expect("the default");
    let queue = |name| vhost.queue(name).expect("it is durable");
    assert_eq!(owner(&queue(one)).as_deref(), Some("guest"));
    // A record of before sessions had owners.
    assert_eq!(owner(&queue("other")), None);
    let sessions = vhost.sessions();
    let ids: Vec<&str> = sessions.keys().map(|id| &**id).collect();
    assert_eq!(ids, ["", "dé"]);
    assert_eq!(&*sessions["dé"].user, "guest");
    assert!(Arc::ptr_eq(&sessions["dé"].queues[0], &queue(one)));
}

#[test]
fn m9_a_session_changes_hands_for_good() {
    let tape = Arc::new(Tape::default());
    let name = "mqtt-subscription-xqos1";
    {
        let rig = Tape::rig(&tape);
        let queue = declare(&rig.link, name, Some(PLACE));
        rig.broker.put_user("eve", User::default()).expect("a name");
        let granted = rig.broker.set_permissions("eve", "/", [".*"; 3]);
        granted.expect("both are there");
        let address = [127, 0, 0, 1].into();
        let eve = rig.broker.open_vhost(2, "eve", "/", None, address);
        eve.expect("she may").queue_set_session(&queue, PLACE);
        assert_eq!(owner(&queue).as_deref(), Some("eve"));
    }
    let rig = Tape::rig(&tape);
    let queue = rig.link.vhost().queue(name).expect("it is durable");
    assert_eq!(owner(&queue).as_deref(), Some("eve"));
    // What the session asks for later says nothing about its owner.
    rig.link
        .queue_set_expires(&queue, Some(60_000))
        .expect("may be");
    assert_eq!(owner(&queue).as_deref(), Some("eve"));
    assert_eq!(
        queue.arguments().lookup("x-expires"),
        Some(&long(60_000)),
        "and the other way round"
    );
}

/// A hundred thousand sessions of one user have one owner in memory.
#[test]
fn m9_sessions_of_a_user_share_their_owner() {
    let rig = Rig::new();
    let [one, two] = ["a", "b"].map(|id| {
        let name = format!("mqtt-subscription-{id}qos1");
        declare(&rig.link, &name, Some(PLACE))
    });
    let (one, two) = (one.session(), two.session());
    assert!(Arc::ptr_eq(&one.expect("one"), &two.expect("two")));
    assert_eq!(Table::new(), rig.link.vhost().queues()[0].arguments());
}
