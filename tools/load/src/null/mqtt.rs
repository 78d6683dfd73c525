//! The null broker's MQTT: packets side by side that go to the same places are forwarded at once.
//!
//! Owns answers to control packets and the faults that were asked for. `None` closes the peer.

use std::ops::Range;

use super::{Broker, Faults, Peer};
use crate::mqtt::variable_byte_integer;

impl Broker {
    /// Takes whole packets; says how many bytes they had.
    pub(super) fn mqtt(&mut self, me: &mut Peer, id: usize, data: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut run = 0..0;
        while data.len() - at >= 2 {
            let Some((length, n)) = variable_byte_integer(&data[at + 1..]).ok()? else {
                break;
            };
            let Some(body) = data.get(at + 1 + n..at + 1 + n + length) else {
                break;
            };
            let end = at + 1 + n + length;
            if data[at] >> 4 == 3 {
                self.publish(me, data, at..end, body, &mut run)?;
            } else {
                self.flush_run(me, data, &mut run);
                self.control(me, id, data[at], body)?;
            }
            at = end;
        }
        self.flush_run(me, data, &mut run);
        Some(at)
    }

    #[inline]
    fn publish(
        &mut self,
        me: &mut Peer,
        data: &[u8],
        packet: Range<usize>,
        body: &[u8],
        run: &mut Range<usize>,
    ) -> Option<()> {
        let (length, rest) = body.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let topic = rest.get(..length)?;
        if !self.routes.is_fresh(&me.cached, b"", topic) {
            self.flush_run(me, data, run);
            self.routes.look_up(&mut me.cached, b"", topic, b'/');
        }
        if self.faults == Faults::default() {
            if run.start == run.end {
                run.start = packet.start;
            }
            run.end = packet.end;
        } else {
            self.faulty(me, &data[packet.clone()]);
        }
        let qos = (data[packet.start] >> 1) & 3;
        if qos > 0 {
            let [h, l] = *rest.get(length..)?.first_chunk::<2>()?;
            let answer = if qos == 1 { 0x40 } else { 0x50 };
            me.out.buffer.extend_from_slice(&[answer, 2, h, l]);
        }
        Some(())
    }

    fn control(&mut self, me: &mut Peer, id: usize, first: u8, body: &[u8]) -> Option<()> {
        let out = &mut me.out.buffer;
        match first >> 4 {
            1 => {
                me.v5 = body.get(6) == Some(&5);
                let answer: &[u8] = if me.v5 {
                    &[0x20, 3, 0, 0, 0]
                } else {
                    &[0x20, 2, 0, 0]
                };
                out.extend_from_slice(answer);
            }
            kind @ (5 | 6) => {
                let [h, l] = *body.first_chunk::<2>()?;
                let answer = if kind == 5 { 0x62 } else { 0x70 };
                out.extend_from_slice(&[answer, 2, h, l]);
            }
            8 => self.subscribe(me, id, body)?,
            12 => out.extend_from_slice(&[0xD0, 0]),
            14 => return None,
            _ => {}
        }
        Some(())
    }

    fn subscribe(&mut self, me: &mut Peer, id: usize, body: &[u8]) -> Option<()> {
        let ([h, l], mut rest) = body.split_first_chunk::<2>()?;
        let mut answer = vec![*h, *l];
        if me.v5 {
            answer.push(0);
            rest = rest.get(1..)?;
        }
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (filter, after) = after.split_at_checked(length)?;
            let (qos, after) = after.split_first()?;
            let mut levels = filter.splitn(3, |c| *c == b'/');
            match (levels.next(), levels.next(), levels.next()) {
                (Some(b"$share"), Some(group), Some(shared)) => {
                    self.routes.subscribe(group, shared, id);
                }
                _ => self.routes.subscribe(b"", filter, id),
            }
            answer.push(qos & 3);
            rest = after;
        }
        me.out.buffer.push(0x90);
        crate::mqtt::put_variable_byte_integer(&mut me.out.buffer, answer.len());
        me.out.buffer.extend(answer);
        Some(())
    }

    fn flush_run(&mut self, me: &Peer, data: &[u8], run: &mut Range<usize>) {
        if run.start < run.end {
            self.forward(me, &data[run.clone()], false);
        }
        *run = 0..0;
    }

    /// One message through the faults that were asked for.
    fn faulty(&mut self, me: &Peer, packet: &[u8]) {
        self.seen += 1;
        let seen = self.seen;
        let hit = |n: u64| n > 0 && seen.is_multiple_of(n);
        if hit(self.faults.drop) {
            return;
        }
        if hit(self.faults.duplicate) {
            self.forward(me, packet, false);
        } else if hit(self.faults.swap) && self.held.is_none() {
            self.held = Some(packet.to_vec());
            return;
        }
        self.forward(me, packet, false);
        if let Some(held) = self.held.take() {
            self.forward(me, &held, false);
        }
    }
}
