"""Switching the MQTT adapter off and on, through the names of RabbitMQ's tools."""

import contextlib
import socket

import pika

from checks import DEADLINE_S, HOST, Mismatch, eventually, expect, expect_in, run, unique
from own import Broker, is_closed_by_peer
from vhosts import Client

PLUGIN = "rabbitmq_mqtt"
SERVER_SHUTTING_DOWN = 0x8B


def plugins(broker, *arguments):
    """Runs `rabbitmq-plugins`, which must succeed; gives what it prints."""
    code, out, errors = broker.tool("rabbitmq-plugins", *arguments)
    if code != 0:
        raise Mismatch(f"rabbitmq-plugins {arguments} exited with {code}: {errors}")
    return out


def accepts(port):
    """Whether anybody listens."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((HOST, port), DEADLINE_S).close()
        return True
    return False


def disabled_and_enabled_while_it_runs():
    with Broker() as broker, broker.amqp() as amqp:
        port = broker.mqtt_ports[0]
        expect("enabled", plugins(broker, "list", "--minimal", "--enabled", "--quiet").split(), [PLUGIN])
        topic, file = unique("topic"), broker.data / "enabled_plugins"
        expect_in("the file", PLUGIN, file.read_text())
        session = {"version": "3.1.1", "clean": False}
        kept = Client(port, unique("kept"), **session).open()
        kept.subscribe(topic, 1)
        told = Client(port, unique("told"), version="5").open()
        silent = socket.create_connection((HOST, port), DEADLINE_S)

        expect_in("disable", PLUGIN, plugins(broker, "disable", PLUGIN))
        code, _ = told.closed.get(timeout=DEADLINE_S)
        expect("a 5.0 client is told", code.value, SERVER_SHUTTING_DOWN)
        kept.closed.get(timeout=DEADLINE_S)
        expect("one that never said CONNECT goes too", is_closed_by_peer(silent), True)
        expect("nobody listens", accepts(port), False)
        expect("enabled", plugins(broker, "list", "--minimal", "--enabled", "--quiet").split(), [])
        expect("the file", PLUGIN in file.read_text(), False)
        expect("is_enabled", broker.tool("rabbitmq-plugins", "is_enabled", PLUGIN)[0], 69)
        eventually("no MQTT connection", lambda: broker.rows("list_mqtt_connections"), [])
        broker.logged(f"stopped MQTT TCP listener on {HOST}:{port}")

        # AMQP lives on, and so does the session's queue.
        channel = amqp.channel()
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", topic, b"meanwhile",
                              pika.BasicProperties(delivery_mode=2), mandatory=True)

        expect_in("enable", PLUGIN, plugins(broker, "enable", PLUGIN))
        expect("enabled", plugins(broker, "list", "--minimal", "--enabled", "--quiet").split(), [PLUGIN])
        expect("is_enabled", broker.tool("rabbitmq-plugins", "is_enabled", PLUGIN)[0], 0)
        with Client(port, kept.client_id, **session) as again:
            expect("session present", again.session_present, True)
            expect("kept for it", again.receive().payload, b"meanwhile")
        broker.logged(f"started MQTT TCP listener on {HOST}:{port}")


def rabbitmqctl_answers():
    with Broker() as broker, broker.amqp() as amqp:
        name = unique("queue")
        amqp.channel().queue_declare(name, durable=True)
        code, out, errors = broker.tool("rabbitmqctl", "list_queues", "name", "messages", "durable")
        expect("list_queues", (code, errors, out.splitlines()[-1]), (0, "", f"{name}\t0\ttrue"))
        code, out, _ = broker.tool("rabbitmqctl", "status")
        expect("status", code, 0)
        expect_in("status", f"port: {broker.amqp_port}", out)
        code, _, errors = broker.tool("rabbitmqctl", "list_queuess")
        expect("an unknown command", code, 64)
        expect_in("an unknown command", "Did you mean 'list_queues'?", errors)
        code, _, errors = broker.tool("rabbitmqctl", "delete_user", "nobody")
        expect("an unknown user", code, 67)
        expect_in("an unknown user", "nobody", errors)


if __name__ == "__main__":
    run([disabled_and_enabled_while_it_runs, rabbitmqctl_answers])
