//! Reason Codes of MQTT 5.0 and the CONNACK return codes of 3.x. Owns the numbers and what each
//! packet may carry; must never decide when one is used. OASIS MQTT 5.0 §2.4.

/// One Reason Code of MQTT 5.0 (§2.4, table 2-6). Codes of 0x80 and above are failures.
///
/// 0x00 is Success, Normal disconnection and Granted QoS 0 alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "each variant is the name the specification gives the number"
)]
pub enum ReasonCode {
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWillMessage = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

/// Which packet, from which side, a Reason Code stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonCodeSet {
    /// CONNACK (§3.2.2.2).
    ConnAck,
    /// PUBACK and PUBREC (§3.4.2.1, §3.5.2.1).
    PubAckOrPubRec,
    /// PUBREL and PUBCOMP (§3.6.2.1, §3.7.2.1).
    PubRelOrPubComp,
    /// SUBACK (§3.9.3).
    SubAck,
    /// UNSUBACK (§3.11.3).
    UnsubAck,
    /// DISCONNECT sent by a client (§3.14.2.1).
    ClientDisconnect,
    /// DISCONNECT sent by a server (§3.14.2.1).
    ServerDisconnect,
    /// AUTH sent by a client (§3.15.2.1).
    ClientAuth,
    /// AUTH sent by a server (§3.15.2.1).
    ServerAuth,
}

impl ReasonCode {
    /// The Reason Code of this number, or `None` where MQTT 5.0 defines none.
    #[must_use]
    pub fn from_u8(code: u8) -> Option<Self> {
        ALL.iter().copied().find(|reason| *reason as u8 == code)
    }

    /// Whether the code reports a failure: 0x80 and above (§2.4).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code MQTT 3.1 and 3.1.1 know for this reason, 0 to 5. Same mapping as
    /// RabbitMQ: what 3.x has no number for becomes 3, Server unavailable.
    #[must_use]
    pub const fn connack_return_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::QuotaExceeded => 5,
            _ => 3,
        }
    }

    /// Whether the specification allows the code in that packet.
    #[must_use]
    pub fn allowed_in(self, set: ReasonCodeSet) -> bool {
        let code = self as u8;
        match set {
            // [MQTT-3.2.2-8]
            ReasonCodeSet::ConnAck => matches!(
                code,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F
            ),
            // [MQTT-3.4.2-1], [MQTT-3.5.2-1]
            ReasonCodeSet::PubAckOrPubRec => matches!(
                code,
                0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
            ),
            // [MQTT-3.6.2-1], [MQTT-3.7.2-1]
            ReasonCodeSet::PubRelOrPubComp => matches!(code, 0x00 | 0x92),
            // [MQTT-3.9.3-2]
            ReasonCodeSet::SubAck => matches!(
                code,
                0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
            ),
            // [MQTT-3.11.3-2]
            ReasonCodeSet::UnsubAck => {
                matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
            }
            // [MQTT-3.14.2-1]
            ReasonCodeSet::ClientDisconnect => {
                matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
            }
            ReasonCodeSet::ServerDisconnect => matches!(
                code,
                0x00 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2
            ),
            // [MQTT-3.15.2-1]
            ReasonCodeSet::ClientAuth => matches!(code, 0x18 | 0x19),
            ReasonCodeSet::ServerAuth => matches!(code, 0x00 | 0x18),
        }
    }
}

/// Every code, in order of number.
const ALL: [ReasonCode; 43] = [
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::DisconnectWithWillMessage,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::ContinueAuthentication,
    ReasonCode::ReAuthenticate,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerUnavailable,
    ReasonCode::ServerBusy,
    ReasonCode::Banned,
    ReasonCode::ServerShuttingDown,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::PacketIdentifierNotFound,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways() {
        let known = (0..=u8::MAX)
            .filter_map(ReasonCode::from_u8)
            .collect::<Vec<_>>();
        assert_eq!(known, ALL);
        for code in 0..=u8::MAX {
            if let Some(reason) = ReasonCode::from_u8(code) {
                assert_eq!(reason as u8, code);
            }
        }
    }

    #[test]
    fn return_codes_of_3_x() {
        let rows = [
            (0x00, 0),
            (0x84, 1),
            (0x85, 2),
            (0x86, 4),
            (0x87, 5),
            (0x97, 5),
            (0x88, 3),
        ];
        for (code, expect) in rows {
            let got = ReasonCode::from_u8(code).map(ReasonCode::connack_return_code);
            assert_eq!(got, Some(expect), "{code:#04x}");
        }
        assert_eq!(ReasonCode::Banned.connack_return_code(), 3);
    }
}
