//! What RabbitMQ answers to each queue argument, as a page.
//!
//! Owns the page's layout. Reads kept transcripts only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::record::Transcripts;

/// Makes the page from the transcripts of one file's scripts.
pub(super) fn page(transcripts: &Transcripts) -> String {
    let mut answers = BTreeMap::<String, Vec<(String, Vec<String>)>>::new();
    for (name, lines) in transcripts {
        if !name.starts_with(FILE) || name.contains("compared") {
            continue;
        }
        for pair in lines.windows(2) {
            let Some((argument, value)) = only_argument(&pair[0]) else {
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
    }
    let mut text = String::from(HEAD);
    for (argument, answers) in answers {
        let _ = writeln!(text, "| `{argument}` | | |");
        for (answer, values) in answers {
            let values = values.join("`, `");
            let _ = writeln!(text, "| | {answer} | `{values}` |");
        }
    }
    text
}

/// The argument and the value of a declare that has only one.
fn only_argument(step: &str) -> Option<(String, String)> {
    let (_, table) = step
        .split_once("queue.declare ")?
        .1
        .split_once("arguments={")?;
    let (argument, value) = table.strip_suffix('}')?.split_once(": ")?;
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

/// The file whose scripts are read.
const FILE: &str = "queue/arguments: ";

const HEAD: &str = "# Queue arguments\n
What RabbitMQ 3.10 answers to a declare of a classic queue with one argument, by type and value, as
recorded by `cargo xtask differ --record`. This page is made by `cargo xtask differ --document`.\n
| argument | answer | values |
|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_short() {
        let step = "> @+ queue.declare queue=~q1 arguments={x-expires: I 0}";
        let expected = Some(("x-expires".to_owned(), "I 0".to_owned()));
        assert_eq!(only_argument(step), expected);
        let line = "  < @2 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - invalid \
                    arg 'x-expires' for queue '~q1' in vhost '/': {value_zero,0}\" class-id=50";
        assert_eq!(answer(line), "406 invalid arg 'x-expires': {value_zero,0}");
        assert_eq!(answer("  < queue.declare-ok queue=~q1"), "taken");
    }
}
