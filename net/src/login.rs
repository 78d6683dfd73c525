//! The answers to what machines ask of somebody who may wait: are these credentials right?
//!
//! Owns the step from the broker's users to the login backend. Must never judge vhosts or
//! permissions (the core's), and never tell an unknown user from a wrong password.

use std::sync::Arc;

use leveret_auth::login::{Internal, Outcome};
use leveret_core::broker::Broker;
use leveret_core::login::{Reply, Request, Verdict};
use leveret_core::user::User;

/// Answers requests of machines, for all connections of a broker.
#[derive(Debug)]
pub struct Authenticator {
    broker: Arc<Broker>,
    internal: Arc<Internal>,
}

impl Authenticator {
    /// Answers for the users of this broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, internal: Arc<Internal>) -> Self {
        Self { broker, internal }
    }

    /// The answer, if it takes microseconds; else [`Self::answer`] has it.
    pub fn answer_now(&self, request: &Request) -> Option<Reply> {
        let Request::Login(credentials) = request;
        let stored = self.broker.user(&credentials.user);
        let known = self.internal.check_now(
            &credentials.user,
            stored.as_deref().map(password_hash),
            &credentials.password,
        )?;
        Some(Reply::Login(if known {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }))
    }

    /// The answer, when the request's turn has come. Dropping the future gives that turn up.
    pub async fn answer(self: Arc<Self>, request: Request) -> Reply {
        let Request::Login(credentials) = request;
        let stored = self.broker.user(&credentials.user);
        let outcome = self.internal.login(
            &credentials.user,
            stored.as_deref().map(password_hash),
            &credentials.password,
        );
        Reply::Login(match outcome.await {
            Outcome::Accepted => Verdict::Accepted,
            Outcome::Refused => Verdict::Refused,
            Outcome::Busy => Verdict::Unavailable,
        })
    }
}

fn password_hash(user: &User) -> &str {
    &user.password_hash
}
