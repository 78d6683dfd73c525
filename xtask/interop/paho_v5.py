"""MQTT 5.0 as paho-mqtt sees it: properties, options, reason codes."""

import time

from paho.mqtt.subscribeoptions import SubscribeOptions

from checks import DEADLINE_S, Mqtt, expect, expect_in, properties, run, unique


def pairs(message):
    """The user properties of a message."""
    return getattr(message.properties, "UserProperty", [])


def connack_properties():
    with Mqtt("") as client:
        expect("Assigned Client Identifier", len(client.connack.AssignedClientIdentifier) > 0, True)
        expect("Maximum QoS is not limited", hasattr(client.connack, "MaximumQoS"), False)
        topic_alias_max = getattr(client.connack, "TopicAliasMaximum", 0)
        expect("Topic Alias Maximum", topic_alias_max > 0, True)


def publish_properties_travel():
    topic = unique("props")
    sent = properties(
        "PUBLISH",
        ContentType="text/plain",
        CorrelationData=b"\x00\xff",
        ResponseTopic="reply/to",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=100,
        UserProperty=[("b", "1"), ("a", "2"), ("b", "3")],
    )
    with Mqtt() as client:
        client.subscribe(topic, 1)
        client.publish(topic, b"body", 1, sent=sent)
        got = client.receive().properties
        expect("Content Type", got.ContentType, "text/plain")
        expect("Correlation Data", got.CorrelationData, b"\x00\xff")
        expect("Response Topic", got.ResponseTopic, "reply/to")
        expect("Payload Format Indicator", got.PayloadFormatIndicator, 1)
        expect("Message Expiry Interval", got.MessageExpiryInterval in (99, 100), True)
        expect("User Property, order and repeats kept", got.UserProperty,
               [("b", "1"), ("a", "2"), ("b", "3")])


def all_qualities_of_service():
    topic = unique("qos")
    with Mqtt() as client:
        client.subscribe(topic, 1)
        for qos in (0, 1, 2):
            expect(f"reason of QoS {qos}", client.publish(topic, str(qos).encode(), qos), 0)
        got = [(m.payload, m.qos) for m in client.receive_until(b"2")]
        expect("delivered", got, [(b"0", 0), (b"1", 1), (b"2", 1)])


def no_matching_subscribers():
    with Mqtt() as client:
        expect("PUBACK", client.publish(unique("nobody"), b"", 1), 0x10)


def unsubscribe_codes():
    topic = unique("unsub")
    with Mqtt() as client:
        client.subscribe(topic, 1)
        expect("held", client.unsubscribe(topic), 0)
        expect("not held", client.unsubscribe(topic), 0x11)
        client.publish(topic, b"unseen", 1)
        client.subscribe(topic, 1)
        client.publish(topic, b"seen", 1)
        expect("after", client.receive().payload, b"seen")


def subscription_identifiers():
    root = unique("subid")
    with Mqtt() as client:
        client.subscribe(f"{root}/+", 1, sent=properties("SUBSCRIBE", SubscriptionIdentifier=7))
        client.publish(f"{root}/a", b"", 1)
        expect("identifier", client.receive().properties.SubscriptionIdentifier, [7])


def no_local():
    topic = unique("nolocal")
    with Mqtt() as client, Mqtt() as other:
        client.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True))
        client.publish(topic, b"mine", 1)
        other.publish(topic, b"theirs", 1)
        expect("only the other's", client.receive().payload, b"theirs")


def retain_as_published():
    topic = unique("rap")
    for kept in (True, False):
        with Mqtt() as client:
            client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=kept))
            client.publish(topic, b"x", 1, retain=True)
            expect(f"retain flag, {kept}", client.receive().retain, kept)
            client.publish(topic, b"", 1, retain=True)


def retain_handling():
    topic = unique("rh")
    with Mqtt() as client:
        client.publish(topic, b"kept", 1, retain=True)
    cases = {0: [b"kept", b"kept", b"end"], 1: [b"kept", b"end"], 2: [b"end"]}
    for handling, want in cases.items():
        with Mqtt() as client:
            options = SubscribeOptions(qos=1, retainHandling=handling)
            client.subscribe(topic, options=options)
            client.subscribe(topic, options=options)
            client.publish(topic, b"end", 1)
            got = [m.payload for m in client.receive_until(b"end")]
            expect(f"retain handling {handling}", got, want)
    with Mqtt() as client:
        client.publish(topic, b"", 1, retain=True)


def topic_alias_towards_the_broker():
    topic = unique("alias")
    with Mqtt() as client:
        client.subscribe(topic, 1)
        client.publish(topic, b"named", 1, sent=properties("PUBLISH", TopicAlias=1))
        # paho refuses an empty topic, so the alias is only set and then used beside the name.
        client.publish(topic, b"again", 1, sent=properties("PUBLISH", TopicAlias=1))
        got = [(m.topic, m.payload) for m in client.receive_until(b"again")]
        expect("delivered", got, [(topic, b"named"), (topic, b"again")])


def message_expiry_counts_down_offline():
    topic = unique("mei")
    keep = properties("CONNECT", SessionExpiryInterval=60)
    device = Mqtt(unique("dev"), connect=keep).open()
    device.subscribe(topic, 1)
    device.close()
    with Mqtt() as publisher:
        for expiry_s, body in ((1, b"short"), (100, b"long")):
            publisher.publish(topic, body, 1,
                              sent=properties("PUBLISH", MessageExpiryInterval=expiry_s))
    time.sleep(2.2)
    with Mqtt(device.client_id, clean=False, connect=keep) as again:
        message = again.receive()
        expect("the short one expired", message.payload, b"long")
        expect("counted down", 90 <= message.properties.MessageExpiryInterval <= 98, True)
    Mqtt(device.client_id).open().close()


def session_taken_over():
    client_id = unique("takeover")
    first = Mqtt(client_id).open()
    with Mqtt(client_id):
        code, _ = first.closed.get(timeout=DEADLINE_S)
        expect("reason", code.value, 0x8E)


def will_properties_and_delay():
    topic = unique("will")
    will = {"topic": topic, "payload": b"gone", "qos": 1,
            "properties": properties("WILLMESSAGE", ContentType="text/plain",
                                     UserProperty=[("k", "v")], WillDelayInterval=1)}
    with Mqtt() as watcher:
        watcher.subscribe(topic, 1)
        keep = properties("CONNECT", SessionExpiryInterval=60)
        device = Mqtt(unique("dev"), will=will, connect=keep).open()
        device.drop()
        with Mqtt() as other:
            other.publish(topic, b"before", 1)
        expect("delayed", watcher.receive().payload, b"before")
        message = watcher.receive()
        expect("will", (message.payload, message.properties.ContentType, pairs(message)),
               (b"gone", "text/plain", [("k", "v")]))
    Mqtt(device.client_id).open().close()


def will_delay_ends_with_the_reconnect():
    topic = unique("will")
    will = {"topic": topic, "payload": b"gone", "qos": 1,
            "properties": properties("WILLMESSAGE", WillDelayInterval=2)}
    keep = properties("CONNECT", SessionExpiryInterval=60)
    with Mqtt() as watcher:
        watcher.subscribe(topic, 1)
        device = Mqtt(unique("dev"), will=will, connect=keep).open()
        device.drop()
        with Mqtt(device.client_id, clean=False, connect=keep) as again:
            time.sleep(3)
            again.publish(topic, b"end", 1)
            got = [m.payload for m in watcher.receive_until(b"end")]
        expect("no will", got, [b"end"])
    Mqtt(device.client_id).open().close()


def receive_maximum_is_respected():
    topic = unique("window")
    small = properties("CONNECT", ReceiveMaximum=2)
    with Mqtt(connect=small) as client, Mqtt() as publisher:
        client.client.manual_ack_set(True)
        client.subscribe(topic, 1)
        for number in range(5):
            publisher.publish(topic, str(number).encode(), 1)
        got = [client.receive(), client.receive()]
        # The SUBACK is behind anything that was sent before it.
        client.subscribe(unique("fence"), 0)
        expect("no more than the window", client.messages.empty(), True)
        for message in got:
            client.client.ack(message.mid, message.qos)
        got += [client.receive(), client.receive()]
        for message in got[2:]:
            client.client.ack(message.mid, message.qos)
        got.append(client.receive())
        expect("all, in order", [m.payload for m in got], [b"0", b"1", b"2", b"3", b"4"])


def maximum_packet_size_is_respected():
    topic = unique("size")
    small = properties("CONNECT", MaximumPacketSize=200)
    with Mqtt(connect=small) as client, Mqtt() as publisher:
        client.subscribe(topic, 1)
        publisher.publish(topic, b"x" * 300, 1)
        publisher.publish(topic, b"fits", 1)
        expect("the large one is left out", client.receive().payload, b"fits")


def shared_subscription():
    topic = unique("share")
    with Mqtt() as one, Mqtt() as two, Mqtt() as publisher:
        for worker in (one, two):
            expect("granted", worker.subscribe(f"$share/workers/{topic}", 1), 1)
        for number in range(20):
            publisher.publish(topic, str(number).encode(), 1)
        got = []
        while len(got) < 20:
            for worker in (one, two):
                while not worker.messages.empty():
                    got.append(worker.receive().payload)
            time.sleep(0.01)
        expect("each message once", sorted(got, key=int),
               [str(number).encode() for number in range(20)])
        publisher.publish(topic, b"last", 1)


def bad_password_is_refused():
    client = Mqtt()
    client.client.username_pw_set("guest", "wrong")
    try:
        client.open()
    except Exception as error:  # noqa: BLE001 - the text is what is checked
        expect_in("reason", "refused", str(error))
    else:
        expect("connected", True, False)


if __name__ == "__main__":
    run(
        [
            connack_properties,
            publish_properties_travel,
            all_qualities_of_service,
            no_matching_subscribers,
            unsubscribe_codes,
            subscription_identifiers,
            no_local,
            retain_as_published,
            retain_handling,
            topic_alias_towards_the_broker,
            message_expiry_counts_down_offline,
            session_taken_over,
            will_properties_and_delay,
            will_delay_ends_with_the_reconnect,
            receive_maximum_is_respected,
            maximum_packet_size_is_respected,
            shared_subscription,
            bad_password_is_refused,
        ]
    )
