"""aio-pika and aiomqtt, the asyncio clients, on the two sides of the bridge."""

import asyncio

import aio_pika
import aiomqtt

from checks import AMQP_PORT, DEADLINE_S, HOST, MQTT_PORT, expect, run, unique


def within_deadline(body):
    """Runs a coroutine, at most for the deadline."""

    async def bounded():
        await asyncio.wait_for(body, DEADLINE_S)

    asyncio.run(bounded())


def amqp():
    """A connection of aio-pika, as an asynchronous context."""
    return aio_pika.connect_robust(f"amqp://guest:guest@{HOST}:{AMQP_PORT}/")


async def confirmed_publish_and_consume():
    async with await amqp() as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=5)
        queue = await channel.declare_queue(unique("aio"), durable=True)
        for number in range(20):
            await channel.default_exchange.publish(
                aio_pika.Message(str(number).encode(), delivery_mode=2), queue.name
            )
        got = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append(int(message.body))
                if len(got) == 20:
                    break
        expect("order", got, list(range(20)))
        await queue.delete(if_unused=False, if_empty=False)


async def mqtt_to_amqp_and_back():
    asked, answered = unique("asked"), unique("answered")
    async with (
        await amqp() as connection,
        aiomqtt.Client(HOST, MQTT_PORT, protocol=aiomqtt.ProtocolVersion.V311) as client,
    ):
        channel = await connection.channel()
        exchange = await channel.get_exchange("amq.topic")
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, f"{asked}.*")
        await client.subscribe(f"{answered}/#", qos=1)
        await client.publish(f"{asked}/one", b"ping", qos=1)
        message = await arrived(queue)
        expect("key", message.routing_key, f"{asked}.one")
        await exchange.publish(aio_pika.Message(b"pong", delivery_mode=2), f"{answered}.one")
        async for reply in client.messages:
            expect("reply", (str(reply.topic), reply.payload, reply.qos),
                   (f"{answered}/one", b"pong", 1))
            break


async def arrived(queue):
    """The next message of a queue that may still be on its way."""
    while (message := await queue.get(fail=False)) is None:
        await asyncio.sleep(0.05)
    return message


def aio_pika_confirms():
    within_deadline(confirmed_publish_and_consume())


def aiomqtt_and_aio_pika():
    within_deadline(mqtt_to_amqp_and_back())


if __name__ == "__main__":
    run([aio_pika_confirms, aiomqtt_and_aio_pika])
