//! The layouts against what RabbitMQ's tool prints.

use super::*;

fn plugin(name: &str, enabled: Enabled, running: bool) -> PluginRow {
    PluginRow {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        description: "MQTT adapter".to_owned(),
        dependencies: vec!["a".to_owned(), "b".to_owned()],
        enabled,
        running,
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn style(words: &[&str]) -> Style {
    let words = std::iter::once("rabbitmq-plugins")
        .chain(words.iter().copied())
        .chain(["list"]);
    let matches = crate::cli::plugins::command("rabbitmq-plugins").try_get_matches_from(words);
    let matches = matches.expect("parses");
    Style::of(matches.subcommand().expect("has a command").1)
}

fn check(shape: Shape, reached: bool, words: &[&str], expected: &str) {
    let plugins = [
        plugin("rabbitmq_mqtt", Enabled::Enabled, reached),
        plugin("rabbitmq_web_mqtt", Enabled::NotEnabled, false),
        plugin("x", Enabled::Implicit, reached),
    ];
    let listed = Listed {
        node: "n@h",
        reached,
        shape,
        pattern: ".*",
    };
    assert_eq!(listed.text(&style(words), &plugins), expected);
}

const LEGEND: &str = "Listing plugins with pattern \".*\" ...\n \
                      Configured: E = explicitly enabled; e = implicitly enabled\n | Status: ";

#[test]
fn o1_list_marks_enabled_and_running() {
    let rows = "[E*] rabbitmq_mqtt     1.2.3\n[  ] rabbitmq_web_mqtt 1.2.3\n\
                [e*] x                 1.2.3\n";
    check(
        Shape::Normal,
        true,
        &[],
        &format!("{LEGEND}* = running on n@h\n |/\n{rows}"),
    );
    check(Shape::Normal, true, &["-q"], rows);
    check(Shape::Normal, true, &["-s"], rows);
}

#[test]
fn o1_list_without_a_node_says_so() {
    let rows = "[E ] rabbitmq_mqtt     1.2.3\n[  ] rabbitmq_web_mqtt 1.2.3\n\
                [e ] x                 1.2.3\n";
    let status = "[failed to contact n@h - status not shown]";
    check(
        Shape::Normal,
        false,
        &[],
        &format!("{LEGEND}{status}\n |/\n{rows}"),
    );
}

#[test]
fn o1_list_minimal_has_names_only() {
    let names = "rabbitmq_mqtt\nrabbitmq_web_mqtt\nx\n";
    let banner = "Listing plugins with pattern \".*\" ...\n";
    check(Shape::Minimal, true, &[], &format!("{banner}{names}"));
    check(Shape::Minimal, true, &["-q"], names);
}

#[test]
fn o1_list_verbose_has_details() {
    let listed = Listed {
        node: "n@h",
        reached: true,
        shape: Shape::Verbose,
        pattern: "m",
    };
    let text = listed.text(
        &style(&["-q"]),
        &[plugin("rabbitmq_mqtt", Enabled::Enabled, true)],
    );
    let expected = "[E*] rabbitmq_mqtt\n     Version:     \t1.2.3\n     Dependencies:\t[a,b]\n     \
                    Description: \tMQTT adapter\n";
    assert_eq!(text, expected);
}

#[test]
fn o1_list_as_json() {
    let listed = Listed {
        node: "n@h",
        reached: true,
        shape: Shape::Normal,
        pattern: "m",
    };
    let rows = [plugin("rabbitmq_mqtt", Enabled::Enabled, true)];
    let expected = "{\"format\":\"normal\",\"plugins\":[{\"enabled\":\"enabled\",\"name\":\
                    \"rabbitmq_mqtt\",\"running\":true,\"running_version\":\"1.2.3\",\"version\":\
                    \"1.2.3\"}],\"status\":\"running\"}\n";
    assert_eq!(
        listed.text(&style(&["--formatter", "json"]), &rows),
        expected
    );
}

const CONFIGURED: &str = "The following plugins have been configured:\n  rabbitmq_mqtt\n";
const NONE: &str = "All plugins have been disabled.\n";
const ON: &str = "The following plugins have been enabled:\n  rabbitmq_mqtt\n\n";
const OFF: &str = "The following plugins have been disabled:\n  rabbitmq_mqtt\n\n";
const SAME: &str = "Plugin configuration unchanged.\n";

fn tell(change: Change, what: &Changed, online: bool, before: &str, after: &str) {
    let offline = "Offline change; changes will take effect at broker restart.\n";
    let end = if online || after == SAME { "" } else { offline };
    let expected = format!("{before}Applying plugin configuration to n@h...\n{after}{end}");
    assert_eq!(changed(change, "n@h", online, what), expected);
}

#[test]
fn o1_changes_are_told() {
    use Change::{Disable, Enable, Set};
    let mqtt = strings(&["rabbitmq_mqtt"]);
    let mut enabled = Changed::default();
    enabled.configured.clone_from(&mqtt);
    enabled.enabled.clone_from(&mqtt);
    enabled.started.clone_from(&mqtt);
    let mut disabled = Changed::default();
    disabled.disabled.clone_from(&mqtt);
    disabled.stopped.clone_from(&mqtt);
    let mut unchanged = Changed::default();
    unchanged.configured.clone_from(&mqtt);
    tell(
        Enable,
        &enabled,
        true,
        CONFIGURED,
        &format!("{ON}started 1 plugins.\n"),
    );
    tell(
        Enable,
        &enabled,
        false,
        CONFIGURED,
        &format!("{ON}enabled 1 plugins.\n"),
    );
    tell(Enable, &unchanged, true, CONFIGURED, SAME);
    tell(Enable, &unchanged, false, CONFIGURED, SAME);
    tell(
        Disable,
        &disabled,
        true,
        NONE,
        &format!("{OFF}stopped 1 plugins.\n"),
    );
    tell(
        Disable,
        &disabled,
        false,
        NONE,
        &format!("{OFF}disabled 1 plugins.\n"),
    );
    tell(Set, &enabled, true, CONFIGURED, "started 1 plugins.\n");
    tell(Set, &disabled, true, NONE, "stopped 1 plugins.\n");
    tell(Set, &enabled, false, CONFIGURED, "set 1 plugins.\n");
}

#[test]
fn o1_changes_are_announced() {
    let mqtt = strings(&["rabbitmq_mqtt"]);
    let banner = change_banner(Change::Enable, "n@h", false, &mqtt);
    assert_eq!(banner, "Enabling plugins on node n@h:\nrabbitmq_mqtt\n");
    let banner = change_banner(Change::Disable, "n@h", true, &mqtt);
    assert_eq!(banner, "Disabling ALL plugins on node n@h\n");
}

#[test]
fn o1_is_enabled_answers() {
    let rows = [
        plugin("rabbitmq_mqtt", Enabled::Enabled, true),
        plugin("other", Enabled::NotEnabled, false),
    ];
    let end = "Enabled plugins and dependencies: rabbitmq_mqtt";
    let table: &[(&[&str], Option<&str>, Result<&str, String>)] = &[
        (
            &["rabbitmq_mqtt"],
            Some("n@h"),
            Ok("Plugin rabbitmq_mqtt is enabled on node n@h\n"),
        ),
        (&["mqtt"], None, Ok("Plugin mqtt is enabled\n")),
        (
            &["rabbitmq_mqtt", "nosuch"],
            Some("n@h"),
            Err(format!("Plugin nosuch is not enabled on node n@h. {end}")),
        ),
        (
            &["x", "other"],
            None,
            Err(format!("Plugins x, other are not enabled. {end}")),
        ),
    ];
    for (names, node, expected) in table {
        let answer = are_enabled(&strings(names), *node, &rows);
        assert_eq!(answer.as_deref().map_err(String::clone), *expected);
    }
    assert_eq!(
        asking(&strings(&["a", "b"]), Some("n@h")),
        "Asking node n@h if plugins a, b are enabled..."
    );
    assert_eq!(
        asking(&strings(&["a"]), None),
        "Inferring if plugin a from local environment..."
    );
}
