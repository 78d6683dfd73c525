//! Field tables: bytes in, values out, and back; and bytes that must be refused.

use super::*;

/// A table body that holds `value` under an empty name, by its bytes.
fn single(value: &[u8]) -> Vec<u8> {
    [&[0], value].concat()
}

#[test]
fn letters() {
    let float = 1.5_f32.to_be_bytes();
    let double = (-2.25_f64).to_be_bytes();
    let cases: Vec<(Vec<u8>, Value)> = vec![
        (b"t\0".to_vec(), Value::Bool(false)),
        (b"t\x01".to_vec(), Value::Bool(true)),
        (b"b\xFF".to_vec(), Value::I8(-1)),
        (b"B\xFF".to_vec(), Value::U8(255)),
        (b"s\xFF\xFE".to_vec(), Value::I16(-2)),
        (b"u\xFF\xFE".to_vec(), Value::U16(0xFFFE)),
        (b"I\xFF\xFF\xFF\xFD".to_vec(), Value::I32(-3)),
        (b"i\xFF\xFF\xFF\xFD".to_vec(), Value::U32(0xFFFF_FFFD)),
        (
            b"l\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFC".to_vec(),
            Value::I64(-4),
        ),
        ([&b"f"[..], &float].concat(), Value::F32(1.5)),
        ([&b"d"[..], &double].concat(), Value::F64(-2.25)),
        (
            b"D\x02\0\0\x30\x39".to_vec(),
            Value::Decimal {
                scale: 2,
                value: 12345,
            },
        ),
        (b"T\0\0\0\0\0\0\x01\0".to_vec(), Value::Timestamp(256)),
        (b"S\0\0\0\x02hi".to_vec(), Value::from("hi")),
        (
            b"x\0\0\0\x02\xFF\0".to_vec(),
            Value::Bytes([0xFF, 0].into()),
        ),
        (b"V".to_vec(), Value::Void),
        (b"A\0\0\0\0".to_vec(), Value::Array(vec![])),
        (
            b"A\0\0\0\x03Vt\x01".to_vec(),
            Value::Array(vec![Value::Void, Value::Bool(true)]),
        ),
        (b"F\0\0\0\0".to_vec(), Value::Table(Table::new())),
    ];
    for (bytes, value) in cases {
        let body = single(&bytes);
        let table = Table::decode(&body).expect("legal");
        assert_eq!(table.lookup(""), Some(&value), "{bytes:02x?}");
        let mut out = Vec::new();
        assert_eq!(table.encode(&mut out), Ok(()));
        assert_eq!(out, body);
        let mut out = Vec::new();
        let (name, value) = RawTable::parse(&body)
            .expect("legal")
            .entries()
            .next()
            .expect("one");
        assert_eq!(encode_entry(&mut out, name, value), Ok(()));
        assert_eq!(out, body);
    }
}

#[test]
fn letters_that_only_come_in() {
    let cases: [(&[u8], Value); 2] = [
        (b"L\0\0\0\0\0\0\0\x05", Value::I64(5)),
        (b"t\x07", Value::Bool(true)),
    ];
    for (bytes, value) in cases {
        assert_eq!(
            Table::decode(&single(bytes)).expect("legal").lookup(""),
            Some(&value)
        );
    }
}

#[test]
fn order_duplicates_and_change() {
    let body = b"\x01bt\x01\x01aV\x01bt\0";
    let mut table = Table::decode(body).expect("legal");
    let names: Vec<&[u8]> = table.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"b", b"a", b"b"]);
    assert_eq!(table.lookup("b"), Some(&Value::Bool(true)));
    assert_eq!(
        RawTable::parse(body).expect("legal").lookup("b"),
        Some(ValueRef::Bool(true))
    );
    assert_eq!(table.lookup("c"), None);

    assert_eq!(table.insert("a", Value::U8(1)), Ok(()));
    assert_eq!(table.insert("c", Value::U8(2)), Ok(()));
    assert_eq!((table.len(), table.lookup("a")), (4, Some(&Value::U8(1))));
    assert!(table.remove("b"));
    assert!(!table.remove("b"));
    let mut out = Vec::new();
    assert_eq!(table.encode(&mut out), Ok(()));
    assert_eq!(out, b"\x01aB\x01\x01cB\x02");
}

#[test]
fn name_lengths() {
    let mut table = Table::new();
    assert_eq!(table.insert(&"n".repeat(255), Value::Void), Ok(()));
    let error = FieldError::NameTooLong { bytes: 256 };
    assert_eq!(table.insert(&"n".repeat(256), Value::Void), Err(error));
    assert_eq!(table.len(), 1);
    assert_eq!(validate(&[&[255][..], &[0xFF; 255], b"V"].concat()), Ok(()));
    let mut out = b"before".to_vec();
    assert_eq!(
        encode_entry(&mut out, &[b'n'; 256], ValueRef::Void),
        Err(error)
    );
    assert_eq!(out, b"before");
}

#[test]
fn lengths_that_lie() {
    let cases: &[&[u8]] = &[
        b"\x01",
        b"\x01a",
        b"\xFFa",
        b"\0t",
        b"\0l\0\0\0\0\0\0\0",
        b"\0D\0\0\0\0",
        b"\0S\0\0\0\x02h",
        b"\0S\xFF\xFF\xFF\xFF",
        b"\0x\xFF\xFF\xFF\xFFx",
        b"\0F\0\0\0\x01",
        b"\0F\xFF\xFF\xFF\xFF\0V",
        b"\0A\0\0\0\x02t",
        // The inner length stays inside the frame but not inside what holds it.
        b"\0F\0\0\0\x03\0t\x01\0V\xFF",
        b"\0A\0\0\0\x01t\x01\0V",
        b"\0F\0\0\0\x06\0S\0\0\0\x02hi",
    ];
    for bytes in cases {
        let found = validate(bytes);
        assert!(
            matches!(found, Err(FieldError::Truncated)),
            "{bytes:02x?} gave {found:?}"
        );
        assert_eq!(Table::decode(bytes), Err(FieldError::Truncated));
    }
    assert_eq!(
        validate(b"\0?"),
        Err(FieldError::UnknownType { letter: b'?' })
    );
    assert_eq!(
        validate(b"\0U\0\x01"),
        Err(FieldError::UnknownType { letter: b'U' })
    );
}

#[test]
fn cut_at_every_byte() {
    let mut inner = Table::new();
    inner
        .insert("b", Value::Array(vec![Value::I32(7), Value::from("x")]))
        .expect("short");
    let mut table = Table::new();
    table.insert("a", Value::Table(inner)).expect("short");
    table.insert("c", Value::Timestamp(1)).expect("short");
    let mut body = Vec::new();
    table.encode(&mut body).expect("flat");
    let boundary = 1 + 1 + 1 + 4 + (1 + 1 + 1 + 4 + 5 + 6);
    for end in 0..=body.len() {
        let legal = end == 0 || end == boundary || end == body.len();
        assert_eq!(validate(&body[..end]).is_ok(), legal, "{end}");
    }
}

/// `levels` tables in each other, the outermost one without its prefix.
fn nested(levels: usize, letter: u8) -> Vec<u8> {
    // Built from the outside: every level is a fixed number of bytes larger than the next.
    let header = if letter == b'F' { 6 } else { 5 };
    let mut out = Vec::new();
    for level in 1..levels {
        let inner = u32::try_from((levels - 1 - level) * header).expect("small");
        if letter == b'F' || level == 1 {
            out.push(0);
        }
        out.push(letter);
        out.extend_from_slice(&inner.to_be_bytes());
    }
    out
}

#[test]
fn nesting() {
    for letter in [b'F', b'A'] {
        let cases = [(1, true), (NESTING_MAX, true), (NESTING_MAX + 1, false)];
        for (levels, legal) in cases {
            let bytes = nested(levels, letter);
            assert_eq!(validate(&bytes).is_ok(), legal, "{levels}");
            assert_eq!(RawTable::parse(&bytes).is_ok(), legal, "{levels}");
        }
        // What a client may send, records have one level deeper.
        for (levels, legal) in cases.map(|(levels, legal)| (levels + 1, legal)) {
            let bytes = nested(levels, letter);
            let table = Table::decode(&bytes);
            assert_eq!(table.is_ok(), legal, "{levels}");
            if let Ok(table) = table {
                let mut out = Vec::new();
                assert_eq!(table.encode(&mut out), Ok(()));
                assert_eq!(out, bytes);
            }
        }
        let error = FieldError::NestingTooDeep;
        assert_eq!(validate(&nested(100_000, letter)), Err(error));
        assert_eq!(Table::decode(&nested(100_000, letter)), Err(error));
    }
}

#[test]
fn nesting_on_the_way_out() {
    let mut value = Value::Void;
    for _ in 0..KEPT_NESTING_MAX {
        value = Value::Array(vec![value]);
    }
    let mut table = Table::new();
    table.insert("a", Value::Void).expect("short");
    table.insert("deep", value).expect("short");
    let mut out = b"before".to_vec();
    assert_eq!(table.encode(&mut out), Err(FieldError::NestingTooDeep));
    assert_eq!(out, b"before");
}

#[test]
fn noise_never_panics() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let letters = b"tbBsuIilLfdDTSxFAV\0\0\0\0\x01\x02\x03";
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..state % 40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(letters[(state % letters.len() as u64) as usize]);
        }
        state = state.wrapping_add(0x1234_5677);
        if let Ok(table) = Table::decode(&bytes) {
            let mut out = Vec::new();
            assert_eq!(table.encode(&mut out), Ok(()));
            assert_eq!(out.len(), bytes.len());
        }
    }
}
