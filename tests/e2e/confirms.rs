//! Who knows what of a message: publisher confirms, mandatory returns, nack and reject.

use lapin::options::{
    BasicNackOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::{BasicProperties, Channel, Confirmation};

use crate::amqp::{ack, channel, connect, consume, declare, next, publish, text};
use crate::broker::{TestBroker, eventually, within};

async fn confirming(connection: &lapin::Connection) -> Channel {
    let channel = channel(connection).await;
    let selected = channel.confirm_select(ConfirmSelectOptions::default());
    within(selected).await.expect("confirm.select-ok");
    channel
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_every_published_message_is_confirmed() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = confirming(&connection).await;
    declare(&channel, "confirmed", QueueDeclareOptions::durable()).await;
    let mut waiting = Vec::new();
    for number in 0..100_u32 {
        let body = number.to_string();
        let sent = channel.basic_publish(
            "".into(),
            "confirmed".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        waiting.push(within(sent).await.expect("may be sent"));
    }
    for confirm in waiting {
        let confirmation = within(confirm).await.expect("a confirm");
        assert_eq!(confirmation, Confirmation::Ack(None));
    }
    let queue = broker.queue("confirmed").expect("it is there");
    assert_eq!(queue.view().ready, 100);
}

/// What reaches no queue comes back before it is confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_mandatory_messages_return_before_the_ack() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = confirming(&connection).await;
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let sent = channel.basic_publish(
        "amq.direct".into(),
        "nowhere".into(),
        mandatory,
        b"lost?",
        BasicProperties::default().with_message_id("m-1".into()),
    );
    let confirm = within(sent).await.expect("may be sent");
    let confirmation = within(confirm).await.expect("a confirm");
    assert!(confirmation.is_ack(), "{confirmation:?}");
    let returned = confirmation.take_message().expect("it came back first");
    assert_eq!(returned.reply_code, 312);
    assert_eq!(returned.reply_text.as_str(), "NO_ROUTE");
    assert_eq!(returned.delivery.routing_key.as_str(), "nowhere");
    assert_eq!(text(&returned.delivery), "lost?");
    let id = returned.delivery.properties.message_id().as_ref();
    assert_eq!(id.map(|id| id.as_str()), Some("m-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_nack_and_reject_requeue_or_drop() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "jobs", QueueDeclareOptions::default()).await;
    let mut consumer = consume(&channel, "jobs").await;
    publish(&channel, "", "jobs", b"job").await;

    let first = next(&mut consumer).await;
    let requeue = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    within(first.nack(requeue)).await.expect("sent");
    let second = next(&mut consumer).await;
    assert_eq!(
        (text(&second), second.redelivered),
        ("job".to_owned(), true)
    );
    let requeue = BasicRejectOptions { requeue: true };
    within(second.reject(requeue)).await.expect("sent");
    let third = next(&mut consumer).await;
    assert!(third.redelivered);
    let drop = BasicRejectOptions { requeue: false };
    within(third.reject(drop)).await.expect("sent");

    // Nothing of it is left: the next message is another.
    publish(&channel, "", "jobs", b"another").await;
    let another = next(&mut consumer).await;
    assert_eq!(
        (text(&another), another.redelivered),
        ("another".to_owned(), false)
    );
    ack(&another).await;
    let queue = broker.queue("jobs").expect("it is there");
    eventually("the queue is empty", || {
        let view = queue.view();
        (view.ready, view.unacked) == (0, 0)
    })
    .await;
}

/// One nack for several deliveries puts them back in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_nack_of_several_keeps_the_order() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare(&channel, "jobs", QueueDeclareOptions::default()).await;
    let mut consumer = consume(&channel, "jobs").await;
    for body in [b"1", b"2", b"3"] {
        publish(&channel, "", "jobs", body).await;
    }
    let mut last = next(&mut consumer).await;
    for _ in 0..2 {
        last = next(&mut consumer).await;
    }
    let all = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    within(last.nack(all)).await.expect("sent");
    for expected in ["1", "2", "3"] {
        let again = next(&mut consumer).await;
        assert_eq!(
            (text(&again), again.redelivered),
            (expected.to_owned(), true)
        );
    }
}
