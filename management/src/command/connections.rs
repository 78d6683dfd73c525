//! Connections: listing each protocol's, closing one.

use std::sync::Arc;

use leveret_core::peer::{CloseReason, Peer, PeerView};
use serde::Deserialize;
use serde_json::Value;

use super::{check_text, done, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};
use crate::view;

#[derive(Deserialize)]
pub(super) struct Close {
    /// `<leveret.N>`, or `ip:port -> ip:port`.
    connection: String,
    reason: String,
}

/// AMQP connections only, as in RabbitMQ.
pub(super) fn list_amqp(context: &Context) -> Answer {
    list(context, |view| !is_mqtt(view), view::amqp_connection)
}

/// Those that have logged in, as in RabbitMQ.
pub(super) fn list_mqtt(context: &Context) -> Answer {
    let logged_in = |view: &PeerView| is_mqtt(view) && view.client_id.is_some();
    list(context, logged_in, view::mqtt_connection)
}

fn list(
    context: &Context,
    which: fn(&PeerView) -> bool,
    row: fn(u64, &PeerView) -> Value,
) -> Answer {
    let peers = context.broker.peers().into_iter();
    let views = peers.map(|(number, peer)| (number, peer.view()));
    rows(
        views
            .filter(move |held| which(&held.1))
            .map(move |(number, view)| row(number, &view)),
    )
}

pub(super) fn close(context: &Context, wanted: &Close) -> Result<Answer, Failure> {
    check_text("reason", &wanted.reason)?;
    let number = view::number_of_pid(&wanted.connection);
    let named = |(held, peer): &(u64, Arc<dyn Peer>)| match number {
        Some(number) => number == *held,
        None => view::connection_name(&peer.view()) == wanted.connection,
    };
    let Some((_, peer)) = context.broker.peers().into_iter().find(named) else {
        let text = format!("connection \"{}\" does not exist", wanted.connection);
        return Err(Failure::new(Code::Unavailable, text));
    };
    peer.close(&CloseReason::Administrator(wanted.reason.as_str().into()));
    Ok(done())
}

fn is_mqtt(view: &PeerView) -> bool {
    view.protocol.starts_with("MQTT")
}
