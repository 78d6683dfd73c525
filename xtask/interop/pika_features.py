"""pika, the blocking client of Python, with what applications build on: any RabbitMQ passes it."""

import contextlib
import time

import pika

from checks import Mismatch, amqp, closing_code, eventually, expect, run, take, unique

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@contextlib.contextmanager
def channel():
    """A channel of a connection of its own."""
    with amqp() as connection:
        yield connection.channel()


@contextlib.contextmanager
def queue(arguments=None, name=None, **flags):
    """A channel and a queue that is deleted afterwards, as (channel, name)."""
    with amqp() as connection:
        opened = connection.channel()
        name = name or unique("pika")
        opened.queue_declare(name, arguments=arguments, **flags)
        try:
            yield opened, name
        finally:
            # A broker that closed the connection has the queue still, and the check has failed.
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.channel().queue_delete(name)


def bodies(taken):
    return [body for _, _, body in taken]


def ready(opened, name):
    return opened.queue_declare(name, passive=True).method.message_count


def tx_commit_and_rollback():
    with queue() as (opened, name), channel() as other:
        opened.tx_select()
        opened.basic_publish("", name, b"one")
        opened.basic_publish("", name, b"two")
        expect("before the commit", ready(other, name), 0)
        opened.tx_commit()
        expect("after the commit", ready(other, name), 2)
        opened.basic_publish("", name, b"three")
        opened.tx_rollback()
        opened.tx_commit()
        expect("after a rollback", ready(other, name), 2)
        method, _, _ = opened.basic_get(name)
        opened.basic_ack(method.delivery_tag)
        opened.tx_rollback()
        opened.basic_ack(method.delivery_tag)
        opened.tx_commit()
        expect("acknowledged once", ready(other, name), 1)


def dead_letters_of_a_rejection():
    with queue() as (opened, graves):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graves}
        with queue(arguments) as (_, name):
            opened.basic_publish("", name, b"bad", pika.BasicProperties(headers={"mine": 1}))
            method, _, _ = take(opened, name, 1, auto_ack=False)[0]
            opened.basic_reject(method.delivery_tag, requeue=False)
            _, properties, body = take(opened, graves, 1)[0]
            expect("body", body, b"bad")
            expect("own header", properties.headers["mine"], 1)
            death = properties.headers["x-death"][0]
            expect("reason", (death["reason"], death["queue"], death["count"]),
                   ("rejected", name, 1))
            expect("from", (death["exchange"], death["routing-keys"]), ("", [name]))
            expect("first death", [properties.headers[f"x-first-death-{what}"]
                                   for what in ("queue", "reason", "exchange")],
                   [name, "rejected", ""])


def dead_letters_of_expiry_and_length():
    with queue() as (opened, graves):
        bury = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graves}
        with queue(bury | {"x-message-ttl": 50}) as (_, name):
            opened.basic_publish("", name, b"late")
            _, properties, body = take(opened, graves, 1)[0]
            expect("expired", (body, properties.headers["x-death"][0]["reason"]),
                   (b"late", "expired"))
        with queue(bury | {"x-max-length": 1}) as (_, name):
            opened.basic_publish("", name, b"old")
            opened.basic_publish("", name, b"new")
            _, properties, body = take(opened, graves, 1)[0]
            expect("pushed out", (body, properties.headers["x-death"][0]["reason"]),
                   (b"old", "maxlen"))


def expiration_of_one_message():
    with queue() as (opened, name):
        opened.basic_publish("", name, b"gone", pika.BasicProperties(expiration="30"))
        opened.basic_publish("", name, b"stays")
        time.sleep(0.2)
        expect("what is left", bodies(take(opened, name, 1)), [b"stays"])


def retry_by_a_queue_of_waiting():
    """The usual delayed retry: a rejected message waits elsewhere, and comes back."""
    work, wait = unique("work"), unique("wait")
    to_wait = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait}
    to_work = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work,
               "x-message-ttl": 50}
    with queue(to_wait, work) as (opened, _), queue(to_work, wait):
        opened.basic_publish("", work, b"again")
        for _ in range(2):
            method, properties, _ = take(opened, work, 1, auto_ack=False)[0]
            opened.basic_nack(method.delivery_tag, requeue=False)
        _, properties, _ = take(opened, work, 1)[0]
        counts = {death["queue"]: (death["reason"], death["count"])
                  for death in properties.headers["x-death"]}
        expect("counts", counts, {work: ("rejected", 2), wait: ("expired", 2)})


def priorities():
    with queue({"x-max-priority": 5}) as (opened, name):
        for priority in (1, 5, 0, 3, 9):
            opened.basic_publish("", name, b"%d" % priority,
                                 pika.BasicProperties(priority=priority))
        eventually("all are there", lambda: ready(opened, name), 5)
        expect("order", bodies(take(opened, name, 5)), [b"5", b"9", b"3", b"1", b"0"])


def direct_reply_to():
    with queue() as (server, name), amqp() as connection:
        client = connection.channel()
        answers = []
        client.basic_consume("amq.rabbitmq.reply-to", auto_ack=True,
                             on_message_callback=lambda *got: answers.append(got[3]))
        client.basic_publish("", name, b"6*7", pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id="c1"))
        _, request, body = take(server, name, 1)[0]
        expect("request", (body, request.correlation_id), (b"6*7", "c1"))
        expect("address", request.reply_to.startswith("amq.rabbitmq.reply-to."), True)
        server.basic_publish("", request.reply_to, b"42")

        def answered():
            connection.process_data_events(0.05)
            return answers

        eventually("answer", answered, [b"42"])


def direct_reply_to_can_be_looked_at():
    """Its name can be declared, as clients do that declare whatever they consume."""
    for passive in (True, False):
        with channel() as opened:
            declared = opened.queue_declare("amq.rabbitmq.reply-to", passive=passive).method
            expect(f"passive={passive}", (declared.message_count, declared.consumer_count), (0, 1))
    with channel() as opened:
        got = closing_code(
            lambda: opened.queue_declare("amq.rabbitmq.reply-to.nobody", passive=True))
        expect("an address of nobody", got[0], 404)


def a_name_of_the_server_cannot_be_declared():
    with channel() as opened:
        name = opened.queue_declare("", exclusive=True).method.queue
        expect("passively it can", opened.queue_declare(name, passive=True).method.queue, name)
        got = closing_code(lambda: opened.queue_declare(name, exclusive=True))
        expect("code and text", got, (403, f"ACCESS_REFUSED - queue name '{name}' contains "
                                           "reserved prefix 'amq.*'"))


def the_secret_can_be_renewed():
    with amqp() as connection:
        connection.update_secret("guest", "the token expires")
        connection.channel().queue_declare("", exclusive=True)


def headers_exchange():
    with queue() as (opened, every), queue() as (_, either):
        opened.queue_bind(every, "amq.headers", "", {"x-match": "all", "a": 1, "b": "x"})
        opened.queue_bind(either, "amq.headers", "", {"x-match": "any", "a": 1, "b": "x"})
        for body, headers in ((b"both", {"a": 1, "b": "x"}), (b"one", {"a": 1}), (b"none", {})):
            opened.basic_publish("amq.headers", "", body, pika.BasicProperties(headers=headers))
        expect("all", bodies(take(opened, every, 1)), [b"both"])
        expect("any", bodies(take(opened, either, 2)), [b"both", b"one"])
        expect("nothing else", ready(opened, every), 0)


def exchange_to_exchange_and_alternate():
    with queue() as (opened, bound), queue() as (_, rest):
        source, side, target = unique("source"), unique("side"), unique("target")
        opened.exchange_declare(side, "fanout")
        opened.exchange_declare(source, "topic", arguments={"alternate-exchange": side})
        opened.exchange_declare(target, "fanout", internal=True)
        opened.exchange_bind(target, source, "a.#")
        opened.queue_bind(bound, target)
        opened.queue_bind(rest, side)
        opened.basic_publish(source, "a.b", b"through")
        opened.basic_publish(source, "b", b"aside")
        expect("bound", bodies(take(opened, bound, 1)), [b"through"])
        expect("alternate", bodies(take(opened, rest, 1)), [b"aside"])
        for name in (source, side, target):
            opened.exchange_delete(name)


def sender_selected_copies():
    with queue() as (opened, first), queue() as (_, second), queue() as (_, third):
        opened.basic_publish("", first, b"copy", pika.BasicProperties(
            headers={"CC": [second], "BCC": [third]}))
        for name in (first, second, third):
            _, properties, _ = take(opened, name, 1)[0]
            expect(f"headers in {name}", properties.headers, {"CC": [second]})


def nack_many_and_redelivered():
    with queue() as (opened, name):
        for number in range(4):
            opened.basic_publish("", name, b"%d" % number)
        tags = []
        for _ in range(3):
            method, _, _ = opened.basic_get(name)
            tags.append(method.delivery_tag)
        opened.basic_nack(tags[1], multiple=True, requeue=True)
        opened.basic_ack(tags[2])
        taken = take(opened, name, 3)
        expect("order", bodies(taken), [b"0", b"1", b"3"])
        expect("redelivered", [method.redelivered for method, _, _ in taken],
               [True, True, False])


def recover_requeues():
    with queue() as (opened, name):
        opened.basic_publish("", name, b"back")
        opened.basic_get(name)
        opened.basic_recover(requeue=True)
        method, _, body = opened.basic_get(name)
        expect("again", (body, method.redelivered), (b"back", True))


def returns_and_confirms():
    with queue({"x-max-length": 1, "x-overflow": "reject-publish"}) as (opened, name):
        opened.confirm_delivery()
        opened.basic_publish("", name, b"fits", PERSISTENT, mandatory=True)
        for key, error in ((name, pika.exceptions.NackError),
                           (unique("nowhere"), pika.exceptions.UnroutableError)):
            try:
                opened.basic_publish("", key, b"x", PERSISTENT, mandatory=True)
            except error as refused:
                returned = [message.body for message in refused.messages]
                expect(error.__name__, returned, [b"x"] if key != name else [])
            else:
                raise Mismatch(f"{key}: no {error.__name__}")


def queue_length_and_expiry():
    with queue({"x-max-length-bytes": 10}) as (opened, name):
        for body in (b"aaaaa", b"bbbbb", b"ccccc"):
            opened.basic_publish("", name, body)
        expect("the last two", bodies(take(opened, name, 2)), [b"bbbbb", b"ccccc"])
    with channel() as opened:
        name = opened.queue_declare("", arguments={"x-expires": 100}).method.queue

        def gone():
            with channel() as other:
                try:
                    other.queue_declare(name, passive=True)
                except pika.exceptions.ChannelClosedByBroker as closed:
                    return closed.reply_code
            return None

        time.sleep(0.3)
        eventually("expired", gone, 404)


def consumer_priority_and_single_active():
    with queue() as (opened, name):
        got = []
        for priority in (0, 10):
            opened.basic_consume(
                name, auto_ack=True, arguments={"x-priority": priority},
                on_message_callback=lambda *a, priority=priority: got.append(priority))
        for _ in range(3):
            opened.basic_publish("", name, b"x")
        eventually("the preferred one", lambda: pump(opened, got), [10, 10, 10])
    with queue({"x-single-active-consumer": True}) as (opened, name):
        got = []
        tags = [opened.basic_consume(
            name, auto_ack=True, on_message_callback=lambda *a, n=number: got.append(n))
            for number in (1, 2)]
        for _ in range(3):
            opened.basic_publish("", name, b"x")
        eventually("only the first", lambda: pump(opened, got), [1, 1, 1])
        opened.basic_cancel(tags[0])
        opened.basic_publish("", name, b"x")
        eventually("then the second", lambda: pump(opened, got), [1, 1, 1, 2])


def pump(opened, got):
    opened.connection.process_data_events(0.05)
    return list(got)


def quorum_queue():
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "",
                 "x-dead-letter-routing-key": unique("graves")}
    with (queue(arguments, durable=True) as (opened, name),
          queue(name=arguments["x-dead-letter-routing-key"]) as (_, graves)):
        opened.confirm_delivery()
        opened.basic_publish("", name, b"poison", PERSISTENT)
        counts = []
        for _ in range(3):
            method, properties, _ = take(opened, name, 1, auto_ack=False)[0]
            counts.append((properties.headers or {}).get("x-delivery-count"))
            opened.basic_reject(method.delivery_tag, requeue=True)
        expect("delivery counts", counts, [None, 1, 2])
        _, properties, body = take(opened, graves, 1)[0]
        expect("buried", (body, properties.headers["x-death"][0]["reason"]),
               (b"poison", "delivery_limit"))


def stream_queue():
    with queue({"x-queue-type": "stream"}, durable=True) as (opened, name):
        opened.confirm_delivery()
        for number in range(5):
            opened.basic_publish("", name, b"%d" % number, PERSISTENT)
        for offset, want in (("first", 0), (3, 3), ("last", None)):
            with channel() as reader:
                reader.basic_qos(prefetch_count=10)
                taken = []
                reader.basic_consume(
                    name, arguments={"x-stream-offset": offset},
                    on_message_callback=lambda c, m, p, b, t=taken: t.append(
                        (p.headers["x-stream-offset"], b)))
                if want is None:
                    eventually("last", lambda r=reader, t=taken: pump(r, t)[-1:], [(4, b"4")])
                else:
                    eventually(f"from {offset}", lambda r=reader, t=taken: pump(r, t),
                               [(number, b"%d" % number) for number in range(want, 5)])


def qos_per_consumer_and_channel():
    with queue() as (opened, name), amqp() as connection:
        for number in range(6):
            opened.basic_publish("", name, b"%d" % number)
        for limits, want in (((2, False),), 4), (((2, False), (3, True)), 3):
            reader = connection.channel()
            for count, whole in limits:
                reader.basic_qos(prefetch_count=count, global_qos=whole)
            got = []
            for _ in range(2):
                reader.basic_consume(name, lambda c, m, p, b, g=got: g.append(b))
            eventually(f"{limits}", lambda r=reader, g=got: len(pump(r, g)), want)
            time.sleep(0.1)
            expect(f"no more by {limits}", len(pump(reader, got)), want)
            reader.close()


def errors_close_the_channel():
    with amqp() as connection:
        name = unique("errors")
        connection.channel().queue_declare(name, exclusive=True)
        cases = [
            (lambda c: c.queue_declare(name, passive=True, exclusive=True), None),
            # An exclusive queue is never durable, whatever is asked for.
            (lambda c: c.queue_declare(name, durable=True, exclusive=True), None),
            (lambda c: c.queue_declare(name, auto_delete=True, exclusive=True), 406),
            (lambda c: c.queue_declare(unique("a"), arguments={"x-message-ttl": -1}), 406),
            (lambda c: c.queue_declare(unique("a"), arguments={"x-queue-type": "odd"}), 406),
            (lambda c: c.queue_bind(name, "amq.direct", arguments=None, routing_key="k"), None),
            (lambda c: c.basic_consume(unique("none"), lambda *a: None), 404),
            (lambda c: c.queue_delete(name, if_unused=True), None),
        ]
        for number, (action, code) in enumerate(cases):
            opened = connection.channel()
            if code is None:
                action(opened)
            else:
                got = closing_code(lambda action=action, opened=opened: action(opened))
                expect(f"case {number}", got[0], code)


if __name__ == "__main__":
    run(
        [
            tx_commit_and_rollback,
            dead_letters_of_a_rejection,
            dead_letters_of_expiry_and_length,
            expiration_of_one_message,
            retry_by_a_queue_of_waiting,
            priorities,
            direct_reply_to,
            direct_reply_to_can_be_looked_at,
            a_name_of_the_server_cannot_be_declared,
            the_secret_can_be_renewed,
            headers_exchange,
            exchange_to_exchange_and_alternate,
            sender_selected_copies,
            nack_many_and_redelivered,
            recover_requeues,
            returns_and_confirms,
            queue_length_and_expiry,
            consumer_priority_and_single_active,
            quorum_queue,
            stream_queue,
            qos_per_consumer_and_channel,
            errors_close_the_channel,
        ],
        go_on=True,
    )
