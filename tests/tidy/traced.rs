//! The list of all normative statements, `tests/spec/statements.toml`: none is missing, each leads
//! to code that names it and to a test of its version, or says why it has none.
//!
//! What the list must have is told by the sections of OASIS MQTT 3.1.1 and 5.0 and how many
//! statements each has. docs/conformance.md shows the counts: `UPDATE_DOCS=1 cargo test -p leveret
//! --test tidy` writes them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::assert_none;
use super::repository::{read, root};

const LIST: &str = "tests/spec/statements.toml";
const PAGE: &str = "docs/conformance.md";

/// Sections with their first and last statement.
const OF_5: &str = "1.5.4:1-3 1.5.5:1-1 1.5.7:1-1 2.1.3:1-1 2.2.1:2-6 2.2.2:1-1 3.1.0:1-2 \
    3.1.2:1-30 3.1.3:1-12 3.1.4:1-6 3.2.0:1-2 3.2.2:1-22 3.3.1:1-13 3.3.2:1-20 3.3.4:1-10 \
    3.4.2:1-3 3.5.2:1-3 3.6.1:1-1 3.6.2:1-3 3.7.2:1-3 3.8.1:1-1 3.8.3:1-5 3.8.4:1-8 3.9.2:1-2 \
    3.9.3:1-2 3.10.1:1-1 3.10.3:1-2 3.10.4:1-6 3.11.2:1-2 3.11.3:1-2 3.12.4:1-1 3.14.0:1-1 \
    3.14.1:1-1 3.14.2:1-4 3.14.4:1-3 3.15.1:1-1 3.15.2:1-3 4.1.0:1-2 4.2.0:1-1 4.3.1:1-1 \
    4.3.2:1-5 4.3.3:1-13 4.4.0:1-2 4.5.0:1-2 4.6.0:1-6 4.7.0:1-1 4.7.1:1-2 4.7.2:1-1 4.7.3:1-4 \
    4.8.2:1-6 4.9.0:1-3 4.12.0:1-7 4.12.1:1-2 4.13.1:1-1 4.13.2:1-1 6.0.0:1-4";
const OF_3_1_1: &str = "1.5.3:1-3 2.2.2:1-2 2.3.1:1-7 3.1.0:1-2 3.1.2:1-24 3.1.3:1-11 3.1.4:1-5 \
    3.2.0:1-1 3.2.2:1-6 3.3.1:1-12 3.3.2:1-3 3.3.4:1-1 3.3.5:1-2 3.6.1:1-1 3.8.1:1-1 3.8.3:1-4 \
    3.8.4:1-6 3.9.3:1-2 3.10.1:1-1 3.10.3:1-2 3.10.4:1-6 3.12.4:1-1 3.14.1:1-1 3.14.4:1-3 \
    4.1.0:1-2 4.3.1:1-1 4.3.2:1-2 4.3.3:1-2 4.4.0:1-1 4.5.0:1-2 4.6.0:1-6 4.7.1:1-3 4.7.2:1-1 \
    4.7.3:1-4 4.8.0:1-2 6.0.0:1-4 7.0.0:1-2 7.1.1:1-1 7.1.2:1-1";

/// What became of the statements of a version.
#[derive(Default)]
struct Counts {
    tested: usize,
    not_applicable: usize,
    missing: usize,
}

#[test]
fn every_statement_is_traced() {
    let list: Table = read(LIST).parse().expect("statements.toml is TOML");
    let mut texts = Texts::default();
    let mut problems = Vec::new();
    let mut page = Vec::new();
    for (version, sections) in [("3.1.1", OF_3_1_1), ("5.0", OF_5)] {
        let entries = list[version].as_table().expect("a table of statements");
        let wanted: Vec<String> = ids(sections).collect();
        let extra = entries.keys().filter(|id| !wanted.contains(id));
        problems.extend(extra.map(|id| format!("{version} {id}: no such statement")));
        let mut counts = Counts::default();
        for id in &wanted {
            match entries.get(id).and_then(Value::as_table) {
                None => problems.push(format!("{version} {id}: not in the list")),
                Some(entry) => {
                    let wrong = check(&list, &mut texts, version, id, entry, &mut counts);
                    problems.extend(wrong.map(|why| format!("{version} {id}: {why}")));
                }
            }
        }
        let Counts {
            tested,
            not_applicable,
            missing,
        } = counts;
        let all = wanted.len();
        println!("{version}: {tested} tested, {not_applicable} not applicable, {missing} missing");
        page.push(format!(
            "| {version} | {all} | {tested} | {not_applicable} | {missing} |"
        ));
    }
    assert_none(&problems);
    check_page(&page);
}

fn ids(sections: &str) -> impl Iterator<Item = String> {
    sections.split_whitespace().flat_map(|section| {
        let (section, range) = section.split_once(':').expect("section:first-last");
        let (first, last) = range.split_once('-').expect("first-last");
        let number = |text: &str| text.parse::<u32>().expect("a number");
        (number(first)..=number(last)).map(move |each| format!("{section}-{each}"))
    })
}

/// What is wrong with one entry.
fn check(
    list: &Table,
    texts: &mut Texts,
    version: &str,
    id: &str,
    entry: &Table,
    counts: &mut Counts,
) -> Option<String> {
    let mut words: Vec<&str> = entry.keys().map(String::as_str).collect();
    words.retain(|word| *word != "says");
    words.sort_unstable();
    let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    if field("says").is_empty() || words.iter().any(|word| field(word).is_empty()) {
        return Some("a field is empty".to_owned());
    }
    match words[..] {
        ["not_applicable"] => {
            counts.not_applicable += 1;
            None
        }
        ["pending"] => {
            counts.missing += 1;
            None
        }
        ["code", "test"] => {
            counts.tested += 1;
            let mark = match version {
                "3.1.1" => format!("3.1.1 [MQTT-{id}]"),
                _ => format!("[MQTT-{id}]"),
            };
            let named = texts.of(field("code")).contains(&mark);
            let code = (!named).then(|| format!("{} does not name it", field("code")));
            code.or_else(|| texts.test(version, id, field("test")))
        }
        ["like", "test"] => {
            counts.tested += 1;
            let other = &list["5.0"].get(field("like"));
            let stands = other.is_some_and(|other| other.get("code").is_some());
            let like = (!stands).then(|| format!("5.0 {} has no code", field("like")));
            like.or_else(|| texts.test(version, id, field("test")))
        }
        _ => Some(format!("it has {words:?}")),
    }
}

/// Files that were read.
#[derive(Default)]
struct Texts(BTreeMap<String, String>);

impl Texts {
    fn of(&mut self, path: &str) -> &str {
        let read = || read(path);
        self.0.entry(path.to_owned()).or_insert_with(read)
    }

    /// What is wrong with a test: data must have a row that names the statement, a function must be
    /// there.
    fn test(&mut self, version: &str, id: &str, test: &str) -> Option<String> {
        let (path, function) = match test.split_once("::") {
            Some((path, function)) => (path, Some(format!("fn {function}("))),
            None => (test, None),
        };
        let text = self.of(path);
        let found = match function {
            Some(function) => text.contains(&function),
            None => text.lines().any(|line| {
                let name = line.split("\"name\": \"").nth(1).unwrap_or_default();
                let name = name.split("\", \"").next().unwrap_or_default();
                let of_311 = name.starts_with("3.1.1 ");
                names(name, id) && of_311 == (version == "3.1.1")
            }),
        };
        (!found).then(|| format!("{test} does not test it"))
    }
}

/// Whether a row's name has the statement, and not only one whose number is longer.
fn names(name: &str, id: &str) -> bool {
    let mark = format!("MQTT-{id}");
    let tails = name
        .match_indices(&mark)
        .map(|(at, _)| &name[at + mark.len()..]);
    tails
        .into_iter()
        .any(|tail| !tail.starts_with(|next: char| next.is_ascii_digit()))
}

fn check_page(rows: &[String]) {
    let page = read(PAGE);
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut fresh = String::new();
    for line in page.lines() {
        let row = rows
            .iter()
            .find(|row| line.starts_with(&row[..row.len().min(8)]));
        let counted = line.matches('|').count() == 6;
        fresh.push_str(row.filter(|_| counted).map_or(line, String::as_str));
        fresh.push('\n');
    }
    if update {
        std::fs::write(root().join(PAGE), &fresh).expect("the page is written");
    }
    assert!(
        update || rows.iter().all(|row| page.contains(row.as_str())),
        "{PAGE} is old; run with UPDATE_DOCS=1: {rows:#?}"
    );
}
