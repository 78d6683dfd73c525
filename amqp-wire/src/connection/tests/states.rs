//! Every method in every state of a connection and of a channel, and what comes back.
//!
//! The answers were compared with RabbitMQ's, but for those marked: where RabbitMQ says nothing
//! and closes the stream, or dies of it, the client is told here.

use super::client::*;
use crate::frame::{self, FrameKind};
use crate::method::*;

/// Every method of a client, with nothing in it.
fn methods() -> Vec<ClientMethod<'static>> {
    let decode = |id: &MethodId| {
        // No method has more: strings and tables without anything in them, numbers that are 0.
        (0..=24).find_map(|bytes| {
            let payload: &'static [u8] =
                Vec::leak([&id.to_be_bytes()[..], &vec![0; bytes]].concat());
            ClientMethod::decode(payload).ok()
        })
    };
    let all: Vec<_> = ClientMethod::IDS.iter().filter_map(decode).collect();
    assert_eq!(all.len(), ClientMethod::IDS.len());
    all
}

fn last(client: &mut Client) -> String {
    client.lines().last().cloned().unwrap_or_default()
}

/// An expectation with the method's ids in the place of `#`.
fn check(client: &mut Client, channel: u16, method: ClientMethod<'_>, state: &str, want: &str) {
    client.send(channel, method);
    let want = want.replace('#', &method.id().to_string());
    let found = last(client);
    // Names that the server makes are its own business.
    let found = found.split(" amq.gen-").next().unwrap_or_default();
    assert_eq!(found, want, "{} {state}", method.name());
}

/// FEATURES A2: before the connection is open, each method has its time.
#[test]
fn a2_every_method_while_a_connection_opens() {
    let mut header = HEADER.to_vec();
    let mut start = header.clone();
    start_ok(&mut start, "PLAIN", b"\0guest\0guest");
    let mut tune = start.clone();
    tune_ok(&mut tune, FRAME_MAX);
    // (state, what leads there, its own method)
    let rows = [
        ("starting", &mut header, ConnectionStartOk::ID),
        ("tuning", &mut start, ConnectionTuneOk::ID),
        ("opening", &mut tune, ConnectionOpen::ID),
    ];
    for (state, bytes, own) in rows {
        for method in methods() {
            let mut client = Client::accepted(&node());
            client.feed(bytes);
            client.lines();
            let expected = if method.id() == ConnectionClose::ID {
                // RabbitMQ says nothing and closes the stream.
                "0 connection.close-ok".to_owned()
            } else if method.id() == own {
                match state {
                    "starting" => {
                        "0 connection.close 503 # COMMAND_INVALID - unknown \
                                   authentication mechanism ''"
                    }
                    "tuning" => {
                        "0 connection.close 530 10.30 NOT_ALLOWED - negotiated frame_max \
                                 = 0 is higher than the maximum allowed value (131072)"
                    }
                    _ => "0 connection.close 530 # NOT_ALLOWED - vhost  not found",
                }
                .to_owned()
            } else {
                format!(
                    "0 connection.close 504 # CHANNEL_ERROR - unexpected method in connection \
                     state {state}"
                )
            };
            check(&mut client, 0, method, state, &expected);
            assert!(client.machine.is_closed() || client.lines().is_empty());
        }
        // Channels do not exist yet.
        let mut client = Client::accepted(&node());
        client.feed(bytes);
        client.lines();
        client.send(1, ClientMethod::ChannelOpen(ChannelOpen::default()));
        let expected = "0 connection.close 505 0.0 UNEXPECTED_FRAME - type 1, all octets = \
             <<0,20,0,10,0>>";
        assert_eq!(last(&mut client), expected, "{state}");
    }
}

/// FEATURES A2: an open connection itself takes two methods, and the one that ends it.
#[test]
fn a2_every_method_on_channel_0() {
    for method in methods() {
        let expected = match method.id() {
            ConnectionClose::ID => "0 connection.close-ok",
            ConnectionUpdateSecret::ID => "0 connection.update-secret-ok",
            _ => {
                "0 connection.close 504 # CHANNEL_ERROR - unexpected method in connection state \
                  running"
            }
        };
        let mut client = Client::open(&node());
        check(&mut client, 0, method, "running", expected);
    }
}

/// FEATURES A2: a channel that is not open takes nothing but its opening.
#[test]
fn a2_every_method_on_a_channel_that_is_not_open() {
    for method in methods() {
        let expected = match method.id() {
            ChannelOpen::ID => "2 channel.open-ok",
            _ => "0 connection.close 504 # CHANNEL_ERROR - expected 'channel.open'",
        };
        let mut client = Client::open(&node());
        check(&mut client, 2, method, "not open", expected);
    }
}

/// What an open channel that has done nothing says to a method with nothing in it.
fn on_an_open_channel(id: MethodId) -> &'static str {
    match id {
        ChannelOpen::ID => "0 connection.close 504 # CHANNEL_ERROR - second 'channel.open' seen",
        ChannelFlow::ID => "0 connection.close 540 # NOT_IMPLEMENTED - active=false",
        ChannelClose::ID => "1 channel.close-ok",
        AccessRequest::ID => "1 access.request-ok",
        // 3.10 has 503.
        ExchangeDeclare::ID => {
            "1 channel.close 406 # PRECONDITION_FAILED - invalid exchange type ''"
        }
        ExchangeDelete::ID | ExchangeBind::ID | ExchangeUnbind::ID => {
            "1 channel.close 403 # ACCESS_REFUSED - operation not permitted on the default exchange"
        }
        QueueDeclare::ID => "1 queue.declare-ok",
        QueueBind::ID | QueueUnbind::ID | QueuePurge::ID | QueueDelete::ID => NO_QUEUE,
        BasicConsume::ID | BasicGet::ID => NO_QUEUE,
        BasicQos::ID => "1 basic.qos-ok",
        BasicPublish::ID => "",
        BasicReject::ID | BasicAck::ID | BasicNack::ID => {
            "1 channel.close 406 # PRECONDITION_FAILED - unknown delivery tag 0"
        }
        BasicRecover::ID | BasicRecoverAsync::ID => {
            "0 connection.close 540 # NOT_IMPLEMENTED - requeue=false"
        }
        BasicCancel::ID => "1 basic.cancel-ok ",
        ConfirmSelect::ID => "1 confirm.select-ok",
        TxSelect::ID => "1 tx.select-ok",
        TxCommit::ID | TxRollback::ID => {
            "1 channel.close 406 # PRECONDITION_FAILED - channel is not transactional"
        }
        // Methods of connections, and answers to what was never asked.
        _ => "0 connection.close 503 # COMMAND_INVALID - unimplemented method",
    }
}

const NO_QUEUE: &str = "1 channel.close 404 # NOT_FOUND - no previously declared queue";

/// FEATURES A2.
#[test]
fn a2_every_method_on_an_open_channel() {
    for method in methods() {
        let mut client = Client::open(&node());
        check(
            &mut client,
            1,
            method,
            "open",
            on_an_open_channel(method.id()),
        );
    }
}

/// FEATURES A2: content is content, whatever method comes instead.
#[test]
fn a2_every_method_in_the_middle_of_a_message() {
    let begin = ClientMethod::BasicPublish(BasicPublish::default());
    let header = [&[0, 60, 0, 0][..], &2_u64.to_be_bytes(), &[0, 0]].concat();
    let rows = [
        (
            false,
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content header for class \
             60, got non content header frame instead",
        ),
        (
            true,
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content body, got non \
             content body frame instead",
        ),
    ];
    for (with_header, expected) in rows {
        for method in methods() {
            let mut client = Client::open(&node());
            client.send(1, begin);
            if with_header {
                let mut bytes = Vec::new();
                frame::with_payload(&mut bytes, FrameKind::Header, 1, |out| {
                    out.extend_from_slice(&header);
                });
                client.feed(&bytes);
            }
            check(&mut client, 1, method, "in a message", expected);
        }
    }
}

/// FEATURES A2: a channel that the server has closed hears nothing but that the client agrees.
#[test]
fn a2_every_method_on_a_channel_that_was_closed() {
    for method in methods() {
        let mut client = Client::open(&node());
        client.publish("nowhere", "k", "m");
        assert!(last(&mut client).starts_with("1 channel.close 404"));
        let expected = match method.id() {
            ChannelClose::ID => "1 channel.close-ok",
            _ => "",
        };
        check(&mut client, 1, method, "closing", expected);
        let agreed = method.id() == ChannelCloseOk::ID;
        client.send(1, ClientMethod::ChannelOpen(ChannelOpen::default()));
        assert_eq!(last(&mut client) == "1 channel.open-ok", agreed);
        // Nobody else notices.
        client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
        assert_eq!(last(&mut client), "2 channel.open-ok");
    }
}

/// FEATURES A2: a connection that the server has closed hears nothing but that the client agrees.
#[test]
fn a2_every_method_on_a_connection_that_was_closed() {
    for channel in [0, 1, 2] {
        for method in methods() {
            let mut client = Client::open(&node());
            client.send(0, ClientMethod::TxSelect(TxSelect {}));
            assert!(last(&mut client).starts_with("0 connection.close 504"));
            let own = channel == 0;
            let expected = match method.id() {
                ConnectionClose::ID if own => "0 connection.close-ok",
                _ => "",
            };
            check(&mut client, channel, method, "closing", expected);
            let ends = own && [ConnectionClose::ID, ConnectionCloseOk::ID].contains(&method.id());
            assert_eq!(client.machine.is_closed(), ends, "{}", method.name());
        }
    }
}

/// FEATURES A2: every kind of frame where it has no place.
#[test]
fn a2_frames_out_of_order() {
    let raw = |kind, channel, payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::with_payload(&mut bytes, kind, channel, |out| {
            out.extend_from_slice(payload)
        });
        bytes
    };
    let no_method = "0 connection.close 505 0.0 UNEXPECTED_FRAME - expected method frame, got non \
         method frame instead";
    let unexpected = |kind: u8, octets: &str| {
        format!("0 connection.close 505 0.0 UNEXPECTED_FRAME - type {kind}, all octets = {octets}")
    };
    let rows = [
        (
            raw(FrameKind::Header, 0, b"ab"),
            unexpected(2, "<<\"ab\">>"),
        ),
        (raw(FrameKind::Body, 0, &[1]), unexpected(3, "<<1>>")),
        (raw(FrameKind::Heartbeat, 1, b""), unexpected(8, "<<>>")),
        (raw(FrameKind::Heartbeat, 9, b""), unexpected(8, "<<>>")),
        (
            raw(FrameKind::Heartbeat, 0, b"x"),
            "0 connection.close 501 0.0 FRAME_ERROR - type 8, all octets = <<\"x\">>: \
             unknown_frame"
                .to_owned(),
        ),
        (raw(FrameKind::Header, 1, &[0; 14]), no_method.to_owned()),
        (raw(FrameKind::Body, 1, b"x"), no_method.to_owned()),
        (raw(FrameKind::Header, 9, &[0; 14]), no_method.to_owned()),
        (raw(FrameKind::Body, 9, b"x"), no_method.to_owned()),
        (
            b"\x04\0\x01\0\0\0\x02\0\x01\xCE".to_vec(),
            "0 connection.close 501 0.0 FRAME_ERROR - type 4, all octets = <<0,1>>: unknown_frame"
                .to_owned(),
        ),
        (raw(FrameKind::Heartbeat, 0, b""), String::new()),
    ];
    for (bytes, expected) in rows {
        let mut client = Client::open(&node());
        client.feed(&bytes);
        assert_eq!(last(&mut client), expected, "{bytes:02x?}");
    }
}
