//! Every reason for which the broker says no, with the reply code and text that a client is told.
//!
//! Texts are RabbitMQ's, since clients and scripts match on them. A refusal is never a fault of
//! ours and never a broken protocol rule: those are other types.

use crate::reply_code::ReplyCode;

/// The broker's no: which code, and a sentence that says what, where and for whom.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} - {text}", code.name())]
pub struct Refusal {
    /// What dies follows from the code's scope.
    pub code: ReplyCode,
    /// The explanation after `NAME - `.
    pub text: Box<str>,
    /// A limit is reached that an administrator set.
    pub quota: bool,
}

/// What a permission is asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Resource {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

impl Resource {
    /// The word in RabbitMQ's texts.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        }
    }
}

impl Refusal {
    /// A refusal with `code` and `text`.
    #[must_use]
    pub fn new(code: ReplyCode, text: impl Into<Box<str>>) -> Self {
        Self {
            code,
            text: text.into(),
            quota: false,
        }
    }

    /// 530: a limit is reached that an administrator set.
    #[must_use]
    pub fn quota(text: impl Into<Box<str>>) -> Self {
        Self {
            quota: true,
            ..Self::not_allowed(text)
        }
    }

    /// 404 for a queue or an exchange.
    #[must_use]
    pub fn not_found(what: Resource, name: &str, vhost: &str) -> Self {
        let noun = what.noun();
        Self::new(
            ReplyCode::NotFound,
            format!("no {noun} '{name}' in vhost '{vhost}'"),
        )
    }

    /// 403 for a missing permission.
    #[must_use]
    pub fn no_access(access: &str, what: Resource, name: &str, vhost: &str, user: &str) -> Self {
        let name = if name.is_empty() { "amq.default" } else { name };
        let noun = what.noun();
        Self::new(
            ReplyCode::AccessRefused,
            format!(
                "{access} access to {noun} '{name}' in vhost '{vhost}' refused for user '{user}'"
            ),
        )
    }

    /// 403 for a missing topic permission.
    #[must_use]
    pub fn no_topic(access: &str, key: &str, exchange: &str, vhost: &str, user: &str) -> Self {
        Self::new(
            ReplyCode::AccessRefused,
            format!(
                "{access} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' \
                 refused for user '{user}'"
            ),
        )
    }

    /// 403 for a name that only the broker may use.
    #[must_use]
    pub fn reserved_name(what: Resource, name: &str) -> Self {
        let noun = what.noun();
        Self::new(
            ReplyCode::AccessRefused,
            format!("{noun} name '{name}' contains reserved prefix 'amq.*'"),
        )
    }

    /// 403 for declaring, deleting or binding the default exchange.
    #[must_use]
    pub fn default_exchange() -> Self {
        Self::new(
            ReplyCode::AccessRefused,
            "operation not permitted on the default exchange",
        )
    }

    /// 405 for another connection's exclusive queue.
    #[must_use]
    pub fn locked(queue: &str, vhost: &str) -> Self {
        Self::new(
            ReplyCode::ResourceLocked,
            format!(
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It \
                 could be originally declared on another connection or the exclusive property \
                 value does not match that of the original declaration."
            ),
        )
    }

    /// 406 with a text of its own.
    #[must_use]
    pub fn precondition(text: impl Into<Box<str>>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// 406 for a redeclaration with other properties.
    #[must_use]
    pub fn inequivalent(
        key: &str,
        what: Resource,
        name: &str,
        vhost: &str,
        received: &str,
        current: &str,
    ) -> Self {
        let noun = what.noun();
        Self::precondition(format!(
            "inequivalent arg '{key}' for {noun} '{name}' in vhost '{vhost}': received \
             {received} but current is {current}"
        ))
    }

    /// 530: the connection may not do this.
    #[must_use]
    pub fn not_allowed(text: impl Into<Box<str>>) -> Self {
        Self::new(ReplyCode::NotAllowed, text)
    }

    /// 540: known to RabbitMQ, not served by this version.
    #[must_use]
    pub fn not_implemented(text: impl Into<Box<str>>) -> Self {
        Self::new(ReplyCode::NotImplemented, text)
    }
}
