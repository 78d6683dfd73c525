"""The six RabbitMQ tutorials, confirms, returns, rejects and the reply codes, with pika."""

import threading

import pika

from checks import (
    AMQP_PORT,
    DEADLINE_S,
    HOST,
    Mismatch,
    amqp,
    closing_code,
    eventually,
    expect,
    expect_in,
    run,
    take,
    unique,
)


def bodies(taken):
    """The payloads of consumed messages, as text."""
    return [body.decode() for _, _, body in taken]


def tutorial_1_hello_world():
    with amqp() as connection:
        channel = connection.channel()
        name = unique("hello")
        channel.queue_declare(name)
        channel.basic_publish("", name, b"Hello World!")
        (method, _, body), *_ = take(channel, name, 1)
        expect("exchange, key, body", (method.exchange, method.routing_key, body),
               ("", name, b"Hello World!"))
        channel.queue_delete(name)


def tutorial_2_work_queues():
    """Prefetch 1 and manual acks: a busy worker gets nothing more, its loss requeues its task."""
    name = unique("task_queue")
    with amqp() as connection:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(name, durable=True)
        for number in range(4):
            first.basic_publish("", name, f"task {number}".encode(),
                                pika.BasicProperties(delivery_mode=2))
        got = {"first": [], "second": []}
        for label, channel in (("first", first), ("second", second)):
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(
                name, lambda c, m, p, b, label=label: got[label].append((m, b.decode()))
            )
        wait_for(connection, lambda: len(got["first"]) == 1 and len(got["second"]) == 1)
        expect("one task each", sorted(b for both in got.values() for _, b in both),
               ["task 0", "task 1"])
        second.basic_ack(got["second"][0][0].delivery_tag)
        wait_for(connection, lambda: len(got["second"]) == 2)
        expect("first still holds one", len(got["first"]), 1)
        lost = got["first"][0][1]
        first.close()
        second.basic_ack(got["second"][1][0].delivery_tag)
        wait_for(connection, lambda: len(got["second"]) == 3)
        method, body = got["second"][2]
        expect("requeued task comes first, marked", (body, method.redelivered), (lost, True))
        second.basic_ack(method.delivery_tag)
        wait_for(connection, lambda: len(got["second"]) == 4)
        second.basic_ack(got["second"][3][0].delivery_tag)
        check = connection.channel()
        expect("all acknowledged", check.queue_delete(name).method.message_count, 0)


def wait_for(connection, condition):
    """Serves the connection until the condition holds."""
    def probe():
        connection.process_data_events(time_limit=0.05)
        return bool(condition())

    eventually("deliveries", probe, True)


def tutorial_3_publish_subscribe():
    logs = unique("logs")
    with amqp() as connection:
        channel = connection.channel()
        channel.exchange_declare(logs, "fanout")
        queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
        for name in queues:
            expect("server-named", name.startswith("amq.gen-"), True)
            channel.queue_bind(name, logs)
        channel.basic_publish(logs, "ignored", b"info: Hello World!")
        for name in queues:
            expect(name, bodies(take(channel, name, 1)), ["info: Hello World!"])
        channel.exchange_delete(logs)


def tutorial_4_routing():
    logs = unique("direct_logs")
    with amqp() as connection:
        channel = connection.channel()
        channel.exchange_declare(logs, "direct")
        errors = channel.queue_declare("", exclusive=True).method.queue
        everything = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(errors, logs, "error")
        for severity in ("info", "warning", "error"):
            channel.queue_bind(everything, logs, severity)
        for severity in ("info", "error", "debug", "warning"):
            channel.basic_publish(logs, severity, severity.encode())
        expect("errors", bodies(take(channel, errors, 1)), ["error"])
        expect("everything", bodies(take(channel, everything, 3)), ["info", "error", "warning"])
        channel.queue_unbind(everything, logs, "info")
        for severity in ("info", "warning"):
            channel.basic_publish(logs, severity, severity.encode())
        expect("after unbind", bodies(take(channel, everything, 1)), ["warning"])
        channel.exchange_delete(logs)


def tutorial_5_topics():
    logs = unique("topic_logs")
    cases = {
        "*.orange.*": ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox"],
        "*.*.rabbit": ["quick.orange.rabbit", "lazy.pink.rabbit"],
        "lazy.#": ["lazy.orange.elephant", "lazy.brown.fox", "lazy.pink.rabbit", "lazy",
                   "lazy.orange.new.rabbit"],
        "#.rabbit": ["quick.orange.rabbit", "lazy.pink.rabbit", "lazy.orange.new.rabbit"],
        "lazy.#.rabbit": ["lazy.pink.rabbit", "lazy.orange.new.rabbit"],
        "lazy": ["lazy"],
    }
    published = ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox",
                 "lazy.brown.fox", "lazy.pink.rabbit", "quick.brown.fox", "lazy", "orange",
                 "quick.orange.new.rabbit2", "lazy.orange.new.rabbit"]
    with amqp() as connection:
        channel = connection.channel()
        channel.exchange_declare(logs, "topic")
        queues = {}
        for key in (*cases, "#"):
            queues[key] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[key], logs, key)
        for key in published:
            channel.basic_publish(logs, key, key.encode())
        for key, want in (*cases.items(), ("#", published)):
            expect(key, bodies(take(channel, queues[key], len(want))), want)
            expect(f"{key}: nothing more", channel.basic_get(queues[key])[0], None)
        channel.exchange_delete(logs)


def tutorial_6_rpc():
    rpc = unique("rpc_queue")
    ready = threading.Event()

    def serve():
        with amqp() as connection:
            channel = connection.channel()
            channel.queue_declare(rpc)
            ready.set()
            for _, asked, body in take(channel, rpc, 3):
                channel.basic_publish(
                    "", asked.reply_to, str(int(body) ** 2).encode(),
                    pika.BasicProperties(correlation_id=asked.correlation_id),
                )
            channel.queue_delete(rpc)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    expect("server is ready", ready.wait(DEADLINE_S), True)
    with amqp() as connection:
        channel = connection.channel()
        callback = channel.queue_declare("", exclusive=True).method.queue
        for number in (3, 4, 5):
            asked = pika.BasicProperties(reply_to=callback, correlation_id=f"call-{number}")
            channel.basic_publish("", rpc, str(number).encode(), asked)
        answers = {p.correlation_id: body for _, p, body in take(channel, callback, 3)}
        expect("answers", answers, {"call-3": b"9", "call-4": b"16", "call-5": b"25"})
    server.join(DEADLINE_S)


def exclusive_queue_is_locked_and_dies_with_its_connection():
    with amqp() as other:
        with amqp() as owner:
            name = unique("mine")
            owner.channel().queue_declare(name, exclusive=True)
            code, text = closing_code(lambda: other.channel().queue_declare(name, passive=True))
            expect("code", code, 405)
            want = (f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' "
                    "in vhost '/'")
            expect("text", text[: len(want)], want)
        code, _ = closing_code(lambda: other.channel().queue_declare(name, passive=True))
        expect("gone with its owner", code, 404)


def publisher_confirms():
    with amqp() as connection:
        channel = connection.channel()
        name = unique("confirm")
        channel.queue_declare(name, durable=True)
        channel.confirm_delivery()
        for number in range(100):
            # With confirms on, pika returns after the ack and raises on a nack.
            channel.basic_publish("", name, str(number).encode(),
                                  pika.BasicProperties(delivery_mode=2))
        expect("kept in order", bodies(take(channel, name, 100)), [str(n) for n in range(100)])
        channel.queue_delete(name)


def mandatory_return():
    with amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        key = unique("nowhere")
        try:
            channel.basic_publish("", key, b"lost", mandatory=True)
        except pika.exceptions.UnroutableError as error:
            returned = error.messages[0]
            expect("return", (returned.method.reply_code, returned.method.reply_text,
                              returned.method.routing_key, returned.body),
                   (312, "NO_ROUTE", key, b"lost"))
        else:
            raise Mismatch("a mandatory message without a queue came back as confirmed")
        channel.basic_publish("", key, b"dropped")


def reject_and_requeue():
    with amqp() as connection:
        channel = connection.channel()
        name = unique("reject")
        channel.queue_declare(name)
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", name, body)
        method, _, _ = channel.basic_get(name)
        channel.basic_reject(method.delivery_tag, requeue=True)
        method, _, body = channel.basic_get(name)
        expect("back at the front", (body, method.redelivered), (b"1", True))
        channel.basic_reject(method.delivery_tag, requeue=False)
        channel.basic_get(name)
        last, _, _ = channel.basic_get(name)
        channel.basic_nack(last.delivery_tag, multiple=True, requeue=True)
        expect("nack multiple keeps the order", bodies(take(channel, name, 2)), ["2", "3"])
        channel.queue_delete(name)


def basic_get_counts():
    with amqp() as connection:
        channel = connection.channel()
        name = unique("get")
        channel.queue_declare(name)
        expect("empty", channel.basic_get(name), (None, None, None))
        channel.confirm_delivery()
        for body in (b"1", b"2"):
            channel.basic_publish("", name, body)
        method, _, body = channel.basic_get(name, auto_ack=True)
        expect("first", (body, method.message_count, method.redelivered), (b"1", 1, False))
        declared = channel.queue_declare(name, passive=True).method
        expect("left", (declared.message_count, declared.consumer_count), (1, 0))
        channel.queue_delete(name)


def queue_purge_and_delete():
    with amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        name = unique("purge")
        channel.queue_declare(name)
        for _ in range(3):
            channel.basic_publish("", name, b"x")
        expect("purged", channel.queue_purge(name).method.message_count, 3)
        for _ in range(2):
            channel.basic_publish("", name, b"x")
        text = f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty"
        got = closing_code(lambda: connection.channel().queue_delete(name, if_empty=True))
        expect("if-empty", got, (406, text))
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(name, lambda *unused: None)
        text = f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"
        got = closing_code(lambda: connection.channel().queue_delete(name, if_unused=True))
        expect("if-unused", got, (406, text))
        # One message is with the consumer: only the ready one counts.
        expect("deleted", channel.queue_delete(name).method.message_count, 1)
        expect("deleting again is fine", channel.queue_delete(name).method.message_count, 0)


def properties_and_headers_travel():
    headers = {"text": "é", "int": -5, "long": 2**40, "bool": True, "void": None,
               "list": ["a", 1], "table": {"x": "y"}, "bytes": b"\xff\x00"}
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="gzip", headers=headers, delivery_mode=2,
        priority=3, correlation_id="c", reply_to="r", expiration="60000", message_id="m",
        timestamp=1_700_000_000, type="t", user_id="guest", app_id="a", cluster_id="",
    )
    with amqp() as connection:
        channel = connection.channel()
        name = unique("props")
        channel.queue_declare(name)
        for size in (0, 1, 200_000):
            channel.basic_publish("", name, b"x" * size, sent)
            (_, got, body), *_ = take(channel, name, 1)
            expect("body", len(body), size)
            for field in ("content_type", "content_encoding", "headers", "delivery_mode",
                          "priority", "correlation_id", "reply_to", "expiration", "message_id",
                          "timestamp", "type", "user_id", "app_id"):
                expect(field, getattr(got, field), getattr(sent, field))
        channel.queue_delete(name)


def error_404_not_found():
    with amqp() as connection:
        name = unique("none")
        cases = [
            (lambda c: c.queue_declare(name, passive=True), "queue"),
            (lambda c: c.basic_get(name), "queue"),
            (lambda c: c.basic_consume(name, lambda *unused: None), "queue"),
            (lambda c: c.exchange_declare(name, passive=True), "exchange"),
            (lambda c: c.queue_bind(c.queue_declare("", exclusive=True).method.queue, name, "k"),
             "exchange"),
        ]
        for action, kind in cases:
            channel = connection.channel()
            got = closing_code(lambda: action(channel))
            expect(kind, got, (404, f"NOT_FOUND - no {kind} '{name}' in vhost '/'"))
        channel = connection.channel()
        channel.basic_publish(name, "k", b"x")
        got = closing_code(lambda: channel.queue_declare("", exclusive=True))
        expect("publish", got, (404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"))


def error_406_precondition_failed():
    with amqp() as connection:
        keep = connection.channel()
        name = unique("args")
        keep.queue_declare(name, durable=True)
        got = closing_code(lambda: connection.channel().queue_declare(name, durable=False))
        expect("durable", got,
               (406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in "
                     "vhost '/': received 'false' but current is 'true'"))
        arguments = {"x-message-ttl": 60_000}
        got = closing_code(
            lambda: connection.channel().queue_declare(name, durable=True, arguments=arguments)
        )
        expect("argument code", got[0], 406)
        want = f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{name}'"
        expect("argument text", got[1][: len(want)], want)
        got = closing_code(lambda: connection.channel().exchange_declare("amq.topic", "direct",
                                                                         durable=True))
        expect("exchange type", got,
               (406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.topic' in "
                     "vhost '/': received 'direct' but current is 'topic'"))

        def unknown_tag():
            channel = connection.channel()
            channel.basic_ack(77)
            channel.queue_declare("", exclusive=True)

        expect("tag", closing_code(unknown_tag),
               (406, "PRECONDITION_FAILED - unknown delivery tag 77"))
        keep.queue_delete(name)


def error_403_access_refused():
    with amqp() as connection:
        got = closing_code(lambda: connection.channel().queue_declare("amq.mine"))
        expect("reserved queue", got, (403, "ACCESS_REFUSED - queue name 'amq.mine' contains "
                                            "reserved prefix 'amq.*'"))
        got = closing_code(lambda: connection.channel().exchange_declare("amq.mine", "direct"))
        expect("reserved exchange", got, (403, "ACCESS_REFUSED - exchange name 'amq.mine' contains "
                                               "reserved prefix 'amq.*'"))
        name = unique("excl")
        keep = connection.channel()
        keep.queue_declare(name)
        keep.basic_consume(name, lambda *unused: None, exclusive=True)
        got = closing_code(
            lambda: connection.channel().basic_consume(name, lambda *unused: None)
        )
        expect("exclusive consumer", got,
               (403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"))
        keep.queue_delete(name)


def transactions_commit_and_roll_back():
    with amqp() as connection:
        channel = connection.channel()
        name = unique("tx")
        channel.queue_declare(name)
        channel.tx_select()
        channel.basic_publish("", name, b"kept")
        channel.tx_commit()
        channel.basic_publish("", name, b"dropped")
        channel.tx_rollback()
        method, _, body = channel.basic_get(name)
        expect("committed", body, b"kept")
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        expect("rolled back", channel.basic_get(name)[0], None)
        channel.queue_delete(name)


def requests_are_answered_by_direct_reply_to():
    with amqp() as connection:
        client, server = connection.channel(), connection.channel()
        name, answers = unique("rpc"), []
        server.queue_declare(name)
        server.basic_consume(name, lambda channel, method, asked, body: channel.basic_publish(
            "", asked.reply_to, body * 2), auto_ack=True)
        client.basic_consume("amq.rabbitmq.reply-to",
                             lambda *reply: answers.append(reply[3]), auto_ack=True)
        client.basic_publish("", name, b"ha",
                             pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        wait_for(connection, lambda: answers == [b"haha"])
        server.queue_delete(name)


def copies_go_to_the_keys_in_headers():
    with amqp() as connection:
        channel = connection.channel()
        names = [unique(name) for name in ("to", "cc", "bcc")]
        for name in names:
            channel.queue_declare(name)
        headers = {"CC": [names[1]], "BCC": [names[2]]}
        channel.basic_publish("", names[0], b"m", pika.BasicProperties(headers=headers))
        for name in names:
            _, properties, body = channel.basic_get(name, auto_ack=True)
            expect(name, (properties.headers, body), ({"CC": [names[1]]}, b"m"))
            channel.queue_delete(name)


def wrong_password_is_refused_with_403():
    parameters = pika.ConnectionParameters(
        HOST, AMQP_PORT, credentials=pika.PlainCredentials("guest", "wrong")
    )
    try:
        pika.BlockingConnection(parameters).close()
    except pika.exceptions.ProbableAuthenticationError as error:
        expect("text", "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"
               in str(error), True)
    else:
        raise Mismatch("a wrong password was accepted")


def consumer_is_told_when_its_queue_goes():
    with amqp() as connection:
        channel, other = connection.channel(), connection.channel()
        name = unique("cancel")
        channel.queue_declare(name)
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = channel.basic_consume(name, lambda *unused: None)
        other.queue_delete(name)
        wait_for(connection, lambda: cancelled == [tag])


if __name__ == "__main__":
    run(
        [
            tutorial_1_hello_world,
            tutorial_2_work_queues,
            tutorial_3_publish_subscribe,
            tutorial_4_routing,
            tutorial_5_topics,
            tutorial_6_rpc,
            exclusive_queue_is_locked_and_dies_with_its_connection,
            publisher_confirms,
            mandatory_return,
            reject_and_requeue,
            basic_get_counts,
            queue_purge_and_delete,
            properties_and_headers_travel,
            consumer_is_told_when_its_queue_goes,
            error_404_not_found,
            error_406_precondition_failed,
            error_403_access_refused,
            transactions_commit_and_roll_back,
            requests_are_answered_by_direct_reply_to,
            copies_go_to_the_keys_in_headers,
            wrong_password_is_refused_with_403,
        ]
    )
