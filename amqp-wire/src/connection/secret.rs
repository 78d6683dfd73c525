//! A client that shows a new secret: a login in the middle of a connection.
//!
//! Owns what follows from the answer; whether the secret is right is decided elsewhere. RabbitMQ's
//! extension of class connection: update-secret.

use leveret_core::login::{Credentials, Request, Verdict};
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::Connection;
use crate::failure::Failure;
use crate::method::{ConnectionUpdateSecret, ConnectionUpdateSecretOk, ServerMethod};

impl Connection {
    /// `connection.update-secret`: nothing more is read before it is answered.
    pub(super) fn handle_update_secret(&mut self, method: &ConnectionUpdateSecret<'_>) {
        tracing::debug!(
            connection = self.id,
            user = &*self.user,
            reason = method.reason,
            "asked to update the secret"
        );
        self.renewing = true;
        self.request = Some(Request::Login(Credentials {
            user: self.user.clone(),
            password: method.new_secret.0.into(),
        }));
    }

    pub(super) fn handle_new_secret(&mut self, turn: &mut Turn, verdict: Verdict) {
        let text = match verdict {
            Verdict::Accepted => return self.accept_new_secret(turn),
            Verdict::Refused => "New secret was refused by one of the backends",
            Verdict::Unavailable => "Secret update failed",
        };
        let id = ConnectionUpdateSecret::ID;
        self.fail(turn, 0, &Failure::new(ReplyCode::NotAllowed, text, id));
    }

    /// The user is who it says; whether it may be in this vhost is asked anew.
    fn accept_new_secret(&mut self, turn: &mut Turn) {
        let Some(session) = self.session.as_deref_mut() else {
            return;
        };
        let vhost = session.link.vhost().name();
        let allowed = self.node.broker.open_vhost(
            self.id,
            &self.user,
            vhost,
            None,
            self.outlet.accepted().peer.ip(),
        );
        if let Err(refusal) = allowed {
            let failure = Failure::of(ConnectionUpdateSecret::ID, refusal);
            return self.fail(turn, 0, &failure);
        }
        let answer = ServerMethod::ConnectionUpdateSecretOk(ConnectionUpdateSecretOk {});
        session.reply(0, answer);
    }
}
