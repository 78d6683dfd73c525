//! Exchanges.

use std::sync::Arc;

use leveret_core::vhost::VHost;

use super::rows;
use crate::protocol::Answer;
use crate::view;

pub(super) fn list(vhost: Arc<VHost>) -> Answer {
    rows(
        vhost
            .exchanges()
            .into_iter()
            .map(|exchange| view::exchange(&exchange)),
    )
}
