//! Why a scenario did not run: one enum for the whole library.
//!
//! Owns the words. Faults while measuring are no failure: they end the run and stand in its report.

use std::io;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A flag holds what cannot be, or flags that do not fit each other; nothing was sent.
    #[error("{0}")]
    Argument(String),
    /// The system refused: sockets, descriptors, threads.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The broker said no while the scenario was set up.
    #[error("{0}")]
    Refused(String),
    /// The broker sent what has no place there.
    #[error("{0}")]
    Protocol(String),
}

impl Failure {
    /// What turns an error of the system into a failure.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::Argument(text.into())
    }

    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Self::Protocol(text.into())
    }

    /// The same with a word before it that says whose failure it is.
    pub(crate) fn of(self, who: &str) -> Self {
        match self {
            Self::System { what, source } => Self::System {
                what: format!("{who}: {what}"),
                source,
            },
            Self::Argument(text) => Self::Argument(format!("{who}: {text}")),
            Self::Refused(text) => Self::Refused(format!("{who}: {text}")),
            Self::Protocol(text) => Self::Protocol(format!("{who}: {text}")),
        }
    }
}
