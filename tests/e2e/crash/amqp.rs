//! AMQP clients of a broker that is killed: publishers with confirms, a consumer that acknowledges
//! most of what it gets. Each ends quietly when the broker does.

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Consumer};

use super::oracle::{Oracle, Way};
use crate::amqp::try_connect;
use crate::broker::within;

const WINDOW: u64 = 32;

/// A channel, unless the broker is gone.
async fn channel(address: &str, oracle: &Oracle) -> Option<Channel> {
    let address = address.parse().expect("an address");
    let connection = oracle.unless_killed(try_connect(address, "guest:guest", "%2f"));
    let connection = connection.await?.ok()?;
    oracle
        .unless_killed(connection.create_channel())
        .await?
        .ok()
}

async fn publish(
    channel: &Channel,
    message: &str,
    oracle: &Oracle,
) -> Option<lapin::PublisherConfirm> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish(
        "amq.topic".into(),
        "crash.amqp".into(),
        BasicPublishOptions::default(),
        message.as_bytes(),
        properties,
    );
    oracle.unless_killed(sent).await?.ok()
}

/// Publishes until the broker is killed; gives the number of the next message.
pub(super) async fn publish_until_killed(
    address: String,
    name: &'static str,
    mut next: u64,
    oracle: Oracle,
) -> u64 {
    let Some(channel) = channel(&address, &oracle).await else {
        return next;
    };
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    if !matches!(oracle.unless_killed(select).await, Some(Ok(()))) {
        return next;
    }
    loop {
        let mut waiting = Vec::new();
        for _ in 0..WINDOW {
            let message = format!("{name}:{next}");
            oracle.sent(Way::Amqp, &message);
            next += 1;
            match publish(&channel, &message, &oracle).await {
                Some(confirm) => waiting.push((message, confirm)),
                None => return next,
            }
        }
        for (message, confirm) in waiting {
            match oracle.unless_killed(confirm).await {
                Some(Ok(Confirmation::Ack(_))) => oracle.acknowledged(&message),
                _ => return next,
            }
        }
    }
}

/// Publishes one message that must arrive, behind all others.
pub(super) async fn publish_last(address: &str, message: &str, oracle: &Oracle) {
    let channel = channel(address, oracle).await.expect("it is there");
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    let confirm = publish(&channel, message, oracle)
        .await
        .expect("it is there");
    let confirmed = within(confirm).await.expect("it is there");
    assert!(matches!(confirmed, Confirmation::Ack(_)));
}

async fn consumer(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
    oracle: &Oracle,
) -> Option<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..BasicConsumeOptions::default()
    };
    let consume = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    oracle.unless_killed(consume).await?.ok()
}

/// Consumes until the broker is killed: three of four are acknowledged.
pub(super) async fn consume_until_killed(address: String, queue: &'static str, oracle: Oracle) {
    let Some(channel) = channel(&address, &oracle).await else {
        return;
    };
    let Some(mut consumer) = consumer(&channel, queue, false, &oracle).await else {
        return;
    };
    let mut count = 0;
    while let Some(Some(Ok(delivery))) = oracle.unless_killed(consumer.next()).await {
        let message = std::str::from_utf8(&delivery.data).expect("is text");
        oracle.delivered(queue, message, delivery.redelivered);
        count += 1;
        if count % 4 == 0 {
            continue;
        }
        let acked = delivery.ack(BasicAckOptions::default());
        if !matches!(oracle.unless_killed(acked).await, Some(Ok(_))) {
            return;
        }
    }
}

/// Consumes everything up to the last message.
pub(super) async fn consume_all(address: &str, queue: &'static str, last: &str, oracle: &Oracle) {
    let channel = channel(address, oracle).await.expect("it is there");
    let consumer = consumer(&channel, queue, true, oracle).await;
    let mut consumer = consumer.expect("it is there");
    loop {
        let delivery = within(consumer.next()).await;
        let delivery = delivery.expect("more").expect("it is there");
        let message = std::str::from_utf8(&delivery.data).expect("is text");
        if message == last {
            return;
        }
        oracle.delivered(queue, message, delivery.redelivered);
    }
}
