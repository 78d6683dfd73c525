//! `tail`: publications as they go by, for as long as the client listens.
//!
//! Owns the rows. Samples come from a tap of the core; nothing is taken from a queue.

use std::sync::Arc;

use leveret_core::broker::Broker;
use leveret_core::key::Form;
use leveret_core::taps::{From, Sample, Tap, Wish};
use leveret_core::watermark::Wake;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::context::Context;
use crate::protocol::{Answer, Code, Failure, LIVE_WAITING_MAX};

/// What is watched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    filter: String,
    /// The filter is a binding key of AMQP.
    #[serde(default)]
    key: bool,
    vhost: Option<String>,
    exchange: Option<String>,
    #[serde(default = "rate")]
    rate: u32,
    #[serde(default = "payload_bytes")]
    payload_bytes: usize,
    #[serde(default)]
    redact: bool,
    #[serde(default)]
    mqtt_only: bool,
    #[serde(default)]
    amqp_only: bool,
}

fn rate() -> u32 {
    RATE
}

fn payload_bytes() -> usize {
    PAYLOAD_BYTES
}

pub(super) fn tail(context: &Context, wanted: Tail) -> Result<Answer, Failure> {
    let usage = |text: &str| Failure::new(Code::Usage, text);
    if wanted.filter.is_empty() {
        return Err(usage("the filter is empty"));
    }
    if wanted.filter.len() > FILTER_BYTES_MAX {
        return Err(usage("the filter is too long"));
    }
    if wanted.rate == 0 || wanted.payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(usage("rate is at least 1, payload_bytes at most 65536"));
    }
    if let Some(vhost) = &wanted.vhost {
        super::existing_vhost(context, vhost)?;
    }
    let from = match (wanted.mqtt_only, wanted.amqp_only) {
        (true, true) => return Err(usage("mqtt_only and amqp_only contradict each other")),
        (true, false) => From::Mqtt,
        (false, true) => From::Amqp,
        (false, false) => From::All,
    };
    let wish = Wish {
        vhost: wanted.vhost.map(Into::into),
        exchange: wanted.exchange.map(Into::into),
        filter: wanted.filter.into(),
        form: if wanted.key {
            Form::Dotted
        } else {
            Form::Slashed
        },
        from,
        rate_max: wanted.rate,
        payload_bytes_max: if wanted.redact {
            0
        } else {
            wanted.payload_bytes
        },
    };
    let bell = Arc::new(Bell(Notify::new()));
    let driver = Arc::clone(&bell) as Arc<dyn Wake>;
    let tap = context.broker.taps().open(wish, driver).ok_or_else(|| {
        Failure::new(
            Code::Temporary,
            "too many are watching already: try again later",
        )
    })?;
    let (sender, receiver) = mpsc::channel(LIVE_WAITING_MAX);
    tokio::spawn(pump(
        Arc::clone(&context.broker),
        tap,
        bell,
        sender,
        wanted.redact,
    ));
    Ok(Answer::Live(receiver))
}

/// Hands samples over until nobody listens.
async fn pump(
    broker: Arc<Broker>,
    tap: Tap,
    bell: Arc<Bell>,
    sender: mpsc::Sender<Value>,
    redact: bool,
) {
    loop {
        for sample in tap.take(SAMPLES_AT_ONCE) {
            let row = row(&broker, &sample, redact);
            if sender.send(row).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = bell.0.notified() => {}
            () = sender.closed() => return,
        }
    }
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

fn row(broker: &Broker, sample: &Sample, redact: bool) -> Value {
    let mqtt = sample.form == Form::Slashed;
    let peer = broker
        .peer(sample.connection)
        .map(|peer| peer.view().peer.to_string());
    let payload = match std::str::from_utf8(cut(&sample.payload, sample.payload_bytes)) {
        _ if redact => Value::Null,
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(&sample.payload) }),
    };
    let qos = match (mqtt, sample.exactly_once, sample.persistent) {
        (false, ..) => Value::Null,
        (true, true, _) => 2.into(),
        (true, false, persistent) => u8::from(persistent).into(),
    };
    json!({
        "time_ms": sample.at.0,
        "protocol": if mqtt { "MQTT" } else { "AMQP 0-9-1" },
        "vhost": &*sample.vhost,
        "exchange": &*sample.exchange,
        "key": &*sample.key,
        "qos": qos,
        "persistent": sample.persistent,
        "retain": sample.retain,
        "user": &*sample.user,
        "client_id": sample.client_id.as_deref(),
        "peer": peer,
        "routed": sample.routed,
        "payload_bytes": sample.payload_bytes,
        "payload": payload,
        "skipped": sample.skipped,
    })
}

/// The first bytes of a payload, less what is left of a character that was cut in two.
fn cut(kept: &[u8], whole_bytes: usize) -> &[u8] {
    if kept.len() == whole_bytes {
        return kept;
    }
    match std::str::from_utf8(kept) {
        Err(why) if why.error_len().is_none() => &kept[..why.valid_up_to()],
        _ => kept,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Samples a second where nobody says how many.
const RATE: u32 = 100;

/// Bytes of a payload that are shown where nobody says how many.
const PAYLOAD_BYTES: usize = 200;

/// Bytes of a payload that may be asked for.
const PAYLOAD_BYTES_MAX: usize = 65_536;

/// Bytes of a filter: what MQTT has room for.
const FILTER_BYTES_MAX: usize = 65_535;

/// Samples that are taken at once.
const SAMPLES_AT_ONCE: usize = 64;
