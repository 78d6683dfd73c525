//! Connections: listing each protocol's, closing one.

use std::sync::Arc;

use leveret_core::peer::{CloseReason, Peer, PeerView};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{check_text, done, existing_vhost, rows};
use crate::context::Context;
use crate::protocol::{Answer, Code, Failure};
use crate::view;

#[derive(Deserialize)]
pub(super) struct Close {
    /// `<leveret.N>`, or `ip:port -> ip:port`.
    connection: String,
    reason: String,
}

#[derive(Deserialize)]
pub(super) struct CloseAll {
    vhost: String,
    reason: String,
    #[serde(default)]
    global: bool,
    /// At most so many; 0 is all.
    limit: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CloseOfUser {
    username: String,
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

/// All of a vhost, or of the node; oldest first.
pub(super) fn close_all(context: &Context, wanted: &CloseAll) -> Result<Answer, Failure> {
    check_text("reason", &wanted.reason)?;
    if !wanted.global {
        existing_vhost(context, &wanted.vhost)?;
    }
    let limit = wanted.limit.as_deref().unwrap_or("0");
    let limit: usize = limit.parse().map_err(|_| {
        let text = format!("--limit: {limit} is not a number of connections");
        Failure::new(Code::Usage, text)
    })?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let here = |view: &PeerView| wanted.global || view.vhost == wanted.vhost;
    let closed = close_some(context, &wanted.reason, limit, here);
    Ok(Answer::One(json!({ "closed": closed })))
}

pub(super) fn close_of_user(context: &Context, wanted: &CloseOfUser) -> Result<Answer, Failure> {
    check_text("reason", &wanted.reason)?;
    let of_user = |view: &PeerView| view.user == wanted.username;
    let closed = close_some(context, &wanted.reason, usize::MAX, of_user);
    Ok(Answer::One(json!({ "closed": closed })))
}

fn close_some(
    context: &Context,
    reason: &str,
    limit: usize,
    which: impl Fn(&PeerView) -> bool,
) -> usize {
    let why = CloseReason::Administrator(reason.into());
    let peers = context.broker.peers().into_iter();
    let chosen = peers.filter(|(_, peer)| which(&peer.view())).take(limit);
    chosen.map(|(_, peer)| peer.close(&why)).count()
}

/// The channels of AMQP connections.
pub(super) fn list_channels(context: &Context) -> Answer {
    let peers = context.broker.peers().into_iter();
    rows(peers.flat_map(|(number, peer)| {
        let view = peer.view();
        let channels = peer.channels().into_iter();
        let row = channels.map(move |channel| view::channel(number, &view, &channel));
        row.collect::<Vec<_>>()
    }))
}

fn is_mqtt(view: &PeerView) -> bool {
    view.protocol.starts_with("MQTT")
}
