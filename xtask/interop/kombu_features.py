"""kombu, the library under Celery, with what applications build on: RabbitMQ passes it."""

import contextlib
import socket

import kombu
from kombu.mixins import ConsumerMixin
from kombu.pools import connections, producers

from checks import AMQP_PORT, DEADLINE_S, HOST, Mismatch, eventually, expect, run, unique

URL = f"pyamqp://guest:guest@{HOST}:{AMQP_PORT}//"


# Queues that a check declared: an exclusive one of kombu's goes with its last consumer.
DECLARED = []


@contextlib.contextmanager
def connected(**options):
    """A connection and its default channel; deletes the check's queues at the end."""
    with kombu.Connection(URL, **options) as connection:
        yield connection, connection.default_channel
        with connection.channel() as channel:
            while DECLARED:
                channel.queue_delete(DECLARED.pop().name)


def queue(channel, prefix="kombu", **arguments):
    """A declared queue."""
    made = kombu.Queue(unique(prefix), durable=False, channel=channel, **arguments)
    made.declare()
    DECLARED.append(made)
    return made


def take(connection, source, count, ack=True):
    """Consumes exactly so many messages."""
    taken = []
    with connection.Consumer(source, callbacks=[lambda body, message: taken.append(message)],
                             accept=["json", "pickle", "text/plain"]):
        while len(taken) < count:
            connection.drain_events(timeout=DEADLINE_S)
    if ack:
        for message in taken:
            message.ack()
    return taken


def payloads(taken):
    return [message.payload for message in taken]


def serializers_and_compression():
    with connected() as (connection, channel):
        source = queue(channel)
        value = {"list": [1, "é", None], "deep": {"yes": True}}
        producer = connection.Producer()
        for options in ({"serializer": "json"}, {"serializer": "pickle"},
                        {"serializer": "json", "compression": "zlib"}):
            producer.publish(value, routing_key=source.name, **options)
        taken = take(connection, source, 3)
        expect("values", payloads(taken), [value] * 3)
        expect("types", [message.content_type for message in taken],
               ["application/json", "application/x-python-serialize", "application/json"])


def entities_declare_themselves():
    with connected() as (connection, channel):
        exchange = kombu.Exchange(unique("media"), "topic", durable=False, auto_delete=True)
        first = kombu.Queue(unique("video"), exchange, "media.video.*", exclusive=True)
        both = kombu.Queue(unique("all"), exchange, "media.#", exclusive=True)
        producer = connection.Producer()
        first(channel).declare()
        for key in ("media.video.new", "media.audio"):
            producer.publish(key, exchange=exchange, routing_key=key, declare=[exchange, both])
        expect("video", payloads(take(connection, first, 1)), ["media.video.new"])
        expect("all", payloads(take(connection, both, 2)), ["media.video.new", "media.audio"])
        multiple = kombu.Queue(unique("many"), exclusive=True, bindings=[
            kombu.binding(exchange, "one"), kombu.binding(exchange, "two")])
        multiple(channel).declare()
        for key in ("one", "two", "three"):
            producer.publish(key, exchange=exchange, routing_key=key)
        expect("two bindings", payloads(take(connection, multiple, 2)), ["one", "two"])


def queue_options_become_arguments():
    """message_ttl, expires, max_length and max_priority, by kombu's names."""
    with connected() as (connection, channel):
        graves = queue(channel, "graves")
        bury = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graves.name}
        producer = connection.Producer()
        expiring = queue(channel, message_ttl=0.05, expires=60, queue_arguments=bury)
        producer.publish("late", routing_key=expiring.name)
        (message,) = take(connection, graves, 1)
        expect("expired", (message.payload, message.headers["x-death"][0]["reason"]),
               ("late", "expired"))
        short = queue(channel, max_length=1, queue_arguments=bury)
        for body in ("old", "new"):
            producer.publish(body, routing_key=short.name)
        expect("pushed out", payloads(take(connection, graves, 1)), ["old"])
        ordered = queue(channel, max_priority=10)
        for priority in (1, 10, 5):
            producer.publish(priority, routing_key=ordered.name, priority=priority)
        eventually("all are there", lambda: ordered.queue_declare(passive=True).message_count, 3)
        expect("order", payloads(take(connection, ordered, 3)), [10, 5, 1])
        fleeting = queue(channel)
        producer.publish("gone", routing_key=fleeting.name, expiration=0.03)
        eventually("expiration", lambda: fleeting.queue_declare(passive=True).message_count, 0)


def acknowledgements():
    with connected() as (connection, channel):
        source = queue(channel)
        producer = connection.Producer()
        for number in range(3):
            producer.publish(number, routing_key=source.name)
        first, second, third = take(connection, source, 3, ack=False)
        first.ack()
        second.reject()
        third.requeue()
        message = source.get()
        expect("again", (message.payload, message.delivery_info["redelivered"]), (2, True))
        message.ack()
        expect("empty", source.get(), None)


def rejections_are_buried():
    with connected() as (connection, channel):
        exchange = kombu.Exchange(unique("dlx"), "direct", durable=False, auto_delete=True)
        graves = queue(channel, "graves", exchange=exchange, routing_key="dead")
        source = queue(channel, queue_arguments={"x-dead-letter-exchange": exchange.name,
                                                 "x-dead-letter-routing-key": "dead"})
        connection.Producer().publish({"bad": 1}, routing_key=source.name)
        take(connection, source, 1, ack=False)[0].reject()
        (message,) = take(connection, graves, 1)
        death = message.headers["x-death"][0]
        expect("death", (message.payload, death["reason"], death["queue"], death["count"]),
               ({"bad": 1}, "rejected", source.name, 1))


def confirmed_publishing_and_returns():
    with connected(transport_options={"confirm_publish": True}) as (connection, channel):
        source = queue(channel)
        returned = []
        producer = connection.Producer(
            on_return=lambda error, exchange, key, message: returned.append(error.reply_code))
        for number in range(20):
            producer.publish(number, routing_key=source.name)
        expect("all are there", source.queue_declare(passive=True).message_count, 20)
        producer.publish("x", routing_key=unique("nowhere"), mandatory=True)
        with contextlib.suppress(socket.timeout):
            connection.drain_events(timeout=0.5)
        expect("returned", returned, [312])


def transactions():
    with connected() as (connection, channel):
        source = queue(channel)
        with connection.channel() as transacted:
            transacted.tx_select()
            producer = connection.Producer(transacted)
            producer.publish("kept", routing_key=source.name)
            expect("before the commit", source.queue_declare(passive=True).message_count, 0)
            transacted.tx_commit()
            producer.publish("lost", routing_key=source.name)
            transacted.tx_rollback()
        expect("kept", payloads(take(connection, source, 1)), ["kept"])
        expect("empty", source.get(), None)


def simple_queue_and_buffer():
    with connected() as (connection, channel):
        simple = connection.SimpleQueue(unique("simple"))
        simple.put({"number": 1})
        message = simple.get(block=True, timeout=DEADLINE_S)
        expect("payload", message.payload, {"number": 1})
        message.ack()
        try:
            simple.get(block=False)
        except simple.Empty:
            simple.close()
        else:
            raise Mismatch("the queue is not empty")
        channel.queue_delete(simple.queue.name)


def pools_and_the_consumer_mixin():
    class Worker(ConsumerMixin):
        def __init__(self, connection, source):
            self.connection, self.source, self.got = connection, source, []

        def get_consumers(self, consumer, channel):
            return [consumer(self.source, callbacks=[self.on_task], prefetch_count=1)]

        def on_task(self, body, message):
            self.got.append(body)
            message.ack()
            self.should_stop = len(self.got) == 3

    with kombu.Connection(URL) as connection:
        source = kombu.Queue(unique("mixin"), auto_delete=True)
        with producers[connection].acquire(block=True) as producer:
            for number in range(3):
                producer.publish(number, routing_key=source.name, declare=[source])
        worker = Worker(connection.clone(), source)
        worker.run()
        expect("tasks in order", worker.got, [0, 1, 2])
        connections[connection].force_close_all()


def headers_exchange_and_broadcast():
    with connected() as (connection, channel):
        exchange = kombu.Exchange(unique("headers"), "headers", durable=False, auto_delete=True)
        source = kombu.Queue(unique("matched"), exchange, exclusive=True,
                             binding_arguments={"x-match": "any", "os": "linux", "cores": 8})
        source(channel).declare()
        producer = connection.Producer()
        for number, headers in enumerate(({"os": "bsd"}, {"os": "linux"}, {"cores": 8})):
            producer.publish(number, exchange=exchange, headers=headers)
        expect("matched", payloads(take(connection, source, 2)), [1, 2])
        from kombu.common import Broadcast
        name = unique("broadcast")
        listeners = [Broadcast(name)(channel) for _ in range(2)]
        for listener in listeners:
            listener.declare()
        producer.publish("all", exchange=name)
        for listener in listeners:
            expect("each", payloads(take(connection, listener, 1)), ["all"])
        channel.exchange_delete(name)


def streams_and_quorum_queues():
    with connected() as (connection, channel):
        producer = connection.Producer()
        channel.basic_qos(0, 10, False)
        for kind, consumer_arguments in (("quorum", None), ("stream", {"x-stream-offset": 0})):
            source = kombu.Queue(unique(kind), channel=channel,
                                 consumer_arguments=consumer_arguments,
                                 queue_arguments={"x-queue-type": kind})
            source.declare()
            for number in range(3):
                producer.publish(number, routing_key=source.name)
            expect(kind, payloads(take(connection, source, 3)), [0, 1, 2])
            source.delete()


def a_lost_connection_is_made_again():
    """`ensure` opens another connection when the first one goes in the middle of a publish."""
    with connected() as (connection, channel):
        source = kombu.Queue(unique("ensured"), auto_delete=True)
        source(channel).declare()
        errors = []
        producer = connection.Producer()
        publish = connection.ensure(producer, producer.publish, max_retries=3,
                                    errback=lambda error, interval: errors.append(error))
        connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        publish("survives", routing_key=source.name)
        expect("one error", len(errors), 1)
        expect("payload", payloads(take(connection, source, 1)), ["survives"])


if __name__ == "__main__":
    run(
        [
            serializers_and_compression,
            entities_declare_themselves,
            queue_options_become_arguments,
            acknowledgements,
            rejections_are_buried,
            confirmed_publishing_and_returns,
            transactions,
            simple_queue_and_buffer,
            pools_and_the_consumer_mixin,
            headers_exchange_and_broadcast,
            streams_and_quorum_queues,
            a_lost_connection_is_made_again,
        ],
        go_on=True,
    )
