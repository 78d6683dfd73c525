//! What happened in one seed, line by line, and the few lines of it that concern a failure.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Lines of a failure's trace.
const LINES_MAX: usize = 60;

/// Words that every trace has the lines of.
const ALWAYS: [&str; 6] = [
    "CRASH",
    "RESTART",
    "START",
    "journal",
    "definitions",
    "disk",
];

#[derive(Clone, Default)]
pub(crate) struct Trace {
    wanted: bool,
    pub(crate) step: u64,
    lines: Vec<(u64, String)>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.wanted {
            self.lines.push((self.step, line()));
        }
    }

    /// A number that tells one course of things from another.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines.hash(&mut hasher);
        hasher.finish()
    }

    /// The last lines that have one of these words, and those that matter always.
    pub(crate) fn about(&self, words: &[String]) -> String {
        let concerns = |line: &str| {
            ALWAYS.iter().any(|word| line.contains(word))
                || words.iter().any(|word| line.contains(word.as_str()))
        };
        let chosen = self.lines.iter().filter(|(_, line)| concerns(line));
        let mut chosen: Vec<&(u64, String)> = chosen.collect();
        // Many writes and commits in a row say no more than the last of them.
        let quiet = |line: &str| line.starts_with("the journal is") || line.contains("batches of");
        chosen.dedup_by(|later, former| {
            let both = quiet(&later.1) && later.1.get(..5) == former.1.get(..5);
            if both {
                *former = later;
            }
            both
        });
        let from = chosen.len().saturating_sub(LINES_MAX);
        let lines = chosen[from..].iter();
        lines
            .map(|(step, line)| format!("  {step:>5}  {line}\n"))
            .collect()
    }

    pub(crate) fn whole(&self) -> String {
        let lines = self.lines.iter();
        lines
            .map(|(step, line)| format!("  {step:>5}  {line}\n"))
            .collect()
    }
}
