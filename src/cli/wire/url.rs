//! Which broker: the URL of `-L`, or host and port.
//!
//! Owns their form: `mqtt://user:password@host:port/topic` as mosquitto's clients have it, and
//! `amqp://user:password@host:port/vhost` as AMQP's clients do. Never connects.

use leveret_management::protocol::{Code, Failure};

/// What is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Protocol {
    Mqtt,
    Amqp,
}

/// A broker and the login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli) struct Target {
    pub(in crate::cli) protocol: Protocol,
    pub(in crate::cli) host: String,
    pub(in crate::cli) port: u16,
    pub(in crate::cli) user: Option<String>,
    pub(in crate::cli) password: Option<String>,
    /// AMQP's.
    pub(in crate::cli) vhost: String,
    /// A topic that the URL of MQTT ends with.
    pub(in crate::cli) topic: Option<String>,
    /// The local address to connect from.
    pub(in crate::cli) bind: Option<String>,
    pub(in crate::cli) nodelay: bool,
}

impl Target {
    /// The broker of this machine.
    pub(in crate::cli) fn local(protocol: Protocol) -> Self {
        Self {
            protocol,
            host: "localhost".to_owned(),
            port: default_port(protocol),
            user: None,
            password: None,
            vhost: "/".to_owned(),
            topic: None,
            bind: None,
            nodelay: false,
        }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// 64: another scheme, a port that is none, escapes that are none.
    pub(in crate::cli) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(Code::Usage, format!("-L {url}: {why}"));
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("a URL begins with mqtt:// or amqp://"));
        };
        let protocol = match scheme {
            "mqtt" => Protocol::Mqtt,
            "amqp" => Protocol::Amqp,
            "mqtts" | "amqps" => return Err(wrong("TLS is not supported")),
            _ => return Err(wrong("a URL begins with mqtt:// or amqp://")),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let mut target = Self::local(protocol);
        let place = match authority.rsplit_once('@') {
            Some((login, place)) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                let plain = |text: &str| unescape(text).ok_or_else(|| wrong("a bad %-escape"));
                target.user = Some(plain(user)?);
                target.password = password.map(plain).transpose()?;
                place
            }
            None => authority,
        };
        target
            .set_place(place)
            .ok_or_else(|| wrong("the port is no number"))?;
        match (protocol, path) {
            // As it stands, as mosquitto's clients have it.
            (Protocol::Mqtt, Some(topic)) if !topic.is_empty() => {
                target.topic = Some(topic.to_owned());
            }
            (Protocol::Amqp, Some(vhost)) => {
                target.vhost = unescape(vhost).ok_or_else(|| wrong("a bad %-escape"))?;
            }
            _ => {}
        }
        Ok(target)
    }

    fn set_place(&mut self, place: &str) -> Option<()> {
        // An IPv6 address stands in brackets, since it has colons itself.
        let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if !host.is_empty() {
            self.host = host.to_owned();
        }
        if let Some(port) = port {
            self.port = port.parse().ok()?;
        }
        Some(())
    }
}

pub(in crate::cli) const fn default_port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Mqtt => 1_883,
        Protocol::Amqp => 5_672,
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (
        &'a str,
        &'a str,
        u16,
        Option<&'a str>,
        Option<&'a str>,
        &'a str,
    );

    #[test]
    fn o8_urls() {
        let rows: [Row<'_>; 7] = [
            ("mqtt://h", "h", 1_883, None, None, ""),
            ("mqtt://h:2/a/b", "h", 2, None, None, "a/b"),
            (
                "mqtt://u:p%40%2f@h/t",
                "h",
                1_883,
                Some("u"),
                Some("p@/"),
                "t",
            ),
            ("mqtt://[::1]:3/t", "::1", 3, None, None, "t"),
            ("amqp://u@h", "h", 5_672, Some("u"), None, "/"),
            ("amqp://h/", "h", 5_672, None, None, ""),
            ("amqp://h:1/a%2fb", "h", 1, None, None, "a/b"),
        ];
        for (url, host, port, user, password, last) in rows {
            let got = Target::parse(url).expect(url);
            assert_eq!((got.host.as_str(), got.port), (host, port), "{url}");
            assert_eq!(got.user.as_deref(), user, "{url}");
            assert_eq!(got.password.as_deref(), password, "{url}");
            let path = match got.protocol {
                Protocol::Mqtt => got.topic.unwrap_or_default(),
                Protocol::Amqp => got.vhost,
            };
            assert_eq!(path, last, "{url}");
        }
        for url in [
            "h",
            "http://h",
            "mqtts://h",
            "amqps://h",
            "mqtt://h:x",
            "amqp://h/%4",
        ] {
            assert_eq!(Target::parse(url).expect_err(url).exit, 64, "{url}");
        }
    }
}
