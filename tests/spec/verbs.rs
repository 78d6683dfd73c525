//! What a row does to a world, and sees of it: the words between the step language and a broker
//! with its clients. Owns no broker; must never know how bytes travel.
//!
//! Implementors: [`crate::world`] in memory, [`crate::tcp`] over sockets.

use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::link::Link;
use leveret_core::turn::Turn;
use leveret_mqtt::packet::ProtocolVersion;

/// A world of either kind.
pub(crate) type AnyWorld = dyn Verbs;

/// One broker and its clients. After each verb the world is at rest: what has been received is all
/// there is until somebody moves.
pub(crate) trait Verbs {
    /// The broker itself, for what administrators do.
    fn broker(&self) -> &Arc<Broker>;

    /// A link with every right and the turn to use it in; [`Self::settle`] must follow.
    fn owner(&mut self, vhost: &str) -> (Arc<Link>, &mut Turn);

    /// Makes a user with this password.
    fn add_user(&mut self, name: &str, password: &str);

    /// Whether the client's connection is open.
    fn is_open(&self, name: &str) -> bool;

    /// Every client that ever connected.
    fn names(&self) -> Vec<String>;

    /// Connects a client: `peer=1.2.3.4 port=1883 vhost=v`.
    fn open(&mut self, name: &str, words: &str);

    /// From now on the client reads packets of this version.
    fn speak(&mut self, name: &str, version: ProtocolVersion);

    /// What it reads now.
    fn version(&mut self, name: &str) -> ProtocolVersion;

    /// The client sends bytes.
    fn feed(&mut self, name: &str, bytes: &[u8]);

    /// The client's stream ends without a word.
    fn cut(&mut self, name: &str);

    /// What the client has received and not taken yet.
    fn received(&mut self, name: &str) -> &mut Vec<u8>;

    /// The clients that have received something that was not taken.
    fn with_output(&self) -> Vec<String>;

    /// Time passes, with everything that is due on the way.
    fn advance(&mut self, ms: u64);

    /// Waits until nobody has anything to do.
    fn settle(&mut self);
}
