//! What administrators do with policies: each change takes effect at once, on all that it concerns.

use std::sync::Arc;

use super::Broker;
use super::admin::no_vhost;
use crate::definitions::Kind;
use crate::policy::{PolicyWish, Scope};
use crate::queue::{Queue, QueueArguments};
use crate::records::{delete, put};
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::turn::Turn;
use crate::vhost::VHost;

fn kind_of(scope: Scope) -> Kind {
    match scope {
        Scope::Ordinary => Kind::Policy,
        Scope::Operator => Kind::OperatorPolicy,
    }
}

impl Broker {
    /// Sets a policy, in the place of one with its name.
    ///
    /// # Errors
    /// 404 for the vhost, 406 for what RabbitMQ refuses.
    pub fn set_policy(
        &self,
        turn: &mut Turn,
        vhost: &str,
        scope: Scope,
        wish: PolicyWish<'_>,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let _changing = vhost.policies.change();
        if vhost.is_deleted() {
            return Err(no_vhost(vhost.name()));
        }
        let unserved = QueueArguments::unserved(&wish.definition);
        let policy = vhost.policies.set(scope, wish)?;
        if let Some(setting) = unserved {
            let (policy, vhost) = (policy.name(), vhost.name());
            tracing::warn!(policy, vhost, "{setting} is accepted and has no effect");
        }
        let parts = [vhost.name().as_bytes(), policy.name().as_bytes()];
        self.submit(vec![put(kind_of(scope), &parts, &policy.record())]);
        self.apply_policies(turn, &vhost);
        Ok(())
    }

    /// Takes a policy away.
    ///
    /// # Errors
    /// 404 for the vhost or the policy.
    pub fn clear_policy(
        &self,
        turn: &mut Turn,
        vhost: &str,
        scope: Scope,
        name: &str,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let _changing = vhost.policies.change();
        if vhost.is_deleted() {
            return Err(no_vhost(vhost.name()));
        }
        if !vhost.policies.clear(scope, name) {
            return Err(Refusal::new(
                ReplyCode::NotFound,
                "Parameter does not exist",
            ));
        }
        let parts = [vhost.name().as_bytes(), name.as_bytes()];
        self.submit(vec![delete(kind_of(scope), &parts)]);
        self.apply_policies(turn, &vhost);
        Ok(())
    }

    fn apply_policies(&self, turn: &mut Turn, vhost: &Arc<VHost>) {
        let mut patience_changed = false;
        for queue in vhost.unsorted_queues() {
            let before = queue.consumer_timeout_ms();
            self.apply_to_queue(turn, vhost, &queue);
            patience_changed |= queue.consumer_timeout_ms() != before;
            turn.post();
        }
        if patience_changed {
            self.peers()
                .iter()
                .for_each(|(_, peer)| peer.timeouts_changed());
        }
        for exchange in vhost.exchanges() {
            vhost.apply_to_exchange(&exchange);
        }
    }

    /// A queue does what its policies say now. With no lock held.
    pub(crate) fn apply_to_queue(&self, turn: &mut Turn, vhost: &Arc<VHost>, queue: &Arc<Queue>) {
        if queue.apply_policies(turn, vhost) {
            self.arm_expiry(vhost, queue);
        }
    }
}
