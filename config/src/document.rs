//! Documents that are made of the table: the reference page and the two sample files.
//!
//! They are kept in the repository; a test compares them with what comes out here.

use std::fmt::Write;

use crate::kind::{Kind, Value};
use crate::schema::{SECTIONS, Section, Setting, default_value};

/// A comment in a sample is broken before this column.
const COLUMN_MAX: usize = 98;

const REFERENCE_HEAD: &str = "\
# Configuration

<!-- Made from config/src/schema.rs by `UPDATE_DOCS=1 cargo test -p leveret-config`. -->

Settings have RabbitMQ's names. Later places win over earlier ones:

1. the default;
2. files, a later one over an earlier one: `.toml`, or `.conf` in the format of `rabbitmq.conf`;
3. environment variables: `LEVERET_` and the key in capitals, each dot as two underscores, so that
   `mqtt.vhost` is `LEVERET_MQTT__VHOST`;
4. `--set KEY=VALUE` arguments.

In TOML, `mqtt.vhost = \"/\"` and `vhost = \"/\"` under `[mqtt]` are the same. In `.conf` files a
`#` begins a comment wherever it stands, unless the value is in single quotes.

An unknown key, a value that is not allowed, and two names of one setting with different values in
the same place each keep the broker from starting. All mistakes are listed at once, with file and
line; `leveret config check` lists them without starting anything. `leveret config explain KEY`
says what this page says, and which value holds and who set it.

A key that ends in a `<placeholder>` is a family. One member that is given replaces all default
members. Where it is said, `none` under the key without its last word empties the family.
";

const SAMPLE_HEAD: &str = "\
## Settings of Leveret with their defaults. A line with one # is a setting that is commented out.
## docs/configuration.md says more, and `leveret config check` says what is wrong.
";

const SAMPLE_CONF_HEAD: &str = "\
## The format is that of RabbitMQ: a # begins a comment unless the value is in 'single quotes'.
";

/// The page `docs/configuration.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = String::from(REFERENCE_HEAD);
    for Section { title, settings } in SECTIONS {
        _ = write!(page, "\n## {title}\n\n");
        page.push_str("| Setting | Allowed | Default | Meaning |\n|---|---|---|---|\n");
        for setting in *settings {
            let cells = [
                format!("`{}`", setting.key),
                allowed(setting),
                default_cell(setting),
                meaning(setting),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            _ = writeln!(page, "| {} |", cells.join(" | "));
        }
    }
    page
}

/// The file `config/leveret.toml`: every setting with its default, commented out.
#[must_use]
pub fn sample_toml() -> String {
    sample(SAMPLE_HEAD.into(), toml_value)
}

/// The file `config/rabbitmq.conf`: every setting with its default, commented out.
#[must_use]
pub fn sample_conf() -> String {
    sample(format!("{SAMPLE_HEAD}{SAMPLE_CONF_HEAD}"), |_, text| {
        conf_value(text)
    })
}

fn allowed(setting: &Setting) -> String {
    let none = setting.family.is_some_and(|family| family.none);
    let or_none = if none {
        format!("; `{} = none`", setting.stem())
    } else {
        String::new()
    };
    format!("{}{or_none}", setting.kind)
}

fn default_cell(setting: &Setting) -> String {
    let shown = |(key, value): (String, &str)| match setting.family {
        Some(_) => format!("`{key} = {value}`"),
        None => format!("`{value}`"),
    };
    let all: Vec<String> = setting.defaults().map(shown).collect();
    if all.is_empty() {
        "unset".into()
    } else {
        all.join(", ")
    }
}

fn meaning(setting: &Setting) -> String {
    let mut text = String::from(setting.doc);
    for alias in setting.aliases {
        _ = write!(
            text,
            " Also `{}` ({}): {}.",
            alias.key, alias.from, alias.kind
        );
    }
    text
}

fn sample(mut file: String, value: impl Fn(Kind, &str) -> String) -> String {
    for Section { title, settings } in SECTIONS {
        _ = write!(file, "\n## {title}\n");
        for setting in *settings {
            file.push('\n');
            comment(&mut file, &meaning(setting));
            comment(&mut file, &format!("Allowed: {}.", allowed(setting)));
            if let Some((key, text)) = setting.example {
                let example = format!("Example: {key} = {}", value(setting.kind, text));
                comment(&mut file, &example);
            }
            for (key, text) in setting.defaults() {
                _ = writeln!(file, "# {key} = {}", value(setting.kind, text));
            }
        }
    }
    file
}

fn comment(file: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        let fits = column > 0 && column + 1 + word.len() <= COLUMN_MAX;
        if !fits {
            file.push_str(if column == 0 { "##" } else { "\n##" });
            column = 2;
        }
        file.push(' ');
        file.push_str(word);
        column += 1 + word.len();
    }
    file.push('\n');
}

/// Texts of the table are plain ASCII without quotes, so that nothing needs an escape.
fn toml_value(kind: Kind, text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number =
        digits.bytes().all(|byte| byte.is_ascii_digit()) || matches!(kind, Kind::Fraction { .. });
    match default_value(kind, text) {
        Value::Bool(_) => text.into(),
        Value::Words(words) => format!("[{}]", words.join(", ")),
        Value::Number(_) | Value::Duration(_) | Value::Listener(_) if is_number => text.into(),
        _ => format!("\"{text}\""),
    }
}

fn conf_value(text: &str) -> String {
    if text.contains('#') || text.trim() != text {
        format!("'{text}'")
    } else {
        text.into()
    }
}
