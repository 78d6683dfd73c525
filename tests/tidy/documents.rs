//! docs/FEATURES.md: every feature once, with a status that its tests bear out. docs/deviations.md:
//! every row with the test that keeps it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    let named = named(tests);
    if named.is_empty() && status != "open" {
        problems.push(format!("{id}: {status} names no test"));
    }
    for test in named {
        check_test(id, test, problems);
    }
}

/// Paths stand in backticks; anything else in the cell is prose.
fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn check_test(row: &str, test: &str, problems: &mut Vec<String>) {
    let (path, name) = test
        .split_once("::")
        .map_or((test, None), |(p, n)| (p, Some(n)));
    if !root().join(path).is_file() {
        problems.push(format!("{row}: there is no file {path}"));
        return;
    }
    let text = read(path);
    if path.ends_with(".rs") && !has_tests(&text) {
        problems.push(format!("{row}: {path} has no test"));
    }
    if let Some(name) = name
        && !defines(&text, name)
    {
        problems.push(format!("{row}: {path} has no test {name}"));
    }
}

/// Whether there is a test in a Rust file, and not only modules that have some.
fn has_tests(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}

#[test]
fn deviations_have_tests() {
    let text = read("docs/deviations.md");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let mut problems = Vec::new();
    for line in rows {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[what, _, _, tests] = cells.as_slice() else {
            problems.push(format!("{line}: a row has four cells"));
            continue;
        };
        if what == "What" || what.starts_with('-') {
            continue;
        }
        let named = named(tests);
        if named.is_empty() {
            problems.push(format!("{what}: names no test"));
        }
        for test in named {
            check_one_test(what, test, &mut problems);
        }
    }
    assert_none(&problems);
}

/// A file has many tests: which of them shows what a row says must stand in it.
fn check_one_test(row: &str, test: &str, problems: &mut Vec<String>) {
    let Some((path, name)) = test.split_once("::") else {
        problems.push(format!("{row}: which test of {test}?"));
        return;
    };
    if !root().join(path).is_file() {
        problems.push(format!("{row}: there is no file {path}"));
    } else if !is_test(path, &read(path), name) {
        problems.push(format!("{row}: {path} has no test {name}"));
    }
}

/// Whether a Rust file has a test function of that name, or a data file a case.
fn is_test(path: &str, text: &str, name: &str) -> bool {
    if path.ends_with(".json") {
        return text.contains(&format!("{{\"name\": \"{name}\","));
    }
    let mut attributes = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        let line = line.strip_prefix("async ").unwrap_or(line);
        let function = line.strip_prefix("fn ");
        if function.is_some_and(|rest| rest.strip_prefix(name).is_some_and(|r| r.starts_with('(')))
            && attributes
                .iter()
                .any(|held| *held == "#[test]" || held.starts_with("#[tokio::test"))
        {
            return true;
        }
        attributes.clear();
    }
    false
}

#[test]
fn only_tests_are_tests() {
    let rust = "fn helper() {}\n\n/// A row.\n#[test]\nfn shown() {}\n\n#[tokio::test(x)]\n    \
                async fn later() {}\n";
    let data = "[\n{\"name\": \"one case\", \"steps\": [\"not one\"]}\n]";
    for (path, text, name, expected) in [
        ("a.rs", rust, "shown", true),
        ("a.rs", rust, "later", true),
        ("a.rs", rust, "helper", false),
        ("a.rs", rust, "show", false),
        ("a.json", data, "one case", true),
        ("a.json", data, "one", false),
        ("a.json", data, "not one", false),
    ] {
        assert_eq!(is_test(path, text, name), expected, "{path} {name}");
    }
}

/// One table of deviations, or they disagree.
#[test]
fn deviations_stand_in_one_page() {
    let mut problems = Vec::new();
    for page in documents() {
        let text = read(&page);
        let lines = text.lines().filter(|line| line.starts_with('|'));
        let ours = lines.filter(|line| line.contains("| Leveret |"));
        if page != "docs/deviations.md" && ours.count() > 0 {
            problems.push(format!("{page} has a table of deviations"));
        }
    }
    assert_none(&problems);
}

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    for page in documents() {
        let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
        for link in links(&read(&page)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => PathBuf::from(&page),
                path => folder.join(path),
            };
            if !root().join(&target).exists() {
                problems.push(format!("{page}: there is no {link}"));
            } else if !anchor.is_empty() && !has_heading(&target, anchor) {
                problems.push(format!("{page}: there is no heading for {link}"));
            }
        }
    }
    assert_none(&problems);
}

/// Every page is found from the first one.
#[test]
fn pages_are_linked_from_the_readme() {
    let linked = links(&read("README.md"));
    let missing: Vec<_> = documents()
        .into_iter()
        .filter(|page| page != "README.md" && !linked.contains(page))
        .map(|page| format!("README.md does not lead to {page}"))
        .collect();
    assert_none(&missing);
}

/// The README and the pages in docs.
fn documents() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("docs")).expect("docs is there");
    let names = entries.map(|entry| entry.expect("can be read").file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let pages = names.filter(|name| name.ends_with(".md"));
    let mut pages: Vec<_> = pages.map(|name| format!("docs/{name}")).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// Where the links of a page lead, within the repository.
fn links(text: &str) -> Vec<String> {
    let ends = text.split("](").skip(1);
    let links = ends.filter_map(|rest| rest.split_once(')'));
    let links = links.map(|(link, _)| link.to_owned());
    links.filter(|link| !link.contains("://")).collect()
}

/// Whether a page has the heading that an anchor is made of.
fn has_heading(page: &Path, anchor: &str) -> bool {
    let text = std::fs::read_to_string(root().join(page)).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .any(|heading| {
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || "- _".contains(*c));
            kept.collect::<String>().replace(' ', "-") == anchor
        })
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
