//! The client's side of AMQP 0-9-1: the methods it sends, and how it answers what it receives.

use allocation_counter::opt_out;
use leveret_amqp::content;
use leveret_amqp::frame::{self, FrameKind};
use leveret_amqp::method::{
    BasicAck, BasicConsume, BasicPublish, BasicQos, ChannelOpen, ClientMethod, ConfirmSelect,
    ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, LongString, QueueBind, QueueDeclare,
    ServerMethod,
};
use leveret_core::field::RawTable;
use leveret_core::properties::BasicProperties;

use crate::rig::{Client, Rig, WINDOW};

/// What a client has seen.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) delivered: u64,
    pub(crate) confirmed: u64,
    /// Each delivery is acknowledged, by itself.
    acknowledges: bool,
}

/// The queue of all scenarios, durable.
pub(crate) const QUEUE: &str = "readings";

const CHANNEL: u16 = 1;
const FRAME_MAX: u32 = 131_072;

impl Agent {
    /// Reads whole frames and appends the answers that the client gives.
    pub(crate) fn read(&mut self, mut input: &[u8], answers: &mut Vec<u8>) {
        while !input.is_empty() {
            let (frame, taken) = frame::decode(input, 0)
                .expect("a frame")
                .expect("whole frames");
            input = &input[taken..];
            if frame.kind != FrameKind::Method {
                continue;
            }
            match ServerMethod::decode(frame.payload).expect("a method") {
                ServerMethod::BasicDeliver(deliver) => {
                    self.delivered += 1;
                    if self.acknowledges {
                        let ack = BasicAck {
                            delivery_tag: deliver.delivery_tag,
                            multiple: false,
                        };
                        ClientMethod::BasicAck(ack).encode(CHANNEL, answers);
                    }
                }
                ServerMethod::BasicAck(ack) if ack.multiple => self.confirmed = ack.delivery_tag,
                ServerMethod::BasicAck(_) => self.confirmed += 1,
                ServerMethod::ConnectionClose(why) => panic!("closed: {}", why.reply_text),
                ServerMethod::ChannelClose(why) => panic!("closed: {}", why.reply_text),
                _ => {}
            }
        }
    }
}

/// A client with one channel.
pub(crate) fn connect(rig: &Rig, heartbeat_s: u16, acknowledges: bool) -> Client {
    let mut client = rig.amqp(Agent {
        acknowledges,
        ..Agent::default()
    });
    opt_out(|| {
        let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
        let start = ConnectionStartOk {
            mechanism: "PLAIN",
            response: LongString(b"\0guest\0guest"),
            locale: "en_US",
            ..ConnectionStartOk::default()
        };
        ClientMethod::ConnectionStartOk(start).encode(0, &mut bytes);
        let tune = ConnectionTuneOk {
            channel_max: 2_047,
            frame_max: FRAME_MAX,
            heartbeat: heartbeat_s,
        };
        ClientMethod::ConnectionTuneOk(tune).encode(0, &mut bytes);
        let open = ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        };
        ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(CHANNEL, &mut bytes);
        client.write(&bytes);
    });
    client.settle();
    client
}

fn call(client: &mut Client, method: ClientMethod<'_>) {
    opt_out(|| {
        let mut bytes = Vec::new();
        method.encode(CHANNEL, &mut bytes);
        client.write(&bytes);
    });
    client.settle();
}

/// Declares [`QUEUE`], binds it to `amq.topic` under `cities.#`, and consumes from it.
pub(crate) fn consume(client: &mut Client, no_ack: bool) {
    let declare = QueueDeclare {
        queue: QUEUE,
        durable: true,
        ..QueueDeclare::default()
    };
    call(client, ClientMethod::QueueDeclare(declare));
    let bind = QueueBind {
        queue: QUEUE,
        exchange: "amq.topic",
        routing_key: "cities.#",
        ..QueueBind::default()
    };
    call(client, ClientMethod::QueueBind(bind));
    let qos = BasicQos {
        prefetch_count: WINDOW,
        ..BasicQos::default()
    };
    call(client, ClientMethod::BasicQos(qos));
    let consume = BasicConsume {
        queue: QUEUE,
        consumer_tag: "reader",
        no_ack,
        ..BasicConsume::default()
    };
    call(client, ClientMethod::BasicConsume(consume));
}

/// Switches publisher confirms on.
pub(crate) fn confirm(client: &mut Client) {
    call(
        client,
        ClientMethod::ConfirmSelect(ConfirmSelect::default()),
    );
}

/// Publications of 64 bytes, as one segment.
pub(crate) fn batch(exchange: &str, key: &str, persistent: bool, messages: usize) -> Vec<u8> {
    let properties = BasicProperties {
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        ..BasicProperties::default()
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded).expect("short");
    let publish = BasicPublish {
        exchange,
        routing_key: key,
        ..BasicPublish::default()
    };
    let mut bytes = Vec::new();
    for _ in 0..messages {
        ClientMethod::BasicPublish(publish).encode(CHANNEL, &mut bytes);
        content::encode(&mut bytes, CHANNEL, &encoded, &[7; 64], FRAME_MAX);
    }
    bytes
}

/// Consumes from [`QUEUE`], with an array of nothing as arguments: a byte each on the wire.
pub(crate) fn consume_with_holes(client: &mut Client, tag: &str, holes: u16) {
    let mut arguments = b"\x07x-holesA\0\0".to_vec();
    arguments.extend_from_slice(&holes.to_be_bytes());
    arguments.resize(arguments.len() + usize::from(holes), b'V');
    let consume = BasicConsume {
        queue: QUEUE,
        consumer_tag: tag,
        no_ack: true,
        arguments: RawTable::parse(&arguments).expect("legal"),
        ..BasicConsume::default()
    };
    call(client, ClientMethod::BasicConsume(consume));
}
