//! Consumers.

use std::sync::Arc;

use leveret_core::vhost::VHost;

use super::rows;
use crate::protocol::Answer;
use crate::view;

pub(super) fn list(vhost: Arc<VHost>) -> Answer {
    let queues = vhost.queues().into_iter();
    rows(queues.flat_map(|queue| {
        let single = queue.view().single.is_some();
        let consumers = queue.consumers().into_iter();
        consumers.map(move |consumer| view::consumer(&consumer, single))
    }))
}
