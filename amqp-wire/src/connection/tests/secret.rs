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
    let restricted = vec![("guest", "/", [".*"; 3])];
    for (user, vhost, patterns) in restricted {
        let set = node.broker.set_permissions(user, vhost, patterns);
        set.expect("may be set");
    }
    assert_eq!(client.ask(0, update()), ["0 connection.update-secret-ok"]);
}
