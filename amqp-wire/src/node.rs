//! What all AMQP 0-9-1 connections of a node share: the broker and the options.
//!
//! Owns nothing that changes.

use std::sync::Arc;

use leveret_core::broker::Broker;

use crate::options::Options;

/// The broker as this protocol's connections see it.
#[derive(Debug)]
pub struct Node {
    /// The broker.
    pub broker: Arc<Broker>,
    /// What the operator set about this protocol.
    pub options: Options,
}

impl Node {
    /// A node over a broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, options: Options) -> Arc<Self> {
        Arc::new(Self { broker, options })
    }
}
