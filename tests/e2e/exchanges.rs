//! Exchanges of every kind through a real client, and across starts.

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use rustix::process::Signal;

use crate::amqp::{
    bind, channel, connect, consume_no_ack, declare, next, next_text, publish, try_connect,
};
use crate::broker::{TestBroker, within};
use crate::program::Program;

const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn declare_exchange(held: &Channel, name: &str, kind: &str, arguments: FieldTable) {
    let kind = ExchangeKind::Custom(kind.to_owned());
    let declared = held.exchange_declare(name.into(), kind, DURABLE, arguments);
    within(declared).await.expect("may be declared");
}

/// Every kind with its arguments, which are compared again after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_every_kind_survives_a_restart() {
    let broker = TestBroker::start().await;
    let kinds = [
        ("x-consistent-hash", table(&[("hash-header", text("id"))])),
        ("x-random", table(&[("alternate-exchange", text("spare"))])),
        ("x-local-random", table(&[])),
        ("x-modulus-hash", table(&[])),
        (
            "x-recent-history",
            table(&[("x-recent-history-length", AMQPValue::LongInt(3))]),
        ),
        (
            "x-delayed-message",
            table(&[("x-delayed-type", text("headers"))]),
        ),
    ];
    let connection = connect(&broker).await;
    let held = channel(&connection).await;
    declare(&held, "all", QueueDeclareOptions::durable()).await;
    declare_exchange(&held, "spare", "fanout", table(&[])).await;
    bind(&held, "all", "spare", "").await;
    for (kind, arguments) in &kinds {
        declare_exchange(&held, kind, kind, arguments.clone()).await;
        let key = if *kind == "x-consistent-hash" {
            "7"
        } else {
            ""
        };
        if *kind != "x-random" {
            bind(&held, "all", kind, key).await;
        }
    }

    let broker = broker.restart().await;
    let connection = connect(&broker).await;
    let again = channel(&connection).await;
    let mut consumer = consume_no_ack(&again, "all").await;
    for (kind, arguments) in kinds {
        declare_exchange(&again, kind, kind, arguments).await;
        publish(&again, kind, "key", kind.as_bytes()).await;
        assert_eq!(next_text(&mut consumer).await, kind);
    }
}

/// What waits and was confirmed is there after a kill, and comes when it is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_delayed_messages_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a data directory");
    let program = Program::start(directory.path());
    let address = |program: &Program| program.address("AMQP").parse().expect("an address");
    let connection = try_connect(address(&program), "guest:guest", "%2f").await;
    let connection = connection.expect("guest may");
    let held = channel(&connection).await;
    let confirmed = held.confirm_select(ConfirmSelectOptions::default());
    within(confirmed).await.expect("may confirm");
    let arguments = table(&[("x-delayed-type", text("direct"))]);
    declare_exchange(&held, "later", "x-delayed-message", arguments).await;
    declare(&held, "q", QueueDeclareOptions::durable()).await;
    bind(&held, "q", "later", "key").await;
    for (body, delay) in [("second", 2_000), ("first", 1_500), ("never", 3_600_000)] {
        let headers = table(&[("x-delay", AMQPValue::LongInt(delay))]);
        let properties = BasicProperties::default().with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = ("later".into(), "key".into());
        let sent = held.basic_publish(exchange, key, options, body.as_bytes(), properties);
        let confirm = within(within(sent).await.expect("may be sent")).await;
        // What waits is not unroutable.
        assert!(
            matches!(confirm, Ok(Confirmation::Ack(None))),
            "{confirm:?}"
        );
    }
    program.stop(Signal::KILL);

    let program = Program::start(directory.path());
    let connection = try_connect(address(&program), "guest:guest", "%2f").await;
    let connection = connection.expect("guest may");
    let again = channel(&connection).await;
    let mut consumer = consume_no_ack(&again, "q").await;
    let first = next(&mut consumer).await;
    assert_eq!(first.data, b"first");
    let headers = first.properties.headers().clone().expect("it has headers");
    let delay = headers.inner().get("x-delay").cloned();
    assert_eq!(delay, Some(AMQPValue::LongInt(-1_500)));
    assert_eq!(next_text(&mut consumer).await, "second");
}
