//! Tests of the property table: which packet carries which, values, duplicates, bounds.

use super::*;

const SETS: [PropertySet; 16] = [
    PropertySet::Connect,
    PropertySet::Will,
    PropertySet::ConnAck,
    PropertySet::ClientPublish,
    PropertySet::ServerPublish,
    PropertySet::PubAck,
    PropertySet::PubRec,
    PropertySet::PubRel,
    PropertySet::PubComp,
    PropertySet::Subscribe,
    PropertySet::SubAck,
    PropertySet::Unsubscribe,
    PropertySet::UnsubAck,
    PropertySet::ClientDisconnect,
    PropertySet::ServerDisconnect,
    PropertySet::Auth,
];

/// Table 2-4: one row a property; one letter for each of [`SETS`], `x` where it may stand.
/// The column of a server's DISCONNECT is [MQTT-3.14.2-2].
const TABLE: [(u8, &str); 27] = [
    (0x01, ".x.xx..........."),
    (0x02, ".x.xx..........."),
    (0x03, ".x.xx..........."),
    (0x08, ".x.xx..........."),
    (0x09, ".x.xx..........."),
    (0x0B, "....x....x......"),
    (0x11, "x.x..........x.."),
    (0x12, "..x............."),
    (0x13, "..x............."),
    (0x15, "x.x............x"),
    (0x16, "x.x............x"),
    (0x17, "x..............."),
    (0x18, ".x.............."),
    (0x19, "x..............."),
    (0x1A, "..x............."),
    (0x1C, "..x..........xx."),
    (0x1F, "..x..xxxx.x.xxxx"),
    (0x21, "x.x............."),
    (0x22, "x.x............."),
    (0x23, "...xx..........."),
    (0x24, "..x............."),
    (0x25, "..x............."),
    (0x26, "xxxxxxxxxxxxxxxx"),
    (0x27, "x.x............."),
    (0x28, "..x............."),
    (0x29, "..x............."),
    (0x2A, "..x............."),
];

fn samples() -> [Property<'static>; 27] {
    let (one, many) = (NonZeroU16::MIN, NonZeroU32::new(300).unwrap());
    [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("a/b"),
        Property::CorrelationData(&[0, 1, 255]),
        Property::SubscriptionIdentifier(many),
        Property::SessionExpiryInterval(u32::MAX),
        Property::AssignedClientIdentifier("id"),
        Property::ServerKeepAlive(0),
        Property::AuthenticationMethod("SCRAM-SHA-1"),
        Property::AuthenticationData(b"x"),
        Property::RequestProblemInformation(false),
        Property::WillDelayInterval(5),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation("r"),
        Property::ServerReference("s"),
        Property::ReasonString("why"),
        Property::ReceiveMaximum(one),
        Property::TopicAliasMaximum(0),
        Property::TopicAlias(one),
        Property::MaximumQoS(true),
        Property::RetainAvailable(false),
        Property::UserProperty("k", ""),
        Property::MaximumPacketSize(many),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifierAvailable(true),
        Property::SharedSubscriptionAvailable(true),
    ]
}

fn block(properties: &[Property<'_>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for property in properties {
        property.encode(&mut raw).unwrap();
    }
    let mut out = Vec::new();
    put_block(&mut out, &raw);
    assert_eq!(out.len(), block_len(&raw));
    out
}

fn decode(bytes: &[u8], set: PropertySet) -> Result<Properties<'_>, Violation> {
    Properties::decode(&mut Reader::new(bytes), set, |_| ())
}

#[test]
fn table_2_4_property_by_packet() {
    for ((id, letters), sample) in TABLE.into_iter().zip(samples()) {
        assert_eq!(sample.id() as u8, id);
        for (set, letter) in SETS.into_iter().zip(letters.chars()) {
            let method = Property::AuthenticationMethod("m");
            let needs_method = id == 0x16 && letter == 'x';
            let properties = if needs_method {
                vec![method, sample]
            } else {
                vec![sample]
            };
            let bytes = block(&properties);
            let got = decode(&bytes, set);
            let expect = match (letter, id, set) {
                ('x', ..) => None,
                (_, 0x0B, PropertySet::ClientPublish) => {
                    Some(Violation::SubscriptionIdentifierFromClient)
                }
                _ => Some(Violation::PropertyNotAllowed {
                    property: sample.id(),
                    packet: set.packet(),
                }),
            };
            match expect {
                None => assert_eq!(got.unwrap().iter().collect::<Vec<_>>(), properties),
                Some(violation) => assert_eq!(got, Err(violation), "{id:#04x} {set:?}"),
            }
        }
    }
}

#[test]
fn twice_is_a_protocol_error_but_for_user_properties() {
    for sample in samples() {
        let found = SETS
            .into_iter()
            .find(|set| set.allowed() & sample.id().bit() != 0);
        let bytes = block(&[sample, sample]);
        let got = decode(&bytes, found.unwrap());
        match sample.id() {
            Id::UserProperty | Id::SubscriptionIdentifier => assert!(got.is_ok()),
            property => assert_eq!(got, Err(Violation::PropertyDuplicate { property })),
        }
    }
    let id = Property::SubscriptionIdentifier(NonZeroU32::MIN);
    let twice = block(&[id, id]);
    let expect = Violation::PropertyDuplicate {
        property: Id::SubscriptionIdentifier,
    };
    assert_eq!(decode(&twice, PropertySet::Subscribe), Err(expect));
}

type Row<'a> = (&'a [u8], PropertySet, Violation);

fn check(rows: &[Row<'_>]) {
    for (bytes, set, expect) in rows {
        assert_eq!(decode(bytes, *set), Err(*expect), "{bytes:02x?}");
    }
}

const fn value(property: PropertyId, value: u32) -> Violation {
    Violation::PropertyValue { property, value }
}

#[test]
fn booleans_above_1() {
    let rows: [Row<'_>; 5] = [
        (
            &[2, 0x01, 2],
            PropertySet::Will,
            value(Id::PayloadFormatIndicator, 2),
        ),
        (
            &[2, 0x17, 2],
            PropertySet::Connect,
            value(Id::RequestProblemInformation, 2),
        ),
        (
            &[2, 0x19, 255],
            PropertySet::Connect,
            value(Id::RequestResponseInformation, 255),
        ),
        (
            &[2, 0x24, 2],
            PropertySet::ConnAck,
            value(Id::MaximumQoS, 2),
        ),
        (
            &[2, 0x25, 2],
            PropertySet::ConnAck,
            value(Id::RetainAvailable, 2),
        ),
    ];
    check(&rows);
}

#[test]
fn values_that_may_not_be() {
    let rows: [Row<'_>; 9] = [
        (
            &[3, 0x21, 0, 0],
            PropertySet::Connect,
            value(Id::ReceiveMaximum, 0),
        ),
        (
            &[5, 0x27, 0, 0, 0, 0],
            PropertySet::Connect,
            value(Id::MaximumPacketSize, 0),
        ),
        (
            &[2, 0x0B, 0],
            PropertySet::Subscribe,
            value(Id::SubscriptionIdentifier, 0),
        ),
        (
            &[3, 0x23, 0, 0],
            PropertySet::ClientPublish,
            Violation::TopicAliasZero,
        ),
        (
            &[4, 0x08, 0, 1, b'#'],
            PropertySet::ClientPublish,
            Violation::ResponseTopicInvalid,
        ),
        (
            &[3, 0x08, 0, 0],
            PropertySet::ClientPublish,
            Violation::ResponseTopicInvalid,
        ),
        (
            &[2, 0x04, 0],
            PropertySet::Connect,
            Violation::PropertyUnknown { id: 4 },
        ),
        (
            &[2, 0x81, 1],
            PropertySet::Connect,
            Violation::PropertyUnknown { id: 129 },
        ),
        (
            &[4, 0x16, 0, 1, b'x'],
            PropertySet::Connect,
            Violation::AuthenticationDataWithoutMethod,
        ),
    ];
    check(&rows);
}

#[test]
fn a_block_ends_where_its_length_says() {
    for (bytes, field) in [
        (&[][..], "property length"),
        (&[1], "properties"),
        (&[2, 0x11, 0], "session expiry interval"),
        (&[3, 0x26, 0, 1, b'k', 0, 0], "user property name"),
    ] {
        let got = decode(bytes, PropertySet::Connect);
        assert_eq!(got, Err(Violation::Truncated { field }));
    }
}

#[test]
fn user_properties_are_bounded() {
    let most = vec![Property::UserProperty("", ""); USER_PROPERTIES_MAX as usize];
    assert!(decode(&block(&most), PropertySet::Unsubscribe).is_ok());
    let more = vec![Property::UserProperty("", ""); USER_PROPERTIES_MAX as usize + 1];
    let expect = Violation::UserPropertiesTooMany {
        max: USER_PROPERTIES_MAX,
    };
    assert_eq!(decode(&block(&more), PropertySet::Unsubscribe), Err(expect));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let long = "x".repeat(65_536);
    for property in [
        Property::ReasonString(&long),
        Property::UserProperty(&long, ""),
        Property::UserProperty("", &long),
        Property::CorrelationData(long.as_bytes()),
        Property::SubscriptionIdentifier(NonZeroU32::MAX),
    ] {
        let mut out = Vec::new();
        assert!(property.encode(&mut out).is_err());
        assert!(out.is_empty());
    }
}

/// [MQTT-1.5.4-1]: a character is in one string; what stands behind it makes no other whole.
#[test]
fn mqtt_1_5_4_1_no_character_reaches_over_the_end_of_its_string() {
    let cut = [8, 0x26, 0, 1, b'a', 0, 1, 0xC3, 0xA6];
    let field = "user property value";
    let expected = Violation::StringNotUtf8 { field };
    let got = decode(&cut, PropertySet::ClientPublish).err();
    assert_eq!(got, Some(expected));
    let whole = [8, 0x26, 0, 1, b'a', 0, 2, 0xC3, 0xA6];
    let got = decode(&whole, PropertySet::ClientPublish).expect("it is a character");
    let all: Vec<_> = got.iter().collect();
    assert_eq!(all, [Property::UserProperty("a", "\u{e6}")]);
}
