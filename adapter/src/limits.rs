//! Every bound the MQTT codec checks before it believes a peer. Owns numbers only; must never
//! hold logic. OASIS MQTT 5.0 chapters 1.5, 2.1.4 and 4.7.

/// Largest Remaining Length, in bytes: what four bytes of a Variable Byte Integer can say
/// (MQTT 5.0 §1.5.5).
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// Largest UTF-8 Encoded String or Binary Data, in bytes: what its two length bytes can say
/// (MQTT 5.0 §1.5.4, §1.5.6).
pub const STRING_BYTES_MAX: usize = 65_535;

/// Most User Properties one packet may carry. The specification has no bound; every one costs a
/// header entry once the message crosses to AMQP.
pub const USER_PROPERTIES_MAX: u32 = 1024;

/// Most levels of a Topic Name, where a `.` ends a level too, as it does once the topic is a
/// routing key. The specification allows 65,536; a trie spends one node and one step on each.
pub const TOPIC_LEVELS_MAX: usize = 256;

/// Most levels of a Topic Filter, counted as those of a Topic Name: what the core takes as a
/// binding key.
pub const FILTER_LEVELS_MAX: usize = leveret_core::limits::BINDING_WORDS_MAX;

/// Bytes of retained messages that wait in one client's out-buffer, and half of what may wait there
/// at most: what is published meanwhile has room beside them.
pub const REPLAY_OUTPUT_BYTES: usize = 256 * 1024;

/// Subscriptions that are asked about in a row when permissions have changed, before others have
/// their turn.
pub const REAUTHORISED_PER_TURN: usize = 512;

/// Topics that are looked at for one client in a row, before others have their turn.
pub const REPLAY_STEPS: usize = 8_192;

/// Bytes of acknowledgements and other answers that may wait beyond the limit for deliveries
/// before nothing more is read from the client.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024;

/// Bytes of packets of one client that are held back while an alarm is set. Nothing more is read
/// then; what was read with the last of them, at most one buffer of a worker, waits as it is.
pub const HELD_BYTES_MAX: usize = 16 * 1024;

/// Acknowledgements of one client that may wait for the disk; nothing more is read from it then.
pub const ACKS_WAITING_MAX: usize = 65_536;

/// Bytes of a Reason String: a line for people to read.
pub const REASON_STRING_BYTES_MAX: usize = 512;

/// Subscriptions of one session. Resuming it, or ending it, goes through all of them at once: some
/// 0.1 s for so many.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;

/// Those of them that no hash finds for a topic: with a wildcard, a dot or a star, and shared ones.
/// A delivery that depends on options, or comes from AMQP, may look at each.
pub const SUBSCRIPTIONS_WALKED_MAX: usize = 10_000;

/// Most `#` levels of a Topic Filter: the bound RabbitMQ 4.3 puts on a topic binding key.
pub const MULTI_LEVEL_WILDCARDS_MAX: usize = 2;

/// Bytes of a client identifier or user name that is carried with each message to AMQP; a longer
/// one is left out. They fit the two bytes of a block's length.
pub const IDENTITY_TEXT_BYTES_MAX: usize = 1_024;

/// Bytes of headers that user properties become: a content header must fit one frame, and frames
/// have 131,072 bytes unless a client asks for less. What is beyond is dropped.
pub const USER_HEADERS_BYTES_MAX: usize = 64 * 1024;

/// The same for all headers: with who published, the topic, response topic and correlation data.
pub const HEADERS_BYTES_MAX: usize = 120_000;

/// Bytes that a connection keeps to join its identity with a message's properties in.
pub const JOINED_KEPT_BYTES_MAX: usize = 4_096;

/// Connections of one client id at the same time, where the operator allows several.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 64;

const _: () = assert!(4 * (IDENTITY_TEXT_BYTES_MAX + 2) + 1 < u16::MAX as usize);
/// Bytes of what proves the server to a client in SCRAM-SHA-256: `v=` and 32 bytes in base64.
pub const SCRAM_PROOF_BYTES: usize = 46;

const _: () = assert!(TOPIC_LEVELS_MAX <= leveret_core::limits::KEY_WORDS_MAX);
const _: () = assert!(FILTER_LEVELS_MAX <= TOPIC_LEVELS_MAX);
const _: () = assert!(TOPIC_LEVELS_MAX <= STRING_BYTES_MAX);
const _: () = assert!(STRING_BYTES_MAX < REMAINING_LENGTH_MAX as usize);
