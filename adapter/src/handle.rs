//! One file per control packet that a client sends after CONNECT: what it does to the session and
//! the broker.

pub(crate) mod ack;
pub(crate) mod disconnect;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use std::sync::Arc;

use leveret_core::seam::Core;

use crate::connection::{Active, Held, Settled};
use crate::limits::TOPIC_LEVELS_MAX;
use crate::options::Options;
use crate::outlet::{Identity, Outlet};
use crate::packet::ProtocolVersion;
use crate::reason::Ending;
use crate::replay::Replay;

/// What a handler works with.
pub(crate) struct Context<'a, C: Core> {
    pub(crate) options: &'a Options,
    pub(crate) outlet: &'a Arc<Outlet<C>>,
    pub(crate) identity: &'a Identity<C>,
    pub(crate) active: &'a mut Active<C>,
    /// Deliveries that the client acknowledged, settled in runs after the batch.
    pub(crate) settled: &'a mut Vec<Settled>,
    pub(crate) version: ProtocolVersion,
}

/// What follows a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// The next packet.
    Continue,
    /// The connection is closed, a 5.0 client is told why.
    Close(Ending),
    /// The client has said goodbye.
    Disconnected {
        /// It wants its will published all the same.
        with_will: bool,
    },
}

/// Why a topic or filter has too many levels for the operator, if it has.
pub(crate) fn topic_too_deep(options: &Options, topic: &str) -> Option<String> {
    let max = usize::from(options.topic_depth_max);
    if max >= TOPIC_LEVELS_MAX {
        // It could not be read otherwise.
        return None;
    }
    let levels = 1 + topic.bytes().filter(|byte| *byte == b'/').count();
    (levels > max).then(|| format!("{levels} topic levels, at most {max} are allowed"))
}

impl<C: Core> Context<'_, C> {
    /// Sends an answer that must not leave before the definitions that it speaks of are durable.
    /// The connection releases it, at once if nothing is to be waited for.
    pub(crate) fn hold(&mut self, bytes: Vec<u8>, replay: Vec<Replay>, then_close: Option<Ending>) {
        let core = Arc::clone(&self.identity.core);
        self.active.held = Some(Box::new(Held {
            journaled: 0,
            asked: false,
            core,
            bytes,
            replay,
            then_close,
            awaited: 0,
        }));
    }
}
