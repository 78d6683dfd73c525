//! Publishing: from a whole message to the core, and what the publisher is told.
//!
//! Owns what a publisher's properties must obey; routing and permissions are the core's. AMQP
//! 0-9-1, class basic: publish, return; RabbitMQ's validated user-id and per-message TTL.

use std::sync::Arc;

use leveret_core::key::Form;
use leveret_core::limits::TTL_MS_MAX;
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::properties::BasicProperties;
use leveret_core::refusal::Refusal;
use leveret_core::replies::{MQTT_REPLY_PREFIX, REPLY_TO};
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::Channel;
use super::assembly::whole_content;
use super::rewrite;
use crate::content;
use crate::failure::Failure;
use crate::method::{BasicPublish, BasicReturn, ServerMethod};
use crate::session::Session;

/// A whole message on its way to the core.
pub(super) struct Publication<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: &'a [u8],
    pub(super) body: &'a [u8],
}

impl<'a> Publication<'a> {
    fn returned(&self) -> Returned<'a> {
        Returned {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: self.properties,
            body: self.body,
        }
    }
}

/// A message on its way back to its publisher.
pub(super) struct Returned<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) properties: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Channel {
    /// `basic.publish`: at once if its content is at the start of `rest`, else when that has
    /// come. Says how many bytes of `rest` were taken.
    #[inline]
    pub(super) fn basic_publish(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicPublish<'_>,
        rest: &[u8],
    ) -> Result<usize, Failure> {
        let Some((header, body, taken)) = whole_content(session, self.id, rest) else {
            self.begin(session, method)?;
            return Ok(0);
        };
        let publication = Publication {
            exchange: method.exchange,
            routing_key: method.routing_key,
            mandatory: method.mandatory,
            immediate: method.immediate,
            properties: header.properties,
            body,
        };
        self.publish(session, turn, &publication)
            .map_err(|refusal| Failure::of(BasicPublish::ID, refusal))?;
        Ok(taken)
    }

    pub(super) fn publish(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        publication: &Publication<'_>,
    ) -> Result<(), Refusal> {
        // RabbitMQ has no immediate delivery either.
        if publication.immediate {
            return Err(Refusal::not_implemented("immediate=true"));
        }
        let properties = BasicProperties::parse(publication.properties)
            .map_err(|error| Refusal::new(ReplyCode::SyntaxError, error.to_string()))?;
        check_user_id(session, &properties)?;
        let expires_ms = properties.expiration.map(parse_expiration).transpose()?;
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Dotted,
                // AMQP 0-9-1 §4.6: delivery mode 2 is persistent. RabbitMQ 4: all others are not.
                persistent: properties.delivery_mode == Some(2),
                retain: false,
                exactly_once: false,
                publisher: session.link.connection(),
                received: turn.now,
                expires: expires_ms.map(|ms| turn.now.after_ms(ms)),
            },
            exchange: publication.exchange,
            key: publication.routing_key.as_bytes(),
            properties: publication.properties,
            payload: publication.body,
        };
        // Not the session's own, which is borrowed for the publish: only an answer has one.
        let exchange;
        let message = match mqtt_answer(publication) {
            None => message,
            Some(key) => {
                exchange = Arc::clone(&session.link.broker().options().mqtt_exchange);
                let link = &session.link;
                match link.may_publish(&exchange, key.as_bytes(), Form::Dotted) {
                    Ok(()) => MessageRef {
                        exchange: &exchange,
                        key: key.as_bytes(),
                        ..message
                    },
                    // Who asks names the topic, and must not close the channel of who answers:
                    // nothing has this name in the default exchange.
                    Err(refusal) => {
                        tracing::info!(key, %refusal, "answer to an MQTT client not published");
                        message
                    }
                }
            }
        };
        // RabbitMQ: the message that meets an alarm is taken; then its publisher waits.
        session.met_alarm |= session.has_alarm();
        if self.tx.is_some() || rewrite::asks_for_more(&properties, session.reserved) {
            return self.publish_routed(session, turn, publication, &properties, message);
        }
        let published = session.link.publish(turn, &mut self.memo, &message)?;
        if publication.mandatory && published.routed == 0 {
            self.basic_return(session, &publication.returned());
        }
        self.published(session, published, &message);
        Ok(())
    }

    /// A publication with more than one routing key, with a reply-to of its own, with headers that
    /// are the broker's, or in a transaction.
    #[inline(never)]
    fn publish_routed(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        publication: &Publication<'_>,
        properties: &BasicProperties<'_>,
        message: MessageRef<'_>,
    ) -> Result<(), Refusal> {
        let keys = rewrite::more_keys(properties)?;
        let reply_name = match properties.reply_to {
            Some(name) if name == REPLY_TO.as_bytes() => Some(self.reply_name()?),
            _ => None,
        };
        let rewritten = rewrite::rewritten(properties, reply_name, session.reserved)?;
        let message = MessageRef {
            properties: rewritten.as_deref().unwrap_or(message.properties),
            ..message
        };
        let link = &session.link;
        let mandatory = publication.mandatory;
        if self.tx.is_some() {
            let routed = link.route_kept_back(turn, &mut self.memo, &message, &keys)?;
            return self.tx_publish(session, turn, &message, routed, mandatory);
        }
        let routed = link.route_keys(turn, &mut self.memo, &message, &keys)?;
        let published = link.publish_to(turn, &message, &routed);
        if mandatory && routed.is_empty() {
            let returned = Returned {
                properties: message.properties,
                ..publication.returned()
            };
            self.basic_return(session, &returned);
        }
        self.published(session, published, &message);
        Ok(())
    }

    /// Gives an unroutable mandatory message back. Confirms come after it.
    pub(super) fn basic_return(&self, session: &mut Session, message: &Returned<'_>) {
        let method = BasicReturn {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange: message.exchange,
            routing_key: message.routing_key,
        };
        let (id, frame_max) = (self.id, session.frame_max);
        session.replied_bytes += session.outlet.append(|out| {
            ServerMethod::BasicReturn(method).encode(id, out);
            content::encode(out, id, message.properties, message.body, frame_max);
        });
    }
}

/// The key of the topic that an MQTT client wants the answer to its request at.
#[inline]
fn mqtt_answer<'a>(publication: &Publication<'a>) -> Option<&'a str> {
    if !publication.exchange.is_empty() {
        return None;
    }
    publication.routing_key.strip_prefix(MQTT_REPLY_PREFIX)
}

/// A message that names its publisher must name the one who is logged in.
fn check_user_id(session: &Session, properties: &BasicProperties<'_>) -> Result<(), Refusal> {
    let (Some(claimed), user) = (properties.user_id, session.link.user()) else {
        return Ok(());
    };
    let impersonates = || {
        let found = session.link.broker().user(user);
        found.is_some_and(|found| found.tags.iter().any(|tag| &**tag == "impersonator"))
    };
    if claimed == user.as_bytes() || impersonates() {
        return Ok(());
    }
    Err(Refusal::precondition(format!(
        "user_id property set to '{}' but authenticated user was '{user}'",
        String::from_utf8_lossy(claimed)
    )))
}

/// Milliseconds in decimal digits, with RabbitMQ's words for what is wrong with them.
fn parse_expiration(text: &[u8]) -> Result<u64, Refusal> {
    let refuse = |why: String| {
        let text = String::from_utf8_lossy(text);
        Err(Refusal::precondition(format!(
            "invalid expiration '{text}': {why}"
        )))
    };
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = unsigned
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, left) = unsigned.split_at(digits);
    if number.is_empty() {
        return refuse("no_integer".to_owned());
    }
    if !left.is_empty() {
        let left = String::from_utf8_lossy(left);
        return refuse(format!("{{leftover_string,\"{left}\"}}"));
    }
    // 255 digits do not fit, but they are digits: what they say is too large.
    let ms = std::str::from_utf8(number)
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    match ms {
        Some(ms) if negative && ms > 0 => refuse(format!("{{value_negative,-{ms}}}")),
        Some(ms) if ms <= TTL_MS_MAX => Ok(ms),
        _ => refuse(format!(
            "{{value_too_large,{}}}",
            String::from_utf8_lossy(number)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration() {
        let cases: &[(&str, Result<u64, &str>)] = &[
            ("0", Ok(0)),
            ("60000", Ok(60_000)),
            ("+5", Ok(5)),
            ("-0", Ok(0)),
            ("315360000000", Ok(TTL_MS_MAX)),
            (
                "315360000001",
                Err("'315360000001': {value_too_large,315360000001}"),
            ),
            (
                "99999999999999999999",
                Err("'99999999999999999999': {value_too_large,99999999999999999999}"),
            ),
            ("-5", Err("'-5': {value_negative,-5}")),
            ("", Err("'': no_integer")),
            ("abc", Err("'abc': no_integer")),
            ("5s", Err("'5s': {leftover_string,\"s\"}")),
        ];
        for (text, expected) in cases {
            let found = parse_expiration(text.as_bytes()).map_err(|refusal| refusal.text);
            let expected =
                (*expected).map_err(|why| Box::from(format!("invalid expiration {why}")));
            assert_eq!(found, expected);
        }
    }
}
