//! amqprs: a client that was written by others from the same specification.

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, Channel,
    ConfirmSelectArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::broker::{TestBroker, eventually, within};

async fn open(broker: &TestBroker) -> (Connection, Channel) {
    let address = broker.amqp();
    let host = address.ip().to_string();
    let arguments = OpenConnectionArguments::new(&host, address.port(), "guest", "guest");
    let connection = within(Connection::open(&arguments))
        .await
        .expect("guest may");
    let channel = within(connection.open_channel(None))
        .await
        .expect("there is room");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_amqprs_publishes_consumes_and_acknowledges() {
    let broker = TestBroker::start().await;
    let (connection, channel) = open(&broker).await;
    let properties = connection.server_properties();
    assert!(properties.capabilities().publisher_confirms());

    let declared = channel.queue_declare(QueueDeclareArguments::durable_client_named("work"));
    within(declared).await.expect("may be declared");
    let bound = channel.queue_bind(QueueBindArguments::new("work", "amq.topic", "a.#"));
    within(bound).await.expect("may be bound");
    let consumed = channel.basic_consume_rx(BasicConsumeArguments::new("work", "me"));
    let (_, mut deliveries) = within(consumed).await.expect("may be consumed");
    for body in ["one", "two"] {
        let arguments = BasicPublishArguments::new("amq.topic", "a.b.c");
        let properties = BasicProperties::default()
            .with_content_type("text/plain")
            .finish();
        let sent = channel.basic_publish(properties, body.as_bytes().to_vec(), arguments);
        within(sent).await.expect("may be sent");
    }
    for body in ["one", "two"] {
        let message = within(deliveries.recv()).await.expect("a delivery");
        let deliver = message.deliver.expect("basic.deliver");
        assert_eq!(deliver.routing_key(), "a.b.c");
        assert_eq!(message.content.as_deref(), Some(body.as_bytes()));
        let properties = message.basic_properties.expect("a header");
        assert_eq!(
            properties.content_type().map(String::as_str),
            Some("text/plain")
        );
        let settled = channel.basic_ack(BasicAckArguments::new(deliver.delivery_tag(), false));
        within(settled).await.expect("sent");
    }
    let queue = broker.queue("work").expect("it is there");
    eventually("all is acknowledged", || {
        let view = queue.view();
        (view.ready, view.unacked) == (0, 0)
    })
    .await;
    within(channel.close()).await.expect("channel.close-ok");
    within(connection.close())
        .await
        .expect("connection.close-ok");
}

/// Tells the test which delivery tags the broker has confirmed.
struct Confirms(mpsc::Sender<(u64, bool)>);

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let told = self.0.send((ack.delivery_tag(), ack.mutiple())).await;
        told.expect("the test listens");
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        panic!("refused: {}", nack.delivery_tag());
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {
        panic!("nothing is mandatory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_amqprs_gets_its_confirms() {
    let broker = TestBroker::start().await;
    let (_connection, channel) = open(&broker).await;
    let (told, mut confirms) = mpsc::channel(64);
    let registered = channel.register_callback(Confirms(told));
    within(registered).await.expect("registered");
    let selected = channel.confirm_select(ConfirmSelectArguments::default());
    within(selected).await.expect("confirm.select-ok");
    for _ in 0..20 {
        let arguments = BasicPublishArguments::new("amq.fanout", "");
        let sent = channel.basic_publish(BasicProperties::default(), b"x".to_vec(), arguments);
        within(sent).await.expect("may be sent");
    }
    let mut confirmed = [false; 21];
    while !confirmed[1..].iter().all(|done| *done) {
        let (tag, multiple) = within(confirms.recv()).await.expect("a confirm");
        let tag = usize::try_from(tag).expect("a small number");
        if multiple {
            confirmed[..=tag].fill(true);
        } else {
            confirmed[tag] = true;
        }
    }
}
