//! The whole broker in one thread with time of its own: random MQTT and AMQP clients, a disk that
//! tears, loses, fails and fills, ends of the process and of the power at any operation, and an
//! oracle that knows what was promised. One number, the seed, decides everything.
//!
//! | variable | what |
//! |---|---|
//! | `SIM_SEED=N` | runs this seed alone, with its whole trace in `SIM_TRACE=1` |
//! | `SIM_MINUTES=N` | runs seeds from `SIM_FIRST` on for so long, and prints statistics |

mod actors;
mod amqp;
mod definitions;
mod disk;
mod message;
mod mqtt;
mod oracle;
mod parts;
mod random;
mod run;
mod stats;
mod trace;
mod world;

use std::time::{Duration, Instant};

use parts::Parts;
use run::{Course, Plan};
use stats::Stats;

/// Seeds of one `cargo test`, over all its tests.
const SEEDS: u64 = 1_000;

/// Tests that share the seeds, so that they run side by side.
const PARTS: u64 = 4;

/// Seeds that have found something, with what was in them: an acknowledgement that waited for its
/// queue's definition for ever; a subscription with a binding of each QoS after a crash; SUBACK for
/// what a former connection had not been told; what a damaged segment settles, settled again under
/// numbers that were given anew; a session that was in use, taken for one unused since its last
/// absence; one that was over, there again after CONNACK had said so.
const FAILED_ONCE: [(u64, Parts); 6] = [
    (150, Parts::NONE),
    (1_345, Parts::NONE),
    (4_173, Parts::NONE),
    (10_276, Parts::NONE),
    (49, Parts::EXPIRY),
    (591, Parts::EXPIRY),
];

/// The simulation has a time of its own; only the time that it may take is read from a clock.
#[expect(
    clippy::disallowed_methods,
    reason = "how long it runs is asked for in minutes"
)]
fn now() -> Instant {
    Instant::now()
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Runs a seed; a failure is reduced, and ends the test with what a reader needs.
fn check(plan: &Plan, sum: &mut Stats) {
    match run::run(plan) {
        Course::Good(stats, _) => sum.add(&stats),
        Course::Bad(_) => panic!("{}", run::report(plan)),
    }
}

fn check_part(part: u64) {
    if ["SIM_SEED", "SIM_MINUTES"]
        .iter()
        .any(|name| variable(name).is_some())
    {
        return;
    }
    let mut sum = Stats::default();
    for seed in 0..SEEDS / PARTS {
        check(&Plan::of(seed * PARTS + part), &mut sum);
    }
    println!("{sum}");
}

/// FEATURES D1, D2, D6: a quarter of the seeds.
#[test]
fn d6_nothing_promised_is_lost_first_quarter() {
    check_part(0);
}

/// FEATURES D1, D2, D6: a quarter of the seeds.
#[test]
fn d6_nothing_promised_is_lost_second_quarter() {
    check_part(1);
}

/// FEATURES D1, D2, D6: a quarter of the seeds.
#[test]
fn d6_nothing_promised_is_lost_third_quarter() {
    check_part(2);
}

/// FEATURES D1, D2, D6: a quarter of the seeds.
#[test]
fn d6_nothing_promised_is_lost_fourth_quarter() {
    check_part(3);
}

/// Seeds that have found something.
#[test]
fn seeds_that_failed_once() {
    let mut sum = Stats::default();
    for (seed, parts) in FAILED_ONCE {
        check(&Plan::with(seed, parts), &mut sum);
    }
}

/// The same seed takes the same course.
#[test]
fn a_seed_decides_everything() {
    for seed in 0..12 {
        let digest = || match run::run(&Plan::traced(seed)) {
            Course::Good(_, trace) => trace.digest(),
            Course::Bad(failure) => panic!("seed {seed}: {}", failure.violation.what),
        };
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}

/// One seed, or as many as there is time for: what `cargo xtask sim` asks for.
#[test]
fn what_was_asked_for() {
    if let Some(seed) = variable("SIM_SEED") {
        let mut sum = Stats::default();
        if variable("SIM_TRACE").is_some() {
            print!("{}", run::whole_trace(&Plan::of(seed)));
        }
        check(&Plan::of(seed), &mut sum);
        println!("{sum}");
        return;
    }
    let Some(minutes) = variable("SIM_MINUTES") else {
        return;
    };
    let (begin, mut told) = (now(), now());
    let mut seed = variable("SIM_FIRST").unwrap_or(SEEDS);
    let mut sum = Stats::default();
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        check(&Plan::of(seed), &mut sum);
        seed += 1;
        if told.elapsed() > Duration::from_secs(10) {
            told = now();
            println!("up to seed {seed}\n{sum}\n");
        }
    }
    println!("{sum}");
}
