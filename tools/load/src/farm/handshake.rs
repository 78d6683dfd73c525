//! The way from a connected socket to a connection that is up.
//!
//! Owns the order of packets: CONNECT, CONNACK, SUBSCRIBE, SUBACK; AMQP 0-9-1 §2.2.4.

use super::{Farm, State, Wire};
use crate::amqp;
use crate::clock::now;
use crate::failure::Failure;
use crate::mqtt::{self, Wish, connack, suback_codes, variable_byte_integer};

impl Farm {
    /// The first bytes of a connection, and what it waits for then.
    pub(super) fn hello(&self, i: usize) -> (Vec<u8>, State) {
        let plan = &self.plan;
        match &plan.wire {
            Wire::Mqtt(options) => {
                let wish = Wish {
                    client_id: &self.client_id(i),
                    clean: plan.clean,
                    expiry_s: plan.expiry_s,
                };
                (mqtt::connect(options, wish), State::ConnAck)
            }
            Wire::Amqp { .. } => (amqp::PROTOCOL_HEADER.to_vec(), State::Start),
        }
    }

    /// Takes whole packets; says how many bytes they had and whether the connection came up.
    pub(super) fn packets(&mut self, i: usize, data: &[u8]) -> Result<(usize, bool), Failure> {
        let is_mqtt = matches!(self.plan.wire, Wire::Mqtt(_));
        let mut at = 0;
        let mut up = false;
        loop {
            let rest = &data[at..];
            let taken = if is_mqtt {
                self.mqtt_packet(i, rest)?
            } else {
                self.amqp_frame(i, rest)?
            };
            let Some((used, came_up)) = taken else {
                return Ok((at, up));
            };
            at += used;
            up |= came_up;
        }
    }

    fn mqtt_packet(&mut self, i: usize, data: &[u8]) -> Result<Option<(usize, bool)>, Failure> {
        let Some((length, n)) = variable_byte_integer(data.get(1..).unwrap_or_default())? else {
            return Ok(None);
        };
        let end = 1 + n + length;
        let Some(body) = data.get(1 + n..end) else {
            return Ok(None);
        };
        let Wire::Mqtt(options) = &self.plan.wire else {
            return Ok(None);
        };
        let v5 = options.v5;
        let mut up = false;
        match (data[0] >> 4, self.slots[i].state) {
            (2, State::ConnAck) => {
                let granted = connack(v5, body);
                let code = granted.map_or(u8::MAX, |granted| granted.code);
                if code != 0 {
                    return Err(Failure::Refused(format!("connection refused: code {code}")));
                }
                self.present += u64::from(granted.is_some_and(|granted| granted.session_present));
                self.time_handshake(i);
                up = self.plan.filters == 0;
                if up {
                    self.slots[i].state = State::Up;
                } else {
                    let filters = self.filters(i);
                    let packet = mqtt::subscribe(v5, 1, &filters, self.plan.sub_qos);
                    self.put(i, &packet)?;
                    self.slots[i].state = State::SubAck;
                }
            }
            (9, State::SubAck) => {
                if suback_codes(v5, body).iter().any(|code| *code >= 0x80) {
                    return Err(Failure::Refused("subscription refused".into()));
                }
                self.slots[i].state = State::Up;
                up = true;
            }
            (13, _) => self.pongs += 1,
            _ => {}
        }
        Ok(Some((end, up)))
    }

    fn amqp_frame(&mut self, i: usize, data: &[u8]) -> Result<Option<(usize, bool)>, Failure> {
        let Some([kind, _, _, s0, s1, s2, s3]) = data.first_chunk() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        if size > amqp::FRAME_MAX {
            return Err(Failure::protocol(format!("a frame of {size} bytes")));
        }
        let end = 7 + size + 1;
        let Some(payload) = data.get(7..7 + size) else {
            return Ok(None);
        };
        if data.len() < end {
            return Ok(None);
        }
        let up = match *kind {
            1 => self.amqp_method(i, payload)?,
            8 => {
                self.pongs += 1;
                false
            }
            _ => false,
        };
        Ok(Some((end, up)))
    }

    fn amqp_method(&mut self, i: usize, payload: &[u8]) -> Result<bool, Failure> {
        let Wire::Amqp {
            options,
            heartbeat_s,
        } = &self.plan.wire
        else {
            return Ok(false);
        };
        let (answer, next) = match (amqp::method_of(payload), self.slots[i].state) {
            (amqp::CONNECTION_START, State::Start) => (amqp::start_ok(options), State::Tune),
            (amqp::CONNECTION_TUNE, State::Tune) => {
                let heartbeat_s = heartbeat(payload, *heartbeat_s);
                let answer = amqp::tune_ok_and_open(options, payload, heartbeat_s)?;
                (answer, State::OpenOk)
            }
            (amqp::CONNECTION_OPEN_OK, State::OpenOk) => {
                (amqp::channel_open(), State::ChannelOpenOk)
            }
            (amqp::CHANNEL_OPEN_OK, State::ChannelOpenOk) => (vec![], State::Up),
            (amqp::CONNECTION_CLOSE | amqp::CHANNEL_CLOSE, _) => {
                let text = amqp::close_text(payload);
                return Err(Failure::Refused(format!("closed by the broker: {text}")));
            }
            _ => return Ok(false),
        };
        self.put(i, &answer)?;
        self.slots[i].state = next;
        if next == State::Up {
            self.time_handshake(i);
        }
        Ok(next == State::Up)
    }

    fn time_handshake(&mut self, i: usize) {
        let took = now() - self.slots[i].t0;
        self.handshake.saturating_record(took);
    }

    fn client_id(&self, i: usize) -> String {
        let (plan, slot) = (&self.plan, &self.slots[i]);
        if plan.fixed_ids {
            return format!("{}-{}", plan.client_ids, slot.number);
        }
        let moment = slot.t0 % 1_000_000_000;
        format!("{}-{}-{moment}", plan.client_ids, slot.number)
    }

    fn filters(&self, i: usize) -> Vec<String> {
        let (tag, number) = (self.plan.run.tag(), self.slots[i].number);
        let filter = |n| format!("b/{tag}/{number}/{n}");
        (0..self.plan.filters).map(filter).collect()
    }
}

/// The lower of what both sides want, none if either wants none.
fn heartbeat(tune: &[u8], wanted_s: u16) -> u16 {
    let theirs = tune.get(10..12).unwrap_or_default();
    let theirs_s = theirs.first_chunk().map_or(0, |s| u16::from_be_bytes(*s));
    wanted_s.min(theirs_s)
}
