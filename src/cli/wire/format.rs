//! How a message is printed: `-v`, `-N` and `-F` of mosquitto_sub.
//!
//! Owns the sequences of the format. Never prints. Times are UTC and exact to the millisecond.

use leveret_core::time::Time;
use leveret_management::protocol::{Code, Failure};
use serde_json::{Map, Value, json};

use super::Message;
use super::moment::Moment;

/// How messages are printed.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::cli) struct Format {
    pieces: Vec<Piece>,
    /// JSON over several lines.
    pretty: bool,
}

#[derive(Debug, Eq, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
    /// A letter of `strftime`.
    Time(char),
}

/// What a message has, in a column.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Field {
    letter: char,
    zeros: bool,
    left: bool,
    width: usize,
    /// Characters that are shown at most.
    width_max: Option<usize>,
}

impl Format {
    /// The payload, or topic and payload; each message ends its line unless `bare`.
    pub(in crate::cli) fn plain(with_topic: bool, bare: bool) -> Self {
        let format = match (with_topic, bare) {
            (false, false) => "%p\\n",
            (false, true) => "%p",
            (true, false) => "%t %p\\n",
            (true, true) => "%t %p",
        };
        Self {
            // Its sequences are known.
            pieces: pieces(format).unwrap_or_default(),
            pretty: false,
        }
    }

    /// Reads the format of `-F`.
    ///
    /// # Errors
    /// 64: a sequence that is not known.
    pub(in crate::cli) fn parse(text: &str, bare: bool, pretty: bool) -> Result<Self, Failure> {
        let mut pieces =
            pieces(text).map_err(|why| Failure::new(Code::Usage, format!("-F {text}: {why}")))?;
        if !bare {
            pieces.push(Piece::Text(b"\n".to_vec()));
        }
        Ok(Self { pieces, pretty })
    }

    /// Appends the message.
    ///
    /// # Errors
    /// 65: the payload is to be JSON, and is none.
    pub(in crate::cli) fn put(
        &self,
        message: &Message,
        at: Time,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let moment = Moment::at(at);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Time(letter) => {
                    let mut text = String::new();
                    // The letter was tried when the format was read.
                    let _ = moment.put(*letter, &mut text);
                    out.extend_from_slice(text.as_bytes());
                }
                Piece::Field(field) => self.put_field(field, message, &moment, out)?,
            }
        }
        Ok(())
    }

    fn put_field(
        &self,
        field: &Field,
        message: &Message,
        moment: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let extras = &message.extras;
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let text = match field.letter {
            'p' => {
                pad(field, &message.payload, out);
                return Ok(());
            }
            'D' => {
                out.extend_from_slice(extras.correlation_data.as_deref().unwrap_or_default());
                return Ok(());
            }
            'j' | 'J' => self.json(field.letter == 'J', message, moment)?,
            'A' => number(extras.topic_alias.map(u64::from)),
            'C' => extras.content_type.clone().unwrap_or_default(),
            'E' => number(extras.expiry_s.map(u64::from)),
            'F' => number(extras.payload_format.map(u64::from)),
            'I' => moment.iso(),
            'l' => message.payload.len().to_string(),
            'm' => message.id.to_string(),
            'P' => {
                let pairs = extras
                    .user
                    .iter()
                    .map(|(name, value)| format!("{name}:{value}"));
                pairs.collect::<Vec<_>>().join(" ")
            }
            'q' => message.qos.to_string(),
            'R' => extras.response_topic.clone().unwrap_or_default(),
            'r' => u8::from(message.retain).to_string(),
            'S' => number(extras.subscription_ids.first().copied().map(u64::from)),
            't' => message.topic.clone(),
            'U' => moment.unix(),
            'x' => hex(&message.payload, |byte| format!("{byte:02x}")),
            _ => hex(&message.payload, |byte| format!("{byte:02X}")),
        };
        pad(field, text.as_bytes(), out);
        Ok(())
    }

    /// The message as mosquitto_sub's JSON.
    fn json(&self, nested: bool, message: &Message, moment: &Moment) -> Result<String, Failure> {
        let mut all = Map::new();
        all.insert("tst".to_owned(), moment.json().into());
        all.insert("topic".to_owned(), message.topic.as_str().into());
        all.insert("qos".to_owned(), message.qos.into());
        all.insert("retain".to_owned(), u8::from(message.retain).into());
        all.insert("payloadlen".to_owned(), message.payload.len().into());
        if message.qos > 0 {
            all.insert("mid".to_owned(), message.id.into());
        }
        let properties = properties(message);
        if !properties.is_empty() {
            all.insert("properties".to_owned(), properties.into());
        }
        let payload = if message.payload.is_empty() {
            Value::Null
        } else if nested {
            serde_json::from_slice(&message.payload).map_err(|_| {
                let text = format!("payload is not valid JSON on topic {}", message.topic);
                Failure::new(Code::Data, text)
            })?
        } else {
            String::from_utf8_lossy(&message.payload).into()
        };
        all.insert("payload".to_owned(), payload);
        let written = if self.pretty {
            serde_json::to_string_pretty(&all)
        } else {
            serde_json::to_string(&all)
        };
        written.map_err(|why| Failure::new(Code::Software, why.to_string()))
    }
}

fn properties(message: &Message) -> Map<String, Value> {
    let extras = &message.extras;
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    put("topic-alias", extras.topic_alias.map(Value::from));
    put("content-type", extras.content_type.clone().map(Value::from));
    put("user-properties", user_properties(&extras.user));
    let correlation = extras.correlation_data.as_deref();
    put(
        "correlation-data",
        correlation.map(|data| String::from_utf8_lossy(data).into()),
    );
    put(
        "response-topic",
        extras.response_topic.clone().map(Value::from),
    );
    put(
        "payload-format-indicator",
        extras.payload_format.map(|utf8| u8::from(utf8).into()),
    );
    put("message-expiry-interval", extras.expiry_s.map(Value::from));
    put(
        "subscription-identifier",
        match extras.subscription_ids.as_slice() {
            [] => None,
            [one] => Some((*one).into()),
            several => Some(json!(several)),
        },
    );
    out
}

/// Name to value; to a list of values where a name comes more than once.
fn user_properties(pairs: &[(String, String)]) -> Option<Value> {
    let mut out = Map::new();
    for (name, value) in pairs {
        let value = Value::from(value.as_str());
        match out.get_mut(name) {
            None => {
                out.insert(name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn hex(bytes: &[u8], digits: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(digits).collect()
}

fn pad(field: &Field, text: &[u8], out: &mut Vec<u8>) {
    let text = match (field.width_max, std::str::from_utf8(text)) {
        (Some(most), Ok(chars)) => {
            let end = chars
                .char_indices()
                .nth(most)
                .map_or(text.len(), |(end, _)| end);
            &text[..end]
        }
        _ => text,
    };
    let shown = std::str::from_utf8(text).map_or(text.len(), |chars| chars.chars().count());
    let missing = field.width.saturating_sub(shown);
    let number = matches!(field.letter, 'A' | 'E' | 'F' | 'l' | 'm' | 'S' | 'X' | 'x');
    let blank = if field.zeros && !field.left && number {
        b'0'
    } else {
        b' '
    };
    if field.left {
        out.extend_from_slice(text);
    }
    out.extend(std::iter::repeat_n(blank, missing));
    if !field.left {
        out.extend_from_slice(text);
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = Vec::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let piece = match next {
            '%' if rest.as_str().starts_with('%') => {
                rest.next();
                plain.push(b'%');
                continue;
            }
            '%' => Piece::Field(field(&mut rest)?),
            '@' if rest.as_str().starts_with('@') => {
                rest.next();
                plain.push(b'@');
                continue;
            }
            '@' => Piece::Time(time(rest.next())?),
            '\\' => {
                plain.push(escape(rest.next())?);
                continue;
            }
            other => {
                plain.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn field(rest: &mut std::str::Chars<'_>) -> Result<Field, String> {
    let mut field = Field {
        letter: ' ',
        zeros: false,
        left: false,
        width: 0,
        width_max: None,
    };
    loop {
        match rest.as_str().chars().next() {
            Some('0') => field.zeros = true,
            Some('-') => field.left = true,
            _ => break,
        }
        rest.next();
    }
    field.width = width(rest)?.unwrap_or_default();
    if rest.as_str().starts_with('.') {
        rest.next();
        field.width_max = Some(width(rest)?.ok_or("a number follows the dot")?);
    }
    field.letter = rest.next().ok_or("a letter follows %")?;
    if !"ACDEFIJPRSUXjlmpqrtx".contains(field.letter) {
        return Err(format!("%{} is not known", field.letter));
    }
    Ok(field)
}

fn width(rest: &mut std::str::Chars<'_>) -> Result<Option<usize>, String> {
    let text = rest.as_str();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok(None);
    }
    let number: usize = text[..digits].parse().unwrap_or(usize::MAX);
    if number > WIDTH_MAX {
        return Err(format!("a width is at most {WIDTH_MAX}"));
    }
    *rest = text[digits..].chars();
    Ok(Some(number))
}

fn time(letter: Option<char>) -> Result<char, String> {
    let letter = letter.ok_or("a letter follows @")?;
    let known = Moment::at(Time(0)).put(letter, &mut String::new());
    known
        .map(|()| letter)
        .ok_or_else(|| format!("@{letter} is not known"))
}

fn escape(letter: Option<char>) -> Result<u8, String> {
    Ok(match letter.ok_or("a letter follows \\")? {
        '\\' => b'\\',
        '0' => 0,
        'a' => 7,
        'e' => 27,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        other => return Err(format!("\\{other} is not known")),
    })
}

/// The widest column, in characters.
const WIDTH_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::super::Extras;
    use super::*;

    fn message() -> Message {
        Message {
            topic: "a/b".to_owned(),
            payload: b"he\"l\xff".to_vec(),
            qos: 1,
            retain: true,
            id: 7,
            extras: Extras {
                content_type: Some("text".to_owned()),
                correlation_data: Some(b"cd".to_vec()),
                expiry_s: Some(60),
                user: [("n", "1"), ("m", "2"), ("n", "3")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec(),
                ..Extras::default()
            },
        }
    }

    fn shown(format: &str, message: &Message) -> String {
        let mut out = Vec::new();
        let format = Format::parse(format, true, false).expect(format);
        let at = Time(1_795_338_305_409);
        format.put(message, at, &mut out).expect("it is shown");
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The expected texts are mosquitto_sub's.
    #[test]
    fn o8_formats() {
        let rows = [
            ("%t|%q|%r|%m|%l|%C|%D|%E|%S|%A", "a/b|1|1|7|5|text|cd|60||"),
            (
                "%5.3t|%-8l|%08l|%.1t|%08t",
                "  a/b|5       |00000005|a|     a/b",
            ),
            ("%x %X %P", "6865226cff 6865226CFF n:1 m:2 n:3"),
            (
                "%%@@\\\\\\t%I %U",
                "%@\\\t2026-11-22T09:05:05+0000 1795338305.409000000",
            ),
            ("@Y-@m-@d @H:@M:@S.@N", "2026-11-22 09:05:05.409000000"),
            (
                "%j",
                "{\"tst\":\"2026-11-22T09:05:05.409000Z+0000\",\"topic\":\"a/b\",\"qos\":1,\
                 \"retain\":1,\"payloadlen\":5,\"mid\":7,\"properties\":{\"content-type\":\"text\",\
                 \"user-properties\":{\"n\":[\"1\",\"3\"],\"m\":\"2\"},\"correlation-data\":\"cd\",\
                 \"message-expiry-interval\":60},\"payload\":\"he\\\"l\u{fffd}\"}",
            ),
        ];
        for (format, expected) in rows {
            assert_eq!(shown(format, &message()), expected, "{format}");
        }
        let bare = Message {
            payload: b"{\"a\":1}".to_vec(),
            ..Message::default()
        };
        let json = shown("%J", &bare);
        assert!(
            json.ends_with("\"payloadlen\":7,\"payload\":{\"a\":1}}"),
            "{json}"
        );
    }

    #[test]
    fn o8_bad_formats() {
        for format in [
            "%",
            "%Q",
            "%10",
            "%5.t",
            "@",
            "@Q",
            "\\",
            "\\q",
            "%99999999t",
        ] {
            assert_eq!(
                Format::parse(format, true, false).expect_err(format).exit,
                64
            );
        }
        let nested = Format::parse("%J", true, false).expect("is known");
        let put = nested.put(&message(), Time(0), &mut Vec::new());
        assert_eq!(put.expect_err("is no JSON").exit, 65);
    }
}
