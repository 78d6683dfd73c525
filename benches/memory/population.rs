//! Many clients in memory, without sockets: machines as the broker holds them after login, and
//! sessions whose clients have gone.
//!
//! Whoever includes this says how memory is measured.

use std::fmt::Display;
use std::num::NonZeroU16;
use std::sync::Arc;

use leveret_amqp::method::{
    ChannelOpen, ClientMethod, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, LongString,
};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::journal::MemoryJournal;
use leveret_core::login::{Reply, Verdict};
use leveret_core::options::Options;
use leveret_core::peer::{Accepted, Origin};
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_mqtt::packet::connect::{Connect, ConnectProperties};
use leveret_mqtt::packet::subscribe::{self, SubscriptionOptions};
use leveret_mqtt::packet::{ProtocolVersion, QoS};
use leveret_net::driver::Driver;
use leveret_net::machine::Machine;
use tokio::net::TcpStream;

/// Connections without an argument, and where it is only to be seen that this runs.
const MANY: usize = 1_000_000;
const FEW: usize = 1_000;

/// Builds each kind of client in turn and prints how many bytes one takes, beside what the task
/// that runs it takes: the machine lies in it, and is no heap of its own. `measure` runs what it
/// is given, and returns by how many bytes memory has grown.
pub(crate) fn report(unit: &str, measure: impl Fn(&mut dyn FnMut()) -> i64) {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // What cargo passes where benchmarks are to be measured; otherwise they are tested.
    let measuring = arguments.iter().any(|argument| argument == "--bench")
        && !arguments.iter().any(|argument| argument == "--test");
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    let many = given.unwrap_or(if measuring { MANY } else { FEW });
    let fewer = many.div_ceil(10);

    let population = Population::new();
    let mut held = Vec::with_capacity(many);
    let bytes = measure(&mut || held.extend((0..many).map(|n| population.mqtt(n))));
    line("MQTT connection", held.len(), bytes, unit);
    drop(held);

    let population = Population::new();
    let mut held = Vec::with_capacity(fewer);
    let bytes = measure(&mut || held.extend((0..fewer).map(|_| population.amqp())));
    line("AMQP connection with a channel", held.len(), bytes, unit);
    drop(held);

    let population = Population::new();
    let bytes = measure(&mut || (0..fewer).for_each(|n| population.leave(n)));
    line("offline MQTT session, 3 subscriptions", fewer, bytes, unit);

    let driver = |bytes: usize, of: &str| println!("{of:40} {bytes:>9} bytes of each task");
    driver(
        size_of::<Driver<leveret_mqtt::Connection, TcpStream>>(),
        "driver with MQTT machine",
    );
    driver(
        size_of::<Driver<leveret_amqp::Connection, TcpStream>>(),
        "driver with AMQP machine",
    );
}

fn line(what: impl Display, count: usize, bytes: i64, unit: &str) {
    let each = bytes / i64::try_from(count.max(1)).unwrap_or(i64::MAX);
    println!("{what:40} {each:>9} {unit} each, of {count}");
}

struct Population {
    mqtt: Arc<leveret_mqtt::Node>,
    amqp: Arc<leveret_amqp::Node>,
    accepted: Accepted,
}

impl Population {
    fn new() -> Self {
        let broker = Broker::open(
            Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        )
        .expect("an empty broker opens");
        let options = leveret_mqtt::options::Options::default();
        let address = ([127, 0, 0, 1], 1).into();
        Self {
            mqtt: leveret_mqtt::Node::new(Arc::clone(&broker), options),
            amqp: leveret_amqp::Node::new(broker, leveret_amqp::options::Options::default()),
            accepted: Accepted {
                peer: address,
                local: address,
                origin: Origin::new("bench", None),
            },
        }
    }

    fn connected(&self, n: usize, clean: bool) -> (leveret_mqtt::Connection, Turn) {
        let machine = leveret_mqtt::Connection::new(&self.mqtt, self.accepted.clone(), Time(1));
        let mut packet = Vec::new();
        Connect {
            version: ProtocolVersion::V4,
            clean_start: clean,
            keep_alive_s: 60,
            client_id: &format!("sensor-{n:07}"),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
        .encode(&mut packet)
        .expect("it fits");
        logged_in(machine, &packet)
    }

    /// A client that is connected and idle.
    fn mqtt(&self, n: usize) -> leveret_mqtt::Connection {
        self.connected(n, true).0
    }

    /// A client that has left a session behind.
    fn leave(&self, n: usize) {
        let (mut machine, mut turn) = self.connected(n, false);
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        let filters = ["state", "alarm", "config"].map(|leaf| format!("site/{n}/+/{leaf}"));
        let filters = filters
            .each_ref()
            .map(|filter| subscribe::Subscription { filter, options });
        let mut packet = Vec::new();
        let id = NonZeroU16::MIN;
        subscribe::encode(&mut packet, ProtocolVersion::V4, id, &[], &filters).expect("it fits");
        // DISCONNECT
        packet.extend_from_slice(&[0xE0, 0]);
        assert_eq!(machine.handle_input(&mut turn, &packet), packet.len());
        machine.handle_close(&mut turn);
        turn.ring();
    }

    /// A client that is connected, has a channel, and is idle.
    fn amqp(&self) -> leveret_amqp::Connection {
        let machine = leveret_amqp::Connection::new(&self.amqp, self.accepted.clone(), Time(1));
        let mut input = b"AMQP\x00\x00\x09\x01".to_vec();
        let start = ConnectionStartOk {
            mechanism: "PLAIN",
            response: LongString(b"\0guest\0guest"),
            locale: "en_US",
            ..ConnectionStartOk::default()
        };
        ClientMethod::ConnectionStartOk(start).encode(0, &mut input);
        let tune = ConnectionTuneOk {
            channel_max: 2_047,
            frame_max: 131_072,
            heartbeat: 60,
        };
        ClientMethod::ConnectionTuneOk(tune).encode(0, &mut input);
        let open = ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        };
        ClientMethod::ConnectionOpen(open).encode(0, &mut input);
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, &mut input);
        logged_in(machine, &input).0
    }
}

/// Feeds a machine its client's first bytes, as the driver would; the answers are thrown away.
fn logged_in<M: Machine>(mut machine: M, mut input: &[u8]) -> (M, Turn) {
    let mut turn = Turn::new();
    while !input.is_empty() {
        let taken = machine.handle_input(&mut turn, input);
        input = &input[taken..];
        if machine.poll_request().is_some() {
            machine.handle_reply(&mut turn, Reply::Login(Verdict::Accepted));
        } else {
            assert!(taken > 0, "whole packets are taken");
        }
        if machine.doorbell().answer() {
            machine.handle_wake(&mut turn);
        }
        machine.poll_output(&mut Vec::new());
    }
    turn.ring();
    (machine, turn)
}
