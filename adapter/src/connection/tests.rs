//! How much one turn takes, and how much is held back.

use leveret_core::alarms::Resource;
use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::link::{BindQueue, DeclareQueue};
use leveret_core::login::Verdict;
use leveret_core::options::Options as CoreOptions;
use leveret_core::peer::Origin;
use leveret_core::queue::Consumer;
use leveret_core::sink::{Delivery, Outcome, Sink};
use leveret_core::watermark::Wake;

use super::*;
use crate::limits::{HELD_BYTES_MAX, SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_WALKED_MAX};
use crate::options::Options;
use crate::packet::subscribe::{Subscription, SubscriptionOptions};
use crate::packet::{QoS, subscribe, unsubscribe};

const BEGIN: Time = Time(1_700_000_000_000);

fn connected(turn: &mut Turn) -> Connection {
    let (definitions, journal) = (Volatile::default(), MemoryJournal::default());
    let broker = Broker::open(
        CoreOptions::default(),
        Arc::new(definitions),
        Arc::new(journal),
        BEGIN,
        || "hash".to_owned(),
    );
    let node = Node::new(broker.expect("nothing can fail"), Options::default());
    let address = SocketAddr::from(([127, 0, 0, 1], 1_883));
    let accepted = Accepted {
        peer: address,
        local: address,
        origin: Arc::new(Origin::default()),
    };
    let mut connection = Connection::new(&node, accepted, BEGIN);
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";
    assert_eq!(connection.handle_input(turn, connect), connect.len());
    assert!(connection.poll_request().is_some());
    connection.handle_reply(turn, Reply::Login(Verdict::Accepted));
    assert!(connection.wants_input());
    connection
}

fn filters(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("a/{number}")).collect()
}

fn subscribe(count: usize) -> Vec<u8> {
    subscribe_to(&filters(count))
}

fn subscribe_to(filters: &[String]) -> Vec<u8> {
    let wanted: Vec<Subscription<'_>> = filters
        .iter()
        .map(|filter| Subscription {
            filter,
            options: SubscriptionOptions::new(QoS::AtMostOnce),
        })
        .collect();
    let mut packet = Vec::new();
    let version = ProtocolVersion::V4;
    subscribe::encode(&mut packet, version, NonZeroU16::MIN, &[], &wanted).expect("it fits");
    packet
}

fn unsubscribe(count: usize) -> Vec<u8> {
    let filters = filters(count);
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let mut packet = Vec::new();
    let version = ProtocolVersion::V4;
    unsubscribe::encode(&mut packet, version, NonZeroU16::MIN, &[], &filters).expect("it fits");
    packet
}

/// Each filter of a packet counts as a packet.
#[test]
fn a_turn_is_bounded_in_filters() {
    for (packet, expected) in [
        (vec![0xC0, 0], PACKETS_PER_TURN_MAX),
        (subscribe(1), PACKETS_PER_TURN_MAX),
        (subscribe(100), 3),
        (unsubscribe(100), 3),
        (subscribe(300), 1),
    ] {
        let mut turn = Turn::new();
        turn.now = BEGIN;
        let mut connection = connected(&mut turn);
        let input = packet.repeat(PACKETS_PER_TURN_MAX + 1);
        let taken = connection.handle_input(&mut turn, &input);
        assert_eq!(taken, expected * packet.len());
        connection.handle_close(&mut turn);
        turn.ring();
    }
}

/// FEATURES M17: a session has so many subscriptions; one more is refused alone.
#[test]
fn m17_a_session_has_so_many_subscriptions() {
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let mut connection = connected(&mut turn);
    let mut answer = |filters: &[String]| {
        let packet = subscribe_to(filters);
        let taken = connection.handle_input(&mut turn, &packet);
        assert_eq!(taken, packet.len());
        let output = output(&mut connection);
        output[output.len() - filters.len()..].to_vec()
    };
    let all = filters(SUBSCRIPTIONS_MAX);
    for some in all.chunks(5_000) {
        assert!(answer(some).iter().all(|code| *code == 0));
    }
    let more = ["b".to_owned(), all[0].clone()];
    assert_eq!(answer(&more), [0x80, 0]);
    connection.handle_close(&mut turn);
    turn.ring();
}

/// FEATURES M17: what each delivery may have to look at has a limit of its own, and one filter more
/// is refused alone.
#[test]
fn m17_wildcards_have_a_limit_of_their_own() {
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let mut connection = connected(&mut turn);
    let mut answer = |filters: &[String]| {
        let packet = subscribe_to(filters);
        let taken = connection.handle_input(&mut turn, &packet);
        assert_eq!(taken, packet.len());
        let mut output = Vec::new();
        connection.poll_output(&mut output);
        output.split_off(output.len() - filters.len())
    };
    let wild = |numbers: std::ops::Range<usize>| -> Vec<String> {
        numbers.map(|number| format!("a/{number}/+")).collect()
    };
    answer(&filters(100));
    let all = answer(&wild(0..SUBSCRIPTIONS_WALKED_MAX));
    assert!(all.iter().all(|code| *code == 0));
    assert_eq!(answer(&wild(0..1)), [0], "it is there already");
    let mut more = wild(SUBSCRIPTIONS_WALKED_MAX..SUBSCRIPTIONS_WALKED_MAX + 1);
    more.extend(["b/exact".to_owned(), "c.d".to_owned()]);
    assert_eq!(answer(&more), [0x80, 0, 0x80]);
    connection.handle_close(&mut turn);
    turn.ring();
}

/// PUBLISH with QoS 1 to `t`, `bytes` long as a whole.
fn publish(packet_id: u16, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x32];
    let header_bytes = [1_usize, 2, 3, 4].map(|len| (len, bytes - 1 - len));
    let (_, remaining) = header_bytes
        .into_iter()
        .find(|(len, rest)| codec::variable_byte_integer_len(*rest) == *len)
        .expect("a length");
    codec::put_variable_byte_integer(&mut packet, remaining as u32);
    packet.extend_from_slice(b"\0\x01t");
    packet.extend_from_slice(&packet_id.to_be_bytes());
    packet.resize(bytes, b'x');
    packet
}

fn output(connection: &mut Connection) -> Vec<u8> {
    let mut output = Vec::new();
    connection.poll_output(&mut output);
    output
}

fn pubacks(ids: impl Iterator<Item = u16>) -> Vec<u8> {
    ids.flat_map(|id| [[0x40, 2], id.to_be_bytes()].concat())
        .collect()
}

/// FEATURES D4: what is held back of one client has a limit, and what has no room is not read.
#[test]
fn d4_what_is_held_back_is_bounded() {
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let mut connection = connected(&mut turn);
    output(&mut connection);
    let broker = Arc::clone(
        connection
            .outlet
            .identity
            .get()
            .expect("logged in")
            .core
            .broker(),
    );
    let alarms = broker.alarms();
    for (sizes, taken) in [
        // The third has no room, and what is behind it is not looked at.
        (&[HELD_BYTES_MAX - 1_000, 1_000, 100, 50][..], 2),
        (&[HELD_BYTES_MAX + 1, 100], 0),
        (&[HELD_BYTES_MAX], 1),
    ] {
        let packets: Vec<Vec<u8>> = (1..)
            .zip(sizes)
            .map(|(id, size)| publish(id, *size))
            .collect();
        let mut input = packets.concat();
        let expected: usize = sizes[..taken].iter().sum();
        input.extend_from_slice(&[0xC0, 0]);
        alarms.set(Resource::Memory, true);
        let used = connection.handle_input(&mut turn, &input);
        let all_held = taken == sizes.len();
        assert_eq!(used, expected + if all_held { 2 } else { 0 });
        assert_eq!(connection.wants_input(), all_held, "{sizes:?}");
        assert_eq!(output(&mut connection).len(), if all_held { 2 } else { 0 });
        let cut = HELD_BYTES_MAX.min(input.len() - used);
        if all_held {
            // Not even the beginning of one that will have no room.
            let used = connection.handle_input(&mut turn, &publish(9, 100)[..20]);
            assert_eq!((used, connection.wants_input()), (0, false));
        } else {
            assert_eq!(connection.handle_input(&mut turn, &input[used..][..cut]), 0);
        }
        alarms.set(Resource::Memory, false);
        connection.handle_wake(&mut turn);
        assert!(connection.wants_input());
        let rest = input[used..].to_vec();
        assert_eq!(connection.handle_input(&mut turn, &rest), rest.len());
        let mut expected = pubacks(1..=sizes.len() as u16);
        if !all_held {
            expected.extend_from_slice(&[0xD0, 0]);
        }
        assert_eq!(output(&mut connection), expected);
    }
    connection.handle_close(&mut turn);
    turn.ring();
}

/// FEATURES D4: working off what was held is bounded like reading, and stops at another alarm.
#[test]
fn d4_held_packets_are_worked_off_in_turns() {
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let mut connection = connected(&mut turn);
    output(&mut connection);
    let broker = Arc::clone(
        connection
            .outlet
            .identity
            .get()
            .expect("logged in")
            .core
            .broker(),
    );
    let alarms = broker.alarms();
    let count = PACKETS_PER_TURN_MAX as u16 + 10;
    let input: Vec<u8> = (1..=count).flat_map(|id| publish(id, 10)).collect();
    alarms.set(Resource::Disk, true);
    assert_eq!(connection.handle_input(&mut turn, &input), input.len());
    assert!(output(&mut connection).is_empty() && connection.wants_input());
    assert!(connection.poll_timeout().is_none());
    alarms.set(Resource::Disk, false);
    connection.handle_wake(&mut turn);
    let first = PACKETS_PER_TURN_MAX as u16;
    assert_eq!(output(&mut connection), pubacks(1..=first));
    assert!(!connection.wants_input(), "what was held comes first");
    assert!(
        connection.doorbell().answer(),
        "it has asked for another turn"
    );
    alarms.set(Resource::Memory, true);
    connection.handle_wake(&mut turn);
    assert!(output(&mut connection).is_empty() && connection.wants_input());
    assert_eq!(alarms.waiting(), 1);
    alarms.set(Resource::Memory, false);
    assert!(connection.doorbell().answer());
    connection.handle_wake(&mut turn);
    assert_eq!(output(&mut connection), pubacks(first + 1..=count));
    assert!(connection.wants_input());

    alarms.set(Resource::Memory, true);
    connection.handle_input(&mut turn, &input[..10]);
    assert_eq!(alarms.waiting(), 1);
    connection.handle_close(&mut turn);
    assert_eq!(alarms.waiting(), 0, "who is gone waits no more");
    turn.ring();
}

/// Runs out of memory with the first message that it gets.
struct Glutton(Arc<Broker>);

impl Wake for Glutton {
    fn wake(&self) {}
}

impl Sink for Glutton {
    fn deliver(&self, _: &mut Delivery<'_>) -> Outcome {
        self.0.alarms().set(Resource::Memory, true);
        Outcome::Taken {
            settled: true,
            wake: false,
        }
    }

    fn cancelled(&self, _: u64) {}
}

/// FEATURES D4: held packets do not go on because they have begun to.
#[test]
fn d4_an_alarm_in_the_middle_of_a_turn_stops_it() {
    let mut turn = Turn::new();
    turn.now = BEGIN;
    let mut connection = connected(&mut turn);
    output(&mut connection);
    let core = Arc::clone(&connection.outlet.identity.get().expect("logged in").core);
    let broker = Arc::clone(core.broker());
    let declared = core.queue_declare(
        &mut turn,
        &DeclareQueue {
            name: "q",
            ..DeclareQueue::default()
        },
    );
    let queue = declared.expect("may be declared").queue;
    let bound = core.queue_bind(&BindQueue {
        queue: "q",
        exchange: "amq.topic",
        key: b"t",
        form: leveret_core::key::Form::Dotted,
        arguments: leveret_core::field::Table::new(),
    });
    bound.expect("may be bound");
    let glutton = Arc::new(Glutton(Arc::clone(&broker)));
    let consumer = Consumer::new(1, 99, "c".into(), glutton);
    core.consume(&turn, "q", consumer).expect("may consume");
    queue.pull(&mut turn, 99, 1);

    let alarms = broker.alarms();
    alarms.set(Resource::Disk, true);
    let input = [publish(1, 10), publish(2, 10), publish(3, 10)].concat();
    assert_eq!(connection.handle_input(&mut turn, &input), input.len());
    for id in 1..=3 {
        assert!(output(&mut connection).is_empty());
        for resource in Resource::ALL {
            alarms.set(resource, false);
        }
        assert!(connection.doorbell().answer());
        connection.handle_wake(&mut turn);
        assert_eq!(output(&mut connection), pubacks(id..=id), "one at a time");
        assert_eq!(alarms.waiting(), usize::from(id < 3));
    }
    // The next one is read, meets the alarm, and is held again.
    assert!(connection.wants_input());
    connection.handle_input(&mut turn, &publish(4, 10));
    assert!(output(&mut connection).is_empty());
    connection.handle_close(&mut turn);
    turn.ring();
}
