//! docs/performance.md shows the budgets as they are.

use crate::held::{CHURN_ALLOCATIONS_MAX, HELD};
use crate::paths::PATHS;

fn rows() -> Vec<String> {
    let mut rows = Vec::new();
    for path in PATHS {
        let (name, round, budget) = (path.name, path.round, path.budget);
        rows.push(format!("| `{name}` | {round} | {budget} |"));
    }
    for held in HELD {
        rows.push(format!("| {} | {} |", held.name, held.bytes_max));
    }
    rows.push(format!(
        "A client that connects, subscribes and disconnects: at most {CHURN_ALLOCATIONS_MAX} \
         allocations."
    ));
    rows
}

#[test]
fn the_document_shows_the_budgets() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
    let text = std::fs::read_to_string(file).expect("the document is there");
    let rows = rows();
    let missing = rows.iter().any(|row| !text.lines().any(|line| line == row));
    assert!(
        !missing,
        "docs/performance.md does not have all of:\n{}",
        rows.join("\n")
    );
}
