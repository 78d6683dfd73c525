//! Deliveries into bytes: what a consumer or `basic.get` is sent for a message of either protocol.
//!
//! Owns the fitting of long keys into AMQP; on the way of an AMQP message to an AMQP consumer it
//! takes no memory but the out-buffer's own. AMQP 0-9-1, class basic: deliver, get-ok.

use std::sync::Arc;

use leveret_core::field::{RawTable, ValueRef, encode_entry};
use leveret_core::key::Form;
use leveret_core::link::Got;
use leveret_core::message::MessageRef;
use leveret_core::properties::BasicProperties;
use leveret_core::sink::Delivery;
use leveret_core::time::Time;

use super::window::{FETCHED, Held};
use super::{Outlet, State, number_of};
use crate::content;
use crate::deliver::Deliver;
use crate::frame::FRAME_OVERHEAD_BYTES;
use crate::limits::{BUFFER_KEPT_BYTES_MAX, SHORT_STRING_BYTES_MAX};
use crate::method::{BasicGetOk, ServerMethod, short_string};

impl State {
    /// Encodes a delivery; says whether it is settled by that, or `None` if its consumer has no
    /// credit or there is no room.
    #[inline]
    pub(super) fn deliver(&mut self, delivery: &mut Delivery<'_>) -> Option<bool> {
        let Self {
            out,
            windows,
            consumers,
            due,
            key,
            properties,
            ..
        } = self;
        let consumer = consumers.get_mut(&delivery.consumer)?;
        let window = windows.get_mut(&consumer.channel)?;
        let room = consumer.has_room(out.len());
        if !room || !consumer.has_credit(window) {
            self.starved_for_room |= !room;
            if !std::mem::replace(&mut consumer.starved, true) {
                window.starved.push(delivery.consumer);
            }
            return None;
        }
        let delivery_tag = window.next_tag();
        let message = delivery.message;
        if !out.is_empty() && out.capacity() < OUTPUT_BYTES_FIRST {
            // Where a second delivery follows before the first is sent, more do.
            out.reserve(OUTPUT_BYTES_FIRST - out.len());
        }
        let more = More {
            failures: delivery.failures,
            offset: delivery.offset,
        };
        let parts = Parts::of(message, &more, self.frame_max, key, properties);
        Deliver {
            channel: consumer.channel,
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: message.exchange,
            routing_key: parts.routing_key,
            properties: parts.properties,
            body: message.payload,
        }
        .encode(out, self.frame_max);
        give_back(key);
        give_back(properties);
        if !consumer.no_ack {
            consumer.unacked += 1;
            let held = Held {
                queue: Arc::clone(delivery.queue),
                seq: delivery.seq,
                message: delivery.share(),
                consumer: number_of(delivery.consumer),
                timeout_ms: consumer.timeout_ms,
            };
            *due = window.hold(delivery_tag, delivery.now, held).min(*due);
        }
        Some(consumer.no_ack)
    }

    fn get_ok(&mut self, channel: u16, got: Got, kept: Option<Kept>) {
        let Self {
            out,
            windows,
            due,
            key,
            properties,
            ..
        } = self;
        let Some(window) = windows.get_mut(&channel) else {
            return;
        };
        let delivery_tag = window.next_tag();
        let message = got.taken.message.view();
        let more = More {
            failures: got.taken.failures,
            offset: None,
        };
        let parts = Parts::of(&message, &more, self.frame_max, key, properties);
        let method = BasicGetOk {
            delivery_tag,
            redelivered: got.taken.redelivered,
            exchange: message.exchange,
            // What `short_string` leaves of UTF-8 is UTF-8; other octets have no place in it.
            routing_key: std::str::from_utf8(short_string(parts.routing_key)).unwrap_or_default(),
            message_count: got.taken.remaining,
        };
        ServerMethod::BasicGetOk(method).encode(channel, out);
        content::encode(
            out,
            channel,
            parts.properties,
            message.payload,
            self.frame_max,
        );
        give_back(key);
        give_back(properties);
        if let Some(kept) = kept {
            let held = Held {
                queue: got.queue,
                seq: got.taken.seq,
                message: got.taken.message,
                consumer: FETCHED,
                timeout_ms: kept.timeout_ms,
            };
            *due = window.hold(delivery_tag, kept.now, held).min(*due);
        }
    }
}

/// A fetched message waits for acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Since when.
    pub(crate) now: Time,
    /// How long it may, in milliseconds; 0 is for ever.
    pub(crate) timeout_ms: u32,
}

impl Outlet {
    /// Appends `basic.get-ok` with its message; says how many bytes that were.
    pub(crate) fn get_ok(&self, channel: u16, got: Got, kept: Option<Kept>) -> usize {
        let mut state = self.state.lock();
        let before = state.out.len();
        state.get_ok(channel, got, kept);
        state.out.len() - before
    }
}

/// What a message becomes for an AMQP consumer.
struct Parts<'a> {
    routing_key: &'a [u8],
    properties: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline]
    fn of(
        message: &MessageRef<'a>,
        more: &More,
        frame_max: u32,
        key: &'a mut Vec<u8>,
        properties: &'a mut Vec<u8>,
    ) -> Self {
        // Dotted keys are those of AMQP publishers; so are the properties then.
        if message.head.form == Form::Dotted && more.is_nothing() {
            return Self {
                routing_key: message.key,
                properties: message.properties,
            };
        }
        key.clear();
        message.append_routing_key(key);
        properties.clear();
        message
            .head
            .origin
            .append_basic_properties(message, properties);
        if key.len() > SHORT_STRING_BYTES_MAX {
            add_header(
                ORIGINAL_KEY,
                ValueRef::LongString(key),
                frame_max,
                properties,
            );
        }
        more.add(frame_max, properties);
        Self {
            routing_key: key,
            properties,
        }
    }
}

/// What a queue adds to the headers of a message.
struct More {
    failures: u32,
    offset: Option<u64>,
}

impl More {
    #[inline]
    fn is_nothing(&self) -> bool {
        self.failures == 0 && self.offset.is_none()
    }

    fn add(&self, frame_max: u32, properties: &mut Vec<u8>) {
        if self.failures > 0 {
            let count = ValueRef::I64(self.failures.into());
            add_header(DELIVERY_COUNT, count, frame_max, properties);
        }
        if let Some(offset) = self.offset {
            let offset = ValueRef::I64(i64::try_from(offset).unwrap_or(i64::MAX));
            add_header(STREAM_OFFSET, offset, frame_max, properties);
        }
    }
}

/// Adds a header, in the place of the publisher's own, unless the header frame would outgrow
/// frame-max by that: a client may close its connection over such a frame.
fn add_header(name: &str, value: ValueRef<'_>, frame_max: u32, properties: &mut Vec<u8>) {
    let Ok(parsed) = BasicProperties::parse(properties) else {
        return;
    };
    let mut headers = Vec::with_capacity(properties.len() + 64);
    let held = parsed.headers.unwrap_or_default();
    let others = held.entries().filter(|(held, _)| *held != name.as_bytes());
    for (name, value) in others.chain([(name.as_bytes(), value)]) {
        // A short name, and a value that fits a frame, always fit.
        let _ = encode_entry(&mut headers, name, value);
    }
    let Ok(headers) = RawTable::parse(&headers) else {
        return;
    };
    let with_header = BasicProperties {
        headers: Some(headers),
        ..parsed
    };
    let mut longer = Vec::with_capacity(properties.len() + headers.as_bytes().len());
    let encoded = with_header.encode(&mut longer).is_ok();
    let frame_bytes = longer.len() + HEADER_FIXED_BYTES + FRAME_OVERHEAD_BYTES;
    if encoded && (frame_max == 0 || frame_bytes <= frame_max as usize) {
        *properties = longer;
    }
}

/// One long topic must not keep its memory for ever.
#[inline]
fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
}

/// The header with the whole routing key of a message whose key was cut to a short string.
pub(crate) const ORIGINAL_KEY: &str = "x-original-routing-key";

/// How many deliveries of a message have failed, in quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// A message's place in a stream.
const STREAM_OFFSET: &str = "x-stream-offset";

/// What an out-buffer has room for from its second delivery on.
const OUTPUT_BYTES_FIRST: usize = 2_048;

/// Class-id, weight and body-size.
const HEADER_FIXED_BYTES: usize = 12;
