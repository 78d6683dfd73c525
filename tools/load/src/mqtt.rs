//! MQTT 3.1.1 and 5: the few packets a load generator needs, encoded by hand.
//!
//! Owns bytes on the wire and the blocking talk of the set-up. Decodes only what it asked for.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::failure::Failure;
use crate::sockets;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) address: SocketAddr,
    pub(crate) v5: bool,
    /// MQTT 5: messages to us may have topic aliases.
    pub(crate) aliases: bool,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) keep_alive_s: u16,
    pub(crate) timeout: Duration,
}

/// Which session a CONNECT asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) client_id: &'a str,
    /// Clean Session of 3.1.1, Clean Start of 5.
    pub(crate) clean: bool,
    /// Session Expiry Interval of 5, seconds.
    pub(crate) expiry_s: u32,
}

/// What a CONNACK grants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) receive_max: u32,
    pub(crate) max_qos: u8,
    pub(crate) topic_alias_max: u16,
}

pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];

pub(crate) fn put_variable_byte_integer(out: &mut Vec<u8>, mut n: usize) {
    loop {
        let low = (n & 127) as u8;
        n >>= 7;
        if n == 0 {
            out.push(low);
            return;
        }
        out.push(low | 128);
    }
}

/// (value, bytes used); `None` when more bytes are needed, `Err` when there can be no such number.
#[inline]
pub(crate) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let mut value = 0_usize;
    for i in 0..4 {
        let Some(&byte) = bytes.get(i) else {
            return Ok(None);
        };
        value |= ((byte & 127) as usize) << (7 * i);
        if byte & 128 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    Err(Failure::protocol("malformed packet length"))
}

pub(crate) fn connect(options: &Options, wish: Wish<'_>) -> Vec<u8> {
    let mut body = vec![];
    put_string(&mut body, b"MQTT");
    body.push(if options.v5 { 5 } else { 4 });
    let login = !options.user.is_empty();
    body.push(u8::from(wish.clean) << 1 | if login { 0xC0 } else { 0 });
    body.extend_from_slice(&options.keep_alive_s.to_be_bytes());
    if options.v5 {
        // Receive Maximum: the broker may have 65,535 in flight to us.
        let mut properties = vec![0x21, 0xFF, 0xFF];
        if options.aliases {
            properties.extend_from_slice(&[0x22, 0xFF, 0xFF]);
        }
        if wish.expiry_s > 0 {
            properties.push(0x11);
            properties.extend_from_slice(&wish.expiry_s.to_be_bytes());
        }
        put_variable_byte_integer(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    put_string(&mut body, wish.client_id.as_bytes());
    if login {
        put_string(&mut body, options.user.as_bytes());
        put_string(&mut body, options.password.as_bytes());
    }
    packet(0x10, &body)
}

pub(crate) fn subscribe<S: AsRef<str>>(v5: bool, id: u16, filters: &[S], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for filter in filters {
        put_string(&mut body, filter.as_ref().as_bytes());
        body.push(qos);
    }
    packet(0x82, &body)
}

pub(crate) fn user_property(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0x26);
    put_string(out, name.as_bytes());
    put_string(out, value.as_bytes());
}

pub(crate) fn topic_alias(out: &mut Vec<u8>, number: u16) {
    out.push(0x23);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Bytes of a property block with its length; none before MQTT 5.
pub(crate) fn block_bytes(properties: Option<&[u8]>) -> usize {
    let Some(properties) = properties else {
        return 0;
    };
    let mut length = vec![];
    put_variable_byte_integer(&mut length, properties.len());
    length.len() + properties.len()
}

/// A PUBLISH; MQTT 5 has properties, if only none.
pub(crate) fn publish(
    properties: Option<&[u8]>,
    topic: &str,
    qos: u8,
    retain: bool,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = vec![];
    put_string(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&[0, 0]);
    }
    if let Some(properties) = properties {
        put_variable_byte_integer(&mut body, properties.len());
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1 | u8::from(retain), &body)
}

/// The body of a CONNACK; `None` if it is malformed.
pub(crate) fn connack(v5: bool, body: &[u8]) -> Option<ConnAck> {
    let mut granted = ConnAck {
        session_present: body.first()? & 1 == 1,
        code: *body.get(1)?,
        receive_max: 65_535,
        max_qos: 2,
        topic_alias_max: 0,
    };
    if !v5 || body.len() < 3 {
        return Some(granted);
    }
    let (n, l) = variable_byte_integer(&body[2..]).ok()??;
    let properties = body.get(2 + l..2 + l + n)?;
    let u16_at = |i: usize| {
        let bytes = [*properties.get(i)?, *properties.get(i + 1)?];
        Some(usize::from(u16::from_be_bytes(bytes)))
    };
    let mut i = 0;
    while i < properties.len() {
        i += 1 + match properties[i] {
            0x21 => {
                granted.receive_max = u16_at(i + 1)? as u32;
                2
            }
            0x24 => {
                granted.max_qos = *properties.get(i + 1)?;
                1
            }
            0x22 => {
                granted.topic_alias_max = u16_at(i + 1)? as u16;
                2
            }
            0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x1F | 0x1A | 0x1C | 0x15 | 0x16 => 2 + u16_at(i + 1)?,
            0x26 => {
                let name = 2 + u16_at(i + 1)?;
                name + 2 + u16_at(i + 1 + name)?
            }
            _ => return Some(granted),
        };
    }
    Some(granted)
}

/// The return codes of a SUBACK's body; empty if it is malformed.
pub(crate) fn suback_codes(v5: bool, body: &[u8]) -> &[u8] {
    let rest = body.get(2..).unwrap_or_default();
    if !v5 {
        return rest;
    }
    match variable_byte_integer(rest) {
        Ok(Some((n, l))) => rest.get(n + l..).unwrap_or_default(),
        _ => &[],
    }
}

/// One whole packet, in blocking mode: first byte and body.
pub(crate) fn read_packet(stream: &mut TcpStream, what: &str) -> Result<(u8, Vec<u8>), Failure> {
    let mut byte = [0_u8; 1];
    sockets::read_exact(stream, &mut byte, what)?;
    let first = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        sockets::read_exact(stream, &mut byte, what)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] & 128 == 0 {
            break;
        }
        if shift > 21 {
            return Err(Failure::protocol("malformed packet length"));
        }
    }
    if length > SETUP_PACKET_BYTES_MAX {
        return Err(Failure::protocol(format!(
            "a packet of {length} bytes while waiting for {what}"
        )));
    }
    let mut body = vec![0; length];
    sockets::read_exact(stream, &mut body, what)?;
    Ok((first, body))
}

/// Connects and waits for the CONNACK.
pub(crate) fn open(
    options: &Options,
    from: Option<Ipv4Addr>,
    wish: Wish<'_>,
) -> Result<(TcpStream, ConnAck), Failure> {
    let mut stream = sockets::dial(options.address, from, options.timeout)?;
    write(&mut stream, &connect(options, wish), "CONNECT")?;
    let (first, body) = read_packet(&mut stream, "CONNACK")?;
    if first >> 4 != 2 {
        return Err(Failure::protocol(format!(
            "wanted CONNACK, got packet type {}",
            first >> 4
        )));
    }
    let granted =
        connack(options.v5, &body).ok_or_else(|| Failure::protocol("malformed CONNACK"))?;
    if granted.code != 0 {
        return Err(Failure::Refused(format!(
            "the broker refused the connection: code {}",
            granted.code
        )));
    }
    Ok((stream, granted))
}

/// Subscribes and waits for the SUBACK; gives the granted QoS.
pub(crate) fn subscribe_wait(
    v5: bool,
    stream: &mut TcpStream,
    filter: &str,
    qos: u8,
) -> Result<u8, Failure> {
    write(stream, &subscribe(v5, 1, &[filter], qos), "SUBSCRIBE")?;
    for _ in 0..PACKETS_BEFORE_SUBACK_MAX {
        let (first, body) = read_packet(stream, "SUBACK")?;
        if first >> 4 != 9 {
            continue;
        }
        return match suback_codes(v5, &body).last() {
            None => Err(Failure::protocol("empty SUBACK")),
            Some(code) if *code >= 0x80 => Err(Failure::Refused(format!(
                "subscription to {filter} refused: code {code:#x}"
            ))),
            Some(code) => Ok(*code),
        };
    }
    Err(Failure::protocol("no SUBACK"))
}

/// Writes all, in blocking mode.
pub(crate) fn write(stream: &mut TcpStream, bytes: &[u8], what: &str) -> Result<(), Failure> {
    stream.write_all(bytes).map_err(Failure::system(what))
}

/// Ends the session of a client identifier: a clean connection that goes at once.
pub(crate) fn forget(options: &Options, client_id: &str) -> Result<(), Failure> {
    let wish = Wish {
        client_id,
        clean: true,
        expiry_s: 0,
    };
    let (mut stream, _) = open(options, None, wish)?;
    write(&mut stream, &DISCONNECT, "DISCONNECT")
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_variable_byte_integer(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

/// No answer of the set-up is longer; what is longer is not read.
const SETUP_PACKET_BYTES_MAX: usize = 1 << 20;

/// Messages may come before the SUBACK (MQTT 5 §3.8.4); so many packets are skipped.
const PACKETS_BEFORE_SUBACK_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers() {
        for n in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut out = vec![];
            put_variable_byte_integer(&mut out, n);
            let whole = variable_byte_integer(&out).expect("is one");
            assert_eq!(whole, Some((n, out.len())));
            let part = variable_byte_integer(&out[..out.len() - 1]).expect("may be one");
            assert_eq!(part, None);
        }
        assert!(variable_byte_integer(&[255; 4]).is_err());
    }

    #[test]
    fn connacks() {
        assert!(connack(false, &[1, 0]).is_some_and(|c| c.session_present));
        let body = [0, 0, 11, 0x22, 0, 7, 0x21, 0, 20, 0x24, 1, 0x12, 0, 0];
        let granted = connack(true, &body).expect("is one");
        assert_eq!((granted.receive_max, granted.max_qos), (20, 1));
        assert_eq!(granted.topic_alias_max, 7);
    }

    #[test]
    fn subacks() {
        let table: [(bool, &[u8], &[u8]); 4] = [
            (false, &[0, 1, 0, 1, 0x80], &[0, 1, 0x80]),
            (true, &[0, 1, 0, 1, 2], &[1, 2]),
            (true, &[0, 1, 3, 0x1F, 0, 0, 2], &[2]),
            (true, &[0, 1], &[]),
        ];
        for (v5, body, codes) in table {
            assert_eq!(suback_codes(v5, body), codes, "{body:?}");
        }
    }
}
