//! Who may depend on what, and that each dependency is explained in docs/dependencies.md.

use std::collections::BTreeSet;

use super::assert_none;
use super::repository::{files, read};

/// What crates of ours a crate may depend on; the crates that are not listed may on any.
const OURS_ALLOWED: &[(&str, &[&str])] = &[
    ("leveret-core", &[]),
    ("leveret-mqtt", &["leveret-core"]),
    ("leveret-amqp", &["leveret-core"]),
    ("leveret-store", &["leveret-core"]),
    ("leveret-auth", &["leveret-core"]),
    (
        "leveret-net",
        &[
            "leveret-core",
            "leveret-mqtt",
            "leveret-amqp",
            "leveret-auth",
        ],
    ),
    (
        "leveret-management",
        &[
            "leveret-core",
            "leveret-mqtt",
            "leveret-amqp",
            "leveret-auth",
            "leveret-store",
        ],
    ),
    ("leveret-load", &[]),
    ("xtask", &[]),
];

/// Libraries that only some crates may use: they mark a boundary.
const THEIRS_ALLOWED: &[(&[&str], &[&str])] = &[
    (
        &["tokio", "mio"],
        &[
            "leveret-net",
            "leveret-management",
            "leveret-auth",
            "leveret",
            "leveret-load",
            "xtask",
        ],
    ),
    (
        &["serde", "serde_json"],
        &["leveret-config", "leveret-management", "leveret", "xtask"],
    ),
];

struct Manifest {
    path: String,
    name: String,
    table: toml::Table,
}

fn manifests() -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for file in files(&["Cargo.toml"]) {
        let table: toml::Table = file
            .text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", file.path));
        let package = table.get("package").and_then(|package| package.get("name"));
        // A manifest with a workspace of its own stands apart: the fuzz targets.
        if file.path != "Cargo.toml" && table.contains_key("workspace") {
            continue;
        }
        let name = package
            .and_then(toml::Value::as_str)
            .expect("a package has a name");
        manifests.push(Manifest {
            path: file.path,
            name: name.to_owned(),
            table,
        });
    }
    manifests
}

fn keys<'a>(table: &'a toml::Table, section: &str) -> Vec<(&'a String, &'a toml::Value)> {
    let section = table.get(section).and_then(toml::Value::as_table);
    section.into_iter().flatten().collect()
}

fn workspace_dependencies(ours: bool) -> BTreeSet<String> {
    let root: toml::Table = read("Cargo.toml").parse().expect("it is TOML");
    let workspace = root["workspace"]
        .as_table()
        .expect("the root is a workspace");
    let is_ours = |value: &toml::Value| value.get("path").is_some();
    keys(workspace, "dependencies")
        .into_iter()
        .filter(|(_, value)| is_ours(value) == ours)
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn crates_depend_downwards() {
    let ours = workspace_dependencies(true);
    let mut problems = Vec::new();
    for manifest in manifests() {
        let allowed = OURS_ALLOWED.iter().find(|(name, _)| *name == manifest.name);
        for (dependency, _) in keys(&manifest.table, "dependencies") {
            let refused = allowed.is_some_and(|(_, list)| !list.contains(&dependency.as_str()));
            if ours.contains(dependency) && refused {
                problems.push(format!("{} may not depend on {dependency}", manifest.name));
            }
            for (libraries, users) in THEIRS_ALLOWED {
                let guarded = libraries.contains(&dependency.as_str());
                if guarded && !users.contains(&manifest.name.as_str()) {
                    problems.push(format!("{} may not use {dependency}", manifest.name));
                }
            }
        }
    }
    assert_none(&problems);
}

/// Versions stand in one place, and nothing stands there unused.
#[test]
fn versions_stand_in_the_root() {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in keys(&manifest.table, section) {
                used.insert(dependency.clone());
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                if inherited != Some(true) {
                    let path = &manifest.path;
                    problems.push(format!("{path}: {dependency} is not `workspace = true`"));
                }
            }
        }
    }
    for dependency in workspace_dependencies(false) {
        if !used.contains(&dependency) {
            problems.push(format!("Cargo.toml: no crate uses {dependency}"));
        }
    }
    assert_none(&problems);
}

/// The crates of docs/dependencies.md: the first cell of each row, in backticks.
#[test]
fn every_dependency_is_explained() {
    let text = read("docs/dependencies.md");
    let rows: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let explained: BTreeSet<_> = rows.iter().cloned().collect();
    let direct = workspace_dependencies(false);
    let mut problems = Vec::new();
    if explained.len() != rows.len() {
        problems.push("docs/dependencies.md names a crate twice".to_owned());
    }
    let missing = direct
        .difference(&explained)
        .map(|name| format!("{name} is not explained"));
    problems.extend(missing);
    let stale = explained
        .difference(&direct)
        .map(|name| format!("{name} is no dependency"));
    problems.extend(stale);
    assert_none(&problems);
}
