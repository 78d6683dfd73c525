//! The bytes of MQTT clients, 3.1.1 and 5.0: packets out, packets in. Knows the wire and nothing
//! else, and shares no code with the broker's own codec.

use crate::message::{Id, read_payload};

/// A packet from the broker.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    ConnAck {
        present: bool,
        code: u8,
    },
    Publish {
        message: Id,
        qos: u8,
        dup: bool,
        packet_id: u16,
    },
    PubAck {
        packet_id: u16,
        reason: u8,
    },
    PubRec {
        packet_id: u16,
        reason: u8,
    },
    PubComp {
        packet_id: u16,
    },
    SubAck {
        packet_id: u16,
        codes: Vec<u8>,
    },
    UnsubAck {
        packet_id: u16,
    },
    Disconnect,
    Other,
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What a CONNECT is made of.
#[derive(Clone, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) client: &'a str,
    pub(crate) v5: bool,
    /// Clean Start; before 5.0 Clean Session.
    pub(crate) fresh: bool,
    /// Session Expiry Interval in seconds and Receive Maximum; for 5.0 alone.
    pub(crate) expiry_s: u32,
    pub(crate) window: u16,
}

impl Connect<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        string(&mut body, "MQTT");
        body.push(if self.v5 { 5 } else { 4 });
        body.push(if self.fresh { 2 } else { 0 });
        body.extend_from_slice(&[0, 0]);
        if self.v5 {
            let mut properties = vec![0x11];
            properties.extend_from_slice(&self.expiry_s.to_be_bytes());
            properties.push(0x21);
            properties.extend_from_slice(&self.window.to_be_bytes());
            body.push(properties.len() as u8);
            body.extend_from_slice(&properties);
        }
        string(&mut body, self.client);
        packet(0x10, &body)
    }

    /// How long the session outlives the connection, if the operator allows so much.
    pub(crate) fn stays_ms(&self, max_ms: u64) -> u64 {
        match (self.v5, self.fresh) {
            (true, _) => (u64::from(self.expiry_s) * 1_000).min(max_ms),
            (false, true) => 0,
            (false, false) => max_ms,
        }
    }
}

/// What a PUBLISH is made of.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) v5: bool,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) packet_id: u16,
    pub(crate) topic: &'static str,
    /// Seconds; for 5.0 alone.
    pub(crate) expiry_s: Option<u32>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        string(&mut body, self.topic);
        if self.qos > 0 {
            body.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if self.v5 {
            match self.expiry_s {
                Some(seconds) => {
                    body.extend_from_slice(&[5, 0x02]);
                    body.extend_from_slice(&seconds.to_be_bytes());
                }
                None => body.push(0),
            }
        }
        body.extend_from_slice(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1, &body)
    }
}

/// PUBACK is 4, PUBREL is 6; always success.
pub(crate) fn acknowledge(kind: u8, packet_id: u16) -> Vec<u8> {
    let flags = if kind == 6 { 2 } else { 0 };
    packet(kind << 4 | flags, &packet_id.to_be_bytes())
}

pub(crate) fn subscribe(v5: bool, packet_id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(v5: bool, packet_id: u16, filter: &str) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    string(&mut body, filter);
    packet(0xA2, &body)
}

pub(crate) fn disconnect() -> Vec<u8> {
    packet(0xE0, &[])
}

/// Takes the first packet off the bytes, if it is there as a whole.
///
/// # Errors
/// The broker has sent what no broker may send.
pub(crate) fn take(v5: bool, bytes: &mut Vec<u8>) -> Result<Option<Packet>, String> {
    let Some((length, head)) = remaining_length(bytes)? else {
        return Ok(None);
    };
    if bytes.len() < head + length {
        return Ok(None);
    }
    let read = read(v5, bytes[0], &bytes[head..head + length]);
    let packet =
        read.ok_or_else(|| format!("a broken packet: {:02x?}", &bytes[..head + length]))?;
    bytes.drain(..head + length);
    Ok(Some(packet))
}

fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (place, byte) in bytes.iter().skip(1).enumerate().take(4) {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 2)));
        }
    }
    match bytes.len() {
        0..5 => Ok(None),
        _ => Err("a remaining length without end".to_owned()),
    }
}

fn read(v5: bool, first: u8, body: &[u8]) -> Option<Packet> {
    let number = || Some(u16::from_be_bytes(*body.first_chunk()?));
    let reason = body.get(2).copied().unwrap_or(0);
    Some(match first >> 4 {
        2 => Packet::ConnAck {
            present: *body.first()? & 1 == 1,
            code: *body.get(1)?,
        },
        3 => read_publish(v5, first, body)?,
        4 => Packet::PubAck {
            packet_id: number()?,
            reason,
        },
        5 => Packet::PubRec {
            packet_id: number()?,
            reason,
        },
        7 => Packet::PubComp {
            packet_id: number()?,
        },
        9 => Packet::SubAck {
            packet_id: number()?,
            codes: behind_properties(v5, body.get(2..)?)?.to_vec(),
        },
        11 => Packet::UnsubAck {
            packet_id: number()?,
        },
        14 => Packet::Disconnect,
        _ => Packet::Other,
    })
}

/// Properties here are never longer than 127 bytes.
fn behind_properties(v5: bool, body: &[u8]) -> Option<&[u8]> {
    if !v5 {
        return Some(body);
    }
    let (length, rest) = body.split_first()?;
    if *length & 0x80 != 0 {
        return None;
    }
    rest.get(usize::from(*length)..)
}

fn read_publish(v5: bool, first: u8, body: &[u8]) -> Option<Packet> {
    let qos = first >> 1 & 3;
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let mut rest = body.get(2 + topic..)?;
    let mut packet_id = 0;
    if qos > 0 {
        packet_id = u16::from_be_bytes(*rest.first_chunk()?);
        rest = &rest[2..];
    }
    Some(Packet::Publish {
        message: read_payload(behind_properties(v5, rest)?)?,
        qos,
        dup: first & 8 != 0,
        packet_id,
    })
}
