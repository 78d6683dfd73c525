//! What differs between any two runs, and what stands for it in a transcript.
//!
//! Owns the mapping both ways: names of one script's own, names that a server made up, times.

use std::collections::BTreeMap;

/// Names that servers make up: how they begin, and the placeholder's stem.
const MADE_UP: &[(&str, &str)] = &[
    ("amq.gen-", "gen"),
    ("amq.ctag-", "ctag"),
    ("amq.rabbitmq.reply-to.", "token"),
];

/// The placeholders of one run of one script.
pub(super) struct Names {
    /// What stands for `~` on the wire.
    prefix: String,
    /// Names that the server made up, by placeholder.
    made_up: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(number: usize) -> Self {
        Self {
            prefix: format!("d{number:04}_"),
            made_up: BTreeMap::new(),
        }
    }

    /// From the page to the wire.
    pub(super) fn wire(&self, octets: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(octets) else {
            return octets.to_vec();
        };
        let mut text = text.replace('~', &self.prefix);
        for (placeholder, name) in self.made_up.iter().rev() {
            text = text.replace(placeholder.as_str(), name);
        }
        text.into_bytes()
    }

    /// From the wire to the page.
    pub(super) fn page(&mut self, octets: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(octets) else {
            return octets.to_vec();
        };
        let mut text = text.replace(&self.prefix, "~");
        for (beginning, stem) in MADE_UP {
            text = self.replace_made_up(&text, beginning, stem);
        }
        text.into_bytes()
    }

    fn replace_made_up(&mut self, text: &str, beginning: &str, stem: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(beginning) {
            let (before, from) = rest.split_at(at);
            let tail = &from[beginning.len()..];
            let length = tail.find(|c| !is_made_up(c)).unwrap_or(tail.len());
            done.push_str(before);
            if length < SHORTEST {
                done.push_str(&from[..beginning.len()]);
                rest = tail;
            } else {
                let (name, after) = from.split_at(beginning.len() + length);
                done.push_str(&self.placeholder(name, stem));
                rest = after;
            }
        }
        done.push_str(rest);
        done
    }

    fn placeholder(&mut self, name: &str, stem: &str) -> String {
        let known = self.made_up.iter().find(|(_, known)| *known == name);
        if let Some((placeholder, _)) = known {
            return placeholder.clone();
        }
        let stem = format!("${stem}");
        let count = self
            .made_up
            .keys()
            .filter(|known| known.starts_with(&stem))
            .count();
        let placeholder = format!("{stem}{}", count + 1);
        self.made_up.insert(placeholder.clone(), name.to_owned());
        placeholder
    }
}

fn is_made_up(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.+/=".contains(c)
}

/// Shorter ones are a script's own.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let mut names = Names::new(7);
        assert_eq!(names.wire(b"~q"), b"d0007_q");
        let made_up = b"no queue 'amq.gen-0123456789abcdefABCDEF' here";
        assert_eq!(names.page(made_up), b"no queue '$gen1' here");
        assert_eq!(names.page(b"amq.gen-short"), b"amq.gen-short");
        assert_eq!(names.wire(b"$gen1"), b"amq.gen-0123456789abcdefABCDEF");
    }
}
