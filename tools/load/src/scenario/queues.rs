//! `amqp queues` and `amqp queue-churn`: what queues weigh, and what making and ending them costs.
//!
//! Owns the queues of the run; all of them are deleted at its end. Asks in batches, so that the
//! broker is measured and not the round trips.

use std::thread;

use super::{Job, Run, amqp_options, broker_pid, describe};
use crate::amqp::{self, Client};
use crate::clock::{nap, now};
use crate::failure::Failure;
use crate::report::{Report, cpu_between, rss_per};
use crate::usage::snap;

/// Queues asked for before the answers are read.
const BATCH: usize = 200;

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn queues(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = amqp_options(args)?;
    let pid = broker_pid(args)?;
    let count = args.size("count", 1, 10_000_000)?;
    let durable = args.is_set("durable");
    let settle_us = (args.number("settle", 0.0, 60.0)? * 1e6) as u64;
    let until = |begin: u64| -> Result<u64, Failure> {
        Ok(begin + (args.number("max-seconds", 1.0, 3_600.0)? * 1e9) as u64)
    };
    let tag = Run::new().tag();
    let name = |n: usize| format!("load-{tag}-{n:07}");
    let mut client = Client::open(&options)?;
    let begin = snap(pid);
    let declare = |n| amqp::declare(&name(n), durable);
    let made = ask(
        &mut client,
        count,
        until(now())?,
        (DECLARE_OK, "queue.declare-ok"),
        declare,
    )?;
    let ready = snap(pid);
    nap(settle_us);
    let settled = snap(pid);
    let kind = if durable { "durable" } else { "transient" };
    let what = format!("{count} {kind} queues");
    let mut report = describe(
        args,
        "amqp queues",
        what,
        &["amqp-addr", "count", "durable"],
    );
    if made < count {
        report.blame(Some(format!("only {made} of {count} in time")));
    }
    report.put("queues", made as u64);
    let seconds = (ready.t - begin.t) as f64 / 1e9;
    report.put("declared_per_s", made as f64 / seconds.max(1e-9));
    report.cpu(pid, &begin, &ready, 0, made as u64);
    if pid != 0 {
        let cpu_s = cpu_between(&begin, &ready).max(0.01);
        report.put("declared_per_broker_cpu_s", made as f64 / cpu_s);
        let each = rss_per(&begin, &settled, made as u64);
        report.put("rss_per_queue_bytes", each);
    }
    let delete = |n| amqp::delete(&name(n));
    let removed = ask(
        &mut client,
        made,
        until(now())?,
        (DELETE_OK, "queue.delete-ok"),
        delete,
    )?;
    report.put("removed", removed as u64);
    Ok(report)
}

/// Asks so many times, or until the time is up; says how many were answered.
fn ask(
    client: &mut Client,
    count: usize,
    until: u64,
    (answer, what): (u32, &str),
    method: impl Fn(usize) -> amqp::Arguments,
) -> Result<usize, Failure> {
    let mut done = 0;
    while done < count && now() < until {
        let batch = done..(done + BATCH).min(count);
        let frames: Vec<u8> = batch.clone().flat_map(|n| method(n).frame(1)).collect();
        client.send(&frames)?;
        for _ in batch.clone() {
            client.wait(answer, what)?;
        }
        done = batch.end;
    }
    Ok(done)
}

/// # Errors
/// Flags, the system, or a broker that refuses.
pub(crate) fn queue_churn(job: &mut Job<'_>) -> Result<Report, Failure> {
    let args = job.args;
    let options = amqp_options(args)?;
    let pid = broker_pid(args)?;
    let conns = args.size("conns", 1, 1_000)?;
    let window = args.size("window", 1, 1_000)?;
    let seconds = args.number("seconds", 0.05, 600.0)?;
    let tag = Run::new().tag();
    let clients: Vec<Client> = (0..conns)
        .map(|_| Client::open(&options))
        .collect::<Result<_, _>>()?;
    let begin = snap(pid);
    let until = now() + (seconds * 1e9) as u64;
    let threads = clients.into_iter().enumerate().map(|(conn, client)| {
        let prefix = format!("load-{tag}-{conn}");
        thread::spawn(move || cycle(client, &prefix, window, until))
    });
    let threads: Vec<_> = threads.collect();
    let mut cycles = 0;
    for thread in threads {
        let ended = thread.join();
        cycles += ended.map_err(|_| Failure::protocol("a connection's thread panicked"))??;
    }
    let end = snap(pid);
    let wall_s = (end.t - begin.t) as f64 / 1e9;
    let what = format!("{conns} loops of declare, bind, delete, {window} in flight");
    let mut report = describe(
        args,
        "amqp queue-churn",
        what,
        &["amqp-addr", "conns", "window"],
    );
    report.put("cycles", cycles);
    report.put("window_s", wall_s);
    report.put("cycles_per_s", cycles as f64 / wall_s);
    report.put("received_per_s", cycles as f64 / wall_s);
    report.cpu(pid, &begin, &end, cycles, 0);
    Ok(report)
}

/// Declares, binds and deletes queues until the time is up; says how many.
fn cycle(mut client: Client, prefix: &str, window: usize, until: u64) -> Result<u64, Failure> {
    let names: Vec<String> = (0..window).map(|n| format!("{prefix}-{n}")).collect();
    let frames: Vec<u8> = names
        .iter()
        .flat_map(|name| {
            let methods = [
                amqp::declare(name, false),
                amqp::bind(name, "amq.topic", &format!("{name}.*"), &[]),
                amqp::delete(name),
            ];
            methods.into_iter().flat_map(|method| method.frame(1))
        })
        .collect();
    let mut cycles = 0;
    while now() < until {
        client.send(&frames)?;
        for _ in 0..window {
            client.wait(DECLARE_OK, "queue.declare-ok")?;
            client.wait(BIND_OK, "queue.bind-ok")?;
            client.wait(DELETE_OK, "queue.delete-ok")?;
        }
        cycles += window as u64;
    }
    Ok(cycles)
}

const DECLARE_OK: u32 = amqp::method(50, 11);
const BIND_OK: u32 = amqp::method(50, 21);
const DELETE_OK: u32 = amqp::method(50, 41);
