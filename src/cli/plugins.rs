//! `leveret plugins`, also `rabbitmq-plugins`: online through the control socket, offline through
//! the `enabled_plugins` file.

mod layout;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use leveret_management::plugins::{self, Change, Changed, Enabled, PluginError, PluginRow};
use leveret_management::protocol::{Code, Failure};
use regex::Regex;
use serde_json::{Map, Value};

use self::layout::{Listed, Shape};
use super::client::{self, Client, Target};
use super::console::{print, print_line};
use super::exit;
use super::output::{self, Style};

/// The environment variable that names the file; the server reads it too.
const FILE_VARIABLE: &str = "LEVERET_ENABLED_PLUGINS_FILE";

/// The file's name in the data directory.
const FILE: &str = "enabled_plugins";

pub(super) fn command(name: &'static str) -> Command {
    let names = Arg::new("names").value_name("PLUGIN").num_args(0..);
    let all = Arg::new("all").long("all").num_args(0).help("All plugins");
    let switch = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .arg(names.clone().required_unless_present("all"))
    };
    Command::new(name)
        .about("Switches plugins: RabbitMQ's rabbitmq-plugins")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(client::options())
        .args(output::options())
        .arg(mode(
            "offline",
            "online",
            "Works on the enabled_plugins file",
        ))
        .arg(mode("online", "offline", "Fails if the node does not run"))
        .subcommand(list_command())
        .subcommand(switch("enable", "Enables plugins").arg(all.clone()))
        .subcommand(switch("disable", "Disables plugins").arg(all))
        .subcommand(
            Command::new("set")
                .about("Enables plugins, disables the rest")
                .arg(names.clone()),
        )
        .subcommand(
            Command::new("is_enabled")
                .about("Ends with 0 if all these plugins are enabled, else with 69")
                .arg(names.required(true)),
        )
        .subcommand(Command::new("directories").about("Tells where plugins and their file are"))
}

fn mode(name: &'static str, other: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0)
        .global(true)
        .conflicts_with(other)
        .help(help)
}

fn list_command() -> Command {
    let flag = |name: &'static str, short, help: &'static str| {
        Arg::new(name)
            .short(short)
            .long(name)
            .num_args(0)
            .help(help)
    };
    Command::new("list")
        .about("Lists plugins and their state")
        .arg(Arg::new("pattern").help("Regular expression to find in the name [default: .*]"))
        .arg(flag("verbose", 'v', "Descriptions and dependencies, too"))
        .arg(flag("minimal", 'm', "Names only"))
        .arg(flag("enabled", 'E', "Only those enabled by name"))
        .arg(flag(
            "implicitly-enabled",
            'e',
            "Only those enabled by name or by need",
        ))
}

pub(super) fn run(parsed: Result<ArgMatches, ExitCode>) -> ExitCode {
    let matches = match parsed {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let Some((name, inner)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let done = Tool::new(inner).and_then(|mut tool| match name {
        "list" => tool.list(inner),
        "enable" => tool.change(Change::Enable, inner),
        "disable" => tool.change(Change::Disable, inner),
        "set" => tool.change(Change::Set, inner),
        "is_enabled" => tool.is_enabled(inner),
        _ => tool.directories(),
    });
    exit::ended(done.and_then(|text| print(&text)))
}

/// One call of the tool.
struct Tool {
    style: Style,
    target: Target,
    /// None: the file is all there is.
    client: Option<Client>,
    /// Somebody asked for the file.
    offline: bool,
}

/// The plugins as a node or the file has them.
struct State {
    node: String,
    file: PathBuf,
    plugins: Vec<PluginRow>,
}

impl Tool {
    fn new(matches: &ArgMatches) -> Result<Self, Failure> {
        let target = Target::of(matches)?;
        let offline = matches.get_flag("offline");
        let client = match target.connect() {
            _ if offline => None,
            Err(failure) if matches.get_flag("online") => return Err(failure),
            // Without a node the file is what there is to work on, as in RabbitMQ.
            connected => connected.ok(),
        };
        Ok(Self {
            style: Style::of(matches),
            target,
            client,
            offline,
        })
    }

    fn file(&self) -> PathBuf {
        let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
        named.unwrap_or_else(|| self.target.data_dir.join(FILE))
    }

    fn state(&mut self) -> Result<State, Failure> {
        if let Some(client) = &mut self.client {
            let answer = client.ask("list_plugins", Map::new())?;
            let of = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            let plugins =
                serde_json::from_value(answer["plugins"].clone()).map_err(not_answered)?;
            return Ok(State {
                node: of("node"),
                file: of("file").into(),
                plugins,
            });
        }
        let file = self.file();
        let explicit = plugins::explicit(&file).map_err(|why| refused(why.into()))?;
        let plugins = plugins::rows(&explicit, |_| false);
        Ok(State {
            node: self.target.node.clone(),
            file,
            plugins,
        })
    }

    fn list(&mut self, matches: &ArgMatches) -> Result<String, Failure> {
        let (verbose, minimal) = (matches.get_flag("verbose"), matches.get_flag("minimal"));
        let shape = match (verbose, minimal) {
            // R§8: a usage error.
            (true, true) => return Err(exit::bad_argument("Cannot set both verbose and minimal")),
            (true, false) => Shape::Verbose,
            (false, true) => Shape::Minimal,
            (false, false) => Shape::Normal,
        };
        let pattern = matches
            .get_one::<String>("pattern")
            .map_or(".*", String::as_str);
        let regex = Regex::new(pattern)
            .map_err(|_| exit::bad_argument(format!("'{pattern}' is no regular expression")))?;
        let State {
            node, mut plugins, ..
        } = self.state()?;
        let (explicit, any) = (
            matches.get_flag("enabled"),
            matches.get_flag("implicitly-enabled"),
        );
        plugins.retain(|plugin| {
            let wanted = match plugin.enabled {
                Enabled::Enabled => true,
                Enabled::Implicit => !explicit || any,
                Enabled::NotEnabled => !explicit && !any,
            };
            wanted && regex.is_match(&plugin.name)
        });
        let listed = Listed {
            node: &node,
            reached: self.client.is_some(),
            shape,
            pattern,
        };
        Ok(listed.text(&self.style, &plugins))
    }

    fn change(&mut self, change: Change, matches: &ArgMatches) -> Result<String, Failure> {
        let all = matches.try_get_one::<bool>("all").ok().flatten() == Some(&true);
        let names: Vec<String> = if all {
            plugins::KNOWN
                .iter()
                .map(|plugin| plugin.name.to_owned())
                .collect()
        } else {
            super::many(matches, "names")
        };
        let State { node, .. } = self.state()?;
        let talks = self.style.talks();
        if talks {
            print(&layout::change_banner(change, &node, all, &names))?;
        }
        let changed: Changed = match &mut self.client {
            Some(client) => {
                let mut arguments = Map::new();
                arguments.insert("change".to_owned(), serde_json::json!(change));
                arguments.insert("names".to_owned(), Value::from(names));
                let answer = client.ask("change_plugins", arguments)?;
                serde_json::from_value(answer).map_err(not_answered)?
            }
            None => plugins::change_file(&self.file(), change, &names).map_err(refused)?,
        };
        let online = self.client.is_some();
        let text = layout::changed(change, &node, online, &changed);
        Ok(if talks { text } else { String::new() })
    }

    fn is_enabled(&mut self, matches: &ArgMatches) -> Result<String, Failure> {
        let names: Vec<String> = super::many(matches, "names");
        let State { node, plugins, .. } = self.state()?;
        let node = (!self.offline && self.client.is_some()).then_some(node.as_str());
        if self.style.talks() {
            print_line(&layout::asking(&names, node))?;
        }
        layout::are_enabled(&names, node, &plugins)
            .map_err(|text| Failure::new(Code::Unavailable, text))
    }

    fn directories(&mut self) -> Result<String, Failure> {
        let State { node, file, .. } = self.state()?;
        let node = self.client.is_some().then_some(node.as_str());
        let banner = match node {
            _ if !self.style.talks() => String::new(),
            Some(node) => format!("Listing plugin directories used by node {node}\n"),
            None => "Listing plugin directories inferred from local environment...\n".to_owned(),
        };
        Ok(format!(
            "{banner}Plugin archives directory: (compiled in)\nPlugin expansion directory: \
             (compiled in)\nEnabled plugins file: {}\n",
            file.display()
        ))
    }
}

fn refused(error: PluginError) -> Failure {
    Failure::new(Code::Software, error.to_string())
}

fn not_answered(why: serde_json::Error) -> Failure {
    Failure::new(Code::Software, format!("not an answer: {why}"))
}
