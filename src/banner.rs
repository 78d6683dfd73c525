//! What is printed when the broker is ready: what it is, where it listens, what to try first.
//!
//! Never prints a password, except the one that everybody knows because it is the default.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use leveret_config::Config;
use leveret_net::listeners::ListenerView;
use leveret_net::options::Protocol;

/// What the lines are made from.
#[derive(Debug)]
pub struct Banner<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The open listeners.
    pub listeners: &'a [ListenerView],
    /// Milliseconds from the start of the program.
    pub ready_ms: u64,
    /// Memory of the process in bytes, where the system tells it.
    pub resident_bytes: Option<u64>,
    /// The rest of the commands to try.
    pub examples: &'a Examples,
}

/// Who the commands to try log in as.
#[derive(Debug)]
pub struct Examples {
    mqtt_credentials: String,
    amqp_credentials: String,
    exchange: String,
}

impl Examples {
    /// For the options that the broker is to be started with.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let user = &config.core.default_user;
        let password = config.core.default_pass.reveal();
        let shown = if password == DEFAULT_PASS {
            password
        } else {
            "PASSWORD"
        };
        let anonymous = config.mqtt.allow_anonymous && config.mqtt.anonymous_login.is_some();
        let is_default = user == DEFAULT_USER && password == DEFAULT_PASS;
        Self {
            mqtt_credentials: if anonymous {
                String::new()
            } else {
                format!(" -u {user} -P {shown}")
            },
            amqp_credentials: if is_default {
                String::new()
            } else {
                format!("{user}:{shown}@")
            },
            exchange: config.mqtt.exchange.clone(),
        }
    }
}

impl Banner<'_> {
    /// The text, with a line end behind each line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![
            format!("Leveret {}", env!("CARGO_PKG_VERSION")),
            format!("  data       {}", self.data_dir.display()),
        ];
        lines.extend(self.listeners.iter().map(listener_line));
        let memory = self.resident_bytes.map(resident).unwrap_or_default();
        lines.push(format!("  ready      in {} ms{memory}", self.ready_ms));
        lines.extend(self.commands());
        lines.join("\n") + "\n"
    }

    /// One command a line, ready to be pasted, for what is open.
    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        if let Some(mqtt) = self.first(Protocol::Mqtt) {
            let place = format!("-h {} -p {}", mqtt.ip(), mqtt.port());
            let login = &self.examples.mqtt_credentials;
            commands.push(format!(
                "mosquitto_sub {place}{login} -q 1 -v -t 'sensors/#'"
            ));
            commands.push(format!(
                "mosquitto_pub {place}{login} -q 1 -t sensors/kitchen/temperature -m 21.5"
            ));
        }
        if let Some(amqp) = self.first(Protocol::Amqp) {
            let (login, exchange) = (&self.examples.amqp_credentials, &self.examples.exchange);
            commands.push(format!(
                "amqp-consume --url=amqp://{login}{amqp} --exchange={exchange} \
                 --routing-key='sensors.#' cat"
            ));
        }
        commands
    }

    /// Where a client of this machine finds the protocol.
    fn first(&self, protocol: Protocol) -> Option<SocketAddr> {
        let of_protocol = || {
            self.listeners
                .iter()
                .filter(|view| view.protocol == protocol)
        };
        let ipv4 = of_protocol().find(|view| view.address.is_ipv4());
        let mut address = ipv4.or_else(|| of_protocol().next())?.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Some(address)
    }
}

fn listener_line(view: &ListenerView) -> String {
    let protocol = match view.protocol {
        Protocol::Amqp => "AMQP 0-9-1",
        Protocol::Mqtt => "MQTT",
    };
    let mut line = format!("  {protocol:<10} {} ({})", view.address, view.name);
    if let Some(vhost) = &view.vhost {
        // Writing to a string cannot fail.
        let _ = write!(line, ", vhost {vhost}");
    }
    line
}

fn resident(bytes: u64) -> String {
    let tenths = bytes * 10 / (1_024 * 1_024);
    format!(", {}.{} MiB of memory", tenths / 10, tenths % 10)
}

/// Resident memory of this process in bytes, where the system tells it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

const DEFAULT_USER: &str = "guest";
const DEFAULT_PASS: &str = "guest";

#[cfg(test)]
mod tests {
    use leveret_core::options::Secret;

    use super::*;

    fn view(protocol: Protocol, address: &str, vhost: Option<&str>) -> ListenerView {
        ListenerView {
            name: "default".into(),
            protocol,
            address: address.parse().expect("an address"),
            vhost: vhost.map(Into::into),
            connections: 0,
        }
    }

    #[test]
    fn tells_what_is_open_and_what_to_try() {
        let listeners = [
            view(Protocol::Amqp, "[::]:5672", None),
            view(Protocol::Amqp, "0.0.0.0:5672", None),
            view(Protocol::Mqtt, "192.0.2.1:1884", Some("factory")),
        ];
        let banner = Banner {
            data_dir: Path::new("/var/lib/leveret"),
            listeners: &listeners,
            ready_ms: 12,
            resident_bytes: Some(9_800_000),
            examples: &Examples::new(&Config::default()),
        };
        let expected = concat!(
            "  data       /var/lib/leveret\n",
            "  AMQP 0-9-1 [::]:5672 (default)\n",
            "  AMQP 0-9-1 0.0.0.0:5672 (default)\n",
            "  MQTT       192.0.2.1:1884 (default), vhost factory\n",
            "  ready      in 12 ms, 9.3 MiB of memory\n",
            "mosquitto_sub -h 192.0.2.1 -p 1884 -q 1 -v -t 'sensors/#'\n",
            "mosquitto_pub -h 192.0.2.1 -p 1884 -q 1 -t sensors/kitchen/temperature -m 21.5\n",
            "amqp-consume --url=amqp://127.0.0.1:5672 --exchange=amq.topic ",
            "--routing-key='sensors.#' cat\n",
        );
        let text = banner.text();
        let (first, rest) = text.split_once('\n').expect("lines");
        assert_eq!(first, format!("Leveret {}", env!("CARGO_PKG_VERSION")));
        assert_eq!(rest, expected);
    }

    #[test]
    fn shows_no_password() {
        let mut config = Config::default();
        config.core.default_pass = Secret::new("swordfish");
        config.mqtt.allow_anonymous = false;
        let examples = Examples::new(&config);
        assert_eq!(examples.mqtt_credentials, " -u guest -P PASSWORD");
        assert_eq!(examples.amqp_credentials, "guest:PASSWORD@");
    }
}
