//! What policies change about a queue that is there already.

use std::sync::Arc;

use super::{Overflow, Queue, QueueArguments, State};
use crate::field::Table;
use crate::policy::Subject;
use crate::refusal::Refusal;
use crate::turn::Turn;
use crate::vhost::VHost;

impl Queue {
    /// Policies may have changed: what applies now takes effect at once. `false`: nothing is new.
    /// Its expiry is the caller's to arm, and so are the dead letters in the turn to post.
    pub(crate) fn apply_policies(self: &Arc<Self>, turn: &mut Turn, vhost: &VHost) -> bool {
        let mut state = self.state.lock();
        if state.deleted
            || vhost
                .policies
                .of_queue(&self.subject(&state))
                .is(&state.applied())
        {
            return false;
        }
        let before = state.terms().expires_ms;
        let table = state.table();
        let Some(asked) = QueueArguments::parse_kept(&table) else {
            return false;
        };
        self.give(&mut state, vhost, &table, asked);
        if state.terms().expires_ms != before {
            // RabbitMQ: its time begins with the policy.
            state.unused_since = turn.now;
        }
        if self.is_stream {
            self.retain_in_stream(&mut state, turn.now);
        } else if !self.direct {
            if state.terms().overflow == Overflow::DropHead {
                self.enforce_length(&mut state, turn);
            }
            self.watch_head(&mut state, turn);
        }
        true
    }

    /// Its arguments are others from now on.
    ///
    /// # Errors
    /// 406 for a value that is refused.
    pub(crate) fn replace_arguments(&self, vhost: &VHost, table: &Table) -> Result<(), Refusal> {
        let asked = QueueArguments::parse(table, self.name(), vhost.name())?;
        self.give(&mut self.state.lock(), vhost, table, asked);
        Ok(())
    }

    /// Asked with the lock held: the last to give knows the newest policies.
    fn give(&self, state: &mut State, vhost: &VHost, table: &Table, asked: QueueArguments) {
        let applied = vhost.policies.of_queue(&self.subject(state));
        let given = vhost
            .alike
            .share(table, asked, applied, self.direct, state.session());
        state.given = given;
    }

    fn subject(&self, state: &State) -> Subject<'_> {
        Subject {
            name: self.name(),
            kind: state.terms().kind,
            direct: self.direct,
        }
    }
}
