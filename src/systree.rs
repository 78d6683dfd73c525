//! The broker's figures under `$SYS`: VerneMQ's names below the node's, and mosquitto's below
//! `broker`.
//!
//! Owns one task. A virtual host's figures are its own. Where nobody listens and nothing is
//! retained, nothing is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leveret_core::time::Time;
use leveret_core::vhost::VHost;
use leveret_mqtt::options::SysTree;
use tokio::time::MissedTickBehavior;

use crate::announce::{Announcer, Manner};
use crate::monitor;

/// Publishes the figures for ever.
pub(crate) async fn publish(announcer: Announcer, options: SysTree, started: Time) {
    if !options.enabled || options.interval_ms == 0 {
        return;
    }
    let announcer = Arc::new(announcer);
    let options = Arc::new(options);
    let mut ticks = tokio::time::interval(Duration::from_millis(options.interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let chosen = chosen(&announcer, &options);
        if chosen.is_empty() {
            continue;
        }
        let (announcer, options) = (Arc::clone(&announcer), Arc::clone(&options));
        // Counting walks queues and connections.
        let work = move || publish_all(&announcer, &options, &chosen, started);
        if let Err(why) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%why, "the figures under $SYS could not be published");
        }
    }
}

/// The virtual hosts that get figures now.
fn chosen(announcer: &Announcer, options: &SysTree) -> Vec<Arc<VHost>> {
    let mut vhosts = announcer.broker.vhosts();
    vhosts.retain(|vhost| {
        let mounted = options.mountpoint.is_empty() || options.mountpoint == vhost.name();
        mounted && (options.retain || vhost.listens())
    });
    vhosts
}

fn publish_all(announcer: &Announcer, options: &SysTree, chosen: &[Arc<VHost>], started: Time) {
    let clients = clients(announcer);
    let manner = Manner {
        qos: options.qos,
        retain: options.retain,
        json: false,
    };
    let uptime_ms = announcer.clock.now().since_ms(started);
    for vhost in chosen {
        let mut turn = announcer.turn();
        let of_vhost = clients.get(vhost.name()).copied().unwrap_or_default();
        let figures = Figures::of(vhost, announcer, of_vhost);
        for (metric, value) in figures.vernemq(uptime_ms) {
            let path = format!("{}/{}", announcer.node, metric.replace('_', "/"));
            let value = value.to_string();
            announcer.under_sys(&mut turn, vhost, &path, value.as_bytes(), manner);
        }
        for (name, value) in figures.mosquitto(uptime_ms) {
            let path = format!("broker/{name}");
            announcer.under_sys(&mut turn, vhost, &path, value.as_bytes(), manner);
        }
        turn.ring();
    }
}

/// Connections of one virtual host.
#[derive(Clone, Copy, Default)]
struct Connections {
    mqtt: u64,
    all: u64,
}

fn clients(announcer: &Announcer) -> HashMap<String, Connections> {
    let mut out: HashMap<String, Connections> = HashMap::new();
    for (_, peer) in announcer.broker.peers() {
        let view = peer.view();
        let of_vhost = out.entry(view.vhost).or_default();
        of_vhost.all += 1;
        of_vhost.mqtt += u64::from(view.client_id.is_some());
    }
    out
}

/// What is counted in one virtual host.
struct Figures {
    connections: Connections,
    queues: u64,
    /// Sessions whose client is away.
    absent: u64,
    stored: u64,
    subscriptions: u64,
    retained: u64,
    dropped: u64,
    missed: u64,
    resident_bytes: u64,
}

impl Figures {
    fn of(vhost: &VHost, announcer: &Announcer, connections: Connections) -> Self {
        let (mut queues, mut absent, mut stored) = (0, 0, 0);
        for queue in vhost.queues() {
            let (messages, consumers) = queue.counts();
            queues += 1;
            stored += u64::from(messages);
            let of_session = queue.name().starts_with("mqtt-subscription-");
            absent += u64::from(of_session && consumers == 0);
        }
        let exchange = vhost.exchange(announcer.exchange());
        Self {
            connections,
            queues,
            absent,
            stored,
            subscriptions: exchange.map_or(0, |exchange| exchange.binding_count() as u64),
            retained: vhost.retained_count() as u64,
            dropped: vhost.losses().total(),
            missed: announcer.broker.events().missed(),
            resident_bytes: monitor::resident_bytes().unwrap_or_default(),
        }
    }

    fn vernemq(&self, uptime_ms: u64) -> [(&'static str, u64); 9] {
        [
            ("active_mqtt_connections", self.connections.mqtt),
            ("total_active_connections", self.connections.all),
            ("queue_processes", self.queues),
            ("queue_message_drop", self.dropped),
            ("router_subscriptions", self.subscriptions),
            ("retain_messages", self.retained),
            ("system_wallclock", uptime_ms),
            ("vm_memory_total", self.resident_bytes),
            ("events_missed", self.missed),
        ]
    }

    fn mosquitto(&self, uptime_ms: u64) -> [(&'static str, String); 8] {
        let number = |value: u64| value.to_string();
        let connected = self.connections.mqtt;
        [
            (
                "version",
                format!("leveret version {}", env!("CARGO_PKG_VERSION")),
            ),
            ("uptime", format!("{} seconds", uptime_ms / 1_000)),
            ("clients/connected", number(connected)),
            ("clients/disconnected", number(self.absent)),
            ("clients/total", number(connected + self.absent)),
            ("messages/stored", number(self.stored)),
            ("subscriptions/count", number(self.subscriptions)),
            ("retained messages/count", number(self.retained)),
        ]
    }
}
