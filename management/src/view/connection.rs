//! A connection as a row of `list_connections` or `list_mqtt_connections`.

use leveret_core::peer::PeerView;
use serde_json::{Value, json};

use super::{pid, typed_table};

/// RabbitMQ's name of a connection: `peer -> local`.
pub(crate) fn connection_name(view: &PeerView) -> String {
    format!("{} -> {}", view.peer, view.local)
}

/// What this version knows of an AMQP 0-9-1 connection.
pub(crate) fn amqp_connection(number: u64, view: &PeerView) -> Value {
    json!({
        "pid": pid(number),
        "name": connection_name(view),
        "port": view.local.port(),
        "host": view.local.ip().to_string(),
        "peer_port": view.peer.port(),
        "peer_host": view.peer.ip().to_string(),
        "ssl": false,
        "state": view.state,
        "channels": view.channels,
        "protocol": "{0,9,1}",
        "auth_mechanism": view.auth_mechanism,
        "user": view.user,
        "vhost": view.vhost,
        "timeout": view.timeout_s,
        "frame_max": view.frame_max,
        "channel_max": view.channel_max,
        "client_properties": typed_table(&view.client_properties),
        "recv_oct": view.received_bytes,
        "send_oct": view.sent_bytes,
        "send_pend": view.pending_bytes,
        "connected_at": view.connected_at,
    })
}

/// What this version knows of an MQTT connection.
pub(crate) fn mqtt_connection(number: u64, view: &PeerView) -> Value {
    json!({
        "pid": pid(number),
        "protocol": mqtt_protocol(view.protocol),
        "host": view.local.ip().to_string(),
        "port": view.local.port(),
        "peer_host": view.peer.ip().to_string(),
        "peer_port": view.peer.port(),
        "ssl": false,
        "vhost": view.vhost,
        "user": view.user,
        "client_id": view.client_id,
        "conn_name": connection_name(view),
        "connection_state": view.state,
        "recv_oct": view.received_bytes,
        "send_oct": view.sent_bytes,
        "send_pend": view.pending_bytes,
        "clean_sess": view.clean_session,
        "messages_unacknowledged": view.unacked,
    })
}

/// `MQTT 3-1-1` as RabbitMQ prints it: `{'MQTT',{3,1,1}}`.
fn mqtt_protocol(name: &str) -> String {
    let version = name.trim_start_matches("MQTT ").replace('-', ",");
    format!("{{'MQTT',{{{version}}}}}")
}
