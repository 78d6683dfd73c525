//! The Will Message: kept with the connection, published when it ends in any way but a normal
//! DISCONNECT.

use std::sync::Arc;

use leveret_core::exchange::Memo;
use leveret_core::key::Form;
use leveret_core::message::{Head, MessageRef, Origin};
use leveret_core::schedule::Scheduled;
use leveret_core::seam::Core;
use leveret_core::sink::Loss;
use leveret_core::time::Time;
use leveret_core::turn::Turn;

use crate::convert::MQTT;
use crate::identity;
use crate::packet::{QoS, connect};
use crate::property::Property;

/// A Will Message, as the client gave it.
#[derive(Clone)]
pub(crate) struct Will {
    pub(crate) topic: Box<str>,
    payload: Box<[u8]>,
    qos: QoS,
    retain: bool,
    pub(crate) delay_ms: u64,
    expiry_ms: Option<u64>,
    /// Who can read the properties.
    origin: &'static dyn Origin,
    /// What is forwarded: without Will Delay Interval.
    properties: Box<[u8]>,
}

impl Will {
    /// The will of a CONNECT, with a delay of no more than `delay_max_ms`.
    // [MQTT-3.1.2-7], [MQTT-3.1.3-10]
    pub(crate) fn new(will: &connect::Will<'_>, delay_max_ms: Option<u64>) -> Self {
        let asked_ms = u64::from(will.delay_interval_s) * 1000;
        let mut properties = Vec::new();
        let mut expiry_ms = None;
        for property in will.properties.iter() {
            match property {
                Property::WillDelayInterval(_) => {}
                Property::MessageExpiryInterval(seconds) => {
                    expiry_ms = Some(u64::from(seconds) * 1000);
                }
                other => {
                    // It was decoded from a packet, so it fits into one.
                    let _ = other.encode(&mut properties);
                }
            }
        }
        Self {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            delay_ms: delay_max_ms.map_or(asked_ms, |max| asked_ms.min(max)),
            expiry_ms,
            origin: &MQTT,
            properties: properties.into(),
        }
    }

    /// The same, saying whose it is.
    pub(crate) fn signed(&self, signature: &[u8]) -> Self {
        let mut joined = Vec::new();
        let (origin, properties) = identity::sign(signature, (&self.properties, &[]), &mut joined);
        Self {
            origin,
            properties: properties.into(),
            ..self.clone()
        }
    }

    fn message<'a>(&'a self, exchange: &'a str, now: Time) -> MessageRef<'a> {
        MessageRef {
            head: Head {
                origin: self.origin,
                form: Form::Slashed,
                // [MQTT-3.1.2-14], [MQTT-3.1.2-15]; QoS 2 becomes 1 towards subscribers.
                persistent: self.qos != QoS::AtMostOnce,
                exactly_once: self.qos == QoS::ExactlyOnce,
                retain: self.retain,
                publisher: 0,
                received: now,
                expires: self.expiry_ms.map(|ms| now.after_ms(ms)),
            },
            exchange,
            key: self.topic.as_bytes(),
            properties: &self.properties,
            payload: &self.payload,
        }
    }

    /// Publishes the will now ([MQTT-3.1.2-8]).
    pub(crate) fn publish<C: Core>(&self, core: &C, turn: &mut Turn, exchange: &str) {
        let message = self.message(exchange, turn.now);
        let lost = match core.publish(turn, &mut Memo::default(), &message) {
            Ok(published) => published.rejected.then_some(Loss::Rejected),
            Err(refusal) => {
                tracing::warn!(%refusal, topic = &*self.topic, "will not published");
                Some(Loss::Will)
            }
        };
        if let Some(loss) = lost {
            core.count_loss(loss, self.qos as u8, message.key);
        }
    }

    /// Publishes the will after its delay, or at the session's end if that comes first
    /// ([MQTT-3.1.3-9]).
    pub(crate) fn publish_later<C: Core>(
        &self,
        core: &Arc<C>,
        turn: &mut Turn,
        exchange: &str,
        session_ms: Option<u64>,
    ) -> Option<Arc<Scheduled>> {
        let delay_ms = session_ms.map_or(self.delay_ms, |ms| ms.min(self.delay_ms));
        let at = turn.now.after_ms(delay_ms);
        let message = self.message(exchange, turn.now);
        core.schedule(turn, at, &message)
    }
}
