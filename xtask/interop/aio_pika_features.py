"""aio-pika, the asyncio client of Python, with what applications build on: RabbitMQ passes it."""

import asyncio
import contextlib
import functools

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.patterns import RPC, Master

from checks import AMQP_PORT, DEADLINE_S, HOST, Mismatch, expect, run, unique

URL = f"amqp://guest:guest@{HOST}:{AMQP_PORT}/"


def asynchronous(check):
    """A check that runs in an event loop of its own, at most for four deadlines."""
    @functools.wraps(check)
    def whole():
        asyncio.run(asyncio.wait_for(check(), 4 * DEADLINE_S))

    return whole


@contextlib.asynccontextmanager
async def channel(robust=False, **arguments):
    """A channel of a connection of its own."""
    connect = aio_pika.connect_robust if robust else aio_pika.connect
    async with await connect(URL) as connection:
        yield await connection.channel(**arguments)


async def take(queue, count, ack=True):
    """Consumes exactly so many messages."""
    taken = []
    async with queue.iterator(no_ack=False, timeout=DEADLINE_S) as messages:
        async for message in messages:
            taken.append(message)
            if ack:
                await message.ack()
            if len(taken) == count:
                break
    return taken


def bodies(taken):
    return [message.body for message in taken]


@asynchronous
async def topics_and_properties():
    async with channel() as opened:
        exchange = await opened.declare_exchange(unique("topics"), ExchangeType.TOPIC,
                                                 auto_delete=True)
        queue = await opened.declare_queue(exclusive=True)
        await queue.bind(exchange, "stock.*.eu")
        for key in ("stock.corn.eu", "stock.corn.us"):
            await exchange.publish(Message(
                b"1.5", content_type="text/plain", correlation_id="c", message_id="m",
                app_id="a", type="t", priority=3, delivery_mode=DeliveryMode.PERSISTENT,
                headers={"deep": {"list": [1, "two", 3.5, None, True]},
                         "bytes": bytearray(b"\x00")}), key)
        (message,) = await take(queue, 1)
        expect("key", message.routing_key, "stock.corn.eu")
        expect("properties", (message.content_type, message.correlation_id, message.message_id,
                              message.app_id, message.type, message.priority),
               ("text/plain", "c", "m", "a", "t", 3))
        expect("headers", message.headers,
               {"deep": {"list": [1, "two", 3.5, None, True]}, "bytes": bytearray(b"\x00")})


@asynchronous
async def transactions():
    async with channel(publisher_confirms=False) as opened, channel() as other:
        queue = await opened.declare_queue(unique("tx"))
        async with opened.transaction():
            for number in range(3):
                await opened.default_exchange.publish(Message(b"%d" % number), queue.name)
        seen = await other.declare_queue(queue.name, passive=True)
        expect("committed", seen.declaration_result.message_count, 3)
        with contextlib.suppress(ValueError):
            async with opened.transaction():
                await opened.default_exchange.publish(Message(b"never"), queue.name)
                raise ValueError
        expect("rolled back", bodies(await take(queue, 3)), [b"0", b"1", b"2"])
        expect("empty", await queue.get(fail=False), None)
        await queue.delete()


@asynchronous
async def returned_messages_raise():
    async with channel(on_return_raises=True) as opened:
        try:
            await opened.default_exchange.publish(Message(b"x"), unique("nowhere"))
        except aio_pika.exceptions.DeliveryError as error:
            expect("return", (error.message.delivery.reply_code, error.message.body),
                   (312, b"x"))
        else:
            raise Mismatch("the message was not returned")


@asynchronous
async def a_full_queue_refuses():
    async with channel() as opened:
        queue = await opened.declare_queue(exclusive=True, arguments={
            "x-max-length": 1, "x-overflow": "reject-publish"})
        await opened.default_exchange.publish(Message(b"fits"), queue.name)
        try:
            await opened.default_exchange.publish(Message(b"not"), queue.name)
        except aio_pika.exceptions.DeliveryError:
            expect("kept", bodies(await take(queue, 1)), [b"fits"])
        else:
            raise Mismatch("the second message was confirmed")


@asynchronous
async def dead_letters():
    async with channel() as opened:
        exchange = await opened.declare_exchange(unique("graves"), ExchangeType.DIRECT,
                                                 auto_delete=True)
        graves = await opened.declare_queue(exclusive=True)
        await graves.bind(exchange, "dead")
        queue = await opened.declare_queue(exclusive=True, arguments={
            "x-dead-letter-exchange": exchange.name, "x-dead-letter-routing-key": "dead"})
        await opened.default_exchange.publish(Message(b"bad"), queue.name)
        (message,) = await take(queue, 1, ack=False)
        await message.reject(requeue=False)
        (message,) = await take(graves, 1)
        death = message.headers["x-death"][0]
        expect("death", (message.body, death["reason"], death["queue"], death["count"],
                         death["routing-keys"]), (b"bad", "rejected", queue.name, 1, [queue.name]))


@asynchronous
async def process_context_requeues_and_rejects():
    async with channel() as opened:
        queue = await opened.declare_queue(exclusive=True)
        await opened.default_exchange.publish(Message(b"x"), queue.name)
        message = await queue.get(timeout=DEADLINE_S)
        with contextlib.suppress(ValueError):
            async with message.process(requeue=True):
                raise ValueError
        message = await queue.get(timeout=DEADLINE_S)
        expect("redelivered", message.redelivered, True)
        with contextlib.suppress(ValueError):
            async with message.process(requeue=True, reject_on_redelivered=True):
                raise ValueError
        expect("gone", await queue.get(fail=False), None)


@asynchronous
async def priorities_and_prefetch():
    async with channel() as opened:
        queue = await opened.declare_queue(exclusive=True, arguments={"x-max-priority": 9})
        for priority in (1, 9, 5):
            await opened.default_exchange.publish(
                Message(b"%d" % priority, priority=priority), queue.name)
        await opened.set_qos(prefetch_count=1)
        expect("order", bodies(await take(queue, 3)), [b"9", b"5", b"1"])


@asynchronous
async def headers_exchange():
    async with channel() as opened:
        exchange = await opened.declare_exchange(unique("headers"), ExchangeType.HEADERS,
                                                 auto_delete=True)
        queue = await opened.declare_queue(exclusive=True)
        await queue.bind(exchange, arguments={"x-match": "all", "os": "linux", "cores": 8})
        for body, headers in ((b"yes", {"os": "linux", "cores": 8, "more": 1}),
                              (b"no", {"os": "linux"}), (b"end", {"os": "linux", "cores": 8})):
            with contextlib.suppress(aio_pika.exceptions.DeliveryError):
                await exchange.publish(Message(body, headers=headers), "")
        expect("matching", bodies(await take(queue, 2)), [b"yes", b"end"])


@asynchronous
async def rpc_pattern():
    """Uses an exclusive reply queue, a dead-letter exchange and expirations."""
    async def multiply(*, x, y):
        return x * y

    async def fails():
        raise KeyError("nothing")

    async with channel() as server, channel() as client:
        prefix = unique("rpc")
        serving = await RPC.create(server)
        await serving.register(f"{prefix}.multiply", multiply, auto_delete=True)
        await serving.register(f"{prefix}.fails", fails, auto_delete=True)
        calling = await RPC.create(client)
        expect("result", await calling.call(f"{prefix}.multiply", {"x": 6, "y": 7}), 42)
        try:
            await calling.call(f"{prefix}.fails", {})
        except KeyError as error:
            expect("the server's exception", error.args, ("nothing",))
        try:
            await calling.call(f"{prefix}.unknown", {}, expiration=1)
        except aio_pika.exceptions.MessageProcessError:
            pass
        await calling.close()
        await serving.close()


@asynchronous
async def master_pattern():
    async with channel() as boss, channel() as worker:
        name, done = unique("tasks"), asyncio.Queue()

        async def task(*, number):
            await done.put(number)

        await worker.set_qos(prefetch_count=1)
        working = await Master(worker).create_worker(name, task, auto_delete=True)
        master = Master(boss)
        for number in range(3):
            await master.create_task(name, {"number": number})
        got = [await asyncio.wait_for(done.get(), DEADLINE_S) for _ in range(3)]
        expect("tasks", got, [0, 1, 2])
        await working.close()


@asynchronous
async def robust_channel_comes_back():
    """A channel that the broker closed is opened again with its queue and consumer."""
    async with channel(robust=True) as opened:
        queue = await opened.declare_queue(unique("robust"), auto_delete=True)
        got = asyncio.Queue()

        async def receive(message):
            async with message.process():
                await got.put(message.body)

        await queue.consume(receive)
        with contextlib.suppress(aio_pika.exceptions.AMQPError):
            await opened.get_exchange(unique("missing"))
        async with channel() as other:
            for _ in range(int(DEADLINE_S * 10)):
                await other.default_exchange.publish(Message(b"still"), queue.name)
                if not got.empty():
                    break
                await asyncio.sleep(0.1)
        expect("received", await asyncio.wait_for(got.get(), DEADLINE_S), b"still")


@asynchronous
async def streams():
    async with channel() as opened:
        name = unique("stream")
        queue = await opened.declare_queue(name, durable=True,
                                           arguments={"x-queue-type": "stream"})
        for number in range(4):
            await opened.default_exchange.publish(Message(b"%d" % number), name)
        await opened.set_qos(prefetch_count=10)
        taken = []
        async with queue.iterator(arguments={"x-stream-offset": "first"},
                                  timeout=DEADLINE_S) as messages:
            async for message in messages:
                taken.append((message.headers["x-stream-offset"], message.body))
                await message.ack()
                if len(taken) == 4:
                    break
        expect("from the first", taken, [(number, b"%d" % number) for number in range(4)])
        await queue.delete()


if __name__ == "__main__":
    run(
        [
            topics_and_properties,
            transactions,
            returned_messages_raise,
            a_full_queue_refuses,
            dead_letters,
            process_context_requeues_and_rejects,
            priorities_and_prefetch,
            headers_exchange,
            rpc_pattern,
            master_pattern,
            robust_channel_comes_back,
            streams,
        ],
        go_on=True,
    )
