//! AMQP 0-9-1 frames of a run: bodies are looked at up to our head, the rest is skipped.
//!
//! Owns the acknowledgements that consumers owe. Allocates nothing per message.

use super::Owner;
use super::connection::Connection;
use super::ledger::Ledger;
use crate::amqp::{
    BASIC_ACK, BASIC_CANCEL, BASIC_DELIVER, BASIC_NACK, CHANNEL_CLOSE, CONNECTION_CLOSE, END,
    close_text, method_of,
};
use crate::failure::Failure;
use crate::template::{HEAD, Message};

impl Connection {
    /// Takes whole frames and says how many bytes they had.
    pub(super) fn parse_amqp(
        &mut self,
        data: &[u8],
        ledger: &mut Ledger,
    ) -> Result<usize, Failure> {
        let (mut at, ended) = self.skipped(data);
        if let Some(message) = ended {
            self.amqp_message(ledger, &message);
        }
        // AMQP 0-9-1 §4.2.3: type (1), channel (2), size (4), payload, end (1).
        while let Some([kind, _, _, s0, s1, s2, s3]) = data[at..].first_chunk() {
            let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
            let payload = at + 7;
            let end = payload + size + 1;
            if *kind == 3 {
                let need = payload + HEAD.min(size);
                if need > data.len() {
                    break;
                }
                if self.delivery.first {
                    self.delivery.first = false;
                    self.delivery.message.read_head(&data[payload..need]);
                }
                self.delivery.body = self.delivery.body.saturating_sub(size as u64);
                let whole = self.delivery.body == 0;
                if end > data.len() {
                    self.skip = end - data.len();
                    self.pending = whole.then_some(self.delivery.message);
                    return Ok(data.len());
                }
                if whole {
                    let message = self.delivery.message;
                    self.amqp_message(ledger, &message);
                }
            } else if end > data.len() {
                break;
            } else if data[end - 1] != END {
                return Err(Failure::protocol("bad frame end"));
            } else {
                self.frame(*kind, &data[payload..end - 1], ledger)?;
            }
            at = end;
        }
        Ok(at)
    }

    /// A method or a content header.
    #[inline]
    fn frame(&mut self, kind: u8, payload: &[u8], ledger: &mut Ledger) -> Result<(), Failure> {
        match kind {
            1 => self.method(payload, ledger),
            2 => {
                let Some([_, _, _, _, size @ ..]) = payload.first_chunk::<12>() else {
                    return Err(Failure::protocol("short content header"));
                };
                self.delivery.body = u64::from_be_bytes(*size);
                self.delivery.first = true;
                if self.delivery.body == 0 {
                    self.delivery.message.short = true;
                    let message = self.delivery.message;
                    self.amqp_message(ledger, &message);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn method(&mut self, payload: &[u8], ledger: &mut Ledger) -> Result<(), Failure> {
        match method_of(payload) {
            BASIC_DELIVER => {
                let tag = payload.get(4).map(|n| 5 + usize::from(*n));
                let rest = tag.and_then(|at| payload.get(at..)).unwrap_or_default();
                let Some((tag, rest)) = rest.split_first_chunk::<8>() else {
                    return Err(Failure::protocol("short basic.deliver"));
                };
                self.delivery.tag = u64::from_be_bytes(*tag);
                self.delivery.message = Message {
                    dup: rest.first() == Some(&1),
                    ..Message::default()
                };
            }
            method @ (BASIC_ACK | BASIC_NACK) => {
                let Some([_, _, _, _, tag @ .., flags]) = payload.first_chunk::<13>() else {
                    return Err(Failure::protocol("short acknowledgement"));
                };
                if let Owner::Publisher(i) = self.owner {
                    let tag = u64::from_be_bytes(*tag);
                    ledger.confirm(i, tag, flags & 1 == 1, method == BASIC_NACK);
                }
            }
            CHANNEL_CLOSE | CONNECTION_CLOSE => {
                return Err(Failure::Refused(format!(
                    "closed by the broker: {}",
                    close_text(payload)
                )));
            }
            BASIC_CANCEL => {
                return Err(Failure::Refused("the broker cancelled the consumer".into()));
            }
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn amqp_message(&mut self, ledger: &mut Ledger, message: &Message) {
        let Owner::Subscriber(i) = self.owner else {
            return;
        };
        ledger.message(i, message);
        if ledger.limits.auto_ack {
            return;
        }
        let every = ledger.limits.ack_every;
        let subscriber = &mut ledger.subscribers[i];
        subscriber.unacked += 1;
        subscriber.last_tag = self.delivery.tag;
        if subscriber.unacked >= every {
            subscriber.unacked = 0;
            let mut ack = [
                1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, END,
            ];
            ack[11..19].copy_from_slice(&self.delivery.tag.to_be_bytes());
            ack[19] = u8::from(every > 1);
            self.out.extend_from_slice(&ack);
        }
    }
}
