//! Frames: bytes in, frames out.

use super::*;

const FRAMES: &[(&[u8], Frame<'static>)] = &[
    (
        b"\x08\0\0\0\0\0\0\xCE",
        Frame {
            kind: FrameKind::Heartbeat,
            channel: 0,
            payload: b"",
        },
    ),
    (
        b"\x01\0\x01\0\0\0\x04\0\x5A\0\x0A\xCE",
        Frame {
            kind: FrameKind::Method,
            channel: 1,
            payload: b"\0\x5A\0\x0A",
        },
    ),
    (
        b"\x02\xFF\xFE\0\0\0\x01h\xCE",
        Frame {
            kind: FrameKind::Header,
            channel: 0xFFFE,
            payload: b"h",
        },
    ),
    (
        b"\x03\0\x07\0\0\0\x03\xCE\xCE\xCE\xCE",
        Frame {
            kind: FrameKind::Body,
            channel: 7,
            payload: b"\xCE\xCE\xCE",
        },
    ),
];

#[test]
fn one_after_the_other() {
    let stream: Vec<u8> = FRAMES
        .iter()
        .flat_map(|(bytes, _)| bytes.iter().copied())
        .collect();
    let mut rest = &stream[..];
    for (bytes, frame) in FRAMES {
        assert_eq!(decode(rest, 4096), Ok(Some((*frame, bytes.len()))));
        rest = &rest[bytes.len()..];
        let mut out = Vec::new();
        with_payload(&mut out, frame.kind, frame.channel, |out| {
            out.extend_from_slice(frame.payload);
        });
        assert_eq!(out, *bytes);
    }
    assert_eq!(decode(rest, 4096), Ok(None));
    let mut out = Vec::new();
    heartbeat(&mut out);
    assert_eq!(out, FRAMES[0].0);
}

#[test]
fn cut_at_every_byte() {
    for (bytes, _) in FRAMES {
        for end in 0..bytes.len() {
            assert_eq!(
                decode(&bytes[..end], 4096),
                Ok(None),
                "{:02x?}",
                &bytes[..end]
            );
        }
    }
}

#[test]
fn size() {
    let cases = [
        (4096, 4095, true),
        (4096, 4096, true),
        (4096, 4097, false),
        (4096, u32::MAX, false),
        (0, FRAME_BYTES_MAX, true),
        (0, FRAME_BYTES_MAX + 1, false),
        (u32::MAX, FRAME_BYTES_MAX, true),
        (u32::MAX, FRAME_BYTES_MAX + 1, false),
        (u32::MAX, u32::MAX, false),
    ];
    for (frame_max, size, taken) in cases {
        let [s0, s1, s2, s3] = u32::to_be_bytes(size);
        // Seven bytes are enough to refuse it.
        let head = [3, 0, 1, s0, s1, s2, s3];
        let found = decode(&head, frame_max);
        let size_max = if frame_max == 4096 {
            4096
        } else {
            FRAME_BYTES_MAX
        };
        let expected = if taken {
            Ok(None)
        } else {
            Err(FrameError::TooLarge {
                size,
                size_max: size_max - FRAME_OVERHEAD_BYTES as u32,
            })
        };
        assert_eq!(found, expected, "{frame_max} {size}");
    }
    let mut whole = head(FrameKind::Body, 1, 4096).to_vec();
    whole.resize(whole.len() + 4096, b'x');
    assert_eq!(decode(&whole, 4096), Ok(None));
    whole.push(FRAME_END);
    assert!(matches!(decode(&whole, 4096), Ok(Some((_, 4104)))));
}

#[test]
fn refused() {
    let cases: &[(&[u8], FrameError)] = &[
        (b"\0\0\0\0\0\0\0", FrameError::UnknownType { kind: 0 }),
        (b"\x04\0\0\0\0\0\0", FrameError::UnknownType { kind: 4 }),
        (b"AMQP\0\0\x09\x01", FrameError::UnknownType { kind: b'A' }),
        (b"\x08\0\0\0\0\0\0\xCD", FrameError::BadEnd { end: 0xCD }),
        (
            b"\x01\0\x01\0\0\0\x04\0\x5A\0\x0A\x0B\xCE",
            FrameError::BadEnd { end: 0x0B },
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(bytes, 4096), Err(*error), "{bytes:02x?}");
    }
}
