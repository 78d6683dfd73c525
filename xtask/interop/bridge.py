"""pika on one side, paho on the other: topics, QoS, properties and headers across the bridge."""

import contextlib

import pika

from checks import Mqtt, amqp, expect, properties, run, take, unique

TOPIC_EXCHANGE = "amq.topic"


@contextlib.contextmanager
def bound(*keys):
    """A channel and an exclusive queue bound to `amq.topic` by the keys."""
    with amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        name = channel.queue_declare("", exclusive=True).method.queue
        for key in keys:
            channel.queue_bind(name, TOPIC_EXCHANGE, key)
        yield channel, name


def to_amqp(keys, publish, count=1, version="5"):
    """What a queue bound by `keys` gets from what `publish` does with a client."""
    with bound(*keys) as (channel, name), Mqtt(version=version) as client:
        publish(client)
        return take(channel, name, count)


def to_mqtt(topic_filter, publish, count=1, version="5", qos=1):
    """What a subscriber gets from what `publish` does with a confirming channel."""
    with amqp() as connection, Mqtt(version=version) as client:
        client.subscribe(topic_filter, qos)
        channel = connection.channel()
        channel.confirm_delivery()
        publish(channel)
        return [client.receive() for _ in range(count)]


def mqtt_topic_becomes_routing_key():
    for version in ("3.1", "3.1.1", "5"):
        (method, _, body), *_ = to_amqp(
            ["cities.london"], lambda c: c.publish("cities/london", b"rain", 1), version=version
        )
        expect(version, (method.exchange, method.routing_key, body),
               (TOPIC_EXCHANGE, "cities.london", b"rain"))


def routing_key_becomes_mqtt_topic():
    for version in ("3.1", "3.1.1", "5"):
        message, *_ = to_mqtt(
            "cities/london",
            lambda c: c.basic_publish(TOPIC_EXCHANGE, "cities.london", b"rain"),
            version=version,
        )
        expect(version, (message.topic, message.payload, message.retain),
               ("cities/london", b"rain", False))


def empty_levels_are_kept():
    root = unique("e")
    topics = [f"/{root}", f"{root}//x", f"{root}/"]
    keys = [f".{root}", f"{root}..x", f"{root}."]
    got = to_amqp(keys, lambda c: [c.publish(topic, b"", 1) for topic in topics], 3)
    expect("keys", [method.routing_key for method, _, _ in got], keys)
    for topic, key in zip(topics, keys):
        message, *_ = to_mqtt(topic, lambda c: c.basic_publish(TOPIC_EXCHANGE, key, b"x"))
        expect("topic", message.topic, topic)


def amqp_wildcards_on_mqtt_topics():
    root = unique("w")
    topics = [f"{root}/a", f"{root}/a/b", f"{root}/a/b/c", root]
    cases = {
        f"{root}.*": [f"{root}.a"],
        f"{root}.#": [f"{root}.a", f"{root}.a.b", f"{root}.a.b.c", root],
        f"{root}.*.b": [f"{root}.a.b"],
        f"{root}.#.c": [f"{root}.a.b.c"],
    }
    for binding, want in cases.items():
        got = to_amqp(
            [binding, f"end-{root}"],
            lambda c: [c.publish(topic, b"", 1) for topic in (*topics, f"end-{root}")],
            len(want) + 1,
        )
        expect(binding, [method.routing_key for method, _, _ in got], [*want, f"end-{root}"])


def mqtt_wildcards_on_routing_keys():
    root = unique("w")
    keys = [f"{root}.a", f"{root}.a.b", f"{root}.a.b.c", root]
    cases = {
        f"{root}/+": [f"{root}/a"],
        f"{root}/#": [f"{root}/a", f"{root}/a/b", f"{root}/a/b/c", root],
        f"{root}/+/b": [f"{root}/a/b"],
    }
    for topic_filter, want in cases.items():
        got = to_mqtt(
            topic_filter,
            lambda c: [c.basic_publish(TOPIC_EXCHANGE, key, b"") for key in keys],
            len(want),
        )
        expect(topic_filter, [message.topic for message in got], want)


def qos_becomes_delivery_mode():
    topic = unique("qos")
    for version in ("3.1", "3.1.1", "5"):
        got = to_amqp(
            [topic],
            lambda c: [c.publish(topic, str(qos).encode(), qos) for qos in (0, 1)],
            2,
            version,
        )
        expect(version, [(body, p.delivery_mode) for _, p, body in got], [(b"0", 1), (b"1", 2)])


def qos_2_becomes_delivery_mode_2_once():
    topic = unique("qos2")
    for version in ("3.1", "3.1.1", "5"):
        got = to_amqp(
            [topic], lambda c: [c.publish(topic, body, 2) for body in (b"a", b"b")], 2, version
        )
        expect(version, [(body, p.delivery_mode) for _, p, body in got], [(b"a", 2), (b"b", 2)])


def delivery_mode_becomes_qos():
    topic = unique("mode")
    modes = {"absent": (None, 0), "transient": (1, 0), "persistent": (2, 1)}
    for version in ("3.1", "3.1.1", "5"):
        for name, (mode, want) in modes.items():
            for subscribed in (0, 1):
                message, *_ = to_mqtt(
                    topic,
                    lambda c: c.basic_publish(TOPIC_EXCHANGE, topic, b"",
                                              pika.BasicProperties(delivery_mode=mode)),
                    version=version,
                    qos=subscribed,
                )
                expect(f"{version} {name} at {subscribed}", message.qos, min(want, subscribed))


def mqtt_properties_become_basic_properties():
    topic = unique("props")
    sent = properties(
        "PUBLISH",
        ContentType="text/plain",
        CorrelationData=b"call-1",
        ResponseTopic="replies/here",
        MessageExpiryInterval=60,
        PayloadFormatIndicator=1,
        UserProperty=[("colour", "red"), ("b\u00e9b\u00e9", "\u00e9")],
    )
    (_, got, body), *_ = to_amqp([topic], lambda c: c.publish(topic, b"body", 1, sent=sent))
    expect("body", body, b"body")
    expect("content_type", got.content_type, "text/plain")
    expect("correlation_id", got.correlation_id, "call-1")
    expect("expiration", got.expiration, "60000")
    expect("delivery_mode", got.delivery_mode, 2)
    headers = got.headers
    expect("x-reply-to-topic", headers.get("x-reply-to-topic"), "replies.here")
    expect("colour", headers.get("colour"), "red")
    expect("b\u00e9b\u00e9", headers.get("b\u00e9b\u00e9"), "\u00e9")


def unfit_mqtt_properties():
    """A content type beyond ASCII is dropped, correlation data that is no text is a header."""
    topic = unique("unfit")
    sent = properties("PUBLISH", ContentType="t\u00e9xt", CorrelationData=b"\xff\x00")
    (_, got, _), *_ = to_amqp([topic], lambda c: c.publish(topic, b"", 1, sent=sent))
    expect("content_type", got.content_type, None)
    expect("correlation_id", got.correlation_id, None)
    expect("x-correlation-id", got.headers.get("x-correlation-id"), b"\xff\x00")


def basic_properties_become_mqtt_properties():
    topic = unique("props")
    headers = {
        "text": "red", "int": -5, "long": 2**40, "yes": True, "no": False, "void": None,
        "list": ["dropped"], "table": {"dropped": 1}, "x-reply-to-topic": "replies.here",
    }
    sent = pika.BasicProperties(
        content_type="text/plain", correlation_id="call-1", delivery_mode=2, headers=headers,
        expiration="60000", message_id="lost", app_id="lost", type="lost",
    )
    message, *_ = to_mqtt(
        topic, lambda c: c.basic_publish(TOPIC_EXCHANGE, topic, b"body", sent)
    )
    got = message.properties
    expect("body", message.payload, b"body")
    expect("ContentType", got.ContentType, "text/plain")
    expect("CorrelationData", got.CorrelationData, b"call-1")
    expect("ResponseTopic", got.ResponseTopic, "replies/here")
    expect("MessageExpiryInterval", got.MessageExpiryInterval in (59, 60), True)
    want = [("text", "red"), ("int", "-5"), ("long", str(2**40)), ("yes", "true"),
            ("no", "false"), ("void", "")]
    expect("UserProperty", [pair for pair in got.UserProperty if pair[0] in headers], want)


def correlation_header_becomes_correlation_data():
    topic = unique("corr")
    sent = pika.BasicProperties(headers={"x-correlation-id": "from-header"})
    message, *_ = to_mqtt(topic, lambda c: c.basic_publish(TOPIC_EXCHANGE, topic, b"", sent))
    expect("CorrelationData", message.properties.CorrelationData, b"from-header")


def request_from_mqtt_answered_by_amqp():
    requests, replies = unique("req"), unique("rep")
    with bound(requests) as (channel, name), Mqtt() as client:
        client.subscribe(f"{replies}/me", 1)
        sent = properties("PUBLISH", ResponseTopic=f"{replies}/me", CorrelationData=b"7")
        client.publish(requests, b"21", 1, sent=sent)
        (_, asked, body), *_ = take(channel, name, 1)
        channel.basic_publish(
            TOPIC_EXCHANGE, asked.headers["x-reply-to-topic"], str(int(body) * 2).encode(),
            pika.BasicProperties(correlation_id=asked.correlation_id, delivery_mode=2),
        )
        answer = client.receive()
        expect("answer", (answer.topic, answer.payload, answer.properties.CorrelationData),
               (f"{replies}/me", b"42", b"7"))


def messages_say_who_published_them():
    topic = unique("who")
    sent = properties("PUBLISH", UserProperty=[("X-MQTT-Client-Id", "root"), ("mine", "kept")])
    with bound(topic) as (channel, name), Mqtt() as client:
        client.publish(topic, b"", 1, sent=sent)
        (_, got, _), *_ = take(channel, name, 1)
        channel.basic_publish(TOPIC_EXCHANGE, topic, b"", pika.BasicProperties(
            headers={"x-mqtt-client-id": "root", "mine": "kept"}))
        (_, forged, _), *_ = take(channel, name, 1)
    said = got.headers
    expect("client id", said.get("x-mqtt-client-id"), client.client_id)
    expect("user", (said.get("x-mqtt-username"), got.user_id), ("guest", "guest"))
    expect("QoS and RETAIN", (said.get("x-mqtt-qos"), said.get("x-mqtt-retain")), (1, False))
    expect("topic", said.get("x-mqtt-topic"), topic)
    expect("by MQTT", (said.get("X-MQTT-Client-Id"), said.get("mine")), (None, "kept"))
    expect("by AMQP", forged.headers, {"mine": "kept"})


def request_from_mqtt_answered_to_reply_to():
    requests, replies = unique("req"), unique("rep")
    with bound(requests) as (channel, name), Mqtt() as client:
        client.subscribe(f"{replies}/me", 1)
        sent = properties("PUBLISH", ResponseTopic=f"{replies}/me", CorrelationData=b"7")
        client.publish(requests, b"21", 1, sent=sent)
        (_, asked, _), *_ = take(channel, name, 1)
        channel.basic_publish("", asked.reply_to, b"42", pika.BasicProperties(
            correlation_id=asked.correlation_id, delivery_mode=2))
        answer = client.receive()
        expect("answer", (answer.topic, answer.payload, answer.properties.CorrelationData),
               (f"{replies}/me", b"42", b"7"))


def request_from_amqp_answered_by_mqtt():
    requests = unique("req")
    with bound() as (channel, name), Mqtt() as service:
        service.subscribe(requests, 1)
        channel.basic_publish(TOPIC_EXCHANGE, requests, b"21", pika.BasicProperties(
            reply_to=name, correlation_id="7"))
        asked = service.receive()
        expect("ResponseTopic", asked.properties.ResponseTopic, f"$amqp/reply-to/{name}")
        sent = properties("PUBLISH", CorrelationData=asked.properties.CorrelationData)
        service.publish(asked.properties.ResponseTopic, b"42", 1, sent=sent)
        (_, answer, body), *_ = take(channel, name, 1)
        expect("answer", (body, answer.correlation_id), (b"42", "7"))


def amqp_bindings_reach_a_subscription_queue():
    """The queue of a subscription is a queue: AMQP can bind another key to it."""
    topic, extra = unique("queue"), unique("extra")
    with amqp() as connection, Mqtt(version="3.1.1") as client:
        client.subscribe(topic, 1)
        channel = connection.channel()
        channel.confirm_delivery()
        name = f"mqtt-subscription-{client.client_id}qos1"
        expect("consumers", channel.queue_declare(name, passive=True).method.consumer_count, 1)
        channel.queue_bind(name, TOPIC_EXCHANGE, extra)
        channel.basic_publish(TOPIC_EXCHANGE, extra, b"by key",
                              pika.BasicProperties(delivery_mode=2))
        channel.basic_publish("", name, b"by name", pika.BasicProperties(delivery_mode=2))
        expect("by key", (client.receive().payload), b"by key")
        expect("by name", (client.receive().payload), b"by name")


def amqp_consumes_an_offline_session():
    topic = unique("offline")
    device = Mqtt(unique("dev"), version="3.1.1", clean=False).open()
    device.subscribe(topic, 1)
    device.close()
    with Mqtt(version="3.1.1") as publisher:
        for body in (b"1", b"2"):
            publisher.publish(topic, body, 1)
    with amqp() as connection:
        channel = connection.channel()
        name = f"mqtt-subscription-{device.client_id}qos1"
        expect("kept", [body for _, _, body in take(channel, name, 2)], [b"1", b"2"])
    Mqtt(device.client_id, version="3.1.1", clean=True).open().close()


if __name__ == "__main__":
    run(
        [
            mqtt_topic_becomes_routing_key,
            routing_key_becomes_mqtt_topic,
            empty_levels_are_kept,
            amqp_wildcards_on_mqtt_topics,
            mqtt_wildcards_on_routing_keys,
            qos_becomes_delivery_mode,
            qos_2_becomes_delivery_mode_2_once,
            delivery_mode_becomes_qos,
            mqtt_properties_become_basic_properties,
            unfit_mqtt_properties,
            basic_properties_become_mqtt_properties,
            correlation_header_becomes_correlation_data,
            request_from_mqtt_answered_by_amqp,
            messages_say_who_published_them,
            request_from_mqtt_answered_to_reply_to,
            request_from_amqp_answered_by_mqtt,
            amqp_bindings_reach_a_subscription_queue,
            amqp_consumes_an_offline_session,
        ]
    )
