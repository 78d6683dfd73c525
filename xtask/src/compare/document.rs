//! The measured parts of docs/performance.md, between markers, and its plots.
//!
//! Owns what stands between `<!-- compare:begin NAME -->` and `<!-- compare:end NAME -->`, and the
//! files of docs/performance. Never touches a line outside of the markers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::measure::Plan;
use super::metric::Metric;
use super::number::{number, ratio};
use super::plot;
use super::report;
use super::scenario::{GROUPS, Group, Scenario};
use super::summary::Summary;
use super::target::Judged;

/// Writes the document's blocks and the plots.
///
/// # Errors
/// When the markers are not as they must be, before anything is written, or a file cannot be.
pub(crate) fn write(root: &Path, summary: &Summary, plan: &Plan, judged: &[Judged]) -> Result<()> {
    let path = root.join("docs/performance.md");
    let old = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let new = replace(&old, &blocks(summary, plan, judged))?;
    let folder = root.join("docs/performance");
    fs::create_dir_all(&folder)?;
    for group in GROUPS {
        let file = folder.join(format!("{}.svg", group.name()));
        fs::write(&file, plot::svg(&plot::of(*group, summary)))?;
    }
    fs::write(&path, new)?;
    println!("written: docs/performance.md and docs/performance/*.svg");
    Ok(())
}

/// Every block with its text.
fn blocks(summary: &Summary, plan: &Plan, judged: &[Judged]) -> Vec<(&'static str, String)> {
    let mut blocks = vec![
        ("machine", machine(summary, plan)),
        ("targets", targets(judged)),
    ];
    blocks.extend(
        GROUPS
            .iter()
            .map(|group| (group.name(), section(*group, summary))),
    );
    blocks.push(("notes", notes(summary, plan)));
    blocks
}

/// Puts each block's text between its markers.
///
/// # Errors
/// When a marker is missing, stands twice or out of order, or belongs to no block.
fn replace(text: &str, blocks: &[(&str, String)]) -> Result<String> {
    let mut written = Vec::new();
    let mut new = String::new();
    let mut inside: Option<&str> = None;
    for line in text.lines() {
        match (marker(line, "begin"), marker(line, "end"), inside) {
            (Some(name), _, None) => {
                let Some((name, body)) = blocks.iter().find(|(known, _)| *known == name) else {
                    bail!("docs/performance.md: no block is called {name}");
                };
                if written.contains(name) {
                    bail!("docs/performance.md: {name} begins twice");
                }
                written.push(*name);
                inside = Some(name);
                new.push_str(&format!("{line}\n{}\n", body.trim_end()));
            }
            (Some(name), _, Some(outer)) => {
                bail!("docs/performance.md: {name} begins within {outer}");
            }
            (None, Some(name), Some(outer)) if name == outer => {
                inside = None;
                new.push_str(&format!("{line}\n"));
            }
            (None, Some(name), _) => bail!("docs/performance.md: {name} ends without a beginning"),
            (None, None, Some(_)) => {}
            (None, None, None) => new.push_str(&format!("{line}\n")),
        }
    }
    if let Some(name) = inside {
        bail!("docs/performance.md: {name} does not end");
    }
    for (name, _) in blocks {
        if !written.contains(name) {
            bail!("docs/performance.md: no <!-- compare:begin {name} -->");
        }
    }
    Ok(new)
}

/// The name in a marker line of this kind.
fn marker<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let inner = line.trim().strip_prefix("<!-- compare:")?;
    let name = inner.strip_prefix(kind)?.strip_suffix("-->")?;
    Some(name.trim())
}

fn machine(summary: &Summary, plan: &Plan) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let brokers: Vec<_> = plan.peers.iter().map(|peer| peer.describe()).collect();
    format!(
        "Brokers: {}. Machine: {}, {cores} cores; generator and broker share them. {} interleaved \
         rounds of {} s, medians. {}",
        brokers.join("; "),
        processor(),
        plan.rounds,
        plan.seconds,
        sentence(&report::noise(summary)),
    )
}

/// The processor's name, as Linux tells it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// A text as one sentence: a capital first, a full stop last, no line breaks.
fn sentence(text: &str) -> String {
    let text = text.trim().replace('\n', " ");
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return text;
    };
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

fn targets(judged: &[Judged]) -> String {
    let mut text = markdown_head(&[
        "scenario", "figure", "beside", "wanted", "measured", "", "note",
    ]);
    for row in judged {
        text.push_str(&markdown_row(&[
            &format!("`{}`", row.scenario),
            &row.figure,
            row.beside,
            &row.wanted,
            &row.measured,
            row.verdict.word(),
            &row.note,
        ]));
    }
    text
}

/// A group's plot and table.
fn section(group: Group, summary: &Summary) -> String {
    let name = group.name();
    let mut text = format!("![{}](performance/{name}.svg)\n\n", group.title());
    let subject = summary.subject().to_owned();
    let others = summary.others().iter();
    let mut head = vec!["scenario".to_owned(), "figure".to_owned(), subject];
    if group.is_of_itself() {
        head.extend(others.cloned());
    } else {
        head.extend(others.map(|other| format!("÷ {other}")));
    }
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    text.push_str(&markdown_head(&head));
    let members: Vec<_> = summary
        .scenarios
        .iter()
        .copied()
        .filter(|scenario| scenario.group == group)
        .collect();
    for scenario in &members {
        for metric in scenario.metrics {
            let row = row(group, summary, scenario, metric);
            let row: Vec<_> = row.iter().map(String::as_str).collect();
            text.push_str(&markdown_row(&row));
        }
    }
    for remark in report::remarks(&members) {
        let named = remark.split_once(": ");
        let line = named.map_or_else(
            || sentence(&remark),
            |(name, rest)| sentence_end(&format!("`{name}`: {rest}")),
        );
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

fn row(group: Group, summary: &Summary, scenario: &Scenario, metric: &Metric) -> Vec<String> {
    let mut row = vec![format!("`{}`", scenario.name), metric.title()];
    row.push(figure(summary, scenario, metric, summary.subject()));
    for other in summary.others() {
        row.push(if group.is_of_itself() {
            figure(summary, scenario, metric, other)
        } else {
            let multiple = summary.ratio(scenario.name, metric, other);
            multiple.map_or_else(|| "–".to_owned(), ratio)
        });
    }
    row
}

/// A figure with its spread, unless the noise spoilt it.
fn figure(summary: &Summary, scenario: &Scenario, metric: &Metric, broker: &str) -> String {
    let Some(figure) = summary.figure(scenario.name, metric, broker) else {
        return "–".to_owned();
    };
    if metric.class.is_spoilt_by_noise() && !summary.is_quiet(scenario.name) {
        return "not quoted".to_owned();
    }
    let spread = figure.spread_pct;
    let spread = spread.map_or_else(String::new, |spread| format!(" ±{spread:.0} %"));
    format!("{}{spread}", number(figure.value))
}

fn notes(summary: &Summary, plan: &Plan) -> String {
    let mut text = String::new();
    for line in report::wrong(summary, plan) {
        text.push_str(&format!("- {line}\n"));
    }
    if text.is_empty() {
        text.push_str("Nothing was lost, doubled or out of order.\n");
    }
    let heavy = report::heavy(summary);
    if !heavy.is_empty() {
        text.push_str(&format!(
            "\nThe generator's CPU was {}\n",
            sentence_end(&heavy)
        ));
    }
    text
}

fn sentence_end(text: &str) -> String {
    format!("{}.", text.replace('\n', " "))
}

fn markdown_head(cells: &[&str]) -> String {
    let rule = "|---".repeat(cells.len());
    format!("{}{rule}|\n", markdown_row(cells))
}

fn markdown_row(cells: &[&str]) -> String {
    // What brokers and generators say may hold anything.
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::tests::summary;
    use crate::compare::target::judge;

    fn blocks_of(names: &[&'static str]) -> Vec<(&'static str, String)> {
        let body = |name: &&'static str| (*name, format!("new {name}\n"));
        names.iter().map(body).collect()
    }

    #[test]
    fn what_is_between_markers_is_replaced() {
        let text = "\
head
<!-- compare:begin a -->
old
older
<!-- compare:end a -->
middle
<!-- compare:begin b -->
<!-- compare:end b -->
tail
";
        let expected = "\
head
<!-- compare:begin a -->
new a
<!-- compare:end a -->
middle
<!-- compare:begin b -->
new b
<!-- compare:end b -->
tail
";
        let new = replace(text, &blocks_of(&["a", "b"])).expect("the markers are right");
        assert_eq!(new, expected);
        let again = replace(&new, &blocks_of(&["a", "b"])).expect("they stay right");
        assert_eq!(again, expected);
    }

    #[test]
    fn wrong_markers_are_refused() {
        let (begin, end) = ("<!-- compare:begin a -->\n", "<!-- compare:end a -->\n");
        let cases = [
            (String::new(), "no <!-- compare:begin a -->"),
            (begin.to_owned(), "does not end"),
            (end.to_owned(), "without a beginning"),
            (format!("{begin}{begin}{end}"), "begins within"),
            (format!("{begin}{end}{begin}{end}"), "begins twice"),
            (
                "<!-- compare:begin z -->\n".to_owned(),
                "no block is called z",
            ),
            (format!("{begin}<!-- compare:end b -->\n"), "b ends without"),
        ];
        for (text, expected) in cases {
            let error = replace(&text, &blocks_of(&["a"])).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// The repository's own document has every block.
    #[test]
    fn the_document_has_the_markers() {
        let text = include_str!("../../../docs/performance.md");
        let mut names = vec!["machine", "targets", "notes"];
        names.extend(GROUPS.iter().map(|group| group.name()));
        let new = replace(text, &blocks_of(&names));
        assert!(new.is_ok(), "{:?}", new.err());
    }

    #[test]
    fn noise_withholds_rates_but_not_ratios() {
        let report = |rate: u32, noise: &str| {
            format!(
                "{{\"received\":9,\"received_per_s\":{rate},\"recv_per_broker_cpu_s\":{rate}00,\
                 \"other_cores\":{noise}}}"
            )
        };
        for (noise, shown) in [("0.01", "1,000"), ("0.5", "not quoted")] {
            let (own, peer) = (report(1000, noise), report(500, noise));
            let runs = [
                ("pairs_q0", "leveret", own.as_str()),
                ("pairs_q0", "mosquitto", peer.as_str()),
            ];
            let text = section(Group::Mqtt, &summary(&["leveret", "mosquitto"], &runs));
            let expected = format!(
                "| scenario | figure | leveret | ÷ mosquitto |\n|---|---|---|---|\n\
                 | `pairs_q0` | received/s | {shown} | 2.00× |\n\
                 | `pairs_q0` | received per broker CPU s | 100,000 | 2.00× |\n"
            );
            assert!(text.ends_with(&expected), "{text}");
        }
    }

    #[test]
    fn targets_become_rows() {
        let runs = [(
            "storm",
            "leveret",
            "{\"during_over_before\":0.4,\"error\":\"a|b\"}",
        )];
        let text = targets(&judge(&summary(&["leveret"], &runs)));
        let row = "| `storm` | during/before | itself | at least 0.500 | 0.400 | missed | a\\|b |";
        assert_eq!(text.lines().nth(2), Some(row));
    }

    #[test]
    fn sentences() {
        let cases = [("", ""), ("a\nb", "A b."), ("ends.", "Ends.")];
        for (text, expected) in cases {
            assert_eq!(sentence(text), expected);
        }
    }
}
