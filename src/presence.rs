//! Tells who comes, subscribes and goes: under `$SYS/<node>/clients/` to MQTT clients of the same
//! virtual host, and to AMQP consumers through `amq.rabbitmq.event`.
//!
//! Owns one task and the words. What nobody listens to never gets here.

use std::sync::Arc;

use leveret_core::events::{Client, Event, What};
use leveret_core::field::{FieldError, Table, Value};
use leveret_core::watermark::Wake;
use serde_json::{Map, Value as Json, json};
use tokio::sync::Notify;

use crate::announce::{Announcer, Manner};

/// Events that are told in one turn.
const PER_TURN: usize = 64;

/// Announces events for ever. `to_mqtt`: under `$SYS` as well.
pub(crate) async fn announce(announcer: Announcer, to_mqtt: bool) {
    let bell = Arc::new(Bell(Notify::new()));
    announcer
        .broker
        .events()
        .drive(Arc::clone(&bell) as Arc<dyn Wake>);
    loop {
        let events = announcer.broker.events().take(PER_TURN);
        if events.is_empty() {
            bell.0.notified().await;
            continue;
        }
        {
            let mut turn = announcer.turn();
            for event in &events {
                tell(&announcer, &mut turn, event, to_mqtt);
            }
            turn.ring();
        }
        tokio::task::yield_now().await;
    }
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

fn tell(announcer: &Announcer, turn: &mut leveret_core::turn::Turn, event: &Event, to_mqtt: bool) {
    let payload = payload(event).to_string();
    let (word, keys) = names(&event.what);
    let client = &event.client;
    let mut told = true;
    if to_mqtt
        && let Some(word) = word
        && let Some(vhost) = announcer.broker.vhost(&client.vhost)
    {
        let path = format!(
            "{}/clients/{}/{word}",
            announcer.node,
            escaped(&client.client_id)
        );
        let manner = Manner {
            json: true,
            ..Manner::default()
        };
        told &= announcer.under_sys(turn, &vhost, &path, payload.as_bytes(), manner);
    }
    match headers(event, &announcer.node) {
        Ok(headers) => {
            for key in keys {
                told &= announcer.event(turn, key, &headers, payload.as_bytes());
            }
        }
        Err(_) => told = false,
    }
    if !told {
        announcer.broker.events().count_missed(1);
    }
}

/// The last level of the topic, where there is one, and the routing keys.
fn names(what: &What) -> (Option<&'static str>, &'static [&'static str]) {
    match what {
        What::Connected { .. } => (
            Some("connected"),
            &["user.authentication.success", "connection.created"],
        ),
        What::Refused { .. } => (None, &["user.authentication.failure"]),
        What::Disconnected { .. } => (Some("disconnected"), &["connection.closed"]),
        What::Subscribed { .. } => (Some("subscribed"), &["mqtt.client.subscribed"]),
        What::Unsubscribed { .. } => (Some("unsubscribed"), &["mqtt.client.unsubscribed"]),
        What::TakenOver => (Some("taken_over"), &["mqtt.client.taken_over"]),
    }
}

/// A client id as one level: what would end the level, or is a wildcard, is `%XX`.
fn escaped(client_id: &str) -> String {
    let mut out = String::with_capacity(client_id.len());
    for letter in client_id.chars() {
        match letter {
            '/' | '+' | '#' | '%' => out.push_str(&format!("%{:02X}", u32::from(letter))),
            other => out.push(other),
        }
    }
    out
}

fn payload(event: &Event) -> Json {
    let client = &event.client;
    let mut all = Map::new();
    let word = match &event.what {
        What::Refused { .. } => "refused",
        what => names(what).0.unwrap_or_default(),
    };
    let facts = [
        ("event", json!(word)),
        ("client_id", json!(&*client.client_id)),
        ("username", json!(&*client.user)),
        ("vhost", json!(&*client.vhost)),
        ("peer", json!(client.peer.to_string())),
        ("protocol", json!(client.protocol)),
        ("clean", json!(client.clean)),
        ("keepalive", json!(client.keep_alive_s)),
    ];
    for (name, value) in facts {
        all.insert(name.to_owned(), value);
    }
    let more = match &event.what {
        What::Connected { session_present } => vec![("session_present", json!(session_present))],
        What::Refused { code, reason } | What::Disconnected { code, reason } => {
            vec![("reason_code", json!(code)), ("reason", json!(&**reason))]
        }
        What::Subscribed { filter, qos } => {
            vec![("filter", json!(&**filter)), ("qos", json!(qos))]
        }
        What::Unsubscribed { filter } => vec![("filter", json!(&**filter))],
        What::TakenOver => Vec::new(),
    };
    for (name, value) in more {
        all.insert(name.to_owned(), value);
    }
    all.insert("time_ms".to_owned(), json!(event.at.0));
    Json::Object(all)
}

/// RabbitMQ's headers of `connection.created`, and what the event has besides.
fn headers(event: &Event, node: &str) -> Result<Table, FieldError> {
    let text = |text: &str| Value::LongString(text.as_bytes().into());
    let Client {
        connection,
        protocol,
        peer,
        local,
        connected_at,
        client_id,
        user,
        vhost,
        keep_alive_s,
        ..
    } = &event.client;
    let mut properties = Table::new();
    properties.insert("client_id", text(client_id))?;
    let long = |ms: u64| Value::I64(i64::try_from(ms).unwrap_or(i64::MAX));
    let mut out = Table::new();
    let port = |port: u16| Value::I32(port.into());
    let facts = [
        ("pid", text(&format!("<leveret.{connection}>"))),
        ("protocol", text(protocol)),
        ("host", text(&local.ip().to_string())),
        ("port", port(local.port())),
        ("peer_host", text(&peer.ip().to_string())),
        ("peer_port", port(peer.port())),
        ("ssl", Value::Bool(false)),
        ("vhost", text(vhost)),
        ("user", text(user)),
        ("name", text(&format!("{peer} -> {local}"))),
        ("client_properties", Value::Table(properties)),
        ("auth_mechanism", text("none")),
        ("timeout", Value::I32((*keep_alive_s).into())),
        ("frame_max", Value::I32(0)),
        ("channel_max", Value::I32(0)),
        ("connected_at", long(connected_at.0)),
        ("node", text(node)),
        ("user_who_performed_action", text(user)),
        ("timestamp_in_ms", long(event.at.0)),
    ];
    for (name, value) in facts {
        out.insert(name, value)?;
    }
    match &event.what {
        What::Refused { code, reason } | What::Disconnected { code, reason } => {
            out.insert("reason_code", Value::I32((*code).into()))?;
            out.insert("reason", text(reason))?;
        }
        What::Subscribed { filter, qos } => {
            out.insert("filter", text(filter))?;
            out.insert("qos", Value::I32((*qos).into()))?;
        }
        What::Unsubscribed { filter } => out.insert("filter", text(filter))?,
        What::Connected { .. } | What::TakenOver => {}
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m15_a_client_id_is_one_level() {
        let rows = [
            ("a", "a"),
            ("a/b", "a%2Fb"),
            ("+#%", "%2B%23%25"),
            ("é.*$", "é.*$"),
        ];
        for (id, level) in rows {
            assert_eq!(escaped(id), level);
        }
    }
}
