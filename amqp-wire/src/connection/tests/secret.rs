//! `connection.update-secret` on an open connection.

use super::client::*;
use crate::method::*;

fn update() -> ClientMethod<'static> {
    ClientMethod::ConnectionUpdateSecret(ConnectionUpdateSecret {
        new_secret: LongString(b"whatever"),
        reason: "it is time",
    })
}

/// FEATURES A2: a user of the node's own database may show what it likes, as long as it may be
/// there.
#[test]
fn a2_update_secret() {
    let node = node();
    let mut client = Client::open(&node);
    assert_eq!(client.ask(0, update()), ["0 connection.update-secret-ok"]);
    let open = ClientMethod::ChannelOpen(ChannelOpen::default());
    assert_eq!(client.ask(2, open), ["2 channel.open-ok"]);
    // It loses the vhost, and asks before it hears of that.
    let cleared = node.broker.clear_permissions("guest", "/");
    cleared.expect("were set");
    let expected = "0 connection.close 530 10.70 NOT_ALLOWED - New secret was refused by one of \
         the backends";
    assert_eq!(client.ask(0, update()), [expected]);
}
