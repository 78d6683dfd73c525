//! MQTT packets of a run: messages are looked at up to our head, the rest is skipped.
//!
//! Owns the acknowledgements that subscribers owe. Allocates nothing per message.

use super::Owner;
use super::connection::Connection;
use super::ledger::Ledger;
use crate::failure::Failure;
use crate::mqtt::{suback_codes, variable_byte_integer};
use crate::template::{HEAD, Message};

impl Connection {
    /// Takes whole packets and says how many bytes they had.
    pub(super) fn parse_mqtt(
        &mut self,
        data: &[u8],
        ledger: &mut Ledger,
        v5: bool,
    ) -> Result<usize, Failure> {
        let (mut at, ended) = self.skipped(data);
        if let Some(message) = ended {
            self.mqtt_message(ledger, &message);
        }
        while data.len() - at >= 2 {
            let Some((length, n)) = variable_byte_integer(&data[at + 1..])? else {
                break;
            };
            let body = at + 1 + n;
            let end = body + length;
            if data[at] >> 4 == 3 {
                let Some(message) = publish_head(data, data[at], body, end, v5)? else {
                    break;
                };
                if end > data.len() {
                    self.skip = end - data.len();
                    self.pending = Some(message);
                    return Ok(data.len());
                }
                self.mqtt_message(ledger, &message);
            } else if end > data.len() {
                break;
            } else {
                self.control_packet(data[at], &data[body..end], ledger, v5)?;
            }
            at = end;
        }
        Ok(at)
    }

    #[inline]
    fn mqtt_message(&mut self, ledger: &mut Ledger, message: &Message) {
        if let Owner::Subscriber(i) = self.owner {
            ledger.message(i, message);
        } else {
            ledger.foreign += 1;
        }
        if message.qos > 0 {
            let [h, l] = message.packet_id.to_be_bytes();
            let first = if message.qos == 1 { 0x40 } else { 0x50 };
            self.out.extend_from_slice(&[first, 2, h, l]);
        }
    }

    #[inline]
    fn control_packet(
        &mut self,
        first: u8,
        body: &[u8],
        ledger: &mut Ledger,
        v5: bool,
    ) -> Result<(), Failure> {
        let [h, l] = body.first_chunk().copied().unwrap_or_default();
        let packet_id = u16::from_be_bytes([h, l]);
        let refused = v5 && body.get(2).is_some_and(|code| *code >= 0x80);
        match (first >> 4, self.owner) {
            (4 | 7, Owner::Publisher(i)) => {
                ledger.nacked += u64::from(refused);
                ledger.mqtt_ack(i, packet_id);
            }
            (5, Owner::Publisher(i)) if refused => {
                ledger.nacked += 1;
                ledger.mqtt_ack(i, packet_id);
            }
            (5, Owner::Publisher(_)) => self.out.extend_from_slice(&[0x62, 2, h, l]),
            (6, Owner::Subscriber(_)) => self.out.extend_from_slice(&[0x70, 2, h, l]),
            (9, Owner::Subscriber(_)) => {
                let codes = suback_codes(v5, body);
                if let Some(code) = codes.iter().find(|code| **code >= 0x80) {
                    let text = format!("subscription refused: {code:#x}");
                    return Err(Failure::Refused(text));
                }
            }
            (13, _) => {}
            (14, _) => {
                let reason = body.first().copied().unwrap_or_default();
                let text = format!("the broker sent DISCONNECT, reason {reason:#x}");
                return Err(Failure::Refused(text));
            }
            (kind, _) => {
                return Err(Failure::protocol(format!("unexpected packet type {kind}")));
            }
        }
        Ok(())
    }
}

/// A PUBLISH up to our head; `None` while that is not all there.
#[inline]
fn publish_head(
    data: &[u8],
    first: u8,
    body: usize,
    end: usize,
    v5: bool,
) -> Result<Option<Message>, Failure> {
    let mut message = Message {
        qos: (first >> 1) & 3,
        dup: first & 8 != 0,
        ..Message::default()
    };
    if body + 2 > data.len() {
        return Ok(None);
    }
    let mut at = body + 2 + usize::from(u16::from_be_bytes([data[body], data[body + 1]]));
    if message.qos > 0 {
        if at + 2 > data.len() {
            return Ok(None);
        }
        message.packet_id = u16::from_be_bytes([data[at], data[at + 1]]);
        at += 2;
    }
    if v5 {
        if at >= data.len() {
            return Ok(None);
        }
        match variable_byte_integer(&data[at..])? {
            Some((n, l)) => at += n + l,
            None => return Ok(None),
        }
    }
    if at > end {
        return Err(Failure::protocol("malformed PUBLISH"));
    }
    let need = (at + HEAD).min(end);
    if need > data.len() {
        return Ok(None);
    }
    message.read_head(&data[at..need]);
    Ok(Some(message))
}
