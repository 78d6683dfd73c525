//! Every maximum of the core: what it bounds, its unit and its worst case. Nothing that a peer can
//! grow lacks a line here.

/// Bytes of a queue's or exchange's name, as a short string carries them (AMQP 0-9-1 §4.2.5.3).
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a queue's name that the core makes for itself from a client id and a filter: they may
/// exceed a short string, and such a queue is then out of reach for AMQP clients but not for its
/// own.
pub const OWN_NAME_BYTES_MAX: usize = 2 * 65_535 + 64;

/// Bytes of a routing key or topic.
pub const KEY_BYTES_MAX: usize = 65_535;

/// `#` words in one binding key; RabbitMQ 4.3 has the same. Two keep matching polynomial.
pub const MULTI_WILDCARDS_MAX: usize = 2;

/// Words of one binding key: bounds the depth of the topic trie and with it the recursion of a
/// match.
pub const BINDING_WORDS_MAX: usize = 256;

/// Words, separated by dots or slashes, of a key that is routed: bounds the width of a match with
/// two `#`.
pub const KEY_WORDS_MAX: usize = 1_024;

/// Queues that one worker's route cache may point to: 8 MiB of pointers.
pub const ROUTE_TARGETS_CACHED_MAX: usize = 1 << 20;

/// Bytes of the arguments of a queue, an exchange or a binding: a binding's are part of its
/// record's key.
pub const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Queues of one vhost.
pub const QUEUES_MAX: usize = 10_000_000;

/// Exchanges of one vhost.
pub const EXCHANGES_MAX: usize = 1_000_000;

/// Bindings of one queue or destination exchange.
pub const BINDINGS_PER_DESTINATION_MAX: usize = 1_000_000;

/// Consumers of one queue.
pub const CONSUMERS_PER_QUEUE_MAX: usize = 1_000_000;

/// Bytes of a consumer's arguments that are kept for listings; of longer ones nothing is.
pub const CONSUMER_ARGUMENTS_BYTES_MAX: usize = 4_096;

/// Bytes of the arguments that all consumers of one connection keep for listings; beyond them
/// nothing is kept.
pub const CONSUMER_ARGUMENTS_PER_CONNECTION_BYTES_MAX: usize = 1024 * 1024;

/// Pseudo queues of direct reply-to in one vhost; a channel has one at most.
pub const REPLY_QUEUES_MAX: usize = 1_000_000;

/// Priorities of the consumers of one queue: each delivery may look at all of them.
pub const CONSUMER_PRIORITIES_MAX: usize = 256;

/// Virtual hosts.
pub const VHOSTS_MAX: usize = 100_000;

/// Users.
pub const USERS_MAX: usize = 1_000_000;

/// Global parameters.
pub const PARAMETERS_MAX: usize = 10_000;

/// Bytes of a global parameter's value in JSON.
pub const PARAMETER_BYTES_MAX: usize = 1 << 20;

/// Exchanges that one message passes through exchange-to-exchange bindings: one that would pass
/// more is refused.
pub const EXCHANGE_HOPS_MAX: usize = 10_000;

/// Words of topic bindings that one message's keys are held against: some 100 ms at most. A message
/// that needs more is refused; only many bindings with several `#` and `*` each come near.
pub const TOPIC_STEPS_MAX: u32 = 1 << 20;

/// Bindings of one exchange that hashes: a message is held against each.
pub const HASHED_BINDINGS_MAX: usize = 10_000;

/// Retained messages that a binding with `x-mqtt-retained` replays in one piece; then others come.
pub const RETAINED_PAGE_MESSAGES: usize = 256;

/// Topics that are looked at for one such piece, whether they match or not.
pub const RETAINED_PAGE_STEPS: usize = 8_192;

/// Retained messages that have expired and are removed at a time; then others have their turn.
pub const RETAINED_SWEPT_AT_ONCE: usize = 1_024;

/// Milliseconds after which retained messages that expire are looked at again, at the latest.
pub const RETAINED_LOOKED_AT_MS: u64 = 60_000;

/// Connections, queues and bindings that are asked about in a row when permissions have changed;
/// then others have their turn.
pub const AUTHORITY_STEPS_PER_TURN: usize = 1_024;

/// Messages that a recent-history exchange may be asked to keep for new bindings.
pub const HISTORY_MESSAGES_MAX: usize = 100_000;

/// Bytes of all messages that a recent-history exchange keeps: the oldest go, whatever their
/// number.
pub const HISTORY_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// Routes that one worker remembers, and with them keys of 64 KiB at the worst.
pub const ROUTES_CACHED_MAX: usize = 4_096;

/// Keys longer than this are routed anew each time: a cache of long keys would be a store of a
/// peer's choosing.
pub const ROUTE_KEY_CACHED_BYTES_MAX: usize = 512;

/// Identifiers that may be owned in one vhost (connected clients and sessions kept for absent
/// ones).
pub const CLAIMS_MAX: usize = 10_000_000;

/// Identifiers of one vhost that are watched for take-over storms at the same time.
pub const TAKEOVERS_WATCHED_MAX: usize = 256;

/// Publications that may be scheduled (delayed wills, messages that exchanges delay). A vhost has
/// no more of them than are left free, so that none takes all: one alone has half.
pub const SCHEDULED_MAX: usize = 1_000_000;

/// Messages that waited at a deleted exchange and are dropped at a time; the others have theirs a
/// millisecond later.
pub const DELAYED_DROPPED_AT_ONCE: usize = 4_096;

/// Longest expiry or message TTL: ten years, as RabbitMQ has it, in milliseconds.
pub const TTL_MS_MAX: u64 = 315_360_000_000;

/// Queues and reasons that one dead letter's `x-death` names: one that would have more is dropped.
pub const DEATHS_MAX: usize = 256;

/// Dead letters of one queue that are tried again at once, so that others have room beside them in
/// a turn. Those that wait are bounded by the queue's length, of which they are part.
pub const RETRIED_MAX: usize = 256;

/// Bytes of their bodies, if there is more than one.
pub const RETRIED_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// Queues that have a dead letter, remembered while another refuses it: if more have it, all of
/// them get it again.
pub const TAKERS_MAX: usize = 1_024;

/// Dead letters that are published in a turn, and those that wait in it before a queue gives up
/// more. Messages that have expired or are too many stay in their queue for another turn; those
/// that were rejected wait in a line.
pub const LETTERS_MAX: usize = 1_024;

/// Dead letters in the line of one queue from which on it gives no messages to consumers, who could
/// reject them, nor to `basic.get`, which would find those behind what has expired: so the line is
/// not longer than this and what consumers had. Also those that one turn makes of messages that
/// full queues refuse.
pub const LETTERS_HELD_MAX: usize = 16 * LETTERS_MAX;

/// Bytes in memory of all dead letters of a vhost that wait in lines. Beyond that, only the journal
/// has those that it has, and those of messages that full queues refuse are dropped until all lines
/// are worked off; what consumers had in memory stays there.
pub const LETTERS_HELD_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// While an alarm is set, messages that a vhost's dead letters add to those that there are, as they
/// go to more than one queue: then those that would add more rest for [`LETTERS_REST_MS`].
pub const LETTERS_ADDED_MAX: usize = 16;

/// The same where many wait: one for 64 of them, and so many at most.
pub const LETTERS_ADDED_MANY_MAX: usize = 256;

/// See [`LETTERS_ADDED_MAX`]; in milliseconds.
pub const LETTERS_REST_MS: u64 = 500;

/// Milliseconds until a dead letter that nobody has taken is tried again.
pub const UNDELIVERED_AGAIN_MS: u64 = 1_000;

/// Milliseconds until the same is logged again that a client can cause as often as it likes.
pub const TOLD_AGAIN_MS: u64 = 60_000;

/// Bytes of a topic or routing key in a line about dropped messages.
pub const LOSS_TOPIC_BYTES_MAX: usize = 256;

/// Bytes of a queue's, client's or user's name there.
pub const LOSS_WHOSE_BYTES_MAX: usize = 256;

/// Policies of one vhost, and as many operator policies.
pub const POLICIES_MAX: usize = 10_000;

/// Bytes of a policy's pattern and definition.
pub const POLICY_BYTES_MAX: usize = 64 * 1_024;

/// Bytes of a vhost's description and tags.
pub const METADATA_BYTES_MAX: usize = 64 * 1_024;

/// Bytes that a permission's compiled pattern may take.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Bytes of a stream's newest messages that are held for its readers; twice as many before some
/// are left to the journal.
pub const STREAM_TAIL_BYTES: u64 = 1024 * 1024;

/// Messages of a stream that one reader has read ahead from the journal.
pub const STREAM_PIECE_MESSAGES_MAX: u64 = 512;

/// Bytes of them, if there is more than one.
pub const STREAM_PIECE_BYTES_MAX: u64 = 256 * 1024;

/// What all readers of a turn may cost together; then others have theirs. One for a message that is
/// read from the journal, for each 256 bytes of it, and for one that a filter leaves out: 1 MiB or
/// 2,048 messages, some milliseconds.
pub const STREAM_SCAN_PER_TURN: u64 = 4_096;

/// Segments that a stream counts its messages in; of a stream that would have more they are
/// larger: 160 KiB of memory.
pub const STREAM_SEGMENTS_MAX: usize = 4_096;

/// Bytes of a stream's segment where `x-stream-max-segment-size-bytes` is not given, and at most:
/// RabbitMQ's.
pub const STREAM_SEGMENT_BYTES: u64 = 500_000_000;
/// See [`STREAM_SEGMENT_BYTES`].
pub const STREAM_SEGMENT_BYTES_MAX: u64 = 3_000_000_000;

/// Messages given up by retention that a publisher settles in the journal.
pub const STREAM_SWEPT_AT_ONCE: u64 = 256;

/// The same for a timer, if nobody publishes.
pub const STREAM_SWEPT_LATER: u64 = 4_096;

/// Values that one reader of a stream may filter for.
pub const STREAM_FILTERS_MAX: usize = 1_024;

/// Bytes of the journal that a publisher may be ahead of the disk; more is not read from it until
/// the disk has half of that.
pub const LEAD_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// Taps of a node: each takes a connection of the control socket as well.
pub const TAPS_MAX: usize = 8;

/// Samples that may wait in one tap; more are counted, and lost.
pub const SAMPLES_WAITING_MAX: usize = 1_024;

/// Bytes of them; one sample may reach beyond it.
pub const SAMPLE_BYTES_WAITING_MAX: usize = 4 * 1024 * 1024;

/// Events that may wait to be announced; more are counted, and lost.
pub const EVENTS_WAITING_MAX: usize = 4_096;

/// Bytes of them.
pub const EVENT_BYTES_WAITING_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(RETRIED_MAX <= LETTERS_MAX / 2);
