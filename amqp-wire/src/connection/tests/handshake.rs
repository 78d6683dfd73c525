//! Opening, tuning, logins, heartbeats and the ways a connection ends.

use std::sync::Arc;

use leveret_core::field::Value;
use leveret_core::login::Verdict;
use leveret_core::peer::CloseReason;
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::client::*;
use super::confirm::on_disk;
use crate::connection::Connection;
use crate::frame;
use crate::method::*;
use crate::node::Node;
use crate::options::Options;

const REFUSED: &str = "0 connection.close 403 0.0 ACCESS_REFUSED - Login was refused using \
     authentication mechanism PLAIN. For details see the broker logfile.";

#[test]
fn protocol_headers() {
    // (input, taken for AMQP 0-9-1, refused)
    let cases: &[(&[u8], bool, bool)] = &[
        (b"AMQP\x00\x00\x09\x01", true, false),
        (b"AMQP\x01\x01\x00\x09", true, false),
        (b"AMQP\x00\x01\x00\x00", false, true),
        (b"AMQP\x03\x01\x00\x00", false, true),
        (b"AMQP\x00\x00\x09", false, false),
        (b"AM", false, false),
        (b"G", false, true),
        (b"GET / HTTP/1.1\r\n\r\n", false, true),
        (b"\x16\x03\x01\x02\x00", false, true),
        (b"\x10\x0C\x00\x04MQTT", false, true),
    ];
    for (input, started, refused) in cases {
        let mut client = Client::accepted(&node());
        client.feed(input);
        let expected: &[&str] = match (started, refused) {
            (true, _) => &["0 connection.start"],
            (_, true) => &["header"],
            _ => &[],
        };
        assert_eq!(client.lines(), expected, "{input:02x?}");
        assert_eq!(client.machine.is_closed(), *refused, "{input:02x?}");
    }
}

#[test]
fn mechanisms() {
    let amq_plain = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "PLAIN",
            b"\0guest\0guest",
            "0 connection.tune 2047 131072 60",
        ),
        ("AMQPLAIN", amq_plain, "0 connection.tune 2047 131072 60"),
        ("ANONYMOUS", b"", "0 connection.tune 2047 131072 60"),
        (
            "PLAIN",
            b"guest",
            "0 connection.close 502 10.11 SYNTAX_ERROR - response to PLAIN is malformed",
        ),
        (
            "AMQPLAIN",
            b"\x05LOGINS\0\0\0\x05guest",
            "0 connection.close 502 10.11 SYNTAX_ERROR - response to AMQPLAIN is malformed",
        ),
        (
            "EXTERNAL",
            b"",
            "0 connection.close 503 10.11 COMMAND_INVALID - invalid authentication mechanism \
             'EXTERNAL'",
        ),
        (
            "plain",
            b"",
            "0 connection.close 503 10.11 COMMAND_INVALID - unknown authentication mechanism \
             'plain'",
        ),
    ];
    for (mechanism, response, expected) in cases {
        let mut client = Client::accepted(&node());
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, mechanism, response);
        client.feed(&bytes);
        assert_eq!(client.lines(), ["0 connection.start", expected]);
    }
}

#[test]
fn logins_refused() {
    let rows = [
        (Verdict::Refused, "127.0.0.1:1"),
        (Verdict::Unavailable, "127.0.0.1:1"),
        // The default user may come over loopback only.
        (Verdict::Accepted, "192.0.2.1:1"),
    ];
    for (verdict, peer) in rows {
        let mut client = Client::accepted_from(&node(), peer);
        client.verdict = verdict;
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
        client.feed(&bytes);
        assert_eq!(client.lines(), ["0 connection.start", REFUSED]);
        client.send(0, ClientMethod::ConnectionCloseOk(ConnectionCloseOk {}));
        assert!(client.machine.is_closed());
    }
}

#[test]
fn a_client_that_cannot_be_told_hears_nothing_for_three_seconds() {
    let mut client = Client::accepted(&node());
    client.verdict = Verdict::Refused;
    let mut bytes = HEADER.to_vec();
    let method = ConnectionStartOk {
        mechanism: "PLAIN",
        response: LongString(b"\0guest\0wrong"),
        ..ConnectionStartOk::default()
    };
    ClientMethod::ConnectionStartOk(method).encode(0, &mut bytes);
    client.feed(&bytes);
    assert_eq!(client.lines(), ["0 connection.start"]);
    assert_eq!(client.machine.poll_timeout(), Some(Time(4_000)));
    client.turn.now = Time(4_000);
    client.machine.handle_timeout(&mut client.turn);
    assert!(client.machine.is_closed());
}

#[test]
fn tuning() {
    let close =
        |what: &str| format!("0 connection.close 530 10.30 NOT_ALLOWED - negotiated {what}");
    let rows = [
        (2047, 131_072, None),
        (1, 4_096, None),
        (
            0,
            8_192,
            Some(close(
                "channel_max = 0 is higher than the maximum allowed value (2047)",
            )),
        ),
        (
            2_048,
            8_192,
            Some(close(
                "channel_max = 2048 is higher than the maximum allowed value (2047)",
            )),
        ),
        (
            1,
            4_095,
            Some(close(
                "frame_max = 4095 is lower than the minimum allowed value (4096)",
            )),
        ),
        (
            1,
            0,
            Some(close(
                "frame_max = 0 is higher than the maximum allowed value (131072)",
            )),
        ),
        (
            1,
            131_073,
            Some(close(
                "frame_max = 131073 is higher than the maximum allowed value (131072)",
            )),
        ),
    ];
    for (channel_max, frame_max, expected) in rows {
        let mut client = Client::accepted(&node());
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
        client.feed(&bytes);
        client.lines();
        let method = ConnectionTuneOk {
            channel_max,
            frame_max,
            heartbeat: 0,
        };
        let found = client.ask(0, ClientMethod::ConnectionTuneOk(method));
        assert_eq!(found.first(), expected.as_ref());
    }
}

/// FEATURES A2: where the server has no limit, a client may have none as well, or one of its own.
#[test]
fn a2_limits_that_are_none() {
    for (channel_max, frame_max) in [(0, 0), (u16::MAX, 1 << 30), (10, 8_192)] {
        let options = Options {
            channel_max: 0,
            frame_max: 0,
            ..Options::default()
        };
        let mut client = Client::accepted(&Node::new(Arc::clone(&node().broker), options));
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
        client.feed(&bytes);
        assert_eq!(client.lines()[1], "0 connection.tune 0 0 60");
        let method = ConnectionTuneOk {
            channel_max,
            frame_max,
            heartbeat: 0,
        };
        let mut bytes = Vec::new();
        ClientMethod::ConnectionTuneOk(method).encode(0, &mut bytes);
        let open = ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        };
        ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, &mut bytes);
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(u16::MAX, &mut bytes);
        client.feed(&bytes);
        let found = client.lines();
        let expected = [
            "0 connection.open-ok",
            "1 channel.open-ok",
            "65535 channel.open-ok",
        ];
        assert_eq!(found, expected, "{channel_max} {frame_max}");
        // A message in one frame, as the client has it.
        client.declare("q");
        let body = "x".repeat(900_000);
        let mut bytes = Vec::new();
        let method = BasicPublish {
            routing_key: "q",
            ..BasicPublish::default()
        };
        ClientMethod::BasicPublish(method).encode(1, &mut bytes);
        crate::content::encode(&mut bytes, 1, &[0, 0], body.as_bytes(), frame_max);
        client.feed(&bytes);
        assert_eq!(
            client.get("q", true),
            ["1 basic.get-ok 1 '' q left=0 (900000 bytes)"]
        );
    }
}

/// FEATURES D5: where the server has no limit, no client makes a frame larger than 128 MiB by
/// naming a limit of its own; its first seven bytes are enough.
#[test]
fn d5_no_client_names_a_limit_that_is_none() {
    for frame_max in [0, u32::MAX] {
        let options = Options {
            frame_max: 0,
            ..Options::default()
        };
        let mut client = Client::accepted(&Node::new(Arc::clone(&node().broker), options));
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
        tune_ok(&mut bytes, frame_max);
        let open = ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        };
        ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
        client.feed(&bytes);
        assert_eq!(client.lines().last().expect("some"), "0 connection.open-ok");
        let size: u32 = 129 * 1024 * 1024;
        let mut head = vec![3, 0, 1];
        head.extend_from_slice(&size.to_be_bytes());
        client.feed(&head);
        assert_eq!(
            client.lines(),
            [
                "0 connection.close 501 0.0 FRAME_ERROR - type 3, all octets = <<>>: \
                 {frame_too_large,135266304,134217720}"
            ],
            "{frame_max}"
        );
    }
}

#[test]
fn channel_max_is_kept() {
    let mut client = Client::accepted(&node());
    let mut bytes = HEADER.to_vec();
    start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
    let method = ConnectionTuneOk {
        channel_max: 2,
        frame_max: 8_192,
        heartbeat: 0,
    };
    ClientMethod::ConnectionTuneOk(method).encode(0, &mut bytes);
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
    for channel in [2, 1, 3] {
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(channel, &mut bytes);
    }
    client.feed(&bytes);
    let expected = [
        "2 channel.open-ok",
        "1 channel.open-ok",
        "0 connection.close 530 20.10 NOT_ALLOWED - number of channels opened (2) has reached \
         the negotiated channel_max (2)",
    ];
    assert_eq!(client.lines()[3..], expected);
}

#[test]
fn vhosts_refused() {
    let rows = [
        (
            "nowhere",
            "0 connection.close 530 10.40 NOT_ALLOWED - vhost nowhere not found",
        ),
        (
            "other",
            "0 connection.close 530 10.40 NOT_ALLOWED - access to vhost 'other' refused for user \
             'guest'",
        ),
    ];
    for (virtual_host, expected) in rows {
        let node = node();
        node.broker.add_vhost("other").expect("a new vhost");
        let mut client = Client::accepted(&node);
        let mut bytes = HEADER.to_vec();
        start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
        tune_ok(&mut bytes, FRAME_MAX);
        client.feed(&bytes);
        client.lines();
        let open = ConnectionOpen {
            virtual_host,
            ..ConnectionOpen::default()
        };
        assert_eq!(
            client.ask(0, ClientMethod::ConnectionOpen(open)),
            [expected]
        );
    }
}

fn timeout(client: &mut Client, now: u64) -> Vec<String> {
    client.turn.now = Time(now);
    client.machine.handle_timeout(&mut client.turn);
    client.lines()
}

#[test]
fn handshake_must_end() {
    let mut client = Client::accepted(&node());
    client.feed(HEADER);
    assert_eq!(client.machine.poll_timeout(), Some(Time(11_000)));
    timeout(&mut client, 10_999);
    assert!(!client.machine.is_closed());
    timeout(&mut client, 11_000);
    assert!(client.machine.is_closed());
}

#[test]
fn heartbeats() {
    let mut client = Client::open(&node());
    assert_eq!(client.machine.poll_timeout(), Some(Time(31_000)));
    assert!(timeout(&mut client, 30_999).is_empty());
    assert_eq!(timeout(&mut client, 31_000), ["heartbeat"]);
    assert_eq!(client.machine.poll_timeout(), Some(Time(61_000)));
    // What the client sends keeps it alive.
    client.turn.now = Time(60_000);
    client.feed(b"\x08\0\0\0\0\0\0\xCE");
    assert_eq!(timeout(&mut client, 179_999), ["heartbeat"]);
    assert!(!client.machine.is_closed());
    timeout(&mut client, 180_000);
    assert!(client.machine.is_closed());
}

#[test]
fn input_that_makes_no_progress_is_no_sign_of_life() {
    let mut client = Client::open(&node());
    client.feed(b"\x01\0");
    client.turn.now = Time(100_000);
    client.feed(b"");
    timeout(&mut client, 121_000);
    assert!(client.machine.is_closed());
}

#[test]
fn client_closes() {
    let node = node();
    let mut client = Client::open(&node);
    let queue = QueueDeclare {
        queue: "mine",
        exclusive: true,
        ..QueueDeclare::default()
    };
    client.send(1, ClientMethod::QueueDeclare(queue));
    client.lines();
    let close = ConnectionClose {
        reply_code: 200,
        reply_text: "bye",
        ..Default::default()
    };
    let found = client.ask(0, ClientMethod::ConnectionClose(close));
    assert_eq!(found, ["0 connection.close-ok"]);
    // The stream is left to the client, but not for ever.
    assert!(!client.machine.is_closed());
    // Who hears that finds the exclusive queue gone.
    assert!(
        node.broker
            .vhost("/")
            .expect("the default")
            .queue("mine")
            .is_none()
    );
    assert_eq!(node.broker.peer_count(), 1);
    let end = client.turn.now.after_ms(crate::limits::STREAM_LEFT_MS);
    client.wait_until(end);
    assert!(client.machine.is_closed());
    client.hang_up();
    assert_eq!(node.broker.peer_count(), 0);
}

#[test]
fn broker_closes() {
    let rows = [
        (
            CloseReason::Shutdown,
            "broker forced connection closure with reason 'shutdown'",
        ),
        (
            CloseReason::Administrator("Closed via management".into()),
            "Closed via management",
        ),
        (
            CloseReason::VHostDeleted("v".into()),
            "vhost 'v' is deleted",
        ),
        (
            CloseReason::PluginDisabled,
            "the listener's plugin was disabled",
        ),
    ];
    for (why, text) in rows {
        let node = node();
        let mut client = Client::open(&node);
        assert_eq!(node.broker.close_peers(&why, |_| true), 1);
        let expected = format!("0 connection.close 320 0.0 CONNECTION_FORCED - {text}");
        assert_eq!(client.lines(), [expected]);
        // What the client had sent before it heard of it is discarded.
        client.publish("", "q", "late");
        assert!(client.lines().is_empty());
        assert_eq!(timeout(&mut client, 5_999), [""; 0]);
        assert!(!client.machine.is_closed());
        timeout(&mut client, 6_000);
        assert!(client.machine.is_closed());
    }
}

#[test]
fn broker_closes_before_anything_was_said() {
    let node = node();
    let mut client = Client::accepted(&node);
    node.broker.close_peers(&CloseReason::Shutdown, |_| true);
    assert!(client.lines().is_empty());
    assert!(client.machine.is_closed());
}

#[test]
fn listings() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    client.publish("", "q", "1");
    client.consume("q", false);
    let (_, peer) = node.broker.peers().remove(0);
    let view = peer.view();
    assert_eq!(
        (&*view.user, &*view.vhost, view.state),
        ("guest", "/", "running")
    );
    assert_eq!(
        (view.channels, view.unacked, view.channel_max),
        (1, 1, 2047)
    );
    assert_eq!(
        (view.frame_max, view.timeout_s, &*view.auth_mechanism),
        (131_072, 60, "PLAIN")
    );
    assert!(view.received_bytes > 0 && view.sent_bytes > 0);
    assert!(view.client_properties.lookup("capabilities").is_some());
}

/// What the driver needs of the machine.
#[test]
fn machines_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Connection>();
}

/// FEATURES O2: what listings tell of channels, and when they tell it.
#[test]
fn o2_channels_are_listed() {
    let (disk, mut client) = on_disk();
    let node = Arc::clone(&client.node);
    let listed = |number: u16| {
        let (_, peer) = node.broker.peers().remove(0);
        let found = peer.channels().into_iter();
        let view = found.into_iter().find(|view| view.number == number);
        let view = view.expect("an open channel");
        let modes = (view.confirm, view.transactional);
        let windows = (view.prefetch, view.global_prefetch);
        let counts = (view.unconfirmed, view.uncommitted, view.acks_uncommitted);
        (modes, windows, counts)
    };
    let expected = |confirm, tx, windows: [u32; 2], counts: [u64; 3]| {
        (
            (Some(confirm), Some(tx)),
            (Some(windows[0]), Some(windows[1])),
            (Some(counts[0]), Some(counts[1]), Some(counts[2])),
        )
    };
    assert_eq!(listed(1), expected(false, false, [0, 0], [0, 0, 0]));
    client.send(1, qos(7, false));
    client.send(1, ClientMethod::ConfirmSelect(ConfirmSelect::default()));
    let persistent = BasicProperties {
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    (0..3).for_each(|_| publish(&mut bytes, "", "q", &persistent, b"m"));
    client.feed(&bytes);
    assert_eq!(listed(1), expected(true, false, [7, 0], [3, 0, 0]));
    disk.sync();
    client.lines();
    client.send(1, qos(9, true));
    assert_eq!(listed(1), expected(true, false, [7, 9], [0, 0, 0]));

    for method in [
        ClientMethod::ChannelOpen(ChannelOpen::default()),
        ClientMethod::TxSelect(TxSelect {}),
        consume("q", "c", false),
    ] {
        client.send(2, method);
    }
    let ack = ClientMethod::BasicAck(BasicAck {
        delivery_tag: 2,
        multiple: true,
    });
    client.send(2, ack);
    let method = BasicPublish {
        routing_key: "q",
        ..BasicPublish::default()
    };
    let mut bytes = Vec::new();
    ClientMethod::BasicPublish(method).encode(2, &mut bytes);
    crate::content::encode(&mut bytes, 2, &[0, 0], b"m", FRAME_MAX);
    client.feed(&bytes);
    assert_eq!(listed(2), expected(false, true, [0, 0], [0, 1, 2]));
    client.send(2, ClientMethod::TxRollback(TxRollback {}));
    assert_eq!(listed(2), expected(false, true, [0, 0], [0, 0, 0]));
}

/// FEATURES A2: clients decide by product, version and capabilities.
#[test]
fn a2_what_the_server_says_of_itself() {
    let mut client = Client::accepted(&node());
    client.machine.handle_input(&mut client.turn, HEADER);
    let mut output = Vec::new();
    client.machine.poll_output(&mut output);
    let (frame, _) = frame::decode(&output, 0).expect("legal").expect("whole");
    let Ok(ServerMethod::ConnectionStart(start)) = ServerMethod::decode(frame.payload) else {
        panic!("no connection.start: {output:02x?}");
    };
    let properties = start.server_properties.to_table();
    for (name, expected) in [
        ("product", "RabbitMQ"),
        ("version", "4.3.0"),
        ("leveret_version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(
            properties.lookup(name),
            Some(&Value::from(expected)),
            "{name}"
        );
    }
    let Some(Value::Table(capabilities)) = properties.lookup("capabilities") else {
        panic!("no capabilities: {properties:?}");
    };
    let mut able: Vec<_> = capabilities
        .iter()
        .filter(|(_, value)| **value == Value::Bool(true))
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    able.sort();
    let expected = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "consumer_priorities",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    ];
    assert_eq!(able, expected);
}
