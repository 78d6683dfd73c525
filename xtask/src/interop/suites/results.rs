//! What came of the tests of one suite on one broker.

use std::collections::BTreeMap;
use std::fmt;

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// With the reason, as the suite gives it.
    Failed(String),
    Skipped,
}

impl Outcome {
    /// Whether both passed, both failed or both were skipped.
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(reason) if reason.is_empty() => f.write_str("failed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Skipped => f.write_str("skipped"),
        }
    }
}

/// How many tests came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// The outcomes by the tests' names.
#[derive(Debug, Default)]
pub(super) struct Results(BTreeMap<String, Outcome>);

impl Results {
    /// Notes an outcome; a test that reports twice, as a test and its teardown do, keeps its
    /// failure.
    pub(super) fn add(&mut self, test: &str, outcome: Outcome) {
        let known = self.0.entry(test.to_owned());
        known
            .and_modify(|known| {
                if matches!(outcome, Outcome::Failed(_)) {
                    *known = outcome.clone();
                }
            })
            .or_insert(outcome);
    }

    pub(super) fn outcome(&self, test: &str) -> Option<&Outcome> {
        self.0.get(test)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.0
            .iter()
            .map(|(test, outcome)| (test.as_str(), outcome))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for outcome in self.0.values() {
            match outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed(_) => counts.failed += 1,
                Outcome::Skipped => counts.skipped += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_not_overwritten() {
        let mut results = Results::default();
        results.add("a", Outcome::Passed);
        results.add("a", Outcome::Failed("teardown".to_owned()));
        results.add("a", Outcome::Passed);
        results.add("b", Outcome::Skipped);
        let expected = Counts {
            passed: 0,
            failed: 1,
            skipped: 1,
        };
        assert_eq!(results.counts(), expected);
    }
}
