//! A client that shows a new secret on an open connection. RabbitMQ's extension of class
//! connection: update-secret.
//!
//! Users of the node's own database keep the rights that they have, whatever they show, as in
//! RabbitMQ: what is asked anew is whether the user may still be here.

use leveret_core::reply_code::ReplyCode;

use super::Connection;
use crate::failure::Failure;
use crate::method::{ConnectionUpdateSecret, ConnectionUpdateSecretOk, ServerMethod};

impl Connection {
    /// `connection.update-secret`.
    pub(super) fn handle_update_secret(
        &mut self,
        method: &ConnectionUpdateSecret<'_>,
    ) -> Result<(), Failure> {
        tracing::debug!(
            connection = self.id,
            user = &*self.user,
            reason = method.reason,
            "asked to update the secret"
        );
        let peer = self.peer_ip();
        let Some(session) = self.session.as_deref_mut() else {
            return Ok(());
        };
        let vhost = session.link.vhost().name();
        let broker = &self.node.broker;
        broker
            .check_access(&self.user, vhost, peer)
            .map_err(|refusal| {
                tracing::warn!(connection = self.id, user = &*self.user, %refusal, "no access");
                let text = "New secret was refused by one of the backends";
                Failure::new(ReplyCode::NotAllowed, text, ConnectionUpdateSecret::ID)
            })?;
        let answer = ServerMethod::ConnectionUpdateSecretOk(ConnectionUpdateSecretOk {});
        session.reply(0, answer);
        Ok(())
    }
}
