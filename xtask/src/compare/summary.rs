//! Rounds made into figures: medians, spreads, ratios, and what went wrong.
//!
//! Owns no run longer than the report takes. Prints nothing.

use std::collections::BTreeSet;

use super::metric::{Metric, Pick};
use super::number::{greatest, least, median, spread_pct};
use super::runs::Run;
use super::scenario::Scenario;

/// Above so many cores used by others, neither rates nor latencies are to be quoted.
pub(crate) const NOISE_CORES_MAX: f64 = 0.1;
/// Above this share of the broker's CPU, the generator's own may have held the rate back.
const GENERATOR_SHARE_MAX: f64 = 0.5;

/// One cell: a broker's figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// Half the range in percent of the median; absent of a single round.
    pub(crate) spread_pct: Option<f64>,
}

/// What the rest of the machine did meanwhile, in cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Noise {
    pub(crate) median: f64,
    pub(crate) worst: f64,
    /// By the hypervisor, at the worst run.
    pub(crate) stolen: f64,
}

/// Everything that was measured.
pub(crate) struct Summary {
    pub(crate) scenarios: Vec<&'static Scenario>,
    /// The first is the one that is compared with all others.
    pub(crate) brokers: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

impl Summary {
    /// The broker that is compared with the others.
    pub(crate) fn subject(&self) -> &str {
        self.brokers.first().map_or("", String::as_str)
    }

    /// The brokers that it is compared with.
    pub(crate) fn others(&self) -> &[String] {
        self.brokers.get(1..).unwrap_or_default()
    }

    /// The metrics of a scenario; none of one that was not measured.
    pub(crate) fn metrics(&self, scenario: &str) -> &'static [Metric] {
        let found = self.scenarios.iter().find(|one| one.name == scenario);
        found.map_or(&[], |scenario| scenario.metrics)
    }

    /// The first metric of a scenario that reads a field.
    pub(crate) fn metric(&self, scenario: &str, key: &str) -> Option<&'static Metric> {
        let mut metrics = self.metrics(scenario).iter();
        metrics.find(|metric| metric.key == key)
    }

    /// One broker's figure of a metric; `None` when no round has one.
    pub(crate) fn figure(&self, scenario: &str, metric: &Metric, broker: &str) -> Option<Figure> {
        let values: Vec<_> = self
            .of(scenario, broker)
            .filter_map(|run| run.figure(metric))
            .collect();
        match metric.pick {
            Pick::Median => Some(Figure {
                value: median(&values)?,
                spread_pct: spread_pct(&values),
            }),
            Pick::Least => Some(Figure {
                value: least(&values)?,
                spread_pct: None,
            }),
        }
    }

    /// One broker's figure by the name of its field.
    pub(crate) fn value(&self, scenario: &str, key: &str, broker: &str) -> Option<f64> {
        let metric = self.metric(scenario, key)?;
        let figure = self.figure(scenario, metric, broker)?;
        Some(figure.value)
    }

    /// The subject's figure as a multiple of another broker's.
    pub(crate) fn ratio(&self, scenario: &str, metric: &Metric, other: &str) -> Option<f64> {
        let own = self.figure(scenario, metric, self.subject())?.value;
        let other = self.figure(scenario, metric, other)?.value;
        (other != 0.0).then_some(own / other)
    }

    /// What a broker's runs of a scenario lost, doubled, disordered or complained of; often empty.
    pub(crate) fn wrong(&self, scenario: &str, broker: &str) -> String {
        let errors: BTreeSet<_> = self.of(scenario, broker).filter_map(Run::error).collect();
        let mut words: Vec<_> = errors.into_iter().map(str::to_owned).collect();
        let mut totals: Vec<(&str, f64)> = Vec::new();
        for (name, count) in self.of(scenario, broker).flat_map(Run::faults) {
            match totals.iter_mut().find(|(known, _)| *known == name) {
                Some((_, total)) => *total += count,
                None => totals.push((name, count)),
            }
        }
        for (name, total) in totals.into_iter().filter(|(_, total)| *total > 0.0) {
            words.push(format!("{total:.0} {}", name.replace('_', " ")));
        }
        words.join(", ")
    }

    /// What other processes used, over all runs; `None` when no run could tell.
    pub(crate) fn noise(&self) -> Option<Noise> {
        let all = |key: &str| -> Vec<f64> {
            self.runs.iter().filter_map(|run| run.number(key)).collect()
        };
        let other = all("other_cores");
        Some(Noise {
            median: median(&other)?,
            worst: greatest(&other)?,
            stolen: greatest(&all("steal_cores")).unwrap_or(0.0),
        })
    }

    /// Whether a scenario's rates and latencies may be quoted: nobody else was busy during any of
    /// its runs. What cannot tell is as noisy as the noisiest run of all.
    pub(crate) fn is_quiet(&self, scenario: &str) -> bool {
        let runs = self.runs.iter().filter(|run| run.scenario == scenario);
        let told: Vec<_> = runs.filter_map(|run| run.number("other_cores")).collect();
        let worst = greatest(&told).or_else(|| Some(self.noise()?.worst));
        worst.is_some_and(|cores| cores <= NOISE_CORES_MAX)
    }

    /// The scenarios whose rates and latencies are not to be quoted.
    pub(crate) fn noisy(&self) -> Vec<&'static str> {
        let names = self.scenarios.iter().map(|scenario| scenario.name);
        names.filter(|name| !self.is_quiet(name)).collect()
    }

    /// Scenarios in which the generator itself may have held the rate back, as
    /// (scenario, broker, generator's CPU ÷ broker's).
    pub(crate) fn heavy(&self) -> Vec<(&'static str, &str, f64)> {
        let mut heavy = Vec::new();
        for scenario in &self.scenarios {
            if scenario.is_paced() {
                continue;
            }
            for broker in &self.brokers {
                let shares: Vec<_> = self
                    .of(scenario.name, broker)
                    .filter_map(generator_share)
                    .collect();
                if let Some(share) = median(&shares).filter(|share| *share > GENERATOR_SHARE_MAX) {
                    heavy.push((scenario.name, broker.as_str(), share));
                }
            }
        }
        heavy
    }

    /// The runs of one broker, in the order in which they were made.
    pub(crate) fn of_broker(&self, broker: &str) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.broker == broker)
    }

    fn of(&self, scenario: &str, broker: &str) -> impl Iterator<Item = &Run> {
        self.of_broker(broker)
            .filter(move |run| run.scenario == scenario)
    }
}

fn generator_share(run: &Run) -> Option<f64> {
    let broker = run.number("broker_cpu_s").filter(|cpu| *cpu > 0.0)?;
    Some(run.number("gen_cpu_s")? / broker)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::scenario::chosen;

    /// A summary of made-up runs: (scenario, broker, the generator's JSON).
    pub(crate) fn summary(brokers: &[&str], runs: &[(&'static str, &str, &str)]) -> Summary {
        let mut only: Vec<String> = runs.iter().map(|(name, ..)| (*name).to_owned()).collect();
        only.dedup();
        Summary {
            scenarios: chosen(&only).expect("the scenarios exist"),
            brokers: brokers.iter().map(|name| (*name).to_owned()).collect(),
            runs: runs
                .iter()
                .map(|(scenario, broker, json)| Run::new(scenario, 1, broker, json))
                .collect(),
        }
    }

    #[test]
    fn rounds_become_figures() {
        let summary = summary(
            &["leveret", "mosquitto", "rabbitmq"],
            &[
                (
                    "lat_q0_5k",
                    "leveret",
                    "{\"lat_p99_us\":900,\"received\":1}",
                ),
                (
                    "lat_q0_5k",
                    "leveret",
                    "{\"lat_p99_us\":100,\"received\":1}",
                ),
                (
                    "lat_q0_5k",
                    "leveret",
                    "{\"lat_p99_us\":110,\"received\":1}",
                ),
                (
                    "lat_q0_5k",
                    "mosquitto",
                    "{\"lat_p99_us\":220,\"received\":1}",
                ),
                (
                    "lat_q0_5k",
                    "rabbitmq",
                    "{\"lat_p99_us\":220,\"received\":0}",
                ),
            ],
        );
        let metrics = summary.metrics("lat_q0_5k");
        let (p99, best) = (&metrics[1], &metrics[2]);
        let figure = summary.figure("lat_q0_5k", p99, "leveret").expect("it has");
        assert_eq!(figure.value, 110.0);
        assert!(figure.spread_pct.is_some_and(|spread| spread > 360.0));
        let figure = summary.figure("lat_q0_5k", best, "leveret");
        let value = 100.0;
        let spread_pct = None;
        assert_eq!(figure, Some(Figure { value, spread_pct }));
        assert_eq!(summary.ratio("lat_q0_5k", p99, "mosquitto"), Some(0.5));
        assert_eq!(summary.ratio("lat_q0_5k", p99, "rabbitmq"), None);
        assert_eq!(summary.value("churn", "lat_p99_us", "leveret"), None);
    }

    #[test]
    fn faults_are_added_up() {
        let summary = summary(
            &["leveret"],
            &[
                ("pairs_q0", "leveret", "{\"lost\":2,\"order_violations\":1}"),
                ("pairs_q0", "leveret", "{\"lost\":3,\"error\":\"closed\"}"),
                ("pairs_q0", "leveret", "{\"lost\":-4,\"error\":\"closed\"}"),
                ("pairs_q1", "leveret", "{\"lost\":0}"),
            ],
        );
        let wrong = summary.wrong("pairs_q0", "leveret");
        assert_eq!(wrong, "closed, 5 lost, 1 order violations");
        assert_eq!(summary.wrong("pairs_q1", "leveret"), "");
    }

    #[test]
    fn noise_and_the_generators_share() {
        let runs = [
            (
                "pairs_q0",
                "leveret",
                "{\"other_cores\":0.05,\"steal_cores\":0.01,\"gen_cpu_s\":3,\"broker_cpu_s\":4}",
            ),
            (
                "pairs_q0",
                "mosquitto",
                "{\"other_cores\":0.3,\"steal_cores\":0}",
            ),
            (
                "lat_q0_5k",
                "leveret",
                "{\"gen_cpu_s\":3,\"broker_cpu_s\":4}",
            ),
        ];
        let summary = summary(&["leveret", "mosquitto"], &runs);
        let noise = summary.noise().expect("two runs tell");
        assert_eq!((noise.worst, noise.stolen), (0.3, 0.01));
        assert_eq!(summary.noisy(), ["pairs_q0", "lat_q0_5k"]);
        assert!(!summary.is_quiet("lat_q0_5k"));
        assert_eq!(summary.heavy(), [("pairs_q0", "leveret", 0.75)]);
    }
}
