//! How much one turn takes.

use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::login::Verdict;
use leveret_core::options::Options as CoreOptions;
use leveret_core::peer::Origin;

use super::*;
use crate::limits::SUBSCRIPTIONS_WALKED_MAX;
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
