//! Messages as they go out: many copies of one in one buffer, patched before each write.
//!
//! Owns the layout of our payload and topics. Sending patches a few bytes of each copy and writes
//! the lot with one call; nothing is encoded and nothing allocated per message.
//!
//! ```text
//! topic    PREFIX GGGGGG / TTTTTT     group and topic in decimal; with '.' in AMQP
//! payload  flow (4)  sequence number (4)  time stamp or 0 (8)  filling
//! ```

use crate::amqp::{self, Arguments};
use crate::mqtt;

/// Bytes at the start of each payload.
pub(crate) const HEAD: usize = 16;

/// Bytes of group and topic in a topic or routing key.
pub(crate) const ROUTE: usize = 13;

/// Copies of one message.
pub(crate) struct Template {
    pub(crate) buffer: Vec<u8>,
    /// Bytes of one message.
    pub(crate) stride: usize,
    /// Messages in the buffer.
    pub(crate) copies: usize,
    /// Where group and topic stand, or the topic alias.
    pub(crate) route: usize,
    /// How many bytes that are.
    pub(crate) route_bytes: usize,
    /// Topics are sent as aliases, set before.
    pub(crate) aliases: bool,
    /// Where the MQTT packet identifier stands.
    pub(crate) packet_id: Option<usize>,
    /// Where the payload begins.
    pub(crate) head: usize,
}

/// A message as the consumer sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message {
    pub(crate) flow: u32,
    pub(crate) seq: u32,
    /// When it was due, or 0 if it is no sample.
    pub(crate) due: u64,
    pub(crate) packet_id: u16,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    /// The payload is smaller than our head: not one of ours.
    pub(crate) short: bool,
    /// There is no payload: a publisher has set a topic alias.
    pub(crate) empty: bool,
}

impl Message {
    /// Reads the head of a payload.
    #[inline]
    pub(crate) fn read_head(&mut self, bytes: &[u8]) {
        let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else {
            self.short = true;
            self.empty = bytes.is_empty();
            return;
        };
        let [a, b, c, d, e, f, g, h, due @ ..] = *head;
        self.flow = u32::from_be_bytes([a, b, c, d]);
        self.seq = u32::from_be_bytes([e, f, g, h]);
        self.due = u64::from_be_bytes(due);
    }
}

/// Group and topic as they stand in a topic or routing key.
pub(crate) fn route(group: usize, topic: usize, separator: u8) -> [u8; ROUTE] {
    let mut out = [b'0'; ROUTE];
    let text = format!("{group:06}{}{topic:06}", separator as char);
    // Groups and topics stay below a million, so this is the whole of it.
    let n = text.len().min(ROUTE);
    out[..n].copy_from_slice(&text.as_bytes()[..n]);
    out
}

/// A topic alias as it stands where the route does otherwise.
pub(crate) fn alias(number: u16) -> [u8; ROUTE] {
    let mut out = [0; ROUTE];
    out[..2].copy_from_slice(&number.to_be_bytes());
    out
}

/// What MQTT 5 messages have beside topic and payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// User Properties of each message.
    pub(crate) user_properties: usize,
    /// Topic aliases in place of topics.
    pub(crate) aliases: bool,
}

impl Extras {
    /// The property block; an alias comes last.
    fn properties(self) -> Vec<u8> {
        let mut out = vec![];
        for n in 0..self.user_properties {
            mqtt::user_property(&mut out, &format!("name-{n:02}"), &format!("value-{n:02}"));
        }
        if self.aliases {
            mqtt::topic_alias(&mut out, 0);
        }
        out
    }
}

/// The properties of AMQP messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    /// Delivery mode 2.
    pub(crate) persistent: bool,
    /// None if it is 0.
    pub(crate) priority: u8,
    /// The header `load: yes`, which headers exchanges match.
    pub(crate) header: bool,
}

impl Content {
    /// Flags and values of a content header.
    fn write(self, header: Arguments) -> Arguments {
        let flag = |set: bool, bit: u32| u16::from(set) << bit;
        let flags = flag(self.header, 13) | flag(self.persistent, 12) | flag(self.priority > 0, 11);
        let mut header = header.u16(flags);
        if self.header {
            header = header.long(&amqp::header(YES));
        }
        if self.persistent {
            header = header.u8(2);
        }
        if self.priority > 0 {
            header = header.u8(self.priority);
        }
        header
    }
}

/// The value of the header that a run's own bindings of a headers exchange ask for.
pub(crate) const YES: &str = "yes";

impl Template {
    pub(crate) fn mqtt(v5: bool, prefix: &str, qos: u8, retain: bool, size: usize) -> Self {
        let properties = v5.then_some(&[][..]);
        let topic = format!("{prefix}{}", "x".repeat(ROUTE));
        Self::of_publish(properties, &topic, qos, retain, size)
    }

    /// Messages of MQTT 5 with properties.
    pub(crate) fn mqtt5(prefix: &str, qos: u8, extras: Extras, size: usize) -> Self {
        let properties = extras.properties();
        if !extras.aliases {
            let topic = format!("{prefix}{}", "x".repeat(ROUTE));
            return Self::of_publish(Some(&properties), &topic, qos, false, size);
        }
        let template = Self::of_publish(Some(&properties), "", qos, false, size);
        Self {
            route: template.head - 2,
            route_bytes: 2,
            aliases: true,
            ..template
        }
    }

    fn of_publish(
        properties: Option<&[u8]>,
        topic: &str,
        qos: u8,
        retain: bool,
        size: usize,
    ) -> Self {
        let one = mqtt::publish(properties, topic, qos, retain, &filling(size));
        let stride = one.len();
        let head = stride - size;
        let block = mqtt::block_bytes(properties);
        let id = head - block - 2;
        let id_bytes = if qos > 0 { 2 } else { 0 };
        let copies = copies(stride);
        Self {
            buffer: one.repeat(copies),
            stride,
            copies,
            route: (head - block - id_bytes).saturating_sub(ROUTE),
            route_bytes: ROUTE,
            aliases: false,
            packet_id: (qos > 0).then_some(id),
            head,
        }
    }

    pub(crate) fn amqp(exchange: &str, prefix: &str, content: Content, size: usize) -> Self {
        let key = format!("{prefix}{}", "x".repeat(ROUTE));
        let method = Arguments::of(60, 40).u16(0).short(exchange).short(&key);
        let mut one = method.u8(0).frame(1);
        let route = one.len() - 2 - ROUTE;
        let header = content.write(Arguments::of(60, 0).u64(size as u64));
        one.extend(amqp::frame(2, 1, &header.0));
        let head = one.len() + 7;
        for part in filling(size).chunks(amqp::FRAME_MAX - 8) {
            one.extend(amqp::frame(3, 1, part));
        }
        let stride = one.len();
        let copies = copies(stride);
        Self {
            buffer: one.repeat(copies),
            stride,
            copies,
            route,
            route_bytes: ROUTE,
            aliases: false,
            packet_id: None,
            head,
        }
    }
}

fn filling(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

/// So many copies that a full write is about 64 KiB, the most that loopback takes well in one go.
fn copies(stride: usize) -> usize {
    (65_536 / stride).clamp(1, 4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_offsets() {
        for v5 in [false, true] {
            for qos in 0..3 {
                let template = Template::mqtt(v5, "b/x/", qos, false, 200);
                let route = template.route..template.route + ROUTE;
                assert_eq!(template.buffer[route], [b'x'; ROUTE]);
                assert_eq!(template.buffer[template.head], b'a');
                assert_eq!(template.buffer.len(), template.copies * template.stride);
                if let Some(id) = template.packet_id {
                    assert_eq!(id, template.route + ROUTE);
                }
            }
        }
    }

    #[test]
    fn mqtt5_offsets() {
        for (user_properties, aliases) in [(0, true), (3, false), (20, true)] {
            for qos in 0..3 {
                let extras = Extras {
                    user_properties,
                    aliases,
                };
                let template = Template::mqtt5("b/x/", qos, extras, 200);
                let route = template.route..template.route + template.route_bytes;
                let wanted = if aliases {
                    vec![0; 2]
                } else {
                    vec![b'x'; ROUTE]
                };
                assert_eq!(template.buffer[route.clone()], wanted);
                assert_eq!(template.buffer[template.head], b'a');
                if aliases {
                    assert_eq!(template.buffer[route.start - 1], 0x23);
                } else if let Some(id) = template.packet_id {
                    assert_eq!(id, route.end);
                }
            }
        }
    }

    #[test]
    fn amqp_offsets() {
        for (size, persistent) in [(16, false), (64, true), (300_000, false)] {
            let content = Content {
                persistent,
                priority: 5,
                header: persistent,
            };
            let template = Template::amqp("amq.topic", "b.x.", content, size);
            let route = template.route..template.route + ROUTE;
            assert_eq!(template.buffer[route], [b'x'; ROUTE]);
            assert_eq!(&template.buffer[template.head..template.head + 2], b"ab");
            assert_eq!(template.buffer[template.head - 7], 3);
            assert_eq!(template.buffer[template.stride - 1], amqp::END);
        }
    }

    #[test]
    fn routes() {
        assert_eq!(&route(7, 12, b'/'), b"000007/000012");
        assert_eq!(&route(999_999, 0, b'.'), b"999999.000000");
    }
}
