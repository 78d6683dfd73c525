//! Logging in: the question that a protocol machine asks, and the answer that somebody who may wait
//! gives.

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

/// What a machine needs that takes time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Are these credentials right?
    Login(Credentials),
}

/// The answer to a [`Request`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// To [`Request::Login`].
    Login(Verdict),
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
