//! Settings of MQTT.

use super::*;

pub(super) const MQTT: &[Setting] = &[
    setting(
        "mqtt.allow_anonymous",
        TRUE_FALSE,
        "true",
        "Whether an MQTT client may connect without user name and password.",
    ),
    setting(
        "mqtt.vhost",
        NAME,
        "/",
        "Virtual host of MQTT connections for which nothing else chooses one.",
    ),
    setting(
        "mqtt.exchange",
        NAME,
        "amq.topic",
        "Topic exchange that MQTT topics are routed through, in every virtual host.",
    ),
    setting(
        "mqtt.max_session_expiry_interval_seconds",
        Kind::Duration {
            unit: TimeUnit::Seconds,
            min: 0,
            max: EXPIRY_S_MAX,
            forever: &["infinity"],
        },
        "86400",
        "How long an MQTT session outlives its connection at most.",
    )
    .aliases(&[
        Alias {
            key: "mqtt.subscription_ttl",
            kind: Kind::Duration {
                unit: TimeUnit::Milliseconds,
                min: 0,
                max: EXPIRY_S_MAX * 1_000,
                forever: &["infinity", "undefined"],
            },
            from: "RabbitMQ before 3.13",
        },
        Alias {
            key: "persistent_client_expiration",
            kind: Kind::Lifetime {
                max_s: EXPIRY_S_MAX,
                forever: "never",
            },
            from: "VerneMQ",
        },
    ]),
    setting(
        "mqtt.prefetch",
        Kind::Integer {
            min: 1,
            max: 65_535,
            unit: "messages",
        },
        "10",
        "How many QoS 1 messages one connection may leave unacknowledged.",
    ),
    setting(
        "mqtt.max_inflight_messages",
        INFLIGHT,
        "-1",
        "Takes the place of `mqtt.prefetch`, and lets QoS 0 wait behind a full window: with 1, \
         messages stay in order whatever happens. 0 is no limit, -1 leaves it to `mqtt.prefetch`.",
    )
    .aliases(&[Alias {
        key: "max_inflight_messages",
        kind: INFLIGHT,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.max_online_messages",
        WAITING,
        "-1",
        "How many messages wait for a client that is connected, beside those in flight; 0 gives it \
         nothing, -1 is no limit.",
    )
    .aliases(&[
        Alias {
            key: "max_online_messages",
            kind: WAITING,
            from: "VerneMQ",
        },
        Alias {
            key: "max_queued_messages",
            kind: WAITING,
            from: "VerneMQ 0",
        },
    ]),
    setting(
        "mqtt.max_offline_messages",
        WAITING,
        "-1",
        "How many messages wait for a session whose client is not connected; -1 is no limit.",
    )
    .aliases(&[Alias {
        key: "max_offline_messages",
        kind: WAITING,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.queue_type",
        QUEUE_TYPE,
        "fifo",
        "Which message a client gets first: the oldest, or the newest. Beyond a limit `fifo` drops \
         the new message, `lifo` the oldest.",
    )
    .aliases(&[Alias {
        key: "queue_type",
        kind: QUEUE_TYPE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.queue_overflow",
        Kind::Choice(&["drop", "reject"]),
        "drop",
        "What happens beyond `mqtt.max_online_messages` and `mqtt.max_offline_messages`: a message \
         is dropped and counted; or its publisher is refused, in 5.0 with 0x97, before by silence.",
    ),
    setting(
        "mqtt.receive_max_client",
        RECEIVE_MAXIMUM,
        "65535",
        "How much of a 5.0 client's Receive Maximum is made use of.",
    )
    .aliases(&[Alias {
        key: "receive_max_client",
        kind: RECEIVE_MAXIMUM,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.upgrade_outgoing_qos",
        TRUE_FALSE,
        "false",
        "Whether messages are delivered with the QoS that was subscribed to, also where they were \
         published with less.",
    )
    .aliases(&[Alias {
        key: "upgrade_outgoing_qos",
        kind: TRUE_FALSE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.retry_interval",
        RETRY,
        "20",
        "After so many seconds what an MQTT 3.1 client has not acknowledged is sent again; 0 is \
         never.",
    )
    .aliases(&[Alias {
        key: "retry_interval",
        kind: RETRY,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.retry_interval_v4",
        TRUE_FALSE,
        "false",
        "Whether `mqtt.retry_interval` is for clients of 3.1.1 as well.",
    ),
    setting(
        "mqtt.topic_filters",
        Kind::Choice(&["flexible", "strict"]),
        "flexible",
        "Whether `#` may stand anywhere in a topic filter, as in AMQP, or only at its end.",
    ),
    setting(
        "mqtt.disconnect_on_unauthorized",
        TRUE_FALSE,
        "true",
        "Whether a refused PUBLISH or SUBSCRIBE closes the connection.",
    ),
    setting(
        "mqtt.login_timeout",
        TIMEOUT,
        "10000",
        "Time from accept to a complete CONNECT.",
    ),
    setting(
        "mqtt.max_packet_size_unauthenticated",
        Kind::Integer {
            min: 1,
            max: 268_435_455,
            unit: "bytes",
        },
        "65536",
        "Largest MQTT packet before login.",
    ),
    setting(
        "mqtt.max_packet_size_authenticated",
        Kind::Integer {
            min: 1,
            max: 268_435_455,
            unit: "bytes",
        },
        "16777216",
        "Largest MQTT packet after login; never above `max_message_size`.",
    ),
    setting(
        "mqtt.topic_alias_maximum",
        Kind::Integer {
            min: 0,
            max: 65_535,
            unit: "aliases",
        },
        "16",
        "How many topic aliases one connection may use in each direction.",
    ),
    setting(
        "mqtt.max_connections",
        Kind::Limit {
            max: 100_000_000,
            unit: "connections",
        },
        "infinity",
        "How many MQTT connections the node takes.",
    ),
    setting(
        "mqtt.retained_messages_max",
        Kind::Integer {
            min: 0,
            max: 1_000_000_000,
            unit: "messages",
        },
        "1000000",
        "How many retained messages one virtual host holds.",
    ),
    setting(
        "mqtt.retained_bytes_max",
        Kind::Limit {
            max: 1_000_000_000_000_000,
            unit: "bytes",
        },
        "infinity",
        "Bytes of the retained messages of one virtual host, with their topics and properties.",
    ),
    setting(
        "mqtt.retained_rate_max",
        Kind::Limit {
            max: 4_000_000_000,
            unit: "topics",
        },
        "infinity",
        "How many topics without a retained message may get one in a second, in one virtual host.",
    ),
    setting(
        "mqtt.output_bytes_max",
        Kind::Integer {
            min: 4_096,
            max: 1_073_741_824,
            unit: "bytes",
        },
        "4194304",
        "How much may wait for one MQTT client before QoS 0 messages to it are dropped.",
    ),
    setting(
        "mqtt.allowed_protocol_versions",
        Kind::Choices(&["3", "4", "5"]),
        "3, 4, 5",
        "Protocol levels of CONNECT that are served: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.",
    ),
    setting(
        "mqtt.identity_headers",
        TRUE_FALSE,
        "true",
        "Whether messages of MQTT clients say in headers to AMQP who published them: `x-mqtt-...`, \
         which nobody else can set.",
    ),
    setting(
        "mqtt.identity_vhosts.<vhost>",
        TRUE_FALSE,
        "",
        "The same for a virtual host of its own.",
    )
    .members(&[])
    .example("mqtt.identity_vhosts.blue", "false"),
    setting(
        "mqtt.message_interceptors.incoming.set_client_id_annotation.enabled",
        TRUE_FALSE,
        "false",
        "Whether messages of MQTT clients carry `x-opt-mqtt-client-id` to AMQP.",
    ),
    setting(
        "mqtt.max_keep_alive",
        Kind::Integer {
            min: 0,
            max: 65_535,
            unit: "seconds",
        },
        "0",
        "Longest keep alive of a 5.0 client, which is told; 0 is no cap. 3.x clients keep theirs.",
    ),
    setting(
        "mqtt.receive_maximum",
        Kind::Integer {
            min: 1,
            max: 65_535,
            unit: "messages",
        },
        "65535",
        "How many QoS 1 and 2 publishes a 5.0 client may leave unfinished.",
    )
    .aliases(&[Alias {
        key: "receive_max_broker",
        kind: Kind::Integer {
            min: 1,
            max: 65_535,
            unit: "messages",
        },
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.response_information",
        Kind::Text { min: 0, max: 1_024 },
        "",
        "What a 5.0 client is told that asks for response information; `{client_id}` is its own.",
    ),
    setting(
        "mqtt.max_connection_lifetime",
        LIFETIME,
        "0",
        "How long a connection may last, in seconds; 0 is no limit.",
    )
    .aliases(&[Alias {
        key: "max_connection_lifetime",
        kind: LIFETIME,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.max_client_id_size",
        CLIENT_ID_SIZE,
        "65535",
        "Longest client id; a longer one is refused.",
    )
    .aliases(&[Alias {
        key: "max_client_id_size",
        kind: CLIENT_ID_SIZE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.topic_max_depth",
        TOPIC_DEPTH,
        "256",
        "Most levels of a topic or filter; \
         `$share/group` counts for two. Others are refused one by one.",
    )
    .aliases(&[Alias {
        key: "topic_max_depth",
        kind: TOPIC_DEPTH,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.max_subscriptions_per_client",
        Kind::Integer {
            min: 0,
            max: 100_000,
            unit: "subscriptions",
        },
        "0",
        "Subscriptions of one session; 0 is the greatest number.",
    ),
    setting(
        "mqtt.max_message_rate",
        MESSAGE_RATE,
        "0",
        "PUBLISH packets of one client that are read in a second; the rest waits. 0 is no limit.",
    )
    .aliases(&[Alias {
        key: "max_message_rate",
        kind: MESSAGE_RATE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.max_last_will_delay",
        Kind::Duration {
            unit: TimeUnit::Seconds,
            min: 0,
            max: EXPIRY_S_MAX,
            forever: &["client"],
        },
        "client",
        "Longest delay of a will; `client` is what the client asks for.",
    )
    .aliases(&[Alias {
        key: "max_last_will_delay",
        kind: Kind::Lifetime {
            max_s: EXPIRY_S_MAX,
            forever: "client",
        },
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.suppress_lwt_on_session_takeover",
        TRUE_FALSE,
        "false",
        "Whether a connection that another one with its client id replaces leaves no will.",
    )
    .aliases(&[Alias {
        key: "suppress_lwt_on_session_takeover",
        kind: TRUE_FALSE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.client_id_binding",
        Kind::Choice(&["user", "none"]),
        "user",
        "`user`: nobody but the user whose session it is connects with a client id, \
         as long as there is that session. `none`: whoever comes last has it.",
    ),
    setting(
        "mqtt.auth_methods",
        Kind::Choice(&["none", "SCRAM-SHA-256"]),
        "SCRAM-SHA-256",
        "Authentication method that a 5.0 client may ask for instead of sending its password.",
    ),
    setting(
        "mqtt.allow_multiple_sessions",
        TRUE_FALSE,
        "false",
        "Whether connections with one client id stay beside each other.",
    )
    .aliases(&[Alias {
        key: "allow_multiple_sessions",
        kind: TRUE_FALSE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.queue_deliver_mode",
        DELIVER_MODE,
        "fanout",
        "What such connections get: `fanout` each a copy, `balance` each message one of them.",
    )
    .aliases(&[Alias {
        key: "queue_deliver_mode",
        kind: DELIVER_MODE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.systree_enabled",
        TRUE_FALSE,
        "true",
        "Whether the broker's figures are published under `$SYS`.",
    )
    .aliases(&[Alias {
        key: "systree_enabled",
        kind: TRUE_FALSE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.systree_interval",
        SYSTREE_INTERVAL,
        "20000",
        "How often they are published; 0 is never.",
    )
    .aliases(&[Alias {
        key: "systree_interval",
        kind: SYSTREE_INTERVAL,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.systree_qos",
        SYSTREE_QOS,
        "0",
        "The QoS that they are published with.",
    )
    .aliases(&[Alias {
        key: "systree_qos",
        kind: SYSTREE_QOS,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.systree_retain",
        TRUE_FALSE,
        "false",
        "Whether they are retained.",
    )
    .aliases(&[Alias {
        key: "systree_retain",
        kind: TRUE_FALSE,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.systree_mountpoint",
        SYSTREE_MOUNTPOINT,
        "",
        "Virtual host that they are published in; if it is not set, each virtual host has its own.",
    )
    .aliases(&[Alias {
        key: "systree_mountpoint",
        kind: SYSTREE_MOUNTPOINT,
        from: "VerneMQ",
    }]),
    setting(
        "mqtt.presence_events",
        TRUE_FALSE,
        "true",
        "Whether `$SYS/<node>/clients/` tells who connects, subscribes and goes.",
    ),
];

const WAITING: Kind = Kind::Cap {
    max: 1_000_000_000,
    unit: "messages",
};

const QUEUE_TYPE: Kind = Kind::Choice(&["fifo", "lifo"]);

const INFLIGHT: Kind = Kind::Cap {
    max: 65_535,
    unit: "messages",
};

const RECEIVE_MAXIMUM: Kind = Kind::Integer {
    min: 1,
    max: 65_535,
    unit: "messages",
};

const RETRY: Kind = Kind::Integer {
    min: 0,
    max: 3_600,
    unit: "seconds",
};

const DELIVER_MODE: Kind = Kind::Choice(&["fanout", "balance"]);

const SYSTREE_INTERVAL: Kind = Kind::Duration {
    unit: TimeUnit::Milliseconds,
    min: 0,
    max: 86_400_000,
    forever: &[],
};

const SYSTREE_QOS: Kind = Kind::Integer {
    min: 0,
    max: 2,
    unit: "QoS",
};

const SYSTREE_MOUNTPOINT: Kind = Kind::Text { min: 0, max: 255 };

/// Seconds, up to a year.
const LIFETIME: Kind = Kind::Integer {
    min: 0,
    max: 31_536_000,
    unit: "seconds",
};

const CLIENT_ID_SIZE: Kind = Kind::Integer {
    min: 1,
    max: 65_535,
    unit: "bytes",
};

const TOPIC_DEPTH: Kind = Kind::Integer {
    min: 1,
    max: 256,
    unit: "levels",
};

const MESSAGE_RATE: Kind = Kind::Integer {
    min: 0,
    max: 1_000_000,
    unit: "messages",
};
