//! A channel as a row of `list_channels`.

use leveret_core::peer::{ChannelView, PeerView};
use serde_json::{Value, json};

use super::{connection_name, pid};

/// What this version knows of a channel. `pid` is its connection's: a channel has none of its own.
pub(crate) fn channel(number: u64, peer: &PeerView, view: &ChannelView) -> Value {
    json!({
        "pid": pid(number),
        "connection": pid(number),
        "name": format!("{} ({})", connection_name(peer), view.number),
        "number": view.number,
        "user": peer.user,
        "vhost": peer.vhost,
        "transactional": view.transactional,
        "confirm": view.confirm,
        "consumer_count": view.consumers,
        "messages_unacknowledged": view.unacked,
        "messages_unconfirmed": view.unconfirmed,
        "messages_uncommitted": view.uncommitted,
        "acks_uncommitted": view.acks_uncommitted,
        "prefetch_count": view.prefetch,
        "global_prefetch_count": view.global_prefetch,
    })
}
