//! `connection.update-secret`: logging in again on an open connection.

use leveret_core::login::Verdict;

use super::client::*;
use crate::method::*;

fn update() -> ClientMethod<'static> {
    ClientMethod::ConnectionUpdateSecret(ConnectionUpdateSecret {
        new_secret: LongString(b"new"),
        reason: "it is time",
    })
}

/// FEATURES A2: a secret that is right changes nothing, any other ends the connection.
#[test]
fn a2_update_secret() {
    let refused = "0 connection.close 530 10.70 NOT_ALLOWED - New secret was refused by one of \
         the backends";
    let failed = "0 connection.close 530 10.70 NOT_ALLOWED - Secret update failed";
    let rows = [
        (Verdict::Accepted, "0 connection.update-secret-ok"),
        (Verdict::Refused, refused),
        (Verdict::Unavailable, failed),
    ];
    for (verdict, expected) in rows {
        let mut client = Client::open(&node());
        client.verdict = verdict;
        assert_eq!(client.ask(0, update()), [expected]);
        let open = ClientMethod::ChannelOpen(ChannelOpen::default());
        let goes_on = client.ask(2, open) == ["2 channel.open-ok"];
        assert_eq!(goes_on, verdict == Verdict::Accepted);
    }
}
