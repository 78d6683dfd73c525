//! rumqttc, with fewer words: one kind of client for MQTT 3.1.1 and one for 5.0, alike.
//!
//! A client reads its socket only while a test waits for something of it. Messages that arrive
//! while it waits for something else are kept. Dropping a client breaks its connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use crate::broker::within;

/// Longest packet that a client takes or sends, in bytes.
const PACKET_BYTES_MAX: u32 = 16 * 1_024 * 1_024;

/// A PUBLISH that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// MQTT 5.0 only.
    pub(crate) properties: PublishProperties,
}

impl Message {
    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl From<rumqttc::Publish> for Message {
    fn from(publish: rumqttc::Publish) -> Self {
        Self {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            properties: PublishProperties::default(),
        }
    }
}

impl From<v5::mqttbytes::v5::Publish> for Message {
    fn from(publish: v5::mqttbytes::v5::Publish) -> Self {
        Self {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties.unwrap_or_default(),
        }
    }
}

/// Options of an MQTT 3.1.1 client, clean session.
pub(crate) fn options4(address: SocketAddr, client_id: &str) -> rumqttc::MqttOptions {
    let host = address.ip().to_string();
    let mut options = rumqttc::MqttOptions::new(client_id, host, address.port());
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    options
}

/// Options of an MQTT 5.0 client, clean start, no session afterwards.
pub(crate) fn options5(address: SocketAddr, client_id: &str) -> v5::MqttOptions {
    let host = address.ip().to_string();
    let mut options = v5::MqttOptions::new(client_id, host, address.port());
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    options
}

/// Options of an MQTT 5.0 client whose session is kept for an hour.
pub(crate) fn persistent5(address: SocketAddr, client_id: &str) -> v5::MqttOptions {
    let mut options = options5(address, client_id);
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(3_600));
    options
}

macro_rules! client {
    (
        $(#[$doc:meta])* $name:ident,
        $options:ty, $client:ty, $events:ty, $event:path, $packet:path, $qos:path, $publish:ty
    ) => {
        $(#[$doc])*
        pub(crate) struct $name {
            pub(crate) client: $client,
            events: $events,
            pub(crate) session_present: bool,
            arrived: VecDeque<$publish>,
        }

        impl $name {
            /// Connects; the error is the client's, as text.
            pub(crate) async fn connect(options: $options) -> Result<Self, String> {
                use $event as Event;
                use $packet as Packet;
                let (client, mut events) = <$client>::new(options, 64);
                match within(events.poll()).await {
                    Ok(Event::Incoming(Packet::ConnAck(connack))) => Ok(Self {
                        client,
                        events,
                        session_present: connack.session_present,
                        arrived: VecDeque::new(),
                    }),
                    Ok(other) => Err(format!("{other:?}")),
                    Err(error) => Err(format!("{error:?}")),
                }
            }

            /// Subscribes, and gives the reason codes of SUBACK as rumqttc prints them.
            pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> String {
                use $packet as Packet;
                use $qos as to_qos;
                let qos = to_qos(qos).expect("a QoS");
                self.client.subscribe(filter, qos).await.expect("there is room");
                let suback = self.until(|packet| match packet {
                    Packet::SubAck(suback) => Some(format!("{:?}", suback.return_codes)),
                    _ => None,
                });
                suback.await.expect("a SUBACK")
            }

            /// Publishes, and waits for the acknowledgement that belongs to the QoS.
            pub(crate) async fn publish(&mut self, topic: &str, qos: u8, payload: &[u8]) {
                self.try_publish(topic, qos, false, payload).await.expect("an acknowledgement");
            }

            /// Publishes a retained message.
            pub(crate) async fn retain(&mut self, topic: &str, payload: &[u8]) {
                self.try_publish(topic, 1, true, payload).await.expect("an acknowledgement");
            }

            /// Publishes; the error is the end of the connection, as text.
            pub(crate) async fn try_publish(
                &mut self,
                topic: &str,
                qos: u8,
                retain: bool,
                payload: &[u8],
            ) -> Result<(), String> {
                use $qos as to_qos;
                let level = to_qos(qos).expect("a QoS");
                let sent = self.client.publish(topic, level, retain, payload.to_vec());
                sent.await.expect("there is room");
                self.published(qos).await
            }

            /// Waits until what was published with this QoS is done with.
            async fn published(&mut self, qos: u8) -> Result<(), String> {
                use $event as Event;
                use $packet as Packet;
                loop {
                    match self.poll().await? {
                        Event::Outgoing(rumqttc::Outgoing::Publish(_)) if qos == 0 => break,
                        Event::Incoming(Packet::PubAck(_)) if qos == 1 => break,
                        Event::Incoming(Packet::PubComp(_)) if qos == 2 => break,
                        _ => {}
                    }
                }
                Ok(())
            }

            /// The next message, the oldest of those that arrived.
            pub(crate) async fn next(&mut self) -> Message {
                self.next_publish().await.into()
            }

            /// The next message as the client has it.
            pub(crate) async fn next_publish(&mut self) -> $publish {
                while self.arrived.is_empty() {
                    self.poll().await.expect("the connection lives");
                }
                self.arrived.pop_front().expect("one arrived")
            }

            /// Waits for the end of the connection, and gives it as text.
            pub(crate) async fn end(&mut self) -> String {
                loop {
                    if let Err(end) = self.poll().await {
                        return end;
                    }
                }
            }

            /// Takes its leave.
            pub(crate) async fn disconnect(mut self) {
                self.client.disconnect().await.expect("there is room");
                self.end().await;
            }

            /// Asserts that nothing but this arrives for a message to itself.
            pub(crate) async fn has_nothing(&mut self, own_topic: &str) {
                self.subscribe(own_topic, 1).await;
                self.publish(own_topic, 1, b"the end").await;
                let next = self.next().await;
                assert_eq!(next.topic, own_topic, "unexpected: {next:?}");
            }

            async fn until<T>(
                &mut self,
                mut found: impl FnMut(&$packet) -> Option<T>,
            ) -> Result<T, String> {
                use $event as Event;
                loop {
                    if let Event::Incoming(packet) = self.poll().await?
                        && let Some(found) = found(&packet)
                    {
                        return Ok(found);
                    }
                }
            }

            async fn poll(&mut self) -> Result<$event, String> {
                use $event as Event;
                use $packet as Packet;
                let event = within(self.events.poll()).await;
                let event = event.map_err(|error| format!("{error:?}"))?;
                if let Event::Incoming(Packet::Publish(publish)) = &event {
                    self.arrived.push_back(publish.clone());
                }
                Ok(event)
            }
        }
    };
}

client!(
    /// An MQTT 3.1.1 client.
    Mqtt4,
    rumqttc::MqttOptions,
    rumqttc::AsyncClient,
    rumqttc::EventLoop,
    rumqttc::Event,
    rumqttc::Packet,
    rumqttc::qos,
    rumqttc::Publish
);

client!(
    /// An MQTT 5.0 client.
    Mqtt5,
    v5::MqttOptions,
    v5::AsyncClient,
    v5::EventLoop,
    v5::Event,
    v5::mqttbytes::v5::Packet,
    v5::mqttbytes::qos,
    v5::mqttbytes::v5::Publish
);

impl Mqtt5 {
    /// Publishes with QoS 1 and properties, and waits for PUBACK.
    pub(crate) async fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        properties: PublishProperties,
    ) {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        let payload = payload.to_vec();
        let sent = self
            .client
            .publish_with_properties(topic, qos, false, payload, properties);
        sent.await.expect("there is room");
        self.published(1).await.expect("a PUBACK");
    }
}
