//! Consumers.

use std::sync::Arc;

use leveret_core::vhost::VHost;

use super::rows;
use crate::protocol::Answer;
use crate::view;

pub(super) fn list(vhost: Arc<VHost>) -> Answer {
    let consumers = vhost
        .queues()
        .into_iter()
        .flat_map(|queue| queue.consumers());
    rows(consumers.map(|consumer| view::consumer(&consumer)))
}
