//! Properties of both protocols into each other: what is mapped comes back, and nothing harms.

use leveret_core::field::{RawTable, Table, Value};
use leveret_core::identity::Reserved;
use leveret_core::key::Form;
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::{MQTT, SIGNED, append_properties};
use crate::identity::{Facts, block, sign};
use crate::limits::{HEADERS_BYTES_MAX, USER_HEADERS_BYTES_MAX, USER_PROPERTIES_MAX};
use crate::property::{Properties, Property};

const NOW: Time = Time(1_700_000_000_000);

/// SplitMix64: the same rows in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn text(&mut self, letters_max: usize) -> String {
        const LETTERS: [char; 12] = ['a', 'B', '7', '/', '.', '-', ' ', 'é', '水', '𝄞', '$', '~'];
        let letters = self.below(letters_max + 1);
        (0..letters)
            .map(|_| LETTERS[self.below(LETTERS.len())])
            .collect()
    }

    fn bytes(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.below(bytes_max + 1);
        (0..bytes).map(|_| self.next() as u8).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 15 } else { 17 }) {
            0 => Value::Bool(self.below(2) == 1),
            1 => Value::I8(self.next() as i8),
            2 => Value::U8(self.next() as u8),
            3 => Value::I16(self.next() as i16),
            4 => Value::U16(self.next() as u16),
            5 => Value::I32(self.next() as i32),
            6 => Value::U32(self.next() as u32),
            7 => Value::I64(self.next() as i64),
            8 => Value::F32(f32::from_bits(self.next() as u32)),
            9 => Value::F64(f64::from_bits(self.next())),
            10 => Value::Decimal {
                scale: self.next() as u8,
                value: self.next() as u32,
            },
            11 => Value::LongString(self.bytes(300).into()),
            12 => Value::Timestamp(self.next()),
            13 => Value::Bytes(self.bytes(300).into()),
            14 => Value::Void,
            15 => Value::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Table(self.table(4, depth - 1)),
        }
    }

    fn table(&mut self, entries_max: usize, depth: usize) -> Table {
        const NAMES: [&str; 4] = ["x-correlation-id", "x-reply-to-topic", "CC", "x-mqtt-qos"];
        let mut table = Table::new();
        for _ in 0..self.below(entries_max + 1) {
            let name = match self.below(4) {
                0 => NAMES[self.below(NAMES.len())].to_owned(),
                _ => self.text(20),
            };
            let value = self.value(depth);
            table.insert(&name, value).expect("a short name");
        }
        table
    }
}

fn mqtt<'a>(properties: &'a [u8]) -> MessageRef<'a> {
    MessageRef {
        head: Head {
            origin: &MQTT,
            form: Form::Slashed,
            persistent: true,
            exactly_once: false,
            retain: false,
            publisher: 0,
            received: NOW,
            expires: None,
        },
        exchange: "amq.topic",
        key: b"a/b",
        properties,
        payload: b"x",
    }
}

fn amqp<'a>(properties: &'a [u8]) -> MessageRef<'a> {
    let message = mqtt(properties);
    MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form: Form::Dotted,
            ..message.head
        },
        key: b"a.b",
        ..message
    }
}

fn encoded(properties: &[Property<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for property in properties {
        property.encode(&mut out).expect("it fits a packet");
    }
    out
}

fn to_amqp(message: &MessageRef<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message
        .head
        .origin
        .append_basic_properties(message, &mut out);
    out
}

fn to_mqtt(message: &MessageRef<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    append_properties(message, Reserved::default(), NOW, &mut out);
    out
}

/// As a subscriber reads them; panics if they are no legal properties.
fn shown(raw: &[u8]) -> Vec<String> {
    let properties = Properties::from_checked(raw);
    let all: Vec<_> = properties.iter().collect();
    // The first that cannot be read ends them.
    assert_eq!(encoded(&all), raw);
    let mut found: Vec<_> = all.iter().map(|property| format!("{property:?}")).collect();
    found.sort();
    found
}

#[test]
fn i1_i2_what_is_mapped_comes_back_as_it_was() {
    let mut random = Random(6);
    for round in 0..2_000 {
        let content_type = format!("text/{}", random.below(1_000));
        let correlation = random.bytes(400);
        // Dots and slashes are one in a key.
        let topic = format!("answers/{}/x", random.below(1_000));
        let pairs: Vec<(String, String)> = (0..random.below(8))
            .map(|n| (format!("{}{n}", random.text(20)), random.text(200)))
            .collect();
        let mut properties = vec![];
        if random.below(2) == 0 {
            properties.push(Property::ContentType(&content_type));
        }
        if random.below(2) == 0 {
            properties.push(Property::ResponseTopic(&topic));
        }
        if random.below(2) == 0 {
            properties.push(Property::CorrelationData(&correlation));
        }
        for (name, value) in &pairs {
            properties.push(Property::UserProperty(name, value));
        }
        let raw = encoded(&properties);
        let there = to_amqp(&mqtt(&raw));
        assert!(BasicProperties::parse(&there).is_ok(), "round {round}");
        let back = to_mqtt(&amqp(&there));
        assert_eq!(shown(&back), shown(&raw), "round {round}");
    }
}

#[test]
fn i1_signed_properties_are_legal_and_come_to_mqtt_as_they_were() {
    let mut random = Random(7);
    let facts = Facts {
        client_id: "dev",
        user: "u",
        vhost: "/",
        peer: "[::1]:1883".parse().expect("an address"),
    };
    let reserved = Reserved {
        headers: true,
        annotation: true,
    };
    let block = block(&facts, reserved);
    for _ in 0..500 {
        let name = random.text(20);
        let raw = match random.below(2) {
            0 => Vec::new(),
            _ => encoded(&[Property::UserProperty(&name, "v")]),
        };
        let mut joined = Vec::new();
        let (origin, properties) = sign(&block, (&raw, &[]), &mut joined);
        let mut message = mqtt(properties);
        message.head.origin = origin;
        assert_eq!(to_mqtt(&message), raw);
        let there = to_amqp(&message);
        let basic = BasicProperties::parse(&there).expect("legal");
        assert_eq!(basic.user_id, Some(&b"u"[..]));
        let headers = basic.headers.expect("headers").to_table();
        assert_eq!(
            headers.lookup("x-mqtt-client-id"),
            Some(&Value::from("dev"))
        );
        assert_eq!(
            headers.lookup("x-mqtt-peer"),
            Some(&Value::from("[::1]:1883"))
        );
        assert_eq!(headers.lookup("x-mqtt-topic"), Some(&Value::from("a/b")));
    }
}

#[test]
fn i3_a_damaged_block_harms_nobody() {
    let damaged: [&[u8]; 6] = [
        b"",
        &[0],
        &[0, 9, 1],
        &[255, 255],
        &[0, 3, 3, 0, 9],
        &[0, 6, 3, 0, 1, b'v', 0, 9],
    ];
    for raw in damaged {
        let mut message = mqtt(raw);
        message.head.origin = &SIGNED;
        assert_eq!(to_mqtt(&message), b"", "{raw:?}");
        let there = to_amqp(&message);
        let basic = BasicProperties::parse(&there).expect("legal");
        assert_eq!((basic.user_id, basic.headers.is_some()), (None, false));
    }
}

#[test]
fn i3_what_is_too_long_for_each_message_is_left_out() {
    let long = "c".repeat(1_025);
    let facts = Facts {
        client_id: &long,
        user: &"u".repeat(1_024),
        vhost: "/",
        peer: "127.0.0.1:1".parse().expect("an address"),
    };
    let reserved = Reserved {
        headers: true,
        annotation: true,
    };
    let raw = block(&facts, reserved);
    // Nobody may say instead of the broker what it leaves out.
    let forged = encoded(&[
        Property::UserProperty("x-mqtt-client-id", "forged"),
        Property::UserProperty("x-opt-mqtt-client-id", "forged"),
    ]);
    let mut joined = Vec::new();
    let (origin, properties) = sign(&raw, (&forged, &[]), &mut joined);
    let mut message = mqtt(properties);
    message.head.origin = origin;
    let there = to_amqp(&message);
    let basic = BasicProperties::parse(&there).expect("legal");
    assert_eq!(basic.user_id, None, "a short string has 255 bytes");
    let headers = basic.headers.expect("headers");
    assert!(headers.lookup("x-mqtt-username").is_some());
    assert!(headers.lookup("x-mqtt-client-id").is_none());
    assert!(headers.lookup("x-opt-mqtt-client-id").is_none());
}

#[test]
fn i1_what_does_not_fit_is_left_out() {
    let long = "n".repeat(256);
    let heavy = "v".repeat(USER_HEADERS_BYTES_MAX - 5);
    let huge = [b'c'; 65_535];
    let raw = encoded(&[
        Property::ContentType("text/é"),
        Property::CorrelationData(&huge),
        Property::UserProperty(&long, "v"),
        Property::UserProperty("heavy", "v"),
        Property::UserProperty("heavy", "again"),
        Property::UserProperty("heavier", &heavy),
        Property::UserProperty("k", "w"),
    ]);
    let there = to_amqp(&mqtt(&raw));
    let basic = BasicProperties::parse(&there).expect("legal");
    assert_eq!((basic.content_type, basic.correlation_id), (None, None));
    let headers = basic.headers.expect("headers");
    assert!(headers.as_bytes().len() <= HEADERS_BYTES_MAX);
    let table = headers.to_table();
    assert_eq!(table.lookup("heavy"), Some(&Value::from("v")));
    assert_eq!(table.lookup("k"), Some(&Value::from("w")));
    assert_eq!(table.lookup(&long), None);
    assert_eq!(table.lookup("heavier"), None);
}

#[test]
fn i2_each_type_of_field() {
    let cases: [(Value, Option<&str>); 19] = [
        (Value::Bool(true), Some("true")),
        (Value::I8(-1), Some("-1")),
        (Value::U8(255), Some("255")),
        (Value::I16(-2), Some("-2")),
        (Value::U16(65_535), Some("65535")),
        (Value::I32(i32::MIN), Some("-2147483648")),
        (Value::U32(u32::MAX), Some("4294967295")),
        (Value::I64(i64::MIN), Some("-9223372036854775808")),
        (Value::F32(1.5), Some("1.5")),
        (Value::F64(0.1), Some("0.1")),
        (Value::Timestamp(u64::MAX), Some("18446744073709551615")),
        (Value::Void, Some("")),
        (Value::from("text"), Some("text")),
        (Value::LongString(b"\xff".to_vec().into()), None),
        (Value::LongString(b"a\0".to_vec().into()), None),
        (Value::Decimal { scale: 1, value: 5 }, None),
        (Value::Bytes(b"b".to_vec().into()), None),
        (Value::Array(vec![Value::Void]), None),
        (Value::Table(Table::new()), None),
    ];
    for (value, expected) in cases {
        let mut table = Table::new();
        table.insert("k", value.clone()).expect("a short name");
        let mut headers = Vec::new();
        table.encode(&mut headers).expect("it fits");
        let basic = BasicProperties {
            headers: Some(RawTable::parse(&headers).expect("a table")),
            content_encoding: Some(b"gzip"),
            priority: Some(9),
            message_id: Some(b"m"),
            timestamp: Some(1),
            type_: Some(b"t"),
            user_id: Some(b"u"),
            app_id: Some(b"a"),
            cluster_id: Some(b"c"),
            ..BasicProperties::default()
        };
        let mut raw = Vec::new();
        basic.encode(&mut raw).expect("it fits");
        let found = to_mqtt(&amqp(&raw));
        let expected: Vec<_> = expected
            .map(|text| format!("{:?}", Property::UserProperty("k", text)))
            .into_iter()
            .collect();
        assert_eq!(shown(&found), expected, "{value:?}");
    }
}

#[test]
fn i2_no_table_harms_a_subscriber() {
    let mut random = Random(8);
    for round in 0..2_000 {
        let entries = if round % 500 == 0 { 3_000 } else { 12 };
        let table = random.table(entries, 3);
        let mut headers = Vec::new();
        table.encode(&mut headers).expect("it fits");
        let (content_type, correlation) = (random.bytes(255), random.bytes(255));
        let basic = BasicProperties {
            headers: RawTable::parse(&headers).ok(),
            content_type: Some(&content_type),
            correlation_id: Some(&correlation),
            ..BasicProperties::default()
        };
        let mut raw = Vec::new();
        basic.encode(&mut raw).expect("it fits");
        let found = to_mqtt(&amqp(&raw));
        let properties = Properties::from_checked(&found);
        let user = |property: &Property<'_>| matches!(property, Property::UserProperty(..));
        assert!(properties.iter().filter(user).count() <= USER_PROPERTIES_MAX as usize);
        // Whatever is sent can be read.
        shown(&found);
    }
}
