//! The command line: which program is meant, and what it is asked to do.
//!
//! Owns arguments, output and exit codes. Never starts a broker: it hands the arguments for that
//! back to `main`. Called by the names `rabbitmqctl` and `rabbitmq-plugins` it behaves as those.

mod bench;
mod client;
mod config;
mod console;
mod ctl;
mod exit;
mod output;
mod plugins;
mod publish;
mod store;
mod subscribe;
mod tail;
mod term;
mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// What `main` is to do.
#[derive(Debug)]
pub enum Action {
    /// Run the broker.
    Serve(ServeArgs),
    /// End: everything is done and said.
    Done(ExitCode),
}

/// Where a broker's configuration comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServeArgs {
    /// Configuration files, weakest first; `.toml`, or `.conf` in RabbitMQ's format.
    pub configs: Vec<PathBuf>,
    /// The data directory; wins over every other source.
    pub data_dir: Option<PathBuf>,
    /// `KEY=VALUE`, each.
    pub sets: Vec<String>,
    /// The console's log level; wins over every other source.
    pub log_level: Option<String>,
}

/// Reads the arguments (without the program's name) and does all there is to do but serving.
/// `program` is the name or path that the process was called by.
#[must_use]
pub fn run(program: &str, args: Vec<OsString>) -> Action {
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(program);
    match name {
        "rabbitmqctl" => {
            return Action::Done(ctl::run(name, parse(ctl::command("rabbitmqctl"), args)));
        }
        "rabbitmq-plugins" => {
            let command = plugins::command("rabbitmq-plugins");
            return Action::Done(plugins::run(parse(command, args)));
        }
        _ => {}
    }
    let matches = match parse(command(), args) {
        Ok(matches) => matches,
        Err(code) => return Action::Done(code),
    };
    match matches.subcommand() {
        Some(("ctl", inner)) => Action::Done(ctl::run("leveret ctl", Ok(inner.clone()))),
        Some(("plugins", inner)) => Action::Done(plugins::run(Ok(inner.clone()))),
        Some(("config", inner)) => Action::Done(config::run(inner)),
        Some(("bench", inner)) => Action::Done(bench::run(inner)),
        Some(("store", inner)) => Action::Done(store::run(inner)),
        Some(("pub", inner)) => Action::Done(publish::run(inner)),
        Some(("tail", inner)) => Action::Done(tail::run(inner)),
        Some(("sub", inner)) => Action::Done(subscribe::run(inner)),
        Some(("server", inner)) => Action::Serve(serve_args(inner)),
        _ => Action::Serve(serve_args(&matches)),
    }
}

fn command() -> Command {
    Command::new("leveret")
        .about("An MQTT adapter over an AMQP 0-9-1 core. Without a command it runs the broker.")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .args(server_options())
        .subcommand(
            Command::new("server")
                .about("Runs the broker")
                .args(server_options()),
        )
        .subcommand(ctl::command("ctl"))
        .subcommand(plugins::command("plugins"))
        .subcommand(config::command())
        .subcommand(bench::command())
        .subcommand(store::command())
        .subcommand(publish::command())
        .subcommand(subscribe::command())
        .subcommand(tail::command())
}

fn server_options() -> Vec<Arg> {
    let mut options = source_options();
    options.push(
        Arg::new("log-level")
            .long("log-level")
            .value_name("LEVEL")
            .help("What the console shows: debug, info, warning, error or none"),
    );
    options
}

/// The options that say where a configuration comes from.
fn source_options() -> Vec<Arg> {
    vec![
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file, .toml or .conf; a later one wins"),
        Arg::new("data-dir")
            .long("data-dir")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("Directory of what survives a restart"),
        Arg::new("set")
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Sets one key, by RabbitMQ's name or ours; wins over files and environment"),
    ]
}

fn serve_args(matches: &ArgMatches) -> ServeArgs {
    ServeArgs {
        configs: many(matches, "config"),
        data_dir: matches.get_one::<PathBuf>("data-dir").cloned(),
        sets: many(matches, "set"),
        log_level: matches
            .try_get_one::<String>("log-level")
            .ok()
            .flatten()
            .cloned(),
    }
}

fn many<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches
        .get_many::<T>(name)
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

/// Reads arguments; `Err` with the exit code after help or a complaint was printed.
fn parse(command: Command, args: Vec<OsString>) -> Result<ArgMatches, ExitCode> {
    let name = OsString::from(command.get_name());
    command
        .try_get_matches_from(std::iter::once(name).chain(args))
        .map_err(|why| exit::usage(&why))
}

#[cfg(test)]
mod tests;
