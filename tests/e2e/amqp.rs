//! lapin, with fewer words: a connection, queues, publishing, the next delivery.
//!
//! Never decides anything: what the broker answers goes to the test.

use std::net::SocketAddr;

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind};

use crate::broker::{TestBroker, within};

/// Connects as `guest` to `/`.
pub(crate) async fn connect(broker: &TestBroker) -> Connection {
    try_connect(broker.amqp(), "guest:guest", "%2f")
        .await
        .expect("guest may")
}

/// Connects with `user:password` to a vhost, percent-encoded; a query may follow it.
pub(crate) async fn try_connect(
    address: SocketAddr,
    login: &str,
    vhost: &str,
) -> lapin::Result<Connection> {
    let uri = format!("amqp://{login}@{address}/{vhost}");
    within(Connection::connect(&uri, ConnectionProperties::default())).await
}

/// A new channel.
pub(crate) async fn channel(connection: &Connection) -> Channel {
    within(connection.create_channel())
        .await
        .expect("there is room")
}

/// A server-named queue that is bound to a key of an exchange.
pub(crate) async fn bound_queue(channel: &Channel, exchange: &str, key: &str) -> String {
    let queue = declare(channel, "", QueueDeclareOptions::exclusive()).await;
    bind(channel, &queue, exchange, key).await;
    queue
}

/// Declares a queue without arguments, and gives its name.
pub(crate) async fn declare(channel: &Channel, name: &str, options: QueueDeclareOptions) -> String {
    let declared = channel.queue_declare(name.into(), options, FieldTable::default());
    let queue = within(declared).await.expect("may be declared");
    queue.name().to_string()
}

/// Binds a queue.
pub(crate) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let options = QueueBindOptions::default();
    let arguments = FieldTable::default();
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        options,
        arguments,
    );
    within(bound).await.expect("may be bound");
}

/// Publishes without properties; does not wait for anything but the write.
pub(crate) async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) {
    publish_with(channel, exchange, key, body, BasicProperties::default()).await;
}

/// Publishes with properties.
pub(crate) async fn publish_with(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    within(sent).await.expect("may be sent");
}

/// Consumes with acknowledgements.
pub(crate) async fn consume(channel: &Channel, queue: &str) -> Consumer {
    consume_with(channel, queue, BasicConsumeOptions::default()).await
}

/// Consumes without acknowledgements.
pub(crate) async fn consume_no_ack(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    consume_with(channel, queue, options).await
}

async fn consume_with(channel: &Channel, queue: &str, options: BasicConsumeOptions) -> Consumer {
    let arguments = FieldTable::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments);
    within(consumer).await.expect("may be consumed")
}

/// The next delivery.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    within(consumer.next())
        .await
        .expect("the consumer lives")
        .expect("the channel lives")
}

/// The next delivery's body as text.
pub(crate) async fn next_text(consumer: &mut Consumer) -> String {
    text(&next(consumer).await)
}

/// A delivery's body as text.
pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// Acknowledges one delivery.
pub(crate) async fn ack(delivery: &Delivery) {
    within(delivery.ack(BasicAckOptions::default()))
        .await
        .expect("the channel lives");
}

/// The reply code that the broker closed a channel or connection with; 0 for any other failure.
pub(crate) fn reply_code(error: &lapin::Error) -> u16 {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_id(),
        _ => 0,
    }
}
