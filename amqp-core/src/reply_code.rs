//! The reply codes of AMQP 0-9-1 and what each of them ends.
//!
//! Owns the numbers, their upper-case names and their scopes; never the situations in which they
//! are used. AMQP 0-9-1 §1.2 (constants), with RabbitMQ's scopes.

/// How much ends when a reply code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing failed: the code of an orderly close.
    Success,
    /// The channel is closed; the connection lives on. The specification's soft error.
    Channel,
    /// The connection is closed with all its channels. The specification's hard error.
    Connection,
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $variant:ident $number:literal $name:literal $scope:ident;)*) => {
        /// A reply code, as `connection.close`, `channel.close` and `basic.return` carry it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ReplyCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ReplyCode {
            /// Every reply code, by rising number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The upper-case name that opens a reply text, such as `NOT_FOUND`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What ends when this code is sent. On channel 0, [`Scope::Channel`] means the
            /// connection too: there is no smaller thing to close.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Self::$variant => Scope::$scope,)*
                }
            }
        }
    };
}

reply_codes! {
    /// The orderly end of a channel or connection.
    ReplySuccess 200 "REPLY_SUCCESS" Success;
    /// The content is larger than the peer can take.
    ContentTooLarge 311 "CONTENT_TOO_LARGE" Channel;
    /// A mandatory message matched no queue; seen in `basic.return` only.
    NoRoute 312 "NO_ROUTE" Channel;
    /// An immediate message met no consumer.
    NoConsumers 313 "NO_CONSUMERS" Channel;
    /// An operator closed the connection.
    ConnectionForced 320 "CONNECTION_FORCED" Connection;
    /// The virtual host's path is malformed.
    InvalidPath 402 "INVALID_PATH" Connection;
    /// The user may not do this.
    AccessRefused 403 "ACCESS_REFUSED" Channel;
    /// The queue or exchange does not exist.
    NotFound 404 "NOT_FOUND" Channel;
    /// Another connection holds the queue.
    ResourceLocked 405 "RESOURCE_LOCKED" Channel;
    /// What was asked contradicts what is there.
    PreconditionFailed 406 "PRECONDITION_FAILED" Channel;
    /// A frame could not be decoded.
    FrameError 501 "FRAME_ERROR" Connection;
    /// A field of a method holds an illegal value.
    SyntaxError 502 "SYNTAX_ERROR" Connection;
    /// The method is unknown or never sent in this direction.
    CommandInvalid 503 "COMMAND_INVALID" Connection;
    /// The channel is not open, or is open already.
    ChannelError 504 "CHANNEL_ERROR" Connection;
    /// A frame came out of sequence.
    UnexpectedFrame 505 "UNEXPECTED_FRAME" Connection;
    /// The server has not enough of something.
    ResourceError 506 "RESOURCE_ERROR" Connection;
    /// The server's set-up forbids it, whoever asks.
    NotAllowed 530 "NOT_ALLOWED" Connection;
    /// The server does not have this feature.
    NotImplemented 540 "NOT_IMPLEMENTED" Connection;
    /// The server failed.
    InternalError 541 "INTERNAL_ERROR" Connection;
}

impl ReplyCode {
    /// The reply text a client parses: `<NAME> - <explanation>`, cut to [`REPLY_TEXT_BYTES_MAX`]
    /// on a character boundary.
    pub fn text(self, explanation: &str) -> String {
        let mut text = format!("{} - {explanation}", self.name());
        text.truncate(text.floor_char_boundary(REPLY_TEXT_BYTES_MAX));
        text
    }
}

/// The longest reply text in bytes: it travels as a short string.
pub const REPLY_TEXT_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_are_unique() {
        for pair in ReplyCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
            assert_ne!(pair[0].name(), pair[1].name());
        }
        assert_eq!(ReplyCode::NotFound.number(), 404);
        assert_eq!(ReplyCode::NotFound.scope(), Scope::Channel);
        assert_eq!(ReplyCode::NotAllowed.scope(), Scope::Connection);
    }

    #[test]
    fn text_is_cut_on_a_character_boundary() {
        let cases = [
            (
                "no queue 'q' in vhost '/'",
                "NOT_FOUND - no queue 'q' in vhost '/'".to_owned(),
            ),
            ("", "NOT_FOUND - ".to_owned()),
            (&"x".repeat(300), format!("NOT_FOUND - {}", "x".repeat(243))),
            (&"é".repeat(300), format!("NOT_FOUND - {}", "é".repeat(121))),
        ];
        for (explanation, expected) in cases {
            assert_eq!(ReplyCode::NotFound.text(explanation), expected);
        }
    }
}
