//! Settings of the node: directories, limits, listeners, users, the journal.

use super::*;

pub(super) const NODE: &[Setting] = &[
    setting(
        "data_dir",
        Kind::Path,
        "",
        "Directory of what survives a restart; unset, it is `/var/lib/leveret` for root and for \
         whoever may write there, else `leveret-data` in the directory that the program is \
         started in.",
    )
    .example("data_dir", "/var/lib/leveret"),
    setting(
        "enabled_plugins_file",
        Kind::Path,
        "",
        "File that lists the enabled plugins; unset, it is `enabled_plugins` in `data_dir`.",
    )
    .example("enabled_plugins_file", "/etc/leveret/enabled_plugins"),
    setting(
        "log.console.level",
        Kind::Choice(&["debug", "info", "warning", "error", "none"]),
        "info",
        "The least severe messages that the console shows.",
    ),
];

pub(super) const RESOURCES: &[Setting] = &[
    setting(
        "vm_memory_high_watermark.relative",
        Kind::Fraction { max: 1 },
        "0.6",
        "Part of the memory of the machine, or of the control group (v2) if that may have less, \
         above which the broker blocks publishers until it uses less; 0 blocks all of them.",
    ),
    setting(
        "vm_memory_high_watermark.absolute",
        Kind::Size,
        "",
        "The same in bytes, at most what there is; wins over `vm_memory_high_watermark.relative`.",
    )
    .example("vm_memory_high_watermark.absolute", "2GB"),
    setting(
        "disk_free_limit.absolute",
        Kind::Size,
        "50MB",
        "Free space on the disk of `data_dir` below which the broker blocks publishers until there \
         is more; given, it wins over `disk_free_limit.relative`.",
    ),
    setting(
        "disk_free_limit.relative",
        Kind::Fraction { max: 1_000 },
        "",
        "The same in multiples of the memory that `vm_memory_high_watermark.relative` is part of.",
    )
    .example("disk_free_limit.relative", "1.5"),
];

pub(super) const LISTENERS: &[Setting] = &[
    setting(
        "listeners.tcp.<name>",
        Kind::Listener,
        "",
        "Where AMQP 0-9-1 is served; a port alone means all interfaces, IPv6 and IPv4.",
    )
    .members(&[("default", "5672")])
    .or_none(),
    setting(
        "mqtt.listeners.tcp.<name>",
        Kind::Listener,
        "",
        "Where MQTT is served; a port alone means all interfaces, IPv6 and IPv4.",
    )
    .members(&[("default", "1883")])
    .or_none(),
    setting(
        "mqtt.listener_vhosts.<name>",
        NAME,
        "",
        "Pins every connection of this MQTT listener to a virtual host.",
    )
    .members(&[])
    .example("mqtt.listener_vhosts.default", "/"),
    setting(
        "mqtt.listener_versions.<name>",
        Kind::Choices(&["3", "4", "5"]),
        "",
        "Protocol levels that this MQTT listener serves, instead of \
         `mqtt.allowed_protocol_versions`.",
    )
    .members(&[])
    .example("mqtt.listener_versions.default", "4, 5"),
    setting(
        "mqtt.listener_topic_filters.<name>",
        Kind::Choice(&["flexible", "strict"]),
        "",
        "Which filters this MQTT listener takes, instead of `mqtt.topic_filters`.",
    )
    .members(&[])
    .example("mqtt.listener_topic_filters.default", "strict"),
    setting(
        "tcp_listen_options.backlog",
        BACKLOG,
        "4096",
        "How many connections may wait for accept on an AMQP listener.",
    ),
    setting(
        "tcp_listen_options.nodelay",
        TRUE_FALSE,
        "true",
        "Whether AMQP connections send small segments at once (`TCP_NODELAY`).",
    ),
    setting(
        "mqtt.tcp_listen_options.backlog",
        BACKLOG,
        "4096",
        "How many connections may wait for accept on an MQTT listener.",
    ),
    setting(
        "mqtt.tcp_listen_options.nodelay",
        TRUE_FALSE,
        "true",
        "Whether MQTT connections send small segments at once (`TCP_NODELAY`).",
    ),
];

pub(super) const USERS: &[Setting] = &[
    setting(
        "default_user",
        NAME,
        "guest",
        "User who is made when the broker has none.",
    ),
    setting(
        "default_pass",
        PASSWORD,
        "guest",
        "Password of the default user.",
    )
    .secret(),
    setting(
        "default_vhost",
        NAME,
        "/",
        "Virtual host that is made together with the default user.",
    ),
    setting(
        "default_permissions.configure",
        Kind::Regex,
        ".*",
        "What the default user may declare and delete in the default virtual host.",
    ),
    setting(
        "default_permissions.write",
        Kind::Regex,
        ".*",
        "What the default user may publish to in the default virtual host.",
    ),
    setting(
        "default_permissions.read",
        Kind::Regex,
        ".*",
        "What the default user may consume from in the default virtual host.",
    ),
    setting(
        "default_user_tags.<tag>",
        TRUE_FALSE,
        "",
        "Whether the default user has this tag.",
    )
    .members(&[("administrator", "true")]),
    setting(
        "loopback_users.<user>",
        TRUE_FALSE,
        "",
        "Whether this user may connect over the loopback interface only.",
    )
    .members(&[("guest", "true")])
    .or_none(),
    setting(
        "anonymous_login_user",
        NAME,
        "guest",
        "User of clients that bring no credentials; `none` refuses them.",
    )
    .aliases(&[Alias {
        key: "mqtt.default_user",
        kind: NAME,
        from: "RabbitMQ before 4.0",
    }]),
    setting(
        "anonymous_login_pass",
        PASSWORD,
        "guest",
        "Password that is used for clients that bring no credentials.",
    )
    .aliases(&[Alias {
        key: "mqtt.default_pass",
        kind: PASSWORD,
        from: "RabbitMQ before 4.0",
    }])
    .secret(),
];

pub(super) const JOURNAL: &[Setting] = &[
    setting(
        "journal.durability",
        DURABILITY,
        "group",
        "When a persistent message in a durable queue is acknowledged: with `group` when the disk \
         has it, else when the operating system has it.",
    ),
    setting(
        "journal.interval",
        Kind::Duration {
            unit: TimeUnit::Milliseconds,
            min: 1,
            max: 60_000,
            forever: &[],
        },
        "200",
        "With `interval`: how long the disk may be behind.",
    ),
    setting(
        "journal.vhosts.<vhost>",
        DURABILITY,
        "",
        "The durability of a virtual host of its own.",
    )
    .members(&[])
    .example("journal.vhosts.blue", "interval"),
];

pub(super) const EVENTS: &[Setting] = &[setting(
    "event_exchange.vhost",
    NAME,
    "/",
    "Virtual host of the exchange `amq.rabbitmq.event`, which tells what happens to clients.",
)];
