//! The program, killed again and again over one data directory.

mod amqp;
mod mqtt;
mod oracle;
mod storm;

use std::collections::BTreeSet;

use futures_lite::StreamExt;
use lapin::options::QueueDeclareOptions;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use rustix::process::Signal;

use crate::amqp::{channel, declare, try_connect};
use crate::broker::within;
use crate::program::Program;

const KILLS: usize = 12;
const STORM_KILLS: u64 = 10;
const WINDOW: u32 = 64;

async fn connected(program: &Program) -> Channel {
    let address = program.address("AMQP 0-9-1").parse().expect("an address");
    let connection = try_connect(address, "guest:guest", "%2f").await;
    let channel = channel(&connection.expect("connects")).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    declare(&channel, "kept", durable).await;
    channel
}

/// Publishes until so many more are confirmed, then kills the broker in the middle of the next.
async fn publish_and_kill(
    program: Program,
    next: &mut u32,
    confirmed: &mut BTreeSet<u32>,
    enough: usize,
) {
    let channel = connected(&program).await;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    select.await.expect("confirms");
    let before = confirmed.len();
    let mut program = Some(program);
    loop {
        let mut waiting = Vec::new();
        for number in *next..*next + WINDOW {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let body = number.to_be_bytes();
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), "kept".into(), options, &body, properties);
            match sent.await {
                Ok(confirm) => waiting.push((number, confirm)),
                Err(_) => return,
            }
        }
        *next += WINDOW;
        if confirmed.len() - before >= enough
            && let Some(program) = program.take()
        {
            program.stop(Signal::KILL);
        }
        for (number, confirm) in waiting {
            match within(confirm).await {
                Ok(Confirmation::Ack(_)) => confirmed.insert(number),
                _ => return,
            };
        }
    }
}

/// FEATURES D1: kill -9 at any instant loses nothing that was confirmed, in whatever order it
/// came back and went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_kills_lose_nothing_that_was_confirmed() {
    let directory = tempfile::tempdir().expect("a data directory");
    let mut next = 0;
    let mut confirmed = BTreeSet::new();
    for kill in 0..KILLS {
        let program = Program::start(directory.path());
        let enough = kill * 61 % 256;
        publish_and_kill(program, &mut next, &mut confirmed, enough).await;
    }
    assert!(confirmed.len() > 500, "{} are confirmed", confirmed.len());
    let program = Program::start(directory.path());
    let channel = connected(&program).await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consume = channel.basic_consume("kept".into(), "".into(), options, FieldTable::default());
    let mut consumer = consume.await.expect("consumes");
    let mut last = None;
    while !confirmed.is_empty() {
        let delivery = within(consumer.next())
            .await
            .expect("more")
            .expect("is fine");
        let body: [u8; 4] = delivery.data[..].try_into().expect("a number");
        let number = u32::from_be_bytes(body);
        assert!(
            last.is_none_or(|last| last < number),
            "{number} behind {last:?}"
        );
        assert!(delivery.redelivered);
        confirmed.remove(&number);
        last = Some(number);
    }
}

/// FEATURES D1, M7, M8: clients of both protocols lose nothing that was acknowledged, get nothing
/// twice that is not marked so, and nothing of QoS 2 twice after PUBREC, though their broker is
/// killed at any instant and while it starts. `LEVERET_CRASH_KILLS` says how often; `cargo xtask
/// crash` sets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_a_storm_of_kills_loses_nothing() {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = given("LEVERET_CRASH_KILLS").unwrap_or(STORM_KILLS);
    let seed = given("LEVERET_CRASH_SEED").unwrap_or(1);
    let directory = tempfile::tempdir().expect("a data directory");
    let summary = storm::run(directory.path(), kills, seed).await;
    println!("{summary}");
    assert_eq!(summary.kills, kills);
    summary.assert_sound();
}
