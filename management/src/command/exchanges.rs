//! Exchanges.

use std::sync::Arc;

use leveret_core::vhost::VHost;

use super::rows;
use crate::protocol::Answer;
use crate::view;

pub(super) fn list(vhost: Arc<VHost>) -> Answer {
    let exchanges = vhost.exchanges().into_iter();
    rows(exchanges.map(move |exchange| view::exchange(&vhost, &exchange)))
}
