//! The ring of consumers against a list that is walked.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Consumer, Consumers};
use crate::sink::{Delivery, Outcome, Sink};
use crate::watermark::Wake;

struct Nobody;

impl Sink for Nobody {
    fn deliver(&self, _delivery: &mut Delivery<'_>) -> Outcome {
        Outcome::Full
    }

    fn cancelled(&self, _consumer: u64) {}
}

impl Wake for Nobody {
    fn wake(&self) {}
}

fn consumer(number: u64) -> Consumer {
    Consumer::new(number, number % 3, Arc::from("tag"), Arc::new(Nobody))
}

/// Who came, who has credit in turn: over additions, credit, blocks and removals, with few and with
/// many.
#[test]
fn turns_are_taken_by_those_with_credit() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    };
    for most in [1, 2, 3, 40] {
        let (mut consumers, mut held) = (Consumers::default(), Vec::new());
        let mut ring: VecDeque<u64> = VecDeque::new();
        for number in 0..4_000 {
            let some = roll(held.len().max(1) as u64) as usize;
            match (roll(6), held.get(some).copied()) {
                (0, _) if held.len() < most => {
                    consumers.add(consumer(number), false);
                    held.push(number);
                }
                (1, Some(gone)) if roll(3) == 0 => {
                    assert!(consumers.remove(gone % 3, gone).0);
                    assert!(!consumers.remove(gone % 3, gone).0);
                    held.swap_remove(some);
                    ring.retain(|other| *other != gone);
                }
                (2, Some(open)) => {
                    assert!(consumers.unblock(open % 3, open));
                    if !ring.contains(&open) {
                        ring.push_back(open);
                    }
                }
                (3, _) => {
                    if let Some(place) = consumers.next_open() {
                        consumers.block(place);
                    }
                    ring.pop_front();
                }
                _ => {
                    let place = consumers.next_open();
                    let turn = place
                        .and_then(|place| consumers.at(place))
                        .map(|held| held.key);
                    assert_eq!(turn, ring.front().copied());
                    ring.rotate_left(usize::from(!ring.is_empty()));
                }
            }
            assert_eq!(consumers.open(), ring.len());
            assert_eq!(consumers.len(), held.len());
        }
    }
}
