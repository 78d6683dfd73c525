//! The six tutorials that AMQP users begin with, by lapin.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};

use crate::amqp::{
    ack, bind, bound_queue, channel, connect, consume, consume_no_ack, declare, next, next_text,
    publish, publish_with, text,
};
use crate::broker::{TestBroker, eventually, within};

async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) {
    let options = ExchangeDeclareOptions::default();
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    within(declared).await.expect("may be declared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_hello_world() {
    let broker = TestBroker::start().await;
    let sender = connect(&broker).await;
    let receiver = connect(&broker).await;
    let sending = channel(&sender).await;
    declare(&sending, "hello", QueueDeclareOptions::default()).await;
    publish(&sending, "", "hello", b"Hello World!").await;

    let receiving = channel(&receiver).await;
    declare(&receiving, "hello", QueueDeclareOptions::default()).await;
    let mut consumer = consume_no_ack(&receiving, "hello").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(text(&delivery), "Hello World!");
    assert_eq!(delivery.routing_key.as_str(), "hello");
    assert_eq!(delivery.exchange.as_str(), "");
    assert!(!delivery.redelivered);
}

/// Work queues: one task at a time for each worker; what a lost worker held goes to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_work_queues_share_and_redeliver() {
    let broker = TestBroker::start().await;
    let sender = connect(&broker).await;
    let sending = channel(&sender).await;
    declare(&sending, "tasks", QueueDeclareOptions::durable()).await;

    let (first, second) = (connect(&broker).await, connect(&broker).await);
    let (first_channel, second_channel) = (channel(&first).await, channel(&second).await);
    for worker in [&first_channel, &second_channel] {
        let limit = worker.basic_qos(1, BasicQosOptions::default());
        within(limit).await.expect("one at a time");
    }
    let mut busy = consume(&first_channel, "tasks").await;
    let mut quick = consume(&second_channel, "tasks").await;
    for task in ["1", "2", "3", "4"] {
        let durable = BasicProperties::default().with_delivery_mode(2);
        publish_with(&sending, "", "tasks", task.as_bytes(), durable).await;
    }
    let held = next(&mut busy).await;
    let mut done = Vec::new();
    for _ in 0..3 {
        let task = next(&mut quick).await;
        assert!(!task.redelivered);
        done.push(text(&task));
        ack(&task).await;
    }
    assert!(!done.contains(&text(&held)), "no task is given twice");

    within(first.close(200, "bye".into()))
        .await
        .expect("closes");
    let again = next(&mut quick).await;
    assert_eq!((text(&again), again.redelivered), (text(&held), true));
    ack(&again).await;
    let queue = broker.queue("tasks").expect("it is there");
    eventually("all tasks are settled", || {
        let view = queue.view();
        (view.ready, view.unacked) == (0, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_fanout_reaches_every_queue() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare_exchange(&channel, "logs", ExchangeKind::Fanout).await;
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let queue = bound_queue(&channel, "logs", "").await;
        assert!(queue.starts_with("amq.gen-"), "{queue}");
        consumers.push(consume_no_ack(&channel, &queue).await);
    }
    publish(&channel, "logs", "any key", b"info: hello").await;
    for consumer in &mut consumers {
        assert_eq!(next_text(consumer).await, "info: hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_direct_routes_by_the_whole_key() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare_exchange(&channel, "direct_logs", ExchangeKind::Direct).await;
    let queue = bound_queue(&channel, "direct_logs", "warning").await;
    bind(&channel, &queue, "direct_logs", "error").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;
    for key in ["info", "warning", "errors", "error"] {
        publish(&channel, "direct_logs", key, key.as_bytes()).await;
    }
    assert_eq!(next_text(&mut consumer).await, "warning");
    assert_eq!(next_text(&mut consumer).await, "error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_topic_routes_by_patterns() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    declare_exchange(&channel, "topic_logs", ExchangeKind::Topic).await;
    let kern = bound_queue(&channel, "topic_logs", "kern.*").await;
    let critical = bound_queue(&channel, "topic_logs", "#.critical").await;
    let mut kern = consume_no_ack(&channel, &kern).await;
    let mut critical = consume_no_ack(&channel, &critical).await;
    for key in [
        "kern.info",
        "kern.a.b",
        "critical",
        "kern.critical",
        "cron.x.critical",
    ] {
        publish(&channel, "topic_logs", key, key.as_bytes()).await;
    }
    for expected in ["kern.info", "kern.critical"] {
        assert_eq!(next_text(&mut kern).await, expected);
    }
    for expected in ["critical", "kern.critical", "cron.x.critical"] {
        assert_eq!(next_text(&mut critical).await, expected);
    }
}

/// RPC: an exclusive reply queue, `reply_to` and `correlation_id`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_rpc_over_an_exclusive_reply_queue() {
    let broker = TestBroker::start().await;
    let (server, client) = (connect(&broker).await, connect(&broker).await);
    let serving = channel(&server).await;
    declare(&serving, "rpc_queue", QueueDeclareOptions::default()).await;
    let mut requests = consume(&serving, "rpc_queue").await;
    let served = tokio::spawn(async move {
        for _ in 0..3 {
            let request = next(&mut requests).await;
            let number: u64 = text(&request).parse().expect("a number");
            let reply_to = request.properties.reply_to().clone().expect("reply_to");
            let id = request.properties.correlation_id().clone().expect("an id");
            let properties = BasicProperties::default().with_correlation_id(id);
            let answer = (number * number).to_string();
            publish_with(
                &serving,
                "",
                reply_to.as_str(),
                answer.as_bytes(),
                properties,
            )
            .await;
            ack(&request).await;
        }
    });

    let calling = channel(&client).await;
    let replies = declare(&calling, "", QueueDeclareOptions::exclusive()).await;
    let mut answers = consume_no_ack(&calling, &replies).await;
    for number in [3_u64, 4, 5] {
        let properties = BasicProperties::default()
            .with_reply_to(replies.as_str().into())
            .with_correlation_id(format!("call-{number}").into());
        publish_with(
            &calling,
            "",
            "rpc_queue",
            number.to_string().as_bytes(),
            properties,
        )
        .await;
        let answer = next(&mut answers).await;
        assert_eq!(text(&answer), (number * number).to_string());
        let id = answer.properties.correlation_id().as_ref();
        assert_eq!(id.map(|id| id.as_str()), Some(&*format!("call-{number}")));
    }
    within(served).await.expect("the server served");

    // Nobody else may use the reply queue, and it goes with its connection.
    let arguments = FieldTable::default();
    let foreign = channel(&server).await;
    let refused = foreign.basic_consume(
        replies.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        arguments,
    );
    let refused = within(refused).await.expect_err("it is exclusive");
    assert_eq!(crate::amqp::reply_code(&refused), 405, "{refused}");
    within(client.close(200, "bye".into()))
        .await
        .expect("closes");
    eventually("the reply queue is gone", || {
        broker.queue(&replies).is_none()
    })
    .await;
}
