//! House style: what files open with, how long they are, what they may not contain.

use super::assert_none;
use super::mask::{Masked, is_test_file, is_word, mask, tests_begin};
use super::repository::{files, read};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Unfinished or untrustworthy code; each with the reason it is refused.
const FORBIDDEN_CODE: &[(&str, &str)] = &[
    ("todo!", "write it"),
    ("unimplemented!", "write it"),
    ("#[ignore", "a test that does not run proves nothing"),
    ("should_panic", "assert the error instead"),
    ("unbounded_channel", "every queue has a bound"),
    ("UnboundedSender", "every queue has a bound"),
    ("flume::unbounded", "every queue has a bound"),
    ("std::sync::mpsc::channel", "unbounded; use sync_channel"),
    ("mpsc::channel()", "unbounded; use sync_channel"),
    ("allow(dead_code)", "delete it"),
];

const FORBIDDEN_COMMENTS: &[&str] = &["FIXME", "XXX", "TODO"];

#[test]
fn every_module_says_what_it_owns() {
    let problems: Vec<_> = files(&[".rs"])
        .into_iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not open with `//! `", file.path))
        .collect();
    assert_none(&problems);
}

#[test]
fn nothing_is_unfinished_or_unbounded() {
    let mut problems = Vec::new();
    for file in files(&[".rs"]) {
        let masked = mask(&file.text);
        for (number, line) in masked.code.lines().enumerate() {
            for (word, reason) in FORBIDDEN_CODE {
                if line.contains(word) {
                    problems.push(format!("{}:{}: {word}: {reason}", file.path, number + 1));
                }
            }
        }
        for (number, line) in masked.comments.lines().enumerate() {
            for word in FORBIDDEN_COMMENTS {
                if words(line).any(|found| found == *word) {
                    problems.push(format!("{}:{}: {word} in a comment", file.path, number + 1));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn tests_do_not_sleep() {
    let mut problems = Vec::new();
    for file in files(&[".rs"]) {
        let Masked { code, .. } = mask(&file.text);
        let begin = if is_test_file(&file.path) {
            0
        } else {
            tests_begin(&code)
        };
        for (number, line) in code.lines().enumerate().skip(begin) {
            let mut calls = line.split("sleep(");
            let before = calls.next().unwrap_or_default();
            // `tests_do_not_sleep()` is no sleep.
            if calls.next().is_some() && !before.ends_with(is_word) {
                problems.push(format!("{}:{}: wait for the event", file.path, number + 1));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn lines_fit_in_100_columns() {
    let mut problems = Vec::new();
    for file in files(&[".rs"]) {
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                problems.push(format!("{}:{}: {columns} columns", file.path, number + 1));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn no_path_of_one_machine() {
    // Put together here so that this file does not contain them.
    let paths = [
        concat!("/", "root/"),
        concat!("/", "work/"),
        concat!("/", "home/"),
    ];
    let mut problems = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".py", ".js"]) {
        for (number, line) in file.text.lines().enumerate() {
            if paths.iter().any(|path| line.contains(path)) {
                problems.push(format!("{}:{}: absolute path", file.path, number + 1));
            }
        }
    }
    assert_none(&problems);
}

/// Long files and functions are listed with a reason, and leave the list when they shrink.
#[test]
fn length_ratchet() {
    let mut long = Vec::new();
    for file in files(&[".rs"]) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push((file.path.clone(), format!("{lines} lines")));
        }
        for (name, lines) in functions(&mask(&file.text).code) {
            if lines > FUNCTION_LINES_MAX {
                long.push((format!("{}::{name}", file.path), format!("{lines} lines")));
            }
        }
    }
    let listed = listed();
    let mut problems: Vec<_> = long
        .iter()
        .filter(|(place, _)| !listed.contains(place))
        .map(|(place, size)| format!("{place}: {size}, and not in tests/tidy/ratchet.toml"))
        .collect();
    for place in listed {
        if !long.iter().any(|(found, _)| *found == place) {
            problems.push(format!(
                "{place}: short enough; remove it from tests/tidy/ratchet.toml"
            ));
        }
    }
    assert_none(&problems);
}

fn listed() -> Vec<String> {
    let ratchet: toml::Table = read("tests/tidy/ratchet.toml").parse().expect("it is TOML");
    let entries = ratchet
        .get("long")
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default();
    for (place, reason) in &entries {
        let reason = reason.as_str().unwrap_or_default();
        assert!(
            reason.len() >= 20,
            "{place} needs a reason, a sentence of it"
        );
    }
    entries.into_iter().map(|(place, _)| place).collect()
}

/// The functions of masked code, with their lines from `fn` to the closing brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|&c| is_word(c)).collect();
        if !name.is_empty()
            && let Some(length) = body_end(&code[at..])
        {
            found.push((name, code[at..at + length].lines().count()));
        }
    }
    found
}

/// The length of a function up to its closing brace; `None` for a declaration without a body.
fn body_end(from_fn: &str) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in from_fn.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.checked_sub(1)?,
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && others == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c))
}

#[test]
fn functions_are_measured() {
    let code = "fn a(x: [u8; 2]) {\n  if x { }\n}\ntrait T { fn b(); fn c() {} }\nlet d: fn (u8);";
    assert_eq!(functions(code), [("a".to_owned(), 3), ("c".to_owned(), 1)]);
}
