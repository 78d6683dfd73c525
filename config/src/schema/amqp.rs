//! Settings of AMQP 0-9-1.

use super::*;

pub(super) const AMQP: &[Setting] = &[
    setting(
        "max_message_size",
        Kind::Integer {
            min: 1,
            max: 536_870_912,
            unit: "bytes",
        },
        "16777216",
        "Largest message body that is taken, from AMQP and MQTT clients alike.",
    ),
    setting(
        "frame_max",
        Kind::IntegerOrZero {
            min: 8_192,
            max: 16_777_216,
            unit: "bytes",
        },
        "131072",
        "Largest frame that connection.tune offers; 0 is no limit.",
    ),
    setting(
        "initial_frame_max",
        Kind::Integer {
            min: 4_096,
            max: 16_777_216,
            unit: "bytes",
        },
        "8192",
        "Largest frame before connection.tune-ok; never above `frame_max`.",
    ),
    setting(
        "channel_max",
        Kind::Integer {
            min: 0,
            max: 65_535,
            unit: "channels",
        },
        "2047",
        "Highest channel number that connection.tune offers; 0 is no limit.",
    ),
    setting(
        "heartbeat",
        Kind::Duration {
            unit: TimeUnit::Seconds,
            min: 0,
            max: 65_535,
            forever: &[],
        },
        "60",
        "Heartbeat that connection.tune offers; 0 switches heartbeats off.",
    ),
    setting(
        "handshake_timeout",
        TIMEOUT,
        "10000",
        "Time from accept to connection.open.",
    ),
    setting(
        "consumer_timeout",
        Kind::Duration {
            unit: TimeUnit::Milliseconds,
            min: 1,
            max: 4_294_967_295,
            forever: &["undefined"],
        },
        "1800000",
        "How long a delivery may wait for its acknowledgement before its AMQP channel is closed.",
    ),
    setting(
        "auth_mechanisms.<N>",
        Kind::Choice(&["PLAIN", "AMQPLAIN", "ANONYMOUS"]),
        "",
        "The mechanisms that connection.start offers, in the order of their numbers.",
    )
    .members(&[("1", "PLAIN"), ("2", "AMQPLAIN"), ("3", "ANONYMOUS")])
    .numbered(),
];
