//! Normative statements: each one that the code says it obeys occurs in a test.
//!
//! A statement is written `[MQTT-3.3.1-2]`. In a test its id may stand anywhere: in a comment, in
//! a data row, or in a function's name as `mqtt_3_3_1_2`. The exceptions are a list that shrinks.

use std::collections::{BTreeMap, BTreeSet};

use super::assert_none;
use super::mask::{is_test_file, mask, tests_begin};
use super::repository::{files, read};

const UNTESTED: &str = "tests/tidy/untested_statements.txt";

#[test]
fn statements_are_tested() {
    let mut claimed: BTreeMap<String, String> = BTreeMap::new();
    let mut tested = BTreeSet::new();
    for file in files(&[".rs", ".json", ".toml"]) {
        if file.path.starts_with("tests/tidy/") {
            continue;
        }
        let (code, test) = split(&file.path, &file.text);
        for id in ids(&code.to_uppercase()) {
            claimed.entry(id).or_insert_with(|| file.path.clone());
        }
        tested.extend(ids(&test.to_uppercase()));
        tested.extend(ids(&test.to_uppercase().replace('_', "-")));
    }
    let tested: BTreeSet<_> = tested.iter().map(|id| plain(id)).collect();
    let untested: BTreeSet<_> = claimed
        .keys()
        .filter(|id| !tested.contains(&plain(id)))
        .collect();
    let text = read(UNTESTED);
    let listed: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let mut problems = Vec::new();
    for id in &untested {
        if !listed.contains(*id) {
            problems.push(format!("{id}: obeyed in {}, in no test", claimed[*id]));
        }
    }
    for id in &listed {
        if !untested.contains(id) {
            problems.push(format!("{id}: remove it from {UNTESTED}"));
        }
    }
    assert_none(&problems);
}

/// A file's own code and its tests; data files are tests altogether.
fn split(path: &str, text: &str) -> (String, String) {
    if is_test_file(path) || !path.ends_with(".rs") {
        return (String::new(), text.to_owned());
    }
    let begin = tests_begin(&mask(text).code);
    let lines: Vec<_> = text.lines().collect();
    let (code, test) = lines.split_at(begin);
    (code.join("\n"), test.join("\n"))
}

/// The statement ids of an upper-case text: `MQTT-`, a chapter of numbers, `-`, a number.
fn ids(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("MQTT-") {
        let tail = &text[at + 5..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
        let number = tail[..end.unwrap_or(tail.len())].trim_end_matches(['.', '-']);
        let digits = number
            .split(['.', '-'])
            .filter(|part| part.parse::<u16>().is_ok());
        if number.contains('-') && digits.count() >= 3 {
            found.insert(format!("MQTT-{number}"));
        }
    }
    found
}

/// An id with all separators alike, so that a function's name compares with a written id.
fn plain(id: &str) -> String {
    id.replace('.', "-")
}

#[test]
fn ids_are_found() {
    let cases: &[(&str, &[&str])] = &[
        (
            "// [MQTT-3.3.1-2] and [MQTT-3.3.1-21].",
            &["MQTT-3.3.1-2", "MQTT-3.3.1-21"],
        ),
        ("FN MQTT-3-3-1-2-DUP() {}", &["MQTT-3-3-1-2"]),
        ("MQTT-SUBSCRIPTION-X, MQTT-5", &[]),
    ];
    for (text, want) in cases {
        let want: BTreeSet<String> = want.iter().map(|&id| id.to_owned()).collect();
        assert_eq!(ids(text), want, "{text}");
    }
}
