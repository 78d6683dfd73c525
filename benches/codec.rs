//! What it takes to read and write packets and frames, without a broker behind them.
//!
//! Every input is whole and legal; the errors' ways are the fuzz targets'.

use std::hint::black_box;
use std::num::NonZeroU16;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use leveret_amqp::content::{self, ContentHeader};
use leveret_amqp::deliver::Deliver;
use leveret_amqp::frame::{self, FrameKind};
use leveret_amqp::method::{BasicPublish, ClientMethod, QueueDeclare};
use leveret_core::properties::BasicProperties;
use leveret_mqtt::codec;
use leveret_mqtt::packet::connect::{Connect, ConnectProperties};
use leveret_mqtt::packet::publish::{self, OutgoingPublish};
use leveret_mqtt::packet::subscribe::{self, SubscriptionOptions};
use leveret_mqtt::packet::{self, ProtocolVersion, QoS};
use leveret_mqtt::property::Property;

const V4: ProtocolVersion = ProtocolVersion::V4;
const V5: ProtocolVersion = ProtocolVersion::V5;
const PAYLOAD: [u8; 64] = [7; 64];
const FRAME_MAX: u32 = 131_072;

fn connect_packet() -> Connect<'static> {
    Connect {
        version: V4,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "sensor-000042",
        will: None,
        user_name: Some("device"),
        password: Some(b"correct horse"),
        properties: ConnectProperties::default(),
    }
}

fn publish_packet() -> OutgoingPublish<'static> {
    OutgoingPublish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "site/42/boiler/temperature",
        packet_id: Some(NonZeroU16::MIN),
        properties: &[],
        payload: &PAYLOAD,
    }
}

/// Five User Properties.
fn user_properties() -> Vec<u8> {
    let mut out = Vec::new();
    for name in ["unit", "place", "sensor", "firmware", "operator"] {
        let property = Property::UserProperty(name, "a value of some length");
        property.encode(&mut out).expect("it fits");
    }
    out
}

fn subscriptions() -> [subscribe::Subscription<'static>; 3] {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    ["site/42/+/state", "site/42/+/alarm", "site/42/config/#"]
        .map(|filter| subscribe::Subscription { filter, options })
}

/// Measures `write`, which appends what was written before to an empty buffer with room.
fn encoding<M: criterion::measurement::Measurement>(
    group: &mut BenchmarkGroup<'_, M>,
    name: &str,
    write: impl Fn(&mut Vec<u8>),
) {
    let mut out = Vec::new();
    write(&mut out);
    group.throughput(Throughput::Bytes(out.len() as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            out.clear();
            write(black_box(&mut out));
        });
    });
}

fn mqtt_encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mqtt_encode");
    encoding(&mut group, "publish", |out| {
        publish::encode(out, V4, black_box(&publish_packet())).expect("it fits");
    });
    encoding(&mut group, "subscribe", |out| {
        subscribe::encode(out, V4, NonZeroU16::MIN, &[], black_box(&subscriptions()))
            .expect("it fits");
    });
    encoding(&mut group, "connect", |out| {
        black_box(connect_packet()).encode(out).expect("it fits");
    });
    group.finish();
}

fn mqtt_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mqtt_decode");
    let mut publish = Vec::new();
    publish::encode(&mut publish, V4, &publish_packet()).expect("it fits");
    let mut subscribe = Vec::new();
    subscribe::encode(&mut subscribe, V4, NonZeroU16::MIN, &[], &subscriptions()).expect("it fits");
    let (mut plain, mut rich) = (Vec::new(), Vec::new());
    publish::encode(&mut plain, V5, &publish_packet()).expect("it fits");
    let properties = user_properties();
    let with_properties = OutgoingPublish {
        properties: &properties,
        ..publish_packet()
    };
    publish::encode(&mut rich, V5, &with_properties).expect("it fits");
    for (name, version, bytes) in [
        ("publish", V4, publish),
        ("subscribe", V4, subscribe),
        ("publish5", V5, plain),
        ("publish5_user_properties", V5, rich),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let (header, body) = split(black_box(&bytes));
                black_box(packet::decode(version, header, body).expect("it is legal"));
            });
        });
    }
    let mut connect = Vec::new();
    connect_packet().encode(&mut connect).expect("it fits");
    group.throughput(Throughput::Bytes(connect.len() as u64));
    group.bench_function("connect", |bench| {
        bench.iter(|| {
            let (header, body) = split(black_box(&connect));
            black_box(packet::decode_first(header, body).expect("it is legal"));
        });
    });
    group.finish();
}

fn split(bytes: &[u8]) -> (codec::FixedHeader, &[u8]) {
    let (header, header_bytes) = codec::decode_header(bytes)
        .expect("it is legal")
        .expect("it is whole");
    (header, &bytes[header_bytes..])
}

const PUBLISH: ClientMethod<'static> = ClientMethod::BasicPublish(BasicPublish {
    ticket: 0,
    exchange: "amq.topic",
    routing_key: "site.42.boiler.temperature",
    mandatory: false,
    immediate: false,
});

/// Delivery mode 2 and nothing else.
fn properties() -> Vec<u8> {
    let properties = BasicProperties {
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    let mut out = Vec::new();
    properties.encode(&mut out).expect("it is short");
    out
}

fn amqp_encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("amqp_encode");
    let properties = properties();
    encoding(&mut group, "method_publish", |out| {
        black_box(PUBLISH).encode(1, out)
    });
    encoding(&mut group, "method_declare", |out| {
        let declare = QueueDeclare {
            queue: "readings",
            durable: true,
            ..QueueDeclare::default()
        };
        ClientMethod::QueueDeclare(black_box(declare)).encode(1, out);
    });
    encoding(&mut group, "content", |out| {
        content::encode(out, 1, black_box(&properties), &PAYLOAD, FRAME_MAX);
    });
    encoding(&mut group, "deliver", |out| {
        let deliver = Deliver {
            channel: 1,
            consumer_tag: "reader",
            delivery_tag: 7,
            redelivered: false,
            exchange: "amq.topic",
            routing_key: b"site.42.boiler.temperature",
            properties: &properties,
            body: &PAYLOAD,
        };
        black_box(deliver).encode(out, FRAME_MAX);
    });
    group.finish();
}

fn amqp_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("amqp_decode");
    let mut bytes = Vec::new();
    PUBLISH.encode(1, &mut bytes);
    let method_bytes = bytes.len();
    content::encode(&mut bytes, 1, &properties(), &PAYLOAD, FRAME_MAX);
    group.throughput(Throughput::Bytes(method_bytes as u64));
    group.bench_function("method_publish", |bench| {
        bench.iter(|| {
            let (frame, _) = next(black_box(&bytes));
            black_box(ClientMethod::decode(frame.payload).expect("it is legal"));
        });
    });
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("message", |bench| {
        bench.iter(|| {
            let mut rest = black_box(&bytes[..]);
            while !rest.is_empty() {
                let (frame, taken) = next(rest);
                rest = &rest[taken..];
                match frame.kind {
                    FrameKind::Method => {
                        black_box(ClientMethod::decode(frame.payload).expect("it is legal"));
                    }
                    FrameKind::Header => {
                        let header = ContentHeader::decode(frame.payload).expect("it is legal");
                        let parsed = BasicProperties::parse(header.properties);
                        black_box(parsed.expect("they are legal"));
                    }
                    FrameKind::Body | FrameKind::Heartbeat => {
                        black_box(frame.payload);
                    }
                }
            }
        });
    });
    group.finish();
}

fn next(bytes: &[u8]) -> (frame::Frame<'_>, usize) {
    frame::decode(bytes, FRAME_MAX)
        .expect("it is legal")
        .expect("it is whole")
}

criterion_group!(codecs, mqtt_encode, mqtt_decode, amqp_encode, amqp_decode);
criterion_main!(codecs);
