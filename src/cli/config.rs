//! `leveret config`: what is wrong with a configuration, what it comes to, what a key means.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use leveret_config::{ConfigError, Effective, Sources, explain_effective, load};
use leveret_management::protocol::Code;

use super::console::print;
use super::exit;

pub(super) fn command() -> Command {
    let sub = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .args(super::source_options())
    };
    Command::new("config")
        .about("Checks and explains configurations")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(sub(
            "check",
            "Says all that is wrong; ends with 78 if anything is",
        ))
        .subcommand(
            sub("show", "Shows what was given, by whom").arg(
                Arg::new("effective")
                    .long("effective")
                    .num_args(0)
                    .help("Defaults, too"),
            ),
        )
        .subcommand(
            sub("explain", "Says what a key means and what it is now")
                .arg(Arg::new("key").value_name("KEY").required(true)),
        )
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((name, inner)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let effective = match load(&sources(inner)) {
        Ok((_, effective)) => effective,
        Err(errors) => return complain(&errors),
    };
    let text = match name {
        "show" => shown(&effective, inner.get_flag("effective")),
        "explain" => {
            let key = inner
                .get_one::<String>("key")
                .map(String::as_str)
                .unwrap_or_default();
            match explain_effective(key, &effective) {
                Ok(explanation) => format!("{explanation}\n"),
                Err(error) => return complain(&[error]),
            }
        }
        _ => "The configuration is valid.\n".to_owned(),
    };
    exit::ended(print(&text))
}

fn sources(matches: &ArgMatches) -> Sources {
    let mut sets: Vec<String> = super::many(matches, "set");
    if let Some(data_dir) = matches.get_one::<PathBuf>("data-dir") {
        sets.push(format!("data_dir={}", data_dir.display()));
    }
    let env = std::env::vars_os();
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Sources {
        files: super::many(matches, "config"),
        env: env.filter_map(text).collect(),
        sets,
    }
}

fn complain(errors: &[ConfigError]) -> ExitCode {
    eprintln!("Error:");
    for error in errors {
        eprintln!("{error}");
    }
    ExitCode::from(Code::Configuration.exit())
}

fn shown(effective: &Effective, defaults: bool) -> String {
    let row =
        |row: &leveret_config::Row| format!("{} = {}  # {}\n", row.key, row.value, row.origin);
    if defaults {
        return effective.rows().iter().map(row).collect();
    }
    effective.given().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_show_tells_keys_values_and_origins() {
        let sources = Sources {
            sets: vec!["data_dir=/d".into()],
            ..Sources::default()
        };
        let (_, effective) = load(&sources).expect("is valid");
        assert_eq!(shown(&effective, false), "data_dir = /d  # --set\n");
        assert!(shown(&effective, true).contains("# default\n"));
    }
}
