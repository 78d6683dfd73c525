//! Logging in: the question that a protocol machine asks, and the answer that somebody who may wait
//! gives.

pub mod scram;

/// Who wants in. The password is kept no longer than the question.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// The user's name.
    pub user: Box<str>,
    /// The password, at most 65,535 bytes.
    pub password: Box<[u8]>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Who wants in and proves it by an exchange of messages (SCRAM-SHA-256).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// The user's name, without the vhost that the message may have before it.
    pub user: Box<str>,
    /// The client's first message, as it came.
    pub message: Box<[u8]>,
}

/// What a machine needs that takes time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Are these credentials right?
    Login(Credentials),
    /// What is the client to prove?
    Scram(Opening),
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// To [`Request::Login`].
    Login(Verdict),
    /// To [`Request::Scram`].
    Scram(Result<Challenge, scram::Malformed>),
}

/// Whether credentials are right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// They are.
    Accepted,
    /// They are not.
    Refused,
    /// It cannot be told now: too many are logging in.
    Unavailable,
}

/// What the client is told to prove, known user or not.
pub struct Challenge {
    /// The server's first message.
    pub message: Box<[u8]>,
    /// Who judges what the client answers.
    pub judge: Box<dyn Judge>,
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

/// Judges the answer to one [`Challenge`], in microseconds.
pub trait Judge: Send + Sync {
    /// What proves the server to the client, if the client has proved itself.
    fn judge(self: Box<Self>, answer: &[u8]) -> Option<Box<[u8]>>;
}
