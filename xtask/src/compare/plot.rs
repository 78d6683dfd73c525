//! Bar plots of ratios as SVG: horizontal, logarithmic, bars from 1× to either side.
//!
//! Owns the drawing. Reads no run; colours follow the reader's light or dark scheme.

use super::metric::Metric;
use super::number::ratio;
use super::scenario::{Group, Scenario};
use super::summary::Summary;
use super::target;

/// A plot: rows of bars, one bar for each series.
pub(crate) struct Plot {
    title: String,
    series: Vec<Series>,
    rows: Vec<Row>,
}

struct Series {
    name: String,
    /// The same for a broker in every plot.
    colour: usize,
}

struct Row {
    label: String,
    bars: Vec<Bar>,
}

/// One bar; both may be absent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bar {
    value: Option<f64>,
    /// Where the target stands.
    target: Option<f64>,
}

/// What a group's scenarios gave; brokers without any figure there are left out.
pub(crate) fn of(group: Group, summary: &Summary) -> Plot {
    let mut brokers: Vec<(usize, &str)> = Vec::new();
    for (colour, broker) in summary.brokers.iter().enumerate() {
        let compared = group.is_of_itself() || broker != summary.subject();
        let figures = plotted(group, summary);
        let mut values = figures.map(|figure| bar(group, summary, figure, broker).value);
        if compared && values.any(|value| value.is_some()) {
            brokers.push((colour, broker));
        }
    }
    let row = |(scenario, metric): (&Scenario, &Metric)| {
        let bars = brokers.iter();
        Row {
            label: match group {
                Group::Mqtt | Group::Amqp => scenario.name.to_owned(),
                Group::Latency | Group::Memory | Group::Scale => {
                    format!("{}, {}", scenario.name, metric.title())
                }
            },
            bars: bars
                .map(|(_, broker)| bar(group, summary, (scenario, metric), broker))
                .collect(),
        }
    };
    let rows = plotted(group, summary).map(row).collect();
    let series = brokers.into_iter().map(|(colour, name)| Series {
        name: name.to_owned(),
        colour,
    });
    Plot {
        title: group.title().to_owned(),
        series: series.collect(),
        rows,
    }
}

/// The figures that a group's plot shows.
fn plotted(
    group: Group,
    summary: &Summary,
) -> impl Iterator<Item = (&'static Scenario, &'static Metric)> {
    let scenarios = summary.scenarios.iter().copied();
    scenarios
        .filter(move |scenario| scenario.group == group)
        .flat_map(|scenario| {
            scenario
                .metrics
                .iter()
                .map(move |metric| (scenario, metric))
        })
        .filter(|(_, metric)| metric.plotted)
}

fn bar(
    group: Group,
    summary: &Summary,
    (scenario, metric): (&Scenario, &Metric),
    broker: &str,
) -> Bar {
    if !group.is_of_itself() {
        return Bar {
            value: summary.ratio(scenario.name, metric, broker),
            target: target::bound(scenario.name, metric.key, Some(broker)),
        };
    }
    let ours = broker == summary.subject();
    Bar {
        value: summary.value(scenario.name, metric.key, broker),
        target: target::bound(scenario.name, metric.key, None).filter(|_| ours),
    }
}

const WIDTH: f64 = 800.0;
const LABEL_WIDTH: f64 = 230.0;
/// Room for the values at the right.
const VALUE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 14.0;
const ROW_GAP: f64 = 12.0;
const HEAD_HEIGHT: f64 = 62.0;
const FOOT_HEIGHT: f64 = 28.0;
/// As many colours as the style has; further series share them.
const COLOURS: usize = 4;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.title{font-weight:600}\
.small{font-size:11px;fill:#59636e}\
.grid{stroke:#d1d9e0;stroke-width:1}\
.one{stroke:#59636e;stroke-width:1.5}\
.target{stroke:#cf222e;stroke-width:2.5}\
.c0{fill:#0072b2}.c1{fill:#d55e00}.c2{fill:#009e73}.c3{fill:#a0508c}\
@media (prefers-color-scheme:dark){\
text{fill:#f0f6fc}.small{fill:#9198a1}.grid{stroke:#3d444d}.one{stroke:#9198a1}\
.target{stroke:#ff7b72}\
.c0{fill:#56b4e9}.c1{fill:#e69f00}.c2{fill:#2fc9a0}.c3{fill:#cc79a7}}";

/// The drawing as a file's text.
pub(crate) fn svg(plot: &Plot) -> String {
    let row_height = BAR_HEIGHT * plot.series.len() as f64 + ROW_GAP;
    let bottom = HEAD_HEIGHT + row_height * plot.rows.len() as f64;
    let height = bottom + FOOT_HEIGHT;
    let scale = Scale::of(plot);
    let title = escape(&plot.title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n"
    );
    text.push_str(&legend(&plot.series));
    text.push_str(&grid(&scale, bottom));
    for (index, row) in plot.rows.iter().enumerate() {
        let top = HEAD_HEIGHT + row_height * index as f64 + ROW_GAP / 2.0;
        text.push_str(&drawn(row, &plot.series, &scale, top));
    }
    text.push_str("</svg>\n");
    text
}

fn legend(series: &[Series]) -> String {
    let mut text = String::new();
    let mut x = 8.0;
    for Series { name, colour } in series {
        let colour = colour % COLOURS;
        text.push_str(&format!(
            "<rect class=\"c{colour}\" x=\"{x}\" y=\"34\" width=\"12\" height=\"12\"/>\
             <text x=\"{}\" y=\"45\">{}</text>\n",
            x + 17.0,
            escape(name)
        ));
        x += 40.0 + 7.5 * name.chars().count() as f64;
    }
    text.push_str(&format!(
        "<path class=\"target\" d=\"M{x} 34v12\"/><text x=\"{}\" y=\"45\">target</text>\n",
        x + 8.0
    ));
    text
}

fn grid(scale: &Scale, bottom: f64) -> String {
    let mut text = String::new();
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        text.push_str(&format!(
            "<path class=\"{class}\" d=\"M{x:.1} {HEAD_HEIGHT}V{bottom}\"/>\
             <text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}×</text>\n",
            bottom + 16.0
        ));
    }
    text
}

fn drawn(row: &Row, series: &[Series], scale: &Scale, top: f64) -> String {
    let middle = top + BAR_HEIGHT * row.bars.len() as f64 / 2.0 + 4.5;
    let mut text = format!(
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n",
        LABEL_WIDTH - 10.0,
        escape(&row.label)
    );
    for (index, (bar, series)) in row.bars.iter().zip(series).enumerate() {
        let y = top + BAR_HEIGHT * index as f64;
        let from = scale.x(1.0);
        let to = bar.value.map(|value| scale.x(value));
        let end = to.unwrap_or(from);
        if to.is_some() {
            text.push_str(&format!(
                "<rect class=\"c{}\" x=\"{:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\"/>\n",
                series.colour % COLOURS,
                from.min(end),
                (end - from).abs().max(1.0),
                BAR_HEIGHT - 2.0
            ));
        }
        let words = bar.value.map_or_else(|| "–".to_owned(), ratio);
        text.push_str(&format!(
            "<text class=\"small\" x=\"{:.1}\" y=\"{}\">{words}</text>\n",
            from.max(end) + 5.0,
            y + BAR_HEIGHT - 4.0
        ));
        if let Some(target) = bar.target {
            let x = scale.x(target);
            let height = BAR_HEIGHT - 2.0;
            text.push_str(&format!(
                "<path class=\"target\" d=\"M{x:.1} {y}v{height}\"/>\n"
            ));
        }
    }
    text
}

/// Text that is safe between tags and within quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML 1.0 has no other control characters, not even escaped.
            letter if letter.is_control() && !"\t\n".contains(letter) => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A logarithmic axis over whole decades; what does not fit is drawn at its end.
struct Scale {
    /// Exponents of 10 of the least and the greatest value.
    decades: (i32, i32),
}

impl Scale {
    /// Decades beyond which a bar is cut off.
    const DECADES: (i32, i32) = (-3, 6);

    fn of(plot: &Plot) -> Self {
        let bars = plot.rows.iter().flat_map(|row| &row.bars);
        let values = bars.flat_map(|bar| [bar.value, bar.target]).flatten();
        let mut decades = (0, 1);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            let exponent = value.log10();
            decades.0 = decades.0.min(exponent.floor() as i32);
            decades.1 = decades.1.max(exponent.ceil() as i32);
        }
        let (least, greatest) = Self::DECADES;
        Self {
            decades: (decades.0.max(least), decades.1.min(greatest)),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let (least, greatest) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let exponent = if value > 0.0 { value.log10() } else { least };
        let share = (exponent.clamp(least, greatest) - least) / (greatest - least);
        LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
    }

    /// Where lines are: 1 of each decade, and 2 and 5 when there are few decades.
    fn ticks(&self) -> Vec<f64> {
        let (least, greatest) = self.decades;
        let steps: &[f64] = if greatest - least <= 3 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let mut ticks = Vec::new();
        for decade in least..greatest {
            ticks.extend(steps.iter().map(|step| scaled(*step, decade)));
        }
        ticks.push(scaled(1.0, greatest));
        ticks
    }
}

/// `step` times 10 to the `decade`, without the crumbs of a product with 0.1.
fn scaled(step: f64, decade: i32) -> f64 {
    let power = 10_f64.powi(decade.abs());
    if decade < 0 {
        step / power
    } else {
        step * power
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::tests::summary;

    fn plot(values: &[Option<f64>]) -> Plot {
        let bar = |value: &Option<f64>| Bar {
            value: *value,
            target: None,
        };
        let series = |_: &Option<f64>| Series {
            name: "<peer>".to_owned(),
            colour: 1,
        };
        Plot {
            title: "a < b & \"c\"".to_owned(),
            series: values.iter().map(series).collect(),
            rows: vec![Row {
                label: "it's".to_owned(),
                bars: values.iter().map(bar).collect(),
            }],
        }
    }

    #[test]
    fn text_is_escaped() {
        let cases = [
            ("plain µ ÷", "plain µ ÷"),
            ("<a href=\"x\">", "&lt;a href=&quot;x&quot;&gt;"),
            ("a & b's", "a &amp; b&#39;s"),
            ("bell\u{7}", "bell "),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected);
        }
        let drawing = svg(&plot(&[Some(2.0)]));
        assert!(drawing.contains("<title>a &lt; b &amp; &quot;c&quot;</title>"));
        assert!(drawing.contains(">it&#39;s</text>"));
        assert!(drawing.contains(">&lt;peer&gt;</text>"));
    }

    #[test]
    fn the_axis_covers_the_values() {
        let cases: &[(&[Option<f64>], (i32, i32), usize)] = &[
            (&[], (0, 1), 4),
            (&[None], (0, 1), 4),
            (&[Some(14.0)], (0, 2), 7),
            (&[Some(0.88), Some(287.0)], (-1, 3), 5),
            (&[Some(0.0), Some(f64::INFINITY)], (0, 1), 4),
            (&[Some(1e-9), Some(1e9)], (-3, 6), 10),
        ];
        for (values, decades, ticks) in cases {
            let scale = Scale::of(&plot(values));
            assert_eq!(scale.decades, *decades, "{values:?}");
            assert_eq!(scale.ticks().len(), *ticks, "{values:?}");
            for value in values.iter().flatten() {
                let x = scale.x(*value);
                assert!((LABEL_WIDTH..=WIDTH - VALUE_WIDTH).contains(&x), "{value}");
            }
        }
    }

    #[test]
    fn groups_become_rows() {
        let json = |value: &str| format!("{{\"received\":1,\"recv_per_broker_cpu_s\":{value}}}");
        let (own, peer) = (json("28"), json("2"));
        let runs = [
            ("pairs_q0", "leveret", own.as_str()),
            ("pairs_q0", "mosquitto", peer.as_str()),
            ("storm", "leveret", "{\"during_over_before\":0.8}"),
            ("storm", "mosquitto", "{\"during_over_before\":0.1}"),
        ];
        let summary = summary(&["leveret", "mosquitto", "rabbitmq"], &runs);
        let names = |plot: &Plot| -> Vec<(usize, String)> {
            let series = plot.series.iter();
            series.map(|one| (one.colour, one.name.clone())).collect()
        };
        let mqtt = of(Group::Mqtt, &summary);
        assert_eq!(names(&mqtt), [(1, "mosquitto".to_owned())]);
        let [row] = mqtt.rows.as_slice() else {
            panic!("one scenario of the group was measured");
        };
        let bar = |value, target| Bar { value, target };
        assert_eq!(row.label, "pairs_q0");
        assert_eq!(row.bars, [bar(Some(14.0), Some(14.0))]);
        // The target is ours alone, and rabbitmq has no figure.
        let scale = of(Group::Scale, &summary);
        let both = [(0, "leveret".to_owned()), (1, "mosquitto".to_owned())];
        assert_eq!(names(&scale), both);
        let [row] = scale.rows.as_slice() else {
            panic!("one scenario of the group was measured");
        };
        assert_eq!(row.label, "storm, during/before");
        assert_eq!(row.bars, [bar(Some(0.8), Some(0.5)), bar(Some(0.1), None)]);
    }

    #[test]
    fn a_drawing_has_a_bar_for_each_value() {
        let drawing = svg(&plot(&[Some(20.0), None, Some(0.5)]));
        assert!(drawing.starts_with("<svg xmlns=") && drawing.ends_with("</svg>\n"));
        // Three in the legend, two in the row.
        assert_eq!(drawing.matches("<rect ").count(), 5);
        for words in ["20.0×", "0.50×", ">–<", "prefers-color-scheme:dark"] {
            assert!(drawing.contains(words), "{words}");
        }
    }
}
