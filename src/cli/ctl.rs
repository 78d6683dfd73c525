//! `leveret ctl`, also `rabbitmqctl`: parses by the table of commands, asks the node, prints.

mod columns;
mod commands;
mod status;
mod terms;

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use leveret_management::protocol::Failure;
use serde_json::{Map, Value};

use self::commands::{Arity, COMMANDS, Listing, Output, Spec};
use self::terms::TERMS;
use super::client::{self, Target};
use super::console::{self, print, print_line};
use super::exit;
use super::output::{self, Style};

/// How long a listing waits that tells its timeout, in seconds; RabbitMQ's number.
const LISTING_TIMEOUT_S: f64 = 60.0;

/// The vhost where none is named.
const VHOST_DEFAULT: &str = "/";

pub(super) fn command(name: &'static str) -> Command {
    let vhost = Arg::new("vhost")
        .short('p')
        .long("vhost")
        .value_name("VHOST")
        .global(true)
        .help("Virtual host [default: /]");
    Command::new(name)
        .about("Rules a running node: RabbitMQ's rabbitmqctl")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(vhost)
        .args(client::options())
        .args(output::options())
        .subcommands(specs().map(subcommand))
}

/// All commands.
fn specs() -> impl Iterator<Item = &'static Spec> {
    COMMANDS.iter().chain(TERMS)
}

/// `--global` stands there, or the word that is as much.
fn is_global(matches: &ArgMatches) -> bool {
    let limit = matches.try_get_one::<String>("limit").ok().flatten();
    matches.try_get_one::<bool>("global").ok().flatten() == Some(&true)
        || limit.is_some_and(|limit| limit == "all")
}

/// What an argument is, where its name does not say it.
fn about_positional(arg: Arg, command: &str) -> Arg {
    let text = match (command, arg.get_id().as_str()) {
        ("set_permissions", "configure") => {
            "Regular expression of names that the user may declare and delete"
        }
        ("set_permissions", "write") => "Regular expression of names that the user may write to",
        ("set_permissions", "read") => "Regular expression of names that the user may read from",
        ("set_topic_permissions", "exchange") => "The topic exchange, such as amq.topic",
        ("set_topic_permissions", "write") => {
            "Regular expression of routing keys that the user may publish with"
        }
        ("set_topic_permissions", "read") => {
            "Regular expression of routing keys that the user may bind with"
        }
        ("set_policy" | "set_operator_policy", "pattern") => {
            "Regular expression of names of queues and exchanges"
        }
        ("set_policy" | "set_operator_policy", "definition") => {
            "JSON object of settings, such as {\"max-length\": 1000}"
        }
        ("set_vhost_limits", "definition") => {
            "JSON object of max-connections and max-queues; a negative number is no limit"
        }
        ("set_user_limits", "definition") => {
            "JSON object of max-connections and max-channels; a negative number is no limit"
        }
        _ => return arg,
    };
    arg.help(text)
}

fn subcommand(spec: &Spec) -> Command {
    let mut command = Command::new(spec.name).about(spec.about);
    for (name, arity) in spec.positionals {
        let arg = about_positional(Arg::new(*name), spec.name);
        command = command.arg(match arity {
            Arity::One => arg.required(true),
            Arity::Optional => arg,
            Arity::OneOr(word) => arg
                .required(true)
                .num_args(1..=2)
                .help(format!("A value, or '{word}' and a value")),
            Arity::Password => arg.help("Read from standard input if it is not there"),
            Arity::Many => {
                let arg = arg.num_args(0..);
                match &spec.output {
                    Output::Listing(listing) => arg.help(columns::help(spec.name, listing.all)),
                    _ => arg,
                }
            }
        });
    }
    for flag in spec.flags {
        let mut arg = Arg::new(flag.long)
            .long(flag.long)
            .num_args(0)
            .help(flag.about);
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        command = command.arg(arg);
    }
    // What some call it.
    command = match spec.name {
        "enable_vhost_deletion_protection" => command.aliases([
            "enable_vhost_deletion_protection_marker",
            "enable_vhost_protection_from_deletion",
        ]),
        "disable_vhost_deletion_protection" => command.aliases([
            "disable_vhost_deletion_protection_marker",
            "disable_vhost_protection_from_deletion",
        ]),
        _ => command,
    };
    for choice in spec.options {
        let mut arg = Arg::new(choice.long)
            .long(choice.long)
            .allow_hyphen_values(true)
            .help(choice.about);
        if let Some(short) = choice.short {
            arg = arg.short(short);
        }
        if let Some(default) = choice.default {
            arg = arg.default_value(default);
        }
        command = command.arg(arg);
    }
    command
}

/// Does what is asked for; `program` is what the user called.
pub(super) fn run(program: &str, parsed: Result<ArgMatches, ExitCode>) -> ExitCode {
    let matches = match parsed {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let Some((name, inner)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let Some(spec) = specs().find(|spec| spec.name == name) else {
        return exit::fail(&exit::bad_argument(format!("Command '{name}' not found.")));
    };
    exit::ended(execute(program, spec, inner))
}

fn execute(program: &str, spec: &Spec, matches: &ArgMatches) -> Result<(), Failure> {
    let style = Style::of(matches);
    let shown = shown_columns(spec, matches)?;
    let mut arguments = arguments(spec, matches)?;
    if let Output::Listing(_) = spec.output {
        arguments.insert("columns".to_owned(), Value::from(shown.clone()));
    }
    let mut target = Target::of(matches)?;
    let tells_timeout = matches!(
        spec.output,
        Output::Listing(Listing {
            tells_timeout: true,
            ..
        })
    );
    if tells_timeout && target.timeout().is_none() {
        target.wait_at_most(LISTING_TIMEOUT_S);
    }
    let mut client = target.connect()?;
    if style.talks() {
        if let (true, Some(timeout)) = (tells_timeout, target.timeout()) {
            print_line(&format!("Timeout: {:?} seconds ...", timeout.as_secs_f64()))?;
        }
        let mut told = arguments.clone();
        told.insert("node".to_owned(), Value::from(target.node.clone()));
        let banner = if is_global(matches) && !spec.global_banner.is_empty() {
            spec.global_banner
        } else {
            spec.banner
        };
        let banner = filled(banner, &told);
        if !banner.is_empty() {
            print_line(&banner)?;
        }
    }
    if let Some(name) = missing_password(spec, &arguments) {
        arguments.insert(name.to_owned(), Value::from(console::password()?));
        // The node does not wait for those who think.
        client = target.connect()?;
    }
    let answer = client.ask(spec.name, arguments)?;
    if let Output::Hint(text) = spec.output {
        if style.talks() {
            print_line(&hint(text, program))?;
        }
        return Ok(());
    }
    print(&print_out(spec, &style, &shown, &answer))
}

/// The output of a command as text.
fn print_out(spec: &Spec, style: &Style, columns: &[&str], answer: &Value) -> String {
    let sentence = |text: &str| match answer {
        Value::Object(members) => filled(text, members) + "\n",
        _ => format!("{text}\n"),
    };
    let listing = |columns: &[&str]| {
        let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        output::listing(style, columns, rows)
    };
    match &spec.output {
        Output::Nothing | Output::Hint(_) => String::new(),
        Output::Text(text) => sentence(text),
        Output::Status => status::text(style, answer),
        Output::Listing(_) => listing(columns),
        Output::TextOrListing(_, columns) if answer.is_array() => listing(columns),
        Output::TextOrListing(text, _) => sentence(text),
    }
}

/// What to do next, with the name that the user calls the program by.
fn hint(text: &str, program: &str) -> String {
    text.replace("{program}", program)
}

/// The columns to show, checked against those that there are.
fn shown_columns(spec: &Spec, matches: &ArgMatches) -> Result<Vec<&'static str>, Failure> {
    let Output::Listing(listing) = &spec.output else {
        return Ok(Vec::new());
    };
    if listing.all.is_empty() {
        return Ok(listing.default.to_vec());
    }
    let verbose = matches.try_get_one::<bool>("verbose").ok().flatten() == Some(&true);
    let named: Vec<&str> = words(matches, "columns")
        .flat_map(|word| word.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    if named.is_empty() {
        return Ok(if verbose {
            listing.all
        } else {
            listing.default
        }
        .to_vec());
    }
    choose(listing.all, &named)
}

fn choose(all: &'static [&'static str], named: &[&str]) -> Result<Vec<&'static str>, Failure> {
    let find = |name: &&str| all.iter().find(|column| *column == name).copied();
    let unknown: Vec<&str> = named
        .iter()
        .filter(|name| find(name).is_none())
        .copied()
        .collect();
    if unknown.is_empty() {
        return Ok(named.iter().filter_map(find).collect());
    }
    Err(exit::bad_argument(format!(
        "Info key(s) {} are not supported; supported: {}",
        unknown.join(","),
        all.join(", ")
    )))
}

/// What the node is asked, but for passwords that are to be read.
fn arguments(spec: &Spec, matches: &ArgMatches) -> Result<Map<String, Value>, Failure> {
    let mut arguments = Map::new();
    for (name, arity) in spec.positionals {
        let value = match arity {
            Arity::Many if *name == "columns" => continue,
            Arity::Many => Value::from(words(matches, name).collect::<Vec<_>>()),
            Arity::OneOr(other) => {
                let (name, word) = one_or(name, other, &words(matches, name).collect::<Vec<_>>())?;
                arguments.insert(name.to_owned(), Value::from(word));
                continue;
            }
            _ => match words(matches, name).next() {
                Some(word) => Value::from(word),
                None => continue,
            },
        };
        arguments.insert((*name).to_owned(), value);
    }
    for flag in spec.flags {
        if let Some(argument) = flag.argument {
            arguments.insert(
                argument.to_owned(),
                Value::from(matches.get_flag(flag.long)),
            );
        }
    }
    for choice in spec.options {
        let word = words(matches, choice.long).next();
        if let (Some(argument), Some(word)) = (choice.argument, word) {
            arguments.insert(argument.to_owned(), Value::from(word));
        }
    }
    if spec.in_vhost {
        let vhost = words(matches, "vhost").next().unwrap_or(VHOST_DEFAULT);
        arguments.insert("vhost".to_owned(), Value::from(vhost));
    }
    Ok(arguments)
}

/// The one value under its name, or the one behind `other` under that.
fn one_or<'a>(
    name: &'static str,
    other: &'static str,
    words: &[&'a str],
) -> Result<(&'static str, &'a str), Failure> {
    match words {
        [word] if *word == other => Err(exit::bad_argument("not enough arguments.")),
        [word] => Ok((name, word)),
        [word, value] if *word == other => Ok((other, value)),
        _ => Err(exit::bad_argument("too many arguments.")),
    }
}

fn words<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a str> {
    matches
        .get_many::<String>(name)
        .into_iter()
        .flatten()
        .map(String::as_str)
}

/// The password that the command needs and nobody gave.
fn missing_password(spec: &Spec, arguments: &Map<String, Value>) -> Option<&'static str> {
    let missing = |(name, arity): &&(&'static str, Arity)| {
        *arity == Arity::Password && !arguments.contains_key(*name)
    };
    spec.positionals.iter().find(missing).map(|(name, _)| *name)
}

/// A text with `{x}` replaced by member `x`; what stands in `[` and `]` goes if its member is
/// not there.
fn filled(text: &str, members: &Map<String, Value>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(['{', '[']) {
        let opened = rest[before.len()..].chars().next();
        let (close, optional) = if opened == Some('{') {
            ('}', false)
        } else {
            (']', true)
        };
        let Some((inside, behind)) = after.split_once(close) else {
            break;
        };
        out += before;
        match (optional, inside.split_once('{')) {
            (false, _) => out += &shown(members.get(inside)),
            // A list of its own: `[{tags}]` stays in its brackets.
            (true, Some(("", name))) => {
                let name = name.trim_end_matches('}');
                out += &format!("[{}]", shown(members.get(name)));
            }
            (true, Some((_, name))) => {
                let name = name.split('}').next().unwrap_or_default();
                if members.contains_key(name) {
                    out += &filled(inside, members);
                }
            }
            (true, None) => out += inside,
        }
        rest = behind;
    }
    out + rest
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(|value| shown(Some(value))).collect();
            values.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
