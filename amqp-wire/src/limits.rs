//! Every maximum of an AMQP 0-9-1 connection: what it bounds, its unit and its worst case. Nothing
//! that a peer can grow lacks a line here; what the core bounds stands in its own limits.

/// Frames (or whole publications) that one call of `handle_input` takes, so that no connection
/// keeps its worker for long.
pub const FRAMES_PER_CALL_MAX: usize = 256;

/// Bytes in the out-buffer above which consumers get nothing more until it is flushed. One
/// delivery may reach beyond it.
pub const DELIVERY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes in the out-buffer above which direct replies are dropped: nobody keeps them.
pub const REPLY_DELIVERY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of answers to a client's own methods above which its input is not read until they are
/// flushed. One answer (a fetched or returned message) may reach beyond it.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Capacity in bytes that an out-buffer or a scratch buffer keeps when it is empty.
pub const BUFFER_KEPT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of unfinished messages on all channels of a connection together, with their properties and
/// names, beside one message of the largest allowed size.
pub const ASSEMBLING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Consumers of one channel.
pub const CONSUMERS_PER_CHANNEL_MAX: usize = 65_535;

/// Deliveries of one channel that may wait for acknowledgement without `basic.qos`.
pub const UNACKED_PER_CHANNEL_MAX: u32 = 10_000_000;

/// Runs of publications on one channel that may wait for the journal; more are not read.
pub const CONFIRMS_PER_CHANNEL_MAX: usize = 65_536;

/// Publications in all open transactions of a connection: one more fails its channel, and with it
/// that channel's transaction.
pub const TX_MESSAGES_MAX: usize = 65_536;

/// Bytes of these publications with what they take beside their bodies; a single one of the largest
/// allowed size is always taken.
pub const TX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Routing keys in the headers CC and BCC of one message together.
pub const MORE_KEYS_MAX: usize = 1_024;

/// Milliseconds that the server leaves the stream to a client that has closed its connection, as
/// RabbitMQ does.
pub const STREAM_LEFT_MS: u64 = 30_000;

/// Milliseconds that the server waits for `connection.close-ok`.
pub const CLOSE_OK_WAIT_MS: u64 = 5_000;

/// Milliseconds of silence after a refused login, for clients that cannot be told.
pub const REFUSED_SILENCE_MS: u64 = 3_000;

/// The smallest frame-max that may be negotiated, in bytes.
// AMQP 0-9-1 §1.2: frame-min-size. RabbitMQ 4.1 asks for 8,192, which clients that offer the
// specification's minimum do not survive.
pub const FRAME_MIN_BYTES: u32 = 4_096;

/// The longest short string in bytes.
pub const SHORT_STRING_BYTES_MAX: usize = 255;

const _: () = assert!(DELIVERY_BYTES_MAX <= REPLY_DELIVERY_BYTES_MAX);
const _: () = assert!(BUFFER_KEPT_BYTES_MAX <= DELIVERY_BYTES_MAX);
