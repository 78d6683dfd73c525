//! A broker that runs already, as `--peer` describes it.
//!
//! Owns the parsing of that description. Never starts or ends anything.

use std::net::SocketAddr;
use std::str::FromStr;

/// Names that the chore gives itself.
const RESERVED: &[&str] = &[
    "leveret",
    "before",
    "mosquitto",
    "mosquitto_nagle",
    "rabbitmq",
];
/// The longest name, in bytes, since it is a column's head.
const NAME_BYTES_MAX: usize = 24;

/// `name=MQTT_ADDR[,AMQP_ADDR],pid=PID`, with `-` for an address that it does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) mqtt: Option<SocketAddr>,
    pub(crate) amqp: Option<SocketAddr>,
    pub(crate) pid: u32,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "the form is name=MQTT_ADDR[,AMQP_ADDR],pid=PID";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(legal) {
            return Err(format!(
                "{name:?} is no name of 1 to {NAME_BYTES_MAX} letters, digits, _ and -"
            ));
        }
        if RESERVED.contains(&name) {
            return Err(format!("{name} is a name that the chore gives itself"));
        }
        let mut parts: Vec<_> = rest.split(',').collect();
        let pid = parts.pop().and_then(|part| part.strip_prefix("pid="));
        let pid = pid.ok_or(form)?;
        let pid = pid
            .parse()
            .ok()
            .filter(|pid| *pid > 0)
            .ok_or_else(|| format!("{pid:?} is no process id"))?;
        let (mqtt, amqp) = match parts.as_slice() {
            [mqtt] => (address(mqtt)?, None),
            [mqtt, amqp] => (address(mqtt)?, address(amqp)?),
            _ => return Err(form.to_owned()),
        };
        if mqtt.is_none() && amqp.is_none() {
            return Err("a broker without an address cannot be measured".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            mqtt,
            amqp,
            pid,
        })
    }
}

fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "-" {
        return Ok(None);
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no address like 127.0.0.1:1883"))?;
    // CPU and memory are read from this machine's /proc.
    if !address.ip().is_loopback() {
        return Err(format!("{address} is not on this machine's loopback"));
    }
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_parsed() {
        let local = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let cases = [
            ("flash=127.0.0.1:1883,pid=7", local(1883), None),
            ("f=127.0.0.1:1,127.0.0.1:2,pid=7", local(1), local(2)),
            ("f-2=-,127.0.0.1:2,pid=7", None, local(2)),
            ("f=127.0.0.1:1,-,pid=7", local(1), None),
        ];
        for (text, mqtt, amqp) in cases {
            let given: Given = text.parse().expect(text);
            assert_eq!((given.mqtt, given.amqp, given.pid), (mqtt, amqp, 7));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let cases = [
            ("flash", "the form is"),
            ("=127.0.0.1:1,pid=7", "is no name"),
            ("a b=127.0.0.1:1,pid=7", "is no name"),
            ("leveret=127.0.0.1:1,pid=7", "gives itself"),
            ("f=127.0.0.1:1", "the form is"),
            ("f=127.0.0.1:1,pid=0", "no process id"),
            ("f=127.0.0.1:1,pid=x", "no process id"),
            ("f=pid=7", "the form is"),
            ("f=1883,pid=7", "no address"),
            ("f=10.0.0.1:1883,pid=7", "loopback"),
            ("f=-,pid=7", "without an address"),
            ("f=-,-,-,pid=7", "the form is"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Given>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
