//! rumqttc, the usual client of Rust programs, as one of the scripts: it runs in a process of its
//! own, as the others do, and nothing in it is about Leveret.
//!
//! Owns its checks. Waits for packets, never for time to pass.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, PublishProperties};
use rumqttc::{LastWill, Packet, QoS, v5};

/// How long anything may take before it is called lost: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(15);
/// Requests that wait for the client's own loop.
const REQUESTS: usize = 64;

/// A check, by its name.
type Check = (&'static str, fn(u16) -> Result<()>);

const CHECKS: &[Check] = &[
    ("qualities of service", qualities_of_service),
    ("wildcards", wildcards),
    ("retained, replaced and cleared", retained),
    ("will of a lost client", will),
    ("session with its messages", session),
    ("properties of MQTT 5.0 travel", properties),
    ("shared subscription", shared_subscription),
];

/// Runs every check against the broker that the environment names.
///
/// # Errors
/// At the first check that does not hold.
pub(crate) fn run() -> Result<()> {
    let port = std::env::var("INTEROP_MQTT_PORT").context("INTEROP_MQTT_PORT is not set")?;
    let port = port.parse().context("INTEROP_MQTT_PORT is no port")?;
    for (name, check) in CHECKS {
        check(port).with_context(|| (*name).to_owned())?;
        println!("ok: {name}");
    }
    Ok(())
}

/// A client of MQTT 3.1.1 that waits for answers.
struct Client4 {
    client: rumqttc::Client,
    connection: rumqttc::Connection,
    session_present: bool,
}

impl Client4 {
    fn connect(port: u16, id: &str, adapt: impl FnOnce(&mut rumqttc::MqttOptions)) -> Result<Self> {
        let mut options = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
        adapt(&mut options);
        let (client, connection) = rumqttc::Client::new(options, REQUESTS);
        let mut connected = Self {
            client,
            connection,
            session_present: false,
        };
        connected.session_present = connected.until(|packet| match packet {
            Packet::ConnAck(connack) => Some(connack.session_present),
            _ => None,
        })?;
        Ok(connected)
    }

    /// What the first packet is that is wanted.
    fn until<T>(&mut self, mut wanted: impl FnMut(Packet) -> Option<T>) -> Result<T> {
        loop {
            let event = self.connection.recv_timeout(DEADLINE);
            if let rumqttc::Event::Incoming(packet) =
                event.map_err(|_| anyhow!("no packet came"))??
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<()> {
        self.client.subscribe(filter, qos)?;
        let codes = self.until(|packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes),
            _ => None,
        })?;
        let granted = matches!(codes[..], [rumqttc::SubscribeReasonCode::Success(_)]);
        ensure!(granted, "{filter} is refused: {codes:?}");
        Ok(())
    }

    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) -> Result<()> {
        self.client.publish(topic, qos, retain, payload)?;
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        self.until(|packet| match packet {
            Packet::PubAck(_) if qos == QoS::AtLeastOnce => Some(()),
            Packet::PubComp(_) if qos == QoS::ExactlyOnce => Some(()),
            _ => None,
        })
    }

    fn next(&mut self) -> Result<rumqttc::Publish> {
        self.until(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
    }

    /// Whose payload is the next, and whether it is flagged as retained.
    fn expect(&mut self, payload: &str, retain: bool) -> Result<()> {
        let next = self.next()?;
        let what = String::from_utf8_lossy(&next.payload).into_owned();
        ensure!(
            (what.as_str(), next.retain) == (payload, retain),
            "{what:?}, retain {}, came where {payload:?}, retain {retain}, was due",
            next.retain
        );
        Ok(())
    }

    fn disconnect(mut self) -> Result<()> {
        self.client.disconnect()?;
        // The loop ends once it is out.
        while let Ok(Ok(_)) = self.connection.recv_timeout(DEADLINE) {}
        Ok(())
    }
}

fn plain(_: &mut rumqttc::MqttOptions) {}

fn qualities_of_service(port: u16) -> Result<()> {
    let mut reader = Client4::connect(port, "rumqttc-qos-r", plain)?;
    let mut writer = Client4::connect(port, "rumqttc-qos-w", plain)?;
    reader.subscribe("rumqttc/qos", QoS::ExactlyOnce)?;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        writer.publish("rumqttc/qos", qos, false, &format!("{qos:?}"))?;
        // An acknowledgement of a QoS 0 publish does not exist: the reader's copy is the sign.
        if qos == QoS::AtMostOnce {
            writer.publish("rumqttc/flush", QoS::AtLeastOnce, false, "")?;
        }
        reader.expect(&format!("{qos:?}"), false)?;
    }
    Ok(())
}

fn wildcards(port: u16) -> Result<()> {
    let mut reader = Client4::connect(port, "rumqttc-wild-r", plain)?;
    let mut writer = Client4::connect(port, "rumqttc-wild-w", plain)?;
    reader.subscribe("rumqttc/wild/+/x", QoS::AtLeastOnce)?;
    reader.subscribe("rumqttc/wild/a/#", QoS::AtLeastOnce)?;
    for leaf in ["b/x", "b/y", "a/b/c"] {
        writer.publish(
            &format!("rumqttc/wild/{leaf}"),
            QoS::AtLeastOnce,
            false,
            leaf,
        )?;
    }
    reader.expect("b/x", false)?;
    reader.expect("a/b/c", false)
}

fn retained(port: u16) -> Result<()> {
    let mut writer = Client4::connect(port, "rumqttc-kept-w", plain)?;
    for payload in ["first", "second"] {
        writer.publish("rumqttc/kept", QoS::AtLeastOnce, true, payload)?;
    }
    let mut reader = Client4::connect(port, "rumqttc-kept-r", plain)?;
    reader.subscribe("rumqttc/kept", QoS::AtLeastOnce)?;
    reader.expect("second", true)?;
    writer.publish("rumqttc/kept", QoS::AtLeastOnce, true, "")?;
    reader.expect("", false)?;
    let mut late = Client4::connect(port, "rumqttc-kept-l", plain)?;
    late.subscribe("rumqttc/kept", QoS::AtLeastOnce)?;
    writer.publish("rumqttc/kept", QoS::AtLeastOnce, false, "live")?;
    late.expect("live", false)
}

fn will(port: u16) -> Result<()> {
    let mut reader = Client4::connect(port, "rumqttc-will-r", plain)?;
    reader.subscribe("rumqttc/will", QoS::AtLeastOnce)?;
    let lost = Client4::connect(port, "rumqttc-will-w", |options| {
        let will = LastWill::new("rumqttc/will", "gone", QoS::AtLeastOnce, false);
        options.set_last_will(will);
    })?;
    drop(lost);
    reader.expect("gone", false)
}

fn session(port: u16) -> Result<()> {
    let persistent = |options: &mut rumqttc::MqttOptions| {
        options.set_clean_session(false);
    };
    let mut first = Client4::connect(port, "rumqttc-kept-session", persistent)?;
    first.subscribe("rumqttc/session", QoS::AtLeastOnce)?;
    first.disconnect()?;
    let mut writer = Client4::connect(port, "rumqttc-session-w", plain)?;
    for payload in ["one", "two"] {
        writer.publish("rumqttc/session", QoS::AtLeastOnce, false, payload)?;
    }
    let mut second = Client4::connect(port, "rumqttc-kept-session", persistent)?;
    ensure!(second.session_present, "the session is gone");
    second.expect("one", false)?;
    second.expect("two", false)?;
    second.disconnect()?;
    Client4::connect(port, "rumqttc-kept-session", plain)?.disconnect()
}

/// A client of MQTT 5.0 that waits for answers.
struct Client5 {
    client: v5::Client,
    connection: v5::Connection,
}

impl Client5 {
    fn connect(port: u16, id: &str) -> Result<Self> {
        let mut options = v5::MqttOptions::new(id, "127.0.0.1", port);
        options.set_connect_properties(ConnectProperties::new());
        let (client, connection) = v5::Client::new(options, REQUESTS);
        let mut connected = Self { client, connection };
        connected.until(|packet| matches!(packet, v5::Incoming::ConnAck(_)).then_some(()))?;
        Ok(connected)
    }

    fn until<T>(&mut self, mut wanted: impl FnMut(v5::Incoming) -> Option<T>) -> Result<T> {
        loop {
            let event = self.connection.recv_timeout(DEADLINE);
            if let v5::Event::Incoming(packet) = event.map_err(|_| anyhow!("no packet came"))??
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    }

    fn subscribe(&mut self, filter: &str) -> Result<()> {
        self.client
            .subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce)?;
        self.until(|packet| matches!(packet, v5::Incoming::SubAck(_)).then_some(()))
    }

    fn publish(&mut self, topic: &str, payload: String, with: PublishProperties) -> Result<()> {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        self.client
            .publish_with_properties(topic, qos, false, payload, with)?;
        self.until(|packet| matches!(packet, v5::Incoming::PubAck(_)).then_some(()))
    }

    fn next(&mut self) -> Result<packets5::Publish> {
        self.until(|packet| match packet {
            v5::Incoming::Publish(publish) => Some(publish),
            _ => None,
        })
    }
}

fn properties(port: u16) -> Result<()> {
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("rumqttc/answers".to_owned()),
        correlation_data: Some(vec![0, 255].into()),
        user_properties: vec![
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
            ("a".to_owned(), "3".to_owned()),
        ],
        ..PublishProperties::default()
    };
    let mut reader = Client5::connect(port, "rumqttc-five-r")?;
    let mut writer = Client5::connect(port, "rumqttc-five-w")?;
    reader.subscribe("rumqttc/five")?;
    writer.publish("rumqttc/five", "text".to_owned(), sent.clone())?;
    let Some(mut came) = reader.next()?.properties else {
        bail!("the message has no properties");
    };
    came.topic_alias = None;
    ensure!(came == sent, "{came:?} came where {sent:?} was sent");
    Ok(())
}

fn shared_subscription(port: u16) -> Result<()> {
    const COUNT: usize = 12;
    let mut members = [
        Client5::connect(port, "rumqttc-shared-a")?,
        Client5::connect(port, "rumqttc-shared-b")?,
    ];
    for member in &mut members {
        member.subscribe("$share/rumqttc/rumqttc/shared")?;
        // The last message to each of them says that nothing more comes.
        member.subscribe("rumqttc/end")?;
    }
    let mut writer = Client5::connect(port, "rumqttc-shared-w")?;
    for number in 0..COUNT {
        let with = PublishProperties::default();
        writer.publish("rumqttc/shared", number.to_string(), with)?;
    }
    let end = PublishProperties::default();
    writer.publish("rumqttc/end", "end".to_owned(), end)?;
    let mut came = Vec::new();
    for member in &mut members {
        let mut own = 0;
        loop {
            let next = member.next()?;
            if &next.topic[..] == b"rumqttc/end" {
                break;
            }
            own += 1;
            came.push(String::from_utf8_lossy(&next.payload).parse::<usize>()?);
        }
        ensure!(own > 0, "a member got none of {COUNT} messages");
    }
    came.sort_unstable();
    let all: Vec<_> = (0..COUNT).collect();
    ensure!(came == all, "{came:?} came of {COUNT} messages");
    Ok(())
}
