//! The answers to what machines ask of somebody who may wait: are these credentials right, and what
//! is a client to prove?
//!
//! Owns the step from the broker's users to the login backend. Must never judge vhosts or
//! permissions (the core's), and never tell an unknown user from a wrong password.

use std::sync::Arc;

use leveret_auth::login::{Internal, Outcome};
use leveret_auth::scram::Scram;
use leveret_core::broker::Broker;
use leveret_core::login::{Credentials, Opening, Reply, Request, Verdict};
use leveret_core::user::User;
use rand::Rng;

/// Answers requests of machines, for all connections of a broker.
#[derive(Debug)]
pub struct Authenticator {
    broker: Arc<Broker>,
    internal: Arc<Internal>,
    scram: Scram,
}

impl Authenticator {
    /// Answers for the users of this broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, internal: Arc<Internal>) -> Self {
        let secret = broker.login_secret(|| {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            secret
        });
        Self {
            broker,
            internal,
            scram: Scram::new(secret),
        }
    }

    /// The answer, if it takes microseconds; else [`Self::answer`] has it.
    pub fn answer_now(&self, request: &Request) -> Option<Reply> {
        match request {
            Request::Login(credentials) => {
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
            Request::Scram(opening) => Some(self.challenge(opening)),
        }
    }

    /// The answer, when the request's turn has come. Dropping the future gives that turn up.
    pub async fn answer(self: Arc<Self>, request: Request) -> Reply {
        match request {
            Request::Login(credentials) => Reply::Login(self.log_in(&credentials).await),
            Request::Scram(opening) => self.challenge(&opening),
        }
    }

    async fn log_in(&self, credentials: &Credentials) -> Verdict {
        let stored = self.broker.user(&credentials.user);
        let outcome = self.internal.login(
            &credentials.user,
            stored.as_deref().map(password_hash),
            &credentials.password,
        );
        match outcome.await {
            Outcome::Accepted => Verdict::Accepted,
            Outcome::Refused => Verdict::Refused,
            Outcome::Busy => Verdict::Unavailable,
        }
    }

    /// What the client is to prove, whoever it is: a few hashes.
    fn challenge(&self, opening: &Opening) -> Reply {
        let Opening { user, message } = opening;
        let stored = self.broker.user(user);
        let stored = stored.as_deref().map(|held| &*held.scram);
        let nonce = Scram::nonce(&mut rand::rng());
        Reply::Scram(self.scram.open(user, stored, message, &nonce))
    }
}

fn password_hash(user: &User) -> &str {
    &user.password_hash
}
