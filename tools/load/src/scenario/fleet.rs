//! The MQTT clients of a run: opened one after another, handed to the engine.
//!
//! Owns their sessions, and takes them away at the end if they would outlive the connection.

use std::net::TcpStream;

use super::{Job, Run};
use crate::engine::{Engine, Limits, Outcome, Protocol};
use crate::failure::Failure;
use crate::mqtt::{self, ConnAck, Wish};
use crate::template::{Extras, Template, route};

/// What the clients of a run are like.
pub(super) struct FleetPlan {
    pub(super) options: mqtt::Options,
    pub(super) limits: Limits,
    pub(super) run: Run,
    /// What topics begin with.
    pub(super) prefix: String,
    /// What client identifiers begin with.
    pub(super) client_ids: String,
    pub(super) clean: bool,
    pub(super) sub_qos: u8,
    /// Payload bytes.
    pub(super) size: usize,
    /// What messages of MQTT 5 have beside.
    pub(super) extras: Extras,
}

impl FleetPlan {
    /// Clean sessions, topics of the usual shape, subscriptions of the publishers' QoS.
    pub(super) fn usual(options: mqtt::Options, limits: Limits, run: Run, size: usize) -> Self {
        Self {
            sub_qos: limits.qos,
            options,
            limits,
            run,
            prefix: run.topics(),
            client_ids: run.client_ids(),
            clean: true,
            size,
            extras: Extras::default(),
        }
    }
}

/// The clients, and the engine that has their connections.
pub(super) struct Fleet {
    plan: FleetPlan,
    pub(super) engine: Engine,
    /// The smallest window that the broker allowed a publisher.
    pub(super) granted_window: u32,
    /// The least QoS that the broker granted a subscription.
    pub(super) granted_qos: u8,
    /// Client identifiers of sessions that outlive their connection.
    stored: Vec<String>,
}

impl Fleet {
    pub(super) fn new(plan: FleetPlan) -> Self {
        let (v5, qos) = (plan.options.v5, plan.limits.qos);
        let template = match v5 {
            true => Template::mqtt5(&plan.prefix, qos, plan.extras, plan.size),
            false => Template::mqtt(false, &plan.prefix, qos, false, plan.size),
        };
        Self {
            engine: Engine::new(plan.limits.clone(), Some(template), plan.run.0),
            granted_window: u32::MAX,
            granted_qos: plan.sub_qos,
            stored: vec![],
            plan,
        }
    }

    /// So many pairs of a publisher and a subscriber, each with topics of its own.
    pub(super) fn pairs(&mut self, pairs: usize, topics_each: usize) -> Result<(), Failure> {
        let topics: Vec<usize> = (0..topics_each).collect();
        for i in 0..pairs {
            let group = self.engine.group();
            let sink = self.engine.sink(group, 1);
            let last = if topics_each == 1 { "000000" } else { "+" };
            let filter = format!("{}{i:06}/{last}", self.plan.prefix);
            self.subscriber(i, &filter, sink, 0)?;
            self.publisher(group, i, &topics)?;
        }
        Ok(())
    }

    pub(super) fn publisher(
        &mut self,
        group: usize,
        i: usize,
        topics: &[usize],
    ) -> Result<(), Failure> {
        let opened = self.open('p', i);
        let (mut stream, granted) = opened.map_err(|why| why.of(&format!("publisher {i}")))?;
        if self.plan.extras.aliases {
            self.set_aliases(&mut stream, &granted, group, topics)?;
        }
        if granted.max_qos < self.plan.limits.qos {
            let text = format!("the broker allows QoS {} at most", granted.max_qos);
            return Err(Failure::Refused(text));
        }
        let window = self.plan.limits.window.min(granted.receive_max);
        self.granted_window = self.granted_window.min(window);
        let protocol = self.protocol();
        self.engine
            .publisher(stream, protocol, group, topics, window)
    }

    /// Sets a topic alias for each topic of a publisher, with a message that has no payload.
    fn set_aliases(
        &self,
        stream: &mut TcpStream,
        granted: &ConnAck,
        group: usize,
        topics: &[usize],
    ) -> Result<(), Failure> {
        if topics.len() > usize::from(granted.topic_alias_max) {
            let max = granted.topic_alias_max;
            let text = format!(
                "the broker allows {max} topic aliases, not {}",
                topics.len()
            );
            return Err(Failure::Refused(text));
        }
        let mut packets = vec![];
        for (number, topic) in (1..).zip(topics) {
            let route = route(group, *topic, b'/');
            let topic = format!("{}{}", self.plan.prefix, String::from_utf8_lossy(&route));
            let mut properties = vec![];
            mqtt::topic_alias(&mut properties, number);
            packets.extend(mqtt::publish(Some(&properties), &topic, 0, false, &[]));
        }
        mqtt::write(stream, &packets, "PUBLISH")
    }

    pub(super) fn subscriber(
        &mut self,
        i: usize,
        filter: &str,
        sink: usize,
        slot: usize,
    ) -> Result<(), Failure> {
        let opened = self.open('s', i);
        let (mut stream, _) = opened.map_err(|why| why.of(&format!("subscriber {i}")))?;
        let (v5, qos) = (self.plan.options.v5, self.plan.sub_qos);
        let granted = mqtt::subscribe_wait(v5, &mut stream, filter, qos)?;
        self.granted_qos = self.granted_qos.min(granted);
        let protocol = self.protocol();
        self.engine.subscriber(stream, protocol, sink, slot)
    }

    /// Runs them.
    pub(super) fn measure(&mut self, job: &mut Job<'_>, pid: u32) -> Result<Outcome, Failure> {
        job.measure(&mut self.engine, pid)
    }

    /// Closes the connections and removes the sessions that would stay.
    pub(super) fn dissolve(self) {
        drop(self.engine);
        for client_id in self.stored {
            // Best effort: the run is over, and the report says what there is to say.
            let _ = mqtt::forget(&self.plan.options, &client_id);
        }
    }

    fn protocol(&self) -> Protocol {
        Protocol::Mqtt {
            v5: self.plan.options.v5,
        }
    }

    fn open(&mut self, kind: char, i: usize) -> Result<(TcpStream, ConnAck), Failure> {
        let plan = &self.plan;
        let client_id = format!("{}-{kind}{i}", plan.client_ids);
        if !plan.clean {
            // What a run that was cut off left behind is none of ours.
            mqtt::forget(&plan.options, &client_id)?;
        }
        let wish = Wish {
            client_id: &client_id,
            clean: plan.clean,
            expiry_s: if plan.clean { 0 } else { EXPIRY_S },
        };
        let opened = mqtt::open(&plan.options, None, wish)?;
        if !plan.clean {
            self.stored.push(client_id);
        }
        Ok(opened)
    }
}

/// Session Expiry Interval of persistent sessions: longer than a run and its removal.
const EXPIRY_S: u32 = 1_800;
