//! Bindings, the default exchange's too.

use std::sync::Arc;

use leveret_core::vhost::VHost;

use super::rows;
use crate::protocol::Answer;
use crate::view;

pub(super) fn list(vhost: Arc<VHost>) -> Answer {
    let implied = vhost
        .queues()
        .into_iter()
        .map(|queue| view::default_binding(queue.name()));
    let made = vhost
        .exchanges()
        .into_iter()
        .flat_map(|exchange| exchange.bindings());
    rows(implied.chain(made.map(|binding| view::binding(&binding))))
}
