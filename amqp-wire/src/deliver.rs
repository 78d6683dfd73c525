//! What the server sends most, appended in one go: `basic.deliver` with its content, and
//! `basic.ack` for confirms.
//!
//! Owns nothing but the quick way to bytes that [`crate::method`] and [`crate::content`] would
//! write too; takes memory once at most, for the output itself. AMQP 0-9-1, class basic.

#[cfg(test)]
mod tests;

use crate::content;
use crate::frame::{self, FRAME_END, FRAME_HEAD_BYTES, FRAME_OVERHEAD_BYTES, FrameKind};
use crate::method::{BasicAck, BasicDeliver, short_string};

/// A `basic.deliver` and its content.
#[derive(Debug, Clone, Copy)]
pub struct Deliver<'a> {
    /// The consumer's channel.
    pub channel: u16,
    /// The consumer's tag, up to 255 bytes.
    pub consumer_tag: &'a str,
    /// The delivery's number on the channel.
    pub delivery_tag: u64,
    /// The message was delivered before.
    pub redelivered: bool,
    /// Where it was published to, up to 255 bytes.
    pub exchange: &'a str,
    /// The routing key in dotted form; UTF-8, cut to 255 bytes.
    pub routing_key: &'a [u8],
    /// Flags and values, as `BasicProperties::encode` writes them.
    pub properties: &'a [u8],
    /// The message.
    pub body: &'a [u8],
}

impl Deliver<'_> {
    /// Appends method, header and body frames, the body cut by `frame_max` (0: no limit).
    pub fn encode(&self, out: &mut Vec<u8>, frame_max: u32) {
        let consumer_tag = short_string(self.consumer_tag.as_bytes());
        let exchange = short_string(self.exchange.as_bytes());
        let routing_key = short_string(self.routing_key);
        let strings_bytes = consumer_tag.len() + exchange.len() + routing_key.len();
        // class-id, method-id, delivery-tag, redelivered, three length octets
        let payload_bytes = 4 + 8 + 1 + 3 + strings_bytes;
        out.reserve(
            payload_bytes
                + FRAME_OVERHEAD_BYTES
                + content::encoded_bytes(self.properties, self.body, frame_max),
        );

        let mut start = [0; FRAME_HEAD_BYTES + 4 + 1];
        start[..7].copy_from_slice(&frame::head(FrameKind::Method, self.channel, payload_bytes));
        start[7..11].copy_from_slice(&BasicDeliver::ID.to_be_bytes());
        start[11] = consumer_tag.len() as u8;
        out.extend_from_slice(&start);
        out.extend_from_slice(consumer_tag);
        let mut middle = [0; 8 + 1 + 1];
        middle[..8].copy_from_slice(&self.delivery_tag.to_be_bytes());
        middle[8] = self.redelivered.into();
        middle[9] = exchange.len() as u8;
        out.extend_from_slice(&middle);
        out.extend_from_slice(exchange);
        out.push(routing_key.len() as u8);
        out.extend_from_slice(routing_key);
        out.push(FRAME_END);
        content::append(out, self.channel, self.properties, self.body, frame_max);
    }
}

/// Appends a `basic.ack` frame, as it confirms a publish.
pub fn ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    let mut bytes = [0; FRAME_OVERHEAD_BYTES + 4 + 8 + 1];
    bytes[..7].copy_from_slice(&frame::head(FrameKind::Method, channel, 4 + 8 + 1));
    bytes[7..11].copy_from_slice(&BasicAck::ID.to_be_bytes());
    bytes[11..19].copy_from_slice(&delivery_tag.to_be_bytes());
    bytes[19] = multiple.into();
    bytes[20] = FRAME_END;
    out.extend_from_slice(&bytes);
}
