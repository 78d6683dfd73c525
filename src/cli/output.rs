//! How listings are printed: RabbitMQ's tables, CSV and JSON.

use clap::{Arg, ArgMatches};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Map, Value};

use super::term::cell;

/// What a listing is printed as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Formatter {
    /// Tabs between cells.
    Table,
    /// Lines around cells.
    PrettyTable,
    /// An array of objects.
    Json,
    /// RFC 4180 with every cell in quotes.
    Csv,
}

/// How much is said besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) formatter: Formatter,
    pub(super) quiet: bool,
    pub(super) silent: bool,
    headers: bool,
}

pub(super) fn options() -> Vec<Arg> {
    vec![
        Arg::new("quiet")
            .short('q')
            .long("quiet")
            .num_args(0)
            .global(true)
            .help("No banners"),
        Arg::new("silent")
            .short('s')
            .long("silent")
            .num_args(0)
            .global(true)
            .help("No banners and no table headers"),
        Arg::new("formatter")
            .long("formatter")
            .value_name("FORMATTER")
            .value_parser(["table", "pretty_table", "json", "csv"])
            .global(true)
            .help("What output looks like"),
        Arg::new("no-table-headers")
            .long("no-table-headers")
            .num_args(0)
            .global(true)
            .help("No table headers"),
    ]
}

impl Style {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let formatter = match matches.get_one::<String>("formatter").map(String::as_str) {
            Some("json") => Formatter::Json,
            Some("csv") => Formatter::Csv,
            Some("pretty_table") => Formatter::PrettyTable,
            _ => Formatter::Table,
        };
        let silent = matches.get_flag_or("silent");
        let headers = !silent && !matches.get_flag_or("no-table-headers");
        Self {
            formatter,
            quiet: matches.get_flag_or("quiet"),
            silent,
            headers,
        }
    }

    /// Whether banners are printed: not for machines, and not for those who want none.
    pub(super) fn talks(&self) -> bool {
        let for_people = matches!(self.formatter, Formatter::Table | Formatter::PrettyTable);
        for_people && !self.quiet && !self.silent
    }
}

/// Flags that may not be in a command's table at all.
trait FlagOr {
    fn get_flag_or(&self, name: &str) -> bool;
}

impl FlagOr for ArgMatches {
    fn get_flag_or(&self, name: &str) -> bool {
        self.try_get_one::<bool>(name)
            .ok()
            .flatten()
            .copied()
            .unwrap_or_default()
    }
}

/// A listing as text, line ends included. `rows` are objects with a member for each column; what is
/// missing is empty.
pub(super) fn listing(style: &Style, columns: &[&str], rows: &[Value]) -> String {
    match style.formatter {
        Formatter::Json => json(columns, rows),
        Formatter::Csv => csv(columns, rows),
        _ if rows.is_empty() => String::new(),
        Formatter::Table => {
            let header = if style.headers {
                columns.join("\t") + "\n"
            } else {
                String::new()
            };
            let line = |row: &Value| cells(columns, row).join("\t") + "\n";
            header + &rows.iter().map(line).collect::<String>()
        }
        Formatter::PrettyTable => {
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED);
            if style.headers {
                table.set_header(columns);
            }
            table.add_rows(rows.iter().map(|row| cells(columns, row)));
            format!("{table}\n")
        }
    }
}

fn cells(columns: &[&str], row: &Value) -> Vec<String> {
    columns
        .iter()
        .map(|column| cell(column, &row[*column]))
        .collect()
}

fn csv(columns: &[&str], rows: &[Value]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let header = line(columns.iter().map(|column| quoted(column)).collect());
    let body = rows.iter().map(|row| {
        line(
            cells(columns, row)
                .iter()
                .map(|cell| quoted(cell))
                .collect(),
        )
    });
    header + &body.collect::<String>()
}

/// An array with one object a line; RabbitMQ has empty text where a value is missing.
fn json(columns: &[&str], rows: &[Value]) -> String {
    let mut out = String::from("[\n");
    for (index, row) in rows.iter().enumerate() {
        let member = |column: &&str| {
            let value = &row[*column];
            let value = if value.is_null() {
                Value::from("")
            } else {
                value.clone()
            };
            ((*column).to_owned(), value)
        };
        let object: Map<String, Value> = columns.iter().map(member).collect();
        let comma = if index == 0 { "" } else { "," };
        out += &format!("{comma}{}\n", Value::Object(object));
    }
    out + "]\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [&str; 3] = ["name", "arguments", "policy"];

    fn check(formatter: Formatter, headers: bool, rows: &[Value], expected: &str) {
        let style = Style {
            formatter,
            quiet: false,
            silent: false,
            headers,
        };
        assert_eq!(listing(&style, &COLUMNS, rows), expected, "{formatter:?}");
    }

    #[test]
    fn o2_listings_look_as_rabbitmqs() {
        let rows = [
            json!({ "name": "q1", "arguments": [["x-max-length", "long", 5]] }),
            json!({ "name": "q \"2\"", "arguments": [], "policy": null }),
        ];
        let table = "q1\t[{\"x-max-length\",5}]\t\nq \"2\"\t[]\t\n";
        let headed = format!("name\targuments\tpolicy\n{table}");
        check(Formatter::Table, true, &rows, &headed);
        check(Formatter::Table, false, &rows, table);
        check(
            Formatter::Json,
            true,
            &rows,
            "[\n{\"name\":\"q1\",\"arguments\":[[\"x-max-length\",\"long\",5]],\"policy\":\"\"}\n\
             ,{\"name\":\"q \\\"2\\\"\",\"arguments\":[],\"policy\":\"\"}\n]\n",
        );
        check(
            Formatter::Csv,
            true,
            &rows,
            "\"name\",\"arguments\",\"policy\"\n\"q1\",\"[{\"\"x-max-length\"\",5}]\",\"\"\n\
             \"q \"\"2\"\"\",\"[]\",\"\"\n",
        );
    }

    #[test]
    fn o2_empty_listings_have_no_header() {
        check(Formatter::Table, true, &[], "");
        check(Formatter::PrettyTable, true, &[], "");
        check(Formatter::Json, true, &[], "[\n]\n");
    }

    #[test]
    fn o2_pretty_tables_have_lines() {
        let rows = [json!({ "name": "q1", "arguments": [] })];
        let style = Style {
            formatter: Formatter::PrettyTable,
            quiet: false,
            silent: false,
            headers: true,
        };
        let text = listing(&style, &["name", "arguments"], &rows);
        let expected = "\
┌──────┬───────────┐
│ name ┆ arguments │
╞══════╪═══════════╡
│ q1   ┆ []        │
└──────┴───────────┘
";
        assert_eq!(text, expected);
    }
}
