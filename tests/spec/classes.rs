//! Classes of bad input that have harmed other brokers, each by its letter and number: what comes
//! in great numbers or at every place, which rows cannot say. Owns no single packet's meaning (rows
//! do). docs/conformance.md says where the other classes are.
//!
//! Heap is counted, not the process's memory, and nothing looks at a clock.

use allocation_counter::measure;
use leveret_mqtt::packet::ProtocolVersion::{self, V3, V4, V5};
use serde_json::{Value, json};

use crate::verbs::Verbs;
use crate::world::World;
use crate::{amqp, decode, packets};

/// One of each packet that a client may send once it has logged in.
const PACKETS: [&str; 12] = [
    "PUBLISH q0 t/u payload",
    "PUBLISH q1 id=258 t/u payload",
    "PUBLISH q2 id=258 retain t/u payload",
    "PUBACK 258",
    "PUBREC 258",
    "PUBREL 258",
    "PUBCOMP 258",
    "SUBSCRIBE 258 t/u:1 v/+:0",
    "UNSUBSCRIBE 258 t/u v/+",
    "PINGREQ",
    "DISCONNECT",
    "PUBLISH q1 id=258 t/%c3%a9 payload",
];

/// The same with everything that 5.0 has to say.
const PACKETS_5: [&str; 5] = [
    "PUBLISH q1 id=258 pfi=1 mei=9 ct=x rt=r cd=%ff u:k=v ta=3 t/u payload",
    "PUBACK 258 0x80 rs=why u:k=v",
    "SUBSCRIBE 258 sid=300 u:k=v t/u:1,nl,rap,rh=1",
    "DISCONNECT 4 sei=9 rs=why u:k=v",
    "AUTH 0x18 am=m ad=d u:k=v",
];

fn world(options: &Value) -> World {
    World::new(options, usize::MAX)
}

/// What a client has received since it was last asked.
fn taken(world: &mut World, name: &str) -> Vec<String> {
    let version = world.version(name);
    let received = world.received(name);
    let mut all = Vec::new();
    while let Some((bytes, shown)) = packets::show(version, received) {
        received.drain(..bytes.len());
        all.push(shown);
    }
    all
}

/// The client sends packets; what came.
fn say(world: &mut World, name: &str, words: &str) -> Vec<String> {
    let version = world.version(name);
    let bytes: Vec<u8> = words
        .split(" ; ")
        .flat_map(|packet| packets::encode(version, packet))
        .collect();
    world.feed(name, &bytes);
    taken(world, name)
}

/// A client that is let in; `name` is its client id.
fn connect(world: &mut World, name: &str, version: ProtocolVersion, more: &str) {
    world.open(name, "");
    world.speak(name, version);
    let came = say(
        world,
        name,
        &format!("CONNECT v{} id={name} {more}", version as u8),
    );
    assert!(came[0].starts_with("CONNACK 0 "), "{came:?}");
}

/// A client that has seen nothing of what others did is there, and gets messages.
fn is_well(world: &mut World, name: &str) {
    let came = say(world, name, "PUBLISH q0 well x");
    assert_eq!(came, ["PUBLISH q0 well x"], "{name}");
}

fn valid() -> impl Iterator<Item = (ProtocolVersion, Vec<u8>)> {
    let common = [V3, V4, V5].into_iter().flat_map(|version| {
        let encode = move |words: &&str| (version, packets::encode(version, words));
        PACKETS.iter().map(encode)
    });
    common.chain(
        PACKETS_5
            .iter()
            .map(|words| (V5, packets::encode(V5, words))),
    )
}

/// P1: who has not logged in holds what it has sent and little more, whatever it announces.
#[test]
fn p1_half_a_connect_holds_what_has_come() {
    const MANY: usize = 10_000;
    let mut world = world(&json!({}));
    connect(&mut world, "well", V4, "clean");
    assert_eq!(
        say(&mut world, "well", "SUBSCRIBE 1 well:0"),
        ["SUBACK 1 0"]
    );
    let names: Vec<String> = (0..MANY).map(|n| format!("c{n}")).collect();
    let held = measure(|| {
        for name in &names {
            world.open(name, "");
        }
    });
    let each = held.bytes_current / MANY as i64;
    assert!(
        each < 4_096,
        "{each} bytes of a connection that says nothing"
    );
    let held = measure(|| {
        for name in &names[..500] {
            // CONNECT of 65,536 bytes, of which few come.
            world.feed(
                name,
                b"\x10\x80\x80\x04\x00\x04MQTT\x04\x02\x00\x3c\x00\x01",
            );
        }
    });
    let each = held.bytes_current / 500;
    assert!(each < 16 * 1_024, "{each} bytes of half a CONNECT");
    for name in &names[500..600] {
        world.feed(name, b"\x10\xff\xff\xff\x7f");
        assert!(!world.is_open(name), "268,435,455 bytes are announced");
    }
    is_well(&mut world, "well");
    world.advance(10_000);
    assert!(
        names.iter().all(|name| !world.is_open(name)),
        "login_timeout"
    );
}

/// P2: every packet, cut at every byte: the stream ends there, or the packet does.
#[test]
fn p2_every_packet_is_cut_at_every_byte() {
    let mut world = world(&json!({}));
    connect(&mut world, "well", V5, "clean");
    assert_eq!(
        say(&mut world, "well", "SUBSCRIBE 1 well:0"),
        ["SUBACK 1 0"]
    );
    let mut cuts = 0;
    for (version, packet) in valid() {
        for len in 0..packet.len() {
            connect(&mut world, "a", version, "clean");
            world.feed("a", &packet[..len]);
            assert!(world.is_open("a"), "it may go on: {packet:02x?} {len}");
            world.cut("a");
            world.received("a").clear();
            if len >= 2 {
                // The same bytes as a packet of its own: whatever it is then, it ends there.
                connect(&mut world, "a", version, "clean");
                let mut short = packet[..len].to_vec();
                short[1] = (len - 2) as u8;
                world.feed("a", &short);
                world.received("a").clear();
                if world.is_open("a") {
                    let came = say(&mut world, "a", "PINGREQ");
                    assert_eq!(came, ["PINGRESP"], "{packet:02x?} {len}");
                    world.cut("a");
                }
            }
            cuts += 1;
        }
        is_well(&mut world, "well");
    }
    assert!(cuts > 400, "{cuts}");
}

/// P3: behind a length that is wrong, nothing is read as a packet.
#[test]
fn p3_no_packet_is_smuggled_behind_a_length() {
    let mut world = world(&json!({}));
    connect(&mut world, "s", V4, "clean");
    assert_eq!(
        say(&mut world, "s", "SUBSCRIBE 1 smuggled:0"),
        ["SUBACK 1 0"]
    );
    let lengths: [&[u8]; 4] = [
        b"\x80\x80\x80\x80\x01",
        b"\xff\xff\xff\xff\x7f",
        b"\x80\x00",
        b"\x82\x80\x80\x00",
    ];
    let smuggled = packets::encode(V4, "PUBLISH q0 smuggled x");
    for first in 0..=255_u8 {
        for length in lengths {
            let bytes = [&[first], length, &smuggled].concat();
            connect(&mut world, "a", V4, "clean");
            world.feed("a", &bytes);
            assert!(!world.is_open("a"), "{bytes:02x?}");
            world.open("b", "");
            world.feed("b", &bytes);
            assert!(!world.is_open("b"), "before CONNECT: {bytes:02x?}");
        }
    }
    // One byte too few or too many: what follows begins in the wrong place, and never as a packet.
    for words in PACKETS.iter().filter(|words| !words.starts_with("PUBLISH")) {
        for step in [-1_i8, 1] {
            let mut bytes = packets::encode(V4, words);
            bytes[1] = bytes[1].wrapping_add_signed(step);
            if bytes[1] > 127 {
                continue;
            }
            connect(&mut world, "a", V4, "clean");
            world.feed("a", &[bytes.as_slice(), &smuggled].concat());
            world.received("a").clear();
            assert!(!world.is_open("a"), "{words} {step}");
        }
    }
    assert!(taken(&mut world, "s").is_empty(), "nothing came through");
}

/// P5: a PUBLISH that is refused for its properties reaches nobody, and what AMQP sends that MQTT
/// cannot say harms no subscriber.
#[test]
fn p5_a_poisoned_message_harms_no_subscriber() {
    let mut world = world(&json!({}));
    connect(&mut world, "well", V5, "clean");
    assert_eq!(say(&mut world, "well", "SUBSCRIBE 1 #:0"), ["SUBACK 1 0"]);
    let mut refused = 0;
    for bytes in decode::refused_publishes() {
        connect(&mut world, "a", V5, "clean");
        world.feed("a", &bytes);
        assert!(!world.is_open("a"), "{bytes:02x?}");
        let came = taken(&mut world, "a");
        assert!(came[0].starts_with("DISCONNECT 0x"), "{came:?}");
        refused += 1;
    }
    assert!(refused > 30, "{refused}");
    is_well(&mut world, "well");
    for hostile in [
        "publish t x h:%ff=y h:k=%ff",
        "publish t x h:%00=y h:k=%00",
        "publish t x ct=%ff cid=%00",
        "publish t x t:table= d:cents=5 n:n=7",
        "publish t x h:x-reply-to-topic=%ff h:x-correlation-id=%00",
        "publish t x h:x-reply-to-topic=#",
    ] {
        amqp::run(&mut world, hostile);
        let came = taken(&mut world, "well");
        assert_eq!(came.len(), 1, "{hostile}");
        assert!(came[0].ends_with(" t x"), "{hostile}: {came:?}");
    }
    let long = format!("publish t x h:k={} h:l=v", "y".repeat(70_000));
    amqp::run(&mut world, &long);
    assert_eq!(taken(&mut world, "well"), ["PUBLISH q0 u:l=v t x"]);
    is_well(&mut world, "well");
}

/// P7: depth has a limit, and nothing goes down it by recursion.
#[test]
fn p7_deep_topics_are_refused() {
    let mut world = world(&json!({}));
    connect(&mut world, "well", V5, "clean");
    assert_eq!(
        say(&mut world, "well", "SUBSCRIBE 1 well:0"),
        ["SUBACK 1 0"]
    );
    let deep = "a/".repeat(32_000);
    connect(&mut world, "a", V5, "clean");
    let came = say(
        &mut world,
        "a",
        &format!("SUBSCRIBE 1 {deep}:0 #/#/#:0 {deep}#:0 +:0"),
    );
    let codes: Vec<&str> = came[0].split(' ').take(6).collect();
    assert_eq!(codes, ["SUBACK", "1", "0x8f", "0x8f", "0x8f", "0"]);
    let came = say(&mut world, "a", &format!("UNSUBSCRIBE 2 {deep}"));
    assert!(came[0].starts_with("UNSUBACK 2 "), "{came:?}");
    let came = say(&mut world, "a", &format!("PUBLISH q1 id=1 {deep} x"));
    assert!(came[0].starts_with("DISCONNECT 0x90"), "{came:?}");
    world.open("b", "");
    world.speak("b", V5);
    let came = say(&mut world, "b", &format!("CONNECT v5 id=b will={deep}:x"));
    assert!(came.is_empty() && !world.is_open("b"), "{came:?}");
    is_well(&mut world, "well");
}

/// P8: publishes that are not released are as many as there are identifiers, and small.
#[test]
fn p8_unfinished_exchanges_have_a_limit() {
    let mut world = world(&json!({}));
    connect(&mut world, "a", V4, "clean");
    let publish = packets::encode(V4, &format!("PUBLISH q2 id=1 t {}", "x".repeat(1_000)));
    let held = measure(|| {
        for id in 1..=u16::MAX {
            let mut packet = publish.clone();
            let at = packet.len() - 1_000 - 2;
            packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
            world.feed("a", &packet);
            world.received("a").clear();
        }
    });
    let each = held.bytes_current / i64::from(u16::MAX);
    assert!(
        each < 256,
        "{each} bytes of an identifier that is not released"
    );
}

/// P9: what a client can ask for often has a number at which the answer is no.
#[test]
fn p9_counts_have_limits() {
    let mut world = world(&json!({"retained_messages_max": 1_000, "topic_alias_max": 65_535}));
    connect(&mut world, "a", V5, "clean");
    let walked = leveret_mqtt::limits::SUBSCRIPTIONS_WALKED_MAX;
    for first in (0..walked).step_by(1_000) {
        let filters: String = (first..first + 1_000)
            .map(|n| format!(" f{n}/+:0"))
            .collect();
        let came = say(&mut world, "a", &format!("SUBSCRIBE 1{filters}"));
        assert!(!came[0].contains("0x"), "{first}");
    }
    let came = say(&mut world, "a", "SUBSCRIBE 2 more/+:0 f1/+:0");
    assert!(came[0].starts_with("SUBACK 2 0x97 0"), "{came:?}");

    connect(&mut world, "b", V5, "clean");
    let mut codes = Vec::new();
    for n in 0..1_001 {
        codes.extend(say(
            &mut world,
            "b",
            &format!("PUBLISH q1 id=1 retain r/{n} x"),
        ));
    }
    assert!(
        codes[..1_000].iter().all(|code| code == "PUBACK 1 0x10"),
        "{codes:?}"
    );
    assert!(
        !world.is_open("b") || codes[1_000].contains("0x97"),
        "{}",
        codes[1_000]
    );
    assert_eq!(amqp::run(&mut world, "retained"), ["1000"]);

    connect(&mut world, "c", V5, "clean");
    let held = measure(|| {
        for alias in 1..=u16::MAX {
            say(&mut world, "c", &format!("PUBLISH q0 ta={alias} t x"));
        }
    });
    let each = held.bytes_current / i64::from(u16::MAX);
    assert!(each < 256, "{each} bytes of an alias");
    let properties = "u:k=v ".repeat(100_000);
    let came = say(&mut world, "c", &format!("PUBLISH q0 {properties}t x"));
    assert!(came[0].starts_with("DISCONNECT 0x97"), "{came:?}");
}

/// P10: neither repetitions nor strays leave anything behind, and identifiers that are in use stay
/// so over a reconnect.
#[test]
fn p10_packet_identifiers_do_not_leak() {
    let mut world = world(&json!({}));
    connect(&mut world, "a", V5, "sei=60");
    let publish = packets::encode(V5, "PUBLISH q2 dup id=7 t x");
    world.feed("a", &publish);
    let strays: Vec<u8> = ["PUBACK 9", "PUBREC 10", "PUBCOMP 11", "PUBREL 12"]
        .iter()
        .flat_map(|words| packets::encode(V5, words))
        .collect();
    let round = |world: &mut World| {
        for _ in 0..100 {
            world.feed("a", &publish);
            world.feed("a", &strays);
        }
        world.received("a").clear();
    };
    let mut rounds = || measure(|| (0..100).for_each(|_| round(&mut world))).bytes_current;
    // At first, buffers find their size.
    rounds();
    let held = rounds();
    assert!(held < 1_024, "{held} bytes after 50,000 packets");

    assert_eq!(say(&mut world, "a", "SUBSCRIBE 1 t:1"), ["SUBACK 1 1"]);
    amqp::run(&mut world, "burst t 3");
    assert_eq!(taken(&mut world, "a").len(), 3);
    let came = say(&mut world, "a", "PUBACK 2");
    assert!(came.is_empty(), "{came:?}");
    world.cut("a");
    world.open("a", "");
    world.speak("a", V5);
    amqp::run(&mut world, "burst t 2");
    let came = say(&mut world, "a", "CONNECT v5 id=a sei=60 rm=10");
    let ids = ["id=1 dup t 1", "id=3 dup t 3", "id=4 t 1", "id=5 t 2"];
    for (got, id) in came[1..].iter().zip(ids) {
        assert_eq!(*got, format!("PUBLISH q1 {id}"));
    }
}

/// A4: what a client calls itself is a word in a pattern, never a part of the pattern.
#[test]
fn a4_names_are_taken_literally_in_patterns() {
    let mut world = world(&json!({"disconnect_on_unauthorized": false}));
    let names = [
        "+",
        "#",
        ".*",
        ".",
        "-",
        "]",
        "[a-z]",
        "\\",
        "\\w+",
        "(",
        ")",
        "(?i)x",
        "^",
        "$",
        "a|b",
        "{client_id}",
        "{username}",
        "*",
        "a-z",
        "ä",
        "%20",
        "<<x*60000>>",
    ];
    amqp::run(&mut world, "user u p");
    amqp::run(&mut world, "permit u / .* .* .*");
    amqp::run(
        &mut world,
        "permit-topic u / amq.topic ^home.{client_id}$ .*",
    );
    for name in names {
        let name = crate::text::expand(name);
        world.open("a", "");
        world.speak("a", V5);
        let came = say(
            &mut world,
            "a",
            &format!("CONNECT v5 id={name} clean user=u pass=p"),
        );
        assert!(came[0].starts_with("CONNACK 0 "), "{name}: {came:?}");
        for topic in ["home/other", "home/a", "home/", "home/x/y", "home"] {
            if topic.strip_prefix("home/") == Some(name.as_str()) {
                continue;
            }
            let came = say(&mut world, "a", &format!("PUBLISH q1 id=1 {topic} x"));
            assert!(
                came[0].starts_with("PUBACK 1 0x87"),
                "{name} to {topic}: {came:?}"
            );
        }
        // A topic has no wildcards, so nobody can say it; the dot of a topic is one of a key.
        // A pattern that becomes too large matches nothing.
        if !name.contains(['+', '#']) && name.len() < 10_000 {
            let came = say(&mut world, "a", &format!("PUBLISH q1 id=1 home/{name} x"));
            assert!(!came[0].contains("0x87"), "{name}: {came:?}");
        }
        world.cut("a");
    }
    world.open("a", "");
    world.speak("a", V5);
    let came = say(&mut world, "a", "CONNECT v5 id=a%00b clean");
    assert!(came.is_empty() && !world.is_open("a"), "U+0000: {came:?}");
}

/// R3: names that were used once are forgotten.
#[test]
fn r3_distinct_names_leave_nothing_behind() {
    let mut world = world(&json!({}));
    let mut next = 0;
    let mut round = |world: &mut World| {
        for _ in 0..1_000 {
            next += 1;
            world.open("a", "");
            let words = format!(
                "CONNECT v4 id=c{next} clean ; SUBSCRIBE 1 t{next}/+:1 $share/g{next}/t:1 ; \
                 PUBLISH q1 id=1 u{next}/x y ; DISCONNECT"
            );
            world.speak("a", V4);
            assert_eq!(say(world, "a", &words).len(), 3);
            assert!(!world.is_open("a"));
        }
    };
    // Tables and route caches have found their size.
    (0..5).for_each(|_| round(&mut world));
    let held = measure(|| (0..5).for_each(|_| round(&mut world)));
    let each = held.bytes_current / 5_000;
    assert!(
        each < 16,
        "{each} bytes of each of 5,000 clients that are gone"
    );
    assert!(amqp::run(&mut world, "queues").is_empty());
}

/// R4: many filters of many wildcards and a long topic: some work each, and the right ones match.
#[test]
fn r4_many_wildcards_are_matched_one_by_one() {
    let mut world = world(&json!({}));
    connect(&mut world, "a", V5, "clean");
    for first in (0..2_000).step_by(500) {
        let filters: String = (first..first + 500)
            .map(|n| format!(" #/x{n}/#:0"))
            .collect();
        let came = say(
            &mut world,
            "a",
            &format!("SUBSCRIBE 1{filters} +/+/+/{first}/#:0"),
        );
        assert!(!came[0].contains("0x"), "{first}");
    }
    for levels in [16, 64, 250] {
        let topic = "a/".repeat(levels);
        let came = say(&mut world, "a", &format!("PUBLISH q1 id=1 {topic}x7/b y"));
        let end = format!(" {topic}x7/b y");
        let got = came.iter().filter(|packet| packet.ends_with(&end));
        assert_eq!(got.count(), 1, "{levels}: {}", came.len());
        assert_eq!(came.last().map(String::as_str), Some("PUBACK 1"));
    }
}
