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

/// Most levels of a Topic Name or Topic Filter. The specification allows 65,536; a trie spends
/// one node and one step on each.
pub const TOPIC_LEVELS_MAX: usize = 1024;

/// Most `#` levels of a Topic Filter: the bound RabbitMQ 4.3 puts on a topic binding key.
pub const MULTI_LEVEL_WILDCARDS_MAX: usize = 2;

const _: () = assert!(TOPIC_LEVELS_MAX <= STRING_BYTES_MAX);
const _: () = assert!(STRING_BYTES_MAX < REMAINING_LENGTH_MAX as usize);
