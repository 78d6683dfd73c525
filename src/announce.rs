//! How the broker itself speaks: messages under `$SYS` to MQTT clients, events to AMQP consumers.
//!
//! Owns the shape of both. Reaches only who asked: see [`Link::announce`]. Never decides what there
//! is to say.

use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::events::{EVENT_EXCHANGE, SYS};
use leveret_core::field::Table;
use leveret_core::key::Form;
use leveret_core::link::Link;
use leveret_core::message::{AmqpOrigin, Head, MessageRef, Origin};
use leveret_core::properties::BasicProperties;
use leveret_core::refusal::Refusal;
use leveret_core::turn::Turn;
use leveret_core::vhost::VHost;
use leveret_mqtt::limits::{STRING_BYTES_MAX, TOPIC_LEVELS_MAX};
use leveret_mqtt::property::Property;
use leveret_net::clock::Clock;

/// Speaks for one broker.
pub(crate) struct Announcer {
    pub(crate) broker: Arc<Broker>,
    pub(crate) clock: Clock,
    /// The node's name, a level of its topics.
    pub(crate) node: String,
    /// The exchange that MQTT topics are routed through.
    exchange: String,
    event_vhost: String,
}

/// How a message under `$SYS` is published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) json: bool,
}

impl Announcer {
    pub(crate) fn new(broker: Arc<Broker>, clock: Clock, node: &str, exchange: &str) -> Self {
        let event_vhost = broker.options().event_vhost.to_string();
        Self {
            broker,
            clock,
            node: node.replace(['/', '+', '#'], "_"),
            exchange: exchange.to_owned(),
            event_vhost,
        }
    }

    /// The exchange that MQTT topics are routed through.
    pub(crate) fn exchange(&self) -> &str {
        &self.exchange
    }

    /// A turn by the broker's clock.
    pub(crate) fn turn(&self) -> Turn {
        let clock = self.clock;
        let mut turn = Turn::new();
        turn.set_clock(move || clock.now());
        turn.begin(clock.now());
        turn
    }

    /// Publishes a message to `$SYS/` and this path. Says whether it could be.
    pub(crate) fn under_sys(
        &self,
        turn: &mut Turn,
        vhost: &Arc<VHost>,
        path: &str,
        payload: &[u8],
        manner: Manner,
    ) -> bool {
        let topic = format!("{SYS}/{path}");
        let levels = 1 + topic
            .bytes()
            .filter(|byte| matches!(byte, b'/' | b'.'))
            .count();
        if topic.len() > STRING_BYTES_MAX || levels > TOPIC_LEVELS_MAX {
            return false;
        }
        let [origin, _] = leveret_mqtt::origins();
        let mut properties = Vec::new();
        if manner.json {
            for property in [
                Property::PayloadFormatIndicator(true),
                Property::ContentType("application/json"),
            ] {
                // Two short values: they fit.
                let _ = property.encode(&mut properties);
            }
        }
        let head = Head {
            persistent: manner.qos > 0,
            exactly_once: manner.qos > 1,
            retain: manner.retain,
            ..head(turn, origin, Form::Slashed)
        };
        let message = MessageRef {
            head,
            exchange: &self.exchange,
            key: topic.as_bytes(),
            properties: &properties,
            payload,
        };
        said(self.link(vhost).announce(turn, &message).map(|_| ()))
    }

    /// Publishes to the event exchange. Says whether it could be.
    pub(crate) fn event(
        &self,
        turn: &mut Turn,
        key: &str,
        headers: &Table,
        payload: &[u8],
    ) -> bool {
        let Some(vhost) = self.broker.vhost(&self.event_vhost) else {
            return false;
        };
        let mut table = Vec::new();
        let mut properties = Vec::new();
        let encoded = headers.encode(&mut table).is_ok()
            && leveret_core::field::RawTable::parse(&table).is_ok_and(|headers| {
                let properties_of = BasicProperties {
                    content_type: Some(b"application/json"),
                    headers: Some(headers),
                    delivery_mode: Some(2),
                    timestamp: Some(turn.now.seconds()),
                    ..BasicProperties::default()
                };
                properties_of.encode(&mut properties).is_ok()
            });
        if !encoded {
            return false;
        }
        let message = MessageRef {
            head: Head {
                persistent: true,
                ..head(turn, &AmqpOrigin, Form::Dotted)
            },
            exchange: EVENT_EXCHANGE,
            key: key.as_bytes(),
            properties: &properties,
            payload,
        };
        said(self.link(&vhost).announce(turn, &message).map(|_| ()))
    }

    fn link(&self, vhost: &Arc<VHost>) -> Arc<Link> {
        self.broker.owner_link(vhost)
    }
}

fn head(turn: &Turn, origin: &'static dyn Origin, form: Form) -> Head {
    Head {
        origin,
        form,
        persistent: false,
        exactly_once: false,
        retain: false,
        publisher: 0,
        received: turn.now,
        expires: None,
    }
}

fn said(announced: Result<(), Refusal>) -> bool {
    if let Err(refusal) = &announced {
        tracing::debug!(%refusal, "not announced");
    }
    announced.is_ok()
}
