//! The suites: where each comes from, which broker says what is right, how it is told where a
//! broker is, what is left out and why.
//!
//! Owns that list. docs/interop.md has the same for people.

use std::time::Duration;

use crate::interop::broker::Peer;

/// Where a suite's source comes from and how its tests are run.
pub(super) enum Kind {
    /// A crate that this workspace's own tests use, in their version.
    Crate {
        features: &'static [&'static str],
        /// In which file what is replaced by what: for suites that fix the broker's address.
        patches: &'static [(&'static str, &'static str, &'static str)],
    },
    /// A library of Go in Debian's package.
    Go {
        package: &'static str,
        import: &'static str,
    },
    /// A source package of PyPI, run by pytest.
    Python {
        sdist: &'static str,
        /// Each has a process of its own: what a test leaves in it ends with its file.
        files: &'static [&'static str],
        arguments: &'static [&'static str],
    },
}

/// One suite.
pub(super) struct Suite {
    /// Its name on the command line.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The broker that says what is right.
    pub(super) beside: Peer,
    /// Its environment; `{amqp}`, `{mqtt}` and `{redis}` stand for ports.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// How long one test may take, and for pytest all of a file.
    pub(super) test_limit: Duration,
    pub(super) limit: Duration,
    /// Whether it needs a redis server beside the broker.
    pub(super) redis: bool,
    /// The tests that do not run, with the reason: a whole name, or for pytest a part of it.
    pub(super) left_out: &'static [(&'static str, &'static str)],
}

const MINUTE: Duration = Duration::from_secs(60);
const NO_TLS: &str = "the broker listens without TLS";

/// Every suite.
pub(super) const SUITES: &[Suite] = &[
    Suite {
        name: "lapin",
        kind: Kind::Crate {
            features: &["tokio", "smol"],
            patches: &[],
        },
        beside: Peer::RabbitMq,
        environment: &[("AMQP_ADDR", "amqp://guest:guest@127.0.0.1:{amqp}/%2f")],
        test_limit: MINUTE,
        limit: Duration::from_secs(600),
        redis: false,
        left_out: &[],
    },
    Suite {
        name: "amqprs",
        kind: Kind::Crate {
            features: &[],
            patches: &[(
                "tests/common/mod.rs",
                "\"localhost\", 5672, \"user\", \"bitnami\"",
                "\"127.0.0.1\", std::env::var(\"AMQP_PORT\").unwrap().parse().unwrap(), \
                 \"guest\", \"guest\"",
            )],
        },
        beside: Peer::RabbitMq,
        environment: &[("AMQP_PORT", "{amqp}")],
        test_limit: Duration::from_secs(120),
        limit: Duration::from_secs(600),
        redis: false,
        left_out: &[],
    },
    Suite {
        name: "amqp091-go",
        kind: Kind::Go {
            package: "golang-github-rabbitmq-amqp091-go-dev",
            import: "github.com/rabbitmq/amqp091-go",
        },
        beside: Peer::RabbitMq,
        environment: &[("AMQP_URL", "amqp://guest:guest@127.0.0.1:{amqp}/")],
        test_limit: MINUTE,
        limit: Duration::from_secs(600),
        redis: false,
        left_out: &[(
            "TestChannelCounterShouldNotPanicIssue136",
            "it opens 65,536 channels one by one, which takes RabbitMQ minutes",
        )],
    },
    Suite {
        name: "py-amqp",
        kind: Kind::Python {
            sdist: "amqp==5.4.2",
            files: &["t/integration"],
            arguments: &[],
        },
        beside: Peer::RabbitMq,
        environment: &[
            ("RABBITMQ_HOST", "127.0.0.1"),
            ("RABBITMQ_5672_TCP", "{amqp}"),
        ],
        test_limit: MINUTE,
        limit: Duration::from_secs(300),
        redis: false,
        left_out: &[("tls", NO_TLS)],
    },
    Suite {
        name: "kombu",
        kind: Kind::Python {
            sdist: "kombu==5.7.0",
            files: &["t/integration/test_py_amqp.py"],
            arguments: &[],
        },
        beside: Peer::RabbitMq,
        environment: &[
            ("RABBITMQ_HOST", "127.0.0.1"),
            ("RABBITMQ_5672_TCP", "{amqp}"),
        ],
        test_limit: MINUTE,
        limit: Duration::from_secs(600),
        redis: false,
        left_out: &[],
    },
    Suite {
        name: "celery",
        kind: Kind::Python {
            sdist: "celery==5.7.0",
            files: &[
                "t/integration/test_tasks.py",
                "t/integration/test_group_chains.py",
                "t/integration/test_canvas.py::test_chain",
                "t/integration/test_worker.py",
                "t/integration/test_inspect.py",
                "t/integration/test_serialization.py",
                "t/integration/test_connection_recovery.py",
                "t/integration/test_beat.py",
            ],
            arguments: &["-p", "celery.contrib.pytest"],
        },
        beside: Peer::RabbitMq,
        environment: &[
            ("TEST_BROKER", "pyamqp://guest:guest@127.0.0.1:{amqp}//"),
            ("TEST_BACKEND", "redis://127.0.0.1:{redis}/0"),
            ("REDIS_HOST", "127.0.0.1"),
            ("REDIS_PORT", "{redis}"),
        ],
        test_limit: MINUTE,
        limit: Duration::from_secs(900),
        redis: true,
        left_out: &[],
    },
    Suite {
        name: "gmqtt",
        kind: Kind::Python {
            sdist: "gmqtt==0.8.0",
            files: &["tests"],
            arguments: &[],
        },
        beside: Peer::Mosquitto,
        environment: &[("HOST", "127.0.0.1"), ("PORT", "{mqtt}"), ("USERNAME", "")],
        test_limit: MINUTE,
        limit: Duration::from_secs(600),
        redis: false,
        left_out: &[("ssl", NO_TLS)],
    },
];
