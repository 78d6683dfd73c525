//! One seed from its first start to the last look at what is left; and for a failure, the least of
//! it that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actors::{self, Actor};
use crate::disk::{Crash, Stage};
use crate::oracle::{Check, Violation, violation};
use crate::parts::Parts;
use crate::random::Random;
use crate::stats::Stats;
use crate::trace::Trace;
use crate::world::World;

/// Steps of a seed before its end.
const STEPS: u64 = 220;

/// Rounds in which everything that is open comes to its end.
const LAST_ROUNDS: usize = 40;

/// What of a seed is run.
#[derive(Clone)]
pub(crate) struct Plan {
    seed: u64,
    steps: u64,
    parts: Parts,
    /// Clients that do nothing.
    without: Vec<usize>,
    traced: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            steps: STEPS,
            parts: Parts::of(seed),
            without: Vec::new(),
            traced: false,
        }
    }

    /// With other parts than the seed's own.
    pub(crate) fn with(seed: u64, parts: Parts) -> Self {
        Self {
            parts,
            ..Self::of(seed)
        }
    }

    pub(crate) fn traced(seed: u64) -> Self {
        Self {
            traced: true,
            ..Self::of(seed)
        }
    }
}

/// How a seed went.
pub(crate) enum Course {
    Good(Stats, Trace),
    Bad(Box<Failure>),
}

/// What went wrong, and when.
pub(crate) struct Failure {
    pub(crate) violation: Violation,
    step: u64,
    /// The queue that it concerns, by name.
    queue: Option<String>,
    trace: Trace,
}

/// How often what happens: of a thousand, for each seed another.
struct Mood {
    write: usize,
    commit: usize,
    time: usize,
    crash: usize,
    plan: usize,
    fault: usize,
}

impl Mood {
    fn of(random: &mut Random) -> Self {
        Self {
            write: *random.pick(&[20, 80, 200]),
            commit: *random.pick(&[30, 100, 200]),
            time: *random.pick(&[10, 60]),
            crash: *random.pick(&[2, 8, 20]),
            plan: *random.pick(&[0, 8, 25]),
            fault: *random.pick(&[0, 0, 4, 12]),
        }
    }
}

struct Run<'a> {
    world: &'a mut World,
    actors: Vec<Actor>,
    random: Random,
    /// For leaps in time.
    leaps: Random,
    mood: Mood,
    plan: &'a Plan,
    /// How the next planned end comes.
    crash: Crash,
    /// The disk is full until it is not.
    full: bool,
}

/// Runs what is planned.
pub(crate) fn run(plan: &Plan) -> Course {
    let trace = Trace::new(plan.traced);
    let mut world = World::new(plan.seed, plan.parts, actors::limits, trace);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut random = Random::new(plan.seed, 4);
        let mut run = Run {
            world: &mut world,
            actors: actors::cast(plan.seed, plan.parts),
            mood: Mood::of(&mut random),
            random,
            leaps: Random::new(plan.seed, 6),
            plan,
            crash: Crash::Kill,
            full: false,
        };
        run.all()
    }));
    let checked = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        violation(format!("a panic: {}", text.unwrap_or_default()), None, None)
    });
    match checked {
        Ok(()) => Course::Good(world.summary(), world.trace.clone()),
        Err(violation) => Course::Bad(Box::new(Failure {
            step: world.trace.step,
            queue: violation
                .queue
                .map(|queue| world.oracle.name(queue).to_owned()),
            violation,
            trace: world.trace.clone(),
        })),
    }
}

impl Run<'_> {
    fn all(&mut self) -> Check {
        self.world.start(Crash::Kill)?;
        actors::set_up(self.world)?;
        for step in 1..=self.plan.steps {
            self.world.begin_step(step);
            self.step()?;
            self.look_after_disk()?;
            self.world.end_step()?;
        }
        self.world.begin_step(self.plan.steps + 1);
        self.finish()
    }

    fn step(&mut self) -> Check {
        let mut chance = self.random.below(1_000);
        let mut is = |share: usize| {
            let hit = chance < share;
            chance = chance.wrapping_sub(share);
            hit
        };
        if is(self.mood.write) {
            return self.world.write_journal();
        }
        if is(self.mood.commit) {
            let batches = 1 + self.random.below(4);
            return self.world.commit(batches);
        }
        if is(self.mood.time) {
            let ms = 1 + self.random.below(600) as u64;
            let leap = self.plan.parts.has_leaps() && self.leaps.percent(30);
            let more = if leap { self.leaps.below(3_000) } else { 0 };
            return self.world.advance(ms + more as u64);
        }
        if is(self.mood.crash) {
            let crash = self.world.any_crash();
            return match self.random.percent(15) {
                true => self.world.restart(),
                false => self.world.crash(crash),
            };
        }
        if is(self.mood.plan) {
            self.crash = self.world.any_crash();
            let stage = *self
                .random
                .pick(&[Stage::Before, Stage::Middle, Stage::After]);
            let operations = self.random.below(12) as u64;
            let crash = self.crash;
            self.world
                .trace
                .note(|| format!("disk: {crash:?} {stage:?} the operation after {operations}"));
            self.world.disk().plan(operations, stage);
            return Ok(());
        }
        if is(self.mood.fault) {
            return self.fault();
        }
        let place = self.random.below(self.actors.len());
        if self.plan.without.contains(&place) {
            return Ok(());
        }
        self.actors[place].act(self.world, false)
    }

    fn fault(&mut self) -> Check {
        match self.random.below(3) {
            0 => {
                let after = self.random.below(3) as u64;
                self.world
                    .trace
                    .note(|| format!("disk: a sync fails after {after}"));
                self.world.disk().fail_sync(after);
            }
            _ => {
                self.full = !self.full;
                let full = self.full;
                self.world.trace.note(|| format!("disk: full is {full}"));
                self.world.disk().set_full(full);
            }
        }
        Ok(())
    }

    /// The process ends where the disk says so, and soon after the journal has failed.
    fn look_after_disk(&mut self) -> Check {
        if self.world.disk().died().is_some() {
            let crash = self.crash;
            return self.world.crash(crash);
        }
        if self.world.is_faulty() && self.random.percent(10) {
            self.full = false;
            self.world.disk().set_full(false);
            let crash = self.world.any_crash();
            return self.world.crash(crash);
        }
        Ok(())
    }

    /// Everything is well again: every publisher gets its acknowledgements, and every message
    /// comes. Then the power goes once more, and nothing may be back.
    fn finish(&mut self) -> Check {
        self.world.disk().set_full(false);
        self.world.calm();
        if self.world.is_faulty() {
            self.world.crash(Crash::Kill)?;
        }
        for _ in 0..LAST_ROUNDS {
            for (place, actor) in self.actors.iter_mut().enumerate() {
                if !self.plan.without.contains(&place) {
                    actor.act(self.world, true)?;
                }
            }
            self.world.commit(usize::MAX)?;
            self.world.write_journal()?;
        }
        self.world.end_step()?;
        let open = self.actors.iter().flat_map(Actor::open_messages);
        if let Some(message) = open.into_iter().next() {
            return violation("a publish is never acknowledged", Some(message), None);
        }
        let connections: Vec<usize> = self.actors.iter().map(Actor::connection).collect();
        for connection in connections {
            self.world.cut(connection)?;
        }
        self.world.end_step()?;
        actors::drain(self.world)?;
        self.world.commit(usize::MAX)?;
        self.world.write_journal()?;
        self.world.write_journal()?;
        self.world.crash(Crash::Power)?;
        self.world.begin_step(self.plan.steps + 2);
        self.world.end_step()
    }
}

/// The whole trace of a seed; of one that fails, as little as fails.
pub(crate) fn whole_trace(plan: &Plan) -> String {
    let plan = Plan {
        traced: true,
        ..shrink(plan)
    };
    match run(&plan) {
        Course::Good(_, trace) => trace.whole(),
        Course::Bad(failure) => failure.trace.whole(),
    }
}

/// What a reader needs to know of a seed that fails.
pub(crate) fn report(plan: &Plan) -> String {
    let seed = plan.seed;
    let plan = shrink(plan);
    let plan = Plan {
        traced: true,
        ..plan
    };
    let Course::Bad(failure) = run(&plan) else {
        return format!("seed {seed} fails, but not with a trace: it is not decided by its seed");
    };
    let Violation { what, message, .. } = &failure.violation;
    let mut words: Vec<String> = message.iter().map(|id| format!("[{id}]")).collect();
    words.extend(failure.queue.clone().filter(|_| message.is_none()));
    let about = words.join(" ");
    let queue = failure.queue.as_deref().unwrap_or("-");
    let (step, without) = (failure.step, &plan.without);
    let lines = failure.trace.about(&words);
    format!(
        "seed {seed}, step {step}: {what}\n  message {about}, queue {queue}\n  \
         again: SIM_SEED={seed} cargo test --test sim what_was_asked_for\n  \
         it still fails without the clients {without:?}\n{lines}"
    )
}

/// The same failure with fewer steps and fewer clients.
fn shrink(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let Course::Bad(first) = run(&plan) else {
        return plan;
    };
    let alike = |plan: &Plan| match run(plan) {
        Course::Bad(failure) if failure.violation.what == first.violation.what => Some(failure),
        _ => None,
    };
    plan.steps = plan.steps.min(first.step);
    for place in 0..actors::cast(plan.seed, plan.parts).len() {
        let mut fewer = plan.clone();
        fewer.without.push(place);
        if let Some(failure) = alike(&fewer) {
            fewer.steps = fewer.steps.min(failure.step);
            plan = fewer;
        }
    }
    plan
}
