//! What is wrong is said in one line each, all at once, with its place and without secrets.

use super::{Files, check, config};
use crate::*;

#[test]
fn bad_conf_files() {
    let rows: &[(&str, &[&str])] = &[
        (
            "mqtt.exchnage = x",
            &["a.conf:1: unknown key 'mqtt.exchnage'; did you mean 'mqtt.exchange'?"],
        ),
        (
            "\n# c\nvhost = /",
            &["a.conf:3: unknown key 'vhost'; did you mean 'mqtt.vhost'?"],
        ),
        (
            "listners.tcp.a = 1",
            &["a.conf:1: unknown key 'listners.tcp.a'; did you mean 'listeners.tcp.a'?"],
        ),
        ("zzz = 1", &["a.conf:1: unknown key 'zzz'"]),
        (
            "mqtt.sparkplug = true",
            &["a.conf:1: key 'mqtt.sparkplug' is known to RabbitMQ, not served by this version"],
        ),
        (
            "web_mqtt.tcp.port = 15675",
            &["a.conf:1: key 'web_mqtt.tcp.port' is known to RabbitMQ, not served by this version"],
        ),
        (
            "log.console.levle = info",
            &["a.conf:1: unknown key 'log.console.levle'; did you mean 'log.console.level'?"],
        ),
        (
            "mqtt.prefetch = 0",
            &[
                "a.conf:1: 'mqtt.prefetch' cannot be '0'; allowed: a whole number of messages \
                 from 1 to 65535",
            ],
        ),
        (
            "mqtt.allow_anonymous = yes",
            &["a.conf:1: 'mqtt.allow_anonymous' cannot be 'yes'; allowed: true or false"],
        ),
        (
            "default_pass = ''",
            &["a.conf:1: 'default_pass' cannot be '<hidden>'; allowed: a text of 1 to 1024 bytes"],
        ),
        (
            "listeners.tcp = 5672",
            &[
                "a.conf:1: 'listeners.tcp' cannot be '5672'; allowed: none, or members \
                 'listeners.tcp.<name>'",
            ],
        ),
        (
            "auth_mechanisms.0 = PLAIN",
            &["a.conf:1: unknown key 'auth_mechanisms.0'; did you mean 'auth_mechanisms.<N>'?"],
        ),
        ("mqtt.vhost", &["a.conf:1: expected 'key = value'"]),
        (
            "mqtt.vhost =\nfrmae_max = 1\nheartbeat = 65536",
            &[
                "a.conf:1: no value; an empty text is ''",
                "a.conf:2: unknown key 'frmae_max'; did you mean 'frame_max'?",
                "a.conf:3: 'heartbeat' cannot be '65536'; allowed: a whole number of seconds from \
                 0 to 65535",
            ],
        ),
    ];
    for (text, expected) in rows {
        check("bad-conf", "a.conf", text, expected);
    }
}

#[test]
fn bad_toml_files() {
    let rows: &[(&str, &[&str])] = &[
        (
            "[mqtt]\n\nexchnage = 'x'",
            &["a.toml:3: unknown key 'mqtt.exchnage'; did you mean 'mqtt.exchange'?"],
        ),
        (
            "mqtt.prefetch = '10'",
            &[
                "a.toml:1: 'mqtt.prefetch' cannot be '10'; allowed: a whole number of messages \
                 from 1 to 65535",
            ],
        ),
        (
            "mqtt.prefetch = -1",
            &[
                "a.toml:1: 'mqtt.prefetch' cannot be '-1'; allowed: a whole number of messages \
                 from 1 to 65535",
            ],
        ),
        (
            "mqtt.vhost = true",
            &["a.toml:1: 'mqtt.vhost' cannot be 'true'; allowed: a text of 1 to 255 bytes"],
        ),
        (
            "heartbeat = 1.5",
            &[
                "a.toml:1: 'heartbeat' cannot be '1.5'; allowed: a whole number of seconds from 0 \
                 to 65535",
            ],
        ),
        (
            "auth_mechanisms = ['PLAIN', 'X']",
            &[
                "a.toml:1: 'auth_mechanisms.2' cannot be 'X'; allowed: PLAIN, or AMQPLAIN, or \
                 ANONYMOUS",
            ],
        ),
        (
            "auth_mechanisms = []",
            &[
                "a.toml:1: 'auth_mechanisms.1' cannot be ''; allowed: PLAIN, or AMQPLAIN, or \
                 ANONYMOUS",
            ],
        ),
    ];
    for (text, expected) in rows {
        check("bad-toml", "a.toml", text, expected);
    }
}

#[test]
fn toml_syntax_is_reported_with_its_line_and_without_its_text() {
    let secret = "x = 1\ndefault_pass = \"swordfish";
    let files = Files::new("toml-syntax", &[("a.toml", secret)]);
    let found = files.load(&[], &[]);
    assert!(found[0].starts_with("a.toml:2: "), "{found:?}");
    assert!(!found.concat().contains("swordfish"), "{found:?}");
    let twice = Files::new("toml-twice", &[("a.toml", "heartbeat = 1\nheartbeat = 2")]);
    assert!(twice.load(&[], &[])[0].starts_with("a.toml:2: "));
    let deep = format!("{}x = 1", "a.".repeat(40));
    let deep = Files::new("toml-deep", &[("a.toml", &deep)]);
    assert_eq!(
        deep.load(&[], &[]),
        ["a.toml:1: more than 16 tables within each other"]
    );
}

#[test]
fn unreadable_files() {
    let long = "# ".repeat(600_000);
    let files = Files::new("unreadable", &[("a.ini", ""), ("b.conf", &long)]);
    let expected = [
        "a.ini: neither a .toml nor a .conf file",
        "b.conf: longer than 1048576 bytes",
    ];
    assert_eq!(files.load(&[], &[]), expected);
    std::fs::write(&files.paths[1], b"a = 1\n\xff").expect("can be written");
    assert_eq!(files.load(&[], &[])[1], "b.conf: line 2 is not UTF-8");
    let missing = Sources {
        files: vec!["/nowhere/a.toml".into()],
        ..Sources::default()
    };
    let errors = load(&missing).expect_err("there is no such file");
    assert!(
        errors[0].to_string().starts_with("/nowhere/a.toml: "),
        "{errors:?}"
    );
}

#[test]
fn environment_and_arguments_are_checked_too() {
    let files = Files::new("checked", &[]);
    let found = files.load(
        &[("LEVERET_MQTT__EXCHNAGE", "x")],
        &["heartbeat", "frame_max=1"],
    );
    let expected = [
        "--set: expected KEY=VALUE, found no '=' after 'heartbeat'",
        "env LEVERET_MQTT__EXCHNAGE: unknown key 'mqtt.exchnage'; did you mean 'mqtt.exchange'?",
        "--set: 'frame_max' cannot be '1'; allowed: a whole number of bytes from 8192 to 16777216, \
         or 0",
    ];
    assert_eq!(found, expected);
}

#[test]
fn aliases_of_one_layer_agree() {
    let one = [
        ("a.conf", "mqtt.subscription_ttl = 3600000"),
        ("b.conf", "persistent_client_expiration = 2h"),
    ];
    let conflict = "b.conf:1: 'persistent_client_expiration' disagrees with \
                    'mqtt.subscription_ttl' (a.conf:1): one setting";
    assert_eq!(Files::new("conflict", &one).load(&[], &[]), [conflict]);
    let agree = "mqtt.subscription_ttl = 3600000\npersistent_client_expiration = 1h";
    check(
        "agree",
        "a.conf",
        agree,
        &["persistent_client_expiration = 1h (a.conf:2)"],
    );
    let files = Files::new("stronger", &[("a.conf", "mqtt.default_user = joe")]);
    let stronger = files.load(&[], &["anonymous_login_user=jane"]);
    assert_eq!(stronger, ["anonymous_login_user = jane (--set)"]);
}

#[test]
fn contradictions() {
    let rows: &[(&[&str], &[&str])] = &[
        (
            &["mqtt.listeners.tcp.a=127.0.0.1:5672"],
            &["--set: 'mqtt.listeners.tcp.a' listens where 'listeners.tcp.default' (default) does"],
        ),
        (
            &["mqtt.listener_vhosts.x=/"],
            &["--set: 'mqtt.listener_vhosts.x' has no listener 'mqtt.listeners.tcp.x'"],
        ),
        (
            &["mqtt.listener_versions.x=5"],
            &["--set: 'mqtt.listener_versions.x' has no listener 'mqtt.listeners.tcp.x'"],
        ),
        (
            &["mqtt.listener_topic_filters.x=strict"],
            &["--set: 'mqtt.listener_topic_filters.x' has no listener 'mqtt.listeners.tcp.x'"],
        ),
        (
            &["initial_frame_max=9000", "frame_max=8192"],
            &["--set: 'initial_frame_max' is 9000, which is more than 'frame_max', 8192 (--set)"],
        ),
        (
            &[
                "mqtt.max_packet_size_authenticated=1001",
                "max_message_size=1000",
            ],
            &[
                "--set: 'mqtt.max_packet_size_authenticated' is 1001, which is more than \
               'max_message_size', 1000 (--set)",
            ],
        ),
        (
            &[
                "mqtt.listeners.tcp.a=127.0.0.1:1",
                "mqtt.listeners.tcp.b=127.0.0.2:1",
            ],
            &[
                "mqtt.listeners.tcp.a = 127.0.0.1:1 (--set)",
                "mqtt.listeners.tcp.b = 127.0.0.2:1 (--set)",
            ],
        ),
    ];
    let files = Files::new("contradictions", &[]);
    for (sets, expected) in rows {
        assert_eq!(files.load(&[], sets), *expected, "{sets:?}");
    }
    let smaller = config(&["max_message_size=1000"]);
    assert_eq!(smaller.mqtt.packet_authenticated_bytes_max, 1_000);
}
