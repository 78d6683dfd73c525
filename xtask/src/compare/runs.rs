//! One run: what the generator reported of one scenario, round and broker.
//!
//! Owns the reading of that JSON line, which is another program's: anything may be missing.

use serde_json::{Map, Value};

use super::metric::Metric;

/// What counts what went wrong, as fields of a report.
const FAULTS: &[&str] = &["lost", "duplicates", "order_violations", "stalls"];

/// The columns of `runs.tsv` that are in every table of runs, whatever the scenario.
const COLUMNS: &[&str] = &[
    "received_per_s",
    "sent_per_s",
    "recv_per_broker_cpu_s",
    "sent_per_broker_cpu_s",
    "lat_p50_us",
    "lat_p99_us",
    "lat_max_us",
    "sent",
    "received",
    "lost",
    "duplicates",
    "order_violations",
    "stalls",
    "broker_cpu_s",
    "broker_cores",
    "broker_rss_start_kb",
    "broker_rss_now_kb",
    "broker_rss_peak_kb",
    "gen_cpu_s",
    "gen_us_per_msg",
    "other_cores",
    "steal_cores",
    "error",
];

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) round: u32,
    pub(crate) broker: String,
    fields: Map<String, Value>,
}

impl Run {
    /// A run with the generator's output; what is no JSON object is an error of the run.
    pub(crate) fn new(scenario: &'static str, round: u32, broker: &str, output: &str) -> Self {
        let line = output.lines().rfind(|line| line.starts_with('{'));
        let fields = match line.map(serde_json::from_str) {
            Some(Ok(Value::Object(fields))) => fields,
            _ => error("no result"),
        };
        Self {
            scenario,
            round,
            broker: broker.to_owned(),
            fields,
        }
    }

    /// A run that brought nothing but a reason.
    pub(crate) fn failed(scenario: &'static str, round: u32, broker: &str, why: &str) -> Self {
        Self {
            fields: error(why),
            ..Self::new(scenario, round, broker, "")
        }
    }

    /// A field that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.fields.get(key).and_then(Value::as_f64)
    }

    /// The figure of a metric. A run in which nothing arrived has none: the broker does not do
    /// this, and how quickly it does not is of no interest.
    pub(crate) fn figure(&self, metric: &Metric) -> Option<f64> {
        let figure = self.number(metric.key)?;
        let nothing = self.number("received") == Some(0.0);
        let undelivered = metric.key == "deliver_per_s" && figure == 0.0;
        (!nothing && !undelivered).then_some(figure)
    }

    /// What the generator complained of, or that nothing arrived.
    pub(crate) fn error(&self) -> Option<&str> {
        let told = self.fields.get("error").and_then(Value::as_str);
        let nothing = self.number("received") == Some(0.0);
        told.or_else(|| nothing.then_some("nothing arrived"))
    }

    /// How many of each kind of fault; a generator that does not count a kind counts 0.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let count = |name: &&'static str| (*name, self.number(name).unwrap_or(0.0).max(0.0));
        FAULTS.iter().map(count)
    }

    /// One line of JSON: which run, then what the generator said.
    pub(crate) fn json(&self) -> String {
        let mut all = Map::new();
        all.insert("scenario".to_owned(), self.scenario.into());
        all.insert("round".to_owned(), self.round.into());
        all.insert("broker".to_owned(), self.broker.clone().into());
        all.extend(self.fields.clone());
        Value::Object(all).to_string()
    }
}

fn error(why: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("error".to_owned(), why.into());
    fields
}

/// All runs as tab-separated values: the usual columns, then those of the scenarios' metrics.
pub(crate) fn tsv(runs: &[Run], keys: &[&'static str]) -> String {
    let mut columns = COLUMNS.to_vec();
    for key in keys {
        if !columns.contains(key) {
            columns.push(key);
        }
    }
    let mut text = format!("scenario\tround\tbroker\t{}\n", columns.join("\t"));
    for run in runs {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| run.fields.get(*column).map_or_else(String::new, cell))
            .collect();
        let Run {
            scenario,
            round,
            broker,
            ..
        } = run;
        text.push_str(&format!(
            "{scenario}\t{round}\t{broker}\t{}\n",
            cells.join("\t")
        ));
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace(['\t', '\n'], " "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::metric;

    #[test]
    fn outputs_are_read() {
        let received = &metric::MESSAGES[0];
        let delivered = &metric::RETAINED[1];
        let cases = [
            ("", received, None, Some("no result")),
            ("{broken", received, None, Some("no result")),
            ("[1]", received, None, Some("no result")),
            (
                "words\n{\"received\":5,\"received_per_s\":2.5}\n",
                received,
                Some(2.5),
                None,
            ),
            (
                "{\"received\":0,\"received_per_s\":0}",
                received,
                None,
                Some("nothing arrived"),
            ),
            (
                "{\"received_per_s\":null,\"error\":\"gone\"}",
                received,
                None,
                Some("gone"),
            ),
            ("{\"deliver_per_s\":0}", delivered, None, None),
        ];
        for (output, metric, figure, error) in cases {
            let run = Run::new("pairs_q0", 1, "leveret", output);
            assert_eq!(run.figure(metric), figure, "{output}");
            assert_eq!(run.error(), error, "{output}");
        }
    }

    #[test]
    fn runs_become_lines() {
        let output = "{\"received\":2,\"lost\":-1,\"error\":\"a\\tb\",\"cost_ratio\":1.5}";
        let run = Run::new("table", 2, "leveret", output);
        assert_eq!(
            run.json(),
            "{\"scenario\":\"table\",\"round\":2,\"broker\":\"leveret\",\"received\":2,\
             \"lost\":-1,\"error\":\"a\\tb\",\"cost_ratio\":1.5}"
        );
        assert!(run.faults().all(|(_, count)| count == 0.0));
        let text = tsv(&[run], &["cost_ratio", "lost"]);
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        let of = |column: &str| {
            let index = lines[0].iter().position(|name| *name == column);
            index.map(|index| lines[1][index])
        };
        assert_eq!(of("cost_ratio"), Some("1.5"));
        assert_eq!(of("error"), Some("a b"));
        assert_eq!(of("sent"), Some(""));
    }
}
