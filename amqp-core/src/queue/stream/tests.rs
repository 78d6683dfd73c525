//! How a stream counts its messages.

use super::log::Log;
use super::segments::{Retention, Segments};
use crate::limits::STREAM_SEGMENTS_MAX;
use crate::time::Time;

/// However small segments are, there are few; and nothing is forgotten by that.
#[test]
fn segments_are_bounded() {
    let mut segments = Segments::default();
    let mut most = 0;
    for offset in 0..200_000 {
        segments.push(offset, 10, Some(Time(offset)), 1);
        most = most.max(segments.len());
    }
    assert!(most <= STREAM_SEGMENTS_MAX);
    assert_eq!(segments.bytes(), 2_000_000);
    let keep = Retention {
        segment_bytes: 1,
        bytes_max: Some(1_000_000),
        age_max_ms: None,
    };
    let first = segments.retain(keep, Time(0), |_| None).expect("half goes");
    // To a thousandth of it all.
    assert!((100_000..100_500).contains(&first), "{first}");
    assert_eq!(segments.bytes(), (200_000 - first) * 10);
    let old = Retention {
        age_max_ms: Some(1_000),
        ..Retention::default()
    };
    let first = segments
        .retain(old, Time(200_000), |_| None)
        .expect("old ones go");
    assert!((198_500..=199_000).contains(&first), "{first}");
    let all = Retention {
        bytes_max: Some(0),
        ..Retention::default()
    };
    segments.retain(all, Time(0), |_| None);
    assert_eq!(segments.len(), 1, "the newest stays");
}

/// What a restart found counts as what came since, and the newest offset is never used again.
#[test]
fn a_restored_log_goes_on() {
    let stretch = |first, count| crate::journal::Stretch {
        first,
        count,
        bytes: 0,
        part_bytes: 1_000 - 40 * u64::from(count),
        priority: None,
    };
    let log = Log::restored(&[stretch(7, 3), stretch(12, 2)], 1_500);
    assert_eq!((log.first(), log.next(), log.len()), (7, 14, 7));
    assert_eq!((log.tail_first(), log.bytes()), (14, 2_000));
    assert!(log.is_swept());
    let empty = Log::restored(&[], 1);
    assert_eq!((empty.first(), empty.next()), (0, 0));
}

/// FEATURES A9: a message that nobody can read any more keeps no older ones: what came after it
/// tells how old it is at least.
#[test]
fn a9_retention_by_age_passes_what_cannot_be_read() {
    let keep = Retention {
        segment_bytes: 10,
        bytes_max: None,
        age_max_ms: Some(100),
    };
    let restored = || {
        let mut segments = Segments::default();
        for offset in 0..6 {
            segments.push(offset, 10, None, keep.segment_bytes);
        }
        segments
    };
    // Message n came at n seconds.
    let came = |offset: u64| Some(Time(1_000 * offset));
    let all_but =
        |lost: &'static [u64]| move |offset: u64| came(offset).filter(|_| !lost.contains(&offset));
    for (lost, now, expected) in [
        (&[][..], 2_101, Some(3)),
        (&[0], 2_101, Some(3)),
        (&[0, 1], 2_101, Some(3)),
        (&[0, 1], 1_101, None),
        (&[2], 2_101, Some(2)),
        (&[2], 3_101, Some(4)),
    ] {
        let mut segments = restored();
        let first = segments.retain(keep, Time(now), all_but(lost));
        assert_eq!(first, expected, "without {lost:?} at {now}");
    }
    // Nothing is left to be read but what came since.
    let mut segments = restored();
    segments.push(6, 10, came(6), keep.segment_bytes);
    assert_eq!(segments.retain(keep, Time(6_100), |_| None), None);
    assert_eq!(segments.retain(keep, Time(6_101), |_| None), Some(6));
}
