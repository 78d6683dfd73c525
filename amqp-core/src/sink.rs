//! The one seam on the delivery path: who takes messages off queues.
//!
//! A sink encodes a delivery at once into its connection's out-buffer, under that buffer's lock,
//! and says whether its connection must be woken. It is called with the queue's lock held, so it
//! never calls back into the core (lock order: router, queue, out-buffer, journal).

use std::sync::Arc;

use crate::message::{Message, MessageRef};
use crate::queue::Queue;
use crate::time::Time;
use crate::watermark::Wake;

/// A message on its way to one consumer.
pub struct Delivery<'a> {
    /// The sink's own name for its consumer.
    pub consumer: u64,
    /// Where it comes from, and where it is settled.
    pub queue: &'a Arc<Queue>,
    /// The message's number in that queue: settling names it.
    pub seq: u64,
    /// It was delivered before, to this consumer or another.
    pub redelivered: bool,
    /// How many deliveries of it have failed; only quorum queues count.
    pub failures: u32,
    /// Its place in a stream.
    pub offset: Option<u64>,
    /// The time of the turn.
    pub now: Time,
    /// The message.
    pub message: &'a MessageRef<'a>,
    pub(crate) held: &'a mut Option<Message>,
    pub(crate) scratch: &'a mut Vec<u8>,
}

impl Delivery<'_> {
    /// The message as something to keep until it is settled. Made once for all who want it. Nothing
    /// goes back to a stream: what is kept of its messages has nothing in it.
    pub fn share(&mut self) -> Message {
        self.held
            .get_or_insert_with(|| self.message.to_message(self.scratch))
            .clone()
    }
}

/// What a sink did with a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is in the out-buffer.
    Taken {
        /// Nothing more will be heard of it: the queue may forget it.
        settled: bool,
        /// The connection was idle; its waker must be called at the end of the turn.
        wake: bool,
    },
    /// No credit or no room now. The queue keeps the message and asks no more until
    /// [`Queue::pull`].
    Full,
    /// The message cannot or must not go to this consumer; it is settled.
    Discarded(Loss),
}

/// Why a message was dropped where a protocol allows it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Loss {
    /// It expired before it could be delivered.
    Expired,
    /// A queue's length limit.
    Length,
    /// The consumer asked not to get its own messages: no loss, but not delivered either.
    NoLocal,
    /// QoS 0 and nobody connected.
    Offline,
    /// QoS 0 and the connection does not keep up.
    Overflow,
    /// Larger than the client's maximum packet size.
    TooLarge,
    /// A key that may not leave, or a topic that may not come, through this protocol.
    Unaddressable,
    /// It was on disk, and cannot be read any more.
    Unreadable,
    /// Too many deliveries of it have failed.
    DeliveryLimit,
    /// It was to be dead-lettered, and no queue has taken it.
    DeadLetter,
    /// The session of a client that is connected has as many as it may.
    OnlineLimit,
    /// The session of a client that is not connected has as many as it may.
    OfflineLimit,
    /// Its publisher may not publish it, and is not told.
    Refused,
    /// The topic is the broker's own, and its publisher is not told.
    Reserved,
    /// There was no room for another retained message.
    Retained,
    /// A full queue has refused it, and its publisher is not told.
    Rejected,
    /// A will that could not be published.
    Will,
    /// Its reader may not read it any more.
    Revoked,
}

impl Loss {
    /// The reasons that count, in the order of the counters: all but [`Self::NoLocal`].
    pub const ALL: [Self; 17] = [
        Self::Expired,
        Self::Length,
        Self::Offline,
        Self::Overflow,
        Self::TooLarge,
        Self::Unaddressable,
        Self::Unreadable,
        Self::DeliveryLimit,
        Self::DeadLetter,
        Self::OnlineLimit,
        Self::OfflineLimit,
        Self::Refused,
        Self::Reserved,
        Self::Retained,
        Self::Rejected,
        Self::Will,
        Self::Revoked,
    ];

    /// Its place among the counters; [`Self::NoLocal`] has none.
    pub(crate) fn place(self) -> Option<usize> {
        Self::ALL.iter().position(|known| *known == self)
    }

    /// The reason's name in listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Length => "maxlen",
            Self::NoLocal => "no_local",
            Self::Offline => "offline",
            Self::Overflow => "overflow",
            Self::TooLarge => "too_large",
            Self::Unaddressable => "unaddressable",
            Self::Unreadable => "unreadable",
            Self::DeliveryLimit => "delivery_limit",
            Self::DeadLetter => "dead_letter",
            Self::OnlineLimit => "max_online_messages",
            Self::OfflineLimit => "max_offline_messages",
            Self::Refused => "not_authorized",
            Self::Reserved => "reserved_topic",
            Self::Retained => "retained_limit",
            Self::Rejected => "reject",
            Self::Will => "will",
            Self::Revoked => "revoked",
        }
    }
}

/// Takes deliveries for the consumers of one connection. Implementors: MQTT sessions, AMQP
/// connections.
pub trait Sink: Wake {
    /// Encodes the delivery, or says why not. Never blocks and never calls the core.
    fn deliver(&self, delivery: &mut Delivery<'_>) -> Outcome;

    /// There is more for a consumer that nobody hands on: its owner is to call [`Queue::pull`] for
    /// it, soon and with no lock held. Only those who read streams hear of it.
    fn again(&self, _consumer: u64) {}

    /// The consumer's queue is gone: nothing more will come from it. May be called with no lock
    /// held.
    fn cancelled(&self, consumer: u64);
}
