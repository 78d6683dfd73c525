"""aiomqtt, in all versions of MQTT: nothing here is about Leveret, mosquitto passes it as well."""

import asyncio
import itertools

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from checks import DEADLINE_S, HOST, MQTT_PORT, expect, properties, run, unique

VERSIONS = [aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5]
V5 = aiomqtt.ProtocolVersion.V5


def client(version=V5, name="aiomqtt", **options):
    """A client whose session ends with its connection."""
    return aiomqtt.Client(
        HOST,
        MQTT_PORT,
        protocol=version,
        identifier=options.pop("identifier", None) or unique(name),
        timeout=DEADLINE_S,
        **options,
    )


def check(body):
    """A coroutine as a check, at most for the deadline."""

    def bounded():
        async def within():
            await asyncio.wait_for(body(), 2 * DEADLINE_S)

        asyncio.run(within())

    bounded.__name__ = body.__name__
    return bounded


async def take(reader, count):
    """The next messages."""
    got = []
    async for message in reader.messages:
        got.append(message)
        if len(got) == count:
            return got


@check
async def all_qualities_of_service_in_order():
    for version, qos in itertools.product(VERSIONS, [0, 1, 2]):
        topic = unique("qos")
        async with client(version) as reader, client(version) as writer:
            await reader.subscribe(topic, qos=2)
            for number in range(30):
                await writer.publish(topic, str(number), qos=qos)
            got = [int(message.payload) for message in await take(reader, 30)]
            expect(f"order, {version.name}, QoS {qos}", got, list(range(30)))


@check
async def retained_by_wildcards():
    for version in VERSIONS:
        root = unique("kept")
        async with client(version) as writer:
            for leaf in ("b", "a", "a/c"):
                await writer.publish(f"{root}/{leaf}", leaf, qos=1, retain=True)
            async with client(version) as reader:
                await reader.subscribe(f"{root}/#", qos=1)
                got = sorted(message.payload for message in await take(reader, 3))
                expect(f"replayed, {version.name}", got, [b"a", b"a/c", b"b"])
            for leaf in ("b", "a", "a/c"):
                await writer.publish(f"{root}/{leaf}", b"", qos=1, retain=True)


@check
async def will_of_a_client_that_is_taken_over():
    for version in VERSIONS:
        topic, identifier = unique("will"), unique("taken")
        async with client(version) as reader:
            await reader.subscribe(topic, qos=1)
            first = client(version, identifier=identifier, will=aiomqtt.Will(topic, b"gone", qos=1))
            await first.__aenter__()
            async with client(version, identifier=identifier):
                [message] = await take(reader, 1)
                expect(f"will, {version.name}", message.payload, b"gone")
            try:
                await first.__aexit__(None, None, None)
            except aiomqtt.MqttError:
                pass  # It was closed by the broker.


@check
async def a_session_keeps_its_messages():
    for version in VERSIONS[:2]:
        topic, identifier = unique("session"), unique("stays")
        kept = {"identifier": identifier, "clean_session": False}
        async with client(version, **kept) as reader:
            await reader.subscribe(topic, qos=1)
        async with client(version) as writer:
            for number in range(5):
                await writer.publish(topic, str(number), qos=1)
        async with client(version, **kept) as reader:
            got = [message.payload for message in await take(reader, 5)]
            expect(f"kept, {version.name}", got, [b"0", b"1", b"2", b"3", b"4"])
        async with client(version, identifier=identifier, clean_session=True):
            pass


@check
async def properties_travel():
    topic = unique("properties")
    async with client() as reader, client() as writer:
        await reader.subscribe(topic, qos=1, properties=properties("SUBSCRIBE",
                                                                  SubscriptionIdentifier=9))
        sent = properties("PUBLISH", ContentType="text/plain", CorrelationData=b"\x00\xff",
                          ResponseTopic="answers", PayloadFormatIndicator=1,
                          UserProperty=[("a", "1"), ("b", "2"), ("a", "3")])
        await writer.publish(topic, "text", qos=1, properties=sent)
        [message] = await take(reader, 1)
        got = message.properties
        expect("User Property", got.UserProperty, [("a", "1"), ("b", "2"), ("a", "3")])
        expect("the others",
               (got.ContentType, got.CorrelationData, got.ResponseTopic,
                got.PayloadFormatIndicator, got.SubscriptionIdentifier),
               ("text/plain", b"\x00\xff", "answers", 1, [9]))


@check
async def no_local_and_retain_as_published():
    topic = unique("options")
    async with client() as one, client() as other:
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
        await one.subscribe(topic, options=options)
        await one.publish(topic, b"mine", qos=1)
        await other.publish(topic, b"theirs", qos=1, retain=True)
        [message] = await take(one, 1)
        expect("only theirs", (message.payload, message.retain), (b"theirs", True))
        await other.publish(topic, b"", qos=1, retain=True)


@check
async def members_share_messages():
    topic = unique("shared")
    async with client() as a, client() as b, client() as writer:
        for member in (a, b):
            await member.subscribe(f"$share/group/{topic}", qos=1)
            await member.subscribe(f"{topic}/end", qos=1)
        for number in range(20):
            await writer.publish(topic, str(number), qos=1)
        await writer.publish(f"{topic}/end", b"", qos=1)
        got = []
        for member in (a, b):
            own = []
            async for message in member.messages:
                if str(message.topic) == f"{topic}/end":
                    break
                own.append(int(message.payload))
            expect("a member's share is not empty and in order", (own != [], own),
                   (True, sorted(own)))
            got += own
        expect("each once", sorted(got), list(range(20)))


@check
async def many_topics_in_one_subscription():
    topics = [unique("many") for _ in range(40)]
    async with client() as reader, client() as writer:
        granted = await reader.subscribe([(topic, 1) for topic in topics])
        expect("granted", [code.value for code in granted], [1] * 40)
        for topic in topics:
            await writer.publish(topic, topic, qos=1)
        got = [str(message.topic) for message in await take(reader, 40)]
        expect("all, in order", got, topics)


run([
    all_qualities_of_service_in_order,
    retained_by_wildcards,
    will_of_a_client_that_is_taken_over,
    a_session_keeps_its_messages,
    properties_travel,
    no_local_and_retain_as_published,
    members_share_messages,
    many_topics_in_one_subscription,
])
