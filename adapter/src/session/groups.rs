//! Shared subscriptions: who is a member of a group, and the queue that the group is.

use std::sync::Arc;

use leveret_core::key::Form;
use leveret_core::link::BindQueue;
use leveret_core::refusal::Refusal;
use leveret_core::seam::Core;
use leveret_core::turn::Turn;

use super::left::Left;
use super::queues::{Target, attach};
use super::{add, member_arguments};
use crate::flow::Subscription;
use crate::outlet::{Identity, Outlet};

const SHARED: &str = "mqtt-shared-";

/// The name of a group's queue.
pub(crate) fn shared_queue_name(group: &str, filter: &str) -> String {
    [SHARED, group, "/", filter].concat()
}

/// Whether a queue may be a group's; a session's own is not.
pub(super) fn is_shared_queue(name: &str) -> bool {
    name.starts_with(SHARED)
}

/// Who is a member of groups, without the connection.
#[derive(Clone)]
pub(crate) struct Membership<C> {
    core: Arc<C>,
    client_id: Arc<str>,
    exchange: Box<str>,
}

impl<C: Core> Membership<C> {
    pub(crate) fn of(identity: &Identity<C>, exchange: &str) -> Self {
        Self {
            core: Arc::clone(&identity.core),
            client_id: identity.claim().into(),
            exchange: exchange.into(),
        }
    }
}

impl<C: Core> Membership<C> {
    /// Whether the member may read what a group reads.
    pub(super) fn may_read(&self, held: &Subscription) -> bool {
        let asked = (&*self.exchange, held.filter().as_bytes());
        self.core
            .may_bind_from(asked.0, asked.1, Form::Slashed)
            .is_ok()
    }
}

/// A session that ends for good gives up its membership in groups; the last member takes the queue
/// along.
pub(super) fn leave_groups<C: Core>(member: &Membership<C>, shared: &[Subscription]) {
    for held in shared {
        leave_group(member, held);
    }
}

/// Gives up one membership.
pub(crate) fn leave_group<C: Core>(member: &Membership<C>, held: &Subscription) {
    let Some(group) = held.share() else { return };
    let name = shared_queue_name(group, held.filter());
    let wish = BindQueue {
        queue: &name,
        exchange: &member.exchange,
        key: held.filter().as_bytes(),
        form: Form::Slashed,
        arguments: member_arguments(&member.client_id),
    };
    let Some(queue) = member.core.find_queue(&name) else {
        return;
    };
    member.core.unbind_own(&wish);
    member.core.drop_unbound(&queue);
}

/// Takes the session's place in its groups again.
pub(super) fn take_over<C: Core>(
    left: &Left<C>,
    outlet: &Arc<Outlet<C>>,
    identity: &Identity<C>,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    for held in left.shared() {
        let Some(group) = held.share() else { continue };
        let name = shared_queue_name(group, held.filter());
        let (core, filter) = (&identity.core, held.filter().as_bytes());
        if (core.may_bind_from(outlet.exchange(), filter, Form::Slashed)).is_err() {
            // It may not read that any more, or has come as another user.
            leave_group(&Membership::of(identity, outlet.exchange()), held);
        } else if core.find_queue(&name).is_some() {
            let group = Target::group(&name, held.options.qos, None);
            let slot = attach(outlet, identity, group, None, || Ok(()), turn)?;
            let held = Subscription {
                slot,
                ..held.clone()
            };
            add(outlet, held);
        }
    }
    Ok(())
}
