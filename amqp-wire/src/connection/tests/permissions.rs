//! Permissions: what each method needs, and what its client is told when one is missing.

use std::sync::Arc;

use leveret_core::field::{RawTable, Table, Value};
use leveret_core::properties::BasicProperties;
use leveret_core::user::User;

use super::client::*;
use crate::method::*;
use crate::node::Node;

/// A permission, what it is on, and which one.
type Need = (Access, &'static str, &'static str);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Configure,
    Write,
    Read,
}

use Access::{Configure, Read, Write};

impl Access {
    fn word(self) -> &'static str {
        match self {
            Configure => "configure",
            Write => "write",
            Read => "read",
        }
    }
}

/// A method, all that it needs, and how its answer begins.
struct Row {
    method: ClientMethod<'static>,
    needs: &'static [Need],
    answer: &'static str,
}

fn row(method: ClientMethod<'static>, needs: &'static [Need], answer: &'static str) -> Row {
    Row {
        method,
        needs,
        answer,
    }
}

/// A node with queue `q`, exchanges `x` and `y`, topic exchange `t`, a message in `q`, and user
/// `anna`.
fn furnished() -> Arc<Node> {
    let node = node();
    node.broker
        .put_user("anna", User::default())
        .expect("a name");
    let mut owner = Client::open(&node);
    owner.declare("q");
    for (exchange, kind) in [("x", "fanout"), ("y", "fanout"), ("t", "topic")] {
        let method = ExchangeDeclare {
            exchange,
            type_: kind,
            ..ExchangeDeclare::default()
        };
        let found = owner.ask(1, ClientMethod::ExchangeDeclare(method));
        assert_eq!(found, ["1 exchange.declare-ok"]);
    }
    owner.publish("", "q", "m");
    owner.hang_up();
    node
}

/// Grants these and no others.
fn grant(node: &Node, needs: &[Need]) {
    let names = |access| {
        let names = needs.iter().filter(|(held, ..)| *held == access);
        let names: Vec<_> = names.map(|(.., name)| name.replace('.', "\\.")).collect();
        format!("^({})$", names.join("|"))
    };
    let patterns = [names(Configure), names(Write), names(Read)];
    let patterns = patterns.each_ref().map(String::as_str);
    let granted = node.broker.set_permissions("anna", "/", patterns);
    granted.expect("valid patterns");
}

/// A connection of `anna`'s, who needs some permission to open one.
fn anna(node: &Arc<Node>) -> Client {
    let mut client = Client::accepted(node);
    let mut bytes = HEADER.to_vec();
    start_ok(&mut bytes, "PLAIN", b"\0anna\0secret");
    tune_ok(&mut bytes, FRAME_MAX);
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
    ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, &mut bytes);
    client.feed(&bytes);
    assert_eq!(client.lines().last().expect("open"), "1 channel.open-ok");
    client
}

fn refused(id: MethodId, (access, noun, name): Need) -> String {
    format!(
        "1 channel.close 403 {}.{} ACCESS_REFUSED - {} access to {noun} '{name}' in vhost '/' \
         refused for user 'anna'",
        id.class,
        id.method,
        access.word()
    )
}

fn refused_topic(id: MethodId, access: Access, key: &str) -> String {
    refused(id, (access, "topic", "KEY")).replace("'KEY'", &format!("'{key}' in exchange 't'"))
}

/// Arguments of one entry.
fn with(name: &str, value: &str) -> RawTable<'static> {
    let mut table = Table::new();
    table.insert(name, Value::from(value)).expect("short");
    let mut bytes = Vec::new();
    table.encode(&mut bytes).expect("short");
    RawTable::parse(Vec::leak(bytes)).expect("legal")
}

/// Each method answers whoever has all that it needs, and refuses whoever lacks one of these.
fn check(rows: Vec<Row>) {
    for Row {
        method,
        needs,
        answer,
    } in rows
    {
        for missing in needs {
            let node = furnished();
            let others: Vec<_> = needs.iter().filter(|need| *need != missing).collect();
            let others: Vec<_> = others.into_iter().copied().collect();
            grant(&node, &others);
            let found = anna(&node).ask(1, method);
            assert_eq!(found, [refused(method.id(), *missing)], "{method:?}");
        }
        let node = furnished();
        grant(&node, needs);
        let found = anna(&node).ask(1, method);
        assert!(found[0].starts_with(answer), "{method:?}: {found:?}");
    }
}

/// FEATURES A7: declaring a queue needs all of these permissions and no others.
#[test]
fn a7_declarations_of_queues() {
    let named = QueueDeclare {
        queue: "new",
        ..QueueDeclare::default()
    };
    let dead = |exchange| QueueDeclare {
        arguments: with("x-dead-letter-exchange", exchange),
        ..named
    };
    use ClientMethod as M;
    check(vec![
        row(
            M::QueueDeclare(named),
            &[(Configure, "queue", "new")],
            "1 queue.declare-ok new ",
        ),
        row(
            M::QueueDeclare(dead("x")),
            &[
                (Configure, "queue", "new"),
                (Read, "queue", "new"),
                (Write, "exchange", "x"),
            ],
            "1 queue.declare-ok new ",
        ),
        row(
            M::QueueDeclare(dead("")),
            &[
                (Configure, "queue", "new"),
                (Read, "queue", "new"),
                (Write, "exchange", "amq.default"),
            ],
            "1 queue.declare-ok new ",
        ),
    ]);
}

/// FEATURES A7: and what is done with them.
#[test]
fn a7_uses_of_queues() {
    let (queue, exchange) = ("q", "x");
    let bind = QueueBind {
        queue,
        exchange,
        ..QueueBind::default()
    };
    let unbind = QueueUnbind {
        queue,
        exchange,
        ..QueueUnbind::default()
    };
    let purge = QueuePurge {
        queue,
        ..QueuePurge::default()
    };
    let delete = QueueDelete {
        queue,
        ..QueueDelete::default()
    };
    const ENDS: &[Need] = &[(Write, "queue", "q"), (Read, "exchange", "x")];
    use ClientMethod as M;
    check(vec![
        row(M::QueueBind(bind), ENDS, "1 queue.bind-ok"),
        row(M::QueueUnbind(unbind), ENDS, "1 queue.unbind-ok"),
        row(
            M::QueuePurge(purge),
            &[(Read, "queue", "q")],
            "1 queue.purge-ok 1",
        ),
        row(
            M::QueueDelete(delete),
            &[(Configure, "queue", "q")],
            "1 queue.delete-ok 1",
        ),
        row(
            consume("q", "c", false),
            &[(Read, "queue", "q")],
            "1 basic.consume-ok c",
        ),
        row(
            M::BasicGet(BasicGet {
                queue,
                ..BasicGet::default()
            }),
            &[(Read, "queue", "q")],
            "1 basic.get-ok 1 ",
        ),
    ]);
}

/// FEATURES A7: and what is done to exchanges, at both ends.
#[test]
fn a7_exchanges() {
    let declare = ExchangeDeclare {
        exchange: "new",
        type_: "direct",
        ..ExchangeDeclare::default()
    };
    let alternate = |exchange| ExchangeDeclare {
        arguments: with("alternate-exchange", exchange),
        ..declare
    };
    let bind = ExchangeBind {
        destination: "y",
        source: "x",
        ..ExchangeBind::default()
    };
    let unbind = ExchangeUnbind {
        destination: "y",
        source: "x",
        ..ExchangeUnbind::default()
    };
    const ENDS: &[Need] = &[(Write, "exchange", "y"), (Read, "exchange", "x")];
    use ClientMethod as M;
    check(vec![
        row(
            M::ExchangeDeclare(declare),
            &[(Configure, "exchange", "new")],
            "1 exchange.declare-ok",
        ),
        row(
            M::ExchangeDeclare(alternate("x")),
            &[
                (Configure, "exchange", "new"),
                (Read, "exchange", "new"),
                (Write, "exchange", "x"),
            ],
            "1 exchange.declare-ok",
        ),
        row(
            M::ExchangeDeclare(alternate("")),
            &[
                (Configure, "exchange", "new"),
                (Read, "exchange", "new"),
                (Write, "exchange", "amq.default"),
            ],
            "1 exchange.declare-ok",
        ),
        row(
            M::ExchangeDelete(ExchangeDelete {
                exchange: "x",
                ..ExchangeDelete::default()
            }),
            &[(Configure, "exchange", "x")],
            "1 exchange.delete-ok",
        ),
        row(M::ExchangeBind(bind), ENDS, "1 exchange.bind-ok"),
        row(M::ExchangeUnbind(unbind), ENDS, "1 exchange.unbind-ok"),
    ]);
}

/// FEATURES A7: a passive declaration needs any permission on what it asks for.
#[test]
fn a7_passive_declarations() {
    let queue = ClientMethod::QueueDeclare(QueueDeclare {
        queue: "q",
        passive: true,
        ..QueueDeclare::default()
    });
    let exchange = ClientMethod::ExchangeDeclare(ExchangeDeclare {
        exchange: "x",
        passive: true,
        ..ExchangeDeclare::default()
    });
    for (method, noun, name, answer) in [
        (queue, "queue", "q", "1 queue.declare-ok q 1 0"),
        (exchange, "exchange", "x", "1 exchange.declare-ok"),
    ] {
        let node = furnished();
        for access in [Configure, Write, Read] {
            grant(&node, &[(access, noun, name)]);
            assert_eq!(anna(&node).ask(1, method), [answer], "{access:?}");
        }
        grant(&node, &[(Configure, noun, "other")]);
        let expected = refused(method.id(), (Configure, noun, name));
        assert_eq!(anna(&node).ask(1, method), [expected]);
    }
}

/// FEATURES A7: a name that the server makes must be one that the client may configure.
#[test]
fn a7_server_named_queues() {
    let declare = ClientMethod::QueueDeclare(QueueDeclare::default());
    let node = furnished();
    for (pattern, may) in [("^amq\\.gen", true), ("^gen", false)] {
        let patterns = [pattern, "^$", "^$"];
        let granted = node.broker.set_permissions("anna", "/", patterns);
        granted.expect("valid patterns");
        let found = anna(&node).ask(1, declare);
        let expected = if may {
            "1 queue.declare-ok amq.gen-"
        } else {
            "1 channel.close 403 50.10 ACCESS_REFUSED - configure access to queue 'amq.gen-"
        };
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}

/// FEATURES A7: who may not publish to an exchange is told so, whatever else it asked for.
#[test]
fn a7_publications() {
    for (exchange, named) in [("x", "x"), ("", "amq.default")] {
        for (mandatory, routed) in [(false, true), (true, true), (true, false)] {
            let routing_key = if routed { "q" } else { "nowhere" };
            let method = BasicPublish {
                exchange,
                routing_key,
                mandatory,
                ..BasicPublish::default()
            };
            let mut bytes = Vec::new();
            publish_as(&mut bytes, method, &BasicProperties::default(), b"m");
            let node = furnished();
            grant(&node, &[(Write, "exchange", "other")]);
            let mut client = anna(&node);
            client.feed(&bytes);
            let expected = refused(BasicPublish::ID, (Write, "exchange", named));
            assert_eq!(client.lines(), [expected], "{method:?}");
            grant(&node, &[(Write, "exchange", named)]);
            let mut client = anna(&node);
            client.feed(&bytes);
            let found = client.lines();
            let returned = mandatory && (!routed || named == "x");
            assert_eq!(found.len(), usize::from(returned), "{method:?} {found:?}");
        }
    }
}

/// FEATURES A7: topic permissions hold for publications and for both kinds of bindings, and know
/// who asks where.
#[test]
fn a7_topics() {
    let node = furnished();
    let needs = [
        (Write, "exchange", "t"),
        (Read, "exchange", "t"),
        (Write, "exchange", "y"),
        (Write, "queue", "q"),
    ];
    grant(&node, &needs);
    let patterns = ["^{username}\\.{vhost}\\.", "^{username}\\."];
    let set = node
        .broker
        .set_topic_permissions("anna", "/", "t", patterns);
    set.expect("valid patterns");
    let queue_bind = |routing_key| {
        ClientMethod::QueueBind(QueueBind {
            queue: "q",
            exchange: "t",
            routing_key,
            ..QueueBind::default()
        })
    };
    let queue_unbind = |routing_key| {
        ClientMethod::QueueUnbind(QueueUnbind {
            queue: "q",
            exchange: "t",
            routing_key,
            ..QueueUnbind::default()
        })
    };
    let exchange_bind = |routing_key| {
        ClientMethod::ExchangeBind(ExchangeBind {
            destination: "y",
            source: "t",
            routing_key,
            ..ExchangeBind::default()
        })
    };
    let exchange_unbind = |routing_key| {
        ClientMethod::ExchangeUnbind(ExchangeUnbind {
            destination: "y",
            source: "t",
            routing_key,
            ..ExchangeUnbind::default()
        })
    };
    let makers: [&dyn Fn(&'static str) -> ClientMethod<'static>; 4] =
        [&queue_bind, &queue_unbind, &exchange_bind, &exchange_unbind];
    for make in makers {
        let own = make("anna.a");
        assert!(anna(&node).ask(1, own)[0].ends_with("bind-ok"), "{own:?}");
        let others = make("otto.a");
        let expected = refused_topic(others.id(), Read, "otto.a");
        assert_eq!(anna(&node).ask(1, others), [expected]);
    }
    for (key, may) in [
        ("anna./.a", true),
        ("anna.v.a", false),
        ("annax./.a", false),
    ] {
        let mut client = anna(&node);
        client.publish("t", key, "m");
        let expected = refused_topic(BasicPublish::ID, Write, key);
        let expected = if may { vec![] } else { vec![expected] };
        assert_eq!(client.lines(), expected);
    }
}

/// FEATURES A7: the further keys of a message are asked for as well, and none of it is published
/// when one of them is refused.
#[test]
fn a7_more_routing_keys() {
    for name in ["CC", "BCC"] {
        let node = furnished();
        grant(&node, &[(Write, "exchange", "t")]);
        let set = node
            .broker
            .set_topic_permissions("anna", "/", "t", ["^own", ".*"]);
        set.expect("valid patterns");
        let mut owner = Client::open(&node);
        owner.bind("q", "t", "#");
        for (more, expected) in [
            ("own.2", vec![]),
            (
                "other",
                vec![refused_topic(BasicPublish::ID, Write, "other")],
            ),
        ] {
            let mut headers = Table::new();
            let keys = Value::Array(vec![Value::from(more)]);
            headers.insert(name, keys).expect("short");
            let mut encoded = Vec::new();
            headers.encode(&mut encoded).expect("short");
            let properties = BasicProperties {
                headers: Some(RawTable::parse(&encoded).expect("legal")),
                ..BasicProperties::default()
            };
            let mut bytes = Vec::new();
            publish(&mut bytes, "t", "own.1", &properties, b"m");
            let mut client = anna(&node);
            client.feed(&bytes);
            assert_eq!(client.lines(), expected, "{name} {more}");
        }
        // The first message of all is the furniture's.
        let vhost = node.broker.vhost("/").expect("it");
        assert_eq!(vhost.queue("q").expect("it").view().ready, 2, "{name}");
    }
}

/// FEATURES A7: replies are nobody's queue, so that a requester needs no permission on one; who
/// replies publishes to the default exchange.
#[test]
fn a7_direct_replies() {
    let node = furnished();
    grant(&node, &[(Write, "exchange", "x")]);
    let mut owner = Client::open(&node);
    owner.bind("q", "x", "");
    let mut client = anna(&node);
    let reply_to = "amq.rabbitmq.reply-to";
    assert_eq!(client.consume(reply_to, true), ["1 basic.consume-ok c"]);
    let properties = BasicProperties {
        reply_to: Some(reply_to.as_bytes()),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    publish(&mut bytes, "x", "", &properties, b"question");
    client.feed(&bytes);
    assert!(client.lines().is_empty());
    owner.get("q", true);
    assert_eq!(owner.get("q", true).len(), 1);
    let name = owner.reply_to.clone();
    let mut other = anna(&node);
    other.publish("", &name, "forged");
    let expected = refused(BasicPublish::ID, (Write, "exchange", "amq.default"));
    assert_eq!(other.lines(), [expected]);
    owner.publish("", &name, "answer");
    let expected = format!("1 basic.deliver c 1 '' {name} answer");
    assert_eq!(client.lines(), [expected]);
}

/// FEATURES A7: what is taken away is gone for a connection that has used it already, and what is
/// given back is there again.
#[test]
fn a7_changes_hold_for_open_connections() {
    let node = furnished();
    let all: &[Need] = &[(Write, "exchange", "t"), (Read, "queue", "q")];
    let exchange = refused(BasicPublish::ID, (Write, "exchange", "t"));
    let topic = refused_topic(BasicPublish::ID, Write, "k");
    grant(&node, all);
    let mut client = anna(&node);
    for (needs, pattern, expected) in [
        (all, ".*", None),
        (&all[1..], ".*", Some(exchange)),
        (all, ".*", None),
        (all, "^other$", Some(topic)),
        (all, "^k$", None),
    ] {
        grant(&node, needs);
        let broker = &node.broker;
        let set = broker.set_topic_permissions("anna", "/", "t", [pattern, ".*"]);
        set.expect("valid patterns");
        // The second one meets what the connection remembers of the first.
        for _ in 0..2 {
            client.publish("t", "k", "m");
            assert_eq!(client.lines(), Vec::from_iter(expected.clone()));
            if expected.is_some() {
                client.send(1, ClientMethod::ChannelCloseOk(ChannelCloseOk {}));
                let open = ClientMethod::ChannelOpen(ChannelOpen::default());
                assert_eq!(client.ask(1, open), ["1 channel.open-ok"]);
            }
        }
    }
}
