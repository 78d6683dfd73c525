//! What was dropped, by virtual host, reason and QoS.

use serde_json::json;

use super::rows;
use crate::context::Context;
use crate::protocol::Answer;

/// A row for each reason and QoS for which something was dropped.
pub(super) fn list(context: &Context) -> Answer {
    let vhosts = context.broker.vhosts().into_iter();
    rows(vhosts.flat_map(|vhost| {
        let name = vhost.name().to_owned();
        let dropped = vhost.losses().by_qos();
        dropped.map(move |(loss, qos, count)| {
            json!({"vhost": name, "reason": loss.name(), "qos": qos, "count": count})
        })
    }))
}
