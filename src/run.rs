//! `leveret server`: from arguments to a broker that runs until it is told to stop.
//!
//! Owns the process: its limits, its runtime, its exit code. Whatever keeps the broker from
//! starting is said in one sentence a line on standard error.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use leveret_config::{Config, Sources};
use leveret_net::clock::Clock;
use leveret_net::crew::Crew;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle};

use crate::banner::{Banner, Examples, resident_bytes};
use crate::cli::ServeArgs;
use crate::server::{self, StartError};
use crate::signals::StopSignals;
use crate::telemetry;

/// Why the program ends with something else than success.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the system does not let this program run: {0}")]
    System(#[from] io::Error),
}

/// Runs the broker in the foreground until a signal stops it.
#[must_use]
pub fn serve(wish: &ServeArgs) -> ExitCode {
    let clock = Clock::start();
    let (config, _) = match leveret_config::load(&sources(wish)) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                complain(&error);
            }
            return ExitCode::from(78);
        }
    };
    telemetry::start(config.log_level);
    raise_open_files();
    match run(config, clock, wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            match error {
                RunError::Start(error) => error.exit_code(),
                RunError::System(_) => ExitCode::from(71),
            }
        }
    }
}

/// A flag is the `--set` of the setting that it stands for, and wins over one.
fn sources(wish: &ServeArgs) -> Sources {
    let mut sets = wish.sets.clone();
    let data_dir = wish
        .data_dir
        .iter()
        .map(|path| format!("data_dir={}", path.display()));
    sets.extend(data_dir);
    sets.extend(
        wish.log_level
            .iter()
            .map(|level| format!("log.console.level={level}")),
    );
    Sources {
        files: wish.configs.clone(),
        env: environment(),
        sets,
    }
}

/// The environment as far as it is text: no setting is anything else.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn run(config: Config, clock: Clock, wish: &ServeArgs) -> Result<(), RunError> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    // What is not a connection's: signals, timers, the control socket.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let crew = Crew::start(cores, runtime.handle())?;
    let home = crew.home().clone();
    let done = runtime.block_on(serve_until_stopped(config, clock, wish, home));
    // Its threads let go of what is left of their connections.
    drop(crew);
    // A login that is being verified has this long; nothing else is left.
    runtime.shutdown_timeout(Duration::from_millis(200));
    // Only now is nothing left that could take too long.
    done.map(drop)
}

/// Returns the watchdog that was started when the broker was told to stop.
async fn serve_until_stopped(
    config: Config,
    clock: Clock,
    wish: &ServeArgs,
    home: Handle,
) -> Result<Watchdog, RunError> {
    let mut signals = StopSignals::listen()?;
    let examples = Examples::new(&config);
    let server = server::start_from(config, clock, wish.configs.clone(), home).await?;
    let listeners = server.listeners();
    let banner = Banner {
        data_dir: server.data_dir(),
        listeners: &listeners,
        ready_ms: clock.now().since_ms(clock.started_at()),
        resident_bytes: resident_bytes(),
        examples: &examples,
    };
    // Nobody may be reading.
    let mut out = io::stdout().lock();
    let _ = out
        .write_all(banner.text().as_bytes())
        .and_then(|()| out.flush());
    drop(out);
    let signal = signals.next().await;
    tracing::info!(
        signal,
        "asked to stop; a second signal ends the program at once"
    );
    let watchdog = Watchdog::start();
    tokio::select! {
        () = server.shutdown() => {}
        signal = signals.next() => {
            tracing::warn!(signal, "asked again: ended at once");
            std::process::exit(1);
        }
    }
    Ok(watchdog)
}

/// One connection is one open file: as many as the system allows without asking.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(why) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %why, "the limit on open files stays as it is");
    }
}

fn complain(error: &dyn std::fmt::Display) {
    // Nobody may be reading.
    let _ = writeln!(io::stderr().lock(), "leveret: {error}");
}

/// How long an orderly stop may take, in milliseconds, before the program ends without it.
const STOP_MS: u64 = 9_500;

/// Ends the program if an orderly stop takes too long: a worker that is busy must not keep it.
/// Called off when dropped.
struct Watchdog(#[expect(dead_code, reason = "dropping it is the message")] SyncSender<()>);

impl Watchdog {
    fn start() -> Self {
        let (called_off, waits) = sync_channel(0);
        let watch = move || {
            if waits.recv_timeout(Duration::from_millis(STOP_MS)) == Err(RecvTimeoutError::Timeout)
            {
                // What was acknowledged as durable is on disk already.
                eprintln!("leveret: not everybody left in time; ended without them");
                std::process::exit(0);
            }
        };
        std::thread::spawn(watch);
        Self(called_off)
    }
}
