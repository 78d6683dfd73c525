//! The control socket from the other end.
//!
//! Owns finding the node and speaking to it. Never prints.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgMatches, value_parser};
use leveret_management::context::default_node_name;
use leveret_management::protocol::{Code, Failure, Request, SOCKET_FILE};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::paths::data_dir;

/// The environment variable that says where; the server reads it too.
const DATA_DIR_VARIABLE: &str = "LEVERET_DATA_DIR";

/// Where a node is, and how long to wait for it.
pub(super) struct Target {
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// What `--node` said, or the name that a node has by default.
    pub(super) node: String,
    timeout: Option<Duration>,
}

/// An open connection to a node.
pub(super) struct Client {
    stream: UnixStream,
}

/// Exactly one of them is there.
#[derive(Deserialize)]
struct Reply {
    ok: Option<Value>,
    error: Option<Failure>,
    live: Option<Value>,
}

/// The options that say which node is meant, and how long to wait for it.
pub(super) fn place() -> Vec<Arg> {
    let mut all = options();
    all.truncate(3);
    all
}

/// The options of every tool that speaks to a node. Some are there only because scripts have them.
pub(super) fn options() -> Vec<Arg> {
    let taken = "Taken for RabbitMQ's sake, changes nothing";
    vec![
        Arg::new("data-dir")
            .long("data-dir")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .global(true)
            .help("Data directory of the node [env: LEVERET_DATA_DIR] [default: the broker's]"),
        Arg::new("timeout")
            .short('t')
            .long("timeout")
            .value_name("SECONDS")
            .global(true)
            .help("How long to wait for an answer; 'infinity' for ever"),
        Arg::new("node")
            .short('n')
            .long("node")
            .value_name("NODE")
            .global(true)
            .help("Only shown: the data directory says which node is meant"),
        Arg::new("longnames")
            .short('l')
            .long("longnames")
            .num_args(0)
            .global(true)
            .help(taken),
        Arg::new("erlang-cookie")
            .long("erlang-cookie")
            .num_args(1)
            .global(true)
            .help(taken),
        Arg::new("script-name")
            .long("script-name")
            .num_args(1)
            .global(true)
            .help(taken),
        Arg::new("print-stacktrace")
            .long("print-stacktrace")
            .num_args(0)
            .global(true)
            .help(taken),
    ]
}

/// The data directory that arguments and environment point at.
pub(super) fn data_dir_of(matches: &ArgMatches) -> PathBuf {
    let given = matches.get_one::<PathBuf>("data-dir").cloned();
    let from_env = || std::env::var_os(DATA_DIR_VARIABLE).map(PathBuf::from);
    data_dir(given.or_else(from_env).as_deref())
}

impl Target {
    /// The node that arguments and environment point at.
    ///
    /// # Errors
    /// The timeout is no number of seconds.
    pub(super) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let timeout = match matches.get_one::<String>("timeout").map(String::as_str) {
            None | Some("infinity") => None,
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
                let duration = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                let wrong = || Failure::new(Code::Usage, format!("timeout cannot be '{text}'"));
                Some(duration.ok_or_else(wrong)?)
            }
        };
        let node = matches
            .get_one::<String>("node")
            .cloned()
            .unwrap_or_else(default_node_name);
        Ok(Self {
            data_dir: data_dir_of(matches),
            node,
            timeout,
        })
    }

    /// What `--timeout` said.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits at most this many seconds for an answer.
    pub(super) fn wait_at_most(&mut self, seconds: f64) {
        self.timeout = Some(Duration::from_secs_f64(seconds));
    }

    /// Connects.
    ///
    /// # Errors
    /// 69 with what to look at.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        let socket = self.data_dir.join(SOCKET_FILE);
        let stream = UnixStream::connect(&socket)
            .map_err(|why| Failure::new(Code::Unavailable, unreachable(self, &why)))?;
        // Zero is refused above, and nothing else is wrong with a timeout.
        let limited = stream
            .set_read_timeout(self.timeout)
            .and_then(|()| stream.set_write_timeout(self.timeout));
        limited.map_err(|why| Failure::new(Code::Software, why.to_string()))?;
        Ok(Client { stream })
    }
}

fn unreachable(target: &Target, why: &std::io::Error) -> String {
    let (node, data_dir) = (&target.node, target.data_dir.display());
    format!(
        "unable to perform an operation on node '{node}'. Please see diagnostics information and \
         suggestions below.\n\n\
         Most common reasons for this are:\n\n\
         \x20* The node is not running\n\
         \x20* The node runs with another data directory, or with none\n\
         \x20* You are not the user that the node runs as\n\n\
         DIAGNOSTICS\n===========\n\n\
         data directory: {data_dir}\n\
         control socket: {}: {why}\n\n\
         Point at another node with --data-dir DIR or the environment variable \
         {DATA_DIR_VARIABLE}.\n",
        Path::new(&target.data_dir).join(SOCKET_FILE).display()
    )
}

impl Client {
    /// Asks for one command and waits for the answer.
    ///
    /// # Errors
    /// What the node answered, 75 if it did not in time, 69 if it went away.
    pub(super) fn ask(
        &mut self,
        command: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Failure> {
        self.send(command, arguments)?;
        let reply = next(&mut BufReader::new(&self.stream))?;
        match reply.error {
            Some(failure) => Err(failure),
            None => Ok(reply.ok.unwrap_or_default()),
        }
    }

    /// Asks for what happens from now on, and shows it until it ends or `show` says that it is
    /// enough.
    ///
    /// # Errors
    /// As [`Self::ask`], and what `show` says.
    pub(super) fn watch(
        mut self,
        command: &str,
        arguments: Map<String, Value>,
        show: &mut dyn FnMut(&Value) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.send(command, arguments)?;
        let mut reader = BufReader::new(&self.stream);
        loop {
            let reply = next(&mut reader)?;
            match (reply.error, reply.live) {
                (Some(failure), _) => return Err(failure),
                (None, Some(event)) if show(&event)? => {}
                _ => return Ok(()),
            }
        }
    }

    fn send(&mut self, command: &str, arguments: Map<String, Value>) -> Result<(), Failure> {
        let request = Request {
            command: command.to_owned(),
            arguments,
        };
        let mut line = serde_json::to_vec(&request)
            .map_err(|why| Failure::new(Code::Software, why.to_string()))?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|why| broken(&why))
    }
}

/// The node's next line.
fn next(reader: &mut impl BufRead) -> Result<Reply, Failure> {
    let mut answer = Vec::new();
    reader
        .read_until(b'\n', &mut answer)
        .map_err(|why| broken(&why))?;
    if answer.last() != Some(&b'\n') {
        return Err(Failure::new(Code::Unavailable, "the node went away"));
    }
    serde_json::from_slice(&answer)
        .map_err(|why| Failure::new(Code::Software, format!("not an answer: {why}")))
}

fn broken(why: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    if matches!(why.kind(), TimedOut | WouldBlock) {
        return Failure::new(Code::Temporary, "operation timed out");
    }
    Failure::new(Code::Unavailable, format!("the node went away: {why}"))
}
