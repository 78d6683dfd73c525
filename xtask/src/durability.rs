//! `cargo xtask durability`: what the disk costs, and how long a start takes.
//!
//! Owns one broker at a time and its data directory. Measures only this build: what other brokers
//! do is `cargo xtask compare`'s.

mod client;
mod server;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::leveret;
use client::Client;
use server::Server;

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Writes the figures into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Messages of the deep queue.
    #[arg(long, default_value_t = 10_000_000)]
    deep: u64,
}

/// One figure.
struct Row {
    what: String,
    wanted: &'static str,
    measured: String,
}

/// What all measurements need.
struct Bench {
    binary: PathBuf,
    load: PathBuf,
    data: PathBuf,
    rows: Vec<Row>,
}

/// Runs all measurements.
///
/// # Errors
/// When something cannot be built, started or measured.
pub(crate) fn run(options: &Options) -> Result<std::process::ExitCode> {
    let root = leveret::root()?;
    let data = leveret::target(&root).join("durability");
    let mut bench = Bench {
        binary: leveret::build(&root, "leveret", "leveret")?,
        load: leveret::build(&root, "leveret-load", "load")?,
        data,
        rows: Vec::new(),
    };
    bench.one_in_flight()?;
    bench.amplification()?;
    bench.recovery()?;
    bench.sessions()?;
    bench.offline()?;
    bench.deep(options.deep)?;
    bench.fresh()?;
    let table = table(&bench.rows);
    println!("\n{table}");
    if options.write {
        write(&root, &table)?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

impl Bench {
    /// Removes what the measurement before has left.
    fn fresh(&self) -> Result<()> {
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("removing the data directory")
            }
            _ => Ok(()),
        }
    }

    fn start(&self, settings: &[&str]) -> Result<Server> {
        Server::start(&self.binary, &self.data, settings)
    }

    fn row(&mut self, what: impl Into<String>, wanted: &'static str, measured: String) {
        let row = Row {
            what: what.into(),
            wanted,
            measured,
        };
        println!("{}: {}", row.what, row.measured);
        self.rows.push(row);
    }

    /// Runs the load generator; its result.
    fn load(&self, arguments: &str, server: &Server) -> Result<Value> {
        let output = Command::new(&self.load)
            .args(arguments.split_whitespace())
            .args(["--broker-pid", &server.pid().to_string()])
            .output()
            .context("starting the load generator")?;
        if !output.status.success() {
            bail!(
                "load {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// One persistent message at a time, beside what the disk needs for as many bytes.
    fn one_in_flight(&mut self) -> Result<()> {
        const COUNT: usize = 2_000;
        self.fresh()?;
        let server = self.start(&[])?;
        Client::connect(server.mqtt(), "subscriber", false)?.subscribe("one/#")?;
        let mut client = Client::connect(server.mqtt(), "publisher", true)?;
        let mut disk = Vec::new();
        let mut acks = Vec::new();
        // In turn, so that both see the same weather.
        for _ in 0..4 {
            disk.extend(syncs(&self.data, COUNT / 4)?);
            acks.extend(client.one_by_one("one/by/one", 64, COUNT / 4)?);
        }
        let (disk, acks) = (median(&mut disk), median(&mut acks));
        self.row(
            "PUBACK of one message in flight ÷ the disk's own write and fdatasync, medians",
            "at most 1.2×",
            format!("{acks:.0} µs ÷ {disk:.0} µs = {:.2}×", acks / disk),
        );
        server.stop()
    }

    /// Bytes that reach the system for each message that is published and acknowledged.
    fn amplification(&mut self) -> Result<()> {
        // Payload; queue name, exchange and properties as the generator has them.
        for (size, headers) in [(256, 28), (1_024, 28)] {
            self.fresh()?;
            let server = self.start(&[])?;
            let before = server.written()?;
            let arguments = format!(
                "amqp pub-sub --amqp-addr {} --pubs 10 --subs 10 --queues 10 --durable \
                 --persistent --confirms --window 250 --prefetch 250 --size {size} --seconds 5",
                server.amqp()
            );
            let result = self.load(&arguments, &server)?;
            let after = server.written()?;
            let sent = number(&result, "sent")?;
            let (calls, disk) = (after.0 - before.0, after.1 - before.1);
            let whole = sent * f64::from(size + headers);
            self.row(
                format!(
                    "bytes written ÷ payload and headers, {size} B, published and acknowledged"
                ),
                "at most 1.3×",
                format!(
                    "{:.2}× ({:.2}× in whole pages)",
                    calls as f64 / whole,
                    disk as f64 / whole
                ),
            );
            server.stop()?;
        }
        Ok(())
    }

    /// A start over a million messages, after kill -9.
    fn recovery(&mut self) -> Result<()> {
        self.fresh()?;
        let server = self.start(&[])?;
        Client::connect(server.mqtt(), "subscriber", false)?.subscribe("many/#")?;
        let mut client = Client::connect(server.mqtt(), "publisher", true)?;
        client.publish_all("many/messages", 256, 1_000_000)?;
        server.kill()?;
        let server = self.start(&[])?;
        let (ready_ms, rss_mib) = (server.ready_ms(), server.rss_bytes()? >> 20);
        self.row(
            "start after kill -9 with 1,000,000 queued messages of 256 B",
            "under 2 s",
            format!("{ready_ms} ms, {rss_mib} MiB resident"),
        );
        server.kill()
    }

    /// A start over 100,000 persistent sessions.
    fn sessions(&mut self) -> Result<()> {
        self.fresh()?;
        let server = self.start(&[])?;
        let arguments = format!(
            "mqtt sessions --addr {} --count 100k --keep true",
            server.mqtt()
        );
        self.load(&arguments, &server)?;
        server.kill()?;
        let server = self.start(&[])?;
        let (ready_ms, rss_mib) = (server.ready_ms(), server.rss_bytes()? >> 20);
        self.row(
            "start after kill -9 with 100,000 sessions of 3 subscriptions",
            "under 3 s",
            format!("{ready_ms} ms, {rss_mib} MiB resident"),
        );
        server.kill()
    }

    /// Messages for an absent client, for each durability.
    fn offline(&mut self) -> Result<()> {
        for durability in ["group", "interval", "none"] {
            self.fresh()?;
            let server = self.start(&[&format!("journal.durability={durability}")])?;
            let arguments = format!(
                "mqtt offline --addr {} --count 200k --size 64",
                server.mqtt()
            );
            let result = self.load(&arguments, &server)?;
            let rate = number(&result, "recv_per_broker_cpu_s")?;
            self.row(
                format!("offline, `journal.durability = {durability}`, messages per broker CPU s"),
                "",
                format!("{:.0} k", rate / 1_000.0),
            );
            server.stop()?;
        }
        Ok(())
    }

    /// A queue that is deeper than memory should be.
    fn deep(&mut self, count: u64) -> Result<()> {
        let mut rates = Vec::new();
        for count in [100_000, count] {
            self.fresh()?;
            let server = self.start(&[])?;
            let arguments = format!(
                "mqtt offline --addr {} --count {count} --size 100 --max-seconds 600",
                server.mqtt()
            );
            let result = self.load(&arguments, &server)?;
            let publish = number(&result, "offline_publish_per_s")?;
            let drain = number(&result, "drain_per_s")?;
            let peak = number(&result, "broker_rss_peak_kb")? / 1_024.0;
            rates.push((publish, drain, peak));
            server.stop()?;
        }
        let [(publish, drain, _), (deep_publish, deep_drain, peak)] = rates[..] else {
            bail!("two runs were made");
        };
        self.row(
            format!("{count} queued messages of 100 B: resident memory at its peak"),
            "under 500 MB",
            format!("{peak:.0} MiB"),
        );
        self.row(
            "their publish and consume rates ÷ those of 100,000",
            "at least 0.5×",
            format!("{:.2}×, {:.2}×", deep_publish / publish, deep_drain / drain),
        );
        Ok(())
    }
}

/// Microseconds that writing and syncing a few hundred bytes takes, again and again.
fn syncs(directory: &Path, count: usize) -> Result<Vec<f64>> {
    const BYTES: usize = 400;
    let path = directory.join("durability.probe");
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .context("making a file")?;
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        (BYTES * count) as u64,
    )?;
    file.sync_all()?;
    let mut times = Vec::new();
    for index in 0..count {
        let clock = client::Stopwatch::start();
        file.write_all_at(&[0x5a; BYTES], (index * BYTES) as u64)?;
        file.sync_data()?;
        times.push(clock.micros());
    }
    fs::remove_file(&path)?;
    Ok(times)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(result: &Value, key: &str) -> Result<f64> {
    let found = result.get(key).and_then(Value::as_f64);
    found.with_context(|| format!("the load generator told no {key}"))
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from("| figure | wanted | measured |\n|---|---|---|\n");
    for row in rows {
        out += &format!("| {} | {} | {} |\n", row.what, row.wanted, row.measured);
    }
    out
}

const BEGIN: &str = "<!-- durability:begin -->\n";
const END: &str = "<!-- durability:end -->\n";

/// Puts the table between the markers of docs/performance.md.
fn write(root: &Path, table: &str) -> Result<()> {
    let path = root.join("docs/performance.md");
    let text = fs::read_to_string(&path)?;
    let (head, rest) = text.split_once(BEGIN).context("no durability:begin")?;
    let (_, tail) = rest.split_once(END).context("no durability:end")?;
    fs::write(&path, [head, BEGIN, table, END, tail].concat())?;
    println!("written: docs/performance.md");
    Ok(())
}
