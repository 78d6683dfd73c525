//! Limits of vhosts and users: setting them, and asking them when somebody comes.

use super::Broker;
use super::admin::{no_user, no_vhost};
use crate::quota::Limits;
use crate::refusal::Refusal;
use crate::user::User;
use crate::vhost::VHost;

impl Broker {
    /// Sets the limits of a vhost, all of them at once.
    ///
    /// # Errors
    /// 404.
    pub fn set_vhost_limits(&self, vhost: &str, limits: Limits) -> Result<(), Refusal> {
        let vhost = self.vhost(vhost).ok_or_else(|| no_vhost(vhost))?;
        let _recording = vhost.record().ok_or_else(|| no_vhost(vhost.name()))?;
        vhost.facts.write().limits = limits;
        self.submit(vec![super::load::record_vhost(&vhost)]);
        Ok(())
    }

    /// Changes a user's limits.
    ///
    /// # Errors
    /// 404.
    pub fn update_user_limits(
        &self,
        user: &str,
        change: impl FnOnce(&mut Limits),
    ) -> Result<(), Refusal> {
        let mut held = User::clone(&*self.user(user).ok_or_else(|| no_user(user))?);
        change(&mut held.limits);
        self.put_user(user, held)
    }

    /// Counts a connection to a vhost, if there may be one more.
    pub(super) fn admit(&self, vhost: &VHost, user: &str) -> Result<(), Refusal> {
        let name = vhost.name();
        let max = vhost.facts.read().limits.max_connections();
        if !vhost.connections.take(max) {
            let max = max.unwrap_or_default();
            return Err(Refusal::quota(format!(
                "access to vhost '{name}' refused for user '{user}': connection limit ({max}) is \
                 reached"
            )));
        }
        let max = self
            .user(user)
            .and_then(|held| held.limits.max_connections());
        if !self.users.open.take_connection(user, max) {
            vhost.connections.give_back(1);
            let max = max.unwrap_or_default();
            return Err(Refusal::quota(format!(
                "connection refused for user '{user}': user connection limit ({max}) is reached"
            )));
        }
        Ok(())
    }

    /// A connection that was counted is over, with so many channels.
    pub(crate) fn dismiss(&self, vhost: &VHost, user: &str, channels: u64) {
        vhost.connections.give_back(1);
        self.users.open.give_back(user, 1, channels);
    }

    /// Counts a channel of a user, if there may be one more.
    pub(crate) fn admit_channel(&self, user: &str) -> Result<(), Refusal> {
        let max = self.user(user).and_then(|held| held.limits.max_channels());
        if self.users.open.take_channel(user, max) {
            return Ok(());
        }
        let max = max.unwrap_or_default();
        Err(Refusal::quota(format!(
            "number of channels opened for user '{user}' has reached the maximum allowed user \
             limit of {max}"
        )))
    }
}
