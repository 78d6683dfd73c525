//! What all MQTT connections of a node share: the broker behind the seam, and the operator's
//! options.

use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::seam::Host;

use crate::options::Options;

/// The MQTT side of one node.
pub struct Node<H: Host = Broker> {
    /// The broker.
    pub host: Arc<H>,
    /// What the operator set.
    pub options: Arc<Options>,
}

impl<H: Host> Node<H> {
    /// A node over `host`.
    #[must_use]
    pub fn new(host: Arc<H>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            host,
            options: Arc::new(options),
        })
    }
}

impl<H: Host> std::fmt::Debug for Node<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
