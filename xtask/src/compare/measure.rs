//! The measuring itself: scenarios, rounds and brokers interleaved, one generator at a time.
//!
//! Owns the order of the runs and the brokers' instances meanwhile. Judges nothing. Whatever
//! ends it, an error or an interruption, everything that it started ends as well.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::number::number;
use super::peer::{Instance, Kind, Peer};
use super::procfs;
use super::runs::Run;
use super::scenario::{Needs, Scenario};
use crate::{interrupt, process};

/// What to measure.
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    /// The generator's binary.
    pub(crate) load: PathBuf,
    /// Where brokers keep their data meanwhile.
    pub(crate) home: PathBuf,
    /// Where every report is kept at once, a line each.
    pub(crate) raw: PathBuf,
}

/// The plan on its way.
struct Bench<'a> {
    plan: &'a Plan,
    /// One for each peer, started when first needed.
    shared: Vec<Option<Instance>>,
    raw: File,
    runs: Vec<Run>,
    number: usize,
}

impl Plan {
    /// Makes all runs.
    ///
    /// # Errors
    /// When a broker cannot be started, a file cannot be written, or on an interruption; what was
    /// measured until then is in the raw file.
    pub(crate) fn measure(&self) -> Result<Vec<Run>> {
        let mut bench = Bench {
            plan: self,
            shared: self.peers.iter().map(|_| None).collect(),
            raw: File::create(&self.raw)
                .with_context(|| format!("making {}", self.raw.display()))?,
            runs: Vec::new(),
            number: 0,
        };
        for scenario in &self.scenarios {
            for round in 1..=self.rounds_of(scenario) {
                for (index, peer) in self.peers.iter().enumerate() {
                    if takes_part(scenario, peer) {
                        bench.run(scenario, round, index)?;
                    }
                }
            }
        }
        Ok(bench.runs)
    }

    /// How many runs there are.
    pub(crate) fn total(&self) -> usize {
        let of = |scenario: &&Scenario| {
            let peers = self.peers.iter();
            let count = peers.filter(|peer| takes_part(scenario, peer)).count();
            count * self.rounds_of(scenario) as usize
        };
        self.scenarios.iter().map(of).sum()
    }

    fn rounds_of(&self, scenario: &Scenario) -> u32 {
        if scenario.once { 1 } else { self.rounds }
    }
}

/// Whether a broker has the protocols of a scenario and is not left out of it.
fn takes_part(scenario: &Scenario, peer: &Peer) -> bool {
    let (amqp, mqtt) = peer.speaks();
    let speaks = match scenario.needs {
        Needs::Mqtt => mqtt,
        Needs::Amqp => amqp,
        Needs::Both => mqtt && amqp,
    };
    speaks && scenario.omits(peer.kind()).is_none()
}

impl Bench<'_> {
    fn run(&mut self, scenario: &'static Scenario, round: u32, index: usize) -> Result<()> {
        let peer = &self.plan.peers[index];
        self.number += 1;
        print!(
            "{:>3}/{} {:<13} round {round}  {:<15} ",
            self.number,
            self.plan.total(),
            scenario.name,
            peer.name
        );
        std::io::stdout().flush()?;
        let run = if scenario.fresh && peer.kind() != Kind::Given {
            let mut instance = peer.start(&self.plan.home)?;
            self.on(scenario, round, &peer.name, &mut instance)?
        } else {
            let mut instance = self.take(index)?;
            let run = self.on(scenario, round, &peer.name, &mut instance)?;
            // One that has ended is replaced when it is needed again.
            self.shared[index] = instance.runs().then_some(instance);
            run
        };
        println!("{}", told(&run, scenario));
        writeln!(self.raw, "{}", run.json())?;
        self.runs.push(run);
        Ok(())
    }

    /// The peer's shared instance, started if there is none.
    fn take(&mut self, index: usize) -> Result<Instance> {
        match self.shared[index].take() {
            Some(instance) => Ok(instance),
            None => self.plan.peers[index].start(&self.plan.home),
        }
    }

    /// Runs the generator against one instance once every broker is calm.
    fn on(
        &self,
        scenario: &'static Scenario,
        round: u32,
        broker: &str,
        instance: &mut Instance,
    ) -> Result<Run> {
        let mut roots = vec![instance.pid];
        roots.extend(self.shared.iter().flatten().map(|shared| shared.pid));
        procfs::await_calm(&roots)?;
        let failed = |why: &str| Run::failed(scenario.name, round, broker, why);
        if !instance.runs() {
            return Ok(failed("the broker is gone"));
        }
        let output = self.generate(scenario, instance)?;
        if !instance.runs() {
            eprintln!("{broker} ended by itself:\n{}", instance.last_words());
            return Ok(failed("the broker ended by itself"));
        }
        Ok(match output {
            Some(output) => Run::new(scenario.name, round, broker, &output),
            None => failed(&format!("not done after {} s", scenario.limit_s)),
        })
    }

    /// What the generator prints; `None` when it overran and was ended.
    fn generate(&self, scenario: &Scenario, instance: &Instance) -> Result<Option<String>> {
        let Plan {
            home,
            load,
            seconds,
            ..
        } = self.plan;
        interrupt::check()?;
        let path = home.join("report.json");
        let mut child = Command::new(load)
            .args(scenario.arguments(*seconds))
            .args(addresses(scenario.needs, instance))
            .args(["--broker-pid", &instance.pid.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&path)?)
            .stderr(File::create(home.join("generator.log"))?)
            // A terminal's Ctrl-C is ours to pass on.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", load.display()))?;
        let limit = Duration::from_secs(scenario.limit_s + u64::from(*seconds));
        let status = process::wait(&mut child, limit)?;
        status.map(|_| read(&path)).transpose()
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn addresses(needs: Needs, instance: &Instance) -> Vec<String> {
    let (mqtt, amqp) = match needs {
        Needs::Mqtt => (instance.mqtt, None),
        Needs::Amqp => (None, instance.amqp),
        Needs::Both => (instance.mqtt, instance.amqp),
    };
    let flag = |name: &str, address: Option<SocketAddr>| {
        address.map(|address| [name.to_owned(), address.to_string()])
    };
    let flags = [flag("--addr", mqtt), flag("--amqp-addr", amqp)];
    flags.into_iter().flatten().flatten().collect()
}

/// A run in a few words: its first figure, and its complaint.
fn told(run: &Run, scenario: &Scenario) -> String {
    let first = scenario.metrics.iter().find_map(|metric| {
        let figure = run.figure(metric)?;
        Some(format!("{} {}", number(figure), metric.label))
    });
    let words = [first, run.error().map(str::to_owned)];
    words.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
