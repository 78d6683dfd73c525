//! What switching a plugin does to a running broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_core::broker::Broker;
use leveret_core::peer::CloseReason;
use leveret_management::plugins::{PluginHost, Switching};
use leveret_net::listener::ListenError;
use leveret_net::listeners::Listeners;
use leveret_net::options::Protocol;

/// The plugin that is the MQTT adapter, by RabbitMQ's name.
pub(crate) const MQTT: &str = "rabbitmq_mqtt";

/// Switches the plugins of one broker.
pub(crate) struct Switches {
    broker: Arc<Broker>,
    listeners: Arc<Listeners>,
    mqtt: AtomicBool,
}

impl Switches {
    /// Nothing runs yet.
    pub(crate) fn new(broker: Arc<Broker>, listeners: Arc<Listeners>) -> Self {
        Self {
            broker,
            listeners,
            mqtt: AtomicBool::new(false),
        }
    }

    /// Opens the MQTT listeners.
    pub(crate) fn start_mqtt(&self) -> Result<(), ListenError> {
        self.listeners.open(Protocol::Mqtt)?;
        self.mqtt.store(true, Ordering::Release);
        Ok(())
    }

    /// Closes the MQTT listeners and ends their connections; sessions stay.
    async fn stop_mqtt(&self) {
        self.mqtt.store(false, Ordering::Release);
        self.listeners.close(Protocol::Mqtt).await;
        let ended = self
            .broker
            .close_peers(&CloseReason::PluginDisabled, |peer| {
                peer.view().protocol.starts_with("MQTT")
            });
        tracing::info!(plugin = MQTT, connections = ended, "plugin stopped");
    }
}

impl PluginHost for Switches {
    fn enable(&self, name: &'static str) -> Switching<'_> {
        Box::pin(async move {
            match name {
                MQTT => self.start_mqtt().map_err(|why| why.to_string()),
                _ => Err("not part of this version".to_owned()),
            }
        })
    }

    fn disable(&self, name: &'static str) -> Switching<'_> {
        Box::pin(async move {
            match name {
                MQTT => self.stop_mqtt().await,
                _ => return Err("not part of this version".to_owned()),
            }
            Ok(())
        })
    }

    fn is_running(&self, name: &str) -> bool {
        name == MQTT && self.mqtt.load(Ordering::Acquire)
    }
}
