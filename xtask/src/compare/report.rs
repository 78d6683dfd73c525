//! What a comparison says: the table, what went wrong, the noise, the targets.
//!
//! Owns the wording for the terminal and `summary.tsv`. Measures nothing.

use super::measure::Plan;
use super::metric::Metric;
use super::number::{greatest, number, ratio};
use super::scenario::Scenario;
use super::summary::{NOISE_CORES_MAX, Summary};
use super::target::Judged;

/// Lays rows out in columns: the first `left` of them to the left, the others to the right.
pub(crate) fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if column > 0 {
                line.push_str("  ");
            }
            if column < left {
                line.push_str(&format!("{cell:<width$}"));
            } else {
                line.push_str(&format!("{cell:>width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Everything, as a terminal shows it.
pub(crate) fn text(summary: &Summary, plan: &Plan, judged: &[Judged]) -> String {
    let mut text = table(summary);
    text.push_str("\n↓: less is better. Medians of the rounds; ±: half the range in percent.\n");
    let sections = [
        ("RSS, MiB", memory(summary)),
        (
            "What went wrong or is not offered",
            wrong(summary, plan).join("\n"),
        ),
        (
            "What to know of a scenario",
            remarks(&summary.scenarios).join("\n"),
        ),
        ("The generator's CPU", heavy(summary)),
        ("Noise", noise(summary)),
        ("Targets", targets(judged)),
    ];
    for (title, body) in sections {
        if !body.trim().is_empty() {
            text.push_str(&format!("\n{title}:\n"));
            for line in body.lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
    }
    text
}

/// The figures: medians, spreads and ratios.
pub(crate) fn table(summary: &Summary) -> String {
    let mut head = vec!["scenario".to_owned(), "figure".to_owned()];
    for broker in &summary.brokers {
        head.extend([broker.clone(), "±%".to_owned()]);
        if broker != summary.subject() {
            head.push("ratio".to_owned());
        }
    }
    let mut rows = vec![head];
    for scenario in &summary.scenarios {
        for (index, metric) in scenario.metrics.iter().enumerate() {
            let name = if index == 0 { scenario.name } else { "" };
            let mut row = vec![name.to_owned(), metric.title()];
            for broker in &summary.brokers {
                row.extend(cells(summary, scenario, metric, broker));
            }
            rows.push(row);
        }
    }
    let ratio = format!("ratio: {} ÷ that broker.\n", summary.subject());
    aligned(&rows, 2) + &ratio
}

/// Figure, spread and, for all but the subject, the ratio.
fn cells(summary: &Summary, scenario: &Scenario, metric: &Metric, broker: &str) -> Vec<String> {
    let figure = summary.figure(scenario.name, metric, broker);
    let spread = figure.and_then(|figure| figure.spread_pct);
    let mut cells = vec![
        figure.map_or_else(|| "–".to_owned(), |figure| number(figure.value)),
        spread.map_or_else(String::new, |spread| format!("{spread:.0}")),
    ];
    if broker != summary.subject() {
        let multiple = summary.ratio(scenario.name, metric, broker);
        cells.push(multiple.map_or_else(String::new, ratio));
    }
    cells
}

/// `summary.tsv`: the table unrounded.
pub(crate) fn tsv(summary: &Summary) -> String {
    let mut text = "scenario\tmetric\tfield".to_owned();
    for broker in &summary.brokers {
        text.push_str(&format!("\t{broker}\t{broker} spread%"));
        if broker != summary.subject() {
            text.push_str(&format!("\t{} ÷ {broker}", summary.subject()));
        }
    }
    text.push('\n');
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
    for scenario in &summary.scenarios {
        for metric in scenario.metrics {
            text.push_str(&format!(
                "{}\t{}\t{}",
                scenario.name,
                metric.title(),
                metric.key
            ));
            for broker in &summary.brokers {
                let figure = summary.figure(scenario.name, metric, broker);
                let spread = figure.and_then(|figure| figure.spread_pct);
                let value = figure.map(|figure| figure.value);
                text.push_str(&format!("\t{}\t{}", cell(value), cell(spread)));
                if broker != summary.subject() {
                    let multiple = summary.ratio(scenario.name, metric, broker);
                    text.push_str(&format!("\t{}", cell(multiple)));
                }
            }
            text.push('\n');
        }
    }
    text
}

/// Every scenario and broker with errors, losses, or that was left out.
pub(crate) fn wrong(summary: &Summary, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for scenario in &summary.scenarios {
        for peer in &plan.peers {
            let wrong = match scenario.omits(peer.kind()) {
                Some(reason) => format!("not run: {reason}"),
                None => summary.wrong(scenario.name, &peer.name),
            };
            if !wrong.is_empty() {
                lines.push(format!("{} / {}: {wrong}", scenario.name, peer.name));
            }
        }
    }
    lines
}

/// What a reader must know to read a scenario's figures.
pub(crate) fn remarks(scenarios: &[&Scenario]) -> Vec<String> {
    let remarked = scenarios.iter().filter(|one| !one.remark.is_empty());
    remarked
        .map(|one| format!("{}: {}", one.name, one.remark))
        .collect()
}

/// Resident memory of each broker: at first, at its peak with messages, with idle connections.
fn memory(summary: &Summary) -> String {
    let mut lines = Vec::new();
    for broker in &summary.brokers {
        let messages: Vec<_> = summary
            .of_broker(broker)
            .filter(|run| {
                let mut scenarios = summary.scenarios.iter();
                let found = scenarios.find(|one| one.name == run.scenario);
                found.is_some_and(|scenario| !scenario.fresh)
            })
            .collect();
        let first = messages
            .iter()
            .find_map(|run| run.number("broker_rss_start_kb"));
        let all = |key| -> Vec<f64> { messages.iter().filter_map(|run| run.number(key)).collect() };
        let peak = greatest(&all("broker_rss_peak_kb"));
        let idle: Vec<_> = summary
            .of_broker(broker)
            .filter(|run| run.scenario == "idle_10k")
            .filter_map(|run| run.number("broker_rss_now_kb"))
            .collect();
        let parts = [
            (first, "at first"),
            (peak, "at the peak of the message scenarios"),
            (greatest(&idle), "with the idle connections"),
        ];
        let words: Vec<_> = parts
            .into_iter()
            .filter_map(|(kib, when)| Some(format!("{} {when}", number(kib? / 1024.0))))
            .collect();
        if !words.is_empty() {
            lines.push(format!("{broker}: {}", words.join(", ")));
        }
    }
    lines.join("\n")
}

/// Where the generator may have held the rate back.
pub(crate) fn heavy(summary: &Summary) -> String {
    let heavy: Vec<_> = summary
        .heavy()
        .into_iter()
        .map(|(scenario, broker, share)| format!("{scenario}/{broker} {share:.2}"))
        .collect();
    if heavy.is_empty() {
        return String::new();
    }
    format!(
        "above half of the broker's, so that the rate may be held back, \
         but not the figure per CPU second:\n{}",
        heavy.join(", ")
    )
}

/// What other programs did meanwhile, and what may be quoted therefore.
pub(crate) fn noise(summary: &Summary) -> String {
    let Some(noise) = summary.noise() else {
        return "unknown: no run could tell what other processes used".to_owned();
    };
    let figures = format!(
        "other processes used {:.2} cores at the median run, {:.2} at the worst; stolen {:.2}",
        noise.median, noise.worst, noise.stolen
    );
    let noisy = summary.noisy();
    if noisy.is_empty() {
        return format!("{figures}: quiet enough to quote rates and latencies");
    }
    format!(
        "{figures}.\nAbove {NOISE_CORES_MAX} rates and latencies are not to be quoted, here those \
         of {}; figures per broker CPU second hold better, but not to the percent.",
        noisy.join(", ")
    )
}

fn targets(judged: &[Judged]) -> String {
    let rows: Vec<Vec<String>> = judged
        .iter()
        .map(|row| {
            vec![
                row.verdict.word().to_owned(),
                row.scenario.to_owned(),
                row.figure.clone(),
                format!("beside {}", row.beside),
                row.wanted.clone(),
                row.measured.clone(),
                row.note.clone(),
            ]
        })
        .collect();
    aligned(&rows, 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::tests::summary;

    #[test]
    fn columns_are_aligned() {
        let rows = |text: &str| -> Vec<Vec<String>> {
            let lines = text.lines();
            lines
                .map(|line| line.split('|').map(str::to_owned).collect())
                .collect()
        };
        let text = aligned(&rows("a|µs ↓|1\nlong|b|12,345\nc"), 2);
        assert_eq!(text, "a     µs ↓       1\nlong  b     12,345\nc\n");
        assert_eq!(aligned(&[], 1), "");
    }

    fn sample() -> Summary {
        summary(
            &["leveret", "mosquitto"],
            &[
                (
                    "pairs_q0",
                    "leveret",
                    "{\"received\":9,\"received_per_s\":1000,\"recv_per_broker_cpu_s\":28000}",
                ),
                (
                    "pairs_q0",
                    "leveret",
                    "{\"received\":9,\"received_per_s\":1200,\"recv_per_broker_cpu_s\":28000}",
                ),
                (
                    "pairs_q0",
                    "mosquitto",
                    "{\"received\":9,\"received_per_s\":2200,\"recv_per_broker_cpu_s\":2000}",
                ),
            ],
        )
    }

    #[test]
    fn the_table_has_medians_spreads_and_ratios() {
        let expected = "\
scenario  figure                     leveret  ±%  mosquitto  ±%  ratio
pairs_q0  received/s                   1,100   9      2,200      0.50×
          received per broker CPU s   28,000   0      2,000      14.0×
ratio: leveret ÷ that broker.
";
        assert_eq!(table(&sample()), expected);
    }

    #[test]
    fn the_values_are_kept_unrounded() {
        let text = tsv(&sample());
        let line = text.lines().nth(1).expect("a metric");
        assert_eq!(
            line,
            "pairs_q0\treceived/s\treceived_per_s\t1100.0000\t9.0909\t2200.0000\t\t0.5000"
        );
    }

    #[test]
    fn noise_says_what_may_be_quoted() {
        let cases = [
            ("{\"other_cores\":0.05}", "quiet enough"),
            (
                "{\"other_cores\":0.2}",
                "not to be quoted, here those of churn;",
            ),
            ("{}", "unknown"),
        ];
        for (json, words) in cases {
            let text = noise(&summary(&["leveret"], &[("churn", "leveret", json)]));
            assert!(text.contains(words), "{text}");
        }
    }
}
