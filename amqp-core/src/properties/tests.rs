//! Basic properties: bytes in, properties out, and back.

use super::*;

/// Flags, values, and what they say.
fn known() -> Vec<(&'static [u8], BasicProperties<'static>)> {
    let none = BasicProperties::default();
    let all = BasicProperties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"gzip"),
        headers: RawTable::parse(b"\x01at\x01").ok(),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some(b"c"),
        reply_to: Some(b"r"),
        expiration: Some(b"60000"),
        message_id: Some(b"m"),
        timestamp: Some(0x0102_0304_0506_0708),
        type_: Some(b"t"),
        user_id: Some(b"guest"),
        app_id: Some(b"\xFF"),
        cluster_id: Some(b""),
    };
    vec![
        (b"\0\0", none),
        (
            b"\x10\0\x02",
            BasicProperties {
                delivery_mode: Some(2),
                ..none
            },
        ),
        (
            b"\x18\0\x01\x05",
            BasicProperties {
                delivery_mode: Some(1),
                priority: Some(5),
                ..none
            },
        ),
        (
            b"\x20\0\0\0\0\0",
            BasicProperties {
                headers: Some(RawTable::default()),
                ..none
            },
        ),
        (
            b"\x01\0\x011",
            BasicProperties {
                expiration: Some(b"1"),
                ..none
            },
        ),
        (
            b"\0\x04\x02id",
            BasicProperties {
                cluster_id: Some(b"id"),
                ..none
            },
        ),
        (
            b"\xFF\xFC\x0Atext/plain\x04gzip\0\0\0\x04\x01at\x01\x02\x09\x01c\x01r\x0560000\x01m\
              \x01\x02\x03\x04\x05\x06\x07\x08\x01t\x05guest\x01\xFF\0",
            all,
        ),
    ]
}

#[test]
fn round_trip() {
    for (raw, properties) in known() {
        assert_eq!(BasicProperties::parse(raw), Ok(properties), "{raw:02x?}");
        let mut out = b"before".to_vec();
        assert_eq!(properties.encode(&mut out), Ok(()));
        assert_eq!(out, [b"before", raw].concat());
    }
}

#[test]
fn refused() {
    use PropertiesError::*;
    let cases: &[(&[u8], PropertiesError)] = &[
        (b"", Truncated),
        (b"\0", Truncated),
        (b"\0\x01\0\0", ReservedFlags { flags: 1 }),
        (b"\0\x02", ReservedFlags { flags: 2 }),
        (b"\0\0\0", TrailingBytes { bytes: 1 }),
        (b"\x10\0\x02\x02\x02", TrailingBytes { bytes: 2 }),
        (b"\x80\0\x05text", Truncated),
        (b"\x20\0\xFF\xFF\xFF\xFF\x01at\x01", Truncated),
        (
            b"\x20\0\0\0\0\x03\x01at\x01",
            Headers(FieldError::Truncated),
        ),
        (
            b"\x20\0\0\0\0\x03\x01a?",
            Headers(FieldError::UnknownType { letter: b'?' }),
        ),
        (b"\0\x40\0\0\0\0\0\0\0", Truncated),
    ];
    for (raw, error) in cases {
        assert_eq!(BasicProperties::parse(raw), Err(*error), "{raw:02x?}");
    }
}

#[test]
fn cut_at_every_byte() {
    for (raw, _) in known() {
        for end in 0..raw.len() {
            let cut = BasicProperties::parse(&raw[..end]);
            assert_eq!(cut, Err(PropertiesError::Truncated), "{:02x?}", &raw[..end]);
        }
    }
}

#[test]
fn too_long_leaves_no_half() {
    let long = [b'x'; 256];
    let fits = BasicProperties {
        user_id: Some(&long[..255]),
        ..BasicProperties::default()
    };
    let mut out = Vec::new();
    assert_eq!(fits.encode(&mut out), Ok(()));
    assert_eq!(BasicProperties::parse(&out), Ok(fits));

    let long = BasicProperties {
        user_id: Some(&long),
        ..fits
    };
    let mut out = b"before".to_vec();
    assert_eq!(
        long.encode(&mut out),
        Err(PropertiesError::TooLong { bytes: 256 })
    );
    assert_eq!(out, b"before");
}
