//! A clock that jumps by a day while the broker is down, either way.

use leveret_core::exchange::Memo;
use leveret_core::field::{Table, Value};
use leveret_core::key::Form;
use leveret_core::link::DeclareQueue;
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::queue::QueueProperties;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_store::data_dir::DataDir;

use crate::survive::broker_at;

const BEGIN: Time = Time(1_700_000_000_000);
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn declare<'a>(name: &'a str, argument: &str) -> DeclareQueue<'a> {
    let mut arguments = Table::new();
    let inserted = arguments.insert(argument, Value::I64(HOUR_MS as i64));
    inserted.expect("a short name");
    let properties = QueueProperties {
        durable: true,
        journaled: true,
        arguments,
        ..QueueProperties::default()
    };
    DeclareQueue {
        name,
        passive: false,
        exclusive: false,
        properties,
        session: None,
    }
}

/// FEATURES D2, M6: a clock that was set back loses nothing and ends nothing early; one that was
/// set forward ends what is over by it, and nothing else.
#[test]
fn d2_clock_jumps_of_a_day() {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(temporary.path()).expect("a data directory");
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let (broker, journal) = broker_at(&directory, turn.now);
    let link = broker.owner_link(&broker.vhost("/").expect("it is there"));
    for (name, argument) in [("brief", "x-message-ttl"), ("left", "x-expires")] {
        link.queue_declare(&mut turn, &declare(name, argument))
            .expect("may be");
    }
    for (body, expires) in [("a", None), ("b", Some(BEGIN.after_ms(10 * DAY_MS)))] {
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                persistent: true,
                retain: false,
                exactly_once: false,
                publisher: 1,
                received: turn.now,
                expires,
            },
            exchange: "",
            key: b"brief",
            properties: &[0, 0],
            payload: body.as_bytes(),
        };
        link.publish(&mut turn, &mut Memo::default(), &message)
            .expect("may be");
    }
    drop((link, broker));
    drop(journal);

    let back = Time(BEGIN.0 - DAY_MS);
    let times = [
        (back, 2, true),
        (back.after_ms(HOUR_MS / 2), 2, true),
        // By this clock it was idle for a day and more.
        (BEGIN.after_ms(HOUR_MS / 2), 2, false),
        (BEGIN.after_ms(DAY_MS), 0, false),
    ];
    for (now, messages, is_there) in times {
        turn.now = now;
        let (broker, journal) = broker_at(&directory, now);
        broker.handle_timeout(&mut turn);
        let vhost = broker.vhost("/").expect("it is there");
        assert_eq!(vhost.queue("left").is_some(), is_there, "at {now:?}");
        let link = broker.owner_link(&vhost);
        let mut bodies = Vec::new();
        while let Some(got) = link.get(&mut turn, "brief", false).expect("may be") {
            bodies.push(got.taken.message.view().payload.to_vec());
        }
        assert_eq!(bodies.len(), messages, "at {now:?}: {bodies:?}");
        drop((link, vhost, broker, journal));
    }
}
