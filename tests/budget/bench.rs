//! A broker in memory with MQTT connections that are fed by hand: everything but the sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::login::{Reply, Verdict};
use leveret_core::peer::Accepted;
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_mqtt::packet::publish::{self, OutgoingPublish};
use leveret_mqtt::packet::subscribe::SubscriptionOptions;
use leveret_mqtt::packet::{ProtocolVersion, QoS, connect, subscribe};
use leveret_mqtt::{Connection, Node};

/// The broker, and the turn of its only worker.
pub(crate) struct Bench {
    node: Arc<Node>,
    pub(crate) turn: Turn,
}

/// A client's connection with what it has received.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) received: Vec<u8>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let broker = Broker::open(
            leveret_core::options::Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        )
        .expect("an empty broker opens");
        let options = leveret_mqtt::options::Options::default();
        Self {
            node: Node::new(broker, options),
            turn: Turn::new(),
        }
    }

    /// A client that is logged in.
    pub(crate) fn connect(&mut self, client_id: &str) -> Client {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
        let accepted = Accepted {
            peer: address,
            local: address,
            listener: "test".into(),
            vhost: None,
        };
        let mut connection = Connection::new(&self.node, accepted, Time(1));
        let mut packet = Vec::new();
        connect::Connect {
            version: ProtocolVersion::V4,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: connect::ConnectProperties::default(),
        }
        .encode(&mut packet)
        .expect("CONNECT fits");
        assert_eq!(
            connection.handle_input(&mut self.turn, &packet),
            packet.len()
        );
        assert!(connection.poll_request().is_some());
        connection.handle_reply(&mut self.turn, Reply::Login(Verdict::Accepted));
        let mut client = Client {
            connection,
            received: Vec::with_capacity(1 << 16),
        };
        client.drain();
        assert_eq!(client.received, [0x20, 2, 0, 0]);
        client.received.clear();
        client
    }

    /// Feeds bytes to a client and ends the turn, as the driver does.
    pub(crate) fn feed(&mut self, client: &mut Client, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let consumed = client.connection.handle_input(&mut self.turn, rest);
            assert!(consumed > 0, "whole packets are taken");
            rest = &rest[consumed..];
        }
        client.drain();
        self.turn.ring();
    }

    pub(crate) fn subscribe(&mut self, client: &mut Client, filter: &str, qos: QoS) {
        let mut packet = Vec::new();
        let options = SubscriptionOptions::new(qos);
        let filters = [subscribe::Subscription { filter, options }];
        let id = NonZeroU16::MIN;
        subscribe::encode(&mut packet, ProtocolVersion::V4, id, &[], &filters)
            .expect("SUBSCRIBE fits");
        self.feed(client, &packet);
        client.received.clear();
    }
}

impl Client {
    /// Takes what is to be written, as the driver does after each wake-up.
    pub(crate) fn drain(&mut self) {
        self.connection.doorbell().answer();
        self.connection.poll_output(&mut self.received);
    }
}

/// A PUBLISH of 64 bytes.
pub(crate) fn publish(topic: &str, qos: QoS, packet_id: Option<NonZeroU16>) -> Vec<u8> {
    let mut packet = Vec::new();
    let outgoing = OutgoingPublish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id,
        properties: &[],
        payload: &[7; 64],
    };
    publish::encode(&mut packet, ProtocolVersion::V4, &outgoing).expect("PUBLISH fits");
    packet
}
