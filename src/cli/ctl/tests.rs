//! Banners, columns and arguments of the table of commands.

use serde_json::json;

use super::*;

fn parsed(words: &[&str]) -> (&'static Spec, ArgMatches) {
    let words = std::iter::once("rabbitmqctl").chain(words.iter().copied());
    let matches = command("rabbitmqctl")
        .try_get_matches_from(words)
        .expect("parses");
    let (name, inner) = matches.subcommand().expect("has a command");
    let spec = specs()
        .find(|spec| spec.name == name)
        .expect("is in the table");
    (spec, inner.clone())
}

#[test]
fn o2_banners_are_rabbitmqs() {
    let table: &[(&[&str], &str)] = &[
        (&["add_user", "x", "y"], "Adding user \"x\" ..."),
        (&["list_queues"], "Listing queues for vhost / ..."),
        (
            &["-p", "v", "list_queues", "name"],
            "Listing queues for vhost v ...",
        ),
        (
            &["list_bindings", "-p", "v"],
            "Listing bindings for vhost v...",
        ),
        (
            &["set_user_tags", "x", "administrator", "monitoring"],
            "Setting tags for user \"x\" to [administrator, monitoring] ...",
        ),
        (
            &["set_user_tags", "x"],
            "Setting tags for user \"x\" to [] ...",
        ),
        (
            &["set_permissions", "-p", "/", "u", ".*", "[{a}]", ""],
            "Setting permissions for user \"u\" in vhost \"/\" ...",
        ),
        (
            &["set_topic_permissions", "u", "amq.topic", "^a", "^b"],
            "Setting topic permissions on \"amq.topic\" for user \"u\" in vhost \"/\" ...",
        ),
        (
            &["clear_topic_permissions", "u", "amq.topic"],
            "Clearing topic permissions on \"amq.topic\" for user \"u\" in vhost \"/\" ...",
        ),
        (
            &["clear_topic_permissions", "u"],
            "Clearing topic permissions for user \"u\" in vhost \"/\" ...",
        ),
        (
            &["set_global_parameter", "n", r#"{"1883":["{x}"]}"#],
            r#"Setting global runtime parameter "n" to "{"1883":["{x}"]}" ..."#,
        ),
        (
            &["delete_queue", "q", "-e"],
            "Deleting queue 'q' on vhost '/' ...",
        ),
        (
            &["set_vm_memory_high_watermark", "0.4"],
            "Setting memory threshold on  to 0.4 ...",
        ),
        (
            &["set_vm_memory_high_watermark", "absolute", "1GB"],
            "Setting memory threshold on  to 1GB bytes ...",
        ),
        (
            &["set_disk_free_limit", "1GB"],
            "Setting disk free limit on  to 1GB bytes ...",
        ),
        (
            &["set_disk_free_limit", "mem_relative", "1.5"],
            "Setting disk free limit on  to 1.5 times the total RAM ...",
        ),
    ];
    for (words, banner) in table {
        let (spec, matches) = parsed(words);
        let arguments = arguments(spec, &matches).expect("makes arguments");
        assert_eq!(filled(spec.banner, &arguments), *banner);
    }
}

#[test]
fn o2_arguments_are_the_nodes() {
    let table: &[(&[&str], Value)] = &[
        (
            &["list_queues", "-p", "v", "name"],
            json!({ "offline": false, "vhost": "v" }),
        ),
        (
            &["list_queues", "--offline", "--local"],
            json!({ "offline": true, "vhost": "/" }),
        ),
        (
            &["set_user_tags", "u", "a", "b"],
            json!({ "username": "u", "tags": ["a", "b"] }),
        ),
        (
            &["delete_queue", "q", "-u"],
            json!({ "queue": "q", "if_empty": false, "if_unused": true, "vhost": "/" }),
        ),
        (
            &["add_user", "u", "p", "--pre-hashed-password"],
            json!({ "username": "u", "password": "p", "pre_hashed": true }),
        ),
        (
            &["set_disk_free_limit", "mem_relative", "1.5"],
            json!({ "mem_relative": "1.5" }),
        ),
        (&["set_disk_free_limit", "1GB"], json!({ "limit": "1GB" })),
        (
            &["close_connection", "<leveret.7>", "bye"],
            json!({ "connection": "<leveret.7>", "reason": "bye" }),
        ),
    ];
    for (words, expected) in table {
        let (spec, matches) = parsed(words);
        assert_eq!(
            Value::Object(arguments(spec, &matches).expect("makes arguments")),
            *expected
        );
    }
}

#[test]
fn o2_columns_are_checked() {
    let table: &[(&[&str], Result<&[&str], &str>)] = &[
        (&["list_queues"], Ok(&["name", "messages"])),
        (
            &["list_queues", "messages", "name"],
            Ok(&["messages", "name"]),
        ),
        (
            &["list_queues", "name,consumers"],
            Ok(&["name", "consumers"]),
        ),
        (&["list_users"], Ok(&["user", "tags"])),
        (&["list_mqtt_connections"], Ok(&["client_id", "conn_name"])),
        (
            &["list_mqtt_connections", "--verbose"],
            Ok(columns::MQTT_CONNECTION),
        ),
        (
            &["list_exchanges", "name", "bogus", "b2"],
            Err("Info key(s) bogus,b2 are not supported; supported: name, type, durable"),
        ),
    ];
    for (words, expected) in table {
        let (spec, matches) = parsed(words);
        match (shown_columns(spec, &matches), expected) {
            (Ok(columns), Ok(expected)) => assert_eq!(columns, *expected),
            (Err(failure), Err(text)) => {
                assert!(failure.text.starts_with(text), "{failure}");
                assert_eq!(failure.exit, 64);
            }
            (columns, expected) => panic!("{columns:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn o2_wrong_arguments_are_refused() {
    let table: &[&[&str]] = &[
        &["nosuch"],
        &["add_user"],
        &["delete_queue", "q", "extra"],
        &["list_queues", "--bogus"],
        &["list_queues", "--formatter", "erlang"],
    ];
    for words in table {
        let words = std::iter::once("rabbitmqctl").chain(words.iter().copied());
        let error = command("rabbitmqctl")
            .try_get_matches_from(words)
            .expect_err("is wrong");
        assert!(error.use_stderr());
    }
}

/// FEATURES O2: columns without content are columns of their listing, the help says so of these and
/// no others, and the documentation has the same.
#[test]
fn o2_columns_without_content_are_told() {
    let document = include_str!("../../../docs/cli.md");
    let table = document.split("## Columns that are empty").nth(1);
    let table = table.and_then(|rest| rest.split("\n## ").next());
    let mut documented = Vec::new();
    for line in table.expect("a section").lines() {
        let words: Vec<_> = line.split('`').skip(1).step_by(2).collect();
        // Other rows are of columns that are empty at times.
        if line.starts_with("| `")
            && line.contains("` | `")
            && let Some((listing, columns)) = words.split_first()
        {
            documented.push((*listing, columns.to_vec()));
        }
    }
    let told: Vec<_> = columns::EMPTY
        .iter()
        .map(|(listing, empty)| (*listing, empty.to_vec()))
        .collect();
    assert_eq!(documented, told);
    for spec in specs() {
        let Output::Listing(listing) = &spec.output else {
            continue;
        };
        let help = columns::help(spec.name, listing.all);
        let (full, empty) = match help.split_once(". Taken, but empty in this version: ") {
            Some((full, empty)) => (full, empty.split(", ").collect()),
            None => (&*help, Vec::new()),
        };
        let full: Vec<_> = full
            .strip_prefix("Columns to show: ")
            .expect("as it begins")
            .split(", ")
            .filter(|column| !column.is_empty())
            .collect();
        let expected = told.iter().find(|(listing, _)| *listing == spec.name);
        assert_eq!(empty, expected.map_or(vec![], |(_, empty)| empty.clone()));
        assert!(empty.iter().all(|column| listing.all.contains(column)));
        assert_eq!(full.len() + empty.len(), listing.all.len(), "{}", spec.name);
    }
    let help = |listing| columns::help(listing, columns::CHANNEL);
    assert!(help("list_channels").contains("messages_unconfirmed"));
}

/// FEATURES O2: what to do next is told in the words of who was called.
#[test]
fn o2_hints_name_the_program() {
    let (spec, _) = parsed(&["add_user", "x", "y"]);
    let Output::Hint(text) = spec.output else {
        panic!("add_user says what to do next");
    };
    for program in ["rabbitmqctl", "leveret ctl"] {
        let expected = format!("See '{program} help set_permissions' to learn more.");
        assert!(hint(text, program).ends_with(&expected), "{program}");
    }
}
