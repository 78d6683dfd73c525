//! `leveret store`: looks at a data directory while no broker runs, and mends it.
//!
//! Owns what is asked and how it is told. Reading and mending are the store's own, as at a start;
//! `check` and `dump` change nothing.

mod dump;
mod progress;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use leveret_core::definitions::{Fault, Kind};
use leveret_core::journal::Journal;
use leveret_core::lists::{Lists, lists};
use leveret_core::message::{AmqpOrigin, Origin};
use leveret_management::protocol::{Code, Failure};
use leveret_store::data_dir::{DataDir, DataDirError};
use leveret_store::definitions::inspect::{self as definitions, Snapshot};
use leveret_store::definitions::{DEFINITIONS_FILE, DefinitionsFile};
use leveret_store::disk::Files;
use leveret_store::journal::inspect::{Entry, Report, State, inspect};
use leveret_store::journal::{JOURNAL_DIRECTORY, JournalFile, Options};

use super::console::print;
use super::{client, exit};
use progress::Progress;

/// Something was damaged: found by `check`, mended as far as can be by `repair`.
const DAMAGED: u8 = 1;

/// A file cannot be read at all, or is of another version.
const UNREADABLE: u8 = 74;

pub(super) fn command() -> Command {
    let sub = |name: &'static str, about: &'static str| {
        let data_dir = Arg::new("data-dir")
            .long("data-dir")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("The data directory; else LEVERET_DATA_DIR, else the broker's default");
        Command::new(name).about(about).arg(data_dir)
    };
    Command::new("store")
        .about("Checks, dumps and repairs what is on disk, while no broker runs")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(sub(
            "check",
            "Reads everything, changes nothing; ends with 1 if anything is damaged",
        ))
        .subcommand(dump::with_options(sub(
            "dump",
            "Prints every record of the journal as a line of JSON",
        )))
        .subcommand(sub(
            "repair",
            "Does what a start does with damage, and says what; ends with 1 if there was any",
        ))
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((name, inner)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let directory = client::data_dir_of(inner);
    let done = match name {
        "dump" => dump::run(&directory, inner),
        "repair" => repair(&directory),
        _ => check(&directory),
    };
    match done {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(DAMAGED),
        Err(failure) => exit::fail(&failure),
    }
}

/// What is in a data directory that nobody else uses.
struct Store {
    held: DataDir,
    definitions: Result<Option<Snapshot>, Fault>,
    lists: Lists,
}

impl Store {
    fn look(directory: &Path) -> Result<Self, Failure> {
        let held = DataDir::look(directory).map_err(|why| unusable(&why))?;
        let has = |name| directory.join(name).exists();
        if !has(DEFINITIONS_FILE) && !has(JOURNAL_DIRECTORY) {
            let shown = directory.display();
            let text = format!("{shown} has neither {DEFINITIONS_FILE} nor {JOURNAL_DIRECTORY}");
            return Err(Failure::new(Code::Unavailable, text));
        }
        let read = definitions::inspect(directory).and_then(|snapshot| {
            let lists = match &snapshot {
                Some(snapshot) => lists(&mut |kind, visit| snapshot.load(kind, visit))?,
                None => Lists::default(),
            };
            Ok((snapshot, lists))
        });
        let (definitions, lists) = match read {
            Ok((snapshot, lists)) => (Ok(snapshot), lists),
            Err(fault) => (Err(fault), Lists::default()),
        };
        Ok(Self {
            held,
            definitions,
            lists,
        })
    }

    fn journal(&self) -> PathBuf {
        self.held.path().join(JOURNAL_DIRECTORY)
    }

    /// Reads the journal, and shows each record; `None` if there is none.
    fn inspect(&self, mut show: impl FnMut(&Entry<'_>)) -> Result<Option<Report>, Failure> {
        let path = self.journal();
        if !path.exists() {
            return Ok(None);
        }
        let mut progress = Progress::new(&path);
        let report = inspect(&Files::to_read(&path), &origins(), |entry| {
            progress.see(entry.segment);
            show(entry);
        });
        drop(progress);
        report.map(Some).map_err(|fault| unreadable(&fault))
    }
}

/// Both protocols, whose messages the journal has.
fn origins() -> [&'static dyn Origin; 3] {
    let [mqtt, signed] = leveret_mqtt::origins();
    [mqtt, signed, &AmqpOrigin]
}

fn unusable(why: &DataDirError) -> Failure {
    let text = match why {
        DataDirError::InUse { .. } => format!("{why}: stop the broker first"),
        _ => why.to_string(),
    };
    Failure::new(Code::Unavailable, text)
}

fn unreadable(fault: &Fault) -> Failure {
    Failure {
        code: Code::Software,
        text: fault.to_string(),
        exit: UNREADABLE,
    }
}

/// Tells how everything is; `true` if anything is damaged.
fn check(directory: &Path) -> Result<bool, Failure> {
    let store = Store::look(directory)?;
    let report = store.inspect(|_| ())?;
    let mut text = format!("Checking {}\n", directory.display());
    let mut damaged = false;
    if let Some(report) = &report {
        text += &journal_text(report, &store.lists);
        damaged |= report.damaged().next().is_some();
    }
    if let Ok(Some(snapshot)) = &store.definitions {
        let (told, is_damaged) = definitions_text(directory, snapshot, &store.lists);
        text += &told;
        damaged |= is_damaged;
    }
    let verdict = match (damaged, &store.definitions) {
        (_, Err(_)) => "The definitions cannot be read",
        (true, _) => "Damage was found; `leveret store repair`, or the next start, mends it",
        (false, _) => "Nothing is damaged",
    };
    print(&format!("{text}{verdict}\n"))?;
    match &store.definitions {
        Err(fault) => Err(unreadable(fault)),
        Ok(_) => Ok(damaged),
    }
}

fn state_text(state: State) -> String {
    match state {
        State::Whole => "whole".to_owned(),
        State::Empty => "empty: the next start removes it".to_owned(),
        State::Torn(at) => format!("torn at {at} by a crash: the next start cuts it there"),
        State::Behind => "torn by a crash: the next start removes it".to_owned(),
        State::Damaged(at, why) => format!("damaged at {at}: {why}"),
    }
}

fn journal_text(report: &Report, lists: &Lists) -> String {
    let mut text = "file\tbytes\trecords\tmessages\tstate\n".to_owned();
    for file in &report.files {
        let state = state_text(file.state);
        let (path, bytes) = (file.path.display(), file.bytes);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{path}\t{bytes}\t{}\t{}\t{state}",
            file.records, file.messages
        );
    }
    let sum = |of: fn(&leveret_store::journal::inspect::FileReport) -> u64| -> u64 {
        report.files.iter().map(of).sum()
    };
    let _ = writeln!(
        text,
        "Journal: {} files, {} bytes, {} records, {} messages of {} queues",
        report.files.len(),
        sum(|file| file.bytes),
        sum(|file| file.records),
        report.messages(),
        report.queues.len(),
    );
    for path in &report.aside {
        let _ = writeln!(text, "{} was set aside by an earlier start", path.display());
    }
    let unknown = report.queues.iter();
    for (queue, messages) in unknown.filter(|(queue, _)| !lists.by_number.contains_key(queue)) {
        let _ = writeln!(
            text,
            "Queue {queue} has {messages} messages and is in no definition: \
             the next start forgets them"
        );
    }
    text
}

fn definitions_text(directory: &Path, snapshot: &Snapshot, lists: &Lists) -> (String, bool) {
    let path = directory.join(DEFINITIONS_FILE);
    let (path, bytes) = (path.display(), snapshot.bytes);
    let state = if snapshot.sound { "whole" } else { "damaged" };
    let records = lists.records;
    let mut text = format!("{path}\t{bytes}\t{records}\t\t{state}\n");
    for (kind, key) in &lists.unreadable {
        let key = String::from_utf8_lossy(key);
        let _ = writeln!(text, "{kind:?} record {key:?} is none of this version");
    }
    (text, !snapshot.sound || !lists.unreadable.is_empty())
}

/// Mends what can be; `true` if anything was damaged.
fn repair(directory: &Path) -> Result<bool, Failure> {
    let store = Store::look(directory)?;
    let report = store.inspect(|_| ())?;
    let (journal, has_definitions) = (store.journal(), !matches!(store.definitions, Ok(None)));
    drop(store);
    let held = DataDir::open(directory).map_err(|why| unusable(&why))?;
    print(&format!("Repairing {}\n", directory.display()))?;
    let mut damaged = false;
    if let Some(report) = report {
        damaged |= report.damaged().next().is_some();
        print(&repair_journal(&journal, &report)?)?;
    }
    if has_definitions {
        damaged |= repair_definitions(&held)?;
    }
    let verdict = if damaged {
        "What could be mended is mended\n"
    } else {
        "Nothing was damaged\n"
    };
    print(verdict)?;
    Ok(damaged)
}

/// Opens the journal as a start does, and says what that did.
fn repair_journal(path: &Path, report: &Report) -> Result<String, Failure> {
    let cannot = |why: std::io::Error| {
        let text = format!("{} cannot be opened: {why}", path.display());
        Failure::new(Code::Software, text)
    };
    let files = Arc::new(Files::open(path).map_err(cannot)?);
    let opened = JournalFile::open(files, &Options::default(), &origins(), Arc::default());
    let journal = opened.map_err(|fault| unreadable(&fault))?;
    let (lost, messages) = (journal.lost(), journal.condition().messages);
    drop(journal);
    let mut text = String::new();
    for file in &report.files {
        let path = file.path.display();
        // Writing to a string does not fail.
        let _ = match file.state {
            State::Whole => continue,
            State::Empty | State::Behind => writeln!(text, "{path}: removed"),
            State::Torn(at) => writeln!(text, "{path}: cut at {at}, where a crash tore it"),
            State::Damaged(at, why) => writeln!(
                text,
                "{path}: damaged at {at} ({why}); what can be read is written anew, \
                 the file is now {path}.damaged"
            ),
        };
    }
    let before = report.messages();
    let _ = writeln!(
        text,
        "Journal: {messages} messages, {before} before; {lost} were known and could not be read"
    );
    Ok(text)
}

/// Has the definitions mended; `true` if they were damaged.
fn repair_definitions(held: &DataDir) -> Result<bool, Failure> {
    let cannot = |fault: Fault| {
        let hint = "Put a copy of the file in its place. Without one, move it away: the broker \
                    then starts with no users, vhosts and queues of yours, and forgets the \
                    journal's messages. Keep both until you know that nothing in them is wanted.";
        Failure {
            text: format!("{fault}\n{hint}"),
            ..unreadable(&fault)
        }
    };
    let whole = definitions::repair(held).map_err(cannot)?;
    let file = DefinitionsFile::open(held).map_err(cannot)?;
    let found = lists(&mut |kind: Kind, visit| {
        leveret_core::definitions::Definitions::load(&file, kind, visit)
    });
    let found = found.map_err(cannot)?;
    file.close().map_err(cannot)?;
    let state = if whole { "whole" } else { "mended" };
    let records = found.records;
    print(&format!("Definitions: {records} records, {state}\n"))?;
    if let Some((kind, key)) = found.unreadable.first() {
        let key = String::from_utf8_lossy(key);
        return Err(cannot(Fault {
            what: format!("reading the {kind:?} record {key:?}"),
            why: "it is none of this version".to_owned(),
        }));
    }
    Ok(!whole)
}
