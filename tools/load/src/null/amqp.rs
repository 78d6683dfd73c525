//! The null broker's AMQP 0-9-1: content frames are forwarded as they came.
//!
//! Owns answers to methods and confirms. `None` closes the peer.

use super::{Broker, Peer};
use crate::amqp::{Arguments, END, FRAME_MAX, basic_ack};

impl Broker {
    /// Takes whole frames, and messages only as a whole; says how many bytes they had.
    pub(super) fn amqp(&mut self, me: &mut Peer, id: usize, data: &[u8]) -> Option<usize> {
        let mut at = 0;
        if !me.greeted {
            if data.len() < 8 {
                return Some(0);
            }
            me.greeted = true;
            at = 8;
            let start = Arguments::of(10, 10).u8(0).u8(9).u32(0);
            let start = start.long(b"PLAIN").long(b"en_US").frame(0);
            me.out.buffer.extend(start);
        }
        while let Some(length) = frame_length(data, at) {
            let next = at + length;
            let payload = data.get(at + 7..next - 1)?;
            if data[at] == 1 && payload.starts_with(&[0, 60, 0, 40]) {
                let Some(end) = content_end(data, next) else {
                    break;
                };
                self.basic_publish(me, payload.get(6..)?, &data[next..end])?;
                at = end;
                continue;
            }
            if data[at] == 1 {
                self.method(me, id, payload)?;
            }
            at = next;
        }
        if me.confirm && me.published > me.confirmed {
            me.confirmed = me.published;
            me.out.buffer.extend(basic_ack(me.published, true));
        }
        Some(at)
    }

    fn basic_publish(&mut self, me: &mut Peer, mut arguments: &[u8], content: &[u8]) -> Option<()> {
        let exchange = short(&mut arguments)?;
        let key = short(&mut arguments)?;
        if !self.routes.is_fresh(&me.cached, exchange, key) {
            self.routes.look_up(&mut me.cached, exchange, key, b'.');
        }
        me.published += 1;
        self.forward(me, content, true);
        Some(())
    }

    fn method(&mut self, me: &mut Peer, id: usize, payload: &[u8]) -> Option<()> {
        let (method, rest) = payload.split_first_chunk::<4>()?;
        // Most methods have a reserved short before their names.
        let mut names = rest.get(2..).unwrap_or_default();
        let answer = match *method {
            [0, 10, 0, 11] => Arguments::of(10, 30)
                .u16(2_047)
                .u32(FRAME_MAX as u32)
                .u16(0)
                .frame(0),
            [0, 10, 0, 40] => Arguments::of(10, 41).u8(0).frame(0),
            [0, 10, 0, 50] => return None,
            [0, 20, 0, 10] => Arguments::of(20, 11).u32(0).frame(1),
            [0, 40, 0, 10] => {
                let name = short(&mut names)?;
                if short(&mut names)? == b"fanout" {
                    self.routes.add_fanout(name);
                }
                Arguments::of(40, 11).frame(1)
            }
            [0, 40, 0, 20] => Arguments::of(40, 21).frame(1),
            [0, 50, 0, 10] => {
                let queue = short(&mut names)?;
                self.routes.bind(b"", queue, queue);
                let name = str::from_utf8(queue).ok()?;
                let ok = Arguments::of(50, 11).short(name);
                ok.u32(0).u32(0).frame(1)
            }
            [0, 50, 0, 20] => {
                let queue = short(&mut names)?;
                let exchange = short(&mut names)?;
                self.routes.bind(exchange, short(&mut names)?, queue);
                Arguments::of(50, 21).frame(1)
            }
            [0, 50, 0, 40] => {
                self.routes.delete(short(&mut names)?);
                Arguments::of(50, 41).u32(0).frame(1)
            }
            [0, 60, 0, 10] => Arguments::of(60, 11).frame(1),
            [0, 60, 0, 20] => {
                self.routes.consume(short(&mut names)?, id);
                Arguments::of(60, 21).short("c").frame(1)
            }
            [0, 85, 0, 10] => {
                me.confirm = true;
                Arguments::of(85, 11).frame(1)
            }
            _ => return Some(()),
        };
        me.out.buffer.extend(answer);
        Some(())
    }
}

impl Peer {
    /// The basic.deliver before a content.
    pub(super) fn deliver(&mut self) {
        self.delivered += 1;
        let mut frame = [
            1, 0, 1, 0, 0, 0, 17, 0, 60, 0, 60, 1, b'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, END,
        ];
        frame[13..21].copy_from_slice(&self.delivered.to_be_bytes());
        self.out.buffer.extend_from_slice(&frame);
    }
}

/// Bytes of the frame that begins here, if it is all there.
fn frame_length(data: &[u8], at: usize) -> Option<usize> {
    let size = data.get(at + 3..)?.first_chunk::<4>()?;
    let length = u32::from_be_bytes(*size) as usize + 8;
    (at + length <= data.len()).then_some(length)
}

/// Where the content that begins here ends: header and body frames.
fn content_end(data: &[u8], at: usize) -> Option<usize> {
    let mut end = at + frame_length(data, at)?;
    let size = data.get(at + 11..)?.first_chunk::<8>()?;
    let mut missing = u64::from_be_bytes(*size) as usize;
    while missing > 0 {
        let length = frame_length(data, end)?;
        missing = missing.saturating_sub(length - 8);
        end += length;
    }
    Some(end)
}

/// A short string, which it takes off.
fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some(text)
}
