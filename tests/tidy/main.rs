//! Checks of the repository itself: house style, dependency rules, traceability, documents.
//!
//! Reads files and never runs the broker. Each check lists every place that breaks it.

mod dependencies;
mod documents;
mod mask;
mod repository;
mod statements;
mod style;
mod traced;

/// Fails with all problems at once, one a line.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
