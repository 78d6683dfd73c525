//! Mistakes on an AMQP channel: the reply code, and that nothing but the channel goes.

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};

use crate::amqp::{channel, connect, consume_no_ack, declare, next_text, publish, reply_code};
use crate::broker::{TestBroker, within};

#[derive(Clone, Copy, Debug)]
enum Mistake {
    UnknownQueue,
    GetFromUnknownQueue,
    OtherDurability,
    OtherArguments,
    OtherKind,
    ReservedName,
    UnknownKind,
    DeleteDefaultExchange,
}

async fn make(mistake: Mistake, channel: &Channel) -> lapin::Error {
    let (queue, exchange) = (
        QueueDeclareOptions::default(),
        ExchangeDeclareOptions::default(),
    );
    let none = FieldTable::default();
    let made = async {
        match mistake {
            Mistake::UnknownQueue => {
                let declared = channel.queue_declare("none".into(), queue.passive(), none);
                declared.await.map(drop)
            }
            Mistake::GetFromUnknownQueue => {
                let got = channel.basic_get("none".into(), BasicGetOptions::default());
                got.await.map(drop)
            }
            Mistake::OtherDurability => {
                let durable = QueueDeclareOptions::durable();
                channel
                    .queue_declare("taken".into(), durable, none)
                    .await
                    .map(drop)
            }
            Mistake::OtherArguments => {
                let mut limited = FieldTable::default();
                limited.insert("x-message-ttl".into(), AMQPValue::LongInt(1_000));
                channel
                    .queue_declare("taken".into(), queue, limited)
                    .await
                    .map(drop)
            }
            Mistake::OtherKind => {
                let fanout = ExchangeKind::Fanout;
                channel
                    .exchange_declare("amq.topic".into(), fanout, exchange, none)
                    .await
            }
            Mistake::ReservedName => {
                let fanout = ExchangeKind::Fanout;
                channel
                    .exchange_declare("amq.mine".into(), fanout, exchange, none)
                    .await
            }
            Mistake::UnknownKind => {
                let kind = ExchangeKind::Custom("x-unknown".to_owned());
                channel
                    .exchange_declare("odd".into(), kind, exchange, none)
                    .await
            }
            Mistake::DeleteDefaultExchange => {
                channel.exchange_delete("".into(), Default::default()).await
            }
        }
    };
    within(made).await.expect_err("a mistake")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_mistakes_close_the_channel_only() {
    let table = [
        (Mistake::UnknownQueue, 404),
        (Mistake::GetFromUnknownQueue, 404),
        (Mistake::OtherDurability, 406),
        (Mistake::OtherArguments, 406),
        (Mistake::OtherKind, 406),
        (Mistake::ReservedName, 403),
        (Mistake::DeleteDefaultExchange, 403),
    ];
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let healthy = channel(&connection).await;
    declare(&healthy, "taken", QueueDeclareOptions::default()).await;
    let mut consumer = consume_no_ack(&healthy, "taken").await;
    for (mistake, code) in table {
        let broken = channel(&connection).await;
        let error = make(mistake, &broken).await;
        assert_eq!(reply_code(&error), code, "{mistake:?}: {error}");
        assert!(!broken.status().connected(), "{mistake:?}");
        publish(&healthy, "", "taken", b"still here").await;
        assert_eq!(next_text(&mut consumer).await, "still here", "{mistake:?}");
    }
    assert_eq!(broker.core().peer_count(), 1, "it is one connection still");
}

/// Publishing to an exchange that is not there closes the channel, though nobody asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_publish_to_an_unknown_exchange_is_404() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let broken = channel(&connection).await;
    let selected = broken.confirm_select(Default::default());
    within(selected).await.expect("confirm.select-ok");
    let sent = broken.basic_publish(
        "none".into(),
        "key".into(),
        BasicPublishOptions::default(),
        b"x",
        BasicProperties::default(),
    );
    let confirm = within(sent).await.expect("may be sent");
    let error = within(confirm).await.expect_err("never confirmed");
    assert_eq!(reply_code(&error), 404, "{error}");
    channel(&connection).await;
}

/// An exchange type that nobody has is the connection's mistake, AMQP 0-9-1 §1.6.2.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_unknown_exchange_type_is_refused() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let channel = channel(&connection).await;
    let error = make(Mistake::UnknownKind, &channel).await;
    assert!([503, 406].contains(&reply_code(&error)), "{error}");
}
