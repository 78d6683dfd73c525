//! `bridge`: MQTT to AMQP or back through a topic exchange.
//!
//! Owns the one queue of the run, and deletes it at the end.

use super::{
    Job, KEEP_ALIVE_S, Run, amqp_limits, amqp_options, broker_pid, describe, limits, mqtt_options,
    size,
};
use crate::amqp::{self, Client};
use crate::args::Args;
use crate::engine::{Engine, Limits, Protocol};
use crate::failure::Failure;
use crate::mqtt::{self, Wish};
use crate::report::Report;
use crate::sockets::descriptors_for;
use crate::template::{Content, Template};

/// The two ends and what goes between them.
struct Ends {
    mqtt: mqtt::Options,
    amqp: amqp::Options,
    to_amqp: bool,
    pubs: usize,
    subs: usize,
    qos: u8,
    exchange: String,
    run: Run,
}

impl Ends {
    fn read(args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            mqtt: mqtt_options(args, KEEP_ALIVE_S)?,
            amqp: amqp_options(args)?,
            to_amqp: match args.text("direction") {
                "mqtt-amqp" => true,
                "amqp-mqtt" => false,
                _ => return Err(args.unknown("direction")),
            },
            pubs: args.size("pubs", 1, CLIENTS_MAX)?,
            subs: args.size("subs", 1, CLIENTS_MAX)?,
            qos: args.qos("qos")?,
            exchange: args.text("exchange").to_owned(),
            run: Run::new(),
        })
    }

    fn limits(&self, args: &Args) -> Result<Limits, Failure> {
        let copies = if self.to_amqp { 1 } else { self.subs as u64 };
        let mut limits = limits(args, copies)?;
        amqp_limits(args, &mut limits)?;
        if self.to_amqp {
            limits.qos = self.qos;
            return Ok(limits);
        }
        limits.prefetch = 0;
        limits.confirms = args.is_set("confirms");
        if self.qos > 0 {
            limits.sub_inflight = args.count("sub-inflight", 1, 65_535)? as u32;
        }
        Ok(limits)
    }

    fn queue(&self) -> String {
        format!("b.{}.bridge", self.run.tag())
    }

    fn gather(&self, engine: &mut Engine, limits: &Limits) -> Result<(), Failure> {
        let group = engine.group();
        if self.to_amqp {
            let sink = engine.sink(group, self.subs);
            for slot in 0..self.subs {
                let mut client = Client::open(&self.amqp)?;
                if limits.prefetch > 0 {
                    client.basic_qos(limits.prefetch as u16)?;
                }
                client.basic_consume(&self.queue(), limits.auto_ack)?;
                engine.subscriber(client.stream, Protocol::Amqp, sink, slot)?;
            }
            for i in 0..self.pubs {
                let (stream, granted) = self.client('p', i)?;
                let window = limits.window.min(granted.receive_max);
                engine.publisher(stream, self.protocol(), group, &[i], window)?;
            }
            return Ok(());
        }
        let filter = format!("{}#", self.run.topics());
        for i in 0..self.subs {
            let (mut stream, _) = self.client('s', i)?;
            mqtt::subscribe_wait(self.mqtt.v5, &mut stream, &filter, self.qos)?;
            let sink = engine.sink(group, 1);
            engine.subscriber(stream, self.protocol(), sink, 0)?;
        }
        for i in 0..self.pubs {
            let mut client = Client::open(&self.amqp)?;
            if limits.confirms {
                client.confirm_select()?;
            }
            engine.publisher(client.stream, Protocol::Amqp, group, &[i], limits.window)?;
        }
        Ok(())
    }

    fn protocol(&self) -> Protocol {
        Protocol::Mqtt { v5: self.mqtt.v5 }
    }

    fn client(
        &self,
        kind: char,
        i: usize,
    ) -> Result<(std::net::TcpStream, mqtt::ConnAck), Failure> {
        let wish = Wish {
            client_id: &format!("{}-{kind}{i}", self.run.client_ids()),
            clean: true,
            expiry_s: 0,
        };
        mqtt::open(&self.mqtt, None, wish)
    }
}

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn bridge(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let ends = Ends::read(args)?;
    let pid = broker_pid(args)?;
    let size = size(args)?;
    let limits = ends.limits(args)?;
    descriptors_for(ends.pubs + ends.subs)?;
    let (run, v5) = (ends.run, ends.mqtt.v5);
    let template = if ends.to_amqp {
        Template::mqtt(v5, &run.topics(), ends.qos, false, size)
    } else {
        Template::amqp(
            &ends.exchange,
            &run.prefix(super::LEVELS, '.'),
            Content::default(),
            size,
        )
    };
    let mut engine = Engine::new(limits.clone(), Some(template), run.0);
    let mut admin = None;
    if ends.to_amqp {
        let mut client = Client::open(&ends.amqp)?;
        client.queue_declare(&ends.queue(), false, "", 0)?;
        client.queue_bind(&ends.queue(), &ends.exchange, &format!("b.{}.#", run.tag()))?;
        admin = Some(client);
    }
    let measured = ends
        .gather(&mut engine, &limits)
        .and_then(|()| job.measure(&mut engine, pid));
    let direction = args.text("direction");
    let Ends {
        pubs, subs, qos, ..
    } = &ends;
    let what = format!("{direction} {pubs} → {subs}, QoS {qos}, {size} B");
    let mut report = describe(args, "bridge", what, DESCRIBED);
    report.put("outstanding", limits.outstanding);
    if let Ok(outcome) = &measured {
        engine.report(&mut report, outcome, pid);
    }
    drop(engine);
    if let Some(mut client) = admin {
        // Best effort: it goes with the broker at the latest.
        let _ = client.queue_delete(&ends.queue());
    }
    measured.map(|_| report)
}

const CLIENTS_MAX: usize = 5_000;

const DESCRIBED: &[&str] = &[
    "addr",
    "amqp-addr",
    "direction",
    "pubs",
    "subs",
    "size",
    "qos",
    "confirms",
    "prefetch",
    "ack-every",
    "auto-ack",
    "rate",
    "window",
];
