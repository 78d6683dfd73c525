//! `amqp pub-sub`: publishers, queues and consumers of AMQP 0-9-1.
//!
//! Owns queues and exchange of the run, and deletes them at the end.

use super::{
    Job, LEVELS, Run, amqp_limits, amqp_options, broker_pid, describe, limits, share, size,
};
use crate::amqp::{self, Client};
use crate::args::Args;
use crate::engine::{Engine, Limits, Protocol};
use crate::failure::Failure;
use crate::report::Report;
use crate::sockets::descriptors_for;
use crate::template::{Content, Template, YES};

/// What is there and what it is called.
struct Topology {
    run: Run,
    options: amqp::Options,
    kind: String,
    pubs: usize,
    subs: usize,
    queues: usize,
    durable: bool,
    queue_type: String,
    /// `x-max-priority`, and the priority of all messages; 0: none.
    max_priority: u8,
    /// Bindings of the headers exchange that match no message.
    bindings: usize,
    /// Routing keys of each publisher.
    keys: usize,
    /// What names begin with.
    prefix: String,
    /// What routing keys begin with.
    key_prefix: String,
    /// Empty: the default exchange.
    exchange: String,
}

impl Topology {
    fn read(args: &Args) -> Result<Self, Failure> {
        let kind = args.text("exchange").to_owned();
        if !["default", "direct", "topic", "fanout", "headers"].contains(&kind.as_str()) {
            return Err(args.unknown("exchange"));
        }
        let keys = args.size("topics-per-pub", 1, 999_999)?;
        let levels = args.size("topic-levels", 3, 32)?;
        let run = Run::new();
        let prefix = run.prefix(LEVELS, '.');
        let is_topic = kind == "topic";
        if !is_topic && (keys > 1 || levels != LEVELS) {
            return Err(Failure::argument(
                "--topics-per-pub and --topic-levels need --exchange topic",
            ));
        }
        let topology = Self {
            run,
            options: amqp_options(args)?,
            pubs: args.size("pubs", 1, CLIENTS_MAX)?,
            subs: args.size("subs", 0, CLIENTS_MAX)?,
            queues: args.size("queues", 1, CLIENTS_MAX)?,
            durable: args.is_set("durable"),
            queue_type: args.text("queue-type").to_owned(),
            max_priority: args.count("max-priority", 0, 255)? as u8,
            bindings: args.size("bindings", 0, 1_000_000)?,
            keys,
            key_prefix: run.prefix(levels, '.'),
            exchange: if kind == "default" {
                String::new()
            } else {
                format!("{prefix}{kind}")
            },
            prefix,
            kind,
        };
        if !topology.is_fanout() && topology.pubs < topology.queues {
            return Err(Failure::argument("fewer publishers than queues"));
        }
        let headers = topology.kind == "headers";
        if (headers && topology.queues > 1) || (!headers && topology.bindings > 0) {
            return Err(Failure::argument(
                "--exchange headers has one queue, and it alone has --bindings",
            ));
        }
        Ok(topology)
    }

    fn is_fanout(&self) -> bool {
        self.kind == "fanout"
    }

    fn queue(&self, q: usize) -> String {
        format!("{}{q:06}.000000", self.prefix)
    }

    fn declare(&self) -> Result<(), Failure> {
        let mut admin = Client::open(&self.options)?;
        if !self.exchange.is_empty() {
            admin.exchange_declare(&self.exchange, &self.kind, self.durable)?;
        }
        for q in 0..self.queues {
            let queue = self.queue(q);
            let (durable, priority) = (self.durable, self.max_priority);
            admin.queue_declare(&queue, durable, &self.queue_type, priority)?;
            if self.exchange.is_empty() {
                continue;
            }
            if self.kind == "headers" {
                let others = (0..self.bindings).map(|n| format!("no-{n:07}"));
                let values: Vec<String> = others.chain([YES.to_owned()]).collect();
                admin.queue_bind_headers(&queue, &self.exchange, &values)?;
                continue;
            }
            let key = match self.kind.as_str() {
                "topic" => format!("{}{q:06}.*", self.key_prefix),
                _ => queue.clone(),
            };
            admin.queue_bind(&queue, &self.exchange, &key)?;
        }
        Ok(())
    }

    /// Best effort: the run is over.
    fn delete(&self) {
        let Ok(mut admin) = Client::open(&self.options) else {
            return;
        };
        for q in 0..self.queues {
            let _ = admin.queue_delete(&self.queue(q));
        }
        if !self.exchange.is_empty() {
            let _ = admin.exchange_delete(&self.exchange);
        }
    }

    fn consumers(&self, e: &mut Engine, limits: &Limits, group: usize, q: usize) -> Outcome {
        let n = (0..self.subs).filter(|c| c % self.queues == q).count();
        if n == 0 {
            return Ok(());
        }
        let sink = e.sink(group, n);
        for slot in 0..n {
            let mut client = Client::open(&self.options).map_err(|why| why.of("consumer"))?;
            if limits.prefetch > 0 {
                client.basic_qos(limits.prefetch as u16)?;
            }
            client.basic_consume(&self.queue(q), limits.auto_ack)?;
            e.subscriber(client.stream, Protocol::Amqp, sink, slot)?;
        }
        Ok(())
    }

    fn publisher(&self, e: &mut Engine, limits: &Limits, group: usize) -> Outcome {
        let mut client = Client::open(&self.options).map_err(|why| why.of("publisher"))?;
        if limits.confirms {
            client.confirm_select()?;
        }
        let keys: Vec<usize> = (0..self.keys).collect();
        e.publisher(client.stream, Protocol::Amqp, group, &keys, limits.window)
    }

    fn gather(&self, e: &mut Engine, limits: &Limits) -> Outcome {
        self.declare()?;
        if self.is_fanout() {
            let group = e.group();
            for q in 0..self.queues {
                self.consumers(e, limits, group, q)?;
            }
            for _ in 0..self.pubs {
                self.publisher(e, limits, group)?;
            }
            return Ok(());
        }
        for q in 0..self.queues {
            let group = e.group();
            self.consumers(e, limits, group, q)?;
            for _ in (0..self.pubs).filter(|p| p % self.queues == q) {
                self.publisher(e, limits, group)?;
            }
        }
        Ok(())
    }
}

type Outcome = Result<(), Failure>;

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn amqp_pub_sub(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let topology = Topology::read(args)?;
    let pid = broker_pid(args)?;
    let size = size(args)?;
    let persistent = args.is_set("persistent");
    let copies = if topology.is_fanout() {
        topology.queues as u64
    } else {
        1
    };
    let mut limits = limits(args, copies)?;
    if !topology.is_fanout() {
        share(&mut limits, topology.queues);
    }
    limits.confirms = args.is_set("confirms");
    amqp_limits(args, &mut limits)?;
    descriptors_for(topology.pubs + topology.subs)?;
    let prefix = match topology.kind.as_str() {
        "topic" => &topology.key_prefix,
        _ => &topology.prefix,
    };
    let content = Content {
        persistent,
        priority: topology.max_priority,
        header: topology.kind == "headers",
    };
    let template = Template::amqp(&topology.exchange, prefix, content, size);
    let mut engine = Engine::new(limits.clone(), Some(template), topology.run.0);
    let measured = topology
        .gather(&mut engine, &limits)
        .and_then(|()| job.measure(&mut engine, pid));
    let outcome = match measured {
        Ok(outcome) => outcome,
        Err(why) => {
            drop(engine);
            topology.delete();
            return Err(why);
        }
    };
    let what = what(&topology, &limits, persistent, size);
    let mut report = describe(args, "amqp pub-sub", what, DESCRIBED);
    report.put("outstanding", limits.outstanding);
    engine.report(&mut report, &outcome, pid);
    drop(engine);
    topology.delete();
    Ok(report)
}

fn what(t: &Topology, limits: &Limits, persistent: bool, size: usize) -> String {
    let Topology {
        kind,
        pubs,
        queues,
        subs,
        ..
    } = t;
    let delivery = if persistent {
        "persistent"
    } else {
        "transient"
    };
    let durable = if t.durable { ", durable" } else { "" };
    let confirms = if limits.confirms { ", confirms" } else { "" };
    let acks = if limits.auto_ack {
        "auto-ack".to_owned()
    } else {
        format!("ack every {}", limits.ack_every)
    };
    format!(
        "{kind} {pubs} → {queues} queues → {subs}, {size} B, {delivery}{durable}{confirms}, {acks}"
    )
}

const CLIENTS_MAX: usize = 5_000;

const DESCRIBED: &[&str] = &[
    "amqp-addr",
    "exchange",
    "pubs",
    "subs",
    "queues",
    "size",
    "persistent",
    "durable",
    "queue-type",
    "max-priority",
    "bindings",
    "confirms",
    "prefetch",
    "ack-every",
    "auto-ack",
    "rate",
    "window",
];
