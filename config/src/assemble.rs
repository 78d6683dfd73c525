//! Resolved values become the option structs of the crates that obey them.
//!
//! The only place that knows which setting ends in which field, and which settings bound each
//! other. Values are within their own bounds already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use leveret_amqp::options::Mechanism;
use leveret_core::identity::IdentityHeaders;
use leveret_core::journal::Durability;
use leveret_core::options::{AnonymousLogin, DefaultPermissions, ResourceLimit, Secret};
use leveret_core::queue::SessionCaps;
use leveret_mqtt::options::{DeliverMode, OfListener, ProtocolVersions, SysTree, TopicFilters};
use leveret_net::options::{ListenerOptions, Protocol};

use crate::error::ConfigError;
use crate::kind::Value;
use crate::resolve::{Entry, Values};
use crate::source::Origin;
use crate::{Config, LogLevel};

const PACKET_MAX: &str = "mqtt.max_packet_size_authenticated";
const MESSAGE_MAX: &str = "max_message_size";
const LISTENER_VHOSTS: &str = "mqtt.listener_vhosts.<name>";
const LISTENER_VERSIONS: &str = "mqtt.listener_versions.<name>";
const LISTENER_FILTERS: &str = "mqtt.listener_topic_filters.<name>";

/// Builds the options. Contradictions between settings go to `errors`.
pub(crate) fn assemble(values: &mut Values, errors: &mut Vec<ConfigError>) -> Config {
    let message_max = number(values, MESSAGE_MAX);
    let packet_is_default = values
        .entry(PACKET_MAX)
        .is_some_and(|entry| entry.origin == Origin::Default);
    if packet_is_default && number(values, PACKET_MAX) > message_max {
        values.lower_default(PACKET_MAX, message_max);
    }
    check_at_most(values, PACKET_MAX, MESSAGE_MAX, errors);
    if number(values, "frame_max") > 0 {
        check_at_most(values, "initial_frame_max", "frame_max", errors);
    }
    check_listeners(values, errors);
    let data_dir = path(values, "data_dir");
    let beside_data = || {
        data_dir
            .as_ref()
            .map(|directory| directory.join("enabled_plugins"))
    };
    Config {
        enabled_plugins_file: path(values, "enabled_plugins_file").or_else(beside_data),
        log_level: log_level(values),
        core: core(values),
        mqtt: mqtt(values),
        amqp: amqp(values),
        net: leveret_net::options::Options {
            listeners: listeners(values),
        },
        data_dir,
    }
}

fn core(values: &Values) -> leveret_core::options::Options {
    leveret_core::options::Options {
        max_message_size_bytes: number(values, MESSAGE_MAX),
        session_caps: SessionCaps {
            online_max: quantity(values, "mqtt.max_online_messages"),
            offline_max: quantity(values, "mqtt.max_offline_messages"),
            lifo: text(values, "mqtt.queue_type") == "lifo",
            reject: text(values, "mqtt.queue_overflow") == "reject",
        },
        retained_messages_max: usize::try_from(number(values, "mqtt.retained_messages_max"))
            .unwrap_or(usize::MAX),
        retained_bytes_max: number(values, "mqtt.retained_bytes_max"),
        retained_rate_max: u32::try_from(number(values, "mqtt.retained_rate_max"))
            .unwrap_or(u32::MAX),
        mqtt_exchange: text(values, "mqtt.exchange").into(),
        event_vhost: text(values, "event_exchange.vhost").into(),
        loopback_users: true_members(values, "loopback_users.<user>"),
        default_user: text(values, "default_user"),
        default_pass: Secret::new(text(values, "default_pass")),
        default_vhost: text(values, "default_vhost"),
        default_permissions: DefaultPermissions {
            configure: text(values, "default_permissions.configure"),
            write: text(values, "default_permissions.write"),
            read: text(values, "default_permissions.read"),
        },
        default_user_tags: true_members(values, "default_user_tags.<tag>"),
        durability: durability(&text(values, "journal.durability")),
        durability_interval: Duration::from_millis(number(values, "journal.interval")),
        vhost_durability: values
            .members("journal.vhosts.<vhost>")
            .map(|(name, entry)| (name.into(), durability(&entry.text)))
            .collect(),
        memory_limit: resource_limit(
            values,
            "vm_memory_high_watermark.absolute",
            "vm_memory_high_watermark.relative",
        ),
        disk_limit: resource_limit(
            values,
            "disk_free_limit.absolute",
            "disk_free_limit.relative",
        ),
    }
}

fn durability(word: &str) -> Durability {
    match word {
        "none" => Durability::None,
        "interval" => Durability::Interval,
        _ => Durability::Group,
    }
}

fn mqtt(values: &Values) -> leveret_mqtt::options::Options {
    leveret_mqtt::options::Options {
        allow_anonymous: boolean(values, "mqtt.allow_anonymous"),
        anonymous_login: anonymous_login(values),
        vhost: text(values, "mqtt.vhost"),
        exchange: text(values, "mqtt.exchange"),
        session_expiry_max_ms: quantity(values, "mqtt.max_session_expiry_interval_seconds"),
        prefetch: number_u16(values, "mqtt.prefetch"),
        inflight_max: quantity(values, "mqtt.max_inflight_messages").map(to_u16),
        client_receive_max: number_u16(values, "mqtt.receive_max_client"),
        upgrade_qos: boolean(values, "mqtt.upgrade_outgoing_qos"),
        retry_interval_s: number_u16(values, "mqtt.retry_interval"),
        retry_v4: boolean(values, "mqtt.retry_interval_v4"),
        topic_filters: topic_filters(&text(values, "mqtt.topic_filters")),
        disconnect_on_unauthorized: boolean(values, "mqtt.disconnect_on_unauthorized"),
        login_timeout_ms: number(values, "mqtt.login_timeout"),
        packet_unauthenticated_bytes_max: number_u32(
            values,
            "mqtt.max_packet_size_unauthenticated",
        ),
        packet_authenticated_bytes_max: number_u32(values, PACKET_MAX),
        topic_alias_max: number_u16(values, "mqtt.topic_alias_maximum"),
        connections_max: quantity(values, "mqtt.max_connections"),
        output_bytes_max: number(values, "mqtt.output_bytes_max"),
        protocol_versions: protocol_versions(values.entry("mqtt.allowed_protocol_versions")),
        listeners: mqtt_listeners(values),
        identity: identity(values),
        keep_alive_max_s: number_u16(values, "mqtt.max_keep_alive"),
        receive_maximum: number_u16(values, "mqtt.receive_maximum"),
        response_information: values
            .entry("mqtt.response_information")
            .map(|entry| entry.text.clone())
            .unwrap_or_default(),
        connection_lifetime_s: number(values, "mqtt.max_connection_lifetime"),
        client_id_bytes_max: number_u16(values, "mqtt.max_client_id_size"),
        topic_depth_max: number_u16(values, "mqtt.topic_max_depth"),
        subscriptions_max: number_u32(values, "mqtt.max_subscriptions_per_client"),
        message_rate_max: number_u32(values, "mqtt.max_message_rate"),
        will_delay_max_ms: quantity(values, "mqtt.max_last_will_delay"),
        suppress_will_on_takeover: boolean(values, "mqtt.suppress_lwt_on_session_takeover"),
        client_ids_bound: text(values, "mqtt.client_id_binding") == "user",
        multiple_sessions: boolean(values, "mqtt.allow_multiple_sessions"),
        deliver_mode: match text(values, "mqtt.queue_deliver_mode").as_str() {
            "balance" => DeliverMode::Balance,
            _ => DeliverMode::Fanout,
        },
        scram_sha_256: text(values, "mqtt.auth_methods") == "SCRAM-SHA-256",
        systree: SysTree {
            enabled: boolean(values, "mqtt.systree_enabled"),
            interval_ms: number(values, "mqtt.systree_interval"),
            qos: number(values, "mqtt.systree_qos").min(2) as u8,
            retain: boolean(values, "mqtt.systree_retain"),
            mountpoint: values
                .entry("mqtt.systree_mountpoint")
                .map(|entry| entry.text.clone())
                .unwrap_or_default(),
        },
        presence_events: boolean(values, "mqtt.presence_events"),
    }
}

fn identity(values: &Values) -> IdentityHeaders {
    const ANNOTATION: &str = "mqtt.message_interceptors.incoming.set_client_id_annotation.enabled";
    IdentityHeaders {
        on: boolean(values, "mqtt.identity_headers"),
        vhosts: values
            .members("mqtt.identity_vhosts.<vhost>")
            .map(|(name, entry)| (name.into(), entry.value == Value::Bool(true)))
            .collect(),
        annotation: boolean(values, ANNOTATION),
    }
}

fn amqp(values: &Values) -> leveret_amqp::options::Options {
    let mechanisms = values.members("auth_mechanisms.<N>");
    let mut offered = Vec::new();
    for mechanism in mechanisms.filter_map(|(_, entry)| Mechanism::named(&entry.text)) {
        if !offered.contains(&mechanism) {
            offered.push(mechanism);
        }
    }
    leveret_amqp::options::Options {
        frame_max: number_u32(values, "frame_max"),
        initial_frame_max: number_u32(values, "initial_frame_max"),
        channel_max: number_u16(values, "channel_max"),
        heartbeat_s: u16::try_from(number(values, "heartbeat") / 1_000).unwrap_or(u16::MAX),
        handshake_timeout_ms: number(values, "handshake_timeout"),
        consumer_timeout_ms: match quantity(values, "consumer_timeout") {
            None => 0,
            Some(limit) => u32::try_from(limit).unwrap_or(u32::MAX),
        },
        mechanisms: offered,
        anonymous_login: anonymous_login(values),
        identity: identity(values),
    }
}

/// RabbitMQ: an absolute limit that somebody has given has precedence.
fn resource_limit(
    values: &Values,
    absolute: &'static str,
    relative: &'static str,
) -> ResourceLimit {
    let is_given = |key| {
        let entry = values.entry(key);
        entry.is_some_and(|entry| entry.origin != Origin::Default)
    };
    let is_relative = match (is_given(absolute), is_given(relative)) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => values.entry(absolute).is_none(),
    };
    if is_relative {
        ResourceLimit::Relative(number(values, relative))
    } else {
        ResourceLimit::Absolute(number(values, absolute))
    }
}

fn anonymous_login(values: &Values) -> Option<AnonymousLogin> {
    let user = text(values, "anonymous_login_user");
    let pass = Secret::new(text(values, "anonymous_login_pass"));
    (user != "none").then_some(AnonymousLogin { user, pass })
}

fn protocol_versions(entry: Option<&Entry>) -> ProtocolVersions {
    let has = |level| match entry.map(|entry| &entry.value) {
        Some(Value::Words(words)) => words.contains(&level),
        _ => false,
    };
    ProtocolVersions {
        v3: has("3"),
        v4: has("4"),
        v5: has("5"),
    }
}

fn topic_filters(word: &str) -> TopicFilters {
    match word {
        "strict" => TopicFilters::Strict,
        _ => TopicFilters::Flexible,
    }
}

/// What MQTT listeners have of their own.
fn mqtt_listeners(values: &Values) -> BTreeMap<String, OfListener> {
    let mut all: BTreeMap<String, OfListener> = BTreeMap::new();
    for (name, entry) in values.members(LISTENER_VERSIONS) {
        all.entry(name.into()).or_default().protocol_versions =
            Some(protocol_versions(Some(entry)));
    }
    for (name, entry) in values.members(LISTENER_FILTERS) {
        all.entry(name.into()).or_default().topic_filters = Some(topic_filters(&entry.text));
    }
    all
}

fn log_level(values: &Values) -> LogLevel {
    match text(values, "log.console.level").as_str() {
        "debug" => LogLevel::Debug,
        "warning" => LogLevel::Warning,
        "error" => LogLevel::Error,
        "none" => LogLevel::None,
        _ => LogLevel::Info,
    }
}

/// Family of listeners, prefix of their socket options.
const LISTENER_FAMILIES: [(Protocol, &str, &str, &str); 2] = [
    (
        Protocol::Amqp,
        "listeners.tcp.<name>",
        "tcp_listen_options.backlog",
        "tcp_listen_options.nodelay",
    ),
    (
        Protocol::Mqtt,
        "mqtt.listeners.tcp.<name>",
        "mqtt.tcp_listen_options.backlog",
        "mqtt.tcp_listen_options.nodelay",
    ),
];

fn listeners(values: &Values) -> Vec<ListenerOptions> {
    let mut all = Vec::new();
    for (protocol, family, backlog, nodelay) in LISTENER_FAMILIES {
        for (name, entry) in values.members(family) {
            let mut pins = values.members(LISTENER_VHOSTS);
            let pinned = pins.find(|(pin, _)| protocol == Protocol::Mqtt && *pin == name);
            all.push(ListenerOptions {
                name: name.into(),
                protocol,
                addresses: addresses(entry).to_vec(),
                vhost: pinned.map(|(_, vhost)| vhost.text.clone()),
                backlog: number_u32(values, backlog),
                nodelay: boolean(values, nodelay),
            });
        }
    }
    all
}

fn check_at_most(
    values: &Values,
    lesser: &'static str,
    greater: &'static str,
    errors: &mut Vec<ConfigError>,
) {
    let (Some(low), Some(high)) = (values.entry(lesser), values.entry(greater)) else {
        return;
    };
    if number(values, lesser) > number(values, greater) {
        errors.push(ConfigError::Contradiction {
            origin: low.origin.clone(),
            why: format!(
                "'{lesser}' is {}, which is more than '{greater}', {} ({})",
                low.text, high.text, high.origin
            ),
        });
    }
}

/// No two listeners on one socket, and no vhost for a listener that is not there.
fn check_listeners(values: &Values, errors: &mut Vec<ConfigError>) {
    let mut earlier: Vec<&Entry> = Vec::new();
    for (_, family, ..) in LISTENER_FAMILIES {
        for (_, entry) in values.members(family) {
            if let Some(other) = earlier.iter().find(|other| overlap(other, entry)) {
                errors.push(ConfigError::Contradiction {
                    origin: entry.origin.clone(),
                    why: format!(
                        "'{}' listens where '{}' ({}) does",
                        entry.key, other.key, other.origin
                    ),
                });
            }
            earlier.push(entry);
        }
    }
    let of_listeners = [LISTENER_VHOSTS, LISTENER_VERSIONS, LISTENER_FILTERS];
    for (name, pin) in of_listeners
        .iter()
        .flat_map(|family| values.members(family))
    {
        let mut names = values
            .members("mqtt.listeners.tcp.<name>")
            .map(|(name, _)| name);
        if !names.any(|listener| listener == name) {
            let why = format!("'{}' has no listener 'mqtt.listeners.tcp.{name}'", pin.key);
            errors.push(ConfigError::Contradiction {
                origin: pin.origin.clone(),
                why,
            });
        }
    }
}

fn overlap(one: &Entry, other: &Entry) -> bool {
    let clash = |a: &SocketAddr, b: &SocketAddr| {
        let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
    };
    addresses(one)
        .iter()
        .any(|a| addresses(other).iter().any(|b| clash(a, b)))
}

fn addresses(entry: &Entry) -> &[SocketAddr] {
    match &entry.value {
        Value::Listener(addresses) => addresses,
        _ => &[],
    }
}

fn true_members(values: &Values, family: &'static str) -> Vec<String> {
    let members = values.members(family);
    members
        .filter(|(_, entry)| entry.value == Value::Bool(true))
        .map(|(name, _)| name.into())
        .collect()
}

fn path(values: &Values, key: &'static str) -> Option<PathBuf> {
    let entry = values.entry(key)?;
    (!entry.text.is_empty()).then(|| PathBuf::from(&entry.text))
}

fn boolean(values: &Values, key: &'static str) -> bool {
    match values.entry(key).map(|entry| &entry.value) {
        Some(Value::Bool(value)) => *value,
        _ => unreachable!("the table has a default for every boolean; '{key}' has none"),
    }
}

fn text(values: &Values, key: &'static str) -> String {
    match values.entry(key).map(|entry| &entry.value) {
        Some(Value::Text(value)) => value.clone(),
        _ => unreachable!("the table has a default for every text; '{key}' has none"),
    }
}

/// A number or a duration in milliseconds; `None` is without limit.
fn quantity(values: &Values, key: &'static str) -> Option<u64> {
    match values.entry(key).map(|entry| &entry.value) {
        Some(Value::Number(value) | Value::Duration(value)) => *value,
        _ => unreachable!("the table has a default for every number; '{key}' has none"),
    }
}

fn number(values: &Values, key: &'static str) -> u64 {
    quantity(values, key).unwrap_or(u64::MAX)
}

// The bounds in the table fit these types; a test loads the greatest value of every row.
fn number_u32(values: &Values, key: &'static str) -> u32 {
    u32::try_from(number(values, key)).unwrap_or(u32::MAX)
}

fn number_u16(values: &Values, key: &'static str) -> u16 {
    to_u16(number(values, key))
}

fn to_u16(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
