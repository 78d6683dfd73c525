//! What AMQP clients and administrators do in a row: publish, declare, fetch, permit, list.
//!
//! | step | |
//! |---|---|
//! | `publish KEY BODY mode=2 ct= cid= ttl= h:N=TEXT n:N=NUMBER d:N=CENTS x=EXCHANGE vhost=` | |
//! | `burst TOPIC N` | publishes bodies `1` to `N` with mode 2 before anybody is woken |
//! | `queue NAME ARGUMENT=WORD ARGUMENT=NUMBER`, `bind NAME KEY x=EXCHANGE` | owner's rights |
//! | `delete NAME`, `purge NAME` | the same |
//! | `exchange NAME KIND`, `unexchange NAME` | |
//! | `get NAME` | shows key, body and properties of the first message, or nothing |
//! | `user NAME PASSWORD`, `permit USER VHOST C W R`, `permit-topic USER VHOST X W R` | |
//! | `unuser NAME`, `unpermit USER VHOST` | |
//! | `vhost NAME`, `unvhost NAME`, `port PORT VHOST`, `close NAME`, `shutdown` | |
//! | `alarm memory`, `calm memory`, the same of `disk` | sets and clears an alarm |
//! | `queues`, `bindings QUEUE`, `retained`, `peers`, `losses` | listings |
//!
//! `''` is an empty pattern.

use std::fmt::Write as _;

use leveret_core::alarms::Resource;
use leveret_core::exchange::Memo;
use leveret_core::field::{RawTable, Table, Value, ValueRef, encode_entry};
use leveret_core::key::Form;
use leveret_core::link::{BindQueue, DeclareExchange, DeclareQueue};
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::peer::CloseReason;
use leveret_core::properties::BasicProperties;
use leveret_core::queue::QueueProperties;

use crate::text::{bytes, number, word};
use crate::verbs::AnyWorld as World;

static AMQP: AmqpOrigin = AmqpOrigin;

/// Does what the step says; returns the lines of a listing.
pub(crate) fn run(world: &mut World, step: &str) -> Vec<String> {
    let mut words: Vec<&str> = step.split_whitespace().map(unquoted).collect();
    let named = |words: &mut Vec<&str>, name: &str| -> Option<String> {
        let at = words.iter().position(|each| each.starts_with(name))?;
        Some(words.remove(at)[name.len()..].to_owned())
    };
    let vhost = named(&mut words, "vhost=").unwrap_or_else(|| "/".to_owned());
    let exchange = named(&mut words, "x=").unwrap_or_else(|| "amq.topic".to_owned());
    let shown = match words[..] {
        ["queues"] => queues(world, &vhost),
        ["bindings", queue] => bindings(world, &vhost, queue),
        ["retained"] => {
            let vhost = world.broker().vhost(&vhost).expect("the vhost");
            vec![vhost.retained_count().to_string()]
        }
        ["losses"] => losses(world, &vhost),
        ["peers"] => peers(world),
        ["get", queue] => get(world, &vhost, queue),
        ["publish", key, body, ref rest @ ..] => {
            publish(world, &vhost, &exchange, [key, body], rest);
            Vec::new()
        }
        ["burst", key, count] => {
            for body in 1..=number::<u32>(count) {
                let body = body.to_string();
                publish(world, &vhost, &exchange, [key, &body], &["mode=2"]);
            }
            Vec::new()
        }
        [
            "queue" | "bind" | "delete" | "purge" | "exchange" | "unexchange",
            ..,
        ] => {
            declare(world, &vhost, &exchange, &words);
            Vec::new()
        }
        _ => {
            administrate(world, &words);
            Vec::new()
        }
    };
    world.settle();
    shown
}

fn unquoted(word: &str) -> &str {
    if word == "''" { "" } else { word }
}

fn argument_table(words: &[&str]) -> Table {
    let mut table = Table::new();
    for word in words {
        let (name, value) = word.split_once('=').expect("an argument's value");
        let value = match value.parse() {
            Ok(number) => Value::I64(number),
            Err(_) => Value::from(value),
        };
        table.insert(name, value).expect("a short name");
    }
    table
}

fn declare(world: &mut World, vhost: &str, exchange: &str, words: &[&str]) {
    let (link, turn) = world.owner(vhost);
    let done = match words {
        ["queue", name, arguments @ ..] => {
            let properties = QueueProperties {
                durable: true,
                journaled: true,
                arguments: argument_table(arguments),
                ..QueueProperties::default()
            };
            let wish = DeclareQueue {
                name,
                properties,
                ..DeclareQueue::default()
            };
            link.queue_declare(turn, &wish).map(|_| ())
        }
        ["bind", queue, key] => {
            let wish = BindQueue {
                queue,
                exchange,
                key: key.as_bytes(),
                form: Form::Dotted,
                arguments: Table::new(),
            };
            link.queue_bind(&wish).map(|_| ())
        }
        ["delete", name] => link.queue_delete(name, false, false).map(|_| ()),
        ["purge", name] => link.queue_purge(name).map(|_| ()),
        ["exchange", name, kind] => {
            let wish = DeclareExchange {
                name,
                kind,
                passive: false,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Table::new(),
            };
            link.exchange_declare(&wish)
        }
        ["unexchange", name] => link.exchange_delete(name, false),
        other => panic!("{other:?} is nothing that an AMQP client does"),
    };
    done.expect("the owner may do that");
}

fn administrate(world: &mut World, words: &[&str]) {
    if let ["user", name, password] = words {
        return world.add_user(name, password);
    }
    let broker = std::sync::Arc::clone(world.broker());
    if let [what @ ("alarm" | "calm"), name] = words {
        let named = Resource::ALL.into_iter().find(|one| one.name() == *name);
        let resource = named.expect("memory or disk");
        assert!(broker.alarms().set(resource, *what == "alarm"), "it is so");
        return;
    }
    let done = match words {
        ["permit", user, vhost, c, w, r] => broker.set_permissions(user, vhost, [c, w, r]),
        ["permit-topic", user, vhost, exchange, w, r] => {
            broker.set_topic_permissions(user, vhost, exchange, [w, r])
        }
        ["unuser", user] => broker.delete_user(user),
        ["unpermit", user, vhost] => broker.clear_permissions(user, vhost),
        ["vhost", name] => broker.add_vhost(name),
        ["unvhost", name] => broker.delete_vhost(world.owner("/").1, name),
        ["port", port, vhost] => {
            let mut map = Table::new();
            map.insert(port, Value::from(*vhost)).expect("a short name");
            broker.set_global_parameter("mqtt_port_to_vhost_mapping", Value::Table(map))
        }
        ["close", id] => {
            let why = CloseReason::Administrator("asked".into());
            let closed = broker.close_peers(&why, |p| p.view().client_id.as_deref() == Some(id));
            assert_eq!(closed, 1, "{id} is connected once");
            Ok(())
        }
        ["shutdown"] => {
            broker.close_peers(&CloseReason::Shutdown, |_| true);
            Ok(())
        }
        other => panic!("{other:?} is no step"),
    };
    done.expect("an administrator may do that");
}

fn publish(world: &mut World, vhost: &str, exchange: &str, message: [&str; 2], rest: &[&str]) {
    let [key, body] = message.map(bytes);
    let mut properties = BasicProperties::default();
    let mut headers = Vec::new();
    let mut ttl = None;
    let values: Vec<(&str, Vec<u8>)> = rest
        .iter()
        .filter_map(|each| each.split_once('='))
        .map(|(name, value)| (name, bytes(value)))
        .collect();
    for (name, value) in &values {
        let text = std::str::from_utf8(value);
        let header = |name: &str, headers: &mut Vec<u8>, value| {
            encode_entry(headers, name.as_bytes(), value).expect("a header");
        };
        match (*name, name.split_once(':')) {
            ("mode", _) => properties.delivery_mode = Some(number(text.expect("a number"))),
            ("ct", _) => properties.content_type = Some(value),
            ("cid", _) => properties.correlation_id = Some(value),
            ("ttl", _) => {
                ttl = Some(number::<u64>(text.expect("a number")));
                properties.expiration = Some(value);
            }
            (_, Some(("h", name))) => header(name, &mut headers, ValueRef::LongString(value)),
            (_, Some(("n", name))) => {
                let number: u32 = number(text.expect("a number"));
                header(name, &mut headers, ValueRef::I64(i64::from(number)));
            }
            (_, Some(("d", name))) => {
                let value = number(text.expect("a number"));
                header(name, &mut headers, ValueRef::Decimal { scale: 2, value });
            }
            (_, Some(("t", name))) => {
                let table = RawTable::parse(&[]).expect("an empty table");
                header(name, &mut headers, ValueRef::Table(table));
            }
            _ => panic!("{name:?} is no property"),
        }
    }
    if !headers.is_empty() {
        properties.headers = Some(RawTable::parse(&headers).expect("the headers are right"));
    }
    let mut raw = Vec::new();
    properties.encode(&mut raw).expect("the properties fit");
    let (link, turn) = world.owner(vhost);
    let now = turn.now;
    let message = MessageRef {
        head: Head {
            origin: &AMQP,
            form: Form::Dotted,
            persistent: properties.delivery_mode == Some(2),
            retain: false,
            exactly_once: false,
            publisher: 0,
            received: now,
            expires: ttl.map(|ms| now.after_ms(ms)),
        },
        exchange,
        key: &key,
        properties: &raw,
        payload: &body,
    };
    let published = link.publish(turn, &mut Memo::default(), &message);
    published.expect("the owner may publish");
}

fn get(world: &mut World, vhost: &str, queue: &str) -> Vec<String> {
    let (link, turn) = world.owner(vhost);
    let Some(got) = link.get(turn, queue, true).expect("the queue is there") else {
        return Vec::new();
    };
    let message = got.taken.message.view();
    let (mut key, mut raw) = (Vec::new(), Vec::new());
    message.append_routing_key(&mut key);
    message
        .head
        .origin
        .append_basic_properties(&message, &mut raw);
    let properties = BasicProperties::parse(&raw).expect("properties are properties");
    let mut shown = format!("{} {}", word(&key), word(message.payload));
    if let Some(mode) = properties.delivery_mode {
        let _ = write!(shown, " mode={mode}");
    }
    let texts = [
        ("ct", properties.content_type),
        ("cid", properties.correlation_id),
        ("expiration", properties.expiration),
        ("user", properties.user_id),
        ("reply", properties.reply_to),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            let _ = write!(shown, " {name}={}", word(value));
        }
    }
    for (name, value) in properties.headers.into_iter().flat_map(RawTable::entries) {
        let value = match value {
            ValueRef::LongString(text) => word(text),
            other => format!("{other:?}"),
        };
        let _ = write!(shown, " h:{}={value}", word(name));
    }
    vec![shown]
}

fn queues(world: &mut World, vhost: &str) -> Vec<String> {
    let vhost = world.broker().vhost(vhost).expect("the vhost is there");
    let mut views: Vec<_> = vhost.queues().iter().map(|queue| queue.view()).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let show = |view: &leveret_core::queue::QueueView| {
        let mut shown = word(view.name.as_bytes());
        shown.push_str(if view.durable {
            " durable"
        } else {
            " transient"
        });
        for (flag, name) in [
            (view.auto_delete, " auto_delete"),
            (view.exclusive.is_some(), " exclusive"),
            (view.kind == "MQTT QoS 0", " direct"),
        ] {
            if flag {
                shown.push_str(name);
            }
        }
        let expires = view
            .arguments
            .lookup("x-expires")
            .and_then(Value::as_integer);
        if let Some(ms) = expires {
            let _ = write!(shown, " expires={ms}");
        }
        let _ = write!(shown, " {} messages", view.ready);
        if view.unacked > 0 {
            let _ = write!(shown, " {} unacked", view.unacked);
        }
        let lost = view.losses.total();
        if lost > 0 {
            let _ = write!(shown, " {lost} lost");
        }
        shown
    };
    views.iter().map(show).collect()
}

fn losses(world: &mut World, vhost: &str) -> Vec<String> {
    let vhost = world.broker().vhost(vhost).expect("the vhost is there");
    let each = vhost.losses().by_qos();
    each.map(|(loss, qos, count)| format!("{} qos={qos} {count}", loss.name()))
        .collect()
}

fn bindings(world: &mut World, vhost: &str, queue: &str) -> Vec<String> {
    let vhost = world.broker().vhost(vhost).expect("the vhost is there");
    let queue = vhost.queue(queue).expect("the queue is there");
    let views = queue.bindings().map(|binding| binding.view());
    let mut shown: Vec<String> = views
        .map(|view| {
            let arguments = view.arguments.iter().map(|(name, value)| {
                let value = match value {
                    Value::Table(nested) => {
                        let each = nested.iter().map(|(name, value)| {
                            let plain = format!("{value:?}");
                            let inner = plain.split(['(', ')']).nth(1).unwrap_or_default();
                            format!("{}:{inner}", word(name))
                        });
                        each.collect::<Vec<_>>().join(",")
                    }
                    other => other.as_str().unwrap_or_default().to_owned(),
                };
                format!(" {}={value}", word(name))
            });
            let arguments: String = arguments.collect();
            format!("{} {}{arguments}", view.source, view.routing_key)
        })
        .collect();
    shown.sort();
    shown
}

fn peers(world: &mut World) -> Vec<String> {
    let all = world.broker().peers();
    let show = |view: leveret_core::peer::PeerView| {
        let id = view.client_id.unwrap_or_default();
        let clean = view.clean_session.unwrap_or_default();
        format!(
            "{} {id} {}@{} {} clean={clean} keepalive={}",
            view.protocol, view.user, view.vhost, view.state, view.timeout_s
        )
    };
    all.iter().map(|(_, peer)| show(peer.view())).collect()
}
