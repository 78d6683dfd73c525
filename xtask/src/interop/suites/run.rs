//! Running a prepared suite against one broker.
//!
//! Owns what the suite needs beside the broker, and ends it.

use std::path::Path;

use anyhow::{Result, bail};

use super::binaries::{self, Place};
use super::prepare::{Prepared, Tests};
use super::pytest;
use super::results::Results;
use super::suite::{Kind, Suite};
use crate::interop::broker::Broker;
use crate::interop::redis::Redis;

impl Suite {
    /// Runs all tests; what they print goes to `logs`.
    ///
    /// # Errors
    /// When they cannot be started; a test's failure is an outcome.
    pub(super) fn run(&self, prepared: &Prepared, broker: &Broker, logs: &Path) -> Result<Results> {
        let redis = self.redis.then(|| Redis::start(logs)).transpose()?;
        let redis_port = redis.as_ref().map_or(0, Redis::port);
        let environment = self.environment_with(broker, redis_port);
        let mut results = Results::default();
        let place = Place {
            source: &prepared.source,
            environment: &environment,
            test_limit: self.test_limit,
            logs,
            left_out: self.left_out,
        };
        match &prepared.tests {
            Tests::Rust(programs) => {
                for (label, program) in programs {
                    binaries::rust(label, program, &place, &mut results)?;
                }
            }
            Tests::Go(program) => binaries::go(program, &place, &mut results)?,
            Tests::Pytest(python) => {
                let Kind::Python {
                    files, arguments, ..
                } = &self.kind
                else {
                    bail!("{} is no suite of pytest's", self.name);
                };
                let run = pytest::Run {
                    prepared,
                    python,
                    files,
                    arguments,
                    environment: &environment,
                    logs,
                };
                pytest::run(self, &run, &mut results)?;
            }
        }
        Ok(results)
    }

    fn environment_with(&self, broker: &Broker, redis: u16) -> Vec<(String, String)> {
        let filled = |value: &str| {
            let value = value.replace("{amqp}", &broker.amqp_port().to_string());
            let value = value.replace("{mqtt}", &broker.mqtt_port().to_string());
            value.replace("{redis}", &redis.to_string())
        };
        let pairs = self.environment.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), filled(value)))
            .collect()
    }
}
