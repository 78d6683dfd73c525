//! The bytes of AMQP 0-9-1 clients: methods out by the broker's own table, methods and contents in.

use leveret_amqp::content;
use leveret_amqp::frame::{self, FrameKind};
use leveret_amqp::method::*;
use leveret_core::field::{RawTable, Table, Value};
use leveret_core::properties::BasicProperties;

use crate::message::{Id, read_payload};

const FRAME_MAX: u32 = 131_072;

/// The one channel of every connection.
const CHANNEL: u16 = 1;

/// What comes from the broker, as far as anybody here wants to know.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Deliver {
        consumer: String,
        tag: u64,
        redelivered: bool,
        message: Id,
    },
    GetOk {
        tag: u64,
        redelivered: bool,
        message: Id,
    },
    GetEmpty,
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
    Cancel,
    /// declare-ok, bind-ok and the like: answers in the order of the questions.
    Done(&'static str),
    Opened,
    /// `connection.close-ok`.
    Closed,
    Close(String),
    Other,
}

/// Methods whose contents are not there yet.
#[derive(Default)]
pub(crate) struct Reader {
    pending: Option<(Method, Option<u64>, Vec<u8>)>,
}

fn send(out: &mut Vec<u8>, method: ClientMethod<'_>) {
    method.encode(CHANNEL, out);
}

/// Everything up to an open channel.
pub(crate) fn open(confirms: bool, prefetch: u16) -> Vec<u8> {
    let mut out = b"AMQP\x00\x00\x09\x01".to_vec();
    let mut capabilities = Table::new();
    let cancel = capabilities.insert("consumer_cancel_notify", Value::Bool(true));
    cancel.expect("a short name");
    let mut properties = Table::new();
    let told = properties.insert("capabilities", Value::Table(capabilities));
    told.expect("a short name");
    let mut bytes = Vec::new();
    properties.encode(&mut bytes).expect("a short table");
    let start = ConnectionStartOk {
        client_properties: RawTable::parse(&bytes).expect("a table"),
        mechanism: "PLAIN",
        response: LongString(b"\0guest\0guest"),
        locale: "en_US",
    };
    ClientMethod::ConnectionStartOk(start).encode(0, &mut out);
    let tune = ConnectionTuneOk {
        channel_max: 16,
        frame_max: FRAME_MAX,
        heartbeat: 0,
    };
    ClientMethod::ConnectionTuneOk(tune).encode(0, &mut out);
    let vhost = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(vhost).encode(0, &mut out);
    send(&mut out, ClientMethod::ChannelOpen(ChannelOpen::default()));
    if prefetch > 0 {
        let qos = BasicQos {
            prefetch_count: prefetch,
            ..BasicQos::default()
        };
        send(&mut out, ClientMethod::BasicQos(qos));
    }
    if confirms {
        send(
            &mut out,
            ClientMethod::ConfirmSelect(ConfirmSelect::default()),
        );
    }
    out
}

pub(crate) fn close() -> Vec<u8> {
    let mut out = Vec::new();
    ClientMethod::ConnectionClose(ConnectionClose::default()).encode(0, &mut out);
    out
}

/// A queue and its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) name: &'static str,
    pub(crate) durable: bool,
    pub(crate) ttl_ms: Option<u32>,
    pub(crate) length_max: Option<u32>,
}

pub(crate) fn declare(wish: &Wish) -> Vec<u8> {
    let mut arguments = Table::new();
    let limits = [
        ("x-message-ttl", wish.ttl_ms),
        ("x-max-length", wish.length_max),
    ];
    for (name, value) in limits {
        if let Some(value) = value {
            let put = arguments.insert(name, Value::I64(value.into()));
            put.expect("a short name");
        }
    }
    let mut bytes = Vec::new();
    arguments.encode(&mut bytes).expect("a short table");
    let mut out = Vec::new();
    let method = QueueDeclare {
        queue: wish.name,
        durable: wish.durable,
        arguments: RawTable::parse(&bytes).expect("a table"),
        ..QueueDeclare::default()
    };
    send(&mut out, ClientMethod::QueueDeclare(method));
    out
}

pub(crate) fn bind(queue: &str, routing_key: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let method = QueueBind {
        queue,
        exchange: "amq.topic",
        routing_key,
        ..QueueBind::default()
    };
    send(&mut out, ClientMethod::QueueBind(method));
    out
}

pub(crate) fn unbind(queue: &str, routing_key: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let method = QueueUnbind {
        queue,
        exchange: "amq.topic",
        routing_key,
        ..QueueUnbind::default()
    };
    send(&mut out, ClientMethod::QueueUnbind(method));
    out
}

pub(crate) fn purge(queue: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let method = QueuePurge {
        queue,
        ..QueuePurge::default()
    };
    send(&mut out, ClientMethod::QueuePurge(method));
    out
}

pub(crate) fn delete(queue: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let method = QueueDelete {
        queue,
        ..QueueDelete::default()
    };
    send(&mut out, ClientMethod::QueueDelete(method));
    out
}

/// A publication.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) exchange: &'static str,
    pub(crate) key: String,
    pub(crate) persistent: bool,
    pub(crate) expiration_ms: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let expiration = self.expiration_ms.map(|ms| ms.to_string());
        let properties = BasicProperties {
            delivery_mode: Some(if self.persistent { 2 } else { 1 }),
            expiration: expiration.as_ref().map(String::as_bytes),
            ..BasicProperties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded).expect("short properties");
        let mut out = Vec::new();
        let method = BasicPublish {
            exchange: self.exchange,
            routing_key: &self.key,
            ..BasicPublish::default()
        };
        send(&mut out, ClientMethod::BasicPublish(method));
        content::encode(&mut out, CHANNEL, &encoded, &self.payload, FRAME_MAX);
        out
    }
}

pub(crate) fn consume(queue: &str, consumer_tag: &str, no_ack: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let method = BasicConsume {
        queue,
        consumer_tag,
        no_ack,
        ..BasicConsume::default()
    };
    send(&mut out, ClientMethod::BasicConsume(method));
    out
}

pub(crate) fn get(queue: &str, no_ack: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let method = BasicGet {
        queue,
        no_ack,
        ..BasicGet::default()
    };
    send(&mut out, ClientMethod::BasicGet(method));
    out
}

pub(crate) fn ack(delivery_tag: u64, multiple: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let method = BasicAck {
        delivery_tag,
        multiple,
    };
    send(&mut out, ClientMethod::BasicAck(method));
    out
}

pub(crate) fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let method = BasicNack {
        delivery_tag,
        multiple,
        requeue,
    };
    send(&mut out, ClientMethod::BasicNack(method));
    out
}

impl Reader {
    /// Takes the next method with its content off the bytes, if it is there as a whole.
    ///
    /// # Errors
    /// The broker has sent what no broker may send.
    pub(crate) fn take(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Method>, String> {
        loop {
            let (read, taken) = match frame::decode(bytes, FRAME_MAX) {
                Ok(None) => return Ok(None),
                Ok(Some((frame, taken))) => (self.read(&frame)?, taken),
                Err(why) => return Err(why.to_string()),
            };
            bytes.drain(..taken);
            if read.is_some() {
                return Ok(read);
            }
        }
    }

    fn read(&mut self, frame: &frame::Frame<'_>) -> Result<Option<Method>, String> {
        match frame.kind {
            FrameKind::Heartbeat => return Ok(None),
            FrameKind::Method => {
                let method = ServerMethod::decode(frame.payload).map_err(|why| why.to_string())?;
                let method = told(&method);
                if !matches!(method, Method::Deliver { .. } | Method::GetOk { .. }) {
                    return Ok(Some(method));
                }
                self.pending = Some((method, None, Vec::new()));
            }
            FrameKind::Header => {
                let header = content::ContentHeader::decode(frame.payload);
                let header = header.map_err(|why| why.to_string())?;
                let pending = self.pending.as_mut().ok_or("a header without a method")?;
                pending.1 = Some(header.body_size);
            }
            FrameKind::Body => {
                let pending = self.pending.as_mut().ok_or("a body without a method")?;
                pending.2.extend_from_slice(frame.payload);
            }
        }
        let whole =
            |(_, size, body): &(Method, Option<u64>, Vec<u8>)| *size == Some(body.len() as u64);
        let Some((mut method, _, body)) = self.pending.take_if(|pending| whole(pending)) else {
            return Ok(None);
        };
        let id = read_payload(&body).ok_or("a body that nobody published")?;
        if let Method::Deliver { message, .. } | Method::GetOk { message, .. } = &mut method {
            *message = id;
        }
        Ok(Some(method))
    }
}

/// A message before its body is there.
const UNREAD: Id = Id {
    publisher: 0,
    number: 0,
};

fn told(method: &ServerMethod<'_>) -> Method {
    match method {
        ServerMethod::BasicDeliver(deliver) => Method::Deliver {
            consumer: deliver.consumer_tag.to_owned(),
            tag: deliver.delivery_tag,
            redelivered: deliver.redelivered,
            message: UNREAD,
        },
        ServerMethod::BasicGetOk(got) => Method::GetOk {
            tag: got.delivery_tag,
            redelivered: got.redelivered,
            message: UNREAD,
        },
        ServerMethod::BasicGetEmpty(_) => Method::GetEmpty,
        ServerMethod::BasicAck(ack) => Method::Ack {
            tag: ack.delivery_tag,
            multiple: ack.multiple,
        },
        ServerMethod::BasicNack(nack) => Method::Nack {
            tag: nack.delivery_tag,
            multiple: nack.multiple,
        },
        ServerMethod::BasicCancel(_) => Method::Cancel,
        ServerMethod::QueueDeclareOk(_)
        | ServerMethod::QueueBindOk(_)
        | ServerMethod::QueueUnbindOk(_)
        | ServerMethod::QueuePurgeOk(_)
        | ServerMethod::QueueDeleteOk(_)
        | ServerMethod::BasicConsumeOk(_) => Method::Done(method.name()),
        ServerMethod::ChannelOpenOk(_) => Method::Opened,
        ServerMethod::ConnectionCloseOk(_) => Method::Closed,
        ServerMethod::ChannelClose(close) => Method::Close(close.reply_text.to_owned()),
        ServerMethod::ConnectionClose(close) => Method::Close(close.reply_text.to_owned()),
        _ => Method::Other,
    }
}
