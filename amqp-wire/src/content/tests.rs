//! Content headers and bodies: bytes in and out.

use super::*;
use crate::frame::{Frame, decode};

#[test]
fn known_header() {
    let payload = b"\0\x3C\0\0\0\0\0\0\0\0\0\x05\x10\0\x02";
    let header = ContentHeader {
        class_id: 60,
        body_size: 5,
        properties: b"\x10\0\x02",
    };
    assert_eq!(ContentHeader::decode(payload), Ok(header));
    for end in 0..12 {
        assert_eq!(
            ContentHeader::decode(&payload[..end]),
            Err(ContentError::Truncated)
        );
    }
    let heavy = b"\0\x3C\x01\0\0\0\0\0\0\0\0\x05\x10\0\x02";
    assert_eq!(
        ContentHeader::decode(heavy),
        Err(ContentError::Weight { weight: 256 })
    );
    assert_eq!(ContentError::Truncated.reply_code(), ReplyCode::FrameError);
}

#[test]
fn body_is_cut_by_frame_max() {
    // frame_max, body size, sizes of the body frames' payloads
    let cases: &[(u32, usize, &[usize])] = &[
        (4096, 0, &[]),
        (4096, 1, &[1]),
        (4096, 4087, &[4087]),
        (4096, 4088, &[4088]),
        (4096, 4089, &[4088, 1]),
        (4096, 8176, &[4088, 4088]),
        (4096, 8177, &[4088, 4088, 1]),
        (0, 100_000, &[100_000]),
        (1, 3, &[1, 1, 1]),
    ];
    for (frame_max, body_bytes, expected) in cases {
        let body: Vec<u8> = (0..*body_bytes).map(|at| at as u8).collect();
        let mut out = Vec::new();
        encode(&mut out, 3, b"\0\0", &body, *frame_max);
        assert_eq!(out.len(), encoded_bytes(b"\0\0", &body, *frame_max));

        let (header, mut at) = next(&out);
        let header = ContentHeader::decode(header.payload).expect("legal");
        assert_eq!(
            (header.body_size, header.properties),
            (*body_bytes as u64, &b"\0\0"[..])
        );
        let mut sizes = Vec::new();
        let mut joined = Vec::new();
        while at < out.len() {
            let (frame, taken) = next(&out[at..]);
            assert_eq!((frame.kind, frame.channel), (FrameKind::Body, 3));
            sizes.push(frame.payload.len());
            joined.extend_from_slice(frame.payload);
            at += taken;
        }
        assert_eq!(sizes, *expected, "{frame_max} {body_bytes}");
        assert_eq!(joined, body);
    }
}

fn next(bytes: &[u8]) -> (Frame<'_>, usize) {
    decode(bytes, 0).expect("legal").expect("whole")
}
