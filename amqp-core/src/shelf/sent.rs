//! QoS 2 messages on their way to a client, as a session notes them: which packet identifier
//! stands for which message, until the client has said that it is done.
//!
//! One note tells both halves of the handshake. While the queue wants the message, it is to be sent
//! again; when the queue has forgotten it, the client has it, and is to release the identifier.

use super::{Place, Received};
use crate::journal::Journal;

/// A QoS 2 message that is sent, or will be as soon as this is on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The packet identifier, and the session's.
    pub note: Received,
    /// The queue's number, or [`Self::NO_QUEUE`].
    pub queue: u64,
    /// The message's number in it.
    pub seq: u64,
}

impl Sent {
    /// It is in no queue: a retained message, or one that its queue had forgotten when the broker
    /// started.
    pub const NO_QUEUE: u64 = u64::MAX;

    pub(super) fn encode(self) -> [u8; 27] {
        let mut out = [0; 27];
        out[..11].copy_from_slice(&self.note.encode());
        out[11..19].copy_from_slice(&self.queue.to_le_bytes());
        out[19..].copy_from_slice(&self.seq.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (note, rest) = bytes.split_first_chunk::<11>()?;
        let (queue, seq) = rest.split_first_chunk::<8>()?;
        Some(Self {
            note: Received::decode(note)?,
            queue: u64::from_le_bytes(*queue),
            seq: u64::from_le_bytes(seq.try_into().ok()?),
        })
    }
}

/// A note of a message that was on its way when the broker stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resumed {
    /// What was noted.
    pub sent: Sent,
    /// Where that lies.
    pub place: Place,
    /// The queue has the message still: the client may not have it.
    pub waits: bool,
}

impl Resumed {
    pub(super) fn new(sent: Sent, place: Place) -> Self {
        Self {
            sent,
            place,
            waits: false,
        }
    }

    /// Asks whether the queue has it.
    pub(super) fn look(&mut self, journal: &dyn Journal) {
        let Sent { queue, seq, .. } = self.sent;
        self.waits = queue != Sent::NO_QUEUE && journal.has(queue, seq..seq + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_read_as_it_was_written() {
        let sent = Sent {
            note: Received {
                packet_id: 0xfffe,
                session_ms: 86_400_000,
                has_queues: true,
            },
            queue: 1 << 40,
            seq: 77,
        };
        let bytes = sent.encode();
        assert_eq!(Sent::decode(&bytes), Some(sent));
        assert_eq!(Sent::decode(&bytes[..26]), None);
        assert_eq!(
            Received::decode(&bytes),
            None,
            "one is not taken for the other"
        );
        assert_eq!(Sent::decode(&sent.note.encode()), None);
    }
}
