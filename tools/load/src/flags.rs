//! The tables of flags, with their defaults and what `--help` says about them.
//!
//! Owns every flag's name. Commands take the tables that fit them; see `commands`.

use crate::args::Flag;

pub(crate) const COMMON: &[Flag] = &[
    Flag(
        "broker-pid",
        "0",
        "root of the broker's process tree, for CPU and RSS",
    ),
    Flag("label", "", "copied into the result"),
    Flag(
        "timeout",
        "10",
        "seconds to wait for any one answer while setting up",
    ),
];

pub(crate) const LOAD: &[Flag] = &[
    Flag("size", "64", "payload bytes, at least 16"),
    Flag(
        "messages",
        "0",
        "messages in all (k, m allowed); 0: use --seconds",
    ),
    Flag("seconds", "5", "measured time when --messages is 0"),
    Flag("warmup", "0.5", "seconds before measuring starts"),
    Flag(
        "rate",
        "0",
        "messages a second over all publishers, open loop; 0: flat out",
    ),
    Flag(
        "window",
        "100",
        "unacknowledged messages per publisher (QoS 1/2, confirms)",
    ),
    Flag(
        "outstanding",
        "auto",
        "sent but not yet received, over all pairs or queues; 0: no limit",
    ),
    Flag(
        "sample",
        "auto",
        "a latency stamp in 1 of so many (flat out: 64; with --rate: 1)",
    ),
    Flag(
        "coalesce-us",
        "1000",
        "flat out: longest pause after a small read, so that batches form; 0: none",
    ),
    Flag(
        "stall-ms",
        "2000",
        "write outstanding messages off after so long without any arriving",
    ),
    Flag(
        "drain",
        "3",
        "seconds to wait for the last messages without progress",
    ),
];

pub(crate) const MQTT: &[Flag] = &[
    Flag("addr", "127.0.0.1:1883", "MQTT address, loopback only"),
    Flag("user", "", "user name"),
    Flag("pass", "", "password"),
    Flag("mqtt-version", "4", "4 (3.1.1) or 5"),
];

pub(crate) const AMQP: &[Flag] = &[
    Flag("amqp-addr", "127.0.0.1:5672", "AMQP address, loopback only"),
    Flag("amqp-user", "guest", "user name"),
    Flag("amqp-pass", "guest", "password"),
    Flag("vhost", "/", "virtual host"),
];

pub(crate) const SHAPE: &[Flag] = &[
    Flag(
        "topics-per-pub",
        "1",
        "distinct topics (routing keys) of each publisher",
    ),
    Flag(
        "topic-levels",
        "4",
        "levels of each topic (words of each routing key), 3 to 32",
    ),
];

pub(crate) const MQTT_PUB_SUB: &[Flag] = &[
    Flag("pattern", "fan-in", "fan-in, fan-out, pairs or shared"),
    Flag("pubs", "1", "publishers (pairs: pairs)"),
    Flag("subs", "1", "subscribers (pairs: as many as publishers)"),
    Flag(
        "topics",
        "0",
        "topics in all; 0: as --topics-per-pub says (fan-out: one for all)",
    ),
    Flag("qos", "0", "0, 1 or 2"),
    Flag("sub-qos", "", "the subscription's QoS, if another"),
    Flag("clean", "true", "clean sessions"),
    Flag(
        "persistent",
        "false",
        "persistent sessions, removed at the end; the same as --clean false",
    ),
    Flag(
        "client-ids",
        "",
        "what client identifiers begin with; empty: unique to the run, --persistent: load-fixed",
    ),
    Flag(
        "sub-inflight",
        "10",
        "what the broker surely has in flight to one QoS 1/2 subscriber; --coalesce-us goes by it",
    ),
    Flag(
        "user-properties",
        "0",
        "MQTT 5: User Properties of each message, 64 at most",
    ),
    Flag(
        "aliases",
        "false",
        "MQTT 5: topic aliases in place of topics, both ways where the broker has them",
    ),
];

pub(crate) const LATENCY: &[Flag] = &[
    Flag("pattern", "pairs", "fan-in, fan-out, pairs or shared"),
    Flag("rate", "1000", "messages a second, open loop"),
    Flag("window", "10000", "unacknowledged messages per publisher"),
];

pub(crate) const AMQP_PUB_SUB: &[Flag] = &[
    Flag("pubs", "1", "publishers"),
    Flag("subs", "1", "consumers"),
    Flag(
        "queues",
        "1",
        "queues; publisher and consumer i use queue i modulo this (fanout: all)",
    ),
    Flag(
        "exchange",
        "default",
        "default, direct, topic, fanout or headers",
    ),
    Flag("persistent", "false", "persistent messages"),
    Flag("durable", "false", "durable queues and exchange"),
    Flag("queue-type", "", "x-queue-type: classic, quorum, stream"),
    Flag(
        "max-priority",
        "0",
        "x-max-priority, and the priority of the messages; 0: none",
    ),
    Flag(
        "bindings",
        "0",
        "bindings of the headers exchange that match nothing",
    ),
    Flag(
        "confirms",
        "false",
        "publisher confirms, --window open per publisher",
    ),
    Flag("prefetch", "0", "consumer prefetch; 0: no limit"),
    Flag(
        "ack-every",
        "1",
        "acknowledge every so many, multiple if above 1",
    ),
    Flag("auto-ack", "false", "no consumer acknowledgements"),
];

pub(crate) const QUEUES: &[Flag] = &[
    Flag("count", "100k", "queues"),
    Flag("durable", "false", "durable queues"),
    Flag("settle", "1", "seconds before each look at RSS"),
    Flag("max-seconds", "60", "for each step"),
];

pub(crate) const QUEUE_CHURN: &[Flag] = &[
    Flag("conns", "4", "connections"),
    Flag("window", "16", "cycles in flight on each"),
    Flag("seconds", "5", "measured time"),
];

pub(crate) const BRIDGE: &[Flag] = &[
    Flag("direction", "mqtt-amqp", "mqtt-amqp or amqp-mqtt"),
    Flag("pubs", "1", "publishers"),
    Flag(
        "subs",
        "1",
        "consumers (mqtt-amqp: of one queue; amqp-mqtt: each its own copy)",
    ),
    Flag("qos", "0", "MQTT side's QoS"),
    Flag(
        "exchange",
        "amq.topic",
        "the exchange MQTT messages go through",
    ),
    Flag("sub-inflight", "10", "as for mqtt pub-sub"),
    Flag("confirms", "false", "amqp-mqtt: publisher confirms"),
    Flag("prefetch", "0", "mqtt-amqp: consumer prefetch"),
    Flag("ack-every", "1", "mqtt-amqp: acknowledge every so many"),
    Flag(
        "auto-ack",
        "false",
        "mqtt-amqp: no consumer acknowledgements",
    ),
];

pub(crate) const RETAINED: &[Flag] = &[
    Flag("count", "10k", "retained messages, one per topic"),
    Flag("repeat", "3", "wildcard subscriptions, one after another"),
    Flag("size", "64", "payload bytes"),
    Flag("qos", "1", "publishing QoS"),
    Flag("sub-qos", "0", "the subscription's QoS"),
    Flag("window", "1000", "unacknowledged messages"),
    Flag("keep", "false", "leave them there"),
    Flag("drain", "3", "seconds to wait without progress"),
    Flag("max-seconds", "60", "for each step"),
];

pub(crate) const OFFLINE: &[Flag] = &[
    Flag(
        "count",
        "100k",
        "messages published while the subscriber is away",
    ),
    Flag("size", "64", "payload bytes"),
    Flag("window", "1000", "unacknowledged messages of the publisher"),
    Flag("drain", "3", "seconds to wait without progress"),
    Flag("max-seconds", "60", "for each step"),
];

pub(crate) const HOLD: &[Flag] = &[
    Flag("conns", "1k", "connections (k allowed)"),
    Flag(
        "rate",
        "2000",
        "connections a second; 0: as fast as --concurrency allows",
    ),
    Flag("concurrency", "256", "connections being set up at once"),
    Flag(
        "sources",
        "8",
        "source addresses 127.0.0.2 and up; 0: the system's choice",
    ),
    Flag(
        "keepalive",
        "60",
        "seconds (AMQP: heartbeat); a sign of life goes out at half of it",
    ),
    Flag(
        "settle",
        "1",
        "seconds between the last connection and the idle measurement",
    ),
    Flag("hold", "5", "seconds to hold them idle"),
    Flag("max-seconds", "60", "give up setting up after so long"),
];

pub(crate) const HOLD_MQTT: &[Flag] = &[
    Flag(
        "subscribe",
        "false",
        "one subscription each, to its own topic",
    ),
    Flag("sub-qos", "0", "its QoS"),
];

pub(crate) const CHURN: &[Flag] = &[
    Flag("concurrency", "64", "loops at once"),
    Flag("seconds", "5", "for so long"),
    Flag("cycles", "0", "stop after so many; 0: by time alone"),
    Flag("subscribe", "true", "subscribe in each cycle"),
    Flag("sub-qos", "0", "its QoS"),
    Flag(
        "sources",
        "64",
        "source addresses 127.0.0.2 and up; 0: the system's choice",
    ),
    Flag("keepalive", "60", "seconds"),
];

pub(crate) const SESSIONS: &[Flag] = &[
    Flag("count", "100k", "persistent sessions"),
    Flag("filters", "3", "subscriptions of each"),
    Flag("qos", "1", "their QoS"),
    Flag("concurrency", "64", "sessions being made at once"),
    Flag(
        "sources",
        "64",
        "source addresses 127.0.0.2 and up; 0: the system's choice",
    ),
    Flag(
        "settle",
        "1",
        "seconds between the last session and the look at RSS",
    ),
    Flag(
        "expiry",
        "3600",
        "Session Expiry Interval, seconds (MQTT 5)",
    ),
    Flag(
        "client-ids",
        "",
        "what client identifiers begin with; empty: unique to the run",
    ),
    Flag("keep", "false", "leave the sessions there"),
    Flag(
        "max-seconds",
        "120",
        "for making them, and for removing them",
    ),
];

pub(crate) const TAKEOVER: &[Flag] = &[
    Flag("ids", "1", "client ids that are taken over in turn"),
    Flag("rate", "100", "CONNECTs a second over all of them"),
];

pub(crate) const RECONNECT: &[Flag] = &[
    Flag("sessions", "15k", "persistent sessions, all connected"),
    Flag("rate", "5000", "reconnects a second over all of them"),
];

pub(crate) const RETURNING: &[Flag] = &[
    Flag("qos", "1", "QoS of the one subscription that each has"),
    Flag("seconds", "10", "for so long"),
    Flag(
        "sources",
        "64",
        "source addresses 127.0.0.2 and up; 0: the system's choice",
    ),
    Flag("settle", "1", "seconds before each look at RSS"),
];

/// Pairs that run flat out while something else happens.
pub(crate) const PAIRS: &[Flag] = &[
    Flag("pubs", "10", "pairs of a publisher and a subscriber"),
    Flag("qos", "0", "0, 1 or 2"),
    Flag("sub-inflight", "10", "as for mqtt pub-sub"),
];

pub(crate) const STORM: &[Flag] = &[
    Flag(
        "subscribes",
        "100k",
        "subscriptions, each with a filter of its own",
    ),
    Flag(
        "conns",
        "50",
        "connections that make them, one packet in flight each",
    ),
    Flag("per-packet", "1", "filters in a SUBSCRIBE"),
    Flag(
        "wildcard-every",
        "4",
        "one filter in so many has a wildcard; 0: none",
    ),
    Flag("before", "2", "seconds measured before"),
    Flag("after", "2", "seconds measured after"),
    Flag("max-seconds", "60", "give up the subscribing after so long"),
];

pub(crate) const TABLE: &[Flag] = &[
    Flag(
        "bindings",
        "1m",
        "subscriptions that match nothing that is published",
    ),
    Flag("wildcards", "10k", "so many of them have a wildcard"),
    Flag(
        "conns",
        "50",
        "connections that make them, one packet in flight each",
    ),
    Flag(
        "per-packet",
        "1000",
        "filters in a SUBSCRIBE, fewer if it would pass 65,535 bytes",
    ),
    Flag("max-seconds", "300", "give up making them after so long"),
];

pub(crate) const STUCK: &[Flag] = &[
    Flag("pubs", "100", "pairs of a publisher and a subscriber"),
    Flag("qos", "1", "0, 1 or 2"),
    Flag(
        "stuck-qos",
        "",
        "QoS of the stuck subscriber; of one each: 0,1,2; empty: as --qos",
    ),
];

pub(crate) const NULL_BROKER: &[Flag] = &[
    Flag("addr", "127.0.0.1:1999", "MQTT address, loopback only"),
    Flag("amqp-addr", "", "AMQP address, loopback only; empty: none"),
    Flag("max-seconds", "600", "stops by itself after so long"),
    Flag(
        "drop-every",
        "0",
        "MQTT: drop one message in so many, to see that it is noticed",
    ),
    Flag("dup-every", "0", "MQTT: forward one in so many twice"),
    Flag(
        "swap-every",
        "0",
        "MQTT: forward one in so many after the next",
    ),
];
