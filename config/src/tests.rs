//! The crate through its door: sources in, options out.

use std::path::{Path, PathBuf};

use crate::*;

mod mistakes;
mod table;

/// A directory with files that goes away at the end of the test.
struct Files {
    directory: PathBuf,
    paths: Vec<PathBuf>,
}

impl Files {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let unique = format!("leveret-config-{}-{test}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
        let write = |(name, text): &(&str, &str)| {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("a temporary file can be written");
            path
        };
        Self {
            paths: files.iter().map(write).collect(),
            directory,
        }
    }

    /// What loading said, with the directory cut off: errors, or the rows that were given.
    fn load(&self, env: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
        let outcome = load(&Sources {
            files: self.paths.clone(),
            env: pairs(env),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
        });
        let lines: Vec<String> = match outcome {
            Ok((_, effective)) => effective
                .given()
                .map(|row| format!("{} = {} ({})", row.key, row.value, row.origin))
                .collect(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let prefix = format!("{}/", self.directory.display());
        lines.iter().map(|line| line.replace(&prefix, "")).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn config(sets: &[&str]) -> Config {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    load(&Sources {
        sets,
        ..Sources::default()
    })
    .expect("these settings are right")
    .0
}

/// Loads one file and compares what comes out, line by line.
#[track_caller]
fn check(test: &str, name: &str, text: &str, expected: &[&str]) {
    let files = Files::new(test, &[(name, text)]);
    assert_eq!(files.load(&[], &[]), expected, "{name}:\n{text}");
}

#[test]
fn nothing_given_is_the_default_of_every_crate() {
    assert_eq!(config(&[]), Config::default());
}

#[test]
fn set_wins_over_env_over_later_file_over_earlier_file() {
    let files = Files::new(
        "precedence",
        &[
            ("a.toml", "mqtt.prefetch = 1\nheartbeat = 1"),
            ("b.conf", "mqtt.prefetch = 2"),
        ],
    );
    let env = [
        ("LEVERET_MQTT__PREFETCH", "3"),
        ("PATH", "/"),
        ("LEVERET_SERVICE_HOST", "::1"),
    ];
    let set = ["mqtt.prefetch=4"];
    let rows = [
        (&env[..0], &set[..0], "mqtt.prefetch = 2 (b.conf:1)"),
        (
            &env,
            &set[..0],
            "mqtt.prefetch = 3 (env LEVERET_MQTT__PREFETCH)",
        ),
        (&env, &set, "mqtt.prefetch = 4 (--set)"),
    ];
    for (env, sets, expected) in rows {
        assert_eq!(
            files.load(env, sets),
            [expected, "heartbeat = 1 (a.toml:2)"]
        );
    }
}

#[test]
fn aliases() {
    let expiry = |sets: &[&str]| config(sets).mqtt.session_expiry_max_ms;
    let rows = [
        ("mqtt.max_session_expiry_interval_seconds=60", Some(60_000)),
        ("mqtt.max_session_expiry_interval_seconds=infinity", None),
        ("mqtt.subscription_ttl=1500", Some(1_500)),
        ("mqtt.subscription_ttl=undefined", None),
        ("persistent_client_expiration=1w", Some(604_800_000)),
        ("persistent_client_expiration=2m", Some(8 * 604_800_000)),
        ("persistent_client_expiration=never", None),
    ];
    for (set, expected) in rows {
        assert_eq!(expiry(&[set]), expected, "{set}");
    }
    let old = ["mqtt.default_user=joe", "mqtt.default_pass=swordfish"];
    let login = config(&old).mqtt.anonymous_login.expect("joe");
    assert_eq!(
        (login.user.as_str(), login.pass.reveal()),
        ("joe", "swordfish")
    );
    assert_eq!(
        config(&["anonymous_login_user=none"]).amqp.anonymous_login,
        None
    );
}

#[test]
fn families() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        (
            "listeners.tcp.a = 1",
            &[],
            &["listeners.tcp.a = 1 (a.conf:1)"],
        ),
        (
            "listeners.tcp.a = 1",
            &["listeners.tcp.b=2"],
            &[
                "listeners.tcp.a = 1 (a.conf:1)",
                "listeners.tcp.b = 2 (--set)",
            ],
        ),
        (
            "listeners.tcp = none\nlisteners.tcp.a = 1",
            &[],
            &["listeners.tcp = none (a.conf:1)"],
        ),
        (
            "listeners.tcp.a = 1",
            &["listeners.tcp=none"],
            &["listeners.tcp = none (--set)"],
        ),
        (
            "listeners.tcp = none",
            &["listeners.tcp.a=1"],
            &["listeners.tcp.a = 1 (--set)"],
        ),
        (
            "loopback_users = none",
            &[],
            &["loopback_users = none (a.conf:1)"],
        ),
    ];
    for (text, sets, expected) in rows {
        let files = Files::new("families", &[("a.conf", text)]);
        assert_eq!(files.load(&[], sets), *expected, "{text} {sets:?}");
    }
}

#[test]
fn families_in_the_options() {
    assert!(
        config(&["loopback_users=none"])
            .core
            .loopback_users
            .is_empty()
    );
    assert!(
        config(&["loopback_users.guest=false"])
            .core
            .loopback_users
            .is_empty()
    );
    assert_eq!(
        config(&["loopback_users.a.b=true"]).core.loopback_users,
        ["a.b"]
    );
    assert!(
        config(&["listeners.tcp=none", "mqtt.listeners.tcp=none"])
            .net
            .listeners
            .is_empty()
    );
    let order = config(&["auth_mechanisms.10=PLAIN", "auth_mechanisms.9=AMQPLAIN"]);
    let names: Vec<_> = order
        .amqp
        .mechanisms
        .iter()
        .map(|mechanism| mechanism.name())
        .collect();
    assert_eq!(names, ["AMQPLAIN", "PLAIN"]);
    let list = "auth_mechanisms = ['ANONYMOUS', 'PLAIN']\nmqtt.allowed_protocol_versions = [5, 4]";
    let expected = [
        "mqtt.allowed_protocol_versions = 5, 4 (a.toml:2)",
        "auth_mechanisms.1 = ANONYMOUS (a.toml:1)",
        "auth_mechanisms.2 = PLAIN (a.toml:1)",
    ];
    check("lists", "a.toml", list, &expected);
}

#[test]
fn listeners_have_addresses_options_and_a_vhost() {
    let sets = [
        "mqtt.listeners.tcp.red=127.0.0.1:0",
        "mqtt.listeners.tcp.blue=[::1]:1884",
        "mqtt.listener_vhosts.red=/red",
        "mqtt.tcp_listen_options.backlog=7",
        "mqtt.tcp_listen_options.nodelay=false",
    ];
    let net = config(&sets).net;
    let texts: Vec<String> = net.listeners.iter().map(|l| format!("{l:?}")).collect();
    let common = "backlog: 7, nodelay: false }";
    let expected = [
        "ListenerOptions { name: \"default\", protocol: Amqp, addresses: [[::]:5672, \
         0.0.0.0:5672], vhost: None, backlog: 4096, nodelay: true }"
            .to_owned(),
        format!(
            "ListenerOptions {{ name: \"blue\", protocol: Mqtt, addresses: [[::1]:1884], \
             vhost: None, {common}"
        ),
        format!(
            "ListenerOptions {{ name: \"red\", protocol: Mqtt, addresses: [127.0.0.1:0], \
             vhost: Some(\"/red\"), {common}"
        ),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn data_directory_and_plugins() {
    let given = config(&["data_dir=/d"]);
    assert_eq!(given.data_dir.as_deref(), Some(Path::new("/d")));
    assert_eq!(
        given.enabled_plugins_file.as_deref(),
        Some(Path::new("/d/enabled_plugins"))
    );
    let both = config(&["data_dir=/d", "enabled_plugins_file=/e"]);
    assert_eq!(both.enabled_plugins_file.as_deref(), Some(Path::new("/e")));
}

#[test]
fn secrets_are_never_shown() {
    for key in ["default_pass", "anonymous_login_pass", "mqtt.default_pass"] {
        let sets = vec![format!("{key}=swordfish")];
        let (config, effective) = load(&Sources {
            sets,
            ..Sources::default()
        })
        .expect("is right");
        let explained = explain_effective(key, &effective)
            .expect("is in the table")
            .to_string();
        assert!(
            explained.contains(&format!("now:      {key} = <hidden> (--set)")),
            "{explained}"
        );
        let all = format!("{config:?} {effective:?} {explained}");
        assert!(!all.contains("swordfish"), "{all}");
        assert!(!explained.contains("guest"), "{explained}");
    }
}

/// FEATURES D4: an absolute limit wins over a relative one, and a default over neither.
#[test]
fn d4_limits_of_resources() {
    use leveret_core::options::ResourceLimit::{Absolute, Relative};
    let table = [
        (&[][..], Relative(600_000), Absolute(50_000_000)),
        (
            &[
                "vm_memory_high_watermark.relative=0.4",
                "disk_free_limit.relative=1.5",
            ],
            Relative(400_000),
            Relative(1_500_000),
        ),
        (
            &[
                "vm_memory_high_watermark.absolute=1GiB",
                "disk_free_limit.absolute=2GB",
            ],
            Absolute(1 << 30),
            Absolute(2_000_000_000),
        ),
        (
            &[
                "vm_memory_high_watermark.absolute=512MiB",
                "vm_memory_high_watermark.relative=0.4",
                "disk_free_limit.relative=1",
                "disk_free_limit.absolute=1",
            ],
            Absolute(512 << 20),
            Absolute(1),
        ),
    ];
    for (sets, memory, disk) in table {
        let core = config(sets).core;
        assert_eq!(
            (core.memory_limit, core.disk_limit),
            (memory, disk),
            "{sets:?}"
        );
    }
    check(
        "limits",
        "a.toml",
        "[vm_memory_high_watermark]\nrelative = 0.5\n[disk_free_limit]\nabsolute = \"1GB\"\n",
        &[
            "vm_memory_high_watermark.relative = 0.5 (a.toml:2)",
            "disk_free_limit.absolute = 1GB (a.toml:4)",
        ],
    );
}
