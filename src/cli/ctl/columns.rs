//! The columns that RabbitMQ's listings have, in its order. Those that this version has nothing to
//! show in are listed beside them; they are taken, and empty.

/// `list_vhosts`.
pub(super) const VHOST: &[&str] = &[
    "name",
    "description",
    "tags",
    "default_queue_type",
    "protected_from_deletion",
    "tracing",
    "cluster_state",
    "metadata",
];

/// `list_queues`; the last three are not in RabbitMQ's list.
pub(super) const QUEUE: &[&str] = &[
    "name",
    "durable",
    "auto_delete",
    "arguments",
    "policy",
    "operator_policy",
    "effective_policy_definition",
    "pid",
    "owner_pid",
    "exclusive",
    "exclusive_consumer_pid",
    "exclusive_consumer_tag",
    "messages_ready",
    "messages_unacknowledged",
    "messages",
    "messages_ready_ram",
    "messages_unacknowledged_ram",
    "messages_ram",
    "messages_persistent",
    "message_bytes",
    "message_bytes_ready",
    "message_bytes_unacknowledged",
    "message_bytes_ram",
    "message_bytes_persistent",
    "head_message_timestamp",
    "disk_reads",
    "disk_writes",
    "consumers",
    "consumer_utilisation",
    "consumer_capacity",
    "memory",
    "state",
    "type",
    "leader",
    "members",
    "online",
    "messages_dropped",
    "single_active_consumer_pid",
    "single_active_consumer_tag",
];

/// `list_exchanges`.
pub(super) const EXCHANGE: &[&str] = &[
    "name",
    "type",
    "durable",
    "auto_delete",
    "internal",
    "arguments",
    "policy",
];

/// `list_bindings`.
pub(super) const BINDING: &[&str] = &[
    "source_name",
    "source_kind",
    "destination_name",
    "destination_kind",
    "routing_key",
    "arguments",
];

/// `list_consumers` without columns.
pub(super) const CONSUMER_DEFAULT: &[&str] = &[
    "queue_name",
    "channel_pid",
    "consumer_tag",
    "ack_required",
    "prefetch_count",
    "active",
    "arguments",
];

/// `list_consumers`.
pub(super) const CONSUMER: &[&str] = &[
    "queue_name",
    "channel_pid",
    "consumer_tag",
    "ack_required",
    "prefetch_count",
    "active",
    "activity_status",
    "arguments",
];

/// `list_channels` without columns.
pub(super) const CHANNEL_DEFAULT: &[&str] =
    &["pid", "user", "consumer_count", "messages_unacknowledged"];

/// `list_channels`.
pub(super) const CHANNEL: &[&str] = &[
    "pid",
    "connection",
    "name",
    "number",
    "user",
    "vhost",
    "transactional",
    "confirm",
    "consumer_count",
    "messages_unacknowledged",
    "messages_uncommitted",
    "acks_uncommitted",
    "messages_unconfirmed",
    "prefetch_count",
    "global_prefetch_count",
];

/// `list_connections`.
pub(super) const CONNECTION: &[&str] = &[
    "pid",
    "name",
    "port",
    "host",
    "peer_port",
    "peer_host",
    "ssl",
    "ssl_protocol",
    "ssl_key_exchange",
    "ssl_cipher",
    "ssl_hash",
    "peer_cert_subject",
    "peer_cert_issuer",
    "peer_cert_serial_number",
    "peer_cert_validity",
    "state",
    "channels",
    "protocol",
    "auth_mechanism",
    "user",
    "vhost",
    "container_id",
    "timeout",
    "frame_max",
    "channel_max",
    "client_properties",
    "recv_oct",
    "recv_cnt",
    "send_oct",
    "send_cnt",
    "send_pend",
    "connected_at",
];

/// `list_mqtt_connections`.
pub(super) const MQTT_CONNECTION: &[&str] = &[
    "pid",
    "protocol",
    "host",
    "port",
    "peer_host",
    "peer_port",
    "ssl",
    "ssl_protocol",
    "ssl_key_exchange",
    "ssl_cipher",
    "ssl_hash",
    "vhost",
    "user",
    "client_id",
    "conn_name",
    "user_property",
    "connection_state",
    "ssl_login_name",
    "recv_cnt",
    "recv_oct",
    "send_cnt",
    "send_oct",
    "send_pend",
    "clean_sess",
    "will_msg",
    "retainer_pid",
    "exchange",
    "prefetch",
    "messages_unconfirmed",
    "messages_unacknowledged",
];

/// Columns that are taken and always empty, by listing.
pub(super) const EMPTY: &[(&str, &[&str])] = &[
    (
        "list_queues",
        &[
            "head_message_timestamp",
            "disk_reads",
            "disk_writes",
            "consumer_utilisation",
            "consumer_capacity",
            "memory",
            "leader",
            "members",
            "online",
        ],
    ),
    (
        "list_connections",
        &[
            "ssl_protocol",
            "ssl_key_exchange",
            "ssl_cipher",
            "ssl_hash",
            "peer_cert_subject",
            "peer_cert_issuer",
            "peer_cert_serial_number",
            "peer_cert_validity",
            "container_id",
            "recv_cnt",
            "send_cnt",
        ],
    ),
    (
        "list_mqtt_connections",
        &[
            "ssl_protocol",
            "ssl_key_exchange",
            "ssl_cipher",
            "ssl_hash",
            "user_property",
            "ssl_login_name",
            "recv_cnt",
            "send_cnt",
            "will_msg",
            "retainer_pid",
            "exchange",
            "prefetch",
            "messages_unconfirmed",
        ],
    ),
];

/// What the help of a listing says about its columns.
pub(super) fn help(listing: &str, all: &[&str]) -> String {
    let of_listing = EMPTY.iter().find(|(name, _)| *name == listing);
    let empty = of_listing.map_or(&[][..], |(_, empty)| *empty);
    let full: Vec<&str> = all
        .iter()
        .filter(|column| !empty.contains(column))
        .copied()
        .collect();
    let mut text = format!("Columns to show: {}", full.join(", "));
    if !empty.is_empty() {
        text += &format!(". Taken, but empty in this version: {}", empty.join(", "));
    }
    text
}
