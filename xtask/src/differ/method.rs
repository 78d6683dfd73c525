//! The methods of AMQP 0-9-1, as the specification's table, and their octets.
//!
//! Owns names, numbers and argument types; written without regard to the broker's own codec, which
//! it judges. Never says what a method means.

use anyhow::{Context, Result, bail};

use super::octets::Reader;
use super::value::{self, Table};

/// How an argument lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Octet,
    Short,
    Long,
    LongLong,
    ShortString,
    LongString,
    Bit,
    Table,
}

/// One method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) class: u16,
    pub(super) id: u16,
    pub(super) name: &'static str,
    /// Names and types, as `name:type`, in order.
    arguments: &'static str,
    /// What may answer it; empty if nothing does.
    pub(super) reply: &'static str,
    /// Whether content follows.
    pub(super) content: bool,
}

/// The value of one argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    Number(u64),
    Text(Vec<u8>),
    Bit(bool),
    Table(Table),
}

impl Method {
    /// Its arguments in order.
    pub(super) fn arguments(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.arguments.split_whitespace().map(|argument| {
            let (name, kind) = argument.split_once(':').unwrap_or((argument, "bit"));
            let kind = match kind {
                "octet" => Kind::Octet,
                "short" => Kind::Short,
                "long" => Kind::Long,
                "longlong" => Kind::LongLong,
                "str" => Kind::ShortString,
                "longstr" => Kind::LongString,
                "table" => Kind::Table,
                _ => Kind::Bit,
            };
            (name, kind)
        })
    }

    /// The payload of its frame.
    ///
    /// # Errors
    /// A value does not fit its type.
    pub(super) fn encode(&self, values: &[Argument]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.extend(self.class.to_be_bytes());
        out.extend(self.id.to_be_bytes());
        let mut bits: Option<(u8, u8)> = None;
        for ((name, kind), value) in self.arguments().zip(values) {
            if kind == Kind::Bit {
                let (octet, count) = bits.unwrap_or((0, 0));
                let set = u8::from(*value == Argument::Bit(true));
                bits = Some((octet | (set << count), count + 1));
                continue;
            }
            if let Some((octet, _)) = bits.take() {
                out.push(octet);
            }
            encode_one(&mut out, kind, value).with_context(|| format!("argument {name}"))?;
        }
        if let Some((octet, _)) = bits {
            out.push(octet);
        }
        Ok(out)
    }

    /// The arguments of a payload, after its class and method.
    ///
    /// # Errors
    /// The payload is too short, or too long.
    pub(super) fn decode(&self, octets: &[u8]) -> Result<Vec<Argument>> {
        let mut reader = Reader::new(octets);
        let mut values = Vec::new();
        let mut bits: Option<(u8, u8)> = None;
        for (_, kind) in self.arguments() {
            if kind == Kind::Bit {
                let (octet, count) = match bits {
                    Some(bits) => bits,
                    None => (reader.octet()?, 0),
                };
                values.push(Argument::Bit(octet & (1 << count) != 0));
                bits = Some((octet, count + 1));
                continue;
            }
            bits = None;
            values.push(decode_one(&mut reader, kind)?);
        }
        if !reader.is_empty() {
            bail!("{} octets too many", reader.rest().len());
        }
        Ok(values)
    }
}

/// The value that stands where a script names none.
pub(super) fn default(kind: Kind) -> Argument {
    match kind {
        Kind::Octet | Kind::Short | Kind::Long | Kind::LongLong => Argument::Number(0),
        Kind::ShortString | Kind::LongString => Argument::Text(Vec::new()),
        Kind::Bit => Argument::Bit(false),
        Kind::Table => Argument::Table(Table::new()),
    }
}

pub(super) fn by_name(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

pub(super) fn by_number(class: u16, id: u16) -> Option<&'static Method> {
    METHODS
        .iter()
        .find(|method| method.class == class && method.id == id)
}

fn encode_one(out: &mut Vec<u8>, kind: Kind, value: &Argument) -> Result<()> {
    match (kind, value) {
        (Kind::Octet, Argument::Number(number)) => out.push(u8::try_from(*number)?),
        (Kind::Short, Argument::Number(number)) => {
            out.extend(u16::try_from(*number)?.to_be_bytes());
        }
        (Kind::Long, Argument::Number(number)) => {
            out.extend(u32::try_from(*number)?.to_be_bytes());
        }
        (Kind::LongLong, Argument::Number(number)) => out.extend(number.to_be_bytes()),
        (Kind::ShortString, Argument::Text(text)) => {
            out.push(u8::try_from(text.len()).context("a short string has 255 octets at most")?);
            out.extend(text);
        }
        (Kind::LongString, Argument::Text(text)) => {
            out.extend(u32::try_from(text.len())?.to_be_bytes());
            out.extend(text);
        }
        (Kind::Table, Argument::Table(table)) => value::encode_table(out, table)?,
        _ => bail!("{value:?} is no {kind:?}"),
    }
    Ok(())
}

fn decode_one(reader: &mut Reader<'_>, kind: Kind) -> Result<Argument> {
    Ok(match kind {
        Kind::Octet => Argument::Number(reader.octet()?.into()),
        Kind::Short => Argument::Number(reader.short()?.into()),
        Kind::Long => Argument::Number(reader.long()?.into()),
        Kind::LongLong => Argument::Number(reader.long_long()?),
        Kind::ShortString => Argument::Text(reader.short_string()?.to_vec()),
        Kind::LongString => Argument::Text(reader.long_string()?.to_vec()),
        Kind::Table => Argument::Table(value::decode_table(reader)?),
        Kind::Bit => bail!("bits are packed"),
    })
}

const fn plain(
    class: u16,
    id: u16,
    name: &'static str,
    arguments: &'static str,
    reply: &'static str,
) -> Method {
    Method {
        class,
        id,
        name,
        arguments,
        reply,
        content: false,
    }
}

const fn content(class: u16, id: u16, name: &'static str, arguments: &'static str) -> Method {
    Method {
        content: true,
        ..plain(class, id, name, arguments, "")
    }
}

/// Arguments that several methods have.
const CLOSE: &str = "reply-code:short reply-text:str class-id:short method-id:short";
const TUNE: &str = "channel-max:short frame-max:long heartbeat:short";
const EXCHANGE_BIND: &str = "ticket:short destination:str source:str routing-key:str nowait:bit \
                             arguments:table";

/// Every method of the specification and of RabbitMQ's additions.
pub(super) const METHODS: &[Method] = &[
    plain(
        10,
        10,
        "connection.start",
        "version-major:octet version-minor:octet server-properties:table mechanisms:longstr \
         locales:longstr",
        "connection.start-ok",
    ),
    plain(
        10,
        11,
        "connection.start-ok",
        "client-properties:table mechanism:str response:longstr locale:str",
        "connection.tune",
    ),
    plain(10, 20, "connection.secure", "challenge:longstr", ""),
    plain(10, 21, "connection.secure-ok", "response:longstr", ""),
    plain(10, 30, "connection.tune", TUNE, "connection.tune-ok"),
    plain(10, 31, "connection.tune-ok", TUNE, ""),
    plain(
        10,
        40,
        "connection.open",
        "virtual-host:str capabilities:str insist:bit",
        "connection.open-ok",
    ),
    plain(10, 41, "connection.open-ok", "known-hosts:str", ""),
    plain(10, 50, "connection.close", CLOSE, "connection.close-ok"),
    plain(10, 51, "connection.close-ok", "", ""),
    plain(10, 60, "connection.blocked", "reason:str", ""),
    plain(10, 61, "connection.unblocked", "", ""),
    plain(
        10,
        70,
        "connection.update-secret",
        "new-secret:longstr reason:str",
        "connection.update-secret-ok",
    ),
    plain(10, 71, "connection.update-secret-ok", "", ""),
    plain(20, 10, "channel.open", "out-of-band:str", "channel.open-ok"),
    plain(20, 11, "channel.open-ok", "channel-id:longstr", ""),
    plain(20, 20, "channel.flow", "active:bit", "channel.flow-ok"),
    plain(20, 21, "channel.flow-ok", "active:bit", ""),
    plain(20, 40, "channel.close", CLOSE, "channel.close-ok"),
    plain(20, 41, "channel.close-ok", "", ""),
    plain(
        30,
        10,
        "access.request",
        "realm:str exclusive:bit passive:bit active:bit write:bit read:bit",
        "access.request-ok",
    ),
    plain(30, 11, "access.request-ok", "ticket:short", ""),
    plain(
        40,
        10,
        "exchange.declare",
        "ticket:short exchange:str type:str passive:bit durable:bit auto-delete:bit internal:bit \
         nowait:bit arguments:table",
        "exchange.declare-ok",
    ),
    plain(40, 11, "exchange.declare-ok", "", ""),
    plain(
        40,
        20,
        "exchange.delete",
        "ticket:short exchange:str if-unused:bit nowait:bit",
        "exchange.delete-ok",
    ),
    plain(40, 21, "exchange.delete-ok", "", ""),
    plain(40, 30, "exchange.bind", EXCHANGE_BIND, "exchange.bind-ok"),
    plain(40, 31, "exchange.bind-ok", "", ""),
    plain(
        40,
        40,
        "exchange.unbind",
        EXCHANGE_BIND,
        "exchange.unbind-ok",
    ),
    plain(40, 51, "exchange.unbind-ok", "", ""),
    plain(
        50,
        10,
        "queue.declare",
        "ticket:short queue:str passive:bit durable:bit exclusive:bit auto-delete:bit nowait:bit \
         arguments:table",
        "queue.declare-ok",
    ),
    plain(
        50,
        11,
        "queue.declare-ok",
        "queue:str message-count:long consumer-count:long",
        "",
    ),
    plain(
        50,
        20,
        "queue.bind",
        "ticket:short queue:str exchange:str routing-key:str nowait:bit arguments:table",
        "queue.bind-ok",
    ),
    plain(50, 21, "queue.bind-ok", "", ""),
    plain(
        50,
        30,
        "queue.purge",
        "ticket:short queue:str nowait:bit",
        "queue.purge-ok",
    ),
    plain(50, 31, "queue.purge-ok", "message-count:long", ""),
    plain(
        50,
        40,
        "queue.delete",
        "ticket:short queue:str if-unused:bit if-empty:bit nowait:bit",
        "queue.delete-ok",
    ),
    plain(50, 41, "queue.delete-ok", "message-count:long", ""),
    plain(
        50,
        50,
        "queue.unbind",
        "ticket:short queue:str exchange:str routing-key:str arguments:table",
        "queue.unbind-ok",
    ),
    plain(50, 51, "queue.unbind-ok", "", ""),
    plain(
        60,
        10,
        "basic.qos",
        "prefetch-size:long prefetch-count:short global:bit",
        "basic.qos-ok",
    ),
    plain(60, 11, "basic.qos-ok", "", ""),
    plain(
        60,
        20,
        "basic.consume",
        "ticket:short queue:str consumer-tag:str no-local:bit no-ack:bit exclusive:bit nowait:bit \
         arguments:table",
        "basic.consume-ok",
    ),
    plain(60, 21, "basic.consume-ok", "consumer-tag:str", ""),
    plain(
        60,
        30,
        "basic.cancel",
        "consumer-tag:str nowait:bit",
        "basic.cancel-ok",
    ),
    plain(60, 31, "basic.cancel-ok", "consumer-tag:str", ""),
    content(
        60,
        40,
        "basic.publish",
        "ticket:short exchange:str routing-key:str mandatory:bit immediate:bit",
    ),
    content(
        60,
        50,
        "basic.return",
        "reply-code:short reply-text:str exchange:str routing-key:str",
    ),
    content(
        60,
        60,
        "basic.deliver",
        "consumer-tag:str delivery-tag:longlong redelivered:bit exchange:str routing-key:str",
    ),
    plain(
        60,
        70,
        "basic.get",
        "ticket:short queue:str no-ack:bit",
        "basic.get-ok basic.get-empty",
    ),
    content(
        60,
        71,
        "basic.get-ok",
        "delivery-tag:longlong redelivered:bit exchange:str routing-key:str message-count:long",
    ),
    plain(60, 72, "basic.get-empty", "cluster-id:str", ""),
    plain(
        60,
        80,
        "basic.ack",
        "delivery-tag:longlong multiple:bit",
        "",
    ),
    plain(
        60,
        90,
        "basic.reject",
        "delivery-tag:longlong requeue:bit",
        "",
    ),
    plain(60, 100, "basic.recover-async", "requeue:bit", ""),
    plain(60, 110, "basic.recover", "requeue:bit", "basic.recover-ok"),
    plain(60, 111, "basic.recover-ok", "", ""),
    plain(
        60,
        120,
        "basic.nack",
        "delivery-tag:longlong multiple:bit requeue:bit",
        "",
    ),
    plain(85, 10, "confirm.select", "nowait:bit", "confirm.select-ok"),
    plain(85, 11, "confirm.select-ok", "", ""),
    plain(90, 10, "tx.select", "", "tx.select-ok"),
    plain(90, 11, "tx.select-ok", "", ""),
    plain(90, 20, "tx.commit", "", "tx.commit-ok"),
    plain(90, 21, "tx.commit-ok", "", ""),
    plain(90, 30, "tx.rollback", "", "tx.rollback-ok"),
    plain(90, 31, "tx.rollback-ok", "", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for method in METHODS {
            let values: Vec<_> = method
                .arguments()
                .map(|(_, kind)| match kind {
                    Kind::Bit => Argument::Bit(true),
                    kind => default(kind),
                })
                .collect();
            let octets = method.encode(&values).expect("defaults fit");
            let decoded = method.decode(&octets[4..]).expect("it is whole");
            assert_eq!(decoded, values, "{}", method.name);
        }
    }

    #[test]
    fn replies_are_methods() {
        for method in METHODS {
            for reply in method.reply.split_whitespace() {
                assert!(by_name(reply).is_some(), "{} has {reply}", method.name);
            }
        }
    }
}
