//! Transactions and direct reply-to, as a client library uses them.

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;

use crate::amqp::{
    ack, channel, connect, consume, consume_no_ack, declare, next, next_text, publish,
    publish_with, text,
};
use crate::broker::{TestBroker, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_what_is_committed_is_there_and_what_is_rolled_back_is_not() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "ledger", QueueDeclareOptions::durable()).await;
    within(channel.tx_select()).await.expect("tx.select-ok");
    let persistent = BasicProperties::default().with_delivery_mode(2);
    publish_with(&channel, "", "ledger", b"taken", persistent.clone()).await;
    within(channel.tx_commit()).await.expect("tx.commit-ok");
    publish_with(&channel, "", "ledger", b"dropped", persistent).await;
    within(channel.tx_rollback()).await.expect("tx.rollback-ok");
    let ready = || broker.queue("ledger").expect("it is there").view().ready;
    assert_eq!(ready(), 1);

    let mut consumer = consume(&channel, "ledger").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(text(&delivery), "taken");
    ack(&delivery).await;
    within(channel.tx_commit()).await.expect("tx.commit-ok");
    let view = broker.queue("ledger").expect("it is there").view();
    assert_eq!((view.ready, view.unacked), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_a_request_is_answered_without_a_queue_for_it() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let server = channel(&connection).await;
    declare(&server, "doubling", QueueDeclareOptions::default()).await;
    let mut requests = consume(&server, "doubling").await;

    let client = channel(&connection).await;
    let mut replies = consume_no_ack(&client, "amq.rabbitmq.reply-to").await;
    let question = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    publish_with(&client, "", "doubling", b"21", question).await;

    let request = next(&mut requests).await;
    let name = request.properties.reply_to().as_ref().expect("a name");
    assert!(name.as_str().starts_with("amq.rabbitmq.reply-to."));
    let answer = text(&request).parse::<u32>().expect("a number") * 2;
    publish(&server, "", name.as_str(), answer.to_string().as_bytes()).await;
    assert_eq!(next_text(&mut replies).await, "42");
}
