//! Keys that RabbitMQ has and this version does not serve.
//!
//! They get a clearer answer than "unknown". A key that becomes served leaves this list; a test
//! holds the list and the table of settings apart.

/// How an unserved key is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// It is on the list.
    Exactly,
    /// It begins like a family of keys on the list.
    ByPrefix,
}

/// Whether RabbitMQ knows `key`.
pub(crate) fn find(key: &str) -> Option<Known> {
    if EXACT.contains(&key) || PREFIXES.contains(&key) {
        return Some(Known::Exactly);
    }
    let is_socket_option = ["tcp_listen_options.", "mqtt.tcp_listen_options."]
        .iter()
        .any(|stem| {
            key.strip_prefix(stem)
                .is_some_and(|option| SOCKET.contains(&option))
        });
    if is_socket_option {
        return Some(Known::Exactly);
    }
    let in_family = |stem: &&str| {
        key.strip_prefix(*stem)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    PREFIXES.iter().any(in_family).then_some(Known::ByPrefix)
}

/// Whole keys.
const EXACT: &[&str] = &[
    "channel_max_per_node",
    "cluster_exchange_limit",
    "cluster_name",
    "cluster_partition_handling",
    "cluster_queue_limit",
    "collect_statistics",
    "collect_statistics_interval",
    "connection_max",
    "consumer_max_per_channel",
    "default_queue_type",
    "load_definitions",
    "memory_monitor_interval",
    "mqtt.durable_queue_type",
    "mqtt.mailbox_soft_limit",
    "mqtt.proxy_protocol",
    "mqtt.retained_message_store",
    "mqtt.retained_message_store_dets_sync_interval",
    "mqtt.sparkplug",
    "mqtt.ssl_cert_client_id_from",
    "mqtt.ssl_cert_login",
    "mqtt.ssl_cert_login_san_index",
    "mqtt.ssl_cert_login_san_type",
    "mqtt.tcp_listen_options",
    "password_hashing_module",
    "proxy_protocol",
    "queue_master_locator",
    "ranch_connection_max",
    "ssl_cert_login_from",
    "ssl_cert_login_san_index",
    "ssl_cert_login_san_type",
    "ssl_handshake_timeout",
    "total_memory_available_override_value",
    "vhost_max",
    "vm_memory_calculation_strategy",
    "vm_memory_high_watermark_paging_ratio",
];

/// Keys that have other keys under them.
const PREFIXES: &[&str] = &[
    "auth_backends",
    "auth_http",
    "auth_ldap",
    "auth_oauth2",
    "cluster_formation",
    "definitions",
    "deprecated_features",
    "event_exchange",
    "listeners.ssl",
    "log.connection",
    "log.console",
    "log.dir",
    "log.exchange",
    "log.file",
    "log.syslog",
    "management",
    "management_agent",
    "mirroring",
    "mqtt.listeners.ssl",
    "mqtt.message_interceptors",
    "mqtt.num_acceptors",
    "num_acceptors",
    "permit_deprecated_features",
    "prometheus",
    "ssl_options",
    "stomp",
    "web_mqtt",
    "web_stomp",
];

/// Options of `tcp_listen_options` and `mqtt.tcp_listen_options`.
const SOCKET: &[&str] = &[
    "buffer",
    "delay_send",
    "dontroute",
    "exit_on_close",
    "fd",
    "high_msgq_watermark",
    "high_watermark",
    "keepalive",
    "linger.on",
    "linger.timeout",
    "low_msgq_watermark",
    "low_watermark",
    "port",
    "priority",
    "recbuf",
    "send_timeout",
    "send_timeout_close",
    "sndbuf",
    "tos",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn no_served_key_is_on_the_list() {
        for setting in schema::settings() {
            let names = std::iter::once(setting.key).chain(setting.aliases.iter().map(|a| a.key));
            for key in names {
                assert_ne!(find(key), Some(Known::Exactly), "{key}");
            }
        }
        for key in EXACT.iter().chain(PREFIXES) {
            assert!(schema::find(key).is_none(), "{key}");
        }
    }
}
