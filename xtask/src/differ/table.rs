//! What RabbitMQ answers to each queue argument, as a page.
//!
//! Owns the page's layout. Reads kept transcripts only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::accepted::matches;
use super::record::Transcripts;

/// Makes the page from the transcripts of the scripts that try one argument after the other.
pub(super) fn page(transcripts: &Transcripts) -> String {
    let mut text = String::from(HEAD);
    for kind in ["classic", "quorum", "stream"] {
        let mut answers = BTreeMap::<String, Vec<(String, Vec<String>)>>::new();
        let steps = transcripts.iter().filter(|(name, _)| is_trial(name, kind));
        for pair in steps.flat_map(|(_, lines)| lines.windows(2)) {
            let Some((argument, value)) = only_argument(&pair[0], kind) else {
                continue;
            };
            let answer = answer(&pair[1]);
            let answers = answers.entry(argument).or_default();
            match answers.iter_mut().find(|(known, _)| *known == answer) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => answers.push((answer, vec![value])),
            }
        }
        let _ = write!(text, "\n## {kind}\n{TABLE_HEAD}");
        for (argument, answers) in answers {
            let _ = writeln!(text, "| `{argument}` | | |");
            for (answer, values) in answers {
                let values = values.join("`, `");
                let _ = writeln!(text, "| | {answer} | `{values}` |");
            }
        }
    }
    text
}

/// Whether a script only declares queues of this kind, each with one argument and a new name.
fn is_trial(name: &str, kind: &str) -> bool {
    let Some((file, name)) = name.split_once(": ") else {
        return false;
    };
    match kind {
        "classic" => file == "queue/arguments" && TRIALS.iter().any(|trial| matches(trial, name)),
        "quorum" => file == "queue/quorum" && matches("x-* of a quorum queue", name),
        _ => file == "queue/stream" && matches("x-* of a stream", name),
    }
}

/// The argument and the value of a declare that has only one, but for the kind of queue.
fn only_argument(step: &str, kind: &str) -> Option<(String, String)> {
    let (_, table) = step
        .split_once("queue.declare ")?
        .1
        .split_once("arguments={")?;
    let table = table.strip_suffix('}')?;
    let table = match kind {
        "classic" => table,
        _ => table.strip_prefix(&format!("x-queue-type: S {kind}, "))?,
    };
    let (argument, value) = table.split_once(": ")?;
    let plain = !argument.contains([',', '{']) && !value.contains(", ");
    plain.then(|| (argument.to_owned(), value.to_owned()))
}

/// An answer in short, without the queue's name.
fn answer(line: &str) -> String {
    if line.contains("declare-ok") {
        return "taken".to_owned();
    }
    let Some((_, code)) = line.split_once("reply-code=") else {
        return line.trim().to_owned();
    };
    let code = &code[..code.len().min(3)];
    let text = line.split_once(" - ").map_or("", |(_, text)| text);
    let text = text
        .rsplit_once("\" class-id")
        .map_or(text, |(text, _)| text);
    let mut text = text.to_owned();
    for begin in [" for queue '", " in queue '"] {
        if let Some((before, rest)) = text.split_once(begin)
            && let Some((_, after)) = rest.split_once("' in vhost '/'")
        {
            text = format!("{before}{after}");
        }
    }
    format!("{code} {}", text.replace("\\\"", "\"").replace('|', "\\|"))
}

/// The scripts with classic queues; others declare a queue that is there.
const TRIALS: &[&str] = &[
    "* of every type",
    "* at its bounds",
    "the names that * takes",
    "the numbers that * takes",
    "a dead letter exchange that is missing",
    "a dead letter routing key without an exchange",
];

const HEAD: &str = "# Queue arguments\n
What RabbitMQ 3.10 answers to a declare of a queue with one argument, by kind of queue, type and
value, as recorded by `cargo xtask differ --record`. This page is made by
`cargo xtask differ --document`. Where Leveret answers otherwise stands in
[docs/differences.md](../../../docs/differences.md).\n";

const TABLE_HEAD: &str = "\n| argument | answer | values |\n|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue that is there is compared: its answers say nothing of the argument.
    #[test]
    fn only_trials_are_read() {
        for (name, kind, expected) in [
            ("queue/arguments: x-expires of every type", "classic", true),
            (
                "queue/arguments: x-max-length at its bounds",
                "classic",
                true,
            ),
            ("queue/arguments: x-expires is compared", "classic", false),
            (
                "queue/arguments: an invalid argument of a queue that is there",
                "classic",
                false,
            ),
            (
                "queue/quorum: x-expires: I 5 of a quorum queue",
                "quorum",
                true,
            ),
            (
                "queue/quorum: x-expires: I 5 of a quorum queue",
                "stream",
                false,
            ),
            ("queue/stream: x-max-age: S 7D of a stream", "stream", true),
        ] {
            assert_eq!(is_trial(name, kind), expected, "{name}");
        }
    }

    #[test]
    fn answers_are_short() {
        let step = "> @+ queue.declare queue=~q1 arguments={x-expires: I 0}";
        let expected = Some(("x-expires".to_owned(), "I 0".to_owned()));
        assert_eq!(only_argument(step, "classic"), expected);
        assert_eq!(only_argument(step, "quorum"), None);
        let step = "> queue.declare queue=~q durable arguments={x-queue-type: S quorum, x-expires: \
                    I 0}";
        assert_eq!(only_argument(step, "quorum"), expected);
        let line = "  < @2 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - invalid \
                    arg 'x-expires' for queue '~q1' in vhost '/': {value_zero,0}\" class-id=50";
        assert_eq!(answer(line), "406 invalid arg 'x-expires': {value_zero,0}");
        assert_eq!(answer("  < queue.declare-ok queue=~q1"), "taken");
    }
}
