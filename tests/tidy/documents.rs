//! docs/FEATURES.md: every feature once, with a status that its tests bear out.

use std::collections::BTreeMap;

use super::assert_none;
use super::repository::{read, root};

/// The chapters of the contract and how many features each has.
const CHAPTERS: &[(&str, usize)] = &[
    ("M", 20),
    ("A", 9),
    ("I", 6),
    ("L", 9),
    ("V", 3),
    ("U", 10),
    ("O", 12),
    ("D", 7),
    ("G", 3),
];

#[test]
fn features_have_a_status_and_tests() {
    let text = read("docs/FEATURES.md");
    let mut rows: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut problems = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[id, status, tests, ..] = cells.as_slice() else {
            continue;
        };
        let id = id.trim_matches('*');
        if id == "id" || id.starts_with('-') || id.starts_with(':') {
            continue;
        }
        if rows
            .insert(id.to_owned(), (status.to_owned(), tests.to_owned()))
            .is_some()
        {
            problems.push(format!("{id} appears twice"));
        }
    }
    for (chapter, count) in CHAPTERS {
        for number in 1..=*count {
            match rows.remove(&format!("{chapter}{number}")) {
                Some((status, tests)) => {
                    check(
                        &format!("{chapter}{number}"),
                        &status,
                        &tests,
                        &mut problems,
                    );
                }
                None => problems.push(format!("{chapter}{number} is missing")),
            }
        }
    }
    problems.extend(
        rows.keys()
            .map(|id| format!("{id} is no feature of the contract")),
    );
    assert_none(&problems);
}

fn check(id: &str, status: &str, tests: &str, problems: &mut Vec<String>) {
    if !["done", "partial", "open"].contains(&status) {
        problems.push(format!(
            "{id}: status {status:?} is none of done, partial, open"
        ));
    }
    // Paths stand in backticks; anything else in the cell is prose.
    let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
    if named.is_empty() && status != "open" {
        problems.push(format!("{id}: {status} names no test"));
    }
    for test in named {
        let (path, name) = test
            .split_once("::")
            .map_or((test, None), |(p, n)| (p, Some(n)));
        if !root().join(path).is_file() {
            problems.push(format!("{id}: there is no file {path}"));
        } else if let Some(name) = name
            && !defines(&read(path), name)
        {
            problems.push(format!("{id}: {path} has no test {name}"));
        }
    }
}

/// Whether a Rust, Python or JavaScript file defines a function, or a data file names a case.
fn defines(text: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or(name);
    let forms = [
        format!("fn {name}("),
        format!("def {name}("),
        format!("function {name}("),
    ];
    forms.iter().any(|form| text.contains(form)) || text.contains(&format!("\"{name}\""))
}
